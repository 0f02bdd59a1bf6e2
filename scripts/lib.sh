# shellcheck shell=bash disable=SC2034
# Sourced by the other scripts. Moves to the top of the tree and offers:
#   install_packages NAME...   installs the Debian packages that are missing
#   configure PRESET [-D...]   configures build/PRESET
#   python_environment NAME    makes .venv-NAME with the pinned tools/requirements-NAME.txt
#   part NAME COMMAND...       runs a command and remembers how long it took
#   print_parts                prints the minutes of each part
#   failed_tests               names the tests that failed in any build
#   count_tests                adds up the JUnit files of all builds, "PASSED FAILED"
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$root"

jobs=${ELANSR_JOBS:-$(nproc)}

# CMake reads these when it configures a folder for the first time.
if command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_CUDA_COMPILER_LAUNCHER=ccache
fi

build_packages=(g++ cmake ninja-build pkg-config libvips-dev libcli11-dev nlohmann-json3-dev)
onnx_packages=(libonnx-dev libprotobuf-dev)
test_packages=(libgtest-dev binutils)
format_packages=(clang-format-19)
lint_packages=(shellcheck)
tidy_packages=(clang-19 clang-tidy-19)
neon_packages=(g++-aarch64-linux-gnu qemu-user googletest)
clang_packages=(clang-19 libclang-rt-19-dev)
symbolizer_packages=(llvm-19)

say() { printf '\n== %s\n' "$*"; }

as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif ! command -v sudo >/dev/null; then
    echo "need root or sudo to run: $*" >&2
    return 1
  elif [[ -t 0 ]]; then
    sudo "$@"
  else
    sudo -n "$@"
  fi
}

install_packages() {
  local name missing=()
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "not a Debian system: taking these as installed: $*"
    return
  fi
  for name; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null) == installed ]] ||
      missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  say "Installing ${missing[*]}"
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  as_root "${apt[@]}" update </dev/null
  as_root "${apt[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null
}

configure() {
  local preset=$1
  shift
  cmake --preset "$preset" "$@"
}

python_environment() {
  local folder=.venv-$1 wanted=tools/requirements-$1.txt
  [[ -x $folder/bin/python ]] || python3 -m venv "$folder"
  cmp -s "$wanted" "$folder/installed.txt" && return
  "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
  cp "$wanted" "$folder/installed.txt"
}

part_names=()
part_seconds=()

# The status is the command's; the time is remembered either way.
part() {
  local name=$1 start=$SECONDS status=0
  shift
  say "$name"
  "$@" || status=$?
  part_names+=("$name")
  part_seconds+=($((SECONDS - start)))
  return "$status"
}

print_parts() {
  local i total=0
  printf '\nMinutes per part:\n'
  for i in "${!part_names[@]}"; do
    total=$((total + part_seconds[i]))
    printf '  %3d:%02d  %s\n' $((part_seconds[i] / 60)) $((part_seconds[i] % 60)) "${part_names[i]}"
  done
  printf '  %3d:%02d  together\n' $((total / 60)) $((total % 60))
}

# CTest writes one <testsuite tests= failures= disabled= skipped=> of which the last two did not run.
count_tests() {
  awk '
    function number(key) {
      return match($0, key "=\"[0-9]+\"") ? substr($0, RSTART + length(key) + 2, RLENGTH - length(key) - 3) : 0
    }
    /<testsuite / || suite { suite = 1 }
    suite {
      tests += number("tests"); failed += number("failures")
      skipped += number("disabled") + number("skipped")
      if (/>/) suite = 0
    }
    END { print tests - failed - skipped, failed + 0 }' < <(cat build/*/junit.xml 2>/dev/null)
}

# CTest writes one <testcase name= ... status="fail"> line per test.
failed_tests() {
  local file
  for file in build/*/junit.xml; do
    [[ -f $file ]] || continue
    sed -n 's/.*<testcase name="\([^"]*\)".* time="\([^"]*\)" status="fail".*/\1 (\2 s)/p' "$file" |
      sed "s|^|$(basename "$(dirname "$file")"): |"
  done
}
