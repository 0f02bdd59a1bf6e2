#!/usr/bin/env python3
"""Makes the reference values the tests compare with: float64, in PyTorch, apart from the C++ code.

    make_golden.py MODEL.safetensors SOURCE OUT.safetensors SIZE... [--stages SIZE] [--names LIST]

SOURCE is a picture (its centre is cut) or an earlier OUT, whose inputs are used again, so that new
weights can be put beside the same pictures. A SIZE is HEIGHTxWIDTH. OUT holds
    input.HxW    uint8   [H, W, 3] RGB
    output.HxW   float32 [s*H, s*W, 3], not rounded
and, of the size given with --stages, planar float32 [C, H16, W16] of the padded picture:
    stage.NAME for those of --names that the network has
By default these are one of every kind: with its own attention and with another's, rolled and not.

Needs the packages of tools/requirements-convert.txt.
"""

import argparse
import pathlib

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from elan_torch import Elan

STAGES = "head,body.0.lfe.0,body.0.gmsa.0,body.0.lfe.1,body.0.gmsa.1,body.1.gmsa.0,body.1.gmsa.1,body,tail"


def input_of(source, size):
    height, width = map(int, size.split("x"))
    if source.suffix == ".safetensors":
        stored = load_file(source)
        if "input." + size in stored:
            return stored["input." + size]
        whole = stored[max((k for k in stored if k.startswith("input.")), key=lambda k: stored[k].numel())].numpy()
    else:
        whole = np.asarray(Image.open(source).convert("RGB"))
    top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
    if top < 0 or left < 0:
        raise SystemExit(f"{source}: expected a picture of at least {size}, found {whole.shape[0]}x{whole.shape[1]}")
    return torch.from_numpy(whole[top : top + height, left : left + width].copy())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("sizes", nargs="+")
    parser.add_argument("--stages", help="size whose stages are stored")
    parser.add_argument("--names", default=STAGES, help="which stages to store, separated by commas")
    arguments = parser.parse_args()
    if arguments.stages and arguments.stages not in arguments.sizes:
        parser.error(f"--stages: expected one of {' '.join(arguments.sizes)}, found {arguments.stages}")

    with safe_open(arguments.model, "pt") as file:
        metadata = file.metadata() or {}
    windows = tuple(map(int, metadata.get("windows", "4,8,16").split(",")))
    net = Elan(load_file(arguments.model), windows, dtype=torch.float64)
    if net.value_range != 255:
        raise SystemExit(f"{arguments.model}: expected a network for 0..255, found 0..{net.value_range}")
    names = set(arguments.names.split(","))

    tensors = {}

    def keep(name, value):
        if name in names:
            tensors["stage." + name] = value[0].float().contiguous().clone()

    for size in arguments.sizes:
        picture = input_of(arguments.source, size)
        x = picture.permute(2, 0, 1)[None].double()
        y = net(x, keep) if size == arguments.stages else net(x)
        tensors["input." + size] = picture.contiguous()
        tensors["output." + size] = y[0].permute(1, 2, 0).float().contiguous()
    about = {"model": arguments.model.name, "stages": arguments.stages or ""}
    save_file(tensors, arguments.out, about)
    print(f"{arguments.out}: {len(tensors)} tensors, {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
