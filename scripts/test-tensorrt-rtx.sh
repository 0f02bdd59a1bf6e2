#!/usr/bin/env bash
# Builds engines from exported graphs with TensorRT-RTX, installed from PyPI under NVIDIA's licence;
# no GPU is needed, nothing of it is kept or shipped. Arguments go to tools/check_tensorrt_rtx.py;
# --quick is what a change must pass.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

install_packages "${build_packages[@]}" "${onnx_packages[@]}" "${test_packages[@]}"
configure release -DELANSR_ONNX=ON
cmake --build --preset release --parallel "$jobs" --target elan-sr-program
python_environment tensorrt-rtx
.venv-tensorrt-rtx/bin/python tools/check_tensorrt_rtx.py build/release/cli/elan-sr "$@"
