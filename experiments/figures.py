"""Figures of the experiments, drawn off screen: image grids and curves."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from colorquant_nn.functional import metrics

# Hues that stay apart for the colour-blind (Wong, Points of view: color blindness, 2011), and grey.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"


def image_grid(columns: Mapping[str, Tensor], palette: Tensor | None = None) -> Image.Image:
    """Images side by side, a row per image, each with its error against the first column.

    Args:
        columns: By caption, tensors ``(B, 3, H, W)`` in [0, 1]; the first are the originals.
        palette: ``(K, 3)``, drawn below as a strip.

    Returns:
        The picture.
    """
    captions, images = list(columns), [x.detach().float().clamp(0, 1) for x in columns.values()]
    rows, height, width = len(images[0]), *images[0].shape[-2:]
    cell = 2.3  # inches
    strip = 0.0 if palette is None else 0.45
    figure = Figure(
        figsize=(cell * len(images), (cell * height / width + 0.2) * rows + 0.35 + strip),
        layout="constrained",
    )
    heights = [1.0] * rows + ([] if palette is None else [strip / (cell * height / width)])
    grid = figure.add_gridspec(len(heights), len(images), height_ratios=heights)
    for column, (caption, batch) in enumerate(zip(captions, images, strict=True)):
        for row in range(rows):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(batch[row].movedim(0, -1).cpu().numpy(), interpolation="nearest")
            _hide(axes)
            if row == 0:
                axes.set_title(caption, fontsize=10)
            if column > 0:
                axes.set_xlabel(_error(images[0][row], batch[row]), fontsize=8)
    if palette is not None:
        axes = figure.add_subplot(grid[rows, :])
        axes.imshow(palette.detach().float().clamp(0, 1).cpu().numpy()[None], aspect="auto")
        _hide(axes)
        axes.set_xlabel(f"the palette: {len(palette)} colours", fontsize=8)
    return as_picture(figure)


def error_curve(
    steps: Sequence[tuple[int, float]],
    epochs: Sequence[tuple[int, float]],
    references: Mapping[str, float],
) -> Image.Image:
    """The MSE over a run: of training batches, of the validation, and of full k-means.

    Args:
        steps: Of training batches: the step and the MSE.
        epochs: Of validation: the step and the MSE.
        references: MSE of full k-means by stage, ``"train"`` or ``"val"``.

    Returns:
        The picture.
    """
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    names = {"train": "training", "val": "validation"}
    colors = {"train": BLUE, "val": ORANGE}
    if steps:
        axes.plot(*zip(*steps, strict=True), color=BLUE, linewidth=1, label="training batches")
    if epochs:
        axes.plot(
            *zip(*epochs, strict=True), color=ORANGE, marker="o", markersize=4, label="validation"
        )
    for stage, mse in references.items():
        axes.axhline(
            mse,
            color=colors[stage],
            linestyle="--",
            linewidth=1,
            label=f"full k-means, {names[stage]} pixels",
        )
    axes.set_xlabel("step")
    axes.set_ylabel("MSE")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return as_picture(figure)


def as_picture(figure: Figure, dpi: int = 120) -> Image.Image:
    """A figure's pixels."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _error(image: Tensor, other: Tensor) -> str:
    mse, psnr = metrics.mse(image, other).item(), metrics.psnr(image, other).item()
    return f"MSE {mse:.5f}, {psnr:.2f} dB"


def _hide(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
