"""The hot operation in plain torch: any device and dtype, slow but obvious.

Letters as in the package: B images, N points, K centroids, C channels, G palettes (B or 1).
"""

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 22  # of the (B, chunk, K) distances: 16 MiB in float32


def assign(points: Tensor, centroids: Tensor, clamp: bool) -> Tensor:
    """See `colorquant_nn.kernels.assign`."""
    indices = points.new_empty(points.shape[:2], dtype=torch.int64)
    for part in _chunks(points, centroids):
        indices[:, part] = _nearest(sanitize(points[:, part], clamp), centroids)
    return indices


def cluster(
    points: Tensor,
    centroids: Tensor,
    palette: Tensor | None,
    weights: Tensor | None,
    clamp: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `colorquant_nn.kernels.cluster`."""
    indices, moments, values = allocate(points, centroids, palette)
    moments.zero_()
    groups, num_clusters, channels = centroids.shape
    rows, columns = torch.triu_indices(channels, channels, device=points.device)
    group = torch.arange(groups, device=points.device)[:, None]  # broadcasts to (B, chunk)
    for part in _chunks(points, centroids):
        clean = sanitize(points[:, part], clamp)
        nearest = _nearest(clean, centroids)
        indices[:, part] = nearest
        if palette is not None:
            values[:, part] = palette[group, nearest].to(values.dtype)
        vote = torch.isfinite(points[:, part]).all(-1).to(moments.dtype)
        if weights is not None:
            vote *= weights[:, part]
        offset = (clean - centroids[group, nearest]).to(moments.dtype)
        offset = torch.where(vote[..., None] > 0, offset, 0)  # 0 * inf is NaN
        ones = offset.new_ones(*offset.shape[:2], 1)
        powers = torch.cat([ones, offset, offset[..., rows] * offset[..., columns]], dim=-1)
        slot = (group * num_clusters + nearest).flatten()
        moments.view(groups * num_clusters, -1).index_add_(
            0, slot, (vote[..., None] * powers).flatten(0, 1)
        )
    return indices, moments, values


def kmeans_per_image(
    points: Tensor,
    num_clusters: int,
    num_iters: int,
    uniforms: Tensor,
    votes: Tensor | None,
    clamp: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `colorquant_nn.kernels.kmeans_per_image`."""
    _, num_points, channels = points.shape
    if num_points == 0:
        return allocate_kmeans(points, num_clusters)
    clean = sanitize(points.to(torch.float32) if points.is_floating_point() else points, clamp)
    vote = torch.isfinite(points).all(-1)
    if votes is not None:
        vote &= votes
    centroids = _seed(clean, vote, num_clusters, uniforms)
    weights = vote.to(torch.float32)
    for _ in range(num_iters):
        indices, moments, _ = cluster(clean, centroids, None, weights, clamp)
        counts, offsets = moments[..., 0], moments[..., 1 : 1 + channels]
        moved = centroids + offsets / counts[..., None]
        centroids = torch.where(counts[..., None] > 0, moved, centroids).to(torch.float32)
    return centroids, indices, counts.to(torch.float32)


def _seed(clean: Tensor, vote: Tensor, num_clusters: int, uniforms: Tensor) -> Tensor:
    """Greedy k-means++: of a few points drawn by squared distance, the one that helps most."""
    image = torch.arange(clean.shape[0], device=clean.device)
    chosen: list[Tensor] = []
    distance = vote.to(clean.dtype)  # every voter is as likely to be the first
    for k in range(num_clusters):
        cumulative = distance.to(torch.float64).cumsum(-1)
        total = cumulative[:, -1:]
        draws = uniforms[k] if k > 0 else uniforms[0, :1]
        picks = torch.searchsorted(cumulative, draws.to(torch.float64) * total, right=True)
        candidates = clean[image[:, None], picks.clamp(max=clean.shape[1] - 1)]
        near = (clean[:, None] - candidates[:, :, None]).square_()  # (B, candidates, N, C)
        near = sum(near.unbind(-1)[1:], near[..., 0])
        near = torch.where(vote[:, None], near, 0)
        if k > 0:
            near = torch.minimum(near, distance[:, None])
        best = near.sum(-1, dtype=torch.float64).argmin(-1)
        color = candidates[image, best]
        if k == 0:
            color = torch.where(total > 0, color, 0)
        else:  # no colour is left that has not been chosen
            color = torch.where(total > 0, color, chosen[0])
        distance = near[image, best]
        chosen.append(color)
    return torch.stack(chosen, 1)


def lookup(palette: Tensor, indices: Tensor) -> Tensor:
    """See `colorquant_nn.kernels.lookup`."""
    planes = palette.transpose(1, 2).contiguous()  # gathering rows would take four times as long
    chosen = indices[:, None].expand(-1, palette.shape[2], -1)
    return planes.gather(2, chosen).transpose(1, 2)


def histogram(points: Tensor, bits: int, weights: Tensor | None) -> Tensor:
    """See `colorquant_nn.kernels.histogram`."""
    side = 1 << bits
    clean = sanitize(points, True).to(torch.float64).flatten(0, 1)
    vote = torch.isfinite(points).all(-1).flatten().to(torch.float64)
    if weights is not None:
        vote = vote * weights.flatten()
    red, green, blue = (clean * side).to(torch.int64).clamp(max=side - 1).unbind(-1)
    cells = (red * side + green) * side + blue
    if points.dtype == torch.uint8:
        clean = points.to(torch.float64).flatten(0, 1)  # whole numbers have exact sums
    moments = torch.cat([vote[:, None], vote[:, None] * clean], -1)
    sums = moments.new_zeros(side**3, 4).index_add_(0, cells, moments)
    if points.dtype == torch.uint8:
        sums[:, 1:] /= 255
    return sums


def allocate_kmeans(points: Tensor, num_clusters: int) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs of `kmeans_per_image` before there is anything in them."""
    images, num_points, channels = points.shape
    return (
        points.new_zeros((images, num_clusters, channels), dtype=torch.float32),
        points.new_empty((images, num_points), dtype=torch.int64),
        points.new_zeros((images, num_clusters), dtype=torch.float32),
    )


def allocate(
    points: Tensor, centroids: Tensor, palette: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Empty outputs of `cluster`; ``values`` is laid out in memory as ``points`` are."""
    channels = points.shape[-1]
    indices = points.new_empty(points.shape[:2], dtype=torch.int64)
    # MPS has no float64.
    exact = torch.float32 if points.device.type == "mps" else torch.float64
    columns = 1 + channels + channels * (channels + 1) // 2
    moments = points.new_empty((*centroids.shape[:2], columns), dtype=exact)
    dtype = points.dtype if points.is_floating_point() else torch.float32
    if palette is None:
        values = points.new_empty((0,), dtype=dtype)
    elif palette.shape[-1] == channels:
        values = torch.empty_like(points, dtype=dtype)
    else:
        values = points.new_empty((*points.shape[:2], palette.shape[-1]), dtype=dtype)
    return indices, moments, values


def sanitize(points: Tensor, clamp: bool) -> Tensor:
    """Points as finite float32 or float64; uint8 divided by 255; clamped to [0, 1] if asked."""
    if not points.is_floating_point():
        return points.to(torch.float32) / 255
    points = points.to(torch.promote_types(points.dtype, torch.float32)).nan_to_num()
    return points.clamp(0, 1) if clamp else points


def finite(points: Tensor) -> Tensor:
    """Which points (..., C) have finite channels only: (...) bool.

    What is not finite, less itself, is not a number; this takes a third of the time of `isfinite`.
    """
    return (points - points).sum(-1) == 0


def _nearest(points: Tensor, centroids: Tensor) -> Tensor:
    distances = (points[..., None, 0] - centroids[:, None, :, 0]).square_()
    for channel in range(1, points.shape[-1]):
        distances += (points[..., None, channel] - centroids[:, None, :, channel]).square_()
    return distances.argmin(-1)  # argmin of torch returns the first of equal values


def _chunks(points: Tensor, centroids: Tensor) -> list[slice]:
    size = max(1, CHUNK_ELEMENTS // max(1, points.shape[0] * centroids.shape[1]))
    return [slice(start, start + size) for start in range(0, points.shape[1], size)]
