"""Slow, obvious oracles in float64, and points that are hard for the kernels."""

from collections import Counter

import numpy as np
import torch

from tests.helpers import random


def srgb_to_linear(rgb):
    """IEC 61966-2-1, one value at a time."""
    values = np.asarray(rgb, dtype=np.float64)
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values.flat]
    return np.array(linear).reshape(values.shape)


def oklab(rgb):
    """Of sRGB."""
    return linear_to_oklab(srgb_to_linear(rgb))


def linear_to_oklab(linear):
    """Ottosson 2020: two matrices with a cube root between them."""
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.cbrt(linear @ to_lms.T) @ to_lab.T


def entropy(indices):
    """Bits a symbol of a sequence of indices."""
    counts = Counter(np.asarray(indices).flat)
    shares = [count / sum(counts.values()) for count in counts.values()]
    return -sum(share * np.log2(share) for share in shares)


# RFC 1951, section 3.2.5: the least of each code, as the table there has it.
LENGTH_BASES = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99]
LENGTH_BASES += [115, 131, 163, 195, 227, 258]
LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5]
LENGTH_EXTRA += [0]
DISTANCE_BASES = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769]
DISTANCE_BASES += [1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577]
DISTANCE_EXTRA = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11]
DISTANCE_EXTRA += [12, 12, 13, 13]


def distance_code(distance):
    return max(code for code, base in enumerate(DISTANCE_BASES) if base <= distance)


def cheapest_parse(pictures, literals, lengths, distances, farthest=32768):
    """The least that literals and copies cost, for each of (N, H, W) indices.

    A row begins with a byte, its filter; copies stay within the row that they fill, and read from a
    single one, anywhere before. Lengths have a cost each, distances one for each code.
    """
    count, height, width = pictures.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    total = np.zeros(count)
    for row in range(height):
        best = [total]
        for end in range(1, width + 1):
            least = best[end - 1] + literals[pictures[:, row, end - 1]]
            for start in range(max(0, end - 258), end - 2):
                for other, column in places[: row * width + start]:
                    distance = (row - other) * (width + 1) + start - column
                    if column + end - start > width or distance > farthest:
                        continue
                    source = pictures[:, other, column : column + end - start]
                    same = (source == pictures[:, row, start:end]).all(1)
                    cost = best[start] + lengths[end - start] + distances[distance_code(distance)]
                    least = np.where(same, np.minimum(least, cost), least)
            best.append(least)
        total = best[-1]
    return total


def clean(points, clamp):
    """What a point is assigned by, one rule after the other."""
    if points.dtype == torch.uint8:
        return points.to(torch.float32) / 255
    values = points.to(torch.float32).numpy().copy()
    values[np.isnan(values)] = 0
    largest = np.finfo(np.float32).max
    values = np.clip(values, -largest, largest)
    return torch.from_numpy(np.clip(values, 0, 1) if clamp else values)


def assert_nearest(points, centroids, indices, clamp=False):
    """Each index is that of the nearest centroid, or of one within 4 float32 ulps of it."""
    values = clean(points, clamp).to(torch.float64)
    assert indices.shape == points.shape[:2]
    assert indices.dtype == torch.int64
    groups = centroids.shape[0]
    for image in range(points.shape[0]):
        colors = centroids[image if groups > 1 else 0].to(torch.float64)
        for part, found in zip(values[image].split(8192), indices[image].split(8192), strict=True):
            distances = (part[:, None] - colors).square().sum(-1).numpy()
            least = distances.min(1)
            chosen = np.take_along_axis(distances, found.numpy()[:, None], 1)[:, 0]
            slack = 4 * np.spacing(np.minimum(least, np.finfo(np.float32).max).astype(np.float32))
            assert (chosen <= least + slack).all()


def moments(points, centroids, indices, weights=None, clamp=False):
    """(G, K, columns): count, offsets and the upper triangle of scatter, cluster by cluster."""
    values = clean(points, clamp)
    vote = torch.isfinite(points).all(-1).to(torch.float64)
    if weights is not None:
        vote = vote * weights
    groups, num_clusters, channels = centroids.shape
    rows, columns = torch.triu_indices(channels, channels)
    result = torch.zeros(groups, num_clusters, 1 + channels + len(rows), dtype=torch.float64)
    for group in range(groups):
        images = slice(None) if groups == 1 else slice(group, group + 1)
        for k in range(num_clusters):
            mine = indices[images] == k
            offset = (values[images][mine] - centroids[group, k]).to(torch.float64)
            weight = vote[images][mine][:, None]
            terms = torch.cat(
                [torch.ones_like(weight), offset, offset[:, rows] * offset[:, columns]], 1
            )
            result[group, k] = torch.where(weight > 0, weight * terms, 0).sum(0)
    return result


def images(kind, count, channels, seed=0):
    """(1, N, C) points: noise, a lattice with many ties, pairs around bisectors, or a line."""
    noise = random(1, count, channels, seed=seed)
    if kind == "noise":
        return noise
    if kind == "lattice":
        return (noise * 8).round() / 8
    if kind == "bisectors":
        middle = (noise * 16).round() / 16
        return middle + (noise - 0.5) * 1e-7
    return noise[..., :1].expand(-1, -1, channels).contiguous()  # greys


def palette(kind, count, channels, seed=1):
    """(1, K, C) centroids of the same kinds, with duplicates."""
    colors = images(kind, count, channels, seed)
    colors[:, count // 2 : count // 2 + count // 8] = colors[:, : count // 8]
    return colors


def seed_slowly(points, weights, start, pinned, uniforms):
    """Greedy k-means++ by its definition, in float64."""
    found = start.clone()
    distance = torch.full(weights.shape, torch.inf, dtype=torch.float64)

    def draw(shares, uniform):
        cumulative = shares.cumsum(0)
        return points[(cumulative <= uniform.double() * cumulative[-1]).sum()]

    def squares(color):
        return (points - color).double().square().sum(1)

    for k in range(len(start)):
        shares = weights.double() * (1 if k == 0 else distance)
        if k == 0 and pinned == 0:
            found[k] = draw(shares, uniforms[k, 0])
        elif k >= pinned:
            candidates = [draw(shares, uniform) for uniform in uniforms[k]]
            left = [(weights * torch.minimum(distance, squares(c))).sum() for c in candidates]
            found[k] = candidates[int(torch.stack(left).argmin())]
        distance = torch.minimum(distance, squares(found[k]))
    return found


def relocate_slowly(centroids, counts, moments, movable, limit, margin, blur, pinned):
    """Relocation by its definition, in float64, with numpy's eigenvectors."""
    at, batch = centroids.double().numpy(), moments.numpy()
    num_clusters, channels = at.shape
    running = counts.double().numpy()
    scaled = running * batch[:, 0].sum() / running.sum()
    factors = np.ones((2, num_clusters)) if blur is None else blur.double().numpy()
    variance, axes = np.zeros(num_clusters), np.zeros_like(at)
    rows, columns = np.triu_indices(channels)
    for k in np.flatnonzero(batch[:, 0]):
        mean = batch[k, 1 : 1 + channels] / batch[k, 0]
        covariance = np.zeros((channels, channels))
        covariance[rows, columns] = covariance[columns, rows] = batch[k, 1 + channels :]
        covariance = covariance / batch[k, 0] - np.outer(mean, mean)
        values, vectors = np.linalg.eigh(covariance)
        variance[k], axes[k] = values[-1], vectors[:, -1]
        axes[k] *= np.sign(axes[k, covariance.diagonal().argmax()])
    gain = 2 / np.pi * np.minimum(scaled, batch[:, 0]) * variance * factors[1]
    pairs = scaled[:, None] * scaled / np.maximum(scaled[:, None] + scaled, 1e-30)
    merging = pairs * ((at[:, None] - at) ** 2).sum(-1)
    np.fill_diagonal(merging, np.inf)
    neighbour = merging.argmin(1)
    cost = np.where(movable.numpy(), merging.min(1), np.inf) * factors[0]
    moved, new_counts = at.copy(), running.copy()
    gone, kept, splits, made = set(), set(), set(), 0
    for source in np.argsort(cost, kind="stable"):
        target = neighbour[source]
        if made == int(limit) or not np.isfinite(cost[source]):
            break
        if source in kept or target in gone:
            continue
        able = [k for k in range(num_clusters) if k not in gone | splits | {source}]
        split = max(able, key=lambda k: gain[k])
        if not gain[split] > margin * cost[source]:
            break
        made += 1
        gone.add(source)
        splits.add(split)
        kept |= {target, split}
        if target >= pinned:
            pull = scaled[source] / max(scaled[target] + scaled[source], 1e-30)
            moved[target] += pull * (at[source] - at[target])
        step = axes[split] * np.sqrt(2 / np.pi * variance[split])
        moved[source] = moved[split] + step
        if split >= pinned:
            moved[split] -= step
        new_counts[target] += running[source]
        new_counts[split] -= running[split] / 2
        new_counts[source] += running[split] / 2 - running[source]
    return torch.from_numpy(moved).float(), torch.from_numpy(new_counts).to(counts.dtype)
