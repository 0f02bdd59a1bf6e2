#!/usr/bin/env bash
# Builds with sanitizers and runs the tests: scripts/sanitize.sh [asan|tsan] [ctest arguments]
#   asan  addresses, leaks and undefined behaviour; everything
#   tsan  data races; the engine without picture files
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

preset=${1:-asan}
shift || true
case $preset in
  asan) export ASAN_OPTIONS=strict_string_checks=1 ASAN_SYMBOLIZER_PATH=/usr/bin/llvm-symbolizer-19
        export LSAN_OPTIONS=suppressions=$root/scripts/lsan.supp:print_suppressions=0
        export UBSAN_OPTIONS=print_stacktrace=1 ;;
  tsan) export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 ;;
  *) echo "expected asan or tsan, found $preset" >&2; exit 2 ;;
esac

install_packages "${build_packages[@]}" "${onnx_packages[@]}" "${test_packages[@]}" "${clang_packages[@]}" "${symbolizer_packages[@]}"
configure "$preset"
cmake --build --preset "$preset" --parallel "$jobs"
run_tests() { ctest --preset "$preset" --output-junit junit.xml "$@"; }
run_tests "$@" && exit
# Now and then LeakSanitizer itself crashes when a thread of libvips ends while it looks at its memory: no
# finding. Where nothing else failed, such tests run once more.
logs=build/$preset/Testing/Temporary
crashed=$(grep -c 'LeakSanitizer has encountered a fatal error' "$logs/LastTest.log" || true)
((crashed > 0 && crashed == $(wc -l <"$logs/LastTestsFailed.log"))) || exit 1
run_tests --rerun-failed
