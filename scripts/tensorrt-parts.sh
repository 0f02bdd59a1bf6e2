#!/usr/bin/env bash
# Takes TensorRT 8.6.0's libraries to a machine without a network, in parts of a size that can be
# carried: compressed, cut, joined again there.
#
#   scripts/tensorrt-parts.sh pack WHEEL FOLDER [MEGABYTES]    writes FOLDER/part.000 and so on
#   scripts/tensorrt-parts.sh join FOLDER OUT                  the libraries, in OUT
#
# WHEEL comes from PyPI: pip download --no-deps --only-binary=:all: --implementation cp
# --python-version 3.10 --platform manylinux_2_17_x86_64 tensorrt==8.6.0
set -euo pipefail

case ${1:-} in
  pack)
    wheel=$2 folder=$3 size=${4:-56}
    mkdir -p "$folder"
    work=$(mktemp -d)
    trap 'rm -rf -- "$work"' EXIT
    python3 -m zipfile -e "$wheel" "$work"
    # xz, because Python can unpack it everywhere.
    tar -C "$work/tensorrt" -c libnvinfer.so.8 libnvonnxparser.so.8 libnvinfer_plugin.so.8 \
      libnvinfer_builder_resource.so.8.6.0 | xz -T0 -9 | split -b "${size}M" -d -a 3 - "$folder/part."
    ls -l "$folder"
    ;;
  join)
    mkdir -p "$3"
    cat "$2"/part.* | python3 -c '
import lzma, sys, tarfile
with lzma.open(sys.stdin.buffer) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
    tar.extractall(sys.argv[1])' "$3"
    ls -l "$3"
    ;;
  *) echo "usage: tensorrt-parts.sh pack WHEEL FOLDER [MEGABYTES] | join FOLDER OUT" >&2; exit 2 ;;
esac
