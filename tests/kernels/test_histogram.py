"""`histogram` on the CPU against numpy and against its own promise of exact sums."""

import numpy as np
import pytest
import torch

from colorquant_nn.kernels import histogram, reference
from tests.kernels.oracle import clean, images


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
def test_moments_of_cells(bits, dtype, weighted):
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
    again = reference.histogram(points, bits, weights)
    torch.testing.assert_close(found, again, rtol=1e-6, atol=1e-9)


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


def test_sums_of_bytes_are_exact():
    points = torch.full((1, 1000, 3), 51, dtype=torch.uint8)  # 51 / 255 = 0.2
    found = histogram(points, 5)
    assert found[found[:, 0] > 0].tolist() == [[1000.0, 200.0, 200.0, 200.0]]


def test_cells_at_their_edges():
    points = torch.tensor([[[0.0, 0.25, 0.5], [1.0, 0.75, 0.2499]]])
    cells = histogram(points, 2)[:, 0].nonzero().flatten().tolist()
    assert cells == [0 * 16 + 1 * 4 + 2, 3 * 16 + 3 * 4 + 0]


def test_points_that_are_not_finite_do_not_count():
    points = images("noise", 100, 3).clone()
    points[0, :3, 0] = torch.tensor([float("nan"), float("inf"), float("-inf")])
    assert histogram(points, 3)[:, 0].sum() == 97
    torch.testing.assert_close(histogram(points, 3), histogram(points[:, 3:], 3))


@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3)])
def test_no_points(shape):
    assert torch.equal(histogram(torch.zeros(shape), 2), torch.zeros(64, 4, dtype=torch.float64))


def test_strides_do_not_matter():
    first = torch.rand(2, 3, 20, 31).flatten(2).transpose(1, 2)
    assert torch.equal(histogram(first, 4), histogram(first.contiguous(), 4))
