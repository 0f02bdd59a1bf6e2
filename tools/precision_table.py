#!/usr/bin/env python3
"""Writes the tables of one device into docs/precision.md: precision_table.py DEVICE FOLDER FILE

FOLDER holds what scripts/precision-table.sh measured. The tables replace what stands between the
lines <!-- tables: DEVICE --> and <!-- end of tables: DEVICE --> of FILE.
"""

import json
import pathlib
import re
import sys

RANDOM = ("max_abs", "median_abs", "mean_abs", "max_rel", "median_rel", "mean_rel")

# Earlier work with TensorRT 8.4 on an A10, ELAN x4, against PyTorch, in the same columns.
EARLIER = {"elan_x4": [
    ("ONNX Runtime", (0.0345, 0.00082, 0.0010, 70, 0.0009, 0.0057)),
    ("TensorRT 8.4, FP32", (0.067, 0.0021, 0.0026, 148, 0.0023, 0.0141)),
    ("TensorRT 8.4, TF32", (0.046, 0.0018, 0.0022, 153, 0.0020, 0.0125)),
    ("TensorRT 8.4, FP16", (0.84, 0.116, 0.137, 5570, 0.127, 0.787)),
    ("TensorRT 8.4, tuned FP16", (0.27, 0.028, 0.024, 1141, 0.023, 0.148)),
]}


def error(value):
    return "0" if not value else f"{value:.2g}"


def row_name(row):
    name = pathlib.Path(row["name"]).name
    if name.endswith(".safetensors@int8"):
        how = row.get("quantization") or ""  # what the file says of itself
        return ("INT8, trained (QAT)" if how.startswith("by training")
                else "INT8, calibrated (PTQ)" if how.startswith("post-training") else "INT8")
    return pathlib.Path(name).stem if "." in name else name.upper()


def load(path):
    return json.loads(path.read_text()) if path.exists() and path.stat().st_size else None


def torch_times(folder, device, model, size):
    """PyTorch's times of one picture of this size: FP32 eager, and the best of all; or None."""
    report = load(folder / f"torch-{device}.json")
    times = {t["kind"]: t["ms"] for t in (report or {"times": []})["times"]
             if t["model"] == model and (t["width"], t["height"]) == size and t["ms"]}
    return (times["eager fp32"], min(times.values()), report["torch"]) if "eager fp32" in times else None


def quality_table(report, benches, torch):
    sets = [s["name"] for s in report["datasets"]]
    columns = [f"{s} PSNR (dB) / SSIM" for s in sets] + ["mean error", "largest", "off by > 1", "ms a picture", "speedup"]
    size = next((f"{b['width']}x{b['height']}" for b in benches if b), None)
    if size:
        columns.append(f"ms, {size}")
    if torch:
        columns += ["x PyTorch FP32", "x PyTorch's best"]
    lines = ["| " + " | ".join([""] + columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row, bench in zip(report["rows"], benches):
        cells = [row_name(row)]
        for data in row["datasets"]:
            cells.append("no HR" if data["ssim"] is None else f"{data['psnr']:.3f} / {data['ssim']:.4f}")
        last = row["datasets"][-1]
        cells += [error(last.get("mean_abs")), error(last.get("max_abs")),
                  f"{100 * last.get('share_off_by_more_than_1', 0):.3g} %",
                  f"{last['ms']:.1f}", f"{last['speedup']:.2f}"]
        if size:
            cells.append(f"{bench['median_ms']:.2f}" if bench else "not measured")
        if torch:
            cells += [f"{ms / bench['median_ms']:.1f}" if bench else "not measured" for ms in torch[:2]]
        lines.append("| " + " | ".join(cells) + " |")
    return lines, sets[-1]


def random_table(report, found, model):
    lines = ["| | max abs | median abs | mean abs | max rel | median rel | mean rel |",
             "|---|---|---|---|---|---|---|"]
    for name, values in EARLIER.get(model, []):
        lines.append(f"| *{name}* | " + " | ".join(f"{v:.2e}" for v in values) + " |")
    for row, one in zip(report["rows"], found):
        cells = [f"{one['overall'][k]:.2e}" for k in RANDOM] if one else ["not measured"] * 6
        lines.append("| " + " | ".join([row_name(row)] + cells) + " |")
    return lines


def tables(device, folder):
    lines = []
    on_gpu = device.startswith("cuda")
    places = (" host to host", " device to device") if on_gpu else ("", "")
    for path in sorted(folder.glob(f"*-{device}-eval.json")):
        report = json.loads(path.read_text())
        prefix = path.name[: -len("-eval.json")]
        model = prefix[: -len(device) - 1]
        files = [f"{prefix}-{pathlib.Path(row['name']).name}" for row in report["rows"]]
        benches = [load(folder / f"{file}-bench.json") for file in files]
        size = next(((b["width"], b["height"]) for b in benches if b), None)
        torch = torch_times(folder, device, model, size)
        quality, last = quality_table(report, benches, torch)
        gpu = re.search(r"\((NVIDIA [^,]+)", report["description"])
        lines += [f"### {report['model']} on {gpu[1] if gpu else report['hardware']}", "",
                  f"{report['description']}, commit {report['commit'][:12]}. Errors, times and speedups: {last}, "
                  "against the first row" + (f"; single pictures{places[0]}, PyTorch {torch[2]}{places[1]}, FP32 eager "
                  f"{torch[0]:.1f} ms, its best {torch[1]:.1f} ms." if torch else "."), ""]
        what = "against the CPU's FP32" if on_gpu else "against FP32; FP32 against FP64"
        lines += quality + ["", f"On standard-normal input (208x304, seed 1), {what}"
                            + ("; in italics earlier work, on an A10 against PyTorch:" if model in EARLIER else ":"), ""]
        lines += random_table(report, [load(folder / f"{file}-random.json") for file in files], model) + [""]
    return "\n".join(lines)


def main():
    device, folder, document = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    begin, end = f"<!-- tables: {device} -->", f"<!-- end of tables: {device} -->"
    text = document.read_text()
    if begin not in text or end not in text:
        sys.exit(f"{document}: expected the lines {begin} and {end}")
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    document.write_text(before + begin + "\n\n" + tables(device, folder) + "\n" + end + after)


if __name__ == "__main__":
    main()
