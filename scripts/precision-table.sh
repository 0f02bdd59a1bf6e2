#!/usr/bin/env bash
# Measures every precision that a device offers and writes the device's tables into
# docs/precision.md; the JSON behind them goes to out/precision.
#
#   scripts/precision-table.sh DEVICE DATA...     cpu Set5 Set14; needs a Release build
#
# Rows: the device's precisions, the plans plans/MODEL-DEVICE*.json and the 8-bit weights
# models/MODEL-int8*.safetensors where there are some. MODELS="elan_light_x4 elan_x4" names the
# models, REPEAT how often a picture is timed (3).
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

device=${1:?expected a device: cpu or cuda}
shift
(($#)) || { echo "expected folders of test pictures" >&2; exit 2; }
program=build/release/cli/elan-sr
folder=out/precision
mkdir -p "$folder"

case $device in
  cpu) precisions=(fp32 bf16) ;;
  cuda*) precisions=(fp32 tf32 fp16 bf16) ;;
  *) precisions=(fp32 tf32 fp16 bf16) ;;
esac

# compare_random MODEL ROW: how far ROW is from FP32 on standard-normal input, as JSON.
compare_random() {
  local options=(-m "$1" -d "$device" --random --ref-device "$device" --ref-precision fp32)
  case $2 in
    fp32) options=(-m "$1" -d "$device" --random -p fp32 --ref-device reference --ref-precision fp64) ;;
    *.json) options+=(--plan "$2") ;;
    *.safetensors) options+=(--ref-model "$1" -m "$2") ;;
    *) options+=(-p "$2") ;;
  esac
  [[ $2 == *.safetensors ]] && options=("${options[@]:2}") # the weights stand for the model
  "$program" compare "${options[@]}" --json
}

for model in ${MODELS:-elan_light_x4 elan_x4}; do
  rows=("${precisions[@]}")
  for file in plans/"$model-${device%%:*}"*.json models/"$model"-int8*.safetensors; do
    [[ -e $file ]] && rows+=("$file")
  done
  say "$model on $device: ${rows[*]}"
  "$program" eval -m "$model" -d "$device" --data "$@" --rows "${rows[@]}" --repeat "${REPEAT:-3}" \
    --json >"$folder/$model-$device-eval.json"
  for row in "${rows[@]}"; do
    compare_random "$model" "$row" >"$folder/$model-$device-random-$(basename "$row").json"
  done
done

python3 tools/precision_table.py "$device" "$folder" docs/precision.md
