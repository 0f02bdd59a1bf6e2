#!/usr/bin/env python3
"""Writes test sets as PPM files, which need no library to read: for gpu-check --sets.

    tools/to_ppm.py OUT SET...        SET/xN/NAME_LR.png, NAME_HR.png -> OUT/SET/xN/NAME_LR.ppm, ...

Needs Pillow.
"""
import pathlib
import sys

from PIL import Image


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1])
    count = 0
    for name in sys.argv[2:]:
        folder = pathlib.Path(name).resolve()
        for path in sorted(folder.glob("x[0-9]/*_[HL]R.*")):
            target = out / folder.name / path.parent.name / (path.stem + ".ppm")
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.open(path).convert("RGB").save(target)
            count += 1
    print(f"{count} pictures")


if __name__ == "__main__":
    main()
