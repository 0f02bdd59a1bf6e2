#!/usr/bin/env bash
# Compiles plugins and flavour layers for every TensorRT whose headers are given, runs their tests and,
# where clang-tidy is, that; needs nvcc, no GPU and no TensorRT.
#
#   scripts/tensorrt-compile.sh FOLDER...     each with include/NvInfer.h and include/NvOnnxParser.h
#
# The headers are public: NVIDIA/TensorRT on GitHub, folder include of the branches release/8.6,
# release/10.* and release/11.*; NvOnnxParser.h of 8.6 is in onnx/onnx-tensorrt, branch 8.6-GA.
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
roots=()
for folder; do roots+=("$(realpath -- "$folder")"); done
source "$root/scripts/lib.sh"

if ((${#roots[@]} == 0)); then
  echo "TensorRT: no headers given, nothing compiled (scripts/tensorrt-compile.sh FOLDER...)"
  exit 0
fi
install_packages "${build_packages[@]}" "${onnx_packages[@]}" "${test_packages[@]}"
cmake -S . -B build/tensorrt -G Ninja -DCMAKE_BUILD_TYPE=Release -DELANSR_CUDA=ON \
  "-DELANSR_CUDA_ARCHITECTURES=${ELANSR_CUDA_ARCHITECTURES:-80-real;90a-real}" \
  "-DELANSR_TENSORRT_ROOTS=$(IFS=';' && echo "${roots[*]}")"
cmake --build build/tensorrt --parallel "$jobs"
ctest --test-dir build/tensorrt --output-on-failure --no-tests=error -R '^(Plugin|Engine|Search)'
command -v clang-tidy-19 >/dev/null || exit 0
scripts/tidy.sh --build build/tensorrt /src/tensorrt/ /plugins/tensorrt/ /tests/tensorrt/
