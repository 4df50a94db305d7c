"""Frames of an animation that are parts of a picture: what a screen shows after each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["CLEAR", "KEEP", "RESTORE", "Patch", "compose"]

Array = NDArray[np.uint8]

KEEP, CLEAR, RESTORE = range(3)


class Patch(NamedTuple):
    """What one frame draws, and what becomes of it before the next one."""

    pixels: Array
    """(H, W, 4), straight alpha."""
    left: int
    top: int
    after: int
    """`KEEP` it, `CLEAR` its area, or `RESTORE` what was there before."""
    covers: NDArray[np.bool_] | None = None
    """(H, W): where it replaces what is there, holes included; without, it is laid over it."""


def compose(size: tuple[int, int], patches: Iterable[Patch]) -> Iterator[Array]:
    """Draw the frames as browsers do: on a clear canvas, cut at its edges.

    Args:
        size: width and height.
        patches: what the frames draw, in order.

    Yields:
        (H, W, 4) uint8 with straight alpha: the canvas itself, which the next patch changes.

    Examples:
        >>> import numpy as np
        >>> from colorquant_nn.image_files.compositing import KEEP, Patch, compose
        >>> white = Patch(np.full((1, 1, 4), 255, np.uint8), 1, 0, KEEP)
        >>> [canvas[0, :, 3].tolist() for canvas in compose((3, 1), [white])]
        [[0, 255, 0]]
    """
    width, height = size
    canvas = np.zeros((height, width, 4), np.uint8)
    for patch in patches:
        area = canvas[patch.top :, patch.left :][: len(patch.pixels), : patch.pixels.shape[1]]
        pixels = patch.pixels[: area.shape[0], : area.shape[1]]
        before = area.copy() if patch.after == RESTORE else None
        if patch.covers is not None:
            covers = patch.covers[: area.shape[0], : area.shape[1]]
            np.copyto(area.view(np.uint32), pixels.view(np.uint32), where=covers[..., None])
        elif area.size:
            area[:] = _over(area, pixels)
        yield canvas
        if patch.after == CLEAR:
            area[:] = 0
        elif before is not None:
            area[:] = before


def _over(below: Array, above: Array) -> Array:
    images = (Image.fromarray(np.ascontiguousarray(pixels)) for pixels in (below, above))
    return np.asarray(Image.alpha_composite(*images))
