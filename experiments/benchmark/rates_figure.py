"""Bytes against SSIMULACRA2: a point is a setting, its mean over the pictures of a kind."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image

from experiments.benchmark.runner import Row
from experiments.benchmark.suites import bytes as suite
from experiments.figures import BLUE, GREEN, GREY, ORANGE, as_picture

LIGHT = "#999999"
LEFT, RIGHT, ABOVE, BELOW = (-6, -3), (6, -4), (0, 7), (0, -15)
LINES = {  # name, colour, style; at which of its points the name stands, and where
    suite.LOSSY: ("ours, lossy", BLUE, "o-", 0.5, LEFT),
    suite.NONE: ("ours", BLUE, "o--", 1, LEFT),
    suite.PNGQUANT: ("pngquant", ORANGE, "s-", 1, RIGHT),
    suite.PNGQUANT_NOFS: ("pngquant --nofs", ORANGE, "s--", 0, LEFT),
    suite.PILLOW: ("Pillow", GREEN, "^-", 1, RIGHT),
    suite.JPEG: ("JPEG", LIGHT, ".:", 0, RIGHT),
    suite.WEBP: ("WebP", GREY, ".:", 1, LEFT),
    suite.WEBP_LOSSLESS: ("WebP, lossless", GREY, "D", 0, ABOVE),
    suite.PNG: ("PNG, all colours", GREY, "D", 0, BELOW),
}
LEAST = -20  # SSIMULACRA2 below which nothing is drawn


def draw(rows: Sequence[Row]) -> Image.Image | None:
    """A panel for photographs and one for drawings, each of the methods that drew all of them.

    Over the pictures, the bytes of a setting are averaged geometrically and SSIMULACRA2
    arithmetically; nothing is interpolated.

    Args:
        rows: of the suite; those that were skipped are left out.

    Returns:
        The picture; None without a judge.
    """
    done = [row for row in rows if "ssimulacra2" in row]
    kinds = [kind for kind in ("photographs", "drawings") if any(r["kind"] == kind for r in done)]
    if not kinds:
        return None
    figure = Figure(figsize=(5.4 * len(kinds), 4.6), layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        mine = [row for row in done if row["kind"] == kind]
        pictures = {row["picture"] for row in mine}
        axes.set_xscale("log")
        for method in LINES:
            curves = [row for row in mine if row["method"] == method]
            if len(curves) == len(pictures):
                _line(axes, curves, *LINES[method])
        axes.margins(x=0.18, y=0.08)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda size, _: f"{size:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(title=f"{len(pictures)} {kind}", xlabel="kilobytes", ylabel="SSIMULACRA2")
        axes.set_ylim(bottom=max(LEAST, axes.get_ylim()[0]))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return as_picture(figure, dpi=150)


def _line(
    axes: Axes,
    curves: Sequence[Row],
    name: str,
    color: str,
    style: str,
    at: float,
    beside: tuple[float, float],
) -> None:
    sizes = [
        math.exp(sum(math.log(size / 1000) for size in sizes) / len(sizes))
        for sizes in zip(*(row["bytes"] for row in curves), strict=True)
    ]
    liked = [
        sum(verdicts) / len(verdicts)
        for verdicts in zip(*(row["ssimulacra2"] for row in curves), strict=True)
    ]
    shown = sorted(point for point in zip(sizes, liked, strict=True) if point[1] >= LEAST)
    if not shown:
        return
    axes.plot(*zip(*shown, strict=True), style, color=color, markersize=4, linewidth=1.6)
    place = shown[round(at * (len(shown) - 1))]
    side = "right" if beside == LEFT else "left" if beside == RIGHT else "center"
    how = {"color": color, "fontsize": 9, "ha": side, "textcoords": "offset points"}
    axes.annotate(name, place, beside, **how)  # type: ignore[arg-type]
