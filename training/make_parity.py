#!/usr/bin/env python3
"""Makes the values that tests compare the engines' 8-bit arithmetic with: PyTorch's, as it is trained with.

    make_parity.py INT8.safetensors PICTURE OUT.safetensors [--size 32x32]

INT8 is a model with attention in 8 bits: for tests/data the shipped light x4. The centre of PICTURE is enlarged with it
and with the same model whose attention stays in floating point. OUT holds
    input.HxW                    uint8   [H, W, 3] RGB
    output.HxW                   float32 [s*H, s*W, 3], not rounded, attention in 8 bits
    float_attention.HxW          float32 likewise, attention in floating point
    stage.body.0.gmsa.0          float32 [C, H, W], after the first pair, attention in 8 bits

Everything that comes before a rounding is computed in the order and with the roundings of the reference, head and
tail included, so that with attention in 8 bits nothing but the last bits of tail may differ.

Needs the packages of training/requirements.txt.
"""

import argparse
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

import elan_quant


class OrderedConv(torch.nn.Module):
    """A 3x3 convolution that adds one product after another: channel by channel, tap by tap."""

    def __init__(self, conv):
        super().__init__()
        self.weight, self.bias = conv.weight.detach(), conv.bias.detach()

    def forward(self, x):
        wide = F.pad(x, (1, 1, 1, 1))
        h, w = x.shape[2:]
        y = self.bias.view(1, -1, 1, 1).expand(x.shape[0], -1, h, w).clone()
        for i in range(x.shape[1]):
            for tap in range(9):
                ky, kx = divmod(tap, 3)
                y += self.weight[:, i, ky, kx].view(1, -1, 1, 1) * wide[:, i : i + 1, ky : ky + h, kx : kx + w]
        return y


class ExactExponential(elan_quant.Pair):
    """The powers of two in double: only the rule says which integer each becomes."""

    def _attention(self, q, k):
        if self.q_step is None:
            return super()._attention(q, k)
        scores = q @ q.transpose(-1, -2)
        step = self.q_step()[k].double()
        octaves = (step * step * np.log2(np.e)).float()
        powers = octaves * (scores - scores.amax(-1, keepdim=True))
        e = (255 * torch.exp2(powers.double())).round().float()
        return e, e.sum(-1, keepdim=True)


def network(int8_file):
    net = elan_quant.ElanQuant(elan_quant.floats_of(int8_file), int8_file, exact=True).eval()
    net.head, net.tail = OrderedConv(net.head), OrderedConv(net.tail)
    for elab in net.body:
        for pair in elab.pairs:
            pair.__class__ = ExactExponential
    return net


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("int8", type=pathlib.Path)
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--size", default="32x32", help="HEIGHTxWIDTH, multiples of 16 (default: 32x32)")
    arguments = parser.parse_args()
    torch.use_deterministic_algorithms(True)

    height, width = map(int, arguments.size.split("x"))
    whole = np.asarray(Image.open(arguments.picture).convert("RGB"))
    top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
    picture = torch.from_numpy(whole[top : top + height, left : left + width].copy())

    tensors, metadata = elan_quant.load(arguments.int8)
    without = {key: t for key, t in tensors.items() if not key.endswith((".q_scale", ".v_scale"))}
    if len(without) == len(tensors):
        raise SystemExit(f"{arguments.int8}: expected scales of attention, found none")
    out = {"input." + arguments.size: picture}

    net = network((tensors, metadata))

    def keep(module, inputs, result):
        out["stage.body.0.gmsa.0"] = result[0][0].permute(2, 0, 1).contiguous()

    net.body[0].pairs[0].register_forward_hook(keep)
    with torch.no_grad():
        out["output." + arguments.size] = elan_quant.enlarge(net, picture).contiguous()
        out["float_attention." + arguments.size] = elan_quant.enlarge(network((without, metadata)), picture).contiguous()
    save_file(out, arguments.out)


if __name__ == "__main__":
    main()
