"""Colours and how often they occur: exactly for an image, by cells for a stream of any length.

Letters: B images, N = H W pixels, M distinct colours, C channels (3, or 4 with alpha).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from colorquant_nn import kernels

__all__ = ["ColorHistogram", "WeightedColors", "count_colors", "merge_colors", "split_floats"]

BITS = 6
MERGE_ABOVE = 1 << 18  # distinct colours of a stream; beyond, cells of `BITS` are merged


class WeightedColors(NamedTuple):
    """Distinct colours with the weight of their pixels."""

    codes: Tensor
    """(M,) int64, ascending: the interleaved bits of the bytes, for order and for coarser cells."""
    colors: Tensor
    """(M, C) float32 sRGB in [0, 1], alpha straight: the mean of the pixels of each code."""
    weights: Tensor
    """(M,) float64, above 0."""


class ColorHistogram:
    """Counts the colours of any number of images in constant memory (8 MiB).

    The colour cube is cut into 64 cells a side. Each holds the number of its pixels and the sum of
    their colours, so that `fit_palette` works with the means of cells, not their middles. Sums of
    8-bit images are exact in any order; two histograms add up.

    Attributes:
        cells: (64 ** 3, 4) float64: count, and sums of red, green and blue, 255 the largest value
            of a pixel; blue varies fastest.

    Examples:
        >>> histogram = ColorHistogram()
        >>> for image in torch.rand(3, 3, 8, 8):
        ...     histogram = histogram.update(image)
        >>> histogram.count
        192.0
        >>> histogram.merge(histogram).count
        384.0
    """

    cells: Tensor

    def __init__(self) -> None:
        self.cells = torch.zeros(8**BITS, 4, dtype=torch.float64)

    @property
    def count(self) -> float:
        """The number of pixels."""
        return float(self.cells[:, 0].sum())

    def update(self, images: Tensor | Iterable[Tensor]) -> ColorHistogram:
        """Add the pixels of images; those that are not finite do not count.

        Args:
            images: (3, H, W) or (B, 3, H, W) sRGB, float in [0, 1] or uint8; or several of these.

        Returns:
            This histogram.

        Raises:
            TypeError: for something else than tensors.
            ValueError: for another shape; the counts are as before.
        """
        if not isinstance(images, Tensor):
            for image in images:
                self.update(image)
            return self
        if images.dim() not in (3, 4) or images.shape[-3] != 3:
            raise ValueError(
                f"expected images (3, H, W) or (B, 3, H, W), got {tuple(images.shape)}; "
                "a histogram has no alpha"
            )
        if not images.is_floating_point() and images.dtype != torch.uint8:
            raise TypeError(f"expected images of uint8 or floating point, got {images.dtype}")
        batch = images.detach() if images.dim() == 4 else images.detach()[None]
        points = batch.flatten(2).transpose(1, 2)
        if points.numel() > 0:
            cells = kernels.histogram(points, BITS).to(self.cells)
            cells[:, 1:] *= 255
            self.cells += cells.round_() if images.dtype == torch.uint8 else cells
        return self

    def merge(self, other: ColorHistogram) -> ColorHistogram:
        """Add the pixels of another histogram to this one.

        Args:
            other: stays as it is.

        Returns:
            This histogram.

        Raises:
            TypeError: for something else than a histogram.
        """
        if not isinstance(other, ColorHistogram):
            raise TypeError(f"expected a ColorHistogram, got {type(other).__name__}")
        self.cells = self.cells + other.cells.to(self.cells)
        return self

    def colors(self) -> WeightedColors:
        """The means of the cells that are not empty."""
        occupied = self.cells[:, 0].nonzero().squeeze(1)
        cells = self.cells[occupied]
        spread = kernels.spread_bits(3)
        shift = 8 - BITS
        blue = (occupied << shift) & 0xFF
        green = (occupied >> BITS << shift) & 0xFF
        red = occupied >> 2 * BITS << shift
        codes = spread[0][red] | spread[1][green] | spread[2][blue]
        order = codes.argsort()
        means = (cells[:, 1:] / (255 * cells[:, :1])).to(torch.float32)
        return WeightedColors(codes[order], means[order], cells[order, 0])

    def __repr__(self) -> str:
        return f"ColorHistogram({self.count:g} pixels)"


def count_colors(points: Tensor, weights: Tensor | None = None) -> WeightedColors:
    """List the distinct 8-bit colours of images; of floats, the means of what rounds to each.

    Pixels that are not finite, fully transparent or of weight 0 do not count.

    Args:
        points: (B, N, C) sRGB, uint8 or float; limited to [0, 1].
        weights: (B, N), at least 0; all 1 without it.
    """
    points = points.detach().cpu()
    weights = None if weights is None else weights.detach().cpu()
    if points.shape[-1] == 3:
        return WeightedColors(*kernels.distinct_colors(points, weights))
    opaque = 255 if points.dtype == torch.uint8 else 1
    if bool((points[..., 3] == opaque).all()):
        codes, colors, weights = kernels.distinct_colors(points[..., :3], weights)
        colors = torch.cat([colors, colors.new_ones(len(colors), 1)], dim=1)
        order, codes = _encode(colors)
        return WeightedColors(codes, colors[order], weights[order])
    return _count_with_alpha(points, weights)


def split_floats(points: Tensor, weights: Tensor | None, counted: WeightedColors) -> WeightedColors:
    """Tell apart floats that round to the same byte, where there are so few codes that it matters.

    Args:
        points: (B, N, C) floating point.
        weights: (B, N) or None.
        counted: what `count_colors` made of them, returned where it is exact.
    """
    flat = points.detach().cpu().to(torch.float32).flatten(0, 1)
    voting = flat.isfinite().all(1)
    if weights is not None:
        voting &= weights.cpu().flatten() > 0
    if flat.shape[1] == 4:
        voting &= flat[:, 3] > 0
    colors, places = flat[voting].clamp(0, 1).unique(dim=0, return_inverse=True)
    if len(colors) == len(counted.codes):
        return counted
    votes = torch.ones_like(places) if weights is None else weights.cpu().flatten()[voting]
    sums = votes.new_zeros(len(colors), dtype=torch.float64).index_add_(0, places, votes.double())
    order, codes = _encode(colors)
    return WeightedColors(codes, colors[order], sums[order])


def merge_colors(parts: Iterable[WeightedColors]) -> WeightedColors:
    """Add up the colours of several images, in memory that does not grow with their number.

    With more than 262144 distinct ones, those in the same cell of a grid of 64 a side merge.

    Args:
        parts: of one number of channels.
    """
    pending: list[WeightedColors] = []
    for part in parts:
        pending.append(part)
        if sum(len(part.codes) for part in pending) > 2 * MERGE_ABOVE:
            pending = [_merge(pending)]
            if len(pending[0].codes) > MERGE_ABOVE:
                pending = [_merge(pending, BITS)]
    if not pending:
        raise ValueError("expected at least one image, got none")
    return _merge(pending)


def _merge(parts: list[WeightedColors], bits: int = 8) -> WeightedColors:
    if len(parts) == 1 and bits == 8:
        return parts[0]
    codes = torch.cat([part.codes for part in parts])
    colors = torch.cat([part.colors for part in parts])
    weights = torch.cat([part.weights for part in parts])
    shift = colors.shape[1] * (8 - bits)
    order = codes.argsort(stable=True)
    return _means((codes >> shift << shift)[order].numpy(), colors[order], weights[order])


def _count_with_alpha(points: Tensor, weights: Tensor | None) -> WeightedColors:
    flat = points.flatten(0, 1)
    votes = torch.ones_like(flat[:, 0]) if weights is None else weights.flatten()
    if flat.dtype == torch.uint8:
        voting = (votes > 0) & (flat[:, 3] > 0)
        colors = flat[voting].to(torch.float32) / 255
    else:
        voting = (votes > 0) & (flat[:, 3] > 0) & flat.isfinite().all(1)
        colors = flat[voting].to(torch.float32).clamp(0, 1)
    order, codes = _encode(colors)
    return _means(codes.numpy(), colors[order], votes[voting][order].to(torch.float64))


def _encode(colors: Tensor) -> tuple[Tensor, Tensor]:
    """The order of the codes of (M, C) colours, and the ordered codes."""
    spread = kernels.spread_bits(colors.shape[1])
    levels = (colors * 255 + 0.5).to(torch.int64)
    codes = levels.new_zeros(len(colors))
    for channel in range(colors.shape[1]):
        codes |= spread[channel][levels[:, channel]]
    codes, order = codes.sort(stable=True)
    return order, codes


def _means(codes: Any, colors: Tensor, weights: Tensor) -> WeightedColors:
    """Merge neighbours of the same code; as offsets from the first, so that equals stay exact."""
    if len(codes) == 0:
        return WeightedColors(torch.from_numpy(codes), colors, weights)
    first = np.flatnonzero(np.diff(codes, prepend=-1))
    lengths = np.diff(first, append=len(codes))
    base = colors.numpy()[first]
    offsets = (colors.numpy() - np.repeat(base, lengths, axis=0)) * weights.numpy()[:, None]
    total = np.add.reduceat(weights.numpy(), first)
    sums = np.add.reduceat(offsets, first, axis=0)
    means = (base + sums / total[:, None]).astype(np.float32)
    return WeightedColors(
        torch.from_numpy(codes[first]), torch.from_numpy(means), torch.from_numpy(total)
    )
