#!/usr/bin/env bash
# package.sh SOURCE BUILD WORK STEP: one check of the package that `cmake --install BUILD` makes. It
# is installed once, then moved, because an installed tree must work wherever it is put.
set -euo pipefail
source=$1 build=$2 work=$3 step=$4
stage="$work/moved prefix"

fail() {
  echo "$1" >&2
  exit 1
}

library() { find "$stage" -name 'libelan-sr.so'; }

# Enlarges a grey 8x6 PPM with the program given and looks at what came out.
check_example() {
  local program=$1 scale=4 mean
  { printf 'P6\n8 6\n255\n'; head -c 144 /dev/zero | tr '\0' '\200'; } >"$work/grey.ppm"
  "$program" "$stage/share/elan-sr/models/elan_light_x$scale.safetensors" \
    <"$work/grey.ppm" >"$work/grey_x$scale.ppm"
  [[ $(head -c 12 "$work/grey_x$scale.ppm" | tr '\n' ' ') == 'P6 32 24 255' ]] ||
    fail "expected the header of a 32x24 PPM, found: $(head -c 12 "$work/grey_x$scale.ppm")"
  [[ $(stat -c %s "$work/grey_x$scale.ppm") == $((13 + 32 * 24 * 3)) ]] ||
    fail "expected $((32 * 24 * 3)) bytes of pixels"
  mean=$(tail -c $((32 * 24 * 3)) "$work/grey_x$scale.ppm" | od -An -v -tu1 -w1 |
    awk '{ sum += $1 } END { printf "%d", sum / NR + 0.5 }')
  ((mean > 120 && mean < 136)) || fail "expected flat grey 128 to stay near 128, found mean $mean"
  "$program" "$work/no such model" <"$work/grey.ppm" >/dev/null 2>"$work/error" &&
    fail "expected a missing model to be an error"
  grep -q 'no such model' "$work/error" || fail "expected an error that names the file"
}

case $step in
  install)
    rm -rf "$work"
    mkdir -p "$work"
    cmake --install "$build" --prefix "$work/first" >"$work/install.log"
    mv "$work/first" "$stage"
    for file in include/elan/engine.h include/elan/version.h share/elan-sr/models/elan_light_x4.safetensors \
      share/doc/elan-sr/LICENSE; do
      [[ -s $stage/$file ]] || fail "expected $file to be installed"
    done
    soname=$(readelf -d "$(library)" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
    [[ $soname =~ ^libelan-sr\.so\.(0\.[0-9]+|[1-9][0-9]*)$ ]] ||
      fail "expected a SONAME with the ABI version, found '$soname'"
    [[ -e $(dirname "$(library)")/$soname ]] || fail "expected $soname beside the library"
    ;;
  needed)
    # CUDA's own runtime is linked statically, but it asks for these parts of the C library.
    readelf -d "$(library)" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' >"$work/needed"
    [[ -s $work/needed ]] || fail "readelf found no needed libraries at all"
    others=$(grep -vE '^(libstdc\+\+\.so\.6|libgcc_s\.so\.1|libm\.so\.6|libc\.so\.6|libpthread\.so\.0|libdl\.so\.2|librt\.so\.1|ld-linux-.*)$' \
      "$work/needed" || true)
    [[ -z $others ]] || fail "expected the C++ runtime alone to be needed, found: $others"
    ;;
  exports)
    # By mangled name: functions and data of namespace elan, and its type information.
    nm -D --defined-only "$(library)" | awk '{ print $NF }' >"$work/exports"
    others=$(grep -vE '^_Z(N4elan|NK4elan|T[ISV]N4elan)' "$work/exports" || true)
    [[ -z $others ]] || fail "expected names of namespace elan alone, found: $others"
    grep -q '^_ZN4elan7versionEv$' "$work/exports" || fail "expected elan::version() to be exported"
    # The header that declares a name says so: everything else in namespace elan is ours alone.
    grep -rhoE 'ELAN_API [^;{(]*' "$source/include/elan" "$build/include/elan" |
      sed -E 's/ : public .*//' | grep -oE '[A-Za-z_]+ *$' >"$work/declared"
    c++filt <"$work/exports" | sed -E 's/^(vtable|typeinfo|typeinfo name) for //; s/^elan::([A-Za-z_]+).*/\1/' |
      sort -u >"$work/exported"
    while read -r name; do
      grep -qw "$name" "$work/declared" || fail "elan::$name is exported but no public header declares it ELAN_API"
    done <"$work/exported"
    ;;
  cmake)
    cmake -S "$source/examples/upscale_raw" -B "$work/with_cmake" -DCMAKE_PREFIX_PATH="$stage"
    cmake --build "$work/with_cmake"
    check_example "$work/with_cmake/upscale_raw"
    ;;
  pkg_config)
    PKG_CONFIG_PATH=$(dirname -- "$(find "$stage" -name elan-sr.pc)")
    export PKG_CONFIG_PATH
    mkdir -p "$work/with_pkg_config"
    cd "$work/with_pkg_config"
    # pkg-config escapes the spaces of its paths for a shell, so one has to read them.
    eval "${CXX:-c++} -std=c++20 -o upscale_raw '$source/examples/upscale_raw/upscale_raw.cc'" \
      "$(pkg-config --cflags --libs elan-sr)"
    LD_LIBRARY_PATH=$(dirname -- "$(library)") check_example ./upscale_raw
    ;;
  *)
    fail "unknown step $step"
    ;;
esac
