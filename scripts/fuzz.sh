#!/usr/bin/env bash
# Fuzzes the weight reader: scripts/fuzz.sh [SECONDS], 60 unless told.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

install_packages "${build_packages[@]}" "${clang_packages[@]}"
configure fuzz
cmake --build --preset fuzz --parallel "$jobs" --target fuzz_weights
mkdir -p build/fuzz/corpus
build/fuzz/bin/fuzz_weights -max_total_time="${1:-60}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
  -dict=tests/fuzz/weights.dict -artifact_prefix=build/fuzz/ build/fuzz/corpus tests/fuzz/weights
