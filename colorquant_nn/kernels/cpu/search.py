"""Searching for good k-means centroids of weighted points on the CPU.

The points come sorted along a curve that fills space, so that 64 neighbours in memory, a tile, are
neighbours in space and fit into a small box. Every step first asks what the box rules out: the
centroids that are not nearest to any of its points, or a new centroid that comes near to none. The
results are exact, for points in another order too, which take longer.

Letters: M points, T tiles of 64, K centroids, C channels (3 or 4), L draws, R starts. Centroids are
(C, K) float32 here, moments (K, 1 + C + C (C + 1) / 2) float64, as
`colorquant_nn.kernels.unpack_moments` names them. ``alpha`` is None where there are three channels:
numba then leaves the code for a fourth out before it compiles the rest.
"""

# mypy: disable-error-code="no-untyped-def"

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn.kernels import reference
from colorquant_nn.kernels.cpu.runtime import (
    REORDERED,
    greater,
    kernel,
    lesser,
    run_tasks,
    subroutine,
)

TILE = 64
LANES = 8
INFINITY = np.float32(np.inf)
# No colour is so far away. A power of two: the first draw is by weights, as they are.
FAR = np.float32(2.0**60)
ZERO = np.float32(0)
# A centroid too many in the list does no harm; this covers rounding.
SLACK = np.float32(1.0001)
TINY = reference.TINY
SPLIT_GAIN = reference.SPLIT_GAIN


class Tiles(NamedTuple):
    """Weighted points; the last tile is filled up with one of weight 0."""

    points: NDArray[np.float32]
    """(T, C, 64)."""
    weights: NDArray[np.float32]
    """(T, 64)."""
    lower: NDArray[np.float32]
    """(T, C), a corner of the box of each."""
    upper: NDArray[np.float32]
    """(T, C)."""


class Rules(NamedTuple):
    """Which relocations are made; see `colorquant_nn.kernels.relocate`."""

    pinned: int
    margin: float
    most: int


def seed(points: Tensor, weights: Tensor, start: Tensor, pinned: int, uniforms: Tensor) -> Tensor:
    """See `colorquant_nn.kernels.seed`."""
    if start.dtype == torch.float64:
        return NotImplemented
    if len(points) == 0:  # as with a point without weight
        points, weights = start.new_zeros(1, start.shape[1]), start.new_zeros(1)
    centroids = start.detach().to(torch.float32).T.clone(memory_format=torch.contiguous_format)
    tiles = _tiles_of(points, weights)
    _seed(tiles, pinned, uniforms.to(torch.float32).numpy(), centroids.numpy())
    return centroids.T.to(start.dtype).contiguous()


def relocate(
    centroids: Tensor,
    counts: Tensor,
    moments: Tensor,
    movable: Tensor,
    limit: Tensor,
    margin: float,
    blur: Tensor | None,
    pinned: int,
) -> tuple[Tensor, Tensor]:
    """See `colorquant_nn.kernels.relocate`."""
    if centroids.dtype == torch.float64:
        return NotImplemented
    numbers = counts.detach().to(torch.float64)
    weights = numbers * (moments[:, 0].sum() / numbers.sum().clamp_min(TINY))
    blur = torch.ones(2, len(counts)) if blur is None else blur
    position = centroids.detach().to(torch.float32).T.contiguous().numpy()
    trial = position.copy()
    moves = np.empty((min(int(limit), reference.most_moves(len(counts))), 3), np.int64)
    made = _relocate(
        position, weights.numpy(), moments.detach().contiguous().numpy(), movable.numpy(),
        Rules(pinned, margin, len(moves)), blur.to(torch.float32).numpy(), trial, moves,
    )  # fmt: skip
    change = torch.zeros_like(numbers)
    for source, target, split in moves[:made].tolist():
        half = numbers[split] / 2
        change[target] += numbers[source]
        change[split] -= half
        change[source] += half - numbers[source]
    return torch.from_numpy(trial.T.copy()).to(centroids.dtype), (numbers + change).to(counts.dtype)


def search(
    points: Tensor,
    weights: Tensor,
    start: Tensor,
    pinned: int,
    uniforms: Tensor,
    blurs: Tensor,
    steps: int,
    steps_a_round: int,
) -> Tensor:
    """See `colorquant_nn.kernels.search`."""
    if points.shape[1] not in (3, 4) or start.dtype == torch.float64:
        return NotImplemented
    if len(points) == 0:
        return start[0].clone()
    tiles = _tiles_of(points, weights)
    draws, factors = uniforms.to(torch.float32).numpy(), blurs.to(torch.float32).numpy()
    rows = start.detach().to(torch.float32).transpose(1, 2)
    centroids = rows.clone(memory_format=torch.contiguous_format).numpy()  # to be changed
    distortions = np.empty(len(start))

    def work(task: int) -> None:
        distortions[task] = _search_once(
            tiles, pinned, draws[task], factors[task], steps, steps_a_round, centroids[task]
        )

    run_tasks(work, len(start))
    return torch.from_numpy(centroids[distortions.argmin()].T.copy()).to(start.dtype)


def _tiles_of(points: Tensor, weights: Tensor) -> Tiles:
    """Cut (M, C) points and (M,) weights."""
    missing = -len(points) % TILE
    rows, votes = points.detach().to(torch.float32).numpy(), weights.detach().numpy()
    rows = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
    votes = np.concatenate([votes, np.zeros(missing)]).astype(np.float32).reshape(-1, TILE)
    tiles = np.ascontiguousarray(rows.reshape(-1, TILE, rows.shape[1]).transpose(0, 2, 1))
    return Tiles(tiles, votes, tiles.min(2), tiles.max(2))


def _search_once(tiles, pinned, uniforms, blurs, steps, steps_a_round, centroids):
    """Seed ``centroids``, Lloyd, rounds of relocation and Lloyd; returns the distortion."""
    channels, num_clusters = centroids.shape
    moments = np.empty((num_clusters, reference.num_moments(channels)))
    trial_moments = np.empty_like(moments)
    trial = np.empty((channels, num_clusters), np.float32)
    moves = np.empty((reference.most_moves(num_clusters), 3), np.int64)
    movable = np.arange(num_clusters) >= pinned
    alpha = None if channels == 3 else True
    if uniforms.shape[1] > 0:
        _seed(tiles, pinned, uniforms, centroids)
    least = _lloyd(tiles, pinned, steps, centroids, alpha, moments)
    rules = Rules(pinned, reference.SEARCH_MARGIN, len(moves))
    for blur in blurs:
        counts = moments[:, 0].copy()
        trial[:] = centroids
        if _relocate(centroids, counts, moments, movable, rules, blur, trial, moves) == 0:
            continue
        distortion = _lloyd(tiles, pinned, steps_a_round, trial, alpha, trial_moments)
        if distortion < least:
            least = distortion
            centroids[:] = trial
            moments, trial_moments = trial_moments, moments
        else:
            rules = rules._replace(most=max(1, rules.most // 2))
    return least


@subroutine(REORDERED)
def _list_candidates(lower, upper, centroids, near, far, least, candidates):
    """List the centroids that may be nearest to a point in a box, in ascending order."""
    num_clusters = centroids.shape[1]
    for k in range(num_clusters):
        near[k] = ZERO
        far[k] = ZERO
    for c in range(centroids.shape[0]):
        low, high, row = lower[c], upper[c], centroids[c]
        for k in range(num_clusters):
            below, above = row[k] - low, high - row[k]
            out = greater(greater(-below, -above), ZERO)
            reach = greater(below, above)
            near[k] += out * out
            far[k] += reach * reach
    for lane in range(LANES):
        least[lane] = INFINITY
    for start in range(0, far.size, LANES):  # padded with infinity
        for lane in range(LANES):
            least[lane] = lesser(least[lane], far[start + lane])
    bound = INFINITY
    for lane in range(LANES):
        bound = lesser(bound, least[lane])
    bound *= SLACK
    count = 0
    for k in range(num_clusters):
        candidates[count] = k
        count += near[k] <= bound
    return count


@subroutine(REORDERED)
def _assign_tile(tile, centroids, alpha, candidates, best, index):
    """Nearest candidate of each of the tile's points."""
    x, y, z, a = tile[0], tile[1], tile[2], tile[-1]
    for i in range(TILE):
        best[i] = INFINITY
        index[i] = 0
    for k in candidates:
        cx, cy, cz, ca = centroids[0, k], centroids[1, k], centroids[2, k], centroids[-1, k]
        for i in range(TILE):
            dx, dy, dz = x[i] - cx, y[i] - cy, z[i] - cz
            distance = dx * dx + dy * dy + dz * dz
            if alpha is not None:
                distance += (a[i] - ca) * (a[i] - ca)
            nearer = distance < best[i]
            best[i] = distance if nearer else best[i]
            index[i] = k if nearer else index[i]


@kernel(REORDERED)
def _lloyd(tiles, pinned, steps, centroids, alpha, moments):
    """Steps of Lloyd's algorithm, then the moments, whose distortion is returned.

    The pinned centroids, the first, stay. Moments are those of the points about their nearest
    centroids; second ones are needed at the end only.
    """
    points, weights, lower, upper = tiles
    channels, num_clusters = centroids.shape
    padded = (num_clusters + LANES - 1) // LANES * LANES
    # Each kind of array takes a while to compile, so scratch is rows of a few.
    floats = np.empty((4, greater(padded, TILE)), np.float32)
    near, far, least, best = floats[0], floats[1, :padded], floats[2], floats[3]
    integers = np.empty((2, greater(num_clusters + 1, TILE)), np.int32)
    candidates, index = integers[0], integers[1]
    for k in range(num_clusters, padded):
        far[k] = INFINITY
    complete = steps == 0
    while True:
        for k in range(num_clusters):
            for column in range(moments.shape[1]):
                moments[k, column] = 0.0
        for t in range(len(points)):
            tile = points[t]
            count = _list_candidates(lower[t], upper[t], centroids, near, far, least, candidates)
            _assign_tile(tile, centroids, alpha, candidates[:count], best, index)
            for i in range(TILE):
                row = moments[np.uint32(index[i])]
                k = np.uint32(index[i])
                weight = np.float64(weights[t, i])
                x = np.float64(tile[0, i] - centroids[0, k])
                y = np.float64(tile[1, i] - centroids[1, k])
                z = np.float64(tile[2, i] - centroids[2, k])
                row[0] += weight
                row[1] += weight * x
                row[2] += weight * y
                row[3] += weight * z
                if alpha is None:
                    if complete:
                        row[4] += weight * x * x
                        row[5] += weight * x * y
                        row[6] += weight * x * z
                        row[7] += weight * y * y
                        row[8] += weight * y * z
                        row[9] += weight * z * z
                else:
                    a = np.float64(tile[3, i] - centroids[3, k])
                    row[4] += weight * a
                    if complete:
                        row[5] += weight * x * x
                        row[6] += weight * x * y
                        row[7] += weight * x * z
                        row[8] += weight * x * a
                        row[9] += weight * y * y
                        row[10] += weight * y * z
                        row[11] += weight * y * a
                        row[12] += weight * z * z
                        row[13] += weight * z * a
                        row[14] += weight * a * a
        if complete:
            break
        moved = False
        for k in range(pinned, num_clusters):
            if moments[k, 0] > 0:
                for c in range(channels):
                    mean = centroids[c, k] + moments[k, 1 + c] / moments[k, 0]
                    moved |= np.float32(mean) != centroids[c, k]
                    centroids[c, k] = mean
        steps -= 1
        complete = steps == 0 or not moved
    total = 0.0
    column = 1 + channels
    for length in range(channels, 0, -1):  # the traces of the scatters
        for k in range(num_clusters):
            total += moments[k, column]
        column += length
    return total


@subroutine(REORDERED, inline="always")
def _longest_axes(moments, variance, axes):
    """Variance along, and direction of, the longest axis of each cluster.

    The directions are the first K of (K + C + 1, C) axes; the others are scratch.
    """
    channels = axes.shape[1]
    covariance, product = axes[len(moments) :], axes[len(moments) + channels]
    for k in range(len(moments)):
        weight = greater(moments[k, 0], TINY)
        vector = axes[k]
        column = 1 + channels
        for c in range(channels):
            for d in range(c, channels):
                mixed = moments[k, 1 + c] * moments[k, 1 + d] / weight
                covariance[c, d] = covariance[d, c] = (moments[k, column] - mixed) / weight
                column += 1
        longest = 0
        for c in range(channels):
            if covariance[c, c] > covariance[longest, longest]:
                longest = c
        for c in range(channels):
            vector[c] = covariance[longest, c]
        square = 0.0
        for _ in range(12):  # of the power iteration
            square = TINY
            for c in range(channels):
                product[c] = 0.0
                for d in range(channels):
                    product[c] += covariance[c, d] * vector[d]
                square += product[c] * product[c]
            for c in range(channels):
                vector[c] = product[c] / np.sqrt(square)
        # The covariance has stretched a vector of length 1 to this.
        variance[k] = np.sqrt(square - TINY)


@subroutine(REORDERED, inline="always")
def _list_merges(centroids, counts, movable, row, cost, neighbour):
    """Ward's cost of merging each centroid into the neighbour where that is least."""
    channels, num_clusters = centroids.shape
    for j in range(num_clusters):
        neighbour[j] = -1
        cost[j] = np.inf
        if not movable[j]:
            continue
        for k in range(num_clusters):
            row[k] = 0.0
        for c in range(channels):
            for k in range(num_clusters):
                step = centroids[c, k] - centroids[c, j]
                row[k] += step * step
        weight = counts[j]
        for k in range(num_clusters):
            if k != j:
                other = counts[k]
                merging = weight * other / greater(weight + other, TINY) * row[k]
                if merging < cost[j]:
                    cost[j] = merging
                    neighbour[j] = k


@subroutine(REORDERED)
def _least(values):
    best = 0
    for k in range(values.size):
        if values[k] < values[best]:
            best = k
    return best


@kernel(REORDERED)
def _relocate(centroids, counts, moments, movable, rules, blur, trial, moves):
    """See `colorquant_nn.kernels.relocate`.

    Args:
        centroids: (C, K).
        counts: (K,), on the scale of the moments' counts.
        moments: (K, F).
        movable: (K,) bool.
        rules: see `Rules`.
        blur: (2, K).
        trial: (C, K), a copy of the centroids, to be moved.
        moves: (at least ``rules.most``, 3), filled with source, target and split cluster.

    Returns:
        How many moves were made.
    """
    channels, num_clusters = centroids.shape
    most_looks = 2 * greater(1, num_clusters // 8)  # at merges, as the plain form does
    floats = np.empty((4, num_clusters))
    variance, cost, loss, row = floats[0], floats[1], floats[2], floats[3]
    axes = np.empty((num_clusters + channels + 1, channels))
    integers = np.empty((3, num_clusters), np.int32)
    neighbour, gone, kept = integers[0], integers[1], integers[2]
    _longest_axes(moments, variance, axes)
    _list_merges(centroids, counts, movable, row, cost, neighbour)
    for k in range(num_clusters):
        shared = lesser(counts[k], moments[k, 0])  # one odd batch is no reason to move
        loss[k] = -SPLIT_GAIN * shared * variance[k] * blur[1, k]
        cost[k] *= blur[0, k]
        gone[k] = kept[k] = 0
    made = 0
    for _ in range(lesser(num_clusters, most_looks)):
        if made == rules.most:
            break
        source = _least(cost)
        price = cost[source]
        cost[source] = np.inf  # its turn is over
        if not price < np.inf:
            break
        target = neighbour[source]
        if kept[source] + gone[target] > 0:
            continue
        loss[source] = np.inf
        split = _least(loss)
        if not -loss[split] > rules.margin * price:
            break
        loss[split] = np.inf
        moves[made, 0], moves[made, 1], moves[made, 2] = source, target, split
        made += 1
        gone[source] = kept[target] = kept[split] = 1
        if target >= rules.pinned:
            weight = counts[source]
            pull = weight / greater(counts[target] + weight, TINY)
            for c in range(channels):
                trial[c, target] += pull * (centroids[c, source] - centroids[c, target])
        for c in range(channels):
            offset = axes[split, c] * np.sqrt(SPLIT_GAIN * variance[split])
            trial[c, source] = trial[c, split] + offset
            if split >= rules.pinned:
                trial[c, split] -= offset
    return made


@subroutine(REORDERED, inline="always")
def _pick(tiles, weights, nearest, sums, target, color):
    """The colour at which the running sum of weighted distances passes ``target``."""
    before = 0.0
    t = 0
    while t < sums.size - 1 and before + sums[t] <= target:
        before += sums[t]
        t += 1
    last = 0
    for i in range(TILE):
        share = np.float64(nearest[t, i] * weights[t, i])
        if share > 0:
            last = i
            before += share
            if before > target:
                break
    for c in range(len(color)):
        color[c] = tiles[t, c, last]


@subroutine(REORDERED)
def _saved_by(tiles, color, nearest, sums, reach, trial, keep):
    """What one more centroid takes off the sum of distances; they are lowered if it is kept."""
    saved = 0.0
    for t in range(len(sums)):
        tile, weight, near = tiles.points[t], tiles.weights[t], nearest[t]
        apart = ZERO  # squared distance to the box
        for c in range(len(color)):
            below, above = tiles.lower[t, c] - color[c], color[c] - tiles.upper[t, c]
            out = greater(greater(below, above), ZERO)
            apart += out * out
        if apart >= reach[t]:
            continue
        for i in range(TILE):
            trial[i] = ZERO
        for c in range(len(color)):
            for i in range(TILE):
                step = tile[c, i] - color[c]
                trial[i] += step * step
        total = 0.0
        for i in range(TILE):
            trial[i] = lesser(trial[i], near[i])
            total += np.float64(trial[i] * weight[i])
        saved += sums[t] - total
        if keep:
            sums[t] = total
            reach[t] = ZERO
            for i in range(TILE):
                near[i] = trial[i]
                reach[t] = greater(reach[t], trial[i])
    return saved


@kernel(REORDERED)
def _seed(tiles, pinned, uniforms, centroids):
    """Greedy k-means++ after the pinned centroids."""
    points, weights = tiles.points, tiles.weights
    num_clusters, num_candidates = uniforms.shape
    channels = len(centroids)
    # Each kind of array takes a while to compile, so scratch is rows of a few; so does each loop.
    nearest = np.empty(weights.shape, np.float32)
    rows = np.empty((3, greater(len(points), TILE)), np.float32)
    trial, reach, color = rows[0], rows[1], rows[2, :channels]
    sums = np.empty((1, len(points)))[0]
    for t in range(len(points)):
        sums[t] = 0.0
        reach[t] = FAR
        for i in range(TILE):
            nearest[t, i] = FAR
            sums[t] += FAR * np.float64(weights[t, i])
    for k in range(num_clusters):
        total = 0.0
        for value in sums:
            total += value
        draws = num_candidates if k > 0 else 1
        if k < pinned:
            draws = 0
        elif not total > 0:  # no colour is left that has not been chosen
            draws = 0
            for c in range(channels):
                centroids[c, k] = centroids[c, 0] if k > 0 else ZERO
        most = -1.0
        for draw in range(draws + (k + 1 < num_clusters)):  # nobody needs the last distances
            keep = draw == draws  # after the draws, what was chosen
            if keep:
                for c in range(channels):
                    color[c] = centroids[c, k]
            else:
                target = np.float64(uniforms[k, draw]) * total
                _pick(points, weights, nearest, sums, target, color)
            saved = _saved_by(tiles, color, nearest, sums, reach, trial, keep)
            if saved > most and not keep:
                most = saved
                for c in range(channels):
                    centroids[c, k] = color[c]
