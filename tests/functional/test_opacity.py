"""What opaque, soft and clear points may take, and centroids that become opaque."""

import pytest
import torch

from colorquant_nn.functional.opacity import (
    CLEAR,
    OPAQUE,
    SOFT,
    assign,
    keep_opaque,
    opacity,
    round_opacity,
)
from tests.helpers import random


def some_points(count: int, opaque: float, seed: int = 0) -> torch.Tensor:
    points = random(count, 4, seed=seed) * opaque
    kinds = torch.randint(3, (count,), generator=torch.Generator().manual_seed(seed))
    points[kinds == OPAQUE, 3] = opaque
    points[kinds == CLEAR] = 0
    return points


@pytest.mark.parametrize("opaque", [1.0, 100.0])
@pytest.mark.parametrize("kinds", [(0, 1, 2), (1, 2), (0, 1), (0, 2), (0,), (1,), (2,)])
def test_each_point_takes_the_nearest_of_its_opacity(kinds: tuple[int, ...], opaque: float) -> None:
    points, centroids = some_points(300, opaque), some_points(40, opaque, seed=1)
    centroids = centroids[torch.isin(opacity(centroids, opaque), torch.tensor(kinds))]
    theirs = opacity(centroids, opaque)
    found = assign(points, centroids, opaque)
    for point, kind, index in zip(points, opacity(points, opaque), found, strict=True):
        allowed = theirs == kind if kind != SOFT else theirs >= 0
        if kind == OPAQUE and not allowed.any():
            allowed = theirs != CLEAR
        if not allowed.any():
            allowed = theirs >= 0
        distances = (centroids - point).double().square().sum(1)
        assert allowed[index]
        assert distances[index] <= distances[allowed].min() * (1 + 1e-6)


def test_an_opaque_point_is_no_hole_where_nothing_is_opaque() -> None:
    centroids = torch.tensor([[0.0, 0, 0, 0], [0.4, 0.4, 0.4, 0.4]])
    black = torch.tensor([[0.0, 0, 0, 1], [0.0, 0, 0, 0.5]])
    centroids[1, :3] *= 0.1
    assert assign(black, centroids).tolist() == [1, 1]
    loud = torch.tensor([[0.0, 0, 0, 0], [1.5, 1.5, 1.5, 0.5]])  # even where that is further
    assert assign(black, loud).tolist() == [1, 0]


def test_what_rounds_to_an_opaque_byte_is_opaque() -> None:
    points = torch.tensor([[0.5, 0.5, 0.5, alpha] for alpha in (0.0, 1e-9, 0.998, 0.9981, 1.0)])
    assert opacity(points).tolist() == [CLEAR, SOFT, SOFT, OPAQUE, OPAQUE]
    assert opacity(100 * points, 100.0).tolist() == opacity(points).tolist()
    assert round_opacity(points)[:, 3].tolist() == pytest.approx([0, 1e-9, 0.998, 1, 1], abs=1e-7)
    assert torch.equal(round_opacity(points)[:, :3], points[:, :3])


@pytest.mark.parametrize("opaque", [1.0, 100.0])
def test_centroids_are_opaque_where_most_of_their_weight_is(opaque: float) -> None:
    at = opaque * torch.tensor([[0.9, 0.9, 0.9, 1.0], [0.8, 0.8, 0.8, 0.9], [0.1, 0.1, 0.1, 0.2]])
    weights = torch.tensor([5.0, 2.0, 3.0], dtype=torch.float64)
    means = torch.stack([(5 * at[0] + 2 * at[1]) / 7, at[2]])
    found = keep_opaque(at, weights, means, 0, opaque)
    # The least squares with an alpha that is given: the mean of the colours.
    expected = means.clone()
    expected[0, 3] = opaque
    torch.testing.assert_close(found, expected)
    assert torch.equal(keep_opaque(at[1:], weights[1:], means, 0, opaque), means)  # none is opaque
    assert torch.equal(keep_opaque(at[:1], weights[:1], means, 0, opaque), means)  # all are
    pinned = keep_opaque(at, weights, means, 1, opaque)
    assert torch.equal(pinned[0], means[0])


def test_opaque_points_do_not_go_far_to_be_opaque() -> None:
    """The dark cluster is mostly soft, but the only opaque colour elsewhere is white."""
    at = torch.tensor([[1.0, 1, 1, 1], [0.0, 0, 0, 1], [0.0, 0, 0, 0.9]])
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    means = torch.tensor([[1.0, 1, 1, 1], [0.0, 0, 0, 0.94]])
    assert keep_opaque(at, weights, means, 1)[1].tolist() == [0, 0, 0, 1]
    # Where a like colour is opaque already, the soft points keep theirs.
    light = torch.tensor([[0.0, 0, 0, 1], [0.0, 0, 0, 0.6], [0.01, 0, 0, 1]])
    means = torch.tensor([[0.0, 0, 0, 1], [0.0, 0, 0, 0.65]])
    kept = keep_opaque(light, torch.tensor([9.0, 9.0, 0.1], dtype=torch.float64), means, 0)
    assert kept[1, 3] == pytest.approx(0.6)
