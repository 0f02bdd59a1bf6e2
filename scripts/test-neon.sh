#!/usr/bin/env bash
# Cross-builds the CPU engine for AArch64 and runs its kernel tests, the smallest pictures and the
# stages under qemu. GoogleTest is built from Debian's source package.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

install_packages cmake ninja-build nlohmann-json3-dev "${neon_packages[@]}"
cross=(-G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64
  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc)
build=build/neon

cmake -S /usr/src/googletest -B "$build/googletest" "${cross[@]}" -DBUILD_GMOCK=OFF \
  -DCMAKE_INSTALL_PREFIX="$PWD/$build/prefix" > /dev/null
cmake --build "$build/googletest" --parallel "$jobs" --target install > /dev/null
cmake -S . -B "$build/engine" "${cross[@]}" -DELANSR_PICTURES=OFF -DELANSR_CUDA=OFF \
  -DCMAKE_PREFIX_PATH="$PWD/$build/prefix" > /dev/null
cmake --build "$build/engine" --parallel "$jobs" --target cpu_kernels_test cpu_golden_test

qemu-aarch64 -L /usr/aarch64-linux-gnu "$build/engine/tests/cpu/cpu_kernels_test" --gtest_brief=1
qemu-aarch64 -L /usr/aarch64-linux-gnu "$build/engine/tests/cpu/cpu_golden_test" --gtest_brief=1 \
  --gtest_filter='*TheSmallestSizes*light*:*EveryStage*light_x4'
