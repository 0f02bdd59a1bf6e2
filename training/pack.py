#!/usr/bin/env python3
"""Packs patches of pictures for training into one small file, and unpacks them.

    pack.py PICTURES... --out patches.zip [--bytes 15000000] [--side 272] [--validation 24] [--seed 1]

PICTURES are folders or files. The pack is a zip file of JPEG patches (those cut from JPEG files on their grid of
blocks with the file's own tables, so that hardly anything is rounded twice) and pack.json, which says where each
patch comes from. Low-resolution patches are not stored: read() makes them from the others as MATLAB's imresize does,
and cuts off the margin that the patch's edge would spoil, so that one pack serves every scale. No picture gives
patches to both training and validation.

Needs the packages of training/requirements.txt.
"""

import argparse
import io
import json
import pathlib
import zipfile

import numpy as np
from PIL import Image

MARGIN = 2  # low-resolution pixels at each edge that imresize would make from reflected pixels
BLOCK = 8  # pixels of a JPEG block
QUALITY = 95  # of patches from other files
EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm"}


def cubic(x):
    x = np.abs(x)
    return np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))


def shrink_rows(x, scale):
    """[H, ...] to [H / scale, ...]: bicubic, a = -0.5, widened by the scale, symmetric beyond the edges."""
    centre = (scale - 1) / 2
    taps = np.arange(np.floor(centre - 2 * scale) + 1, np.ceil(centre + 2 * scale)).astype(int)
    weights = cubic((taps - centre) / scale)
    weights /= weights.sum()
    rows, period = np.arange(x.shape[0] // scale) * scale, 2 * x.shape[0]
    y = 0
    for tap, weight in zip(taps, weights):
        at = (rows + tap) % period
        y = y + weight * x[np.where(at < x.shape[0], at, period - 1 - at)]
    return y


def shrink(picture, scale):
    """uint8 [H, W, 3], sides multiples of the scale, to uint8 [H / scale, W / scale, 3], as imresize does: columns
    first, rounded after each direction."""
    for _ in range(2):
        picture = np.clip(np.floor(shrink_rows(picture.astype(np.float64), scale) + 0.5), 0, 255).swapaxes(0, 1)
    return picture.astype(np.uint8)


def files_of(paths):
    files = []
    for path in paths:
        files += sorted(path.iterdir()) if path.is_dir() else [path]
    files = [file for file in files if file.suffix.lower() in EXTENSIONS]
    if not files:
        raise SystemExit(f"{paths[0]}: expected pictures, found none")
    return files


def detail(patch):
    luma = patch.astype(np.float32).mean(2)
    return float(np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean())


def encoded(image, picture):
    tables = getattr(image, "quantization", None)
    options = {"qtables": tables} if image.format == "JPEG" and tables else {"quality": QUALITY}
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "jpeg", subsampling=0, optimize=True, **options)
    return buffer.getvalue()


def patches_of(file, side, count, rng):
    """`count` JPEG patches and their places; of two random places the one with more detail."""
    image = Image.open(file)
    if min(image.size) < side:
        return []
    whole = np.asarray(image.convert("RGB"))
    found = []
    for _ in range(count):
        places = [tuple(int(rng.integers((n - side) // BLOCK + 1)) * BLOCK for n in whole.shape[:2]) for _ in range(2)]
        cuts = [whole[y : y + side, x : x + side] for y, x in places]
        best = max(range(2), key=lambda k: detail(cuts[k]))
        found.append((encoded(image, cuts[best]), places[best]))
    return found


def make(arguments):
    rng = np.random.default_rng(arguments.seed)
    files = files_of(arguments.pictures)
    files = [files[i] for i in rng.permutation(len(files))]
    about = {"side": arguments.side, "seed": arguments.seed, "files": len(files), "training": [], "validation": []}
    room = arguments.bytes - 4096
    used = {"training": 0, "validation": 0}
    with zipfile.ZipFile(arguments.out, "w", zipfile.ZIP_STORED) as pack:

        def add(kind, file, data, place):
            nonlocal room
            name = f"{kind}/{len(about[kind]):04}.jpg"
            cost = len(data) + 2 * len(name) + 320  # zip's own records and the line in pack.json
            if cost > room:
                return False
            room -= cost
            pack.writestr(zipfile.ZipInfo(name), data)
            about[kind].append({"name": name, "file": file.name, "y": place[0], "x": place[1]})
            used[kind] += len(data)
            return True

        held_out = set()
        for file in files:
            if len(about["validation"]) == arguments.validation:
                break
            for data, place in patches_of(file, arguments.side, 1, rng):
                held_out.add(file)
                add("validation", file, data, place)
        full = False
        while not full:
            before = len(about["training"])
            for file in files:
                if file in held_out:
                    continue
                for data, place in patches_of(file, arguments.side, 1, rng):
                    full = full or not add("training", file, data, place)
                if full:
                    break
            if len(about["training"]) == before and not full:
                raise SystemExit(f"expected pictures of at least {arguments.side} pixels a side, found none")
        pack.writestr(zipfile.ZipInfo("pack.json"), json.dumps(about), zipfile.ZIP_DEFLATED)
    size = arguments.out.stat().st_size
    print(
        f"{arguments.out}: {len(about['training'])} patches of {arguments.side}x{arguments.side} for training, "
        f"{len(about['validation'])} for validation, {size} bytes"
    )
    if size > arguments.bytes:
        raise SystemExit(f"{arguments.out}: expected at most {arguments.bytes} bytes, found {size}")


def pair_of(picture, scale):
    """Low and high resolution without the margin, from a whole patch."""
    side = picture.shape[0] // scale * scale
    picture = picture[:side, :side]
    edge = MARGIN * scale
    low = shrink(picture, scale)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return low, picture[edge : side - edge, edge : side - edge]


def read(path, scale, kind="training"):
    """uint8 arrays [patches, h, h, 3] and [patches, s h, s h, 3]."""
    with zipfile.ZipFile(path) as pack:
        about = json.loads(pack.read("pack.json"))
        pairs = [
            pair_of(np.asarray(Image.open(io.BytesIO(pack.read(patch["name"])))), scale) for patch in about[kind]
        ]
    return np.stack([low for low, _ in pairs]), np.stack([high for _, high in pairs])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--bytes", type=int, default=15_000_000, help="size of the file (default: 15000000)")
    parser.add_argument("--side", type=int, default=272, help="of a patch with its margin, in pixels (default: 272)")
    parser.add_argument("--validation", type=int, default=24, help="patches kept for validation (default: 24)")
    parser.add_argument("--seed", type=int, default=1)
    make(parser.parse_args())


if __name__ == "__main__":
    main()
