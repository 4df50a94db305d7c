"""From weighted colours to their best palette: search on few, finish on all.

Letters: M colours, K colours of a palette, C channels (3, or 4 with alpha), J pinned centroids,
R starts.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.color import (
    LUMINANCE,
    color_space,
    from_working_space,
    rgb_to_linear,
    to_working_space,
)
from colorquant_nn.functional.grid import Bits, fit_to_grid, round_to_grid, without_repetition
from colorquant_nn.functional.histogram import WeightedColors, count
from colorquant_nn.functional.metrics import weighted_mse
from colorquant_nn.functional.opacity import assign, keep_opaque
from colorquant_nn.functional.points import (
    check_count,
    check_palette,
    check_tensor,
    with_alpha,
)
from colorquant_nn.functional.seeding import num_candidates
from colorquant_nn.names import Effort, Space

__all__ = [
    "EFFORTS",
    "Schedule",
    "dark_to_light",
    "fit",
    "fit_centroids",
    "resize_palette",
    "round_to_bytes",
    "smallest_count",
]

CHUNK = 1 << 20  # colours whose error is measured at a time


class Schedule(NamedTuple):
    """How thoroughly to search.

    Examples:
        >>> from colorquant_nn.functional.fitting import EFFORTS
        >>> EFFORTS["best"]._replace(starts=8).starts
        8
    """

    bits: int
    """Of the grid whose cell means the search runs on, at least."""
    cells: int
    """For each centroid, at least; with fewer, the search runs on a finer grid."""
    starts: int
    """Independent ones, of which the best is kept; for few centroids more, up to eight."""
    candidates: int
    """More draws than this are not made for each seed of k-means++."""
    steps: int
    """Lloyd steps after the seeding."""
    rounds: int
    """Of relocation and Lloyd, in each start."""
    steps_a_round: int
    """Lloyd steps in a round."""
    last_rounds: int
    """Rounds on all colours."""
    last_steps: int
    """Lloyd steps on all colours."""


EFFORTS: dict[Effort, Schedule] = {
    "fast": Schedule(
        bits=5,
        cells=8,
        starts=1,
        candidates=3,
        steps=8,
        rounds=6,
        steps_a_round=3,
        last_rounds=0,
        last_steps=3,
    ),
    "balanced": Schedule(
        bits=6,
        cells=8,
        starts=1,
        candidates=5,
        steps=10,
        rounds=16,
        steps_a_round=4,
        last_rounds=0,
        last_steps=4,
    ),
    "best": Schedule(
        bits=5,
        cells=32,
        starts=4,
        candidates=8,
        steps=10,
        rounds=40,
        steps_a_round=4,
        last_rounds=1,
        last_steps=8,
    ),
}
"""Schedules by name; their numbers were chosen on the Kodak photographs."""


def fit(
    colors: WeightedColors,
    num_colors: int,
    space: Space = "rgb",
    effort: Effort = "balanced",
    keep: Tensor | None = None,
    seed: int = 0,
    bits: Bits | None = None,
) -> Tensor:
    """Find the palette with the smallest weighted squared error, as `colorquant_nn.fit_palette`.

    Args:
        colors: to stand for, without repetition.
        num_colors: K, at least 1.
        space: where distances are taken.
        effort: a name of `EFFORTS`.
        keep: (J, 3) or (J, C) colours that the palette contains exactly, J at most K.
        seed: of what is left to chance.
        bits: of red, green and blue; the colours are on their grid, see `round_to_grid`.

    Returns:
        (K, C) float32 sRGB in [0, 1], dark to light, on the device of the pixels; fewer rows for
        fewer colours, or where the grid has no more that would be of use.

    Raises:
        ValueError: there is no colour, one to keep has an alpha that the others have not, or
            colours to keep leave no room for a transparent one.

    References:
        Lloyd 1982, "Least squares quantization in PCM"; Arthur and Vassilvitskii 2007,
        "k-means++: the advantages of careful seeding"; Fritzke 2020, "The breathing k-means
        algorithm".

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.fitting import fit
        >>> from colorquant_nn.functional.histogram import count
        >>> fit(count(torch.tensor([[[0.0, 0.2, 1.0]]]).expand(3, 1, 3)), 2)
        tensor([[0.1000, 0.1000, 0.1000],
                [1.0000, 1.0000, 1.0000]])
    """
    pinned = _pinned(colors, num_colors, keep)
    if len(colors.codes) == 0 and len(pinned) == 0:
        raise ValueError("expected an image with at least one pixel that has a vote")
    points = to_working_space(_with_opaque_cells(colors), space)

    def on_grid(palette: Tensor) -> Tensor:
        if bits is None:
            return palette
        cells = _pool(points, colors.weights, colors.codes, EFFORTS[effort].bits)
        return fit_to_grid(points, colors.weights, cells, palette, len(pinned), space, bits)

    if len(colors.codes) + len(pinned) <= 2 * num_colors:
        rows = without_repetition(torch.cat([pinned, colors.colors]))
        if len(rows) <= num_colors:
            return dark_to_light(on_grid(rows)).to(colors.device)
    centroids = fit_centroids(
        points,
        colors.weights,
        colors.codes,
        num_colors,
        to_working_space(pinned, space),
        EFFORTS[effort],
        seed,
    )
    if points.shape[1] == 4:
        opaque = color_space(space).lightness
        centroids = keep_opaque(points, colors.weights, centroids, len(pinned), opaque)
    found = torch.cat([pinned, from_working_space(centroids[len(pinned) :], space)])
    return dark_to_light(on_grid(found)).to(colors.device)


def _with_opaque_cells(colors: WeightedColors) -> Tensor:
    """The colours, whose alpha is 1 where they are in the last cell of it: of opaque pixels."""
    if colors.colors.shape[1] == 3:
        return colors.colors
    alpha = colors.colors[:, 3:]
    cells = (alpha * 255 + 0.5).to(torch.int64) >> (8 - colors.bits)
    is_last = cells == (1 << colors.bits) - 1
    return torch.cat([colors.colors[:, :3], torch.where(is_last, 1, alpha)], dim=1)


def _pinned(colors: WeightedColors, num_colors: int, keep: Tensor | None) -> Tensor:
    """The colours (J, C) that are given: those to keep, and a transparent one beside any."""
    channels = colors.colors.shape[1]
    kept = colors.colors[:0] if keep is None else keep
    if channels == 4:
        kept = with_alpha(kept)
    if kept.shape[1] != channels:
        raise ValueError(
            f"expected colours to keep (J, {channels}) for images of {channels} channels, "
            f"got {tuple(kept.shape)}"
        )
    if colors.hole is None or bool((kept[:, 3] == 0).any()):
        return kept
    if len(kept) == 0 and num_colors == 1 and len(colors.codes) > 0:
        return kept  # the one colour is for what is seen
    if len(kept) == num_colors:
        raise ValueError(
            f"expected room for the transparent pixels' colour beside {len(kept)} colours to keep, "
            f"got num_colors={num_colors}: more colours are needed, or a transparent one among "
            "those to keep"
        )
    return torch.cat([kept, colors.hole[None]])


def fit_centroids(
    points: Tensor,
    weights: Tensor,
    codes: Tensor,
    num_clusters: int,
    pinned: Tensor,
    schedule: Schedule,
    seed: int,
) -> Tensor:
    """Search for the centroids with the smallest sum of weighted squared distances.

    Args:
        points: (M, C) float32 in the working space, more than K distinct ones.
        weights: (M,) above 0.
        codes: (M,) int64, ascending: their places on a curve, see `WeightedColors`.
        num_clusters: K.
        pinned: (J, C), the first centroids, which do not move.
        schedule: how thoroughly, one of `EFFORTS`.
        seed: of all that is left to chance.

    Returns:
        (K, C) float32.

    References:
        See `fit`.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.fitting import EFFORTS, fit_centroids
        >>> from colorquant_nn.functional.histogram import count
        >>> codes, colors, weights, *_ = count(torch.rand(3, 8, 8))
        >>> fit_centroids(colors, weights, codes, 4, colors[:0], EFFORTS["fast"], 0).shape
        torch.Size([4, 3])
    """
    if len(pinned) == num_clusters:
        return pinned
    generator = torch.Generator("cpu").manual_seed(seed)
    # A power of two, which changes no digit: the search counts in float32, but weights may be any.
    weights = weights * 2.0 ** -math.frexp(float(weights.max()))[1]
    bits = schedule.bits
    cells = _pool(points, weights, codes, bits)
    while bits < 8 and len(cells[0]) < schedule.cells * num_clusters:
        bits += 1
        cells = _pool(points, weights, codes, bits)
    candidates = min(schedule.candidates, num_candidates(num_clusters))
    # With few centroids local minima are further apart, and a start is cheap.
    starts = max(schedule.starts, min(8, schedule.starts * 64 // num_clusters))
    start = points.new_zeros(starts, num_clusters, points.shape[1])
    start[:, : len(pinned)] = pinned
    draw = partial(torch.rand, generator=generator, device="cpu", dtype=torch.float32)
    draw_normal = partial(torch.randn, generator=generator, device="cpu", dtype=torch.float32)

    def blurs(starts: int, rounds: int) -> Tensor:
        return (kernels.CHANCE * draw_normal(starts, rounds, 2, num_clusters)).exp_()

    found = kernels.search(
        *cells,
        start,
        len(pinned),
        draw(starts, num_clusters, candidates),
        blurs(starts, schedule.rounds),
        schedule.steps,
        schedule.steps_a_round,
    )
    if bits == 8:
        return found
    return kernels.search(
        points,
        weights,
        found[None],
        len(pinned),
        draw(1, num_clusters, 0),
        blurs(1, schedule.last_rounds),
        schedule.last_steps,
        schedule.steps_a_round,
    )


def _pool(points: Tensor, weights: Tensor, codes: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Means and weights of the cells of a coarser grid, in the order of the codes."""
    shift = points.shape[1] * (8 - bits)
    if shift == 0:
        return points, weights
    cells = codes.numpy() >> shift
    first = np.flatnonzero(np.diff(cells, prepend=-1))
    total = np.add.reduceat(weights.numpy(), first)
    sums = np.add.reduceat(points.numpy() * weights.numpy()[:, None], first, axis=0)
    means = (sums / total[:, None]).astype(np.float32)
    return torch.from_numpy(means), torch.from_numpy(total)


def smallest_count(psnr: Callable[[int], float], min_psnr: float, most: int, least: int = 1) -> int:
    """Find the smallest K whose PSNR is at least ``min_psnr``, with few calls.

    Args:
        psnr: of a number of colours, in dB; about linear in log K.
        min_psnr: in dB.
        most: a number of colours that is known to reach it.
        least: the smallest number of colours to try, at most ``most``.

    Returns:
        K from ``least`` to ``most``; that of K - 1 does not reach it.

    Examples:
        >>> import math
        >>> from colorquant_nn.functional.fitting import smallest_count
        >>> smallest_count(lambda count: 10 * math.log10(count), 20.0, most=1000)
        100
    """
    low, high = least - 1, most
    low_psnr, high_psnr = -math.inf, math.inf
    guess, halve = min(16, most), False
    while high - low > 1:
        guess = min(max(guess, low + 1), high - 1)
        width = math.log(high / max(low, 0.5))
        reached = psnr(guess)
        if reached >= min_psnr:
            high, high_psnr = guess, reached
        else:
            low, low_psnr = guess, reached
        if math.isinf(low_psnr):
            guess = high // 4
        elif math.isinf(high_psnr):
            # MSE falls about as K to the power of -2/3: 20 dB for each factor of 1000.
            guess = round(low * 10 ** min((min_psnr - low_psnr) / 6.7, 2)) + 1
        else:
            halve = not halve and math.log(high / low) > width / 2  # one end may be stuck
            share = 0.5 if halve else (min_psnr - low_psnr) / max(high_psnr - low_psnr, 1e-9)
            guess = round(low * (high / low) ** share)
    return high


def palette_error(colors: WeightedColors, palette: Tensor, space: Space) -> Tensor:
    """The `weighted_mse` in sRGB, when each colour takes the one that is nearest in a space."""
    centroids, opaque = to_working_space(palette, space), color_space(space).lightness
    total = colors.weights.new_zeros(())
    for part, weights in zip(colors.colors.split(CHUNK), colors.weights.split(CHUNK), strict=True):
        points = to_working_space(part, space)
        nearest = assign(points, centroids, opaque)
        total += weighted_mse(part, palette[nearest], weights) * weights.sum()
    return total / colors.weights.sum()


def dark_to_light(palette: Tensor) -> Tensor:
    """Order a palette by luminance, transparent colours first, equals by their channels.

    Args:
        palette: (K, 3) or (K, 4) sRGB in [0, 1], on the CPU.

    Returns:
        The same rows.

    References:
        ITU-R BT.709, the weights of the linear channels.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.fitting import dark_to_light
        >>> dark_to_light(torch.eye(3))  # blue, red, green
        tensor([[0., 0., 1.],
                [1., 0., 0.],
                [0., 1., 0.]])
    """
    luminance = rgb_to_linear(palette[:, :3].double()) @ palette.new_tensor(LUMINANCE).double()
    seen = (palette[:, 3] > 0) if palette.shape[1] == 4 else torch.ones_like(palette[:, 0])
    channels = palette.flip(1).unbind(1)
    order = np.lexsort([key.numpy() for key in (*channels, luminance, seen)])
    return palette[torch.from_numpy(order)]


def resize_palette(palette: Tensor, num_colors: int, counts: Tensor | None = None) -> Tensor:
    """Make a palette of another number of colours without seeing the images again.

    Fewer colours are the weighted k-means of the old ones, dark to light. More colours are the old
    ones, then new ones: each time the colour of the largest count is halved, and the other half
    goes half-way to the colour next to it. Learn on from the result for a palette as good as new.

    Args:
        palette: (K, 3) sRGB, float in [0, 1] or uint8.
        num_colors: of the new palette, at least 1.
        counts: (K,) how often each colour is used, at least 0; all the same without it.

    Returns:
        (num_colors, 3) float32 sRGB in [0, 1].

    Raises:
        ValueError: for arguments out of range or of another shape.
        TypeError: for something else than tensors and a whole number.

    Examples:
        >>> import torch
        >>> from colorquant_nn import ColorQuantize, resize_palette
        >>> old = ColorQuantize(4).fit(torch.rand(2, 3, 16, 16))
        >>> larger = resize_palette(old.palette, 6, old.counts)
        >>> ColorQuantize.from_palette(larger, frozen=False)
        ColorQuantize(6, space='rgb')
    """
    num_colors = check_count(num_colors)
    colors = check_palette(palette)
    weights = colors.new_ones(len(colors))
    if counts is not None:
        check_tensor(counts, f"counts as a tensor ({len(colors)},)")
        weights = counts.detach().to(colors)
    if weights.shape != colors.shape[:1]:
        raise ValueError(f"expected counts ({len(colors)},), got {tuple(weights.shape)}")
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise ValueError("expected counts that are finite and at least 0")
    if num_colors < len(colors):
        used = weights + 1e-6 * weights.mean() + 1e-30  # unused colours come last, not never
        listed = count(colors.T[:, None], used[None], len(colors))
        colors = fit(listed, num_colors, effort="best")  # fewer, where many were the same
        weights = colors.new_ones(len(colors))
    resized, share = colors.cpu(), weights.to("cpu", copy=True)  # not the caller's
    while len(resized) < num_colors:
        largest = share.argmax()
        color = resized[largest]
        corner = (color < 0.5).to(color)  # the far one, for a colour alone
        others = torch.cat([resized, corner[None]])
        distance = (others - color).square().sum(1)
        distance[distance == 0] = torch.inf
        half_way = (color + others[distance.argmin()]) / 2
        share[largest] /= 2
        resized = torch.cat([resized, half_way[None]])
        share = torch.cat([share, share[largest][None]])
    return resized.to(colors.device, copy=True)


def round_to_bytes(palette: Tensor) -> Tensor:
    """Round a palette to 8-bit colours, still floating point.

    Args:
        palette: (K, C) in [0, 1].

    Returns:
        (K, C) multiples of 1/255.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.fitting import round_to_bytes
        >>> round_to_bytes(torch.tensor([[0.001, 0.201, 1.0]]))
        tensor([[0.0000, 0.2000, 1.0000]])
    """
    return round_to_grid(palette, (8, 8, 8))
