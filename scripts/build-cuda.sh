#!/usr/bin/env bash
# Compiles the engine with its CUDA backend for two architectures, one for each of its two paths;
# needs nvcc, no GPU.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

configure cuda -DELANSR_TESTS=OFF -DCMAKE_CUDA_ARCHITECTURES='80-real;90a-real'
cmake --build --preset cuda --parallel "$jobs"
