#!/usr/bin/env bash
# Exports every shipped model with the program in build/release and runs the graphs on ONNX Runtime's
# CPU provider against the stored FP64 values, those in 8 bits against the reference. PROGRAM as an
# argument tests another one.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

program=${1:-}
if [[ -z $program ]]; then
  install_packages "${build_packages[@]}" "${onnx_packages[@]}" "${test_packages[@]}"
  configure release -DELANSR_ONNX=ON
  cmake --build --preset release --parallel "$jobs" --target elan-sr-program
  program=build/release/cli/elan-sr
fi

python_environment onnx
.venv-onnx/bin/python tools/check_onnx.py "$program"
