#!/usr/bin/env bash
# Runs everything that needs an NVIDIA GPU: checks against stored float64 values and the CPU, the
# same on small pictures under compute-sanitizer, and the benches; results as JSON in a folder.
# Needs no network. Within 9 minutes: what is left over is cut short and fails.
#
#   scripts/gpu-check.sh [--programs DIR] [--out DIR] [--sets DIR] [--torch] [--minutes N]
#
# --programs  where gpu-check and cuda-bench are (default: they are built, in build/cuda)
# --out       where the results go (default: out/gpu); scripts/gpu-report.py makes tables of them
# --sets      test sets from tools/to_ppm.py, for PSNR
# --torch     also measure PyTorch on the same GPU, and check more sizes against its float64 results
# --minutes   all of it within so many minutes (default: 9)
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
set -euo pipefail
cd -- "$root"

programs='' out=out/gpu sets='' torch=false minutes=9
while (($#)); do
  case $1 in
    --programs) programs=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --sets) sets=$2; shift 2 ;;
    --torch) torch=true; shift ;;
    --minutes) minutes=$2; shift 2 ;;
    *) echo "gpu-check.sh: unknown option $1" >&2; exit 2 ;;
  esac
done
if [[ -z $programs ]]; then
  cmake --preset cuda -DELANSR_TESTS=OFF
  cmake --build --preset cuda --target gpu-check cuda-bench
  programs=build/cuda
fi
SECONDS=0
mkdir -p "$out"
folders=(--models models --data tests/data)
failed=()

# step NAME SECONDS COMMAND...: at most so long, and no longer than what is left of the whole.
step() {
  local name=$1 most=$2 left=$((minutes * 60 - SECONDS)) start=$SECONDS status=0
  shift 2
  ((left < most)) && most=$left
  if ((most < 5)); then
    echo "$name: no time left"
    failed+=("$name")
    return
  fi
  timeout "$most" "$@" >"$out/$name.log" 2>&1 || status=$?
  echo "$name: status $status, $((SECONDS - start)) s"
  tail -n 3 "$out/$name.log"
  ((status == 0)) || failed+=("$name")
  return 0
}

status=0
"$programs/gpu-check" --only nothing >/dev/null 2>"$out/device.log" || status=$?
if ((status == 77)); then
  cat "$out/device.log"
  exit 77
fi
json_string() { printf '"%s"' "${1//[\"\\]/}"; }
query() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -n 1 || true; }
{
  printf '{"device": %s, "driver": %s, "compiler": %s, "commit": %s, "cores": %s, "date": %s}\n' \
    "$(json_string "$(query name)")" "$(json_string "$(query driver_version)")" \
    "$(json_string "$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\),.*/CUDA \1/p')")" \
    "$(json_string "$(git rev-parse --short HEAD 2>/dev/null || true)")" \
    "$(nproc)" "$(json_string "$(date -u +%F)")"
} >"$out/machine.json"

extra=()
if $torch; then
  step references 90 python3 bench/torch_gpu.py --references "$out/references"
  extra=(--extra "$out/references")
fi
[[ -n $sets ]] && extra+=(--sets "$sets")
step check 150 "$programs/gpu-check" "${folders[@]}" "${extra[@]}" --json "$out/check.json"
ELANSR_CUDA_STREAM='split' step split 30 "$programs/gpu-check" "${folders[@]}" --quick --only fp16
step bench 150 "$programs/cuda-bench" --models models --json "$out/bench.json" --profile
ELANSR_CUDA_PATH=portable step portable 30 "$programs/cuda-bench" --models models \
  --json "$out/portable.json" --only 'elan_x4 fp16 206x292 b1'
if $torch; then
  step torch 150 python3 bench/torch_gpu.py --times "$out/torch.json"
fi
if command -v compute-sanitizer >/dev/null; then
  # Hundreds of times slower than without: the narrow network.
  step memcheck 120 compute-sanitizer --tool memcheck --error-exitcode 9 \
    "$programs/gpu-check" "${folders[@]}" --quick --only 'elan_light_x4 fp16'
  # Of each kernel the first two launches: a whole pass does not end in time.
  for kernel in head lfe gmsa tail; do
    for row in 'elan_light_x4 fp16' 'elan_light_x4 fp32' 'elan_x4 fp16'; do
      step "racecheck-$kernel-${row// /-}" 20 compute-sanitizer --tool racecheck --error-exitcode 9 \
        --kernel-name "kernel_substring=$kernel" --launch-count 2 \
        "$programs/gpu-check" "${folders[@]}" --tiny --only "$row"
    done
  done
else
  echo "compute-sanitizer: not found, left out"
fi
echo "$SECONDS s altogether"
((${#failed[@]} == 0)) || echo "failed: ${failed[*]}"
((${#failed[@]} == 0))
