"""Relocation: what moves, when, and that its two forms, plain and compiled, are one operation."""

import pytest
import torch
from torch import Tensor

from colorquant_nn import ColorQuantize, kernels
from colorquant_nn.functional import relocation, search, seeding
from colorquant_nn.functional.clustering import distortion, lloyd, moments_of
from colorquant_nn.functional.fitting import EFFORTS, fit_centroids
from colorquant_nn.functional.histogram import count_colors
from tests.helpers import random


def everyone(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.bool)


def relocate(
    centroids: Tensor,
    counts: Tensor,
    moments: Tensor,
    movable: Tensor,
    most: int = 1,
    margin: float = 0.5,
) -> tuple[Tensor, Tensor]:
    return kernels.relocate(centroids, counts, moments, movable, torch.tensor(most), margin)


def four_groups() -> tuple[Tensor, Tensor]:
    """Two far groups that share a centroid, and one near group with two too many."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.tensor([[0.1, 0.1, 0.1], [0.9, 0.9, 0.1], [0.9, 0.1, 0.9]])
    points = (centers[:, None] + 0.01 * torch.randn(3, 100, 3, generator=generator)).flatten(0, 1)
    stuck = torch.tensor([[0.09, 0.1, 0.1], [0.11, 0.1, 0.1], [0.9, 0.5, 0.5]])
    return points, lloyd(points, stuck, None, 10)


def one_move() -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Two near centroids of counts 30 and 10, and one that stands for two groups of 40."""
    points = torch.cat(
        [
            torch.full((30, 3), 0.10),
            torch.full((10, 3), 0.12),
            torch.tensor([[0.9, 0.1, 0.9]]).expand(40, 3),
            torch.tensor([[0.9, 0.9, 0.9]]).expand(40, 3),
        ]
    )
    centroids = torch.tensor([[0.1, 0.1, 0.1], [0.12, 0.12, 0.12], [0.9, 0.5, 0.9]])
    found = moments_of(points, centroids, None)
    movable = torch.tensor([False, True, False])
    return centroids, found, relocate(centroids, found[:, 0].float(), found, movable)


def run_search(points: Tensor, start: Tensor, weights: Tensor | None, rounds: int) -> Tensor:
    weights = torch.ones(len(points)) if weights is None else weights
    generator = torch.Generator().manual_seed(0)
    blurs = (0.2 * torch.randn(1, rounds, 2, len(start), generator=generator)).exp()
    no_seeding = torch.zeros(1, len(start), 0)
    return kernels.search(points, weights, start[None], 0, no_seeding, blurs, 0, 5)


def test_a_relocation_leaves_the_minimum_that_lloyd_is_stuck_in() -> None:
    points, stuck = four_groups()
    assert distortion(moments_of(points, stuck, None)) > 10  # two groups share a centroid
    after = run_search(points, stuck, None, rounds=1)
    assert distortion(moments_of(points, after, None)) < 0.2


def test_the_merged_the_neighbour_and_the_halves_land_where_they_should() -> None:
    centroids, found, (moved, counts) = one_move()
    assert counts.tolist() == [40, 40, 40]  # the halves share the count of their cluster
    torch.testing.assert_close(moved[0], torch.full((3,), (30 * 0.1 + 10 * 0.12) / 40))
    reach = (2 / torch.pi * 0.16) ** 0.5  # of variance 0.16 along green
    halves = moved[[1, 2]][moved[[1, 2], 1].argsort()]
    expected = torch.tensor([[0.9, 0.5 - reach, 0.9], [0.9, 0.5 + reach, 0.9]])
    torch.testing.assert_close(halves, expected)
    still, same = relocate(centroids, found[:, 0].float(), found, everyone(3) & False)
    assert torch.equal(still, centroids)
    assert torch.equal(same, found[:, 0].float())


def test_of_two_that_are_each_others_neighbour_one_stays() -> None:
    wide = torch.tensor([[[0.9, 0.1, 0.9], [0.9, 0.9, 0.9]], [[0.1, 0.1, 0.9], [0.1, 0.9, 0.9]]])
    near = torch.tensor([[0.1] * 3, [0.12] * 3])
    far = random(16, 3) + 50  # so that two may move
    points = torch.cat([near.repeat(10, 1), wide.reshape(4, 3).repeat(40, 1), far])
    centroids = torch.cat([near, wide.mean(1), far])
    found = moments_of(points, centroids, None)
    movable = torch.arange(len(centroids)) < 2
    moved, _ = relocate(centroids, found[:, 0].float(), found, movable, most=2)
    assert torch.cdist(moved, torch.full((1, 3), 0.11)).min() < 0.05


def test_a_count_of_a_quarter_of_the_mean_is_not_dead() -> None:
    groups = torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.5, 0.5]]).repeat(100, 1)
    points = torch.cat([groups, torch.tensor([[0.5, 0.5, 0.52]]).expand(20, 3)])
    centroids = torch.tensor([[0.5, 0.5, 0.5], [0.5, 0.5, 0.52], [9.0, 9.0, 9.0]])
    found = moments_of(points, centroids, None)
    counts = torch.tensor([100.0, 20.0, 100.0])
    moved, after = relocation.revive(centroids, counts, found, 0.1)
    assert torch.equal(moved, centroids)
    assert torch.equal(after, counts)
    assert not torch.equal(relocation.revive(centroids, counts, found, 0.5)[0], centroids)


@pytest.mark.parametrize("times", [1.5, 2.5])
def test_a_revival_has_to_gain_twice_what_it_costs(times: float) -> None:
    cost = 30 * 10 / 40 * 3 * 0.02**2  # of merging the first two, whose counts are 30 and 10
    reach = (times * cost / (2 / torch.pi * 80)) ** 0.5
    halves = torch.tensor([[0.9, 0.5 - reach, 0.9], [0.9, 0.5 + reach, 0.9]])
    near = torch.tensor([[0.1] * 3, [0.12] * 3])
    points = torch.cat([near[:1].repeat(30, 1), near[1:].repeat(10, 1), halves.repeat(40, 1)])
    centroids = torch.cat([near, halves.mean(0, keepdim=True)])
    found = moments_of(points, centroids, None)
    moved, _ = relocation.revive(centroids, found[:, 0].float(), found, 0.5)
    assert torch.equal(moved, centroids) == (times < 2)


@pytest.mark.parametrize("space", ["rgb", "linear", "lab", "oklab"])
def test_what_a_relocation_lands_outside_of_the_cube_is_brought_back(space: str) -> None:
    # Nearly all black, some red: half of the split cluster would land at a negative red.
    x = torch.zeros(1, 3, 10, 100)
    x[:, 0, 0] = 1.0
    start = torch.tensor([[0.1, 0, 0], [0, 1.0, 1.0]])
    layer = ColorQuantize.from_palette(start, frozen=False, space=space)
    layer(x)
    layer.eval()
    result = layer.quantize(x)
    assert not torch.equal(result.palette, start)
    torch.testing.assert_close(result.mse, torch.nn.functional.mse_loss(result.values, x))
    grid = torch.cartesian_prod(*[torch.linspace(0, 1, 17)] * 3).T.reshape(3, 17, -1)
    nearest = ColorQuantize.from_palette(layer.palette, space=space).encode(grid)
    assert (layer.encode(grid) != nearest).float().mean() < 0.001  # ties, but for rounding


@pytest.mark.parametrize("seed", range(20))
def test_no_round_of_a_search_makes_it_worse(seed: int) -> None:
    points, weights = random(300, 3, seed=seed), random(300, seed=100 + seed)
    start = lloyd(points, points[:24], weights, 5)
    state = torch.get_rng_state()
    after = run_search(points, start, weights, rounds=1)
    assert torch.equal(after, run_search(points, start, weights, rounds=1))
    assert torch.equal(torch.get_rng_state(), state)
    before = distortion(moments_of(points, start, weights))
    assert distortion(moments_of(points, after, weights)) <= before * (1 + 1e-6)


def tight_groups(channels: int, seed: int) -> tuple[Tensor, Tensor]:
    """Forty groups of colours, far from one another, and their weights."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.rand(40, 1, channels, generator=generator)
    points = centers + 0.004 * torch.randn(40, 60, channels, generator=generator)
    return points.flatten(0, 1), torch.rand(2400, generator=generator) ** 3


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("pinned", [0, 5])
def test_the_plain_and_the_compiled_form_seed_relocate_and_search_alike(
    channels: int, pinned: int, seed: int
) -> None:
    points, weights = tight_groups(channels, seed)
    generator = torch.Generator().manual_seed(100 + seed)
    num_clusters = 32
    start = torch.rand(2, num_clusters, channels, generator=generator)
    start[1, :pinned] = start[0, :pinned]
    uniforms = torch.rand(2, num_clusters, 5, generator=generator)
    blurs = (0.2 * torch.randn(2, 6, 2, num_clusters, generator=generator)).exp()

    ours = kernels.seed(points, weights, start[0], pinned, uniforms[0])
    plain = seeding.seed(points, weights, start[0], pinned, uniforms[0])
    assert torch.equal(ours, plain)

    moments = moments_of(points, start[0], weights)
    counts = moments[:, 0].float() * torch.rand(num_clusters, generator=generator)
    movable = torch.rand(num_clusters, generator=generator) < 0.7
    movable[:pinned] = False
    for margin in (0.2, 2.0):
        arguments = start[0], counts, moments, movable, torch.tensor(4), margin, blurs[0, 0], pinned
        ours, plain = kernels.relocate(*arguments), relocation.relocate(*arguments)
        torch.testing.assert_close(ours[0], plain[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(ours[1], plain[1])
        assert not torch.equal(plain[0], start[0])
        assert torch.equal(plain[0][:pinned], start[0, :pinned])

    blurs[:, 0, 1] = 0  # the first round gains nothing, and is no reason for fewer moves
    for part in (slice(0, 1), slice(1, 2)):
        problem = points, weights, start[part], pinned, uniforms[part], blurs[part], 6, 3
        ours, plain = kernels.search(*problem), search.search(*problem)
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-6)
        assert torch.equal(ours[:pinned], start[0, :pinned])
    best = kernels.search(points, weights, start, pinned, uniforms, blurs, 6, 3)
    plain = search.search(points, weights, start, pinned, uniforms, blurs, 6, 3)
    errors = [distortion(moments_of(points, found, weights)) for found in (best, plain)]
    torch.testing.assert_close(errors[0], errors[1])  # of two that are equally good, either


@pytest.mark.parametrize("effort", list(EFFORTS))
@pytest.mark.parametrize("channels", [3, 4])
def test_a_fit_ends_below_plain_kmeans(effort: str, channels: int) -> None:
    generator = torch.Generator().manual_seed(2)
    colors = torch.rand(1, 4000, channels, generator=generator) ** 2
    counted = count_colors(colors, torch.rand(1, 4000, generator=generator))
    codes, points, weights = counted.codes, counted.colors, counted.weights
    fitted = fit_centroids(points, weights, codes, 20, points[:0], EFFORTS[effort], 0)
    random = points[torch.randperm(len(points), generator=generator)[:20]]
    plain = lloyd(points, random, weights.float(), 50)
    ours = distortion(moments_of(points, fitted, weights.float()))
    assert ours < 1.02 * distortion(moments_of(points, plain, weights.float()))
    # One more step of the plain algorithm finds hardly anything left to gain.
    once_more = lloyd(points, fitted, weights.float(), 1)
    assert distortion(moments_of(points, once_more, weights.float())) > 0.99 * ours
