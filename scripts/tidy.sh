#!/usr/bin/env bash
# clang-tidy over every source file, or over those whose path matches one of the arguments:
# scripts/tidy.sh src/engine cli
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

install_packages "${build_packages[@]}" "${onnx_packages[@]}" "${test_packages[@]}" "${tidy_packages[@]}"
configure lint
cmake --build --preset lint --target elan-sr-commit

pattern=$(IFS='|'; echo "${*:-.}")
mapfile -t files < <(sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' build/lint/compile_commands.json |
  grep -vF "$root/build/" | grep -E -- "$pattern" | sort -u)
echo "${#files[@]} files"
((${#files[@]})) || exit 0
# Each file's findings in one piece, and only where there are any.
# shellcheck disable=SC2016
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$jobs" bash -c '
  findings=$(clang-tidy-19 -p build/lint --quiet "$0" 2>&1) ||
    { printf "%s\n" "$findings" | grep -v " warnings generated.$"; exit 1; }'
