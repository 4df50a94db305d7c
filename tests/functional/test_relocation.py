import pytest
import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.clustering import distortion, lloyd
from colorquant_nn.functional.fitting import EFFORTS, fit_centroids
from colorquant_nn.functional.histogram import count_colors
from colorquant_nn.functional.relocation import breathe, relocate


def moments(points: Tensor, centroids: Tensor, weights: Tensor | None = None) -> Tensor:
    weights = None if weights is None else weights[None]
    return kernels.cluster(points[None], centroids[None], weights=weights).moments[0]


def four_groups() -> tuple[Tensor, Tensor]:
    """Two far groups that share a centroid, and one near group with two too many."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.tensor([[0.1, 0.1, 0.1], [0.9, 0.9, 0.1], [0.9, 0.1, 0.9]])
    points = (centers[:, None] + 0.01 * torch.randn(3, 100, 3, generator=generator)).flatten(0, 1)
    stuck = torch.tensor([[0.09, 0.1, 0.1], [0.11, 0.1, 0.1], [0.9, 0.5, 0.5]])
    return points, lloyd(points, stuck, None, 10)


def test_a_relocation_leaves_the_minimum_that_lloyd_is_stuck_in() -> None:
    points, stuck = four_groups()
    before = moments(points, stuck)
    assert distortion(before) > 10  # two groups 1.1 apart share a centroid
    after = breathe(points, stuck, None, rounds=1)
    assert distortion(moments(points, after)) < 0.2


def test_relocate_touches_only_what_moves() -> None:
    points, stuck = four_groups()
    extra = torch.cat([stuck, torch.tensor([[0.0, 1.0, 0.0]])])
    points = torch.cat([points, torch.tensor([[0.0, 1.0, 0.0]]).expand(50, 3)])
    found = moments(points, extra)
    counts = found[:, 0].float()
    movable = torch.ones(4, dtype=torch.bool)
    moved, new_counts = relocate(extra, counts, found, movable, most=1, margin=0.5)
    assert torch.equal(moved[3], extra[3])
    assert new_counts.sum() == counts.sum()
    still, same = relocate(extra, counts, found, ~movable, most=1, margin=0.5)
    assert torch.equal(still, extra)
    assert torch.equal(same, counts)


@pytest.mark.parametrize("num_clusters", [1, 8, 24])
def test_breathing_never_makes_it_worse_and_repeats_itself(num_clusters: int) -> None:
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(500, 3, generator=generator)
    weights = torch.rand(500, generator=generator)
    start = lloyd(points, points[:num_clusters], weights, 5)
    state = torch.get_rng_state()
    after = breathe(points, start, weights, rounds=10)
    assert torch.equal(after, breathe(points, start, weights, rounds=10))
    assert torch.equal(torch.get_rng_state(), state)
    before = distortion(moments(points, start, weights))
    assert distortion(moments(points, after, weights)) <= before


@pytest.mark.parametrize("effort", list(EFFORTS))
@pytest.mark.parametrize("channels", [3, 4])
def test_search_ends_below_plain_kmeans(effort: str, channels: int) -> None:
    generator = torch.Generator().manual_seed(2)
    colors = torch.rand(1, 4000, channels, generator=generator) ** 2
    codes, points, weights, *_ = count_colors(colors, torch.rand(1, 4000, generator=generator))
    fitted = fit_centroids(points, weights, codes, 20, points[:0], EFFORTS[effort], 0)
    random = points[torch.randperm(len(points), generator=generator)[:20]]
    plain = lloyd(points, random, weights.float(), 50)
    ours = distortion(moments(points, fitted, weights.float()))
    assert ours < 1.02 * distortion(moments(points, plain, weights.float()))
    # One more step of the plain algorithm finds hardly anything left to gain.
    once_more = lloyd(points, fitted, weights.float(), 1)
    assert distortion(moments(points, once_more, weights.float())) > 0.99 * ours


def test_search_measures_what_the_kernel_measures() -> None:
    """The boxes leave out no centroid that is nearest: one Lloyd step agrees with the kernel."""
    generator = torch.Generator().manual_seed(3)
    image = torch.randint(256, (1, 3000, 3), generator=generator, dtype=torch.uint8)
    _, points, weights = kernels.distinct_colors(image)
    start = points[torch.randperm(len(points), generator=generator)[:40]].contiguous()
    stepped = kernels.search(
        points, weights, start[None], 3, torch.zeros(1, 40, 0), torch.zeros(1, 0, 2, 40), 1, 1
    )
    expected = lloyd(points, start, weights.float(), 1)
    expected[:3] = start[:3]
    torch.testing.assert_close(stepped, expected, atol=1e-6, rtol=0)
