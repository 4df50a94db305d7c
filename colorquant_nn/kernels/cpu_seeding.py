"""Greedy k-means++ of weighted points on the CPU, leaving out what a new centroid cannot reach.

Letters and layout as in `cpu_search`; a tile whose points are all nearer to a centroid than its
box is to the new one stays as it is.
"""

from typing import Any

import numpy as np

from colorquant_nn.kernels._compile import REORDERED, kernel, subroutine

TILE = 64
INFINITY = np.float32(np.inf)
ZERO = np.float32(0)
ONE = np.float32(1)


@subroutine(REORDERED)
def _improve(tile: Any, weight: Any, color: Any, nearest: Any, trial: Any) -> Any:
    """Distances, limited to ``nearest``, of a tile's points to one more centroid; their sum."""
    for i in range(TILE):
        trial[i] = ZERO
    for c in range(len(color)):
        for i in range(TILE):
            step = tile[c, i] - color[c]
            trial[i] += step * step
    total = 0.0
    for i in range(TILE):
        trial[i] = min(trial[i], nearest[i])
        total += np.float64(trial[i] * weight[i])
    return total


@subroutine(REORDERED)
def _out_of_reach(lower: Any, upper: Any, color: Any, reach: Any) -> Any:
    near = ZERO
    for c in range(len(color)):
        out = max(max(lower[c] - color[c], color[c] - upper[c]), ZERO)
        near += out * out
    return near >= reach


@subroutine(REORDERED)
def _pick(tiles: Any, weights: Any, nearest: Any, sums: Any, target: Any, color: Any) -> None:
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
def _start(weights: Any, far: Any, nearest: Any, sums: Any) -> None:
    """The same distance for all points: 1 makes a first pick, infinity lets it be lowered."""
    for t in range(len(weights)):
        sums[t] = 0.0
        for i in range(TILE):
            nearest[t, i] = far
            sums[t] += np.float64(weights[t, i])


@subroutine(REORDERED)
def _total(sums: Any) -> Any:
    total = 0.0
    for value in sums:
        total += value
    return total


@subroutine(REORDERED)
def _add_centroid(
    tiles: Any,
    weights: Any,
    lower: Any,
    upper: Any,
    color: Any,
    nearest: Any,
    sums: Any,
    reach: Any,
    trial: Any,
) -> None:
    """Bring the distances up to date with one more centroid."""
    for t in range(len(tiles)):
        if not _out_of_reach(lower[t], upper[t], color, reach[t]):
            sums[t] = _improve(tiles[t], weights[t], color, nearest[t], trial)
            reach[t] = ZERO
            for i in range(TILE):
                nearest[t, i] = trial[i]
                reach[t] = max(reach[t], trial[i])


@kernel(REORDERED)
def seed_centroids(
    tiles: Any,
    weights: Any,
    lower: Any,
    upper: Any,
    pinned: Any,
    uniforms: Any,
    centroids: Any,
) -> None:
    """Greedy k-means++ after the pinned centroids."""
    num_clusters, num_candidates = uniforms.shape
    channels = len(centroids)
    # Each kind of array takes a while to compile, so scratch is rows of a few.
    nearest = np.empty(weights.shape, np.float32)
    rows = np.empty((2, max(len(tiles), TILE)), np.float32)
    trial, reach = rows[0], rows[1]
    colors = np.empty((2, channels), np.float32)
    color, best_color = colors[0], colors[1]
    sums = np.empty((1, len(tiles)))[0]
    _start(weights, ONE, nearest, sums)
    _pick(tiles, weights, nearest, sums, uniforms[0, 0] * _total(sums), best_color)
    _start(weights, INFINITY, nearest, sums)
    for t in range(len(tiles)):
        reach[t] = INFINITY
    for k in range(num_clusters):
        if k >= max(pinned, 1) and _total(sums) > 0:
            most = -1.0
            for candidate in range(num_candidates):
                target = np.float64(uniforms[k, candidate]) * _total(sums)
                _pick(tiles, weights, nearest, sums, target, color)
                saved = 0.0
                for t in range(len(tiles)):
                    if not _out_of_reach(lower[t], upper[t], color, reach[t]):
                        saved += sums[t] - _improve(tiles[t], weights[t], color, nearest[t], trial)
                if saved > most:
                    most = saved
                    for c in range(channels):
                        best_color[c] = color[c]
        for c in range(channels):
            if k < pinned:
                best_color[c] = centroids[c, k]
            else:
                centroids[c, k] = best_color[c]
        _add_centroid(tiles, weights, lower, upper, best_color, nearest, sums, reach, trial)
