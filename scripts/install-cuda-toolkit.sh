#!/usr/bin/env bash
# Puts nvcc 13.0 into build/cuda-toolkit, from PyPI's wheels, for machines without the CUDA toolkit.
# CMake looks there by itself. Needs python3 with pip, and the network; no GPU and no root.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
target=$root/build/cuda-toolkit
wheels=(
  nvidia-cuda-nvcc==13.0.88
  nvidia-nvvm==13.0.88
  nvidia-cuda-crt==13.0.88
  nvidia-cuda-runtime==13.0.96
  nvidia-cuda-cccl==13.0.85
  nvidia-nvtx==13.0.85
)

rm -rf -- "$target"
mkdir -p -- "$target/wheels"
python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$target/wheels" "${wheels[@]}"
for wheel in "$target"/wheels/*.whl; do
  python3 -m zipfile -e "$wheel" "$target/wheels/unpacked"
done
cp -r "$target"/wheels/unpacked/nvidia/cu13/. "$target/"
rm -rf -- "$target/wheels"
chmod +x "$target"/bin/* "$target"/nvvm/bin/* 2>/dev/null || true
[[ -e $target/lib64 ]] || ln -s lib "$target/lib64"
"$target/bin/nvcc" --version | tail -n 2
