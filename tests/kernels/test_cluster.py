"""`cluster` on the CPU: moments and values against sums in float64."""

import pytest
import torch

from colorquant_nn.kernels import assign, cluster, unpack_moments
from tests.kernels.oracle import images, moments, palette


def check(points, centroids, weights=None, clamp=False, colors=None):
    found = cluster(points, centroids, colors, weights, clamp)
    assert torch.equal(found.indices, assign(points, centroids, clamp))
    expected = moments(points, centroids, found.indices, weights, clamp)
    torch.testing.assert_close(found.moments, expected, rtol=1e-9, atol=1e-12)
    if colors is not None:
        dtype = points.dtype if points.is_floating_point() else torch.float32
        groups = torch.arange(colors.shape[0])[:, None]
        assert torch.equal(found.values, colors[groups, found.indices].to(dtype))
    return found


@pytest.mark.parametrize("kind", ["noise", "lattice", "greys"])
@pytest.mark.parametrize("num_clusters", [1, 3, 16, 17, 256])
@pytest.mark.parametrize("channels", [3, 4, 2])
def test_moments_about_the_centroids(kind, num_clusters, channels):
    check(images(kind, 1500, channels), palette(kind, num_clusters, channels))


@pytest.mark.parametrize("count", [1, 511, 512, 513, 40_000])  # the last: several blocks
def test_any_number_of_points(count):
    points, centroids = images("noise", count, 3), palette("noise", 17, 3)
    check(points, centroids, colors=centroids)


@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3)])
def test_no_points(shape):
    centroids = palette("noise", 4, 3)
    found = cluster(torch.zeros(shape), centroids, centroids)
    assert found.values.shape == shape
    assert found.indices.shape == shape[:2]
    assert (found.moments == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.uint8])
@pytest.mark.parametrize("groups", [1, 3])
def test_dtypes_and_palettes_per_image(dtype, groups):
    generator = torch.Generator().manual_seed(0)
    batch = torch.randint(0, 256, (3, 700, 3), generator=generator, dtype=torch.uint8)
    points = batch if dtype == torch.uint8 else (batch / 255).to(dtype)
    centroids = torch.rand(groups, 9, 3, generator=generator)
    weights = torch.rand(3, 700, generator=generator)
    colors = torch.rand(groups, 9, 3, generator=generator)
    check(points, centroids, weights, colors=colors)


def test_values_lie_in_memory_as_the_points_do():
    batch = torch.rand(2, 3, 20, 30)
    centroids = palette("noise", 8, 3)
    first = batch.flatten(2).transpose(1, 2)
    assert check(first, centroids, colors=centroids).values.stride() == first.stride()
    last = first.contiguous()
    assert check(last, centroids, colors=centroids).values.stride() == last.stride()


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_palette_with_other_channels_than_the_points(channels):
    points, centroids = images("noise", 900, 3), palette("noise", 8, 3)
    found = check(points, centroids, colors=torch.rand(1, 8, channels))
    assert found.values.shape == (1, 900, channels)


def test_weights_with_strides_and_zeros():
    points = images("noise", 1200, 3).reshape(2, 600, 3)
    weights = (torch.rand(600, 2) - 0.3).clamp(min=0).T
    check(points, palette("noise", 6, 3), weights)
    check(points, palette("noise", 6, 3), torch.ones(1, 1).expand(2, 600))


@pytest.mark.parametrize("clamp", [False, True])
def test_points_that_are_not_finite_never_vote(clamp):
    points = (images("noise", 2000, 3) * 1.5 - 0.2).clone()
    centroids = palette("noise", 6, 3)
    for row, value in ((3, float("nan")), (900, float("inf")), (1999, float("-inf"))):
        points[0, row, row % 3] = value
    found = check(points, centroids, clamp=clamp, colors=centroids)
    assert torch.isfinite(found.moments).all()
    assert found.moments[..., 0].sum() == 1997
    check(points, centroids, torch.rand(1, 2000), clamp=clamp)


def test_grid_gives_the_same_sums(monkeypatch):
    from colorquant_nn.kernels import cpu

    points, centroids = images("noise", 20_000, 3), palette("noise", 300, 3)
    plain = cluster(points, centroids, centroids)
    monkeypatch.setattr(cpu, "choose_levels", lambda num_points, num_clusters: 3)
    grid = cluster(points, centroids, centroids)
    assert torch.equal(plain.indices, grid.indices)
    assert torch.equal(plain.moments, grid.moments)
    assert torch.equal(plain.values, grid.values)


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


def test_gradients_stop_at_the_op():
    points = images("noise", 100, 3).requires_grad_()
    found = cluster(points, palette("noise", 5, 3), palette("noise", 5, 3))
    assert not found.values.requires_grad
    assert not found.moments.requires_grad
