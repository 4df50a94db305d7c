"""One palette for the colours of files, as the options ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from colorquant_nn.cli.options import Drawing, Fitting
from colorquant_nn.cli.ranks import Read, count_files, read_image
from colorquant_nn.functional.fitting import round_to_bytes
from colorquant_nn.functional.histogram import WeightedColors
from colorquant_nn.functional.points import check_kept
from colorquant_nn.image import fit_palette, spatial_palette

__all__ = ["count_for", "fit", "move_for_dots"]


def count_for(
    fitting: Fitting, sources: Sequence[Path], max_pixels: int, read: Read = read_image
) -> tuple[WeightedColors | None, list[Path]]:
    """What `count_files` returns, for a palette that can hold the colours to keep."""
    check_kept(_kept(fitting), fitting.colors)  # before all files are read
    return count_files(sources, max_pixels, read)


def fit(colors: WeightedColors, fitting: Fitting) -> Tensor:
    """One palette for the colours of images, in the 8 bits that files hold."""
    palette = fit_palette(
        colors,
        fitting.colors,
        space=fitting.space,
        effort=fitting.effort,
        keep=_kept(fitting),
        seed=fitting.seed,
        bits=fitting.bits,
    )
    return round_to_bytes(palette)


def move_for_dots(
    palette: Tensor, images: Tensor | Iterable[Tensor], fitting: Fitting, drawing: Drawing
) -> Tensor:
    """The palette that the images' dots ask for, if the dither finds both together."""
    if drawing.dither != "spatial":
        return palette
    return spatial_palette(
        images, palette, strength=drawing.strength, keep=_kept(fitting), bits=fitting.bits
    )


def _kept(fitting: Fitting) -> Tensor | None:
    """The colours to keep, (J, 3), or (J, 4) if one of them is not opaque."""
    if not fitting.keep:
        return None
    rows = torch.tensor([(*color, 255)[:4] for color in fitting.keep], dtype=torch.uint8)
    return rows[:, :3] if bool((rows[:, 3] == 255).all()) else rows
