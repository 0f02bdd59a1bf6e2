#!/usr/bin/env bash
# Takes TensorRT 8.6.0's libraries to a machine without a network, in parts of a size that can be
# carried: compressed as they are, cut, joined again there.
#
#   scripts/tensorrt-parts.sh pack WHEEL FOLDER [MIB]    writes FOLDER/p00, FOLDER/p01 and so on
#   scripts/tensorrt-parts.sh join FOLDER OUT            FOLDER has the contents of all of them
#
# WHEEL comes from PyPI: pip download --no-deps --only-binary=:all: --implementation cp
# --python-version 3.10 --platform manylinux_2_17_x86_64 tensorrt==8.6.0
#
# The first part has this script, zstd and the libraries that it needs (glibc 2.34 or later there).
# Left out are libnvinfer_plugin.so.8, of which the parser needs one function, and cuBLAS and cuDNN,
# without which it runs: the first part has empty libraries of these names.
set -euo pipefail

libraries=(libnvinfer.so.8 libnvonnxparser.so.8 libnvinfer_builder_resource.so.8.6.0)

# stand_in FOLDER NAME [CODE]
stand_in() { echo "${3:-}" | "${CC:-cc}" -shared -fPIC -x c - "-Wl,-soname,$2" -o "$1/$2"; }

case ${1:-} in
  pack)
    wheel=$2 folder=$3 size=${4:-60}
    work=$folder/work
    mkdir -p "$work/lib" "$work/zstd"
    [[ -e $work/tensorrt/libnvinfer.so.8 ]] || python3 -m zipfile -e "$wheel" "$work"
    for name in "${libraries[@]}"; do
      # The window is what shrinks the kernels; -17 takes 5 minutes of one core.
      [[ -e $work/$name.zst ]] ||
        { zstd -q -17 --long=30 -T1 "$work/tensorrt/$name" -o "$work/$name.new" && mv -- "$work/$name"{.new,.zst}; }
      cksum "$work/$name.zst" | cut -d' ' -f1,2 >"$work/zstd/$name.sum"
    done
    cp -- "$(command -v zstd)" "$work/zstd/zstd"
    ldd "$work/zstd/zstd" | grep -oE '/[^ ]*/lib(z|lzma|lz4|zstd)\.so\.[0-9]+' | xargs -r cp -Lt "$work/zstd"
    stand_in "$work/lib" libnvinfer_plugin.so.8 'int initLibNvInferPlugins(void* l, char const* n) { return l || n || 1; }'
    for name in libcublas.so.12 libcublasLt.so.12 libcudnn.so.8; do stand_in "$work/lib" "$name"; done
    rm -rf -- "$folder"/p[0-9][0-9]
    for name in "${libraries[@]}"; do cat -- "$work/$name.zst"; done |
      split -b "${size}M" -d -a 2 - "$folder/all."
    for file in "$folder"/all.*; do
      mkdir "$folder/p${file##*.}"
      mv -- "$file" "$folder/p${file##*.}/"
    done
    cp -r -- "$work/zstd" "$work/lib" "$0" "$folder/p00/"
    for name in "${libraries[@]}"; do stat -c %s "$work/$name.zst"; done >"$folder/p00/zstd/sizes"
    du -sm "$folder"/p[0-9][0-9]
    ;;
  join)
    folder=$2 out=$3 at=0
    mkdir -p "$out"
    cp -n -- "$folder"/lib/* "$out/"
    mapfile -t sizes <"$folder/zstd/sizes"
    cat -- "$folder"/all.[0-9][0-9] >"$folder/all"
    for i in "${!libraries[@]}"; do
      name=${libraries[i]}
      if [[ ! -e $out/$name ]]; then
        piece() { dd if="$folder/all" bs=1M iflag=skip_bytes,count_bytes skip="$at" count="${sizes[i]}" status=none; }
        if [[ $(piece | cksum | cut -d' ' -f1,2) != $(<"$folder/zstd/$name.sum") ]]; then
          echo "$name: not all parts are here, or one is damaged" >&2
          exit 1
        fi
        piece | LD_LIBRARY_PATH=$folder/zstd "$folder/zstd/zstd" -q -d --long=31 -o "$out/$name.part"
        mv -- "$out/$name.part" "$out/$name"
      fi
      at=$((at + sizes[i]))
    done
    rm -- "$folder/all"
    ls -l "$out"
    ;;
  *) sed -n '5,6s/^# *//p' "$0" >&2; exit 2 ;;
esac
