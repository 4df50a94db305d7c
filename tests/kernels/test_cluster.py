"""`cluster`: moments and values against sums in float64."""

import pytest
import torch

from colorquant_nn.kernels import assign, cluster, num_moments, unpack_moments
from tests.helpers import assert_same, levels
from tests.oracles import images, moments, palette


def check(backend, points, centroids, weights=None, clamp=False, colors=None):
    found = cluster(points, centroids, colors, weights, clamp)
    assert torch.equal(found.indices, assign(points, centroids, clamp))
    expected = moments(points, centroids, found.indices, weights, clamp)
    exact = {"rtol": 1e-5, "atol": 1e-5} if backend == "cuda" else {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(found.moments, expected, **exact)
    if colors is not None:
        dtype = points.dtype if points.is_floating_point() else torch.float32
        groups = torch.arange(colors.shape[0])[:, None]
        assert torch.equal(found.values, colors[groups, found.indices].to(dtype))
    return found


@pytest.mark.parametrize("kind", ["noise", "lattice", "greys"])
@pytest.mark.parametrize("num_clusters", [1, 3, 16, 17, 256])
@pytest.mark.parametrize("channels", [3, 4, 2])
def test_moments_about_the_centroids(kind, num_clusters, channels, backend):
    check(
        backend,
        images(kind, 1500 if num_clusters > 20 else 530, channels),
        palette(kind, num_clusters, channels),
    )


@pytest.mark.parametrize("count", [1, 511, 512, 513, 40_000])  # the last: several blocks
def test_any_number_of_points(count, backend):
    points, centroids = images("noise", count, 3), palette("noise", 17, 3)
    check(backend, points, centroids, colors=centroids)


@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3)])
def test_no_points(shape, backend):
    centroids = palette("noise", 4, 3)
    found = cluster(torch.zeros(shape), centroids, centroids)
    assert found.values.shape == shape
    assert found.indices.shape == shape[:2]
    assert (found.moments == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.uint8])
@pytest.mark.parametrize("groups", [1, 3])
def test_dtypes_and_palettes_per_image(dtype, groups, backend):
    generator = torch.Generator().manual_seed(0)
    batch = levels(3, 700, 3)
    points = batch if dtype == torch.uint8 else (batch / 255).to(dtype)
    centroids = torch.rand(groups, 9, 3, generator=generator)
    weights = torch.rand(3, 700, generator=generator)
    colors = torch.rand(groups, 9, 3, generator=generator)
    check(backend, points, centroids, weights, colors=colors)


def test_values_lie_in_memory_as_the_points_do(backend):
    batch = torch.rand(2, 3, 20, 30)
    centroids = palette("noise", 8, 3)
    first = batch.flatten(2).transpose(1, 2)
    assert check(backend, first, centroids, colors=centroids).values.stride() == first.stride()
    last = first.contiguous()
    assert check(backend, last, centroids, colors=centroids).values.stride() == last.stride()


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_palette_with_other_channels_than_the_points(channels, backend):
    points, centroids = images("noise", 900, 3), palette("noise", 8, 3)
    found = check(backend, points, centroids, colors=torch.rand(1, 8, channels))
    assert found.values.shape == (1, 900, channels)


def test_weights_with_strides_and_zeros(backend):
    points = images("noise", 1200, 3).reshape(2, 600, 3)
    weights = (torch.rand(600, 2) - 0.3).clamp(min=0).T
    check(backend, points, palette("noise", 6, 3), weights)
    check(backend, points, palette("noise", 6, 3), torch.ones(1, 1).expand(2, 600))


@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize("channel", range(4))
def test_points_that_are_not_finite_never_vote(channel, clamp, backend):
    points = (images("noise", 2000, 4) * 1.5 - 0.2).clone()
    centroids = palette("noise", 6, 4)
    for row, value in ((3, float("nan")), (900, float("inf")), (1999, float("-inf"))):
        points[0, row, channel] = value
    found = check(backend, points, centroids, clamp=clamp, colors=centroids)
    assert torch.isfinite(found.moments).all()
    assert found.moments[..., 0].sum() == 1997
    check(backend, points, centroids, torch.rand(1, 2000), clamp=clamp)


def test_the_sums_are_the_same_each_time(backend):
    points, centroids = images("noise", 3200, 3).view(2, 1600, 3), torch.rand(2, 3, 3)
    found, again = cluster(points, centroids).moments, cluster(points, centroids).moments
    assert torch.equal(found, again)


def test_grid_gives_the_same_sums(monkeypatch):
    from colorquant_nn.kernels.cpu import grid

    points, centroids = images("noise", 20_000, 3), palette("noise", 300, 3)
    results = []
    for costs in ((0, 0), (1e9, 1e9)):  # brute force, and the grid
        monkeypatch.setattr(grid, "BRUTE_COSTS", costs)
        results.append(cluster(points, centroids, centroids))
    assert_same(*results)


def test_unpacked_names():
    points, centroids = images("noise", 3000, 3), palette("noise", 5, 3)
    found = cluster(points, centroids)
    named = unpack_moments(found.moments)
    mine = points[0][found.indices[0] == 2].double() - centroids[0, 2].double()
    torch.testing.assert_close(named.offsets[0, 2], mine.sum(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(named.scatter[0, 2], mine.T @ mine, rtol=1e-5, atol=1e-5)
    assert named.counts[0, 2] == len(mine)
    traces = named.scatter.diagonal(dim1=-2, dim2=-1).sum(-1)
    torch.testing.assert_close(named.distortions, traces)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_moments_are_unpacked_for_any_number_of_channels(channels):
    named = unpack_moments(torch.arange(num_moments(channels)))
    assert named.counts == 0
    assert named.offsets.tolist() == list(range(1, 1 + channels))
    assert named.scatter.shape == (channels, channels)
    assert named.distortions == named.scatter.trace()


def test_gradients_stop_at_the_op():
    points = images("noise", 100, 3).requires_grad_()
    found = cluster(points, palette("noise", 5, 3), palette("noise", 5, 3))
    assert not found.values.requires_grad
    assert not found.moments.requires_grad
