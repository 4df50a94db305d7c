"""`seed`, `relocate` and `search` against slow loops, and what each promises."""

import numpy as np
import pytest
import torch

from colorquant_nn.functional.clustering import moments_of
from colorquant_nn.kernels import most_moves, relocate, search, seed
from tests.helpers import random
from tests.oracles import relocate_slowly, seed_slowly


@pytest.fixture(autouse=True)
def there(backend):
    """Every test here runs on every backend."""


def tight_clusters():
    """40 of 64 points, so that a tile is small and most centroids are far from it."""
    centers = random(40, 1, 3)
    return (centers + 1e-3 * random(40, 64, 3, seed=1)).flatten(0, 1)


def distortion(points, centroids):
    return torch.cdist(points.double(), centroids.double()).amin(1).square().sum()


# -- seed


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("pinned", [0, 3])
def test_seeds_are_those_of_the_definition(channels, pinned):
    points, weights = random(300, channels), random(300, seed=1)
    start, uniforms = random(12, channels, seed=2), random(12, 4, seed=3)
    found = seed(points, weights, start, pinned, uniforms)
    assert torch.equal(found[:pinned], start[:pinned])
    assert torch.equal(found, seed_slowly(points, weights, start, pinned, uniforms))


def test_seeding_hits_every_cluster():
    """No tile is left out for good after a first centroid has come near."""
    points = tight_clusters()
    seeds = seed(points, torch.ones(len(points)), torch.zeros(40, 3), 0, random(40, 5, seed=2))
    assert torch.cdist(points, seeds).amin(1).max() < 0.01


def test_points_without_weight_are_no_seeds():
    points, weights = random(200, 3), (random(200, seed=1) > 0.5).float()
    seeds = seed(points, weights, torch.zeros(8, 3), 0, random(8, 3, seed=2))
    voters = points[weights > 0]
    assert (seeds[:, None] == voters).all(-1).any(1).all()


def test_when_the_colours_run_out_the_first_is_repeated():
    points = torch.tensor([[0.1, 0.2, 0.3], [0.7, 0.7, 0.7]]).repeat(50, 1)
    seeds = seed(points, torch.ones(100), torch.zeros(5, 3), 0, random(5, 3))
    assert len(seeds.unique(dim=0)) == 2
    assert torch.equal(seeds[2:], seeds[:1].expand(3, 3))


@pytest.mark.parametrize("count", [0, 5, 100])
def test_without_voters_there_are_zeros_after_the_pinned(count):
    start = random(4, 3)
    found = seed(random(count, 3), torch.zeros(count), start, 2, random(4, 2))
    assert torch.equal(found[:2], start[:2])
    none = seed(random(count, 3), torch.zeros(count), start, 0, random(4, 2))
    assert (none == 0).all()


# -- relocate


@pytest.mark.parametrize("case", range(12))
def test_relocations_are_those_of_the_definition(case):
    """Running counts of their own, some dead, some pinned, with luck and without."""
    generator = np.random.default_rng(case)
    channels, num_clusters, pinned = 3 + case % 2, (9, 24, 40)[case % 3], (0, 0, 4)[case % 3]
    points, centroids = sticks(num_clusters, channels, case)
    batch = moments_of(points, centroids, None)
    counts = torch.from_numpy(generator.exponential(5, num_clusters)).float()
    movable = torch.from_numpy(generator.random(num_clusters) < 0.7)
    movable[:pinned] = False
    blur = None if case % 4 == 0 else random(2, num_clusters, seed=case) + 0.5
    limit = torch.tensor(most_moves(num_clusters) if case % 5 else 1)
    margin = (0.5, 0.01)[case % 2]
    arguments = (centroids, counts, batch, movable, limit, margin, blur, pinned)
    found, new_counts = relocate(*arguments)
    expected, expected_counts = relocate_slowly(*arguments)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
    torch.testing.assert_close(new_counts, expected_counts, rtol=1e-5, atol=1e-5)
    untouched = expected_counts == counts
    assert torch.equal(found[:pinned], centroids[:pinned])
    assert torch.equal(new_counts[untouched], counts[untouched])


def sticks(num_clusters, channels, case):
    """Long clusters, whose axes are plain; some share a centroid, some have two."""
    middles, axes = random(2, num_clusters, 1, channels, seed=case) * 2 - 0.5
    lengths = random(num_clusters, 30, 1, seed=case + 1) - 0.5
    points = middles + 0.3 * axes * lengths
    points += 0.002 * random(*points.shape, seed=case + 2)
    extra = num_clusters // 3
    centroids = middles[:, 0] + 0.1 * axes[:, 0]
    centroids[-extra:] = middles[:extra, 0] - 0.1 * axes[:extra, 0]
    return points.flatten(0, 1), centroids


def two_near_and_one_far():
    """Two small clusters beside one another, and one of two groups far apart."""
    near = torch.tensor([0.1, 0.1, 0.1]) + 0.01 * random(60, 3)
    near[30:, 1] += 0.03
    far = torch.tensor([0.5, 0.9, 0.9]) + torch.tensor([0.4, 0.0, 0.0]) * torch.tensor(
        [[-1.0], [1]]
    )
    points = torch.cat([near, far.repeat(50, 1)])
    return points, torch.stack([near[:30].mean(0), near[30:].mean(0), far.mean(0)])


def test_one_odd_batch_is_no_reason_to_move():
    """The far groups are all of the batch, but have next to nothing of the running counts."""
    points, centroids = two_near_and_one_far()
    batch, counts = moments_of(points, centroids, None), torch.tensor([1000.0, 1000.0, 0.001])
    movable = torch.tensor([True, True, False])
    moved, same = relocate(centroids, counts, batch, movable, torch.tensor(1), margin=2.0)
    assert torch.equal(moved, centroids)
    assert torch.equal(same, counts)
    counts[2] = 1000.0
    moved, _ = relocate(centroids, counts, batch, movable, torch.tensor(1), margin=2.0)
    assert not torch.equal(moved, centroids)


@pytest.mark.parametrize("stopped", ["immovable", "limit", "margin"])
def test_what_keeps_everything_where_it_is(stopped):
    points, centroids = two_near_and_one_far()
    batch = moments_of(points, centroids, None)
    movable = torch.full((3,), stopped != "immovable")
    limit = torch.tensor(0 if stopped == "limit" else 1)
    margin = 1e9 if stopped == "margin" else 0.5
    moved, counts = relocate(centroids, batch[:, 0], batch, movable, limit, margin)
    assert torch.equal(moved, centroids)
    assert torch.equal(counts, batch[:, 0])


# -- search


def lloyd(points, start, weights, pinned=0):
    """One step."""
    batch = moments_of(points, start, weights)
    moved = start + (batch[:, 1:4] / batch[:, :1].clamp_min(1e-30)).float()
    moved[:pinned] = start[:pinned]
    return torch.where(batch[:, :1] > 0, moved, start)


def search_once(points, start, pinned=0, rounds=0, steps=1):
    num_clusters = len(start)
    blurs = torch.exp(
        0.2 * torch.randn(1, rounds, 2, num_clusters, generator=torch.Generator().manual_seed(5))
    )
    nothing = torch.zeros(1, num_clusters, 0)
    weights = torch.ones(len(points))
    return search(points, weights, start[None], pinned, nothing, blurs, steps, 2)


@pytest.mark.parametrize("pinned", [0, 3])
def test_a_lloyd_step_is_exact_where_boxes_are_small(pinned):
    points, start = tight_clusters(), random(12, 3, seed=2)
    found = search_once(points, start, pinned)
    expected = lloyd(points, start, torch.ones(len(points)), pinned)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [3, 4])
def test_rounds_leave_the_pinned_colours_alone_and_help(channels):
    points = random(1500, channels) ** 2
    start = points[:12].clone()
    found = search_once(points, start, pinned=4, rounds=30, steps=2)
    assert torch.equal(found[:4], start[:4])
    without = search_once(points, start, pinned=4, steps=2)
    assert distortion(points, found) <= distortion(points, without)


def test_the_best_of_several_starts():
    points, weights = random(800, 3), torch.ones(800)
    starts, uniforms = torch.zeros(5, 10, 3), random(5, 10, 3, seed=1)
    blurs = torch.ones(5, 2, 2, 10)
    best = distortion(points, search(points, weights, starts, 0, uniforms, blurs, 5, 3))
    each = [
        distortion(
            points, search(points, weights, starts[:1], 0, uniforms[i : i + 1], blurs[:1], 5, 3)
        )
        for i in range(5)
    ]
    torch.testing.assert_close(best, min(each))
    assert max(each) > min(each)
