#!/usr/bin/env python3
"""Turns a PyTorch checkpoint of an ELAN into a .safetensors file that elan-sr reads, and checks it.

    convert.py elan_x4.pth [-o elan_x4.safetensors] [--half] [--windows 4,8,16] [--value-range 0..255]

Reads .pth, .pt, .ckpt (weights only: nothing in the file is run) and .safetensors, in the usual
wrappers (model_state_dict, state_dict, params_ema, params, model; module. in front of the keys), in
the published layout, its low-memory variant and the BasicSR ports' names; writes the published
layout with the metadata of docs/weights.md. The result is then run in PyTorch beside the tensors it
was made from and, where the elan-sr command is found, there too. Exit status: 0 done and equal, 1
the checkpoint cannot be converted, 2 usage, 3 the check failed; nothing is written then.

Install the packages of tools/requirements-convert.txt into a virtual environment first.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from elan_torch import Elan

WRAPPERS = ("model_state_dict", "state_dict", "params_ema", "params", "model")
PREFIXES = tuple(w + "." for w in WRAPPERS) + ("module.",)
KNOWN = re.compile(
    r"(sub_mean|add_mean|head\.0|tail\.0)\.(weight|bias)$"
    r"|body\.\d+\.modules_lfe\.lfe_\d+\.conv[01]\.shift_conv\.(weight|conv1x1\.weight|conv1x1\.bias|w|b|m)$"
    r"|body\.\d+\.modules_gmsa\.gmsa_\d+\.(project_inp\.0|project_out)\.(weight|bias)$"
    r"|body\.\d+\.modules_gmsa\.gmsa_\d+\.project_inp\.1\.(weight|bias|running_mean|running_var)$"
)
MATRIX = re.compile(r"(conv1x1|project_inp\.0|project_out|head\.0|tail\.0)\.weight$")


class Refused(Exception):
    """The checkpoint cannot be converted; the text says what was expected and what was found."""


def load(path):
    """Tensors and metadata of a checkpoint, out of its wrappers."""
    if not path.is_file():
        raise Refused("expected a checkpoint, found no such file")
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        content = load_file(path)
    else:
        metadata = {}
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            found = f"something else or a damaged one ({type(error).__name__})"
            raise Refused(f"expected a PyTorch checkpoint of plain tensors, found {found}") from error
    while isinstance(content, dict):
        wrapper = next((w for w in WRAPPERS if isinstance(content.get(w), dict)), None)
        if wrapper is None:
            break
        content = content[wrapper]
    if not isinstance(content, dict):
        raise Refused(f"expected a dictionary of tensors, found {type(content).__name__}")
    tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise Refused(f"expected tensors, found only {', '.join(map(str, list(content)[:5])) or 'nothing'}")
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in tensors)), None):
        tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return tensors, metadata


def published_name(key):
    """The published name of a key of the BasicSR ports; any other key as it is."""
    key = re.sub(r"^head\.(weight|bias)$", r"head.0.\1", key)
    key = re.sub(r"\.modules_gmsa\.(\d+)\.", r".modules_gmsa.gmsa_\1.", key)
    for index, conv in (("0", "conv0"), ("2", "conv1")):
        key = re.sub(
            rf"\.modules_lfe\.(\d+)\.lfe\.{index}\.mask$", rf".modules_lfe.lfe_\1.{conv}.shift_conv.weight", key
        )
        key = re.sub(
            rf"\.modules_lfe\.(\d+)\.lfe\.{index}\.(weight|bias)$",
            rf".modules_lfe.lfe_\1.{conv}.shift_conv.conv1x1.\2",
            key,
        )
    return key


def split_masked_convolutions(tensors):
    """shift_conv.{w,b,m}, a masked 3x3 convolution, becomes a shift and a 1x1 convolution."""
    tensors = dict(tensors)
    for key in [k for k in tensors if k.endswith(".shift_conv.m")]:
        base = key.removesuffix(".m")
        w, b, m = (tensors.pop(base + name) for name in (".w", ".b", ".m"))
        one_hot = bool(((m == 0) | (m == 1)).all()) and bool((m.flatten(2).sum(2) == 1).all())
        if not one_hot or not torch.equal(m, m[:1].expand_as(m)):
            raise Refused(f"{key}: expected a single 1 for each input channel, equal for all outputs")
        tensors[base + ".weight"] = m[0][:, None].clone()
        tensors[base + ".conv1x1.weight"] = (w * m).sum((2, 3), keepdim=True)
        tensors[base + ".conv1x1.bias"] = b
    return tensors


def renamed(tensors):
    """The tensors of the network under published names, low-memory ones as they are."""
    tensors = {published_name(k): v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
    for key in ("head.0.weight", "tail.0.weight"):
        if key not in tensors:
            raise Refused(f"{key}: expected an ELAN with this tensor, found keys such as {', '.join(list(tensors)[:4])}")
    if unknown := [k for k in tensors if not KNOWN.match(k)]:
        raise Refused(f"expected the keys of an ELAN, found {len(unknown)} others such as {', '.join(unknown[:3])}")
    rows = tensors["tail.0.weight"].shape[0]
    if rows not in (3 * s * s for s in range(1, 9)):
        raise Refused(f"tail.0.weight: expected 3 * scale * scale rows, found {rows}")
    return tensors


def convert(tensors, metadata, arguments):
    """Tensors and metadata to be written, from renamed tensors."""
    tensors = split_masked_convolutions(tensors)
    for key, value in tensors.items():
        if not value.is_floating_point():
            raise Refused(f"{key}: expected floating point numbers, found {value.dtype}")
        if not value.isfinite().all():
            raise Refused(f"{key}: expected finite numbers, found NaN or infinity")
    windows = arguments.windows or metadata.get("windows", "4,8,16")
    value_range = arguments.value_range or metadata.get("value_range")
    net = Elan(tensors, tuple(map(int, windows.split(","))))
    if value_range is None:
        value_range = f"0..{net.value_range}"
        if net.mean is None:
            print(f"no mean in the file: taking the network to work on {value_range} (see --value-range)")
    about = {
        "format": "pt",
        "architecture": "elan",
        "variant": net.variant,
        "scale": str(net.scale),
        "windows": windows,
        "value_range": value_range,
    }
    if licence := arguments.licence or metadata.get("licence"):
        about["licence"] = licence
    stored = {}
    for key, value in tensors.items():
        half = arguments.half and MATRIX.search(key)
        keeps = value.dtype in (torch.float16, torch.bfloat16, torch.float32)
        stored[key] = value.to(torch.float16 if half else value.dtype if keeps else torch.float32).contiguous()
        if not stored[key].isfinite().all():
            raise Refused(f"{key}: expected numbers that fit {stored[key].dtype}, found larger ones")
    return stored, about


def random_picture(side=(33, 50)):
    """Noise of several sizes, so that it has both edges and flat parts."""
    generator = torch.Generator().manual_seed(7)
    picture = torch.zeros(1, 3, *side)
    for cells in (2, 6, 20):
        noise = torch.rand(1, 3, cells, cells, generator=generator)
        picture += torch.nn.functional.interpolate(noise, side, mode="bicubic") / 3
    return (picture * 255).round().clamp(0, 255)


def upscale(tensors, about, picture):
    """The enlarged picture on 0..255 in float64."""
    factor = 255 / int(about["value_range"].removeprefix("0.."))
    net = Elan(tensors, tuple(map(int, about["windows"].split(","))), dtype=torch.float64)
    return net(picture.double() / factor) * factor


def difference_to_command(command, path, picture, expected):
    """Largest difference in levels between the command's 8-bit picture and the expected one."""
    with tempfile.TemporaryDirectory() as folder:
        small, large = (os.path.join(folder, name) for name in ("small.png", "large.png"))
        Image.fromarray(picture[0].permute(1, 2, 0).byte().numpy()).save(small)
        run = subprocess.run(
            [command, "upscale", "-i", small, "-o", large, "-m", path, "-d", "cpu"], capture_output=True, text=True
        )
        if run.returncode != 0:
            raise Refused(f"{command}: expected to upscale with {path}, found: {run.stderr.strip()}")
        found = torch.from_numpy(np.asarray(Image.open(large).convert("RGB")).copy()).permute(2, 0, 1)
    expected = expected[0].round().clamp(0, 255)
    if found.shape != expected.shape:
        raise Refused(f"{command}: expected {tuple(expected.shape)}, found {tuple(found.shape)}")
    return (found - expected).abs().max().item()


def check(original, path, about, command):
    """Runs what was read and what was written. Returns the complaints."""
    picture = random_picture()
    written = upscale(load_file(path), about, picture)
    difference = (written - upscale(original, about, picture)).abs().max().item()
    print(f"PyTorch, {path.name} against what it was made from: largest difference {difference:.2g} of 255")
    complaints = [] if difference <= 1 else ["the written network computes something else"]
    if command is None:
        print("elan-sr not found (see --elan-sr): not checked there")
        return complaints
    levels = difference_to_command(command, path, picture, written)
    print(f"elan-sr against PyTorch: largest difference {levels:.0f} of 255 after rounding")
    if levels > 1:
        complaints.append("elan-sr computes something else")
    return complaints


def find_command(stated):
    built = pathlib.Path(__file__).resolve().parent.parent / "build" / "release"
    names = [stated] if stated else ["elan-sr", *map(str, sorted(built.glob("**/elan-sr")))]
    found = next((c for c in map(shutil.which, names) if c), None)
    if stated and not found:
        raise Refused(f"--elan-sr: expected a command, found none at {stated}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("-o", "--output", type=pathlib.Path, help="default: the same name, .safetensors")
    parser.add_argument("--half", action="store_true", help="store matrices in F16, half the size")
    parser.add_argument("--windows", help="window sizes, if not 4,8,16")
    parser.add_argument("--value-range", choices=("0..1", "0..255"), help="range of the network's own inputs")
    parser.add_argument("--licence", help="of the weights, noted in the file")
    parser.add_argument("--elan-sr", help="the command to check with; default: from PATH or the build")
    parser.add_argument("--overwrite", action="store_true")
    arguments = parser.parse_args()
    output = arguments.output or arguments.checkpoint.with_suffix(".safetensors")
    if output.exists() and not arguments.overwrite:
        parser.error(f"{output}: expected no such file yet, found one (see --overwrite)")
    if output.exists() and output.samefile(arguments.checkpoint):
        parser.error(f"{output}: expected another file than the checkpoint, found the same")
    part = output.with_name(output.stem + ".part.safetensors")  # renamed once it is checked
    try:
        command = find_command(arguments.elan_sr)
        tensors, metadata = load(arguments.checkpoint)
        tensors = renamed(tensors)
        stored, about = convert(tensors, metadata, arguments)
        save_file(stored, part, about)
        complaints = check(tensors, part, about, command)
    except Exception as error:  # whatever a damaged checkpoint makes of torch ends in one line
        part.unlink(missing_ok=True)
        text = f"{error}: expected a tensor, found none" if isinstance(error, KeyError) else str(error)
        text = " ".join(text.split()) or type(error).__name__
        print(f"{arguments.checkpoint}: {text[:500]}", file=sys.stderr)
        return 1
    if complaints:
        part.unlink()
        print(f"{output}: {'; '.join(complaints)}; not written", file=sys.stderr)
        return 3
    part.replace(output)
    print(f"{output}: {about['variant']} x{about['scale']}, {len(stored)} tensors, {output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
