#!/usr/bin/env bash
# Builds and times engines on a machine with an NVIDIA GPU and TensorRT, and compares them with the
# CPU engine and our own CUDA backend. Needs no network; what was compiled elsewhere can be carried.
#
#   scripts/tensorrt-check.sh [--programs DIR] [--tensorrt DIR] [--out DIR] [--pictures A.ppm,B.ppm]
#                             [--sets DIR] [--seconds N] [MODEL=VARIANTS...]
#
# --programs  folder with tensorrt-check and libelan_sr_trt_plugins_*.so (default: build/tensorrt)
# --tensorrt  folder with TensorRT's libraries (default: the system's)
# --pictures  for the calibrator (int8+calibrated); default: made-up ones
# --sets      test sets from tools/to_ppm.py, for PSNR
# --seconds   ends a variant that takes longer (default: none)
# Variants are those of tests/tensorrt/tensorrt_check.cc; plan means plans/convolutions-fp32.json, and
# int8+uninitialised calibrates on whatever is in the device's memory, as happens when the copy of the
# pictures is forgotten. Without MODEL=VARIANTS everything is run, what matters most first. Engines that
# are in the output folder from before are timed, not built again.
#
# The plugin library of TensorRT 8.6.0 from PyPI needs libcublas.so.12, libcublasLt.so.12 and libcudnn.so.8 only to be loaded:
# where they are missing, empty libraries of these names are made in the output folder.
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
set -euo pipefail
cd -- "$root"

programs=build/tensorrt tensorrt='' out=out/tensorrt pictures='' test_sets='' seconds=0 sets=()
while (($#)); do
  case $1 in
    --programs) programs=$2; shift 2 ;;
    --tensorrt) tensorrt=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --pictures) pictures=$2; shift 2 ;;
    --sets) test_sets=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    *=*) sets+=("$1"); shift ;;
    *) echo "tensorrt-check.sh: unknown option $1" >&2; exit 2 ;;
  esac
done
full=models/elan_x4.safetensors light=models/elan_light_x4.safetensors
full_int8=models/elan_int8_x4.safetensors light_int8=models/elan_light_int8_x4.safetensors
((${#sets[@]})) || sets=(
  "$full=cuda-fp16,fp16+plugins,fp16" "$full_int8=cuda-int8,int8+plugins,int8"
  "$full=tf32+plugins,tf32,fp32+plugins,fp32,fp16+loose,plan"
  "$light=cuda-fp16,fp16+plugins,fp16" "$light_int8=cuda-int8,int8+plugins,int8,int8+loose"
  "$light=int8+calibrated,int8+uninitialised,plan"
  "$light=fp16+dynamic,fp16+plugins+dynamic" "$full=fp16+dynamic,fp16+plugins+dynamic")

mkdir -p "$out/stubs"
out=$(realpath -- "$out") programs=$(realpath -- "$programs")
check=$(find "$programs" -name tensorrt-check -type f | head -n 1)
plugins=$(find "$programs" -name 'libelan_sr_trt_plugins_*.so' | head -n 1)
[[ -n $check ]] || { echo "tensorrt-check.sh: no tensorrt-check in $programs" >&2; exit 2; }
if [[ -n $tensorrt ]]; then
  tensorrt=$(realpath -- "$tensorrt")
  export ELANSR_TENSORRT=$tensorrt LD_LIBRARY_PATH=$tensorrt${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  if [[ -e $tensorrt/libnvinfer.so.8 ]]; then
    plugins=$(find "$programs" -name libelan_sr_trt_plugins_8.so | head -n 1)
    for name in libcublas.so.12 libcublasLt.so.12 libcudnn.so.8; do
      ldconfig -p | grep -q "$name" && continue
      echo | "${CC:-cc}" -shared -x c - "-Wl,-soname,$name" -o "$out/stubs/$name"
    done
    export LD_LIBRARY_PATH=$out/stubs:$LD_LIBRARY_PATH
  fi
fi
[[ -n $plugins ]] && export ELANSR_TENSORRT_PLUGINS=$plugins
export XDG_CACHE_HOME=$out/cache

status=0
{ nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || echo "no nvidia-smi"; } | tee "$out/table.txt"
limit=()
((seconds == 0)) || limit=(timeout "$seconds")
more=(--plan plans/convolutions-fp32.json)
[[ -z $pictures ]] || more+=(--pictures "$pictures")
[[ -z $test_sets ]] || more+=(--sets "$test_sets")
for each in "${sets[@]}"; do
  IFS=, read -ra variants <<<"${each#*=}"
  for variant in "${variants[@]}"; do  # each in a process of its own: a crash ends that one alone
    "${limit[@]}" "$check" "${each%%=*}" --variants "$variant" --folder "$out" "${more[@]}" |
      tee -a "$out/table.txt" || { echo "${each%%=*} $variant: failed" | tee -a "$out/table.txt"; status=1; }
  done
done
exit "$status"
