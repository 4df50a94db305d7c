"""Dithering: which palette index each pixel gets, so that neighbours mix to its colour.

Every function has one signature, ``dither(points, centroids, strength, opaque) -> indices``, and
works in the space that the points are in. With alpha (C = 4), colours are premultiplied. Then no
dither moves an outline: which pixels are clear is decided without errors, as `nearest` does, and
these pass nothing on and take nothing; opaque pixels mix opaque centroids if there are any, and
take no error of alpha.

Letters: H rows, W columns, K centroids, C channels (3 or 4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.opacity import CLEAR, OPAQUE, SOFT, assign, opacity, round_opacity
from colorquant_nn.functional.points import check_strength

__all__ = ["DITHERS", "Dither", "atkinson", "floyd_steinberg", "nearest", "ordered"]

Dither = Callable[[Tensor, Tensor, float, float], Tensor]
"""``f(points, centroids, strength, opaque)``: (H, W, C), (K, C), 0 to 1, and the last channel of
what is opaque give (H, W) int64 indices."""

# (pixels ahead, rows down, share of the error)
FLOYD_STEINBERG = ((1, 0, 7 / 16), (-1, 1, 3 / 16), (0, 1, 5 / 16), (1, 1, 1 / 16))
ATKINSON = (
    (1, 0, 1 / 8),
    (2, 0, 1 / 8),
    (-1, 1, 1 / 8),
    (0, 1, 1 / 8),
    (1, 1, 1 / 8),
    (0, 2, 1 / 8),
)

MOST_COMPARED = 2048  # colours whose gaps are measured; a tenth of a second
MATRIX_SIZE = 8
MIXTURE_SIZE = 16  # colours in a pixel's mixture; 64 cost four times as much and look alike
# Share of the error that a mixture carries on. With less than all of it, it prefers near
# colours: over photographs 15 % less noise for 3 % more error of the local mean than with 1.
MIXTURE_SHARE = 0.7


def nearest(
    points: Tensor, centroids: Tensor, strength: float = 1.0, opaque: float = 1.0
) -> Tensor:
    """No dither: each pixel gets its nearest centroid.

    Args:
        points: (H, W, C); with alpha, see `colorquant_nn.functional.opacity.assign`.
        centroids: (K, C).
        strength: not used.
        opaque: the last of four channels where a pixel is opaque.

    Returns:
        (H, W) int64.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.dither import nearest
        >>> nearest(torch.full((1, 2, 3), 0.4), torch.tensor([[0.0] * 3, [1.0] * 3]))
        tensor([[0, 0]])
    """
    flat = points.flatten(0, 1)
    if points.shape[2] == 4:
        indices = assign(kernels.sanitize(flat, clamp=False), centroids, opaque)
    else:
        indices = kernels.assign(flat[None], centroids[None])
    return indices.view(points.shape[:2])


def floyd_steinberg(
    points: Tensor, centroids: Tensor, strength: float = 1.0, opaque: float = 1.0
) -> Tensor:
    """Error diffusion to four neighbours; keeps the local mean.

    Rows alternate in direction. Where no mixture of the palette reaches a colour, its error is
    cut to the longest gap of the palette: else it would pile up and smear over the edges.

    Args:
        points: (H, W, 3) or (H, W, 4).
        centroids: (K, C).
        strength: share of the error that is passed on, 0 to 1; 0 is `nearest`.
        opaque: the last of four channels where a pixel is opaque.

    Returns:
        (H, W) int64.

    Raises:
        ValueError: for another shape, or another strength.

    References:
        Floyd and Steinberg 1976, "An adaptive algorithm for spatial greyscale".

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.dither import floyd_steinberg
        >>> black_and_white = torch.tensor([[0.0] * 3, [1.0] * 3])
        >>> white = floyd_steinberg(torch.full((64, 64, 3), 0.25), black_and_white).sum()
        >>> 0.24 < white / 64**2 < 0.26
        tensor(True)
    """
    return _diffuse(points, centroids, strength, opaque, FLOYD_STEINBERG)


def atkinson(
    points: Tensor, centroids: Tensor, strength: float = 1.0, opaque: float = 1.0
) -> Tensor:
    """Error diffusion of three quarters of the error to six neighbours.

    What is not passed on clears the darkest and lightest parts and raises contrast.

    Args:
        points: (H, W, 3) or (H, W, 4).
        centroids: (K, C).
        strength: share of the error that is passed on, 0 to 1; 0 is `nearest`.
        opaque: the last of four channels where a pixel is opaque.

    Returns:
        (H, W) int64.

    Raises:
        ValueError: for another shape, or another strength.

    References:
        Atkinson's dither of the Macintosh, 1984: https://beyondloom.com/blog/dither.html.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.dither import atkinson
        >>> atkinson(torch.full((4, 4, 3), 0.9), torch.tensor([[0.0] * 3, [1.0] * 3])).unique()
        tensor([1])
    """
    return _diffuse(points, centroids, strength, opaque, ATKINSON)


def ordered(
    points: Tensor, centroids: Tensor, strength: float = 1.0, opaque: float = 1.0
) -> Tensor:
    """Ordered dither for any palette: a pixel depends on its colour and place alone.

    For each colour a mixture of palette colours is found by passing on the error within the
    mixture; an 8 x 8 Bayer matrix says which of them a place shows, along the palette's principal
    axis.

    Args:
        points: (H, W, 3) or (H, W, 4).
        centroids: (K, C).
        strength: share of the error that is passed on, 0 to 1; 0 is `nearest`.
        opaque: the last of four channels where a pixel is opaque.

    Returns:
        (H, W) int64.

    Raises:
        ValueError: for another shape, or another strength.

    References:
        Knoll 1999, "Pattern dithering", US patent 6606166 (expired); Yliluoma, "Arbitrary-palette
        positional dithering", https://bisqwit.iki.fi/story/howto/dither/jy/.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.dither import ordered
        >>> black_and_white = torch.tensor([[0.0] * 3, [1.0] * 3])
        >>> ordered(torch.full((2, 4, 3), 0.5), black_and_white)
        tensor([[0, 1, 0, 1],
                [1, 0, 1, 0]])
    """
    problem = _prepare(points, centroids, strength, opaque)
    if problem is None:
        return nearest(points, centroids, strength, opaque)
    thresholds = torch.from_numpy(bayer_matrix(MATRIX_SIZE) * MIXTURE_SIZE // MATRIX_SIZE**2)
    indices = kernels.mix(
        problem.pixels,
        problem.kinds,
        problem.colors,
        thresholds.to(points.device),
        _along_principal_axis(problem.colors).to(points.device),
        MIXTURE_SIZE,
        strength * MIXTURE_SHARE,
        problem.limits,
    )
    return problem.finish(indices)


DITHERS: dict[str, Dither] = {
    "none": nearest,
    "ordered": ordered,
    "floyd-steinberg": floyd_steinberg,
    "atkinson": atkinson,
}
"""Dithers by the name that `colorquant_nn.apply_palette` and the command know them by."""


def bayer_matrix(size: int) -> NDArray[np.int64]:
    """Thresholds 0 to size² - 1, spread as evenly as can be; size is a power of two.

    Args:
        size: S.

    Returns:
        (S, S) int64.

    References:
        Bayer 1973, "An optimum method for two-level rendition of continuous-tone pictures".

    Examples:
        >>> from colorquant_nn.functional.dither import bayer_matrix
        >>> bayer_matrix(2)
        array([[0, 2],
               [3, 1]])
    """
    matrix = np.zeros((1, 1), np.int64)
    while len(matrix) < size:
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    return matrix


def _diffuse(
    points: Tensor,
    centroids: Tensor,
    strength: float,
    opaque: float,
    targets: tuple[tuple[int, int, float], ...],
) -> Tensor:
    problem = _prepare(points, centroids, strength, opaque)
    if problem is None:
        return nearest(points, centroids, strength, opaque)
    steps = torch.tensor([target[:2] for target in targets], device=points.device)
    shares = [target[2] for target in targets]
    indices = kernels.diffuse(
        problem.pixels,
        problem.kinds,
        problem.colors,
        steps,
        torch.tensor(shares, dtype=torch.float32, device=points.device),
        strength,
        problem.limits,
    )
    return problem.finish(indices)


class _Problem(NamedTuple):
    """What a dither has to do, in the terms of the kernels."""

    pixels: Tensor
    """(H, W, C) float32."""
    colors: Tensor
    """(K', C) float32, those that are not clear."""
    limits: list[float]
    """The longest errors, of soft pixels (or all of them) and of opaque ones."""
    kinds: Tensor | None = None
    """(H, W) uint8, see `colorquant_nn.kernels.diffuse`."""
    rows: Tensor | None = None
    """(K',) int64, the colours' places in the palette."""
    clear: Tensor | None = None
    """(H, W) int64, the indices of the pixels that are left out."""

    def finish(self, indices: Tensor) -> Tensor:
        """Indices of the palette, those of the pixels that were left out, too."""
        if self.kinds is None or self.rows is None or self.clear is None:
            return indices
        return torch.where(self.kinds == 0, self.clear, self.rows[indices])


def _prepare(points: Tensor, centroids: Tensor, strength: float, opaque: float) -> _Problem | None:
    """The problem in float32; None: no dither."""
    if points.ndim != 3 or points.shape[-1] not in (3, 4):
        raise ValueError(
            f"expected points of shape (H, W, 3) or (H, W, 4), got {tuple(points.shape)}"
        )
    if centroids.ndim != 2 or centroids.shape[-1] != points.shape[-1] or len(centroids) == 0:
        raise ValueError(
            f"expected centroids of shape (K, {points.shape[-1]}), got {tuple(centroids.shape)}"
        )
    check_strength(strength)
    if strength == 0 or len(centroids) == 1 or points.numel() == 0:
        return None
    if not points.is_floating_point():
        points = points / 255
    pixels, colors = points.detach().to(torch.float32), centroids.detach().to(torch.float32)
    if not torch.isfinite(pixels.sum()):
        pixels = pixels.nan_to_num(0.0, 1.0, 0.0)
    if points.shape[-1] == 3:
        return _Problem(pixels, colors, 2 * [_longest_gap(colors)])
    return _prepare_alpha(pixels, colors, opaque)


def _prepare_alpha(pixels: Tensor, colors: Tensor, opaque: float) -> _Problem | None:
    # Then the last channel of opaque pixels has no error to pass on.
    pixels, colors = round_opacity(pixels, opaque), round_opacity(colors, opaque)
    theirs, its = opacity(colors, opaque), opacity(pixels, opaque)
    rows = (theirs != CLEAR).nonzero().squeeze(1)
    if len(rows) == 0:
        return None
    clear = torch.zeros(its.shape, dtype=torch.int64, device=pixels.device)
    undecided = its != OPAQUE
    clear[undecided] = assign(pixels[undecided], colors, opaque)
    is_clear = (its == CLEAR) | ((its == SOFT) & (theirs[clear] == CLEAR))
    kinds = torch.where(is_clear, 0, its)
    solid = colors[theirs == OPAQUE]
    visible = colors[rows]
    if len(solid) == 0:
        kinds, solid = kinds.clamp_max(1), visible
    limits = [_longest_gap(visible), _longest_gap(solid)]
    return _Problem(pixels, visible, limits, kinds.to(torch.uint8), rows, clear)


def _longest_gap(centroids: Tensor) -> float:
    """The longest edge of the minimum spanning tree: no gap between neighbours is longer.

    Of many colours it looks at one in each cell of a grid, for the time grows with their square.

    References:
        Prim 1957, "Shortest connection networks and some generalizations".
    """
    colors = centroids.cpu().numpy()
    low, size = colors.min(0), max(np.ptp(colors, 0).max(), 1e-30)
    bits = 8
    while len(colors) > MOST_COMPARED:
        cells = ((colors - low) * ((1 << bits) / size)).astype(np.int64)
        colors = colors[np.sort(np.unique(cells, axis=0, return_index=True)[1])]
        bits -= 1
    distances = ((colors - colors[0]) ** 2).sum(1)
    outside = np.ones(len(colors), bool)
    outside[0] = False
    longest = np.float32(0)
    for _ in range(len(colors) - 1):
        added = np.where(outside, distances, np.inf).argmin()
        longest = max(longest, distances[added])
        outside[added] = False
        distances = np.minimum(distances, ((colors - colors[added]) ** 2).sum(1))
    return float(np.sqrt(longest))


def _along_principal_axis(centroids: Tensor) -> Tensor:
    """Order of the colours along their principal axis, which mostly is one of lightness."""
    colors = centroids.cpu().numpy().astype(np.float64)
    centered = colors - colors.mean(0)
    axis = np.linalg.svd(centered, full_matrices=False)[2][0]
    axis *= np.sign(axis[np.abs(axis).argmax()])
    return torch.from_numpy(np.argsort(centered @ axis, kind="stable"))
