#!/usr/bin/env bash
# Formats all C++ and CUDA sources in place; with --check changes nothing and fails on a difference.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

install_packages "${format_packages[@]}"
options=(-i)
[[ ${1:-} == --check ]] && options=(--dry-run -Werror)
find src include cli plugins tests examples bench \( -name '*.cc' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) \
  -print0 2>/dev/null | xargs -0 clang-format-19 --style=file "${options[@]}"
