"""`assign` against brute force in float64."""

import pytest
import torch

from colorquant_nn.kernels import assign, assign_for_export
from colorquant_nn.kernels.ops import implementation
from tests.helpers import levels, random
from tests.oracles import assert_nearest, images, palette

KINDS = ["noise", "lattice", "bisectors", "greys"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_clusters", [1, 2, 3, 16, 17, 256, 1000])
@pytest.mark.parametrize("channels", [3, 4])
def test_finds_the_nearest(kind, num_clusters, channels, backend):
    points = images(kind, 530 if num_clusters < 20 else 1500, channels)
    centroids = palette(kind, num_clusters, channels)
    assert_nearest(points, centroids, assign(points, centroids))


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 20_000])
def test_any_number_of_points(count, backend):
    points, centroids = images("noise", count, 3), palette("noise", 17, 3)
    assert_nearest(points, centroids, assign(points, centroids))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("clamp", [False, True])
def test_floats(dtype, clamp, backend):
    points = (images("noise", 2000, 3) * 3 - 1).to(dtype)
    centroids = palette("noise", 16, 3)
    assert_nearest(points, centroids, assign(points, centroids, clamp), clamp)


def test_bytes_stand_for_255ths(backend):
    points = torch.arange(256, dtype=torch.uint8)[None, :, None].expand(1, 256, 3)
    centroids = (torch.arange(256).to(torch.float32) / 255)[None, :, None].repeat(1, 1, 3)
    assert torch.equal(assign(points, centroids), torch.arange(256)[None])


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_numbers_of_channels(channels, backend):
    points, centroids = images("noise", 600, channels), palette("noise", 9, channels)
    assert_nearest(points, centroids, assign(points, centroids))


def test_ties_go_to_the_lowest_index(backend):
    points = images("noise", 1000, 3)
    centroids = palette("noise", 7, 3).repeat(1, 3, 1)
    assert assign(points, centroids).max() < 7


def test_what_is_exported_is_the_same():
    """Ties too, within and beyond the centroids that are taken at once."""
    points, some = images("noise", 500, 3), palette("noise", 20, 3)
    centroids = some.repeat(1, 2, 1)
    found = assign_for_export(points, centroids, True)
    assert_nearest(points, centroids, found)
    assert found.max() < 20
    assert torch.equal(found, assign(points, centroids, True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.flatten(2).transpose(1, 2),  # channels first, in place
        lambda x: x.contiguous(memory_format=torch.channels_last).flatten(2).transpose(1, 2),
        lambda x: x.flatten(2).transpose(1, 2).contiguous(),
        lambda x: x[:, :, ::2, 1::3].permute(0, 2, 3, 1).flatten(1, 2),
        lambda x: x[:1].expand(3, -1, -1, -1).flatten(2).transpose(1, 2),
        lambda x: x.flatten(2).transpose(1, 2)[:, ::5],
        lambda x: x.flatten(2).transpose(1, 2)[:, 7:8],
        lambda x: x[:, :, 3].transpose(1, 2)[:, :, :1].expand(-1, -1, 3),
    ],
)
def test_any_strides(view, dtype, backend):
    batch = levels(3, 3, 30, 41)
    points = view(batch if dtype == torch.uint8 else batch.to(dtype) / 255)
    for groups in (1, 3):
        centroids = random(groups, 13, 3, seed=groups)
        found = assign(points, centroids)
        assert_nearest(points, centroids, found)
        assert torch.equal(found, assign(points.contiguous(), centroids))


@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize(("count", "num_clusters"), [(300, 9), (60_000, 400)])  # and by a grid
def test_not_a_number_and_infinity(clamp, count, num_clusters, backend):
    points = images("noise", count, 3).clone()
    points[0, 5, 0] = float("nan")
    points[0, 6, 1] = float("inf")
    points[0, 7] = float("-inf")
    points[0, 8, 2] = 3e38
    centroids = palette("noise", num_clusters, 3)
    found = assign(points, centroids, clamp)
    odd = implementation("assign", "reference")(points[:, :9], centroids, clamp)
    assert torch.equal(found[:, :9], odd)  # whose distances are infinite, too
    assert_nearest(points[:, 9:1000], centroids, found[:, 9:1000], clamp)


@pytest.fixture
def always_grid(monkeypatch):
    """Make the grid pay for any number of points."""
    from colorquant_nn.kernels.cpu import grid

    monkeypatch.setattr(grid, "BRUTE_COSTS", (1e9, 1e9))
    monkeypatch.setattr(grid, "GRID_COSTS", grid.GRID_COSTS[1:2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_clusters", [1, 2, 17, 256, 1000])
@pytest.mark.parametrize("clamp", [False, True])
def test_grid_is_exact(kind, num_clusters, clamp, always_grid):
    points = images(kind, 5000, 3) * 1.2 - 0.1
    centroids = palette(kind, num_clusters, 3)
    found = assign(points, centroids, clamp)
    assert_nearest(points, centroids, found, clamp)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e6])
@pytest.mark.parametrize("shift", [0.0, 1.0, -1e4])
def test_grid_is_exact_at_any_scale(scale, shift, always_grid):
    points = images("noise", 3000, 3) * scale + shift
    centroids = palette("noise", 100, 3) * scale + shift
    assert_nearest(points, centroids, assign(points, centroids))


def test_grid_is_exact_for_points_outside_of_its_sample(always_grid):
    points = images("noise", 30_000, 3).clone()
    points[0, 1::50] = points[0, 1::50] * 40 - 20  # every eighth point is looked at
    points[0, ::8] = points[0, ::8] * 0.5
    centroids = palette("noise", 300, 3) * 30 - 15
    assert_nearest(points, centroids, assign(points, centroids))


def test_grid_of_one_colour(always_grid):
    points = torch.full((1, 1000, 3), 0.3)
    centroids = palette("noise", 100, 3)
    assert_nearest(points, centroids, assign(points, centroids))


def test_grid_with_centroids_far_from_all_points(always_grid):
    points = images("noise", 3000, 3)
    centroids = palette("noise", 300, 3) * 1e-3 + 5.0
    assert_nearest(points, centroids, assign(points, centroids))


def test_grid_without_room_falls_back_to_all_centroids(always_grid, monkeypatch):
    from colorquant_nn.kernels.cpu import grid

    monkeypatch.setattr(grid, "GROUPS_PER_CELL", 0.1)
    monkeypatch.setattr(grid, "GROUPS_PER_CENTROID", 0)
    points, centroids = images("noise", 3000, 3), palette("noise", 1000, 3)
    assert_nearest(points, centroids, assign(points, centroids))


def test_many_points_and_centroids():
    points, centroids = images("noise", 150_000, 3), palette("noise", 1000, 3)
    found = assign(points, centroids, True)
    assert_nearest(points[:, ::50], centroids, found[:, ::50])
