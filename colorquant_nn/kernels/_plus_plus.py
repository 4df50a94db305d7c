"""Steps of greedy k-means++ on tiles of 512 points, for `cpu_kmeans`.

Distances are rounded as in the reference, so that the same colours are drawn. Sums are taken by
tile, and added in order. Letters as in the package; T tiles.
"""

from typing import Any

import numpy as np

from colorquant_nn.kernels._compile import EXACT, REORDERED, kernel, subroutine
from colorquant_nn.kernels._tiles import TILE, ZERO

BLOCK = 16  # tiles whose sums are taken together
RUN = 64  # points that a draw passes over at once


@subroutine(EXACT)
def _nearer(tile: Any, i: Any, channels: Any, x: Any, y: Any, z: Any, a: Any, distance: Any) -> Any:
    """The lesser of two squared distances, the new one rounded as in the reference."""
    dx, dy, dz, da = tile[0, i] - x, tile[1, i] - y, tile[2, i] - z, tile[-1, i] - a
    near = dx * dx + dy * dy + dz * dz
    if len(channels) == 4:
        near = near + da * da
    return near if near < distance else distance


@subroutine(REORDERED)
def _potential(tile: Any, channels: Any, color: Any, distance: Any) -> Any:
    """Sum of the squared distances if the colour became a centroid."""
    x, y, z, a = color[0], color[1], color[2], color[-1]
    total = 0.0
    for i in range(TILE):
        total += np.float64(_nearer(tile, i, channels, x, y, z, a, distance[i]))
    return total


@subroutine(REORDERED)
def _lower(tile: Any, channels: Any, color: Any, distance: Any) -> Any:
    """Lower the squared distances to those from a new colour, and sum them up."""
    x, y, z, a = color[0], color[1], color[2], color[-1]
    total = 0.0
    for i in range(TILE):
        distance[i] = _nearer(tile, i, channels, x, y, z, a, distance[i])
        total += np.float64(distance[i])
    return total


@subroutine(REORDERED)
def _sum(row: Any) -> Any:
    total = 0.0
    for i in range(row.size):
        total += np.float64(row[i])
    return total


@kernel()
def total_of(sums: Any) -> Any:
    total = 0.0
    for value in sums:
        total += value
    return total


@subroutine()
def _pick(sums: Any, distance: Any, draw: Any) -> Any:
    """The point at which the running sum of the distances passes ``draw`` of the whole."""
    target = draw * total_of(sums)
    before = 0.0
    t = 0
    while t < sums.size - 1 and before + sums[t] <= target:
        before += sums[t]
        t += 1
    start = 0
    while start < TILE - RUN:
        run_sum = _sum(distance[t, start : start + RUN])
        if before + run_sum > target:
            break
        before += run_sum
        start += RUN
    point = t * TILE + start
    for i in range(start, TILE):
        if distance[t, i] > 0:
            point = t * TILE + i
            before += distance[t, i]
            if before > target:
                break
    while point > 0 and not distance[point // TILE, point % TILE] > 0:
        point -= 1  # never a colour that has been chosen, however sums are rounded
    return point


@subroutine()
def measure_block(
    block: Any, tiles: Any, channels: Any, distance: Any, candidates: Any, out: Any
) -> None:
    """Sum of the distances in a block if each of the candidates became a centroid."""
    for c in range(len(candidates)):
        out[block, c] = 0.0
        for t in range(block * BLOCK, min((block + 1) * BLOCK, len(tiles))):
            out[block, c] += _potential(tiles[t], channels, candidates[c], distance[t])


@subroutine()
def choose_block(
    block: Any, tiles: Any, channels: Any, distance: Any, color: Any, sums: Any
) -> None:
    """Bring the distances of a block up to date with a new centroid."""
    for t in range(block * BLOCK, min((block + 1) * BLOCK, len(tiles))):
        sums[t] = _lower(tiles[t], channels, color, distance[t])


@kernel()
def draw_candidates(tiles: Any, distance: Any, sums: Any, draws: Any, candidates: Any) -> None:
    for c in range(len(candidates)):
        point = _pick(sums, distance, np.float64(draws[c]))
        for channel in range(tiles.shape[1]):
            candidates[c, channel] = tiles[point // TILE, channel, point % TILE]


@kernel()
def best_of(potentials: Any) -> Any:
    """The candidate, a column, with the least sum over the blocks; the first of equal ones."""
    best, least = 0, np.inf
    for c in range(potentials.shape[1]):
        potential = total_of(potentials[:, c])
        if potential < least:
            best, least = c, potential
    return best


@kernel()
def start_distances(vote: Any, distance: Any, sums: Any, far: Any) -> None:
    """The same distance for all voters: 1 makes a first pick, infinity lets it be lowered."""
    for t in range(len(vote)):
        sums[t] = 0.0
        for i in range(TILE):
            distance[t, i] = far if vote[t, i] > 0 else ZERO
            sums[t] += distance[t, i]
