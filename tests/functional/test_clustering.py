"""The update rule against its formula, k-means against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from colorquant_nn.functional.clustering import distortion, kmeans, lloyd, moments_of, update
from tests.helpers import random


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99, 1.0])
def test_update_is_the_formula(decay: float) -> None:
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(500, 3, generator=generator)
    centroids = torch.rand(7, 3, generator=generator)
    centroids[3] = 40.0  # nothing is near
    counts = 100 * torch.rand(7, generator=generator)
    moved, new_counts = update(centroids, counts, moments_of(points, centroids, None), decay)

    nearest = (points.double()[:, None] - centroids.double()).square().sum(-1).argmin(1)
    for k in range(7):
        mine = points.double()[nearest == k]
        expected = decay * counts[k].double() + len(mine)
        torch.testing.assert_close(new_counts[k].double(), expected, rtol=1e-6, atol=0)
        if len(mine) == 0:
            assert torch.equal(moved[k], centroids[k])
        else:
            c = centroids[k].double()
            c = c + (mine.sum(0) - len(mine) * c) / expected
            torch.testing.assert_close(moved[k].double(), c, rtol=1e-6, atol=1e-7)


def test_update_with_decay_zero_is_the_mean() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]])
    centroids = torch.tensor([[0.2, 0.3], [8.0, 8.0]])
    moved, counts = update(centroids, torch.zeros(2), moments_of(points, centroids, None), 0.0)
    torch.testing.assert_close(moved, torch.tensor([[0.5, 0.0], [9.0, 9.0]]))
    assert counts.tolist() == [2.0, 1.0]


def test_update_with_decay_one_is_the_mean_of_all_that_was_seen() -> None:
    batches = random(20, 50, 3, seed=2)
    centroid, count = torch.full((1, 3), 0.3), torch.zeros(1)
    for batch in batches:
        centroid, count = update(centroid, count, moments_of(batch, centroid, None), 1.0)
    torch.testing.assert_close(centroid[0], batches.mean((0, 1)))
    assert count.item() == 1000


@pytest.mark.parametrize("weighted", [False, True])
def test_kmeans_agrees_with_scikit_learn_from_the_same_start(weighted: bool) -> None:
    random = np.random.default_rng(3)
    points = random.random((2000, 3)).astype(np.float32)
    weights = random.random(2000).astype(np.float32) if weighted else None
    start = points[:12].copy()
    theirs = KMeans(12, init=start, n_init=1, max_iter=300, tol=0.0, algorithm="lloyd")
    theirs.fit(points, sample_weight=weights)
    ours = kmeans(
        torch.from_numpy(points),
        12,
        weights=None if weights is None else torch.from_numpy(weights),
        seeding=torch.from_numpy(start),
        max_iters=300,
        tol=0.0,
    )
    assert ours.converged
    np.testing.assert_allclose(ours.centroids.numpy(), theirs.cluster_centers_, atol=1e-5)
    assert (ours.indices.numpy() == theirs.labels_).mean() > 0.999
    assert float(ours.objective[-1]) == pytest.approx(theirs.inertia_, rel=1e-5)


@given(
    st.integers(1, 9),
    st.integers(0, 2**31),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_objective_never_increases(num_clusters: int, seed: int, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(60, 3, generator=generator).mul(8).round().div(8)  # with repetitions
    weights = torch.rand(60, generator=generator) if weighted else None
    result = kmeans(points, num_clusters, weights, tol=0.0, generator=generator)
    decrease = result.objective[:-1] - result.objective[1:]
    assert (decrease >= -1e-6 * result.objective[0]).all()
    exact = (points - result.centroids[result.indices]).square().sum(-1)
    exact = exact.sum() if weights is None else (weights * exact).sum()
    torch.testing.assert_close(result.objective[-1].float(), exact, rtol=1e-4, atol=1e-6)


def test_kmeans_says_when_it_stops_early() -> None:
    points = random(500, 3, seed=4)
    result = kmeans(points, 20, max_iters=1, tol=0.0)
    assert not result.converged
    assert result.objective.shape == (2,)
    # Nine centroids stay, and the tenth moves by 0.1: further than a tolerance of 0.05.
    points = torch.cat([torch.arange(9.0), torch.tensor([20.0, 20.2])])[:, None]
    start = torch.cat([torch.arange(9.0), torch.tensor([20.0])])[:, None]
    assert not kmeans(points, 10, seeding=start, max_iters=1, tol=0.05).converged


def test_the_last_objective_is_that_of_the_result() -> None:
    points = random(500, 3, seed=4)
    for options in ({"tol": 0.05}, {"max_iters": 3}):
        result = kmeans(points, 20, **options)
        left = distortion(moments_of(points, result.centroids, None))
        assert result.objective[-1] == left < result.objective[-2]


def test_kmeans_draws_its_seeds_from_the_generator() -> None:
    points = random(50, 3)
    one, other, same = (
        kmeans(points, 5, max_iters=0, generator=torch.Generator().manual_seed(seed)).centroids
        for seed in (1, 2, 1)
    )
    assert not torch.equal(one, other)
    assert torch.equal(one, same)


def test_kmeans_refuses_what_it_cannot_cluster() -> None:
    points = torch.rand(5, 3)
    with pytest.raises(ValueError, match=r"from 1 to the number of points, 5, got 6"):
        kmeans(points, 6)
    with pytest.raises(ValueError, match=r"float tensor \(N, C\)"):
        kmeans(torch.zeros(5, dtype=torch.int64), 1)
    with pytest.raises(ValueError, match=r"weights must be"):
        kmeans(points, 2, weights=torch.ones(4))
    with pytest.raises(ValueError, match="must be finite"):
        kmeans(torch.full((5, 3), torch.nan), 2)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        kmeans(points, 2, weights=-torch.ones(5))
    with pytest.raises(ValueError, match=r"start must be"):
        kmeans(points, 2, seeding=torch.ones(3, 3))


def test_lloyd_lowers_the_distortion() -> None:
    points = random(400, 3, seed=5)
    before = distortion(moments_of(points, points[:8], None))
    after = distortion(moments_of(points, lloyd(points, points[:8], None, steps=5), None))
    assert after < 0.8 * before


def test_lloyd_takes_weighted_means_and_leaves_pinned_centroids() -> None:
    points, weights = torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([3.0, 1.0, 1.0])
    start = torch.tensor([[0.5], [8.0]])
    assert lloyd(points, start, weights, 1).flatten().tolist() == [0.25, 9.0]
    assert lloyd(points, start, weights, 1, pinned=1).flatten().tolist() == [0.5, 9.0]
