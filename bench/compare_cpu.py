#!/usr/bin/env python3
"""Times elan-sr and other runtimes on the same picture on the CPU, in turn, and prints a table.

    python3 -m venv .venv-bench && .venv-bench/bin/pip install -r bench/requirements.txt
    .venv-bench/bin/python bench/compare_cpu.py --program build/release/cli/elan-sr

Every peer is a process of its own that stays loaded. In each round every peer in turn runs once
untimed and once timed, in reversed order in every second round, so that a slow spell of the machine
hits all. PyTorch runs with a malloc that keeps its memory; "stock malloc" is what a user gets who
sets nothing. Errors are against PyTorch in FP64, before rounding (elan-sr: after rounding to 8
bits). Peers whose package is missing are left out.
"""
import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(10**11),
               "MALLOC_TOP_PAD_": str(2**28)}
PEERS = {  # name: package it needs, text
    "eager_stock": ("torch", "PyTorch eager FP32, stock malloc"),
    "eager": ("torch", "PyTorch eager FP32"),
    "eager_last": ("torch", "PyTorch eager FP32, channels-last"),
    "compile": ("torch", "torch.compile FP32"),
    "compile_bf16": ("torch", "torch.compile BF16 autocast"),
    "ort": ("onnxruntime", "ONNX Runtime FP32"),
    "openvino": ("openvino", "OpenVINO FP32"),
    "openvino_bf16": ("openvino", "OpenVINO BF16"),
}
OURS = {"ours_fp32": "fp32", "ours_bf16": "bf16"}


def read_picture(path):
    import numpy as np
    from PIL import Image
    return np.asarray(Image.open(path).convert("RGB"), np.float32).transpose(2, 0, 1)[None].copy()


def make_picture(width, height, path):
    """Waves of many lengths with a little noise: no flat areas, nothing a runtime could skip."""
    import numpy as np
    from PIL import Image
    y, x = np.mgrid[:height, :width].astype(np.float64)
    noise = np.random.default_rng(1).normal(0, 6, (height, width, 3))
    waves = [np.sin(x / a + c) * np.cos(y / b - c) for c, (a, b) in enumerate(((9, 17), (23, 5), (4, 40)))]
    rgb = 128 + 70 * np.stack(waves, -1) + 30 * np.sin((x * y)[..., None] / 900) + noise
    Image.fromarray(rgb.clip(0, 255).round().astype(np.uint8)).save(path)


def torch_net(model, dtype=None):
    sys.path.insert(0, str(ROOT / "tools"))
    from elan_torch import Elan
    from safetensors.torch import load_file
    return Elan({k: v.float() for k, v in load_file(model).items()}, dtype=dtype)


def load_torch(name, arguments, x):
    import torch
    torch.set_num_threads(arguments.threads)
    net, picture = torch_net(arguments.model), torch.from_numpy(x)
    if name == "eager_last":
        net.t = {k: v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v
                 for k, v in net.t.items()}
        picture = picture.contiguous(memory_format=torch.channels_last)
    call = torch.compile(net.__call__, dynamic=False) if name.startswith("compile") else net

    def run():
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled="bf16" in name):
            return call(picture).float().contiguous().numpy()
    return run


def load_ort(arguments, x, onnx):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = arguments.threads, 1
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})[0]


def load_openvino(name, arguments, x, onnx):
    import openvino
    settings = {"INFERENCE_NUM_THREADS": arguments.threads, "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "bf16" if "bf16" in name else "f32"}
    compiled = openvino.Core().compile_model(onnx, "CPU", settings)
    return lambda: compiled([x])[compiled.output(0)]


def worker(arguments):
    import numpy as np
    name, x = arguments.worker, read_picture(arguments.picture)
    if name.startswith(("eager", "compile")):
        run = load_torch(name, arguments, x)
    elif name == "ort":
        run = load_ort(arguments, x, arguments.onnx)
    else:
        run = load_openvino(name, arguments, x, arguments.onnx)
    run()
    np.save(f"{arguments.work}/{name}.npy", run())
    print("ready", flush=True)
    for _ in sys.stdin:
        run()
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)


class Peer:
    def __init__(self, name, pass_on):
        self.name, self.text, self.times = name, PEERS[name][1], []
        environment = dict(os.environ, OMP_NUM_THREADS=str(pass_on["threads"]))
        if name != "eager_stock":
            environment |= KEEP_MEMORY
        command = [sys.executable, __file__, "--worker", name]
        for key, value in pass_on.items():
            command += [f"--{key}", str(value)]
        self.log = open(f"{pass_on['work']}/{name}.log", "w")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log, text=True, env=environment)

    def ready(self):
        return self.process.stdout.readline().strip() == "ready"

    def run(self):
        print("run", file=self.process.stdin, flush=True)
        self.times.append(float(self.process.stdout.readline()))

    def error(self, work, exact):
        import numpy as np
        return np.abs(np.load(f"{work}/{self.name}.npy").astype(np.float64) - exact)


class Ours:
    def __init__(self, name, arguments):
        self.name, self.precision, self.times = name, OURS[name], []
        self.arguments = arguments
        self.text, self.shares = f"elan-sr {self.precision}", []

    def run(self):
        a = self.arguments
        command = [a.program, "bench", "-m", a.model, "-d", "cpu", "-p", self.precision,
                   "--threads", str(a.threads), "-i", a.picture, "--json", "--warm-up", "50",
                   "--iterations", "3", "--duration", "0"]
        self.report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        self.times.append(self.report["median_ms"] / 1e3)
        self.shares.append(self.report["share_of_peak"])

    def error(self, work, exact):
        import numpy as np
        out = f"{work}/{self.name}.png"
        a = self.arguments
        subprocess.run([a.program, "upscale", "-m", a.model, "-d", "cpu", "-p", self.precision, "-i",
                        a.picture, "-o", out, "--overwrite"], check=True, capture_output=True)
        return np.abs(read_picture(out) - np.clip(np.rint(exact), 0, 255))


def versions():
    from importlib.metadata import version
    found = []
    for package in ("torch", "onnxruntime", "openvino", "numpy"):
        if importlib.util.find_spec(package):
            found.append(f"{package} {version(package)}")
    return ", ".join([f"Python {platform.python_version()}"] + found)


def compare(arguments):
    import numpy as np
    import torch
    with tempfile.TemporaryDirectory() as work:
        if not arguments.picture:
            width, height = map(int, arguments.size.split("x"))
            arguments.picture = f"{work}/picture.png"
            make_picture(width, height, arguments.picture)
        x = read_picture(arguments.picture)
        exact = torch_net(arguments.model, torch.float64)(torch.from_numpy(x).double()).numpy()
        onnx = f"{work}/model.onnx"
        names = [n for n, (package, _) in PEERS.items()
                 if importlib.util.find_spec(package) and n not in arguments.skip.split(",")
                 and (not arguments.only or n in arguments.only.split(","))]
        if {"ort", "openvino", "openvino_bf16"} & set(names):
            size = f"{x.shape[3]}x{x.shape[2]}"
            subprocess.run([arguments.program, "export", arguments.model, onnx, "--size", size],
                           check=True, capture_output=True)
        pass_on = {"model": arguments.model, "picture": arguments.picture, "onnx": onnx,
                   "work": work, "threads": arguments.threads}
        peers = [Peer(name, pass_on) for name in names]
        broken = [p for p in peers if not p.ready()]
        for p in broken:
            print(f"{p.text}: did not start: {Path(p.log.name).read_text()[-300:]}", file=sys.stderr)
        ours = [Ours(name, arguments) for name in OURS]
        runs = ours + [p for p in peers if p not in broken]
        for r in range(arguments.rounds):
            for p in runs if r % 2 == 0 else runs[::-1]:
                p.run()
        print(f"{x.shape[3]}x{x.shape[2]}, {Path(arguments.model).stem}, {arguments.threads} threads, "
              f"{arguments.rounds} rounds; {ours[0].report['hardware']}; {versions()}\n")
        head = ["Runtime", "median ms", "min", "max", "share of peak", "times elan-sr fp32",
                "times elan-sr bf16", "max error", "mean error"]
        print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
        base = [statistics.median(o.times) for o in ours]
        for p in sorted(runs, key=lambda p: statistics.median(p.times)):
            median, error = statistics.median(p.times), p.error(work, exact)
            share = f"{100 * statistics.median(p.shares):.1f} %" if isinstance(p, Ours) else ""
            print(f"| {p.text} | {1e3 * median:.0f} | {1e3 * min(p.times):.0f} | "
                  f"{1e3 * max(p.times):.0f} | {share} | {median / base[0]:.2f} | "
                  f"{median / base[1]:.2f} | {error.max():.2g} | {error.mean():.2g} |")
        for p in peers:
            p.process.stdin.close()
            p.process.wait()


def main(only=""):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build/release/cli/elan-sr"))
    parser.add_argument("--model", default=str(ROOT / "models/elan_light_x4.safetensors"))
    parser.add_argument("--picture", default="", help="PNG; without it one is made")
    parser.add_argument("--size", default="320x180")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--skip", default="", help="peers to leave out, with commas: " + ", ".join(PEERS))
    parser.add_argument("--only", default=only, help="peers to run, the others left out")
    for hidden in ("--worker", "--onnx", "--work"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    worker(arguments) if arguments.worker else compare(arguments)


if __name__ == "__main__":
    main()
