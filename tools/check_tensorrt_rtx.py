"""Parses and builds exported graphs with TensorRT-RTX, which needs no GPU for that.

    python tools/check_tensorrt_rtx.py PROGRAM [--quick | --full-dynamic]

Builds, for both shipped architectures, FP32 (TF32 off) and FP16, one size and dynamic sizes, padding
inside; light x4 in 8 bits, INT8 and FP8, and with the convolutions in FP32 (plans/). Then tells what
the parser makes of other ways to pad by reflection. Prints a table; the exit status is 1 if a graph of
ours does not build. --quick takes one size alone and not the padding, FP16 of the full model alone.
The full model with dynamic sizes takes longest and is built on request only.
"""

import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import tensorrt_rtx_bindings as trt
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZE = (208, 304)  # height, width of the fixed graphs and the dynamic ones' optimum
SIZES = ((1, 1), SIZE, (512, 512))  # least, best, most


class Collector(trt.ILogger):
    """Keeps errors for the table instead of printing them."""

    def __init__(self):
        super().__init__()
        self.errors = []

    def log(self, severity, message):
        if severity <= trt.ILogger.Severity.ERROR:
            self.errors.append(message.splitlines()[0])


def parse(builder, logger, path):
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    good = parser.parse_from_file(str(path))
    return network if good else None, parser


def build(path):
    """(seconds to parse, seconds to build, engine bytes); raises RuntimeError with the first error."""
    logger = Collector()
    builder = trt.Builder(logger)
    start = time.monotonic()
    network, parser = parse(builder, logger, path)
    if network is None:
        raise RuntimeError(str(parser.get_error(0)))
    parsed = time.monotonic()
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if -1 in tuple(network.get_input(0).shape):
        profile = builder.create_optimization_profile()
        profile.set_shape("input", *((1, 3, *size) for size in SIZES))
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise RuntimeError(logger.errors[0] if logger.errors else "no engine and no error")
    return parsed - start, time.monotonic() - parsed, engine.nbytes


def reflect_graph(path, height, width, kind):
    """Padding alone, [1, 3, height, width] (None: dynamic) to multiples of 16 at the right and bottom.

    constant: Pad with its amounts as an initializer; computed: Pad with amounts from 1-D integers;
    exporter: the same amounts through the 2-D reshape, reversal and transposition that PyTorch's
    TorchScript exporter emits for F.pad; mod: Gather with an index made with Mod.
    """
    nodes, constants = [], {}

    def const(values):
        array = np.array(values, np.int64)
        name = f"c{len(constants)}"
        constants[name] = numpy_helper.from_array(array, name)
        return name

    def node(op, *inputs, **attributes):
        nodes.append(helper.make_node(op, list(inputs), [f"t{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def missing(axis):
        size = node("Gather", node("Shape", "input"), const([axis]))
        padded = node("Mul", node("Div", node("Add", size, const([15])), const([16])), const([16]))
        return size, padded, node("Sub", padded, size)

    if kind == "constant":
        out = node("Pad", "input", const([0, 0, 0, 0, 0, 0, -height % 16, -width % 16]), mode="reflect")
    elif kind == "computed":
        pads = node("Concat", const([0] * 6), missing(2)[2], missing(3)[2], axis=0)
        out = node("Pad", "input", pads, mode="reflect")
    elif kind == "exporter":
        pads = node("Concat", const([0]), missing(3)[2], const([0]), missing(2)[2], const([0] * 4), axis=0)
        pairs = node("Reshape", pads, const([-1, 2]))
        turned = node("Slice", pairs, const([-1]), const([-(2**63) + 1]), const([0]), const([-1]))
        flat = node("Reshape", node("Transpose", turned, perm=[1, 0]), const([-1]))
        out = node("Pad", "input", flat, mode="reflect")
    else:
        out = "input"
        for axis in (2, 3):
            size, padded, _ = missing(axis)
            period = node("Max", node("Mul", node("Sub", size, const([1])), const([2])), const([1]))
            position = node("Range", const(0), node("Squeeze", padded, const([0])), const(1))
            forth = node("Mod", position, period)
            out = node("Gather", out, node("Min", forth, node("Sub", period, forth)), axis=axis)
    nodes[-1].output[0] = "output"
    value = lambda name, *dims: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, *dims])
    inside = value("input", *(d or name for d, name in ((height, "height"), (width, "width"))))
    outside = value("output", *((d + -d % 16 if d else "padded_" + n) for d, n in ((height, "height"), (width, "width"))))
    graph = helper.make_graph(nodes, kind, [inside], [outside], list(constants.values()))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def reflect_story(path):
    """What parser and builder make of each way to pad by reflection."""
    print("\nreflect padding alone, without a network around it:")
    dynamic = (None, None)
    for kind, sides in (("constant", (17, 30)), ("constant", (1, 1)), ("computed", dynamic), ("exporter", dynamic), ("mod", dynamic)):
        reflect_graph(path, *sides, kind)
        name = f"{kind}, " + ("any size" if sides == dynamic else f"{sides[1]}x{sides[0]}")
        try:
            _, built, _ = build(path)
            print(f"  {name:20} builds, {built:.1f} s", flush=True)
        except RuntimeError as error:
            print(f"  {name:20} refused: {error}", flush=True)


def graphs(flags):
    """(model, fixed or dynamic, name, arguments of export) of every graph to build."""
    tuned = ROOT / "plans/convolutions-fp32.json"
    quick = "--quick" in flags
    for model in ("elan_light_x4", "elan_x4"):
        for size in ("fixed", "dynamic"):
            if size == "dynamic" and (quick or (model == "elan_x4" and "--full-dynamic" not in flags)):
                continue
            for precision in ("fp32", "fp16"):
                if not (quick and (model, precision) == ("elan_x4", "fp32")):
                    yield model, size, precision, "-p", precision
    yield "elan_light_x4", "fixed", "plan", "--plan", tuned
    for precision in ("int8", "fp8"):
        yield "elan_light_int8_x4", "fixed", precision, "-p", precision
    if not quick:
        yield "elan_light_int8_x4", "dynamic", "int8", "-p", "int8"


def main(program, *flags):
    print(f"TensorRT-RTX {trt.__version__}; fixed {SIZE[1]}x{SIZE[0]}, dynamic " + " / ".join(f"{w}x{h}" for h, w in SIZES))
    print(f"{'graph':34}{'parse':>9}{'build':>9}{'engine':>10}")
    failures = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "graph.onnx"
        for model, size, name, *arguments in graphs(flags):
            export = [program, "export", ROOT / "models" / f"{model}.safetensors", path, *arguments]
            if size == "fixed":
                export += ["--size", f"{SIZE[1]}x{SIZE[0]}"]
            subprocess.run(export, check=True)
            name = f"{model} {name} {size}"
            try:
                parsed, built, bytes_ = build(path)
                print(f"{name:34}{parsed:7.1f} s{built:7.1f} s{bytes_ / 1e6:7.1f} MB", flush=True)
            except RuntimeError as error:
                failures += 1
                print(f"{name:34} FAILED: {error}", flush=True)
        if "--quick" not in flags:
            reflect_story(path)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{time.monotonic() - began:.0f} s in all, {memory:.0f} MB of memory, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
