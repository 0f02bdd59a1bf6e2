#!/usr/bin/env bash
# Builds Release and times the shipped models; JSON goes to out/bench. Arguments go to
# `elan-sr bench`, for example --device cuda or --size 1280x720.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

install_packages "${build_packages[@]}" "${test_packages[@]}"
configure release -DELANSR_CUDA="${ELANSR_CUDA:-AUTO}"
cmake --build --preset release --parallel "$jobs" --target elan-sr-program

mkdir -p out/bench
for model in models/*.safetensors; do
  name=$(basename "$model" .safetensors)
  say "$name"
  build/release/cli/elan-sr bench -m "$model" --json "$@" | tee "out/bench/$name.json"
done
