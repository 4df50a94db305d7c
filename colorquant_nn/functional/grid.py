"""Colours of displays that have few bits a channel: their grid, and the best palette on it.

Letters: M colours, K of a palette, J pinned ones, C channels (3, or 4 with alpha).
"""

import math
from typing import Any

import torch
from torch import Tensor

from colorquant_nn.functional.color import color_space, from_working_space, to_working_space
from colorquant_nn.functional.opacity import assign
from colorquant_nn.names import Space

__all__ = [
    "Bits",
    "around",
    "check_bits",
    "check_on_grid",
    "fit_to_grid",
    "round_to_grid",
    "without_repetition",
]

Bits = tuple[int, int, int]
"""Of red, green and blue, 1 to 8 each."""

EXACT = "donot_use_mm_for_euclid_dist"
STEPS = 12  # of each search, at most


def round_to_grid(palette: Tensor, bits: Bits) -> Tensor:
    """Round a palette to colours of few bits a channel, still floating point.

    Args:
        palette: (K, C) in [0, 1].
        bits: of red, green and blue; alpha has 8.

    Returns:
        (K, C): level v of b bits is v / (2^b - 1).

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.grid import round_to_grid
        >>> round_to_grid(torch.tensor([[0.3, 0.3, 0.3]]), (1, 2, 3))
        tensor([[0.0000, 0.3333, 0.2857]])
    """
    most = palette.new_tensor([2**count - 1 for count in (*bits, 8)])[: palette.shape[-1]]
    return (palette * most).round() / most


def check_bits(bits: Any) -> Bits:
    """Check what a display has for a colour.

    Args:
        bits: three whole numbers from 1 to 8, or one for all channels.

    Returns:
        three.

    Raises:
        ValueError: for others, or another number of them.
        TypeError: for something else.

    Examples:
        >>> from colorquant_nn.functional.grid import check_bits
        >>> check_bits(5), check_bits([5, 6, 5])
        ((5, 5, 5), (5, 6, 5))
    """
    several = tuple(bits) if isinstance(bits, (tuple, list)) else (bits,) * 3
    if any(isinstance(count, bool) or not isinstance(count, int) for count in several):
        raise TypeError(f"expected bits as three whole numbers from 1 to 8, or one, got {bits!r}")
    if len(several) != 3 or not all(1 <= count <= 8 for count in several):
        raise ValueError(f"expected bits as three whole numbers from 1 to 8, or one, got {bits!r}")
    return several


def check_on_grid(kept: Tensor, bits: Bits) -> None:
    """Raise unless colours to keep are those of a display, at 8 bits.

    Args:
        kept: (J, C) in [0, 1].
        bits: of red, green and blue.

    Raises:
        ValueError: one is not; the message names the nearest that is.
    """
    for color, rounded in zip(kept, round_to_grid(kept, bits), strict=True):
        codes = ["#" + bytes((row * 255).round().byte().tolist()).hex() for row in (color, rounded)]
        if codes[0] != codes[1] and not codes[0].endswith("00", 7):  # what is clear has no colour
            raise ValueError(
                f"expected colours to keep that have {', '.join(map(str, bits))} bits, "
                f"got {codes[0]}; the nearest is {codes[1]}"
            )


def fit_to_grid(
    points: Tensor,
    weights: Tensor,
    cells: tuple[Tensor, Tensor],
    palette: Tensor,
    pinned: int,
    space: Space,
    bits: Bits,
) -> Tensor:
    """Find the best colours on a grid, from a palette beside it: Lloyd's algorithm, then steps.

    Of a cluster, the sum of squares is the weight times the squared distance from the mean, and a
    constant: the best centroid is the grid's point that is nearest to the mean. A colour that
    another one equals goes to the point of the grid around which most error is.

    Args:
        points: (M, C) float32 in the working space.
        weights: (M,) float64 above 0.
        cells: fewer points and their weights, means of these; they tell where to step.
        palette: (K, C) sRGB in [0, 1].
        pinned: J, how many of the first are only rounded.
        space: of the points.
        bits: of red, green and blue.

    Returns:
        (K, C) sRGB, or fewer rows where no other colour of the grid is of use; with no larger error
        than the rounded palette.

    References:
        Lloyd 1982, "Least squares quantization in PCM".

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.grid import fit_to_grid
        >>> points, weights = torch.tensor([[0.2, 0.4, 0.6]]), torch.ones(1, dtype=torch.float64)
        >>> fit_to_grid(points, weights, (points, weights), points, 0, "rgb", (1, 1, 1))
        tensor([[0., 0., 1.]])
    """
    count = len(palette)
    spots, spot_of = round_to_grid(from_working_space(points, space), bits).unique(
        dim=0, return_inverse=True
    )
    own = (points - to_working_space(spots, space)[spot_of]).square().sum(1)
    opaque = color_space(space).lightness

    def assigned(found: Tensor) -> tuple[Tensor, Tensor]:
        centroids = to_working_space(found, space)
        nearest = assign(points, centroids, opaque)
        return nearest, (points - centroids[nearest]).square().sum(1)

    found = best = round_to_grid(palette, bits)
    least = math.inf
    for _ in range(STEPS):
        found = without_repetition(found)
        nearest, errors = assigned(found)
        if len(found) < count:  # where a colour more gains most
            gains = weights.new_zeros(len(spots))
            gains.index_add_(0, spot_of, weights * (errors - own))
            order = gains.argsort(descending=True, stable=True)[: count - len(found)]
            found = torch.cat([found, spots[order[gains[order] > 0]]])
            nearest, errors = assigned(found)
        error = float((weights * errors).sum())
        if error >= least:
            break
        best, least = found, error
        totals = weights.new_zeros(len(found)).index_add_(0, nearest, weights)
        sums = points.new_zeros(found.shape, dtype=torch.float64)
        sums.index_add_(0, nearest, points * weights[:, None])
        moving = totals > 0
        moving[:pinned] = False
        means = (sums[moving] / totals[moving, None]).float()
        found = torch.cat([found[:pinned], _nearest_around(means, space, bits)])
    if points.shape[1] == 4:
        return best
    found = _step_on_grid(*cells, best, pinned, space, bits)
    return found if float((weights * assigned(found)[1]).sum()) < least else best


def _step_on_grid(
    points: Tensor, weights: Tensor, palette: Tensor, pinned: int, space: Space, bits: Bits
) -> Tensor:
    """Move colours to neighbours on the grid as long as that lowers the error.

    Where the nearest points of the grid are its centroids, Lloyd's algorithm ends; but when a
    colour moves, points change their cluster, and that may pay.
    """

    def two_nearest(found: Tensor) -> tuple[Tensor, Tensor]:
        centroids = to_working_space(found, space)
        parts = points.split(max(1, (1 << 22) // len(found)))
        apart = [
            torch.cdist(part, centroids, compute_mode=EXACT).topk(2, 1, False) for part in parts
        ]
        distances, indices = (torch.cat(side) for side in zip(*apart, strict=True))
        return distances.square(), indices

    if len(palette) == 1 or len(palette) == pinned:
        return palette
    errors, nearest = two_nearest(palette)
    least = float((weights * errors[:, 0]).sum())
    for _ in range(STEPS):
        places = around(palette, bits)  # (K, 27, C)
        centroids = to_working_space(places, space)
        now, then = weights.new_zeros(len(palette)), weights.new_zeros(places.shape[:2])
        for own, other in ((0, 1), (1, 0)):
            index = nearest[:, own]
            now.index_add_(0, index, weights * errors[:, 0])
            for step in range(places.shape[1]):
                moved = (points - centroids[index, step]).square().sum(1)
                then[:, step].index_add_(0, index, weights * torch.minimum(moved, errors[:, other]))
        gains, steps = (now[:, None] - then).max(1)
        gains[:pinned] = 0
        rows = torch.arange(len(palette), device="cpu")
        for moving in (gains > 0, rows == gains.argmax()):
            trial = torch.where(moving[:, None], places[rows, steps], palette)
            if len(trial.unique(dim=0)) < len(trial):
                continue
            trial_errors, trial_nearest = two_nearest(trial)
            error = float((weights * trial_errors[:, 0]).sum())
            if error < least:
                break
        else:
            break
        palette, errors, nearest, least = trial, trial_errors, trial_nearest, error
    return palette


def _nearest_around(means: Tensor, space: Space, bits: Bits) -> Tensor:
    """Of the grid's points around colours (N, C) of a space, the nearest in it: (N, C) sRGB."""
    points = around(from_working_space(means, space), bits)
    apart = (to_working_space(points, space) - means[:, None]).square().sum(2)
    return points[torch.arange(len(means), device="cpu"), apart.argmin(1)]


def around(colors: Tensor, bits: Bits) -> Tensor:
    """List the points of the grid around colours, the nearest first; at its edges some are alike.

    Args:
        colors: (N, C) in [0, 1].
        bits: of red, green and blue; alpha, which stays, has 8.

    Returns:
        (N, 27, C).

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.grid import around
        >>> around(torch.tensor([[0.9, 0.1, 0.3]]), (1, 1, 2))[0].unique(dim=0)[:3]
        tensor([[0.0000, 0.0000, 0.0000],
                [0.0000, 0.0000, 0.3333],
                [0.0000, 0.0000, 0.6667]])
    """
    steps = torch.cartesian_prod(*[colors.new_tensor([0, -1, 1])] * 3)  # the centre first
    steps = steps / colors.new_tensor([2**count - 1 for count in bits])
    points = round_to_grid(colors, bits)[:, None].expand(-1, len(steps), -1).clone()
    points[..., :3] = round_to_grid((points[..., :3] + steps).clamp(0, 1), bits)
    return points


def without_repetition(rows: Tensor) -> Tensor:
    """Keep the first of equal rows.

    Args:
        rows: (K, C).

    Returns:
        (K, C) or fewer, in the same order.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.grid import without_repetition
        >>> without_repetition(torch.tensor([[1.0], [0.0], [1.0]]))
        tensor([[1.],
                [0.]])
    """
    _, inverse = rows.unique(dim=0, return_inverse=True)
    places = torch.arange(len(rows), device=rows.device)
    first = inverse.new_full((int(inverse.max()) + 1,), len(rows))
    first.scatter_reduce_(0, inverse, places, "amin")
    return rows[first.sort().values]
