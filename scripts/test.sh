#!/usr/bin/env bash
# Installs what is needed, builds, and runs every test, the installed package included. Arguments go
# to ctest, for example -R Engine. ELANSR_CUDA=OFF leaves the CUDA backend out (default: AUTO).
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

install_packages "${build_packages[@]}" "${onnx_packages[@]}" "${test_packages[@]}"
say "Building"
configure release -DELANSR_CUDA="${ELANSR_CUDA:-AUTO}" -DELANSR_TESTS=ON
cmake --build --preset release --parallel "$jobs"

say "Testing"
ctest --preset release --output-junit junit.xml "$@"
