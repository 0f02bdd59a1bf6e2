#!/usr/bin/env bash
# clang-tidy over every source file, or over those whose path matches one of the arguments:
# scripts/tidy.sh src/engine cli. With --build FOLDER first, over those that are compiled there, as
# they are there: code that needs more than this machine has (scripts/tensorrt-compile.sh).
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

install_packages "${build_packages[@]}" "${onnx_packages[@]}" "${test_packages[@]}" "${tidy_packages[@]}"
build=build/lint
if [[ ${1:-} == --build ]]; then
  build=$2
  shift 2
else
  configure lint
  cmake --build --preset lint --target elan-sr-commit
fi

pattern=$(IFS='|'; echo "${*:-.}")
mapfile -t files < <(sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' "$build/compile_commands.json" |
  grep -vF "$root/build/" | grep -v '\.cu$' | grep -E -- "$pattern" | sort -u)
echo "${#files[@]} files"
((${#files[@]})) || exit 0
# GCC's commands have warnings that clang does not know. Each file's findings in one piece, and only where there are any.
# shellcheck disable=SC2016
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$jobs" bash -c '
  findings=$(clang-tidy-19 -p "$0" --extra-arg=-Wno-unknown-warning-option --quiet "$1" 2>&1) ||
    { printf "%s\n" "$findings" | grep -v " warnings generated.$"; exit 1; }' "$build"
