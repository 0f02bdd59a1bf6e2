#!/usr/bin/env python3
"""Writes the tables of one device into docs/precision.md: precision_table.py DEVICE FOLDER FILE

FOLDER holds what scripts/precision-table.sh measured. The tables replace what stands between the
lines <!-- tables: DEVICE --> and <!-- end of tables: DEVICE --> of FILE.
"""

import json
import pathlib
import sys


def error(value):
    return "0" if not value else f"{value:.2g}"


def row_name(row):
    return pathlib.Path(row["name"]).stem if "." in row["name"] else row["name"].upper()


def quality_table(report):
    sets = [s["name"] for s in report["datasets"]]
    lines = ["| " + " | ".join([""] + [f"{s} PSNR (dB) / SSIM" for s in sets]
                               + ["mean error", "largest", "off by > 1", "ms a picture", "speedup"]) + " |"]
    lines.append("|---" * (len(sets) + 6) + "|")
    for row in report["rows"]:
        cells = [row_name(row)]
        for data in row["datasets"]:
            cells.append("no HR" if data["ssim"] is None else f"{data['psnr']:.3f} / {data['ssim']:.4f}")
        last = row["datasets"][-1]
        cells += [error(last.get("mean_abs")), error(last.get("max_abs")),
                  f"{100 * last.get('share_off_by_more_than_1', 0):.3g} %",
                  f"{last['ms']:.1f}", f"{last['speedup']:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines, sets[-1]


def random_table(report, folder, prefix):
    lines = ["| | max abs | median abs | mean abs | max rel | median rel | mean rel |",
             "|---|---|---|---|---|---|---|"]
    for row in report["rows"]:
        path = folder / f"{prefix}-random-{pathlib.Path(row['name']).name}.json"
        found = json.loads(path.read_text())["overall"]
        cells = [f"{found[k]:.2e}" for k in
                 ("max_abs", "median_abs", "mean_abs", "max_rel", "median_rel", "mean_rel")]
        lines.append("| " + " | ".join([row_name(row)] + cells) + " |")
    return lines


def tables(device, folder):
    lines = []
    for path in sorted(folder.glob(f"*-{device}-eval.json")):
        report = json.loads(path.read_text())
        quality, last = quality_table(report)
        lines += [f"### {report['model']} on {report['hardware']}", "",
                  f"{report['description']}, commit {report['commit'][:12]}. Errors, times and speedups: {last}, "
                  "against the first row.", ""]
        lines += quality + ["", "On standard-normal input (208x304, seed 1), against FP32; FP32 against FP64:", ""]
        lines += random_table(report, folder, path.name[: -len("-eval.json")]) + [""]
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
