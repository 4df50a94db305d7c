"""Dithering: which palette index each pixel gets, so that neighbours mix to its colour.

Every function has one signature, ``dither(pixels, palette, strength, space, kept) -> indices``,
from sRGB pixels and colours with straight alpha, if any; kept pixels have their indices already.
With alpha (C = 4) no dither moves an outline: which pixels are clear is decided without errors, as
`nearest` does, and these pass nothing on and take nothing; opaque pixels mix opaque colours if
there are any, and take no error of alpha.

Letters: H rows, W columns, K colours, C channels (3 or 4).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.auto import dither_amounts
from colorquant_nn.functional.color import color_space, to_working_space
from colorquant_nn.functional.opacity import CLEAR, OPAQUE, SOFT, assign, opacity, round_opacity
from colorquant_nn.functional.points import check_strength, in_working_space
from colorquant_nn.functional.spatial import spatial
from colorquant_nn.names import Space

__all__ = ["DITHERS", "Dither", "atkinson", "auto", "floyd_steinberg", "nearest", "ordered"]


class Dither(Protocol):
    """Which colour each pixel gets: what every dither is."""

    def __call__(
        self,
        pixels: Tensor,
        palette: Tensor,
        strength: float,
        space: Space,
        kept: Tensor | None = None,
        /,
    ) -> Tensor:
        """(H, W, C) and (K, C) sRGB, 0 to 1, to (H, W) int64; kept as that, -1: free."""


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
    pixels: Tensor,
    palette: Tensor,
    strength: float = 1.0,
    space: Space = "rgb",
    kept: Tensor | None = None,
) -> Tensor:
    """No dither: each pixel gets its nearest colour.

    Args:
        pixels: (H, W, C) sRGB, float in [0, 1] or uint8; with alpha, see
            `colorquant_nn.functional.opacity.assign`.
        palette: (K, C) sRGB float in [0, 1].
        strength: not used.
        space: where distances are taken.
        kept: (H, W) int64, the index that a pixel keeps, -1 where it is free.

    Returns:
        (H, W) int64.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.dither import nearest
        >>> nearest(torch.full((1, 2, 3), 0.4), torch.tensor([[0.0] * 3, [1.0] * 3]))
        tensor([[0, 0]])
    """
    points = in_working_space(pixels.flatten(0, 1), pixels.shape[2], space)
    centroids = to_working_space(palette, space)
    indices = assign(points, centroids, color_space(space).lightness)
    return _keep(indices.view(pixels.shape[:2]), kept)


def floyd_steinberg(
    pixels: Tensor,
    palette: Tensor,
    strength: float = 1.0,
    space: Space = "rgb",
    kept: Tensor | None = None,
) -> Tensor:
    """Error diffusion to four neighbours; keeps the local mean.

    Rows alternate in direction. Where no mixture of the palette reaches a colour, its error is
    cut to the longest gap of the palette: else it would pile up and smear over the edges.

    Args:
        pixels: (H, W, C) sRGB, float in [0, 1] or uint8.
        palette: (K, C) sRGB float in [0, 1].
        strength: share of the error that is passed on, 0 to 1; 0 is `nearest`.
        space: where distances are taken.
        kept: (H, W) int64, the index that a pixel keeps, -1 where it is free.

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
    return _diffuse(pixels, palette, strength, space, kept, FLOYD_STEINBERG)


def atkinson(
    pixels: Tensor,
    palette: Tensor,
    strength: float = 1.0,
    space: Space = "rgb",
    kept: Tensor | None = None,
) -> Tensor:
    """Error diffusion of three quarters of the error to six neighbours.

    What is not passed on clears the darkest and lightest parts and raises contrast.

    Args:
        pixels: (H, W, C) sRGB, float in [0, 1] or uint8.
        palette: (K, C) sRGB float in [0, 1].
        strength: share of the error that is passed on, 0 to 1; 0 is `nearest`.
        space: where distances are taken.
        kept: (H, W) int64, the index that a pixel keeps, -1 where it is free.

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
    return _diffuse(pixels, palette, strength, space, kept, ATKINSON)


def ordered(
    pixels: Tensor,
    palette: Tensor,
    strength: float = 1.0,
    space: Space = "rgb",
    kept: Tensor | None = None,
) -> Tensor:
    """Ordered dither for any palette: a pixel depends on its colour and place alone.

    For each colour a mixture of palette colours is found by passing on the error within the
    mixture; an 8 x 8 Bayer matrix says which of them a place shows, along the palette's principal
    axis.

    Args:
        pixels: (H, W, C) sRGB, float in [0, 1] or uint8.
        palette: (K, C) sRGB float in [0, 1].
        strength: share of the error that is passed on, 0 to 1; 0 is `nearest`.
        space: where distances are taken.
        kept: (H, W) int64, the index that a pixel keeps, -1 where it is free.

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
    problem = _prepare(pixels, palette, strength, space)
    if problem is None:
        return nearest(pixels, palette, strength, space, kept)
    thresholds = torch.from_numpy(bayer_matrix(MATRIX_SIZE) * MIXTURE_SIZE // MATRIX_SIZE**2)
    indices = kernels.mix(
        problem.points,
        problem.kinds,
        problem.colors,
        thresholds.to(pixels.device),
        _along_principal_axis(problem.colors).to(pixels.device),
        MIXTURE_SIZE,
        strength * MIXTURE_SHARE,
        problem.limits,
    )
    return _keep(problem.finish(indices), kept)


def auto(
    pixels: Tensor,
    palette: Tensor,
    strength: float = 1.0,
    space: Space = "rgb",
    kept: Tensor | None = None,
) -> Tensor:
    """Floyd and Steinberg's dither where bands would be seen, and none at edges and in text.

    Args:
        pixels: (H, W, C) sRGB, float in [0, 1] or uint8.
        palette: (K, C) sRGB float in [0, 1].
        strength: of the dither, 0 to 1; 0 is `nearest`.
        space: where distances are taken.
        kept: (H, W) int64, the index that a pixel keeps, -1 where it is free.

    Returns:
        (H, W) int64.

    Raises:
        ValueError: for another shape, or another strength.

    References:
        See `colorquant_nn.functional.auto.dither_amounts`.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.dither import auto
        >>> ramp = torch.linspace(0, 1, 64).view(1, 64, 1).expand(8, 64, 3)
        >>> picture = torch.cat([ramp, torch.full((8, 8, 3), 0.4)], 1)
        >>> dots = auto(picture, torch.tensor([[0.0] * 3, [1.0] * 3]))
        >>> dots[:, :64].diff(dim=0).abs().sum() > 64, dots[:, 64:].unique()
        (tensor(True), tensor([0]))
    """
    if not _asks_for_dots(pixels, palette, strength):
        return nearest(pixels, palette, strength, space, kept)
    amounts = dither_amounts(pixels, palette, space)
    return _diffuse(pixels, palette, strength, space, kept, FLOYD_STEINBERG, amounts)


DITHERS: dict[str, Dither] = {
    "none": nearest,
    "ordered": ordered,
    "floyd-steinberg": floyd_steinberg,
    "atkinson": atkinson,
    "spatial": spatial,
    "auto": auto,
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
    pixels: Tensor,
    palette: Tensor,
    strength: float,
    space: Space,
    kept: Tensor | None,
    targets: tuple[tuple[int, int, float], ...],
    amounts: Tensor | None = None,
) -> Tensor:
    """Error diffusion; the amounts (H, W) say how much each pixel takes part, 0 to 1."""
    problem = _prepare(pixels, palette, strength, space)
    if problem is None:
        return nearest(pixels, palette, strength, space, kept)
    indices = kernels.diffuse(
        problem.points,
        problem.kinds,
        problem.colors,
        torch.tensor([(*at, share * strength) for *at, share in targets], device=pixels.device),
        problem.limits,
        None if kept is None else problem.places(kept),
        amounts,
    )
    return _keep(problem.finish(indices), kept)


def _keep(indices: Tensor, kept: Tensor | None) -> Tensor:
    return indices if kept is None else torch.where(kept >= 0, kept, indices)


class _Problem(NamedTuple):
    """What a dither has to do, in the terms of the kernels."""

    points: Tensor
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

    def places(self, kept: Tensor) -> Tensor:
        """Where the colours of kept indices are among `colors`, -1 for those that are not."""
        if self.rows is None:
            return kept
        places = torch.full((int(self.rows.max()) + 2,), -1, device=kept.device)
        places[self.rows] = torch.arange(len(self.rows), device=kept.device)
        return places[torch.where(kept < len(places), kept, -1)]

    def finish(self, indices: Tensor) -> Tensor:
        """Indices of the palette, those of the pixels that were left out, too."""
        if self.kinds is None or self.rows is None or self.clear is None:
            return indices
        return torch.where(self.kinds == 0, self.clear, self.rows[indices])


def _asks_for_dots(pixels: Tensor, palette: Tensor, strength: float) -> bool:
    """Whether there is something to dither; raises for what is no picture, palette or strength."""
    if pixels.ndim != 3 or pixels.shape[-1] not in (3, 4):
        raise ValueError(
            f"expected pixels of shape (H, W, 3) or (H, W, 4), got {tuple(pixels.shape)}"
        )
    channels = pixels.shape[-1]
    if palette.ndim != 2 or palette.shape[-1] != channels or len(palette) == 0:
        raise ValueError(f"expected a palette of shape (K, {channels}), got {tuple(palette.shape)}")
    check_strength(strength)
    return strength > 0 and len(palette) > 1 and pixels.numel() > 0


def _prepare(pixels: Tensor, palette: Tensor, strength: float, space: Space) -> _Problem | None:
    """The problem in the space; None: no dither."""
    if not _asks_for_dots(pixels, palette, strength):
        return None
    height, width, channels = pixels.shape
    points = in_working_space(pixels.detach().flatten(0, 1), channels, space).to(torch.float32)
    points = points.view(height, width, channels)
    colors = to_working_space(palette.detach().to(torch.float32), space)
    if channels == 3:
        return _Problem(points, colors, 2 * [_longest_gap(colors)])
    return _prepare_alpha(points, colors, color_space(space).lightness)


def _prepare_alpha(points: Tensor, colors: Tensor, opaque: float) -> _Problem | None:
    # Then the last channel of opaque pixels has no error to pass on.
    points, colors = round_opacity(points, opaque), round_opacity(colors, opaque)
    theirs, its = opacity(colors, opaque), opacity(points, opaque)
    rows = (theirs != CLEAR).nonzero().squeeze(1)
    if len(rows) == 0:
        return None
    clear = torch.zeros(its.shape, dtype=torch.int64, device=points.device)
    undecided = its != OPAQUE
    clear[undecided] = assign(points[undecided], colors, opaque)
    is_clear = (its == CLEAR) | ((its == SOFT) & (theirs[clear] == CLEAR))
    kinds = torch.where(is_clear, 0, its)
    solid = colors[theirs == OPAQUE]
    visible = colors[rows]
    if len(solid) == 0:
        kinds, solid = kinds.clamp_max(1), visible
    limits = [_longest_gap(visible), _longest_gap(solid)]
    return _Problem(points, visible, limits, kinds.to(torch.uint8), rows, clear)


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
