"""The order of a palette in which its indices deflate best.

To a PNG, indices are numbers that rows of bytes are made of: where neighbours in the picture have
neighbouring numbers, their differences (the filters) are small, few and cheap. So colours that
meet often get places close to each other: the smallest sum over all pairs of colours of how often
they meet, times the logarithm of their distance in the palette, which is about the bits of a
difference. That is a linear arrangement, which is hard to solve and easy to improve: swaps of two
colours, until none helps.

Letters: K colours; W how often two of them meet, side by side or one above the other.

References:
    Zeng, Li and Lei 2000, "An efficient color re-indexing scheme for palette-based compression";
    Pinho and Neves 2004, "A survey on palette reordering methods for improving the compression of
    color-indexed images"; Juvan and Mohar 1992, "Optimal linear labelings and eigenvalues of
    graphs".
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["order_for_deflate"]

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

MAX_SWEEPS = 32  # far more than it takes
AT_THE_ENDS = 0.5  # share of rows' ends


def order_for_deflate(indices: Tensor, num_colors: int) -> Tensor:
    """Order the colours of an indexed picture so that it becomes a small PNG.

    Filter bytes of rows are mostly 0: a colour that most rows begin or end with becomes the first,
    so that runs of it go on from row to row.

    Args:
        indices: (H, W), each below ``num_colors``.
        num_colors: K.

    Returns:
        (K,) int64: the colours in their new order.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.order import order_for_deflate
        >>> order_for_deflate(torch.tensor([[2, 0, 3, 1], [2, 0, 3, 3], [2, 0, 0, 1]]), 4).tolist()
        [2, 0, 3, 1]
    """
    pixels = indices.cpu().numpy()
    meetings = _meetings(pixels, num_colors)
    distance = np.arange(num_colors, dtype=np.float64)
    bits = np.log2(1 + distance)
    # The spectrum is the solution for squared distances, from which two steps lead to the bits'.
    chain, spectrum = _chain(meetings), _spectrum(meetings)
    starts = chain, _improve(meetings, chain, distance), _improve(meetings, spectrum, distance)
    orders = [_improve(meetings, start, bits) for start in starts]
    order = min(orders, key=lambda order: _cost_of(meetings, order, bits))
    ends = np.bincount(pixels[:, [0, -1]].ravel(), minlength=num_colors)
    if ends[order[-1]] > ends[order[0]]:
        order = order[::-1]
    first = ends.argmax()
    if ends[first] >= AT_THE_ENDS * ends.sum():
        order = np.concatenate([[first], order[order != first]])
    return torch.from_numpy(order.copy())


def _meetings(pixels: Places, num_colors: int) -> Floats:
    """W (K, K), symmetric, 0 on the diagonal."""
    counts = np.zeros((num_colors, num_colors))
    for one, other in ((pixels[:, :-1], pixels[:, 1:]), (pixels[:-1], pixels[1:])):
        pairs = (one * num_colors + other).ravel()
        counts += np.bincount(pairs, minlength=num_colors**2).reshape(counts.shape)
    counts += counts.T.copy()
    np.fill_diagonal(counts, 0)
    return counts


def _chain(meetings: Floats) -> Places:
    """A path through all colours, joined from those that meet most often.

    Greedily, as in Battiato, Gallo, Impoco and Stanco 2004, "An efficient re-indexing algorithm
    for color-mapped images".
    """
    rows, columns = np.triu_indices(len(meetings), 1)
    paths = {color: [color] for color in range(len(meetings))}  # by one of both ends
    path_of = list(range(len(meetings)))
    for pair in np.argsort(-meetings[rows, columns], kind="stable"):
        one, other = int(rows[pair]), int(columns[pair])
        left, right = paths[path_of[one]], paths[path_of[other]]
        if left is right or one not in (left[0], left[-1]) or other not in (right[0], right[-1]):
            continue
        if left[-1] != one:
            left.reverse()
        if right[0] != other:
            right.reverse()
        del paths[path_of[other]]
        for color in right:
            path_of[color] = path_of[one]
        left.extend(right)
    (path,) = paths.values()
    return np.array(path)


def _spectrum(meetings: Floats) -> Places:
    """The order of the slowest vibration of springs as strong as colours meet often."""
    meetings = meetings + meetings.sum() / 1e6 + 1e-9  # in one piece
    strength = meetings.sum(0)
    scale = 1 / np.sqrt(strength)
    laplacian = scale[:, None] * (np.diag(strength) - meetings) * scale
    _, vectors = np.linalg.eigh(laplacian)
    slowest = vectors[:, min(1, len(vectors) - 1)] * scale
    slowest *= np.sign(slowest[np.abs(slowest).argmax()])  # eigenvectors have no sign of their own
    return np.argsort(slowest, kind="stable")


def _improve(meetings: Floats, order: Places, cost: Floats) -> Places:
    """Swap two colours, each with its best partner in turn, until no swap lowers the cost."""
    place = np.argsort(order)
    from_place = cost[np.abs(np.arange(len(order))[:, None] - place)]  # (place, colour)
    now = (meetings * from_place[place]).sum(1)
    for _ in range(MAX_SWEEPS):
        swapped = False
        for one in range(len(order)):
            here = place[one]
            gain = now + now[one] - (from_place @ meetings[one])[place]
            gain -= meetings @ from_place[here] + 2 * meetings[one] * from_place[here]
            gain[one] = 0
            other = gain.argmax()
            if gain[other] <= 1e-6 * now[one]:
                continue
            both = [one, other]
            pair, columns = meetings[both], from_place.T[both]
            now -= (pair * columns[:, place]).sum(0)
            now += (pair * columns[::-1, place]).sum(0)
            place[both] = place[both[::-1]]
            from_place.T[both] = columns[::-1]
            now[both] = (pair * from_place[place[both]]).sum(1)
            swapped = True
        if not swapped:
            break
    return np.argsort(place)


def _cost_of(meetings: Floats, order: Places, cost: Floats) -> float:
    place = np.argsort(order)
    return float((meetings * cost[np.abs(place[:, None] - place)]).sum())
