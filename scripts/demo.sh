#!/usr/bin/env bash
# Installs what is needed, builds, and upscales examples/sample.png four times on the CPU.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

install_packages "${build_packages[@]}" "${test_packages[@]}"
say "Building"
configure release -DELANSR_CUDA=OFF
cmake --build --preset release --parallel "$jobs" --target elan-sr-program

say "Upscaling examples/sample.png"
mkdir -p out
build/release/cli/elan-sr upscale --overwrite -d cpu -s 4 -i examples/sample.png -o out/sample_x4.png
echo "The picture is $root/out/sample_x4.png"
