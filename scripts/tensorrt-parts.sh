#!/usr/bin/env bash
# Takes TensorRT 8.6.0's libraries to a machine without a network, in parts of a size that can be
# carried: each compressed as it is, cut, joined again there.
#
#   scripts/tensorrt-parts.sh pack WHEEL FOLDER [MIB]    writes FOLDER/LIBRARY.xz.000 and so on
#   scripts/tensorrt-parts.sh cut FOLDER [MIB]           cuts FOLDER/*.xz that are there already
#   scripts/tensorrt-parts.sh join FOLDER OUT            those libraries of which FOLDER has all parts
#
# WHEEL comes from PyPI: pip download --no-deps --only-binary=:all: --implementation cp
# --python-version 3.10 --platform manylinux_2_17_x86_64 tensorrt==8.6.0
#
# libnvinfer_plugin.so.8 is left out: the parser needs one function of it, which join makes.
set -euo pipefail

libraries=(libnvinfer.so.8 libnvonnxparser.so.8 libnvinfer_builder_resource.so.8.6.0)

# The sizes of the parts are written down so that a missing one is noticed.
cut_parts() {
  local folder=$1 size=$2 file
  for file in "$folder"/*.xz; do
    split -b "${size}M" -d -a 3 "$file" "$file."
    cksum "$file" | cut -d' ' -f1,2 >"$file.sum"
    rm -- "$file"
  done
  ls -l "$folder"
}

case ${1:-} in
  pack)
    wheel=$2 folder=$3 size=${4:-63}
    mkdir -p "$folder"
    work=$(mktemp -d)
    trap 'rm -rf -- "$work"' EXIT
    python3 -m zipfile -e "$wheel" "$work"
    for name in "${libraries[@]}"; do
      # xz, because Python can unpack it everywhere; the window is what shrinks the kernels. 8 GiB.
      xz -c -T1 --lzma2=preset=9e,dict=640MiB "$work/tensorrt/$name" >"$folder/$name.xz"
    done
    cut_parts "$folder" "$size"
    ;;
  cut) cut_parts "$2" "${3:-63}" ;;
  join)
    folder=$2 out=$3
    mkdir -p "$out"
    for name in "${libraries[@]}"; do
      if [[ -e $out/$name || ! -e $folder/$name.xz.sum ]]; then continue; fi
      if [[ $(cat "$folder/$name".xz.[0-9]* | cksum | cut -d' ' -f1,2) != $(<"$folder/$name.xz.sum") ]]; then
        echo "$name: not all parts are here yet"
        continue
      fi
      cat "$folder/$name".xz.[0-9]* | python3 -c '
import lzma, shutil, sys
with lzma.open(sys.stdin.buffer) as stream, open(sys.argv[1], "wb") as library:
    shutil.copyfileobj(stream, library, 1 << 24)' "$out/$name.part"
      mv -- "$out/$name.part" "$out/$name"
    done
    echo 'int initLibNvInferPlugins(void* l, char const* n) { return l || n || 1; }' |
      "${CC:-cc}" -shared -fPIC -x c - -Wl,-soname,libnvinfer_plugin.so.8 -o "$out/libnvinfer_plugin.so.8"
    ls -l "$out"
    ;;
  *) sed -n '5,7s/^# *//p' "$0" >&2; exit 2 ;;
esac
