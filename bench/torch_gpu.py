"""What PyTorch does with ELAN on this GPU: times to compare with, and float64 values to check against.

    python3 bench/torch_gpu.py --references DIR          files as in tests/data, for gpu-check --extra
    python3 bench/torch_gpu.py --times FILE [--quick]    JSON: eager fp32, tf32, fp16; compiled fp16
                                                         with CUDA graphs; medians, device to device

Needs torch and numpy, and tools/elan_torch.py for the network.
"""
import argparse
import json
import pathlib
import struct
import sys

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import elan_torch  # noqa: E402

MODELS = ["elan_x4", "elan_light_x4", "elan_light_x3", "elan_light_x2"]


def reflect_on_device(x, multiple):
    for dim in (2, 3):
        size = x.shape[dim]
        at = torch.arange(-(-size // multiple) * multiple, device=x.device) % max(2 * (size - 1), 1)
        x = x.index_select(dim, torch.where(at < size, at, 2 * (size - 1) - at))
    return x


elan_torch.reflect_to_multiple = reflect_on_device


def read_safetensors(path):
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    kinds = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "U8": np.uint8}
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + size + begin : 8 + size + end], kinds[entry["dtype"]])
        tensors[name] = torch.from_numpy(values.reshape(entry["shape"]).copy())
    return tensors


def write_safetensors(path, tensors):
    header, blobs, at = {}, [], 0
    for name, value in tensors.items():
        blob = np.ascontiguousarray(value).tobytes()
        kind = {"float32": "F32", "uint8": "U8"}[str(value.dtype)]
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def load(name, dtype):
    tensors = read_safetensors(ROOT / "models" / f"{name}.safetensors")
    floats = {key: value for key, value in tensors.items() if value.is_floating_point()}
    return elan_torch.Elan({key: value.cuda() for key, value in floats.items()}, dtype=dtype)


def smooth_picture(rng, height, width):
    """Something like a photograph: blurred noise at several sizes, and sharp edges."""
    picture = np.zeros((height, width, 3))
    for size in (4, 16, 64):
        coarse = rng.random((3, 1, max(2, height // size + 2), max(2, width // size + 2)))
        fine = torch.nn.functional.interpolate(torch.from_numpy(coarse), (height, width), mode="bicubic")
        picture += fine[:, 0].permute(1, 2, 0).numpy() * size**0.5
    picture = (picture - picture.min()) / (picture.max() - picture.min()) * 255
    picture[height // 3 : height // 2, width // 4 : width // 2] = 255 - picture[height // 3 : height // 2, width // 4 : width // 2]
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def references(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    for name in MODELS:
        model = load(name, torch.float64)
        sizes = [(292, 206)] if name.endswith("x4") else []
        sizes += [(int(rng.integers(8, 90)), int(rng.integers(8, 90))) for _ in range(count)]
        tensors = {}
        for height, width in sizes:
            picture = smooth_picture(rng, height, width)
            x = torch.from_numpy(picture).permute(2, 0, 1)[None].to("cuda", torch.float64)
            y = model(x)[0].permute(1, 2, 0).float().cpu().numpy()
            tensors[f"input.{height}x{width}"] = picture
            tensors[f"output.{height}x{width}"] = y
        write_safetensors(folder / f"{name}.safetensors", tensors)


def timed(function, repeats):
    for _ in range(5):
        function()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return float(np.median(times))


def times(file, quick):
    rows = []

    def measure(job, kind, dtype, tf32=False, compiled=False):
        name, width, height = job
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        try:
            model = load(name, dtype)
            x = (torch.rand(1, 3, height, width, device="cuda") * 255).to(dtype)
            run = torch.compile(lambda x: model(x), mode="reduce-overhead") if compiled else model
            ms = timed(lambda: run(x), 30)
        except Exception as error:  # out of memory, or a compiler that fails: a row says so
            print(name, kind, type(error).__name__, str(error)[:200], flush=True)
            ms = None
        rows.append({"model": name, "width": width, "height": height, "kind": kind, "ms": ms})
        print(rows[-1], flush=True)
        # After each row: compiling takes up to a minute, and the whole may be cut short.
        result = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "times": rows}
        file.write_text(json.dumps(result, indent=1))
        torch.cuda.empty_cache()

    jobs = [("elan_x4", 206, 292), ("elan_light_x4", 206, 292)]
    if not quick:
        jobs += [("elan_x4", 64, 64), ("elan_light_x4", 64, 64), ("elan_light_x2", 1920, 1080)]
    for job in jobs:
        measure(job, "eager fp32", torch.float32)
        measure(job, "eager tf32", torch.float32, tf32=True)
        measure(job, "eager fp16", torch.float16)
    for job in jobs:
        measure(job, "compiled fp16, graph", torch.float16, compiled=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=12, help="random sizes for each model")
    parser.add_argument("--times", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.references:
        references(args.references, args.count)
    if args.times:
        times(args.times, args.quick)


if __name__ == "__main__":
    main()
