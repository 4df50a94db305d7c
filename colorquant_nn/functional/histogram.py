"""Colours and how often they occur: exactly for an image, by cells for a stream of any length.

Letters: B images, N = H W pixels, M distinct colours, C channels (3, or 4 with alpha).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.points import check_images, iterate_images, to_pixels, with_alpha
from colorquant_nn.kernels import sanitize

__all__ = [
    "ColorHistogram",
    "WeightedColors",
    "count",
    "count_colors",
    "count_each",
    "merge_colors",
]

BITS = 6
MERGE_ABOVE = 1 << 19  # distinct colours of a stream; beyond, cells of `BITS` are merged
TIES = 2.0**40  # finer than half of any float32 above 2 ** -16
BATCH = 1 << 20  # pixels of small images that are counted at once


class WeightedColors(NamedTuple):
    """Distinct colours with the weight of their pixels; all tensors are on the CPU.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.histogram import count
        >>> count(torch.zeros(3, 2, 2)).colors
        tensor([[0., 0., 0.]])
    """

    codes: Tensor
    """(M,) int64, ascending: the interleaved bits of the bytes, for order and for coarser cells."""
    colors: Tensor
    """(M, C) float32 sRGB in [0, 1], alpha straight: the mean of the pixels of each code."""
    weights: Tensor
    """(M,) float64, above 0."""
    hole: Tensor | None = None
    """(4,) float32, the first fully transparent colour; these are not among the others."""
    device: torch.device = torch.device("cpu")
    """Where the pixels are."""
    bits: int = 8
    """Of each channel that the codes tell apart; fewer where the colours of cells are merged."""


class ColorHistogram:
    """Counts the colours of any number of images in constant memory (8 MiB).

    The colour cube is cut into 64 cells a side. Each holds the number of its pixels and the sum of
    their colours, so that `fit_palette` works with the means of cells, not their middles. Sums of
    8-bit images are exact in any order; two histograms add up.

    Attributes:
        cells: (64 ** 3, 4) float64: count, and sums of red, green and blue, 255 the largest value
            of a pixel; blue varies fastest.

    Examples:
        >>> import torch
        >>> from colorquant_nn import ColorHistogram
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
        self.cells = torch.zeros(8**BITS, 4, dtype=torch.float64, device="cpu")

    @property
    def count(self) -> float:
        """The number of pixels."""
        return float(self.cells[:, 0].sum())

    def update(self, images: Tensor | Iterable[Any]) -> ColorHistogram:
        """Add the pixels of images; those that are not finite do not count.

        Args:
            images: (3, H, W) or (B, 3, H, W) sRGB, float in [0, 1] or uint8; or several of these,
                or of tuples whose first item they are, as a DataLoader gives them.

        Returns:
            This histogram.

        Raises:
            TypeError: for something else than tensors; the counts are as before.
            ValueError: for another shape; the counts are as before.
        """
        added: Tensor | None = None
        for batch in iterate_images(images):
            check_images(batch, alpha=False)
            if batch.numel() > 0:
                cells = kernels.histogram(to_pixels(batch.detach()), BITS).to(self.cells)
                cells[:, 1:] *= 255
                if batch.dtype == torch.uint8:
                    cells.round_()
                added = cells if added is None else added.add_(cells)
        if added is not None:
            self.cells += added
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
        """List the means of the cells that are not empty, and how many pixels each has.

        Returns:
            Colours without repetition.
        """
        cells = self.cells.cpu()
        occupied = cells[:, 0].nonzero().squeeze(1)
        cells = cells[occupied]
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


def count(
    images: Tensor | ColorHistogram | WeightedColors | Iterable[Any],
    weights: Tensor | None = None,
    num_colors: int = 0,
) -> WeightedColors:
    """List the colours of whatever holds some: an image, a batch, many of them, a histogram.

    Args:
        images: see `colorquant_nn.fit_palette`; a tensor is taken as it is, others are checked.
            What is counted already stays so.
        weights: (B, N) of a tensor's pixels, at least 0; all 1 without it.
        num_colors: floats of an image or a batch that round to the same byte are told apart if
            there are at most so many that do not.

    Returns:
        Colours without repetition.

    Raises:
        ValueError: there is no image, or one of another shape.
        TypeError: something in an iterable is no image.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.histogram import count
        >>> count(torch.tensor([[[0, 9, 0]]], dtype=torch.uint8).expand(3, 1, 3)).weights
        tensor([2., 1.], dtype=torch.float64)
    """
    if isinstance(images, WeightedColors):
        return images
    if isinstance(images, ColorHistogram):
        return images.colors()
    if not isinstance(images, Tensor):
        return merge_colors(count_each(images))
    points = to_pixels(images)
    counted = count_colors(points, weights)
    if images.dtype == torch.uint8 or len(counted.codes) > num_colors:
        return counted
    return split_floats(points, weights, counted)


def count_colors(points: Tensor, weights: Tensor | None = None) -> WeightedColors:
    """List the distinct 8-bit colours of images; of floats, the means of what rounds to each.

    Pixels that are not finite, fully transparent or of weight 0 do not count.

    Args:
        points: (B, N, C) sRGB, uint8 or float; limited to [0, 1].
        weights: (B, N), at least 0; all 1 without it.

    Returns:
        Colours whose codes differ.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.histogram import count_colors
        >>> count_colors(torch.tensor([[[9, 9, 9], [0, 0, 0], [9, 9, 9]]]).byte()).weights
        tensor([1., 2.], dtype=torch.float64)
    """
    device = points.device
    points = points.detach().cpu()
    weights = None if weights is None else weights.detach().cpu()
    if points.shape[-1] == 3:
        return WeightedColors(*kernels.distinct_colors(points, weights), device=device)
    opaque = 255 if points.dtype == torch.uint8 else 1
    if bool((points[..., 3] == opaque).all()):
        found = WeightedColors(*kernels.distinct_colors(points[..., :3], weights), device=device)
        return _as_opaque(found)
    colors, votes, hole = _visible(points, weights)
    order, codes = _encode(colors)
    counted = _means(codes.numpy(), colors[order], votes[order].to(torch.float64))
    return counted._replace(hole=hole, device=device)


def count_each(images: Iterable[Any]) -> Iterator[WeightedColors]:
    """List the colours of one image after another, many small ones at once, for `merge_colors`.

    Args:
        images: an iterable, as for `colorquant_nn.fit_palette`.

    Returns:
        Parts in the order of the images.

    Raises:
        ValueError: an image has another shape.
        TypeError: something in the iterable is no image.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.histogram import count_each
        >>> [len(part.codes) for part in count_each(torch.rand(3, 4, 4) for _ in range(9))]
        [144]
    """
    batch: list[Tensor] = []
    room, kind = BATCH, None
    for image in iterate_images(images):
        pixels = to_pixels(image.detach()).flatten(0, 1)
        is_small, its_kind = len(pixels) <= BATCH // 4, (image.dtype, image.device, pixels.shape[1])
        if batch and not (is_small and len(pixels) <= room and its_kind == kind):
            yield _limit(count_colors(torch.cat(batch)[None]))
            batch, room = [], BATCH
        if is_small:
            batch.append(pixels.clone())  # the next image may come in the same memory
            room, kind = room - len(pixels), its_kind
        else:
            yield count_colors(pixels[None])
    if batch:
        yield _limit(count_colors(torch.cat(batch)[None]))


def list_pixels(points: Tensor, weights: Tensor | None = None) -> WeightedColors:
    """List every pixel that counts in `count_colors` by itself, in no order, without codes."""
    colors, votes, hole = _visible(points.detach().cpu(), weights)
    codes = torch.zeros(0, dtype=torch.int64, device="cpu")
    return WeightedColors(codes, colors, votes.to(torch.float64), hole, points.device)


def split_floats(points: Tensor, weights: Tensor | None, counted: WeightedColors) -> WeightedColors:
    """Tell apart floats that round to the same byte, where there are so few codes that it matters.

    Args:
        points: (B, N, C) floating point.
        weights: (B, N) or None.
        counted: what `count_colors` made of them, returned where it is exact.

    Returns:
        Distinct colours, whose codes may be the same.
    """
    pixels = list_pixels(points, weights)
    colors, places = pixels.colors.unique(dim=0, return_inverse=True)
    if len(colors) == len(counted.codes):
        return counted
    sums = pixels.weights.new_zeros(len(colors)).index_add_(0, places, pixels.weights)
    order, codes = _encode(colors)
    return counted._replace(codes=codes, colors=colors[order], weights=sums[order])


def merge_colors(parts: Iterable[WeightedColors]) -> WeightedColors:
    """Add up the colours of several images, in memory that does not grow with their number.

    Up to 524288 distinct ones stay as they are; with more, those in the same cell of a grid of 64
    a side merge. The order of images of bytes changes nothing, but for float64's rounding in means
    of cells.

    Args:
        parts: with alpha or without; if some have it, the others count as opaque.

    Returns:
        Colours whose codes differ, the first hole, and the device of the first part. A single part
        stays as it is.

    Raises:
        ValueError: there is no part.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.histogram import count, merge_colors
        >>> merge_colors([count(torch.zeros(3, 2, 2)), count(torch.zeros(3, 1, 1))]).weights
        tensor([5.], dtype=torch.float64)
    """
    merged = accumulate(parts)
    if merged is None:
        raise ValueError("expected at least one image, got none")
    colors = merged.colors
    if merged.bits < 8:
        # The mean of a few float32 numbers is often half-way between two of them, where the order
        # of a sum in float64 would decide to which it is rounded.
        colors = colors.mul(TIES).round_().div_(TIES)
    return merged._replace(colors=colors.to(torch.float32))


def accumulate(parts: Iterable[WeightedColors]) -> WeightedColors | None:
    """As `merge_colors`, but means of cells are in float64, to be merged on; None of no part."""
    pending: list[WeightedColors] = []
    size = 0
    for part in parts:
        pending.append(part)
        size += len(part.codes)
        if size > 2 * MERGE_ABOVE and len(pending) > 1:
            pending = [_merge(pending)]
            size = len(pending[0].codes)
    if len(pending) > 1:
        return _merge(pending)
    return pending[0] if pending else None


def _merge(parts: list[WeightedColors]) -> WeightedColors:
    bits = min(part.bits for part in parts)
    if len({part.colors.shape[1] for part in parts}) > 1:
        parts = [_as_opaque(part) if part.colors.shape[1] == 3 else part for part in parts]
    holes = (part.hole for part in parts if part.hole is not None)
    merged = WeightedColors(
        torch.cat([part.codes for part in parts]),
        torch.cat([part.colors for part in parts]),
        torch.cat([part.weights for part in parts]),
        next(holes, None),
        parts[0].device,
    )
    return _limit(_merge_cells(merged, bits))


def _limit(counted: WeightedColors) -> WeightedColors:
    """Merge the colours of cells if there are too many for a stream."""
    if counted.bits == BITS or len(counted.codes) <= MERGE_ABOVE:
        return counted
    return _merge_cells(counted, BITS)


def _merge_cells(counted: WeightedColors, bits: int) -> WeightedColors:
    """Merge the colours in the same cell of a grid of so many bits; codes may be in any order."""
    shift = counted.colors.shape[1] * (8 - bits)
    codes, order = (counted.codes >> shift << shift).sort(stable=True)
    colors = counted.colors[order]
    merged = _means(
        codes.numpy(), colors if bits == 8 else colors.to(torch.float64), counted.weights[order]
    )
    return counted._replace(
        codes=merged.codes, colors=merged.colors, weights=merged.weights, bits=bits
    )


def _as_opaque(counted: WeightedColors) -> WeightedColors:
    """Colours without alpha with one of 1."""
    colors = with_alpha(counted.colors)
    order, codes = _encode(colors)
    return counted._replace(codes=codes, colors=colors[order], weights=counted.weights[order])


def _visible(points: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The colours of the pixels that vote, (V, C) float32 in [0, 1], their votes and the hole."""
    flat = points.flatten(0, 1)
    votes = torch.ones_like(flat[:, 0], dtype=torch.float32)
    votes = votes if weights is None else weights.cpu().flatten()
    voting, hole = votes > 0, None
    if flat.shape[1] == 4:
        transparent = flat[:, 3] <= 0
        voting &= flat[:, 3] > 0
        if bool(transparent.any()):
            hole = sanitize(flat[int(transparent.byte().argmax())], clamp=True).to(torch.float32)
    if flat.is_floating_point():
        voting &= flat.isfinite().all(1)
    return sanitize(flat[voting], clamp=True).to(torch.float32), votes[voting], hole


def _encode(colors: Tensor) -> tuple[Tensor, Tensor]:
    """The order of the codes of (M, C) colours, and the ordered codes."""
    spread = kernels.spread_bits(colors.shape[1])
    levels = (colors * 255 + 0.5).to(torch.int64)
    codes = levels.new_zeros(len(colors))
    for channel in range(colors.shape[1]):
        codes |= spread[channel][levels[:, channel]]
    codes, order = codes.sort(stable=True)
    return order, codes


def _means(codes: NDArray[np.int64], colors: Tensor, weights: Tensor) -> WeightedColors:
    """Merge neighbours of the same code; as offsets from the first, so that equals stay exact."""
    if len(codes) == 0:
        return WeightedColors(torch.from_numpy(codes), colors, weights)
    first = np.flatnonzero(np.diff(codes, prepend=-1))
    lengths = np.diff(first, append=len(codes))
    base = colors.numpy()[first]
    offsets = (colors.numpy() - np.repeat(base, lengths, axis=0)) * weights.numpy()[:, None]
    total = np.add.reduceat(weights.numpy(), first)
    sums = np.add.reduceat(offsets, first, axis=0)
    means = (base + sums / total[:, None]).astype(base.dtype)
    return WeightedColors(
        torch.from_numpy(codes[first]), torch.from_numpy(means), torch.from_numpy(total)
    )
