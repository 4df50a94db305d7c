"""Rate and distortion: the palette and the indices with the least error for their bits.

Lloyd's algorithm with another distortion: for pixels x, their colours P[i] and a price,

    E = sum_p w_p |P[i_p] - x_p|^2 + price * bits(i)

where ``bits`` is what deflate stores the indices in: literals, and copies of earlier indices. With
the palette fixed, indices are chosen by E (`kernels.choose_indices`, a shortest path through what a
coder may do); with the indices fixed, the palette is the weighted mean of its pixels, and colours
merge that are not worth what tells them apart. What literals and copies cost is known from the
indices of the step before, as optimizing coders have it. At a price of 0, with equal weights, these
are the nearest colours and their means: the one rule that all palettes here follow.

In OKLab the weights are what the eye masks: an error counts less where the picture varies on all
sides, as in the structural similarity; the more so, the higher the price is. A share of each row's
error goes to the row below, so that smooth areas keep their mean: the little dither that pays for
its bits. In the other spaces the error is the plain one.

Letters: H rows, W columns, K colours, C channels (3 or 4), B bands of rows, each of which has its
own costs, and is coded for itself.

References:
    Chou, Lookabaugh and Gray 1989, "Entropy-constrained vector quantization"; Equitz 1989, "A new
    vector quantization clustering algorithm" (merging); Deutsch 1996, RFC 1951 (deflate); Wang,
    Bovik, Sheikh and Simoncelli 2004 (structural similarity).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.color import color_space, from_working_space, to_working_space
from colorquant_nn.functional.fitting import round_to_bytes
from colorquant_nn.functional.opacity import CLEAR, OPAQUE, allowed, opacity, round_opacity
from colorquant_nn.functional.points import in_working_space
from colorquant_nn.functional.spatial import smooth
from colorquant_nn.kernels import DeflateCosts
from colorquant_nn.names import Space

__all__ = ["Coded", "Source", "begin", "improve", "prepare_source", "to_result"]

PRICE = 1e-6  # of a bit for each of ``lossy``, in units of the squared distance of black and white
MASKING = 2e-9  # times 1 / price: the variance of lightness that halves an error's weight
MASKED = 1e4  # the highest price for that: beyond, only what is flat would count
AROUND = 2.0  # pixels over which that is taken,
BESIDE = 3  # and how far away it has to be as large: an edge between flat areas hides nothing
DIFFUSION = 0.3  # of a row's error, to the one below, where the price is high;
DIFFUSING = 10.0  # half of it at this price
BAND = 128  # rows
OWN = 0.5  # of a band's costs: by its own counts, the rest by those of all
DIFFERENCE = 4.0  # times the bits of two colours' literals: where they differ, copies end, too
ENTRY = 30.0  # bits of a colour in the palette, and of the length of its code
UNSEEN = 0.5  # added to each count: what did not come up may still do
LENGTHS = np.array([3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67,
                    83, 99, 115, 131, 163, 195, 227, 258])  # fmt: skip
"""The shortest copy of each code of a length (RFC 1951, section 3.2.5)."""
LENGTH_CODES = np.searchsorted(LENGTHS, np.arange(259), "right") - 1
LENGTH_BITS = np.array([0] * 8 + [bits for bits in range(1, 6) for _ in range(4)] + [0])
DISTANCE_BITS = np.array([0, 0] + [bits for bits in range(14) for _ in range(2)])


class Source(NamedTuple):
    """A picture to be coded."""

    points: Tensor
    """(H, W, 4) float32 in the working space, the last axis 0 where there is no alpha."""
    kinds: Tensor
    """(H, W) uint8: `opacity`."""
    variance: Tensor | None
    """(H, W) float32 of lightness, around each pixel; None: errors are not masked."""
    space: Space
    channels: int


class Coded(NamedTuple):
    """A state of the two steps."""

    colors: Tensor
    """(K, 4) float32 in the working space."""
    indices: Tensor | None
    """(H, W) int32; None: not yet chosen."""
    costs: DeflateCosts
    """In bits."""
    bits: float
    """Of the indices, by those costs."""


def prepare_source(pixels: Tensor, space: Space) -> Source:
    """Convert a picture.

    Args:
        pixels: (H, W, C) sRGB, straight alpha, float in [0, 1] or uint8, on the CPU.
        space: where errors are measured.

    Returns:
        What `improve` needs of it.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.rate import prepare_source
        >>> prepare_source(torch.zeros(4, 6, 3), "oklab").points.shape
        torch.Size([4, 6, 4])
    """
    height, width, channels = pixels.shape
    flat = in_working_space(pixels.flatten(0, 1), channels, space).to(torch.float32)
    points = torch.zeros(height * width, 4)
    points[:, :channels] = flat
    kinds = torch.full((height, width), OPAQUE, dtype=torch.uint8)
    if channels == 4:
        lightness = color_space(space).lightness
        points = round_opacity(points, lightness)
        kinds = opacity(points, lightness).view(height, width)
    points = points.view(height, width, 4)
    variance = None
    if space == "oklab":
        presence = points[..., 3] if channels == 4 else torch.ones(height, width)
        total = smooth(presence, AROUND).clamp_min_(1e-6)
        mean = smooth(points[..., 0], AROUND) / total
        variance = smooth(points[..., 0].square(), AROUND) / total - mean.square()
        variance = _least_around(variance.clamp_min_(0))
    return Source(points, kinds, variance, space, channels)


def begin(source: Source, palette: Tensor) -> Coded:
    """The state before the first step.

    Args:
        source: see `prepare_source`.
        palette: (K, C) sRGB float in [0, 1].

    Returns:
        The palette, and costs of literals that are all alike.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.rate import begin, prepare_source
        >>> begin(prepare_source(torch.zeros(4, 6, 3), "rgb"), torch.rand(8, 3)).costs.literals
        tensor([[3., 3., 3., 3., 3., 3., 3., 3.]])
    """
    bands = max(1, round(source.kinds.shape[0] / BAND))
    colors = torch.zeros(len(palette), 4)
    colors[:, : source.channels] = to_working_space(palette, source.space)
    if source.channels == 4:
        colors = round_opacity(colors, color_space(source.space).lightness)
    literals = torch.full((bands, len(palette)), math.log2(len(palette)))
    lengths, distances = (
        torch.full((bands, len(LENGTHS)), 4.0),
        torch.full((bands, len(DISTANCE_BITS)), 4.5),
    )
    return Coded(colors, None, DeflateCosts(literals, *_with_extra(lengths, distances)), math.inf)


def improve(source: Source, coded: Coded, lossy: float) -> Coded:
    """Choose indices for the palette and the costs, then move the palette and count the costs.

    Args:
        source: see `prepare_source`.
        coded: a state of the same source.
        lossy: the price of a bit, in units of `PRICE`.

    Returns:
        The next state. Clear colours stay as they are, and opaque ones opaque.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.rate import begin, improve, prepare_source
        >>> source = prepare_source(torch.rand(8, 8, 3), "oklab")
        >>> coded = begin(source, torch.rand(4, 3))
        >>> for _ in range(3):
        ...     coded = improve(source, coded, 20.0)
        >>> coded.indices.shape
        torch.Size([8, 8])
    """
    white = float(to_working_space(torch.ones(1, 3), source.space).square().sum())
    price = lossy * PRICE * white
    theirs = _opacities(source, coded.colors)
    weights = _weights(source, lossy)
    indices, counts = kernels.choose_indices(
        source.points,
        weights,
        source.kinds,
        coded.colors,
        allowed(theirs),
        DeflateCosts(*(price * part for part in coded.costs)),
        DIFFUSION * lossy / (lossy + DIFFUSING) if source.space == "oklab" else 0.0,
    )
    colors, mass = _means(source, weights, indices, coded.colors)
    if source.channels == 4:
        colors[theirs == OPAQUE, 3] = color_space(source.space).lightness
    colors = torch.where((theirs == CLEAR)[:, None], coded.colors, colors)
    colors, counts, names = _merge(colors, _opacities(source, colors), mass, counts, price)
    costs, bits = _count_costs(*(part.numpy() for part in counts))
    return Coded(colors, names[indices.long()], costs, bits)


def to_result(source: Source, coded: Coded, order: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The palette in bytes without what no pixel has, and the indices in it.

    Args:
        source: see `prepare_source`.
        coded: a state with indices.
        order: (K,) int64, the colours in another order.

    Returns:
        (K, C) float32 sRGB of whole bytes, in their order, and (H, W) int64.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.rate import begin, improve, prepare_source, to_result
        >>> source = prepare_source(torch.zeros(4, 6, 3), "oklab")
        >>> to_result(source, improve(source, begin(source, torch.eye(3)), 1.0))[0].shape
        torch.Size([1, 3])
    """
    assert coded.indices is not None
    names, colors = torch.arange(len(coded.colors)), coded.colors
    if order is not None:
        names, colors = order.argsort(), colors[order]
    palette = from_working_space(colors[:, : source.channels], source.space)
    used = torch.bincount(coded.indices.flatten(), minlength=len(names))[names.argsort()] > 0
    names = (used.cumsum(0) - 1)[names]
    return round_to_bytes(palette[used]), names[coded.indices.long()]


def _least_around(values: Tensor) -> Tensor:
    """The least of each pixel's value and of those `BESIDE` it on four sides."""
    least = values.clone()
    for axis in (0, 1):
        rest = values.shape[axis] - BESIDE
        if rest > 0:
            for there, here in ((BESIDE, 0), (0, BESIDE)):
                part = least.narrow(axis, here, rest)
                part.copy_(torch.minimum(part, values.narrow(axis, there, rest)))
    return least


def _opacities(source: Source, colors: Tensor) -> Tensor:
    if source.channels == 3:
        return torch.full((len(colors),), OPAQUE, dtype=torch.uint8)
    return opacity(colors, color_space(source.space).lightness)


def _weights(source: Source, lossy: float) -> Tensor:
    """(H, W) float32 with a mean of 1."""
    if source.variance is None:
        return torch.ones(source.kinds.shape)
    weights = 1 / (1 + source.variance * (min(lossy, MASKED) * PRICE / MASKING))
    return weights / weights.mean(dtype=torch.float64).float()


def _means(
    source: Source, weights: Tensor, indices: Tensor, colors: Tensor
) -> tuple[Tensor, Tensor]:
    """(K, 4), where no pixel has a colour, it stays; and the sums of the weights (K,) float64."""
    names, count = indices.flatten(), len(colors)
    mass = torch.bincount(names, weights.flatten().double(), count)
    sums = [
        torch.bincount(names, (weights * source.points[..., axis]).flatten().double(), count)
        for axis in range(4)
    ]
    means = torch.stack(sums, dim=1) / mass.clamp_min(1e-300)[:, None]
    return torch.where((mass > 0)[:, None], means.float(), colors), mass


def _merge(
    colors: Tensor, opacities: Tensor, masses: Tensor, counts: DeflateCosts, price: float
) -> tuple[Tensor, DeflateCosts, Tensor]:
    """Give up colours whose pixels may as well have another one: their bits are worth the error.

    Pairs are merged into their mean, the best first.

    Returns:
        the colours, the counts, and which colour (K,) int32 each has become.
    """
    points, kinds, mass = colors.double().numpy().copy(), opacities.numpy(), masses.numpy().copy()
    literals = counts.literals.numpy().copy()
    uses = literals.sum(0, dtype=np.float64)
    every = np.arange(len(points))

    def losses(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """What it costs to merge colours (J,) with each other one: (J, K)."""
        mine, its = np.maximum(uses[rows, None], UNSEEN), np.maximum(uses, UNSEEN)
        both = mine + its
        bits = mine * np.log2(both / mine) + its * np.log2(both / its)
        moved = mass[rows, None] * mass / np.maximum(mass[rows, None] + mass, 1e-300)
        errors = moved * np.square(points[rows, None] - points).sum(2)
        found = errors - price * (DIFFERENCE * bits + ENTRY)
        apart = (kinds[rows, None] != kinds) | (kinds == CLEAR) | (rows[:, None] == every)
        return np.where(apart | (mass[rows, None] == 0) | (mass == 0), np.inf, found)

    table, names = losses(every), every.astype(np.int32)
    while table.min() < 0:
        gone, kept = np.unravel_index(table.argmin(), table.shape)
        both = mass[gone] + mass[kept]
        points[kept] = (mass[gone] * points[gone] + mass[kept] * points[kept]) / both
        mass[gone], mass[kept] = 0, both
        uses[kept] += uses[gone]
        literals[:, kept] += literals[:, gone]
        literals[:, gone] = 0
        names[names == gone] = kept
        table[gone], table[:, gone] = np.inf, np.inf
        table[kept] = table[:, kept] = losses(np.array([kept]))[0]
    merged = counts._replace(literals=torch.from_numpy(literals))
    return torch.from_numpy(points[names]).float(), merged, torch.from_numpy(names)


def _count_costs(
    literals: NDArray[np.int64], lengths: NDArray[np.int64], distances: NDArray[np.int64]
) -> tuple[DeflateCosts, float]:
    """What each symbol costs, by how often it came up in each band, and what they cost together."""
    codes = np.zeros((len(lengths), len(LENGTHS)), np.int64)
    for length in range(3, lengths.shape[1]):
        codes[:, LENGTH_CODES[length]] += lengths[:, length]
    symbols = torch.from_numpy(_entropies(np.concatenate([literals, codes], axis=1))).float()
    literal_bits, length_bits = symbols.split([literals.shape[1], len(LENGTHS)], dim=1)
    distance_bits = torch.from_numpy(_entropies(distances)).float()
    costs = DeflateCosts(literal_bits, *_with_extra(length_bits, distance_bits))
    counts = (literals, lengths, distances)
    bits = sum(float((part.numpy() * n).sum()) for part, n in zip(costs, counts, strict=True))
    return costs, bits


def _entropies(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bits (B, symbols) of each symbol."""
    mixed = OWN * counts + (1 - OWN) * counts.mean(0) + UNSEEN
    return np.asarray(np.log2(mixed.sum(1, keepdims=True)) - np.log2(mixed))


def _with_extra(lengths: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
    """Costs of codes (B, 29) and (B, 30) as those of lengths (B, 259), and with extra bits."""
    spread = lengths[:, LENGTH_CODES] + torch.from_numpy(LENGTH_BITS[LENGTH_CODES])
    return spread.float(), (distances + torch.from_numpy(DISTANCE_BITS)).float()
