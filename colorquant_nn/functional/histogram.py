"""Colours and how often they occur: exactly for an image, by cells for a stream of any length.

Letters: B images, N = H W pixels, M distinct colours, C channels (3, or 4 with alpha).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from colorquant_nn import kernels
from colorquant_nn.functional.color import SPACES, to_working_space
from colorquant_nn.functional.points import (
    check_images,
    check_palette,
    iterate_weighted,
    to_pixels,
    warn_of_pictures,
    with_alpha,
)
from colorquant_nn.functional.ranks import Ranks, all_reduce
from colorquant_nn.kernels import sanitize
from colorquant_nn.names import Space, check_name

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
MOST_PENDING = 32  # parts: many small ones between large buffers keep those from being freed
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
    """Counts the colours of any number of images in constant memory (10 MiB).

    The colour cube is cut into 64 cells a side. Each holds the number of its pixels and the sums of
    their colours and squares, so that `fit_palette` works with the means of cells, not their
    middles, and `distortion` knows how far pixels are from them. Sums of 8-bit images are exact in
    any order. Histograms add up: ``a + b``, ``sum(histograms)``. One is saved by `torch.save`, and
    loaded, with ``weights_only=True`` too, where this class has been imported.

    Attributes:
        cells: (64 ** 3, 5) float64: count, sums of red, green and blue, and sum of the squares of
            all three, 255 the largest value of a pixel; blue varies fastest.

    Examples:
        The error of a data set over the number of colours, from one pass over it:

        >>> import torch
        >>> from colorquant_nn import ColorHistogram, fit_palette
        >>> histogram = ColorHistogram()
        >>> for image in torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)):
        ...     histogram = histogram.update(image)
        >>> for num_colors in (2, 8, 32):
        ...     error = histogram.distortion(fit_palette(histogram, num_colors))
        ...     print(f"{num_colors} colours: MSE {float(error):.3f}")
        2 colours: MSE 0.067
        8 colours: MSE 0.025
        32 colours: MSE 0.008
    """

    cells: Tensor
    _has_looked = False  # for what it warns of once; not an older one's, loaded from a file

    def __init__(self) -> None:
        self.cells = torch.zeros(8**BITS, 5, dtype=torch.float64, device="cpu")

    @property
    def count(self) -> float:
        """The number of pixels, or their weight."""
        return float(self.cells[:, 0].sum())

    def update(
        self,
        images: Tensor | Iterable[Any],
        weights: Tensor | Iterable[Tensor | None] | None = None,
    ) -> ColorHistogram:
        """Add the pixels of images; those that are not finite do not count.

        Args:
            images: (3, H, W) or (B, 3, H, W) sRGB, float in [0, 1] or uint8; or several of these,
                or of tuples whose first item they are, as a DataLoader gives them.
            weights: how much each pixel counts, at least 0, or a mask; (H, W) or (B, H, W), or as
                many of these as there are images. All 1 without it.

        Returns:
            This histogram.

        Raises:
            TypeError: for something else than tensors; the counts are as before.
            ValueError: for another shape, or more or fewer weights than images; the counts are as
                before.
        """
        # An iterable may fail at its end: all of it counts, or nothing. A table of its own costs as
        # much as so many pixels as it has cells: up to there, they wait as they are.
        waiting: list[tuple[Tensor, Tensor | None]] = []
        room, part = 3 * len(self.cells), None
        for image, votes in iterate_weighted(images, weights):
            check_images(image, alpha=False)
            if not self._has_looked and image.is_floating_point():
                self._has_looked = True
                warn_of_pictures(image)
            room -= image.numel()
            if image is images:
                waiting.append((image, votes))
            elif room >= 0:  # a copy, for the next image may come in the same memory
                waiting.append((image.clone(), None if votes is None else votes.clone()))
            else:
                part = ColorHistogram() if part is None else part
                part._add(image, votes)
        for image, votes in waiting:
            self._add(image, votes)
        if part is not None:
            self.cells += part.cells
        return self

    def _add(self, images: Tensor, weights: Tensor | None) -> None:
        points = to_pixels(images.detach())
        if points.device == self.cells.device:
            kernels.add_to_histogram(self.cells, points, weights)
        else:
            cells = torch.zeros_like(self.cells, device=points.device)
            kernels.add_to_histogram(cells, points, weights)
            self.cells += cells.to(self.cells)

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

    def __add__(self, other: object) -> ColorHistogram:
        if not isinstance(other, ColorHistogram):
            return NotImplemented
        return ColorHistogram().merge(self).merge(other)

    def __radd__(self, other: object) -> ColorHistogram:
        """What `sum` starts with is 0."""
        return (
            ColorHistogram().merge(self)
            if isinstance(other, int) and other == 0
            else NotImplemented
        )

    def all_reduce(self, group: distributed.ProcessGroup | None = None) -> ColorHistogram:
        """Add up the histograms of all ranks, and give every rank the sum.

        Args:
            group: of processes; all of them without it.

        Returns:
            This histogram.

        Raises:
            RuntimeError: no process group is initialised, or a rank did not come in time.
            ValueError: for a group without this process.

        Examples:
            One rank of one; each counts its share of the data, and has the palette of all of it:

            >>> import tempfile, torch, torch.distributed as dist
            >>> from colorquant_nn import ColorHistogram
            >>> with tempfile.NamedTemporaryFile() as file:
            ...     store = dist.FileStore(file.name, 1)
            ...     dist.init_process_group("gloo", store=store, rank=0, world_size=1)
            ...     ColorHistogram().update(torch.rand(3, 4, 4)).all_reduce()
            ...     dist.destroy_process_group()
            ColorHistogram(16 pixels)
        """
        if not (distributed.is_available() and distributed.is_initialized()):
            raise RuntimeError(
                "expected a process group to add up a histogram in: call "
                "torch.distributed.init_process_group first"
            )
        name = Ranks(group).name
        # Such as "cpu:gloo,cuda:nccl"; without a backend for the CPU, it is the current device.
        backends = distributed.get_backend_config(group)
        devices = [pair.partition(":")[0] for pair in backends.split(",")]
        cells = self.cells.to("cpu" if "cpu" in devices else devices[0], copy=True)
        self.cells = all_reduce(cells, name).to(self.cells.device)
        return self

    def distortion(self, palette: Tensor, *, space: Space = "oklab") -> Tensor:
        """The mean squared error of all pixels in the colours of a palette.

        The pixels of a cell take one colour, the nearest to their mean; their own distances from
        it count. The error is that of `colorquant_nn.apply_palette` where the pixels of each cell
        agree on their colour, as most do, and a little larger elsewhere, in rgb always.

        Args:
            palette: (K, 3) sRGB, float in [0, 1] or uint8.
            space: where the nearest colour is searched; the error is in sRGB.

        Returns:
            () float64, the mean over pixels and channels in units of the range [0, 1], squared, as
            `colorquant_nn.functional.metrics.mse` has it.

        Raises:
            ValueError: for a wrong shape, range or name, or if there is no pixel.
            TypeError: for something else than a tensor, or a wrong dtype.
        """
        check_name("a colour space", space, SPACES)
        palette = check_palette(palette).cpu()
        cells = self.cells.cpu()
        cells = cells[cells[:, 0] > 0]
        if len(cells) == 0:
            raise ValueError("expected a histogram with at least one pixel, got an empty one")
        counts, sums, squares = cells[:, 0], cells[:, 1:4], cells[:, 4]
        means = sums / counts[:, None]
        points = to_working_space((means / 255).to(torch.float32), space)
        nearest = kernels.assign(points[None], to_working_space(palette, space)[None])[0]
        within = (squares - (sums * means).sum(1)).clamp_min(0)
        apart = counts * (means - 255 * palette.double()[nearest]).square().sum(1)
        return (within + apart).sum() / (3 * 255**2 * counts.sum())

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
        means = (cells[:, 1:4] / (255 * cells[:, :1])).to(torch.float32)
        return WeightedColors(codes[order], means[order], cells[order, 0])

    def __repr__(self) -> str:
        return f"ColorHistogram({self.count:g} pixels)"


# torch.load(weights_only=True), the default, makes objects of known classes only.
torch.serialization.add_safe_globals([ColorHistogram])


def count(
    images: Tensor | ColorHistogram | WeightedColors | Iterable[Any],
    weights: Tensor | Iterable[Tensor | None] | None = None,
    num_colors: int = 0,
) -> WeightedColors:
    """List the colours of whatever holds some: an image, a batch, many of them, a histogram.

    Args:
        images: see `colorquant_nn.fit_palette`. What is counted already stays so.
        weights: see `colorquant_nn.fit_palette`; all 1 without it.
        num_colors: floats of an image or a batch that round to the same byte are told apart if
            there are at most so many that do not.

    Returns:
        Colours without repetition.

    Raises:
        ValueError: there is no image, one of another shape, or weights that do not fit.
        TypeError: something is no image, or no weight.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.histogram import count
        >>> count(torch.tensor([[[0, 9, 0]]], dtype=torch.uint8).expand(3, 1, 3)).weights
        tensor([2., 1.], dtype=torch.float64)
    """
    if isinstance(images, WeightedColors):
        return images
    if isinstance(images, ColorHistogram):
        if weights is not None:
            raise ValueError(
                "expected no weights beside a ColorHistogram, whose pixels have theirs: give them "
                "to its update"
            )
        return images.colors()
    if not isinstance(images, Tensor):
        return merge_colors(count_each(images, weights))
    [(_, votes)] = iterate_weighted(images, weights)
    points = to_pixels(images)
    counted = count_colors(points, votes)
    if images.dtype == torch.uint8 or len(counted.codes) > num_colors:
        return counted
    return split_floats(points, votes, counted)


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


def count_each(
    images: Iterable[Any], weights: Iterable[Tensor | None] | None = None
) -> Iterator[WeightedColors]:
    """List the colours of one image after another, many small ones at once, for `merge_colors`.

    Args:
        images: an iterable, as for `colorquant_nn.fit_palette`.
        weights: as many, see there.

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
    room, kind, first = BATCH, None, True
    for image, votes in iterate_weighted(images, weights):
        if first:
            warn_of_pictures(image)
            first = False
        pixels = to_pixels(image.detach()).flatten(0, 1)
        is_small = len(pixels) <= BATCH // 4 and votes is None
        its_kind = (image.dtype, image.device, pixels.shape[1])
        if batch and not (is_small and len(pixels) <= room and its_kind == kind):
            yield _limit(count_colors(torch.cat(batch)[None]))
            batch, room = [], BATCH
        if is_small:
            batch.append(pixels.clone())  # the next image may come in the same memory
            room, kind = room - len(pixels), its_kind
        else:
            yield count_colors(pixels[None], None if votes is None else votes.reshape(1, -1))
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
        if len(pending) > MOST_PENDING or (size > 2 * MERGE_ABOVE and len(pending) > 1):
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
        # Where all that is seen has no weight, there is nothing to go by.
        if bool(transparent.any()) and (bool(voting.any()) or bool(transparent.all())):
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
    total = np.add.reduceat(weights.numpy(), first)
    means = np.empty_like(base)
    for channel, value in enumerate(colors.numpy().T):  # one by one: a stream has a million
        offsets = (value - np.repeat(base[:, channel], lengths)) * weights.numpy()
        means[:, channel] = base[:, channel] + np.add.reduceat(offsets, first) / total
    return WeightedColors(
        torch.from_numpy(codes[first]), torch.from_numpy(means), torch.from_numpy(total)
    )
