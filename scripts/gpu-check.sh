#!/usr/bin/env bash
# Runs everything that needs an NVIDIA GPU: checks against stored float64 values, the same on small
# pictures under compute-sanitizer, and the benches; results as JSON in a folder. Needs no network.
#
#   scripts/gpu-check.sh [--programs DIR] [--out DIR] [--torch]
#
# --programs  where gpu-check and cuda-bench are (default: they are built, in build/cuda)
# --torch     also measure PyTorch on the same GPU, and check more sizes against its float64 results
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
set -euo pipefail
cd -- "$root"

programs='' out=out/gpu torch=false
while (($#)); do
  case $1 in
    --programs) programs=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --torch) torch=true; shift ;;
    *) echo "gpu-check.sh: unknown option $1" >&2; exit 2 ;;
  esac
done
if [[ -z $programs ]]; then
  cmake --preset cuda -DELANSR_TESTS=OFF
  cmake --build --preset cuda --target gpu-check cuda-bench
  programs=build/cuda
fi
mkdir -p "$out"
folders=(--models models --data tests/data)
extra=()
failed=0

if $torch; then
  python3 bench/torch_gpu.py --references "$out/references"
  extra=(--extra "$out/references")
fi
"$programs/gpu-check" "${folders[@]}" "${extra[@]}" --json "$out/check.json" || failed=$?
[[ $failed == 77 ]] && exit 77
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    only=''
    [[ $tool == racecheck ]] && only='elan_light_x4 fp16'  # some hundred times slower than without
    timeout 150 compute-sanitizer --tool "$tool" --error-exitcode 9 \
      "$programs/gpu-check" "${folders[@]}" --quick --only "$only" >"$out/$tool.log" 2>&1 || failed=$?
    tail -n 1 "$out/$tool.log"
  done
fi
timeout 180 "$programs/cuda-bench" --models models --json "$out/bench.json" --profile || failed=$?
if $torch; then
  timeout 240 python3 bench/torch_gpu.py --times "$out/torch.json" || failed=$?
fi
exit "$failed"
