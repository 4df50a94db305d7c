"""Search for good k-means centroids of weighted points on the CPU.

The points come sorted along a curve that fills space, so that 64 neighbours in memory, a tile, are
neighbours in space and fit into a small box. Every step first asks which centroids can be nearest
to some point of the box: the others cannot win and are left out, and the result is exact.

Letters: T tiles of 64 points, K centroids, C channels (3 or 4), J pinned centroids. Tiles are
(T, C, 64), their boxes (T, C), centroids (C, K), all float32; moments (K, 1 + C + C (C + 1) / 2)
float64, as `colorquant_nn.kernels.unpack_moments` names them. ``alpha`` is None where there are
three channels: numba then leaves the code for a fourth out before it compiles the rest.
"""

from typing import Any

import numpy as np

from colorquant_nn.kernels._compile import REORDERED, kernel, subroutine
from colorquant_nn.kernels.cpu_seeding import TILE, seed_centroids

LANES = 8
INFINITY = np.float32(np.inf)
ZERO = np.float32(0)
# A centroid too many in the list does no harm; this covers rounding.
SLACK = np.float32(1.0001)
TINY = 1e-30
SPLIT_GAIN = 2 / np.pi  # as in `colorquant_nn.functional.relocation`
MARGIN = 0.5


@subroutine(REORDERED)
def _list_candidates(
    lower: Any, upper: Any, centroids: Any, near: Any, far: Any, least: Any, candidates: Any
) -> int:
    """List the centroids that may be nearest to a point in a box, in ascending order."""
    num_clusters = centroids.shape[1]
    for k in range(num_clusters):
        near[k] = ZERO
        far[k] = ZERO
    for c in range(centroids.shape[0]):
        low, high, row = lower[c], upper[c], centroids[c]
        for k in range(num_clusters):
            below, above = row[k] - low, high - row[k]
            out = max(max(-below, -above), ZERO)
            reach = max(below, above)
            near[k] += out * out
            far[k] += reach * reach
    for lane in range(LANES):
        least[lane] = INFINITY
    for start in range(0, far.size, LANES):  # padded with infinity
        for lane in range(LANES):
            least[lane] = min(least[lane], far[start + lane])
    bound = INFINITY
    for lane in range(LANES):
        bound = min(bound, least[lane])
    bound *= SLACK
    count = 0
    for k in range(num_clusters):
        candidates[count] = k
        count += near[k] <= bound
    return count


@subroutine(REORDERED)
def _assign_tile(
    tile: Any, centroids: Any, alpha: Any, candidates: Any, best: Any, index: Any
) -> None:
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


@subroutine(REORDERED)
def _measure(
    tiles: Any,
    weights: Any,
    lower: Any,
    upper: Any,
    centroids: Any,
    alpha: Any,
    complete: Any,
    moments: Any,
) -> None:
    """Sum up the moments of the points about their nearest centroids; second ones if complete."""
    num_clusters = centroids.shape[1]
    padded = (num_clusters + LANES - 1) // LANES * LANES
    # Each kind of array takes a while to compile, so scratch is rows of a few.
    floats = np.empty((4, max(padded, TILE)), np.float32)
    near, far, least, best = floats[0], floats[1, :padded], floats[2], floats[3]
    integers = np.empty((2, max(num_clusters + 1, TILE)), np.int32)
    candidates, index = integers[0], integers[1]
    for k in range(num_clusters, padded):
        far[k] = INFINITY
    for k in range(num_clusters):
        for column in range(moments.shape[1]):
            moments[k, column] = 0.0
    for t in range(len(tiles)):
        tile = tiles[t]
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


@kernel(REORDERED)
def _lloyd(
    tiles: Any,
    weights: Any,
    lower: Any,
    upper: Any,
    pinned: Any,
    steps: Any,
    centroids: Any,
    alpha: Any,
    moments: Any,
) -> None:
    """Steps of Lloyd's algorithm, then the moments; the pinned centroids, the first, stay."""
    channels, num_clusters = centroids.shape
    complete = steps == 0
    while True:
        _measure(tiles, weights, lower, upper, centroids, alpha, complete, moments)
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


@subroutine(REORDERED)
def _longest_axes(moments: Any, variance: Any, axes: Any) -> None:
    """Variance along, and direction (K, C) of, the longest axis of each cluster."""
    channels = axes.shape[1]
    covariance = np.empty((channels + 1, channels))
    product = covariance[channels]
    for k in range(len(moments)):
        weight = max(moments[k, 0], TINY)
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
        variance[k] = np.sqrt(
            square - TINY
        )  # the covariance has stretched a vector of length 1 to this


@subroutine(REORDERED)
def _list_merges(
    centroids: Any, moments: Any, pinned: Any, row: Any, cost: Any, neighbour: Any
) -> None:
    """Ward's cost of merging each centroid into the neighbour where that is least."""
    channels, num_clusters = centroids.shape
    for j in range(num_clusters):
        neighbour[j] = -1
        cost[j] = np.inf
        if j < pinned:
            continue
        for k in range(num_clusters):
            row[k] = 0.0
        for c in range(channels):
            for k in range(num_clusters):
                step = centroids[c, k] - centroids[c, j]
                row[k] += step * step
        weight = moments[j, 0]
        for k in range(num_clusters):
            if k != j:
                other = moments[k, 0]
                merging = weight * other / max(weight + other, TINY) * row[k]
                if merging < cost[j]:
                    cost[j] = merging
                    neighbour[j] = k


@subroutine(REORDERED)
def _least(values: Any) -> int:
    best = 0
    for k in range(values.size):
        if values[k] < values[best]:
            best = k
    return best


@kernel(REORDERED)
def _relocate(centroids: Any, moments: Any, pinned: Any, limit: Any, blur: Any, trial: Any) -> int:
    """See `colorquant_nn.functional.relocation.relocate`; fills ``trial``, returns the moves."""
    channels, num_clusters = centroids.shape
    floats = np.empty((4, num_clusters))
    variance, cost, loss, row = floats[0], floats[1], floats[2], floats[3]
    axes = np.empty((num_clusters, channels))
    integers = np.empty((3, num_clusters), np.int32)
    neighbour, gone, kept = integers[0], integers[1], integers[2]
    for c in range(channels):  # numba takes long to compile an assignment of slices
        for k in range(num_clusters):
            trial[c, k] = centroids[c, k]
    _longest_axes(moments, variance, axes)
    _list_merges(centroids, moments, pinned, row, cost, neighbour)
    for k in range(num_clusters):
        loss[k] = -SPLIT_GAIN * moments[k, 0] * variance[k] * blur[1, k]
        cost[k] *= blur[0, k]
        gone[k] = kept[k] = 0
    moves = 0
    for _ in range(num_clusters):
        if moves == limit:
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
        if not -loss[split] > MARGIN * price:
            break
        loss[split] = np.inf
        moves += 1
        gone[source] = kept[target] = kept[split] = 1
        if target >= pinned:
            weight = moments[source, 0]
            pull = weight / max(moments[target, 0] + weight, TINY)
            for c in range(channels):
                trial[c, target] += pull * (centroids[c, source] - centroids[c, target])
        for c in range(channels):
            offset = axes[split, c] * np.sqrt(SPLIT_GAIN * variance[split])
            trial[c, source] = trial[c, split] + offset
            if split >= pinned:
                trial[c, split] -= offset
    return moves


def _distortion(moments: Any, channels: int) -> float:
    """Sum of the traces of the scatters."""
    total, column = 0.0, 1 + channels
    for length in range(channels, 0, -1):
        total += float(moments[:, column].sum())
        column += length
    return total


def search(
    tiles: Any,
    weights: Any,
    lower: Any,
    upper: Any,
    pinned: int,
    uniforms: Any,
    blurs: Any,
    steps: int,
    steps_a_round: int,
    centroids: Any,
) -> float:
    """Seed, Lloyd, rounds of relocation and Lloyd; returns the distortion.

    Args:
        tiles: (T, C, 64).
        weights: (T, 64), 0 for the padding.
        lower: (T, C) corner of the boxes.
        upper: (T, C) corner of the boxes.
        pinned: how many of the centroids stay as they are.
        uniforms: (K, candidates) in [0, 1), for the seeding; without candidates, the start is in
            ``centroids``.
        blurs: (rounds, 2, K) random factors of costs and gains.
        steps: of Lloyd's algorithm after seeding.
        steps_a_round: of Lloyd's algorithm.
        centroids: (C, K), filled.
    """
    channels, num_clusters = centroids.shape
    columns = 1 + channels + channels * (channels + 1) // 2
    moments = np.empty((num_clusters, columns))
    trial_moments = np.empty((num_clusters, columns))
    trial = np.empty((channels, num_clusters), np.float32)
    alpha = None if channels == 3 else True
    if uniforms.shape[1] > 0:
        seed_centroids(tiles, weights, lower, upper, pinned, uniforms, centroids)
    _lloyd(tiles, weights, lower, upper, pinned, steps, centroids, alpha, moments)
    least = _distortion(moments, channels)
    limit = max(1, num_clusters // 8)
    for blur in blurs:
        if _relocate(centroids, moments, pinned, limit, blur, trial) == 0:
            continue
        _lloyd(tiles, weights, lower, upper, pinned, steps_a_round, trial, alpha, trial_moments)
        distortion = _distortion(trial_moments, channels)
        if distortion < least:
            least = distortion
            centroids[:] = trial
            moments, trial_moments = trial_moments, moments
        else:
            limit = max(1, limit // 2)
    return least
