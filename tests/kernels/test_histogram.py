"""`histogram` and `distinct_colors` against numpy, and their own promises of exactness."""

import numpy as np
import pytest
import torch

from colorquant_nn.kernels import add_to_histogram, distinct_colors, histogram, spread_bits
from tests.helpers import random
from tests.oracles import clean, images


def slow_histogram(points, bits, weights=None):
    """The moments of each cell, by numpy's weighted bincount."""
    side = 2**bits
    values = clean(points, True).reshape(-1, 3).numpy().astype(np.float64)
    vote = torch.isfinite(points).all(-1).reshape(-1).numpy().astype(np.float64)
    if weights is not None:
        vote = vote * weights.reshape(-1).numpy()
    cells = np.minimum(np.floor(values * side), side - 1).astype(int) @ [side * side, side, 1]
    columns = [vote] + [vote * values[:, c] for c in range(3)]
    sums = [np.bincount(cells, column, side**3) for column in columns]
    return torch.from_numpy(np.stack(sums, 1))


@pytest.mark.parametrize("bits", [1, 5, 6])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_moments_of_cells(bits, dtype, weighted, backend):
    points = images("noise", 3000, 3).view(3, 1000, 3)
    points = (
        (points * 255).to(torch.uint8) if dtype == torch.uint8 else (points * 1.4 - 0.2).to(dtype)
    )
    weights = torch.rand(3, 1000) * 7 if weighted else None
    found = histogram(points, bits, weights)
    exact = points.to(torch.float64) if dtype == torch.float64 else points
    expected = slow_histogram(exact, bits, weights)
    tolerance = 1e-6 if dtype in (torch.uint8, torch.float64) else 1e-12
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_order_of_the_points_does_not_matter(dtype, weighted):
    count = 200_000  # enough for several tables
    points = images("noise", count, 3) ** 4
    points = (points * 255).to(torch.uint8) if dtype == torch.uint8 else points
    weights = torch.rand(1, count) if weighted else None
    order = torch.randperm(count)
    shuffled = None if weights is None else weights[:, order]
    assert torch.equal(histogram(points, 4, weights), histogram(points[:, order], 4, shuffled))


def test_sums_of_bytes_are_exact(backend):
    points = torch.full((1, 1000, 3), 101, dtype=torch.uint8)  # 101 / 255 * 255 is not 101
    cells = torch.zeros(8, 5, dtype=torch.float64)
    for _ in range(2):
        add_to_histogram(cells, points)
    assert cells[0].tolist() == [2000, 202_000, 202_000, 202_000, 2000 * 3 * 101**2]


# Few points for the cells, and so many that threads share them.
@pytest.mark.parametrize(("count", "bits"), [(3000, 4), (30_000, 3)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("weighted", [False, True])
def test_points_are_added_to_what_is_there(count, bits, dtype, weighted, backend):
    points = images("noise", count, 3).view(2, count // 2, 3)
    points = (points * 255).to(torch.uint8) if dtype == torch.uint8 else points
    weights = random(2, count // 2, seed=3) if weighted else None
    cells = random(8**bits, 5, seed=4, dtype=torch.float64)
    before = cells.clone()
    add_to_histogram(cells, points, weights)
    colors = 255 * clean(points, True).double()
    votes = torch.ones(2, count // 2) if weights is None else weights
    expected = slow_histogram(points, bits, weights)
    torch.testing.assert_close(cells[:, 0] - before[:, 0], expected[:, 0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        cells[:, 1:4] - before[:, 1:4], 255 * expected[:, 1:], rtol=1e-6, atol=1e-9
    )
    squares = (votes * colors.square().sum(-1)).sum()
    torch.testing.assert_close((cells - before)[:, 4].sum(), squares, rtol=1e-6, atol=0)
    narrow = before[:, :4].contiguous()
    add_to_histogram(narrow, points, weights)
    assert torch.equal(narrow, cells[:, :4])


def test_few_bytes_and_many_have_the_same_sums():
    points = (255 * images("noise", 40_000, 3)).to(torch.uint8)
    whole, parts = torch.zeros(2, 512, 5, dtype=torch.float64)
    add_to_histogram(whole, points)
    for part in points.split(700, dim=1):
        add_to_histogram(parts, part)
    assert torch.equal(whole, parts)


def test_cells_at_their_edges(backend):
    points = torch.tensor([[[0.0, 0.25, 0.5], [1.0, 0.75, 0.2499]]])
    cells = histogram(points, 2)[:, 0].nonzero().flatten().tolist()
    assert cells == [0 * 16 + 1 * 4 + 2, 3 * 16 + 3 * 4 + 0]


def test_points_that_are_not_finite_do_not_count(backend):
    points = images("noise", 100, 3).clone()
    points[0, :3, 0] = torch.tensor([float("nan"), float("inf"), float("-inf")])
    assert histogram(points, 3)[:, 0].sum() == 97
    torch.testing.assert_close(histogram(points, 3), histogram(points[:, 3:], 3))


@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3)])
def test_no_points(shape, backend):
    assert torch.equal(histogram(torch.zeros(shape), 2), torch.zeros(64, 4, dtype=torch.float64))


def test_strides_do_not_matter(backend):
    first = torch.rand(2, 3, 20, 31).flatten(2).transpose(1, 2)
    assert torch.equal(histogram(first, 4), histogram(first.contiguous(), 4))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
@pytest.mark.parametrize("weighted", [False, True])
def test_distinct_colors_are_listed_with_their_weights(dtype, weighted):
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 6, (3, 900, 3), generator=generator, dtype=torch.uint8) * 51
    points = levels if dtype == torch.uint8 else levels.to(dtype) / 255
    weights = torch.randint(0, 3, (900, 3), generator=generator).float().T if weighted else None
    found = distinct_colors(points.transpose(0, 1).contiguous().transpose(0, 1), weights)
    votes = torch.ones(3, 900) if weights is None else weights
    seen = levels[votes > 0].to(torch.float32) / 255
    expected, places = seen.unique(dim=0, return_inverse=True)
    counts = torch.zeros(len(expected)).index_add_(0, places, votes[votes > 0])
    order = {tuple(color): count for color, count in zip(expected.tolist(), counts, strict=True)}
    exact = (found.colors * 255).round() / 255
    torch.testing.assert_close(found.colors, exact, atol=2e-4, rtol=0)
    assert {tuple(c): w for c, w in zip(exact.tolist(), found.weights, strict=True)} == order
    bytes_ = (found.colors * 255).round().to(torch.int64)
    codes = sum(spread_bits(3)[channel][bytes_[:, channel]] for channel in range(3))
    assert torch.equal(found.codes, codes)
    assert (found.codes.diff() > 0).all()


def test_floats_that_round_to_one_code_are_averaged_and_equal_ones_stay_exact():
    points = torch.tensor([[[0.2001, 0.5, 0.7], [0.2003, 0.5, 0.7], [0.31, 0.1, 0.9]]])
    found = distinct_colors(points, torch.tensor([[1.0, 3.0, 1.0]]))
    assert sorted(found.weights.tolist()) == [1.0, 4.0]
    heavy = found.colors[found.weights == 4][0]
    torch.testing.assert_close(heavy, torch.tensor([0.20025, 0.5, 0.7]))
    assert torch.equal(found.colors[found.weights == 1], points[0, 2:])


def test_no_pixels_have_no_colors():
    assert [len(part) for part in distinct_colors(torch.zeros(0, 5, 3))] == [0, 0, 0]
