"""Dithering: which palette index each pixel gets, so that neighbours mix to its colour.

Every function has one signature, ``dither(pixels, palette, strength, space, kept) -> indices``,
from sRGB pixels and colours with straight alpha, if any; kept pixels have their indices already.
The nearest colour is that in the space; what is mixed is always linear light, as it is on a screen
and in an eye.

With alpha (C = 4) no dither moves an outline: which pixels are clear is decided without errors, as
`nearest` does, and these pass nothing on and take nothing; opaque pixels mix opaque colours if
there are any, and take no error of alpha.

Letters: H rows, W columns, K colours, C channels (3 or 4).
"""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.auto import dither_amounts
from colorquant_nn.functional.color import LUMINANCE, PROGRAMS, to_working_space
from colorquant_nn.functional.opacity import (
    CLEAR,
    OPAQUE,
    SOFT,
    nearest_colors,
    opacity,
    round_opacity,
)
from colorquant_nn.functional.points import asks_for_dots, in_working_space
from colorquant_nn.functional.spatial import spatial
from colorquant_nn.names import Space

__all__ = ["DIFFUSIONS", "DITHERS", "Dither", "auto", "bayer", "diffuse", "nearest", "ordered"]


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


Targets = tuple[tuple[int, int, float], ...]
"""Where errors go: pixels ahead, rows down (both at most 2), share of the error."""


def _row(divisor: int, *weights: tuple[int, int, int]) -> Targets:
    return tuple((ahead, down, weight / divisor) for ahead, down, weight in weights)


DIFFUSIONS: dict[str, Targets] = {
    # Floyd and Steinberg 1976, "An adaptive algorithm for spatial greyscale"
    "floyd-steinberg": _row(16, (1, 0, 7), (-1, 1, 3), (0, 1, 5), (1, 1, 1)),
    # Of the Macintosh, 1984: https://beyondloom.com/blog/dither.html. It passes on three quarters,
    # which clears the darkest and lightest parts and raises contrast.
    "atkinson": _row(8, (1, 0, 1), (2, 0, 1), (-1, 1, 1), (0, 1, 1), (1, 1, 1), (0, 2, 1)),
    # Jarvis, Judice and Ninke 1976, "A survey of techniques for the display of continuous tone
    # pictures on bilevel displays"
    "jarvis-judice-ninke": _row(
        48, (1, 0, 7), (2, 0, 5),
        (-2, 1, 3), (-1, 1, 5), (0, 1, 7), (1, 1, 5), (2, 1, 3),
        (-2, 2, 1), (-1, 2, 3), (0, 2, 5), (1, 2, 3), (2, 2, 1),
    ),
    # Stucki 1981, "MECCA, a multiple-error correction computation algorithm"
    "stucki": _row(
        42, (1, 0, 8), (2, 0, 4),
        (-2, 1, 2), (-1, 1, 4), (0, 1, 8), (1, 1, 4), (2, 1, 2),
        (-2, 2, 1), (-1, 2, 2), (0, 2, 4), (1, 2, 2), (2, 2, 1),
    ),
    # Burkes 1988, and Sierra 1989, of three rows: https://tannerhelland.com/2012/12/28/dithering
    "burkes": _row(
        32, (1, 0, 8), (2, 0, 4), (-2, 1, 2), (-1, 1, 4), (0, 1, 8), (1, 1, 4), (2, 1, 2)
    ),
    "sierra": _row(
        32, (1, 0, 5), (2, 0, 3),
        (-2, 1, 2), (-1, 1, 4), (0, 1, 5), (1, 1, 4), (2, 1, 2),
        (-1, 2, 2), (0, 2, 3), (1, 2, 2),
    ),
}  # fmt: skip
"""Error diffusions by their name: one row each is all that they differ in."""

BLUE_NOISE_SIZE = 64
BAYER_SIZE = 8
VOID_SPREAD = 1.5  # standard deviation, in pixels, of what a dot covers


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
    indices = nearest_colors(pixels.flatten(0, 1), palette, space)
    return _keep(indices.view(pixels.shape[:2]), kept)


def diffuse(
    pixels: Tensor,
    palette: Tensor,
    strength: float = 1.0,
    space: Space = "rgb",
    kept: Tensor | None = None,
    amounts: Tensor | None = None,
    *,
    targets: Targets = DIFFUSIONS["floyd-steinberg"],
) -> Tensor:
    """Error diffusion: what a pixel's colour lacks of its light is added to later pixels.

    Rows alternate in direction. Where no mixture of the palette reaches a colour, its error is cut,
    see `colorquant_nn.kernels.diffuse`: else it would pile up and smear over the edges.

    Args:
        pixels: see `nearest`.
        palette: see `nearest`.
        strength: share of the error that is passed on, 0 to 1; 0 is `nearest`.
        space: see `nearest`.
        kept: see `nearest`.
        amounts: (H, W) float32 from 0 to 1, how much each pixel takes part: this share of the
            errors that come is added to it, this share of its own is passed on; 0 is `nearest`.
        targets: where errors go, such as one of `DIFFUSIONS`.

    Returns:
        (H, W) int64.

    Raises:
        ValueError: for another shape, or another strength.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.dither import diffuse
        >>> black_and_white = torch.tensor([[0.0] * 3, [1.0] * 3])
        >>> white = diffuse(torch.full((64, 64, 3), 0.5), black_and_white).sum()
        >>> 0.21 < white / 64**2 < 0.22  # of the light of white, as sRGB of 0.5 has
        tensor(True)
    """
    problem = _prepare(pixels, palette, strength, space)
    if problem is None:
        return nearest(pixels, palette, strength, space, kept)
    indices = kernels.diffuse(
        problem.points,
        problem.kinds,
        problem.colors,
        *PROGRAMS[f"linear_to_{space}"],
        torch.tensor([(*at, share * strength) for *at, share in targets], device=pixels.device),
        None if kept is None else problem.places(kept),
        amounts,
    )
    return _keep(problem.finish(indices), kept)


def ordered(
    pixels: Tensor,
    palette: Tensor,
    strength: float = 1.0,
    space: Space = "rgb",
    kept: Tensor | None = None,
) -> Tensor:
    """Ordered dither by blue noise: a pixel depends on its colour and place alone.

    For each colour a mixture of palette colours is found, see `colorquant_nn.kernels.mix`; a matrix
    of thresholds says which of them a place shows, from dark to light.

    Args:
        pixels: see `nearest`.
        palette: see `nearest`.
        strength: how much of the error is made up for, 0 to 1; 0 is `nearest`.
        space: see `nearest`.
        kept: see `nearest`.

    Returns:
        (H, W) int64.

    Raises:
        ValueError: for another shape, or another strength.

    References:
        Knoll 1999, "Pattern dithering", US patent 6606166 (expired); Yliluoma, "Arbitrary-palette
        positional dithering", https://bisqwit.iki.fi/story/howto/dither/jy/; for the thresholds see
        `blue_noise`.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.dither import ordered
        >>> black_and_white = torch.tensor([[0.0] * 3, [1.0] * 3])
        >>> white = ordered(torch.full((64, 64, 3), 0.5), black_and_white).sum()
        >>> 0.21 < white / 64**2 < 0.22  # of the light of white, as sRGB of 0.5 has
        tensor(True)
    """
    return _mix(pixels, palette, strength, space, kept, blue_noise(BLUE_NOISE_SIZE))


def bayer(
    pixels: Tensor,
    palette: Tensor,
    strength: float = 1.0,
    space: Space = "rgb",
    kept: Tensor | None = None,
) -> Tensor:
    """`ordered` by an 8 x 8 Bayer matrix, whose cross-hatch is a look of its own.

    Args:
        pixels: see `ordered`.
        palette: see `ordered`.
        strength: see `ordered`.
        space: see `ordered`.
        kept: see `ordered`.

    Returns:
        (H, W) int64.

    Raises:
        ValueError: for another shape, or another strength.

    References:
        See `bayer_matrix`.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.dither import bayer
        >>> black_and_white = torch.tensor([[0.0] * 3, [1.0] * 3])
        >>> bayer(torch.full((2, 4, 3), 0.735), black_and_white)  # half of the light
        tensor([[0, 1, 0, 1],
                [1, 0, 1, 0]])
    """
    return _mix(pixels, palette, strength, space, kept, bayer_matrix(BAYER_SIZE))


def auto(
    pixels: Tensor,
    palette: Tensor,
    strength: float = 1.0,
    space: Space = "rgb",
    kept: Tensor | None = None,
) -> Tensor:
    """Floyd and Steinberg's dither where bands would be seen, and none at edges and in text.

    Args:
        pixels: see `nearest`.
        palette: see `nearest`.
        strength: of the dither, 0 to 1; 0 is `nearest`.
        space: see `nearest`.
        kept: see `nearest`.

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
    if not asks_for_dots(pixels, palette, strength):
        return nearest(pixels, palette, strength, space, kept)
    amounts = dither_amounts(pixels, palette, space)
    return diffuse(pixels, palette, strength, space, kept, amounts)


DITHERS: dict[str, Dither] = {
    "none": nearest,
    "ordered": ordered,
    "bayer": bayer,
    **{name: partial(diffuse, targets=targets) for name, targets in DIFFUSIONS.items()},
    "auto": auto,
    "spatial": spatial,
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


@cache
def blue_noise(size: int) -> NDArray[np.int64]:
    """Thresholds 0 to size² - 1 whose dots are spread evenly, but without a pattern, at any level.

    Void and cluster: dots are taken from the tightest cluster and put into the largest void, until
    these are the same place. The dots, in the order in which they would be taken away, have the
    lowest thresholds; the voids, in the order in which they are filled, the others. It tiles.

    Args:
        size: S.

    Returns:
        (S, S) int64.

    References:
        Ulichney 1993, "The void-and-cluster method for dither array generation".

    Examples:
        >>> from colorquant_nn.functional.dither import blue_noise
        >>> sorted(blue_noise(8).ravel()) == list(range(64))
        True
    """
    count = size * size
    away = np.minimum(np.arange(size), size - np.arange(size)) ** 2 / (2 * VOID_SPREAD**2)
    # Whole numbers: what a dot adds is taken away without a rest.
    covered = np.rint(np.exp(-away[:, None] - away) * (1 << 20)).astype(np.int64)
    tiles = np.tile(covered, (2, 2))
    energy, far = np.zeros((size, size), np.int64), 1 << 40
    dots = np.zeros(count, bool)

    def put(place: int, sign: int) -> None:
        row, column = divmod(place, size)
        shifted = tiles[size - row : 2 * size - row, size - column : 2 * size - column]
        np.add(energy, shifted, out=energy) if sign > 0 else np.subtract(
            energy, shifted, out=energy
        )
        # Dots are far above all voids, so the fullest place is a dot, the emptiest a void.
        energy.flat[place] += sign * far
        dots[place] = sign > 0

    for place in np.random.default_rng(0).permutation(count)[: count // 10]:
        put(int(place), 1)
    while True:
        cluster = int(energy.argmax())
        put(cluster, -1)
        void = int(energy.argmin())
        put(void, 1)
        if void == cluster:
            break
    first, first_energy = np.flatnonzero(dots), energy.copy()
    ranks = np.empty(count, np.int64)
    for rank in range(len(first) - 1, -1, -1):
        place = int(energy.argmax())
        ranks[place] = rank
        put(place, -1)
    energy[:] = first_energy
    for rank in range(len(first), count):
        place = int(energy.argmin())
        ranks[place] = rank
        put(place, 1)
    return ranks.reshape(size, size)


def _mix(
    pixels: Tensor,
    palette: Tensor,
    strength: float,
    space: Space,
    kept: Tensor | None,
    matrix: NDArray[np.int64],
) -> Tensor:
    problem = _prepare(pixels, palette, strength, space)
    if problem is None:
        return nearest(pixels, palette, strength, space, kept)
    red, green, blue = problem.colors[:, :3].unbind(1)
    luminance = red * LUMINANCE[0] + green * LUMINANCE[1] + blue * LUMINANCE[2]
    order = luminance.argsort(stable=True)
    indices = kernels.mix(
        problem.points,
        problem.kinds,
        problem.colors[order],
        *PROGRAMS[f"linear_to_{space}"],
        torch.from_numpy((matrix + np.float32(0.5)) / np.float32(matrix.size)).to(pixels.device),
        strength,
    )
    return _keep(problem.finish(order[indices]), kept)


def _keep(indices: Tensor, kept: Tensor | None) -> Tensor:
    return indices if kept is None else torch.where(kept >= 0, kept, indices)


class _Problem(NamedTuple):
    """What a dither has to do, in the terms of the kernels."""

    points: Tensor
    """(H, W, C) float32, linear light, premultiplied, and alpha."""
    colors: Tensor
    """(K', C) float32, those that are not clear."""
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


def _prepare(pixels: Tensor, palette: Tensor, strength: float, space: Space) -> _Problem | None:
    """The problem in the space; None: no dither."""
    if not asks_for_dots(pixels, palette, strength):
        return None
    height, width, channels = pixels.shape
    pixels, palette = pixels.detach(), palette.detach().to(torch.float32)
    points = in_working_space(pixels.flatten(0, 1), channels, "linear").to(torch.float32)
    points = points.view(height, width, channels)
    colors = to_working_space(palette, "linear")
    if channels == 3:
        return _Problem(points, colors)
    # Then the last channel of opaque pixels has no error to pass on.
    points, colors = round_opacity(points), round_opacity(colors)
    theirs, its = opacity(colors), opacity(points)
    rows = (theirs != CLEAR).nonzero().squeeze(1)
    if len(rows) == 0:
        return None
    clear = torch.zeros(its.shape, dtype=torch.int64, device=points.device)
    undecided = its != OPAQUE
    clear[undecided] = nearest_colors(pixels[undecided], palette, space)
    is_clear = (its == CLEAR) | ((its == SOFT) & (theirs[clear] == CLEAR))
    kinds = torch.where(is_clear, 0, its)
    if not bool((theirs == OPAQUE).any()):
        kinds = kinds.clamp_max(1)
    return _Problem(points, colors[rows], kinds.to(torch.uint8), rows, clear)
