"""Estimators: values bit for bit, gradients against autograd and closed forms."""

from functools import partial

import pytest
import torch

from colorquant_nn.functional import gradients
from tests.helpers import random

TEMPERATURE = 0.05


def quantized(dtype: torch.dtype = torch.float64, batched: bool = False):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 30, 3, generator=generator, dtype=dtype)
    shape = (2, 5, 3) if batched else (5, 3)
    palette = torch.rand(shape, generator=generator, dtype=dtype)
    centers = palette if batched else palette[None]
    nearest = (x[:, :, None] - centers[:, None]).square().sum(-1).argmin(-1)
    hard = centers.expand(2, 5, 3).gather(1, nearest[..., None].expand(-1, -1, 3))
    return x.requires_grad_(), hard, palette


def test_values_are_hard_bit_for_bit() -> None:
    x, hard, palette = quantized(torch.float32)
    for estimator in (
        gradients.straight_through,
        gradients.cut,
        gradients.through_palette,
        gradients.straight_through_both,
        gradients.soft,
    ):
        assert torch.equal(estimator(x, hard, palette), hard)


def test_straight_through_gradient_is_exactly_ones() -> None:
    x, hard, palette = quantized()
    gradients.straight_through(x, hard, palette).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_cut_stops_the_gradient() -> None:
    x, hard, palette = quantized()
    assert not gradients.cut(x, hard.requires_grad_(), palette).requires_grad


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("chunk", [1 << 20, 35])
def test_soft_gradient_is_that_of_the_softmax(
    batched: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "CHUNK_ELEMENTS", chunk)
    x, hard, palette = quantized(batched=batched)
    palette.requires_grad_()
    upstream = random(*hard.shape, seed=1).double()
    out = gradients.soft(x, hard, palette, temperature=TEMPERATURE)
    ours = torch.autograd.grad(out, (x, palette), upstream)

    centers = palette if batched else palette[None]
    distances = (x[:, :, None] - centers[:, None]).square().sum(-1)
    probability = torch.softmax(-distances / TEMPERATURE, -1)
    mixed = (probability[..., None] * centers[:, None]).sum(2)
    expected = torch.autograd.grad(mixed, (x, palette), upstream)
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_soft_keeps_the_palette_of_its_forward() -> None:
    x, hard, palette = quantized()
    (expected,) = torch.autograd.grad(gradients.soft(x, hard, palette).square().sum(), x)
    out = gradients.soft(x, hard, palette)
    palette.zero_()
    (after,) = torch.autograd.grad(out.square().sum(), x)
    assert torch.equal(after, expected)


def test_soft_refuses_a_cold_temperature() -> None:
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        gradients.soft(*quantized(), temperature=0)


def test_soft_outside_of_the_cube_and_not_finite_stays_finite() -> None:
    x = torch.tensor([[-3.0, torch.nan, torch.inf], [0.1, 0.2, 9.0]], requires_grad=True)
    palette = random(4, 3)
    gradients.soft(x, palette[:2], palette).sum().backward()
    assert x.grad.isfinite().all()


def test_through_palette_reaches_the_palette() -> None:
    palette = torch.rand(3, 3, requires_grad=True)
    out = gradients.through_palette(torch.rand(4, 3), palette[[0, 0, 2, 2]], palette)
    out.sum().backward()
    assert palette.grad[:, 0].tolist() == [2.0, 0.0, 2.0]


def test_palette_mse_is_the_mean_and_its_gradient() -> None:
    x, hard, _ = quantized()
    assert torch.autograd.gradcheck(partial(gradients.palette_mse, values=hard), (x,))
    loss = gradients.palette_mse(x, hard)
    torch.testing.assert_close(loss, torch.nn.functional.mse_loss(hard, x))
    known = gradients.palette_mse(x, hard, known=torch.tensor(7.0))
    assert known == 7
    (ours,) = torch.autograd.grad(known, x)
    (expected,) = torch.autograd.grad(torch.nn.functional.mse_loss(hard, x), x)
    torch.testing.assert_close(ours, expected)


def test_palette_mse_clamps_forward_and_passes_backward() -> None:
    x = torch.tensor([[2.0], [torch.nan]], requires_grad=True)
    loss = gradients.palette_mse(x, torch.tensor([[0.5], [0.5]]))
    loss.backward()
    assert loss == 0.25
    assert x.grad.flatten().tolist() == [1.0, 0.0]


def test_clamp_through_and_cluster_means() -> None:
    x = torch.tensor([-1.0, torch.nan, 0.5, torch.inf], requires_grad=True)
    y = gradients.clamp_through(x)
    y.backward(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert y.tolist() == [0.0, 0.0, 0.5, 1.0]
    assert x.grad.tolist() == [1.0, 2.0, 3.0, 4.0]

    points, indices = torch.rand(2, 6, 3).double().requires_grad_(), torch.tensor([0, 1] * 6)
    indices = indices.reshape(2, 6)
    one_hot = torch.nn.functional.one_hot(indices, 2).double()

    def means(points: torch.Tensor) -> torch.Tensor:
        centroids = one_hot.mT @ points.detach() / 3
        return gradients.cluster_means(points, indices, centroids, one_hot.sum(1), torch.ones(2, 6))

    weight = torch.rand(2, 2, 3).double()
    (ours,) = torch.autograd.grad((means(points) * weight).sum(), points)
    (expected,) = torch.autograd.grad((one_hot.mT @ points / 3 * weight).sum(), points)
    torch.testing.assert_close(ours, expected)


def test_rows_of_passes_the_gradient_to_the_rows() -> None:
    palette = torch.rand(2, 5, 3, dtype=torch.float64, requires_grad=True)
    indices = torch.randint(5, (2, 30))
    torch.autograd.gradcheck(gradients.rows_of, (palette, indices))
    torch.autograd.gradgradcheck(gradients.rows_of, (palette, indices))


def test_clamp_through_can_be_differentiated_twice_and_mapped() -> None:
    x = random(2, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(gradients.clamp_through, x)
    assert torch.autograd.gradgradcheck(gradients.clamp_through, x)
    each = torch.vmap(torch.func.grad(lambda x: gradients.clamp_through(x).square().sum()))
    assert torch.equal(each(x.detach()), 2 * x.detach())
