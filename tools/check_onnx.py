"""Runs exported graphs on ONNX Runtime's CPU provider and compares them with stored FP64 values.

    python tools/check_onnx.py PROGRAM     (elan-sr; models/ and tests/data beside this folder)

Exports every shipped model in the forms that docs/onnx.md describes, and
  - checks each with onnx's own checker,
  - compares FP32 (bar 1e-3) and FP16 (bar 0.2, both on 0..255) with the golden outputs,
  - compares a batch with its pictures one by one,
  - runs plugin graphs with ElanLFE and ElanGMSA written in numpy from the nodes' fields alone, which
    shows that a plugin can be built from them,
  - compares a network whose shifts are not one-hot with the program's own reference,
  - compares models in 8 bits, int8 and fp8, with the reference (mean difference, because engines in 8
    bits drift apart), and the first LFE and GMSA with docs/quantization.md written in numpy (they do not
    drift), and checks mixed plans.
Prints one line per graph; the exit status is 1 if any is beyond its bar.
"""

import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

ROOT = pathlib.Path(__file__).resolve().parent.parent
BARS = {"fp32": 1e-3, "fp16": 0.2}  # largest difference on 0..255
FIXED = {"elan_light_x4": ["1x1", "17x30", "33x50", "3x70", "64x48"], "elan_x4": ["1x1", "17x30"]}
MEAN_BARS = {"int8": 0.5, "fp8": 0.5}  # mean difference on 0..255
STAGE_BAR = 2e-3  # mean difference of a stage
SIZES_8_BITS = ["1x1", "3x70", "16x16", "17x30", "33x50"]
PLAN = {"default": "int8", "body.*.gmsa.*.av": "fp16", "body.*.project_inp.q": "fp32", "body.3.lfe.*": "fp16"}
DTYPES = {"F32": np.float32, "F16": np.float16, "U8": np.uint8, "I64": np.int64, "I8": np.int8, "BF16": np.uint16}


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + v for v in entry["data_offsets"])
        values = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = values
    return tensors, metadata


def write_safetensors(path, tensors, metadata):
    header, body = {"__metadata__": metadata}, b""
    names = {v: k for k, v in DTYPES.items()}
    for name, tensor in tensors.items():
        bytes_ = np.ascontiguousarray(tensor).tobytes()
        offsets = [len(body), len(body) + len(bytes_)]
        header[name] = {"dtype": names[tensor.dtype.type], "shape": list(tensor.shape), "data_offsets": offsets}
        body += bytes_
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


class Golden:
    """Inputs and outputs of one model as [1, 3, H, W], by size ("17x30": height x width)."""

    def __init__(self, model):
        tensors, _ = read_safetensors(ROOT / "tests/data" / f"{model}.safetensors")
        planar = lambda t: t.transpose(2, 0, 1)[None].astype(np.float32)
        self.cases = {
            name[len("input.") :]: (planar(tensor), planar(tensors["output." + name[len("input.") :]]))
            for name, tensor in tensors.items()
            if name.startswith("input.")
        }


def shift(x, mask):
    """[C, H, W] through the depthwise 3x3 filter, zero outside."""
    height, width = x.shape[1:]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    shifted = np.zeros_like(x)
    for ky in range(3):
        for kx in range(3):
            shifted += mask[:, 0, ky, kx, None, None] * padded[:, ky : ky + height, kx : kx + width]
    return shifted


def windows(x, w):
    """[C, H, W] -> [windows, w * w, C]."""
    c, h, wd = x.shape
    return x.reshape(c, h // w, w, wd // w, w).transpose(1, 3, 2, 4, 0).reshape(-1, w * w, c)


def picture(t, w, shape):
    """The inverse, to [C, *shape]."""
    h, wd = shape
    return t.reshape(h // w, wd // w, w, w, -1).transpose(4, 0, 2, 1, 3).reshape(-1, h, wd)


def planar(stream, order):
    """A stream [H, W, places] as [C, H, W]."""
    order = np.asarray(order)
    return stream[..., [int(np.flatnonzero(order == c)[0]) for c in range(order.max() + 1)]].transpose(2, 0, 1)


def as_stream(x, order):
    """The inverse; places without a channel are zero."""
    order = np.asarray(order)
    return np.where(order < 0, 0, x.transpose(1, 2, 0)[..., np.maximum(order, 0)])


def conv1x1(x, fields, name):
    """[C, H, W] through the matrix `name`, in 8 bits where that has scales."""
    weight = fields[name + "_weight"].astype(np.float64)
    if name + "_weight_scale" in fields:
        weight *= fields[name + "_weight_scale"][:, None]
        step = fields[name + "_input_scale"][0]
        x = np.clip(np.rint(x / step), -127, 127) * step
    return np.einsum("oc,chw->ohw", weight, x) + fields[name + "_bias"][:, None, None]


def by_group(x, scales):
    """[C, H, W] as integers of 8 bits, of a scale for each of three groups."""
    return np.clip(np.rint(x / np.repeat(scales, len(x) // 3)[:, None, None]), -127, 127)


def attend(q, v, sides, by, scales=None):
    """softmax(q q^T) v in the windows of three groups, each rolled by `by` of its side; [C, H, W]. With `scales` of q
    and v these are integers, and so is what stands for the softmax."""
    part, outputs = len(v) // 3, []
    for k, w in enumerate(sides):
        turn = by * (w // 2)
        query, value = (windows(np.roll(t[k * part :][:part], (-turn, -turn), (1, 2)), w) for t in (q, v))
        logits = query @ query.transpose(0, 2, 1)
        logits -= logits.max(-1, keepdims=True)
        step = 1
        if scales:
            step, a = scales[1][k], np.rint(255 * np.exp(np.float64(scales[0][k]) ** 2 * logits))
        else:
            a = np.exp(logits)
        result = step * (a @ value) / a.sum(-1, keepdims=True)
        outputs.append(np.roll(picture(result, w, v.shape[1:]), (turn, turn), (1, 2)))
    return np.concatenate(outputs)


class EightBits:
    """The matrices of a quantised file, with what docs/quantization.md makes of their input."""

    def __init__(self, file, precision):
        self.tensors, _ = read_safetensors(file)
        self.precision = precision

    def rounded(self, x, scale):
        if self.precision == "int8":
            return np.clip(np.rint(x / scale), -127, 127) * scale
        scale = scale * 127 / 448
        return np.clip(x / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * scale

    def multiply(self, base, x, input_base=None):
        get = lambda name: self.tensors[name].astype(np.float64)
        scale = get(f"{base}.weight_scale")[:, None]
        weight = self.rounded(get(f"{base}.weight")[:, :, 0, 0] * scale, scale)
        x = self.rounded(x, get(f"{input_base or base}.input_scale")[0])
        return np.einsum("oc,chw->ohw", weight, x) + get(f"{base}.bias")[:, None, None]

    def shift(self, base, x):
        return self.multiply(f"{base}.conv1x1", shift(x, self.tensors[f"{base}.weight"].astype(np.float64)))

    def first_pair(self, x):
        """(body.0.lfe.0, body.0.gmsa.0) of the head's result, [C, H, W]."""
        lfe, gmsa = "body.0.modules_lfe.lfe_0.conv{}.shift_conv", "body.0.modules_gmsa.gmsa_0."
        y = x + self.shift(lfe.format(1), np.maximum(self.shift(lfe.format(0), x), 0))
        q, v = (self.multiply(f"{gmsa}project_inp.{part}", y, f"{gmsa}project_inp") for part in "qv")
        return y, y + self.multiply(f"{gmsa}project_out", attend(q, v, (4, 8, 16), 0))


class ElanLFE(OpRun):
    """q and v are whatever the two kinds of node agree on: here the groups in order, [C, H, W]."""

    op_domain = "elan_sr"

    def one(self, x, fields):
        conv = lambda name, x: conv1x1(shift(x, fields[name + "_mask"].astype(np.float64)), fields, name)
        x = planar(x, fields["stream"]).astype(np.float64)
        y = x + conv("conv1", np.maximum(conv("conv0", x), 0))
        projected = conv1x1(y, fields, "project_inp")
        parts = [projected]
        if fields["gives_q"]:
            groups = projected.reshape(3, 2, -1, *y.shape[1:])
            parts = [groups[:, i].reshape(y.shape) for i in (1, 0)]
        if "v_scale" in fields:
            parts = [by_group(x, fields[name]) for x, name in zip(parts, ("v_scale", "q_scale"))]
        return as_stream(y, fields["stream"]), *parts

    def _run(self, x, **fields):
        parts = zip(*(self.one(v, fields) for v in x))
        return tuple(np.stack(part).astype(x.dtype) for part in parts)


class ElanGMSA(OpRun):
    op_domain = "elan_sr"

    def one(self, y, v, q, fields):
        scales = [fields[name] for name in ("q_scale", "v_scale") if name in fields]
        joined = attend(*(t.astype(np.float64) for t in (q, v)), fields["windows"], fields["shifted"], scales)
        return y + as_stream(conv1x1(joined, fields, "project_out"), fields["stream"])

    def _run(self, y, v, q, **fields):
        return (np.stack([self.one(*each, fields) for each in zip(y, v, q)]).astype(y.dtype),)


class Checker:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.compared = self.failures = 0

    def export(self, model, name, *flags):
        path = self.folder / f"{name}.onnx"
        subprocess.run([self.program, "export", model, path, *flags], check=True)
        onnx.checker.check_model(onnx.load(path), full_check="--plugins" not in flags)
        return path

    def upscale(self, model, x, scale=4):
        """[1, 3, H, W] through the reference, by way of 16-bit picture files."""
        small, large = (self.folder / name for name in ("small.ppm", "large.ppm"))
        height, width = x.shape[2:]
        samples = np.rint(x[0].transpose(1, 2, 0) * 257).astype(">u2")
        small.write_bytes(b"P6 %d %d 65535\n" % (width, height) + samples.tobytes())
        command = [self.program, "upscale", "-m", model, "-d", "reference", "-i", small, "-o", large, "--overwrite"]
        subprocess.run(command, check=True, capture_output=True)
        height, width = scale * height, scale * width
        samples = np.frombuffer(large.read_bytes()[-6 * height * width :], ">u2")
        return samples.reshape(height, width, 3).transpose(2, 0, 1)[None].astype(np.float32) / 257

    def runtime(self, path, outputs=("output",)):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 2
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        if len(outputs) == 1:
            return lambda x: session.run(outputs, {"input": x})[0]
        return lambda x: session.run(outputs, {"input": x})

    def numpy(self, path):
        session = ReferenceEvaluator(str(path), new_ops=[ElanLFE, ElanGMSA])
        return lambda x: session.run(["output"], {"input": x})[0]

    def compare(self, name, run, cases, bar, measure=np.max):
        worst = 0.0
        for x, expected in cases:
            found = run(x)
            worst = max(worst, float(measure(np.abs(found - expected))) if found.shape == expected.shape else np.inf)
            self.compared += 1
        good = worst <= bar
        self.failures += not good
        kind = "at most" if measure is np.max else "in the mean at most"
        print(f"{'ok' if good else 'FAILED'}  {name}: {len(cases)} pictures, {kind} {worst:.2g} off, bar {bar:g}", flush=True)

    def whole(self, model):
        """Every form of one shipped model."""
        file, cases = ROOT / "models" / f"{model}.safetensors", Golden(model).cases
        for precision, bar in BARS.items():
            name = f"{model}_{precision}"
            run = self.runtime(self.export(file, name, "-p", precision))
            self.compare(name, run, list(cases.values()), bar)
            x, y = cases["17x30"]
            batch = (np.concatenate([x, x[..., ::-1], x]), np.concatenate([y, run(x[..., ::-1].copy()), y]))
            self.compare(f"{name}, batch of 3", run, [batch], bar)
            for size in FIXED.get(model, []):
                height, width = size.split("x")
                name = f"{model}_{precision}_{size}"
                path = self.export(file, name, "-p", precision, "--size", f"{width}x{height}")
                self.compare(name, self.runtime(path), [cases[size]], bar)
            if (model, precision) == ("elan_light_x4", "fp16"):
                # ONNX Runtime computes halves in FP32; here every node's result is rounded.
                run = self.numpy(self.folder / f"{model}_fp16.onnx")
                self.compare(f"{model}_fp16, every node rounded", run, [cases["17x30"]], bar)
        if "16x16" in cases:
            for name, flags in (("any", []), ("16x16", ["--size", "16x16"])):
                path = self.export(file, f"{model}_outside_{name}", "--padding", "outside", *flags)
                self.compare(f"{model}, padded outside, {name}", self.runtime(path), [cases["16x16"]], BARS["fp32"])
        path = self.export(file, f"{model}_plugins", "--plugins")
        self.compare(f"{model}, plugin nodes in numpy", self.numpy(path), [cases["1x1"], cases["17x30"]], BARS["fp32"])

    def eight_bits(self, model):
        """A quantised model; the pictures are those of the model it was made from."""
        file, cases = ROOT / "models" / f"{model}.safetensors", Golden(model.replace("_int8", "")).cases
        pictures = [cases[size][0] for size in SIZES_8_BITS if size in cases]
        expected = [(x, self.upscale(file, x, int(model[-1]))) for x in pictures]
        clamped = lambda run: lambda x: np.clip(run(x), 0, 255)
        for precision, bar in MEAN_BARS.items():
            if precision == "fp8" and model != "elan_light_int8_x4":
                continue
            name = f"{model}_{precision}"
            path = self.export(file, name, "-p", precision)
            self.compare(name, clamped(self.runtime(path)), expected, bar, np.mean)
            self.stages(f"{name}, first modules", path, EightBits(file, precision), pictures)
            if model == "elan_light_int8_x4":
                path = self.export(file, f"{name}_17x30", "-p", precision, "--size", "30x17")
                one = [pair for pair in expected if pair[0].shape[2:] == (17, 30)]
                self.compare(f"{name}_17x30", clamped(self.runtime(path)), one, bar, np.mean)
        path = self.export(file, f"{model}_plugins", "--plugins")
        self.compare(f"{model}, plugin nodes in numpy", clamped(self.numpy(path)), expected[-2:], MEAN_BARS["int8"], np.mean)
        plan = self.folder / "plan.json"
        plan.write_text(json.dumps(PLAN))
        path = self.export(file, f"{model}_plan", "--plan", plan)
        self.compare(f"{model}, a plan", clamped(self.runtime(path)), expected[-2:], MEAN_BARS["int8"], np.mean)
        path = self.export(file, f"{model}_fp32", "-p", "fp32")
        self.compare(f"{model} in fp32", clamped(self.runtime(path)), expected[-2:], MEAN_BARS["int8"], np.mean)

    def stages(self, name, path, arithmetic, pictures):
        """The first LFE and GMSA against the documented arithmetic, from the graph's own head."""
        graph = onnx.load(path)
        names = ["head", "body.0.lfe.0", "body.0.gmsa.0"]
        for stage in names:
            graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(stage))
        watched = path.with_suffix(".watched.onnx")
        onnx.save(graph, watched)
        run = self.runtime(watched, names)
        found = [run(x) for x in pictures]
        wanted = [arithmetic.first_pair(head[0].astype(np.float64)) for head, *_ in found]
        for i, stage in enumerate(names[1:]):
            given = [(f[i + 1], w[i][None]) for f, w in zip(found, wanted)]
            self.compare(f"{name}, {stage}", lambda x: x, given, STAGE_BAR, np.mean)

    def tuned(self):
        """Half precision with all convolutions in FP32, as a plan."""
        cases = Golden("elan_light_x4").cases
        path = self.export(ROOT / "models/elan_light_x4.safetensors", "tuned", "--plan", ROOT / "plans/convolutions-fp32.json")
        self.compare("elan_light_x4, convolutions in fp32", self.runtime(path), list(cases.values()), BARS["fp16"])

    def general_masks(self):
        """A network whose shifts blend all nine neighbours: ONNX Runtime against the program itself."""
        tensors, metadata = read_safetensors(ROOT / "models/elan_light_x4.safetensors")
        rng = np.random.default_rng(1)
        for name, tensor in tensors.items():
            if name.endswith("shift_conv.weight"):
                noise = rng.uniform(-0.02, 0.02, tensor.shape)
                tensors[name] = (tensor + noise).astype(tensor.dtype)
        file = self.folder / "blended.safetensors"
        write_safetensors(file, tensors, metadata)
        x = Golden("elan_light_x4").cases["17x30"][0]
        expected = self.upscale(file, x)
        run = self.runtime(self.export(file, "blended"))
        clamped = lambda v: np.clip(run(v), 0, 255)
        self.compare("shifts that are not one-hot", clamped, [(x, expected)], 5e-3)  # of 16-bit samples


def main(program):
    print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        checker = Checker(program, pathlib.Path(folder))
        for file in sorted((ROOT / "models").glob("*.safetensors")):
            (checker.eight_bits if "_int8" in file.stem else checker.whole)(file.stem)
        checker.tuned()
        checker.general_masks()
    print(f"{checker.compared} pictures compared, {checker.failures} graphs failed")
    return 1 if checker.failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
