#!/usr/bin/env python3
"""Draws what elan-sr measured: plot.py REPORT.json... -o FOLDER

Each report makes the pictures that its content allows:
  elan-sr compare --stages --json   NAME-stages.png       error along the network
  elan-sr compare --map --json      NAME-map-PICTURE.png  where in a picture the errors are
  elan-sr tune --report             NAME-sensitivity.png  each operation's own error, sorted and
                                                          along the network
  elan-sr eval --rows ... --json    NAME-speed.png        time against PSNR
Needs tools/requirements-plot.txt.
"""

import argparse
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402


def save(figure, path):
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
    print(path)


def title_of(run):
    return f"{run.get('model', run.get('file', '?'))}, {run.get('precision', 'stored')}"


def draw_stages(report, path):
    stages = report["stages"]
    x = np.arange(len(stages))
    figure, axes = plt.subplots(figsize=(max(8, len(stages) * 0.12), 4.5))
    axes.semilogy(x, [s["relative_norm"] or np.nan for s in stages], ".-", label="|error| / |reference|")
    axes.semilogy(x, [s["mean_abs"] or np.nan for s in stages], ".-", label="mean absolute error")
    step = max(1, len(stages) // 40)
    axes.set_xticks(x[::step], [s["stage"] for s in stages][::step], rotation=90, fontsize=6)
    axes.set_title(f"{title_of(report['run'])} against {title_of(report['reference'])}")
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)


def draw_map(report, picture, path):
    grid = picture["map"]
    values = np.array([np.nan if v is None else v for v in grid["mean_abs"]])
    values = values.reshape(grid["rows"], grid["columns"])
    source = pathlib.Path(picture["path"])
    shown = source.is_file() and picture["path"]
    figure, axes = plt.subplots(1, 2 if shown else 1, figsize=(10 if shown else 6, 4.5), squeeze=False)
    if shown:
        axes[0][0].imshow(plt.imread(source))
        axes[0][0].set_title(picture["name"])
    heat = axes[0][-1].imshow(values, cmap="inferno", vmin=0)
    axes[0][-1].set_title(f"mean error, cells of {grid['cell']} pixels")
    figure.colorbar(heat, ax=axes[0][-1], label="levels of 0..255", fraction=0.046)
    for one in axes[0]:
        one.set_xticks([])
        one.set_yticks([])
    figure.suptitle(f"{title_of(report['run'])} against {title_of(report['reference'])}")
    save(figure, path)


def kind_of(name):
    return ".".join(part for part in name.split(".") if not part.isdigit())


def draw_sensitivity(report, path):
    parts = report["parts"]
    precisions = sorted({o["precision"] for p in parts for o in p["options"][1:]})
    # What a precision does not change (a device computes it more exactly) is left out.
    kinds = sorted({kind_of(p["name"]) for p in parts if any(o["error"] > 0 for o in p["options"])})
    colours = dict(zip(kinds, plt.cm.tab20(np.linspace(0, 1, len(kinds)))))
    figure, axes = plt.subplots(2, len(precisions), figsize=(7 * len(precisions), 8), squeeze=False)
    for column, precision in enumerate(precisions):
        found = [(p["name"], o["error"]) for p in parts for o in p["options"][1:]
                 if o["precision"] == precision and o["error"] > 0]
        for row, ordered in enumerate((sorted(found, key=lambda f: -f[1]), found)):
            axis = axes[row][column]
            axis.bar(range(len(ordered)), [e for _, e in ordered], width=1,
                     color=[colours[kind_of(n)] for n, _ in ordered])
            axis.set_yscale("log")
            axis.set_title(f"{precision}: " + ("sorted" if row == 0 else "along the network"))
            axis.set_ylabel("mean absolute error of the result")
            axis.grid(axis="y", alpha=0.3)
            blocks = [".".join(n.split(".")[:2]) for n, _ in ordered]
            begins = [i for i, b in enumerate(blocks) if i == 0 or b != blocks[i - 1]] if row == 1 else []
            axis.set_xticks(begins, [blocks[i] for i in begins], rotation=90, fontsize=6)
    handles = [plt.Rectangle((0, 0), 1, 1, color=colours[k]) for k in kinds]
    figure.legend(handles, kinds, loc="lower center", ncol=min(4, len(kinds)), fontsize=8)
    figure.suptitle(f"{report['run']['model']} on {report['run']['device']}: each operation alone")
    figure.subplots_adjust(top=0.92, bottom=0.16)
    save(figure, path)


def draw_speed(report, path):
    sets = [s for s in report["rows"][0]["datasets"] if s["psnr"] is not None]
    if not sets:
        return False
    figure, axes = plt.subplots(1, len(sets), figsize=(6 * len(sets), 4.5), squeeze=False)
    for index, data in enumerate(sets):
        axis = axes[0][index]
        for row in report["rows"]:
            point = next(s for s in row["datasets"] if s["name"] == data["name"])
            axis.plot(point["ms"], point["psnr"], "o")
            axis.annotate(pathlib.Path(row["name"]).stem, (point["ms"], point["psnr"]),
                          textcoords="offset points", xytext=(5, 4), fontsize=8)
        axis.margins(x=0.2, y=0.1)  # the names stand to the right of their points
        axis.set_xlabel("ms a picture")
        axis.set_ylabel("PSNR (dB)")
        axis.set_title(f"{report['model']}, {data['name']} ({data['count']})")
        axis.grid(alpha=0.3)
    save(figure, path)
    return True


def draw(path, folder):
    report = json.loads(path.read_text())
    drawn = False
    if report.get("stages"):
        draw_stages(report, folder / f"{path.stem}-stages.png")
        drawn = True
    for picture in report.get("pictures", []):
        if "map" in picture:
            name = "".join(c if c.isalnum() or c in "-_" else "_" for c in picture["name"])
            draw_map(report, picture, folder / f"{path.stem}-map-{name}.png")
            drawn = True
    if "parts" in report:
        draw_sensitivity(report, folder / f"{path.stem}-sensitivity.png")
        drawn = True
    if "rows" in report:
        drawn = draw_speed(report, folder / f"{path.stem}-speed.png") or drawn
    if not drawn:
        print(f"{path}: expected stages, maps, parts or rows with PSNR, found none", file=sys.stderr)
    return drawn


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=pathlib.Path)
    parser.add_argument("-o", "--output", type=pathlib.Path, default=pathlib.Path("."))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    return 0 if all([draw(path, arguments.output) for path in arguments.reports]) else 1


if __name__ == "__main__":
    sys.exit(main())
