#!/usr/bin/env python3
"""Times elan-sr and other runtimes on the same picture on the CPU, in turn, and prints a table.

    python3 -m venv .venv-bench && .venv-bench/bin/pip install -r bench/requirements.txt
    .venv-bench/bin/python bench/compare_cpu.py --program build/release/cli/elan-sr

Every peer is a process of its own that loads, compiles and runs once before anything is timed, and
is stopped while others run. In each round every peer in turn runs once untimed and once timed, in
reversed order in every second round, so that a slow spell of the machine hits all; a run during
which other processes took more than a tenth of a core is taken again, at most three times. PyTorch
runs with a malloc that keeps its memory; "stock malloc" is what a user gets who sets nothing.
Errors are against PyTorch in FP64, before rounding (elan-sr: after rounding to 8 bits); a peer
whose mean error exceeds 1 is wrong and is not listed. Peers whose package is missing are left out.
INT8 is --int8 for all: elan-sr runs it, OpenVINO what elan-sr export makes of it.

--times FILE adds PyTorch's medians to a JSON file, for scripts/precision-table.sh.

On a shared machine --guard "flock FILE cat" holds a lock during each round: the command must echo a
line when it has what it waits for and end with its standard input. --guard-setup holds another
("flock -s FILE cat") while a peer loads and compiles.
"""
import argparse
import contextlib
import importlib.util
import json
import os
import platform
import resource
import shlex
import signal
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
    "openvino_int8": ("openvino", "OpenVINO INT8, the rest FP32"),
    "openvino_int8_bf16": ("openvino", "OpenVINO INT8, the rest BF16"),
    "ncnn": ("ncnn", "ncnn FP32"),
}
KINDS = {"eager": "eager fp32", "eager_last": "eager fp32, channels-last", "compile": "compiled fp32",
         "compile_bf16": "compiled bf16 autocast"}  # in the file that --times writes
OURS = {"ours_fp32": "fp32", "ours_bf16": "bf16", "ours_int8": "int8"}


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


def load_ncnn(arguments, x):
    """From the ONNX file through pnnx. The graph takes a padded picture, which is part of the time."""
    import ncnn
    import numpy as np
    import pnnx
    height, width = x.shape[2:]
    across = [(0, -side % 16) for side in (height, width)]
    padded = [side + more for side, (_, more) in zip((height, width), across)]
    file = f"{arguments.work}/ncnn"
    subprocess.run([arguments.program, "export", arguments.model, f"{file}.onnx", "--padding", "outside",
                    "--size", f"{padded[1]}x{padded[0]}"], check=True, capture_output=True)
    subprocess.run([pnnx.EXEC_PATH, f"{file}.onnx", "fp16=0", f"inputshape=[1,3,{padded[0]},{padded[1]}]"],
                   check=True, capture_output=True, cwd=arguments.work)
    net = ncnn.Net()
    net.opt.num_threads = arguments.threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(f"{file}.ncnn.param")
    net.load_model(f"{file}.ncnn.bin")

    def run():
        picture = np.pad(x[0], [(0, 0), *across], mode="reflect")
        with net.create_extractor() as extractor:
            extractor.input("in0", ncnn.Mat(picture))
            y = np.array(extractor.extract("out0")[1])[None]
        scale = y.shape[2] // padded[0]
        return y[:, :, :height * scale, :width * scale]
    return run


def busy_seconds():
    """Of all cores, every process together."""
    ticks = [int(n) for n in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    idle, waiting = ticks[3:5]
    return (sum(ticks[:8]) - idle - waiting) / os.sysconf("SC_CLK_TCK")


def worker(arguments):
    import numpy as np
    name, x = arguments.worker, read_picture(arguments.picture)
    if name.startswith(("eager", "compile")):
        run = load_torch(name, arguments, x)
    elif name == "ort":
        run = load_ort(arguments, x, arguments.onnx)
    elif name == "ncnn":
        run = load_ncnn(arguments, x)
    else:
        run = load_openvino(name, arguments, x, arguments.onnx)
    run()
    np.save(f"{arguments.work}/{name}.npy", run())
    print("ready", flush=True)
    for _ in sys.stdin:
        run()
        busy, own, start = busy_seconds(), time.process_time(), time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        print(seconds, busy_seconds() - busy - (time.process_time() - own), flush=True)


class Runtime:
    """Something that is timed. once() gives its seconds and those that others took of the cores."""

    def __init__(self, name, text):
        self.name, self.text, self.times, self.disturbed = name, text, [], 0

    def run(self):
        tries = []
        for _ in range(4):
            seconds, foreign = self.once()
            tries.append((max(0.0, foreign - 0.1 * seconds - 0.03), seconds))  # 0.03: the clock's ticks
            if tries[-1][0] == 0:
                break
        excess, seconds = min(tries)
        self.times.append(seconds)
        self.disturbed += excess > 0


class Peer(Runtime):
    def __init__(self, name, pass_on):
        super().__init__(name, PEERS[name][1])
        environment = dict(os.environ, OMP_NUM_THREADS=str(pass_on["threads"]))
        if name != "eager_stock":
            environment |= KEEP_MEMORY
        command = [sys.executable, __file__, "--worker", name]
        for key, value in pass_on.items():
            command += [f"--{key}", str(value)]
        self.log = f"{pass_on['work']}/{name}.log"
        start = time.perf_counter()
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=log, text=True, env=environment)
        self.ready = "ready\n" in iter(self.process.stdout.readline, "")  # runtimes chat here, too
        self.process.send_signal(signal.SIGSTOP)
        state = "ready" if self.ready else "did not start: " + Path(self.log).read_text()[-300:]
        print(f"{self.text}: {state} after {time.perf_counter() - start:.0f} s", file=sys.stderr)

    def once(self):
        self.process.send_signal(signal.SIGCONT)
        print("run", file=self.process.stdin, flush=True)
        seconds, foreign = map(float, self.process.stdout.readline().split())
        self.process.send_signal(signal.SIGSTOP)
        return seconds, foreign

    def output(self, work):
        import numpy as np
        return np.load(f"{work}/{self.name}.npy").astype(np.float64)

    def end(self):
        self.process.kill()
        self.process.wait()


class Ours(Runtime):
    def __init__(self, name, arguments):
        super().__init__(name, f"elan-sr {OURS[name]}")
        self.precision, self.arguments, self.shares = OURS[name], arguments, []
        self.model = arguments.int8 if self.precision == "int8" else arguments.model

    def once(self):
        a = self.arguments
        command = [a.program, "bench", "-m", self.model, "-d", "cpu", "-p", self.precision,
                   "--threads", str(a.threads), "-i", a.picture, "--json", "--warm-up", "50",
                   "--iterations", "1", "--duration", "0"]
        busy, own = busy_seconds(), resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        self.report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime
        self.shares.append(self.report["share_of_peak"])
        median = self.report["median_ms"] / 1e3
        return median, (busy_seconds() - busy - used) * median / seconds

    def output(self, work):
        out = f"{work}/{self.name}.png"
        a = self.arguments
        subprocess.run([a.program, "upscale", "-m", self.model, "-d", "cpu", "-p", self.precision, "-i",
                        a.picture, "-o", out, "--overwrite"], check=True, capture_output=True)
        return read_picture(out)


@contextlib.contextmanager
def guarded(command):
    if not command:
        yield
        return
    with subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as guard:
        print("ready", file=guard.stdin, flush=True)
        if not guard.stdout.readline():
            raise SystemExit(f"--guard: {command} ended without echoing a line")
        yield
        guard.stdin.close()


def versions():
    from importlib.metadata import version
    found = []
    for package in ("torch", "onnxruntime", "openvino", "ncnn", "numpy"):
        if importlib.util.find_spec(package):
            found.append(f"{package} {version(package)}")
    return ", ".join([f"Python {platform.python_version()}"] + found)


def add_times(file, model, width, height, hardware, medians):
    """`medians`: milliseconds of each of PyTorch's KINDS. The format is that of torch_gpu.py --times. Rows in the file
    stay, unless they are replaced or from another machine or PyTorch, which the file names for all of them."""
    from importlib.metadata import version
    about = {"device": hardware, "torch": version("torch")}
    found = json.loads(file.read_text()) if file.exists() else {}
    known = found["times"] if all(found.get(k) == v for k, v in about.items()) else []
    new = [{"model": model, "width": width, "height": height, "kind": kind, "ms": ms} for kind, ms in medians.items()]
    same = [[row[k] for k in ("model", "width", "height", "kind")] for row in new]
    kept = [row for row in known if [row[k] for k in ("model", "width", "height", "kind")] not in same]
    file.write_text(json.dumps(about | {"times": kept + new}, indent=1))


def compare(arguments):
    import numpy as np
    import torch
    with tempfile.TemporaryDirectory() as work:
        if not arguments.picture:
            width, height = map(int, arguments.size.split("x"))
            arguments.picture = f"{work}/picture.png"
            make_picture(width, height, arguments.picture)
        x = read_picture(arguments.picture)
        with guarded(arguments.guard_setup):
            exact = torch_net(arguments.model, torch.float64)(torch.from_numpy(x).double()).numpy()
        onnx = {False: f"{work}/model.onnx", True: f"{work}/int8.onnx"}  # by whether in 8 bits
        names = [n for n, (package, _) in PEERS.items()
                 if importlib.util.find_spec(package) and n not in arguments.skip.split(",")
                 and (not arguments.only or n in arguments.only.split(","))]
        for int8 in {"int8" in n for n in names if n.startswith(("ort", "openvino"))}:
            model, size = arguments.int8 if int8 else arguments.model, f"{x.shape[3]}x{x.shape[2]}"
            subprocess.run([arguments.program, "export", model, onnx[int8], "--size", size],
                           check=True, capture_output=True)
        pass_on = {"model": arguments.model, "picture": arguments.picture, "work": work,
                   "threads": arguments.threads, "program": arguments.program}
        peers = []
        for name in names:
            with guarded(arguments.guard_setup):
                peers.append(Peer(name, pass_on | {"onnx": onnx["int8" in name]}))
        ours = [Ours(name, arguments) for name in OURS if name not in arguments.skip.split(",")]
        runs = ours + [p for p in peers if p.ready]
        errors = {}
        for p in list(runs):
            whole = np.clip(np.rint(exact), 0, 255) if isinstance(p, Ours) else exact
            errors[p] = np.abs(p.output(work) - whole)
            if not errors[p].mean() < 1:
                print(f"{p.text}: wrong by {errors[p].mean():.3g} in the mean", file=sys.stderr)
                runs.remove(p)
        for r in range(arguments.rounds):
            with guarded(arguments.guard):
                for p in runs if r % 2 == 0 else runs[::-1]:
                    p.run()
            print(f"round {r + 1}: " + " ".join(f"{p.name} {1e3 * p.times[-1]:.0f}" for p in runs),
                  file=sys.stderr)
        for p in peers:
            p.end()
        print(f"{x.shape[3]}x{x.shape[2]}, {Path(arguments.model).stem}, {arguments.threads} threads, "
              f"{arguments.rounds} rounds; {ours[0].report['hardware']}; {versions()}; "
              f"{sum(p.disturbed for p in runs)} runs stayed disturbed\n")
        head = ["Runtime", "median ms", "min", "max", "share of peak",
                *(f"times {o.text}" for o in ours), "max error", "mean error"]
        print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
        base = [statistics.median(o.times) for o in ours]
        for p in sorted(runs, key=lambda p: statistics.median(p.times)):
            median = statistics.median(p.times)
            share = f"{100 * statistics.median(p.shares):.1f} %" if isinstance(p, Ours) else ""
            print(f"| {p.text} | {1e3 * median:.0f} | {1e3 * min(p.times):.0f} | "
                  f"{1e3 * max(p.times):.0f} | {share} | "
                  + "".join(f"{median / b:.2f} | " for b in base)
                  + f"{errors[p].max():.2g} | {errors[p].mean():.2g} |")
        if arguments.times:
            add_times(Path(arguments.times), Path(arguments.model).stem, x.shape[3], x.shape[2],
                      ours[0].report["hardware"],
                      {KINDS[p.name]: 1e3 * statistics.median(p.times) for p in runs if p.name in KINDS})


def main(only=""):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build/release/cli/elan-sr"))
    parser.add_argument("--model", default=str(ROOT / "models/elan_light_x4.safetensors"))
    parser.add_argument("--int8", default=str(ROOT / "models/elan_light_int8_x4.safetensors"),
                        help="the model in 8 bits, for the peers in 8 bits")
    parser.add_argument("--picture", default="", help="PNG; without it one is made")
    parser.add_argument("--size", default="320x180")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--skip", default="",
                        help="what to leave out, with commas: " + ", ".join([*OURS, *PEERS]))
    parser.add_argument("--only", default=only, help="peers to run, the others left out")
    parser.add_argument("--times", default="", help="JSON file for PyTorch's medians")
    parser.add_argument("--guard", default="", help="a command that is held during each round")
    parser.add_argument("--guard-setup", default="", help="one that is held while a peer starts")
    for hidden in ("--worker", "--onnx", "--work"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    worker(arguments) if arguments.worker else compare(arguments)


if __name__ == "__main__":
    main()
