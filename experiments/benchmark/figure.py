"""The picture of the benchmark: speed-ups, palettes, and growth."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from experiments.benchmark.runner import Row
from experiments.benchmark.suites.assign import MATMUL
from experiments.benchmark.suites.curves import ASSIGN, LAYER
from experiments.benchmark.suites.images import ONE_START
from experiments.figures import BLUE, GREY, ORANGE, as_picture

COLORS = 256  # of the panel of palettes
CURVES = {LAYER: (BLUE, "o-"), ASSIGN: (BLUE, "s--"), MATMUL: (ORANGE, "^-")}
SHORT = {
    "scikit-learn KMeans, best of 10, unique colours": "scikit-learn, best of 10",
    "training step, steady state, ": "train ",
    "training step of a network, ": "",
    "k-means of each image, ": "k-means of each of ",
    "chunked torch ": "chunked ",
    ", image by image": "",
    ", its Lloyd step alone": "",
    ".search, k=1": "",
    " x 3 x ": "×3×",
    " x ": "×",
    "assign 1,000,000 points": "assign 1 M",
    "1 weighted Lloyd step, 100,000 colours": "Lloyd step 100 k",
    "vector-quantize-pytorch": "vs vector-quantize-pytorch",
}


def draw(rows: Sequence[Row]) -> Image.Image | None:
    """Four panels of the rows that were not skipped; what was not run stays empty; None: all do."""
    done = [row for row in rows if "skipped" not in row]
    figure = Figure(figsize=(12.5, 9), layout="constrained")
    panels = figure.subplots(2, 2)
    _speedups(panels[0, 0], done)
    _palettes(panels[0, 1], [row for row in done if row["suite"] == "images"])
    curves = [row for row in done if row["suite"] == "curves"]
    _curves(panels[1, 0], [row for row in curves if row["over"] == "pixels"], "points", "pixels")
    _curves(panels[1, 1], [row for row in curves if row["over"] == "colours"], "colors", "colours")
    if not any(axes.has_data() for axes in panels.flat):
        return None
    for axes in panels.flat:
        if not axes.has_data():
            axes.set(xscale="linear", yscale="linear")  # an empty logarithmic axis is an error
        axes.spines[["top", "right"]].set_visible(False)
    return as_picture(figure)


def _speedups(axes: Axes, rows: Sequence[Row]) -> None:
    first: dict[tuple[str, str], float] = {}
    for row in rows:
        first.setdefault((row["suite"], row["case"]), row["seconds"])
    bars = [row for row in rows if (row.get("target") or 0) > 1]
    ratios = [row["seconds"] / first[row["suite"], row["case"]] for row in bars]
    places = range(len(bars))
    if not bars:
        return
    axes.barh(places, ratios, height=0.62, color=BLUE)
    axes.plot([row["target"] for row in bars], places, "|", color=ORANGE, ms=16, mew=2.5)
    for place, ratio in zip(places, ratios, strict=True):
        axes.annotate(
            f"{ratio:.3g} ×", (ratio, place), (4, -3), textcoords="offset points", fontsize=8
        )
    names = [_short(f"{row['case']}\n{row['method']}") for row in bars]
    axes.set_yticks(places, names, fontsize=7.5)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(1, max([10, *ratios]) * 2)
    axes.set_title("Times faster than a peer (orange: the target)", fontsize=11)


def _short(name: str) -> str:
    for long, short in SHORT.items():
        name = name.replace(long, short)
    return name


def _palettes(axes: Axes, rows: Sequence[Row]) -> None:
    errors: dict[str, list[float]] = {}
    times: dict[str, list[float]] = {}
    rival = {r["case"]: r["mse"] for r in rows if r["method"] == ONE_START}
    for row in rows:
        if row["colors"] == COLORS and row["case"] in rival:
            errors.setdefault(row["method"], []).append(row["mse"] / rival[row["case"]])
            times.setdefault(row["method"], []).append(row["seconds"])
    if not errors:
        return
    methods = sorted(errors, key=lambda method: sum(times[method]) / len(times[method]))
    for place, method in enumerate(methods):
        seconds = sum(times[method]) / len(times[method])
        error = sum(errors[method]) / len(errors[method])
        axes.barh(place, seconds, color=BLUE if method.startswith("ours") else ORANGE)
        axes.annotate(
            f"{error:.3f}", (seconds, place), (4, -3), textcoords="offset points", fontsize=8
        )
    axes.set_yticks(range(len(methods)), [_short(name) for name in methods], fontsize=7.5)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.01, 40)
    axes.set_xlabel("seconds a picture")
    axes.set_title(f"Photographs, K={COLORS}: time and relative error", fontsize=11)


def _curves(axes: Axes, rows: Sequence[Row], key: str, name: str) -> None:
    for method, (color, style) in CURVES.items():
        mine = [row for row in rows if row["method"] == method]
        x, y = [row[key] for row in mine], [row["seconds"] * 1000 for row in mine]
        if not mine:
            continue
        axes.plot(x, y, style, color=color, markersize=4, label=method)
        if method in (ASSIGN, MATMUL):
            ends = (x[0], x[-1])
            line = [y[-1] * end / x[-1] for end in ends]
            label = "proportional" if method == ASSIGN else None
            axes.plot(ends, line, ":", color=GREY, linewidth=1, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel(name)
    axes.set_ylabel("milliseconds")
    fixed = "K=256" if key == "points" else "1024 × 1024 pixels"
    axes.set_title(f"Cost over {name}, {fixed}", fontsize=11)
    if rows:
        axes.legend(frameon=False, fontsize=8)
