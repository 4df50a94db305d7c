"""Seeds: what is chosen, how often, and that only it depends on the generator."""

import pytest
import torch

from colorquant_nn import kernels
from colorquant_nn.functional.seeding import kmeans_plus_plus, seed, spread_colors
from tests.helpers import random


def test_seeds_are_points_and_reproducible() -> None:
    points = random(100, 3)
    state = torch.get_rng_state()
    seeds = kmeans_plus_plus(points, 10)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(seeds, kmeans_plus_plus(points, 10))
    assert (seeds[:, None] == points).all(-1).any(1).all()
    assert len(seeds.unique(dim=0)) == 10
    other = kmeans_plus_plus(points, 10, None, torch.Generator().manual_seed(1))
    assert not torch.equal(seeds, other)


def test_points_of_no_weight_are_not_chosen() -> None:
    points = random(50, 3)
    weights = torch.zeros(50)
    weights[::5] = 1.0
    seeds = kmeans_plus_plus(points, 10, weights)
    assert {tuple(seed.tolist()) for seed in seeds} == {tuple(p.tolist()) for p in points[::5]}
    # The lowest draw there is, with points of no weight before the others.
    problem = points[1:], weights[1:], torch.zeros(9, 3), 0, torch.zeros(9, 3)
    for lowest in (seed(*problem), kernels.seed(*problem)):
        assert torch.equal(lowest, points[5::5])


def test_plus_plus_finds_every_distinct_point_before_it_repeats() -> None:
    distinct = random(6, 3)
    points = distinct.repeat_interleave(torch.tensor([1, 500, 1, 3, 1, 90]), 0)
    assert len(kmeans_plus_plus(points, 6).unique(dim=0)) == 6
    assert len(kmeans_plus_plus(points, 9).unique(dim=0)) == 6


def test_plus_plus_draws_by_squared_distance() -> None:
    # From 0, the points 1 and 3 have probabilities 0.1 and 0.9; the larger weight draws 0 first.
    points = torch.tensor([[0.0], [1.0], [3.0]])
    weights = torch.tensor([1e6, 1.0, 1.0])
    generator = torch.Generator().manual_seed(0)
    second = [kmeans_plus_plus(points, 2, weights, generator)[1].item() for _ in range(2000)]
    # Greedy: of two draws the better one, so that 1 is left with 0.1 squared.
    assert 0.004 < second.count(1.0) / 2000 < 0.018


@pytest.mark.parametrize("num_colors", [1, 2, 8, 64, 256, 1000])
def test_spread_colors_are_distinct_and_in_the_cube(num_colors: int) -> None:
    colors = spread_colors(num_colors)
    assert colors.shape == (num_colors, 3)
    assert colors.dtype == torch.float32
    assert ((colors > 0) & (colors < 1)).all()
    assert len(colors.unique(dim=0)) == num_colors


@pytest.mark.parametrize("num_colors", [8, 64, 256, 1000])
def test_spread_colors_cover_the_cube_better_than_random_ones(num_colors: int) -> None:
    cube = torch.cartesian_prod(*[torch.linspace(0, 1, 17)] * 3)
    ours, theirs = (
        torch.cdist(cube, colors).min(1).values.square().mean()
        for colors in (spread_colors(num_colors), random(num_colors, 3))
    )
    assert ours < theirs


def test_points_of_no_weight_are_not_chosen_when_colours_run_out() -> None:
    points = torch.tensor([[0.0], [1.0], [9.0]])
    seeds = kmeans_plus_plus(points, 3, torch.tensor([1.0, 1.0, 0.0]))
    assert set(seeds.flatten().tolist()) == {0.0, 1.0}
