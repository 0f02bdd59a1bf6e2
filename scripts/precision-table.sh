#!/usr/bin/env bash
# Measures every precision that a device offers and writes the device's tables into
# docs/precision.md; the JSON behind them goes to out/precision.
#
#   scripts/precision-table.sh DEVICE DATA...     cpu Set5 Set14; needs a Release build
#
# Rows: the device's precisions, on GPUs the two class plans, the plans plans/MODEL-DEVICE*.json and
# the model's 8-bit files where there are some: those of models/ (elan_light_int8*_x4 for elan_light_x4), and the
# one in PTQ=DIR (out/ptq) that was only calibrated (elan_light_ptq_x4). Where that is missing it is made on the CPU from
# the pictures in CALIBRATION=FOLDER, large ones that are in no test set: light a minute, full about six on two cores.
# It is left out where the file of models/ was only calibrated, too.
# MODELS="elan_light_x4 elan_x4" names the models, REPEAT how often a picture is timed (3), PROGRAM the
# command, RESULTS the folder, TORCH=FILE what bench/torch_gpu.py or compare_cpu.py --times wrote on the same machine.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

device=${1:?expected a device: cpu or cuda}
shift
(($#)) || { echo "expected folders of test pictures" >&2; exit 2; }
program=${PROGRAM:-build/release/cli/elan-sr}
folder=${RESULTS:-out/precision}
mkdir -p "$folder"

case $device in
  cpu) precisions=(fp32 bf16) size=320x180 ;;
  cuda*) precisions=(fp32 tf32 fp16 bf16 fp8 plans/convolutions-fp32.json plans/products-fp32.json) size=206x292 ;;
  *) precisions=(fp32 tf32 fp16 bf16) size=64x64 ;;
esac

# run_as MODEL ROW: the options that a row of the tables stands for.
run_as() {
  case $2 in
    *.json) printf '%s\n' -m "$1" -d "$device" --plan "$2" ;;
    *.safetensors@*) printf '%s\n' -m "${2%@*}" -d "$device" -p "${2##*@}" ;;
    *) printf '%s\n' -m "$1" -d "$device" -p "$2" ;;
  esac
}

# compare_random MODEL ROW: how far ROW is from FP32 on standard-normal input, as JSON. FP32 itself is compared with
# FP64, on GPUs with the CPU's FP32, as are the other rows there.
compare_random() {
  local options reference=(--ref-device "$device" --ref-precision fp32)
  mapfile -t options < <(run_as "$1" "$2")
  if [[ $device == cuda* ]]; then
    reference=(--ref-device cpu --ref-precision fp32)
  elif [[ $2 == fp32 ]]; then
    reference=(--ref-device reference --ref-precision fp64)
  fi
  [[ $2 == *.safetensors@* ]] && reference+=(--ref-model "$1")
  "$program" compare "${options[@]}" --random "${reference[@]}" --json
}

# only_calibrated FILE: whether it is there and says that it was not trained.
only_calibrated() {
  [[ -e $1 ]] && "$program" info "$1" --json | grep '"quantization": *"post-training' >/dev/null
}

for model in ${MODELS:-elan_light_x4 elan_x4}; do
  calibrated=${PTQ:-out/ptq}/${model%_x?}_ptq${model: -3}.safetensors
  if only_calibrated "models/${model%_x?}_int8${model: -3}.safetensors"; then
    calibrated=
  elif [[ ! -e $calibrated && -n ${CALIBRATION:-} ]]; then
    mkdir -p "${calibrated%/*}"
    "$program" quantize --data "$CALIBRATION" --shrink "$model" "$calibrated"
  fi
  [[ -z $calibrated || -e $calibrated ]] || say "no $calibrated and no CALIBRATION=FOLDER to make it from: no row for it"
  rows=("${precisions[@]}")
  for file in plans/"$model-${device%%:*}"*.json "$calibrated" models/"${model%_x?}"_int8*"${model: -3}".safetensors; do
    [[ -e $file ]] || continue
    # In 8 bits also where that is no default, being slower.
    [[ $file == *.json ]] || file+=@int8
    rows+=("$file")
  done
  say "$model on $device: ${rows[*]}"
  "$program" eval -m "$model" -d "$device" --data "$@" --rows "${rows[@]}" --repeat "${REPEAT:-3}" \
    --json >"$folder/$model-$device-eval.json"
  for row in "${rows[@]}"; do
    name=$model-$device-$(basename "$row")
    compare_random "$model" "$row" >"$folder/$name-random.json" || true
    mapfile -t options < <(run_as "$model" "$row")
    "$program" bench "${options[@]}" --size "$size" --duration 1000 --json >"$folder/$name-bench.json" || true
  done
done
if [[ -n ${TORCH:-} ]]; then cp "$TORCH" "$folder/torch-$device.json"; fi

python3 tools/precision_table.py "$device" "$folder" docs/precision.md
