"""Deferred learning, against learning at once from the same pixels."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from colorquant_nn import ColorQuantize
from colorquant_nn.functional import online


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "WARM_UP_BATCHES", 3)


def batch(seed: int) -> torch.Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed)).pow(2)


@pytest.mark.parametrize("space", ["rgb", "oklab"])
def test_a_commit_learns_as_from_one_batch(space: str) -> None:
    at_once = ColorQuantize(8, space=space)
    deferred = ColorQuantize(8, space=space, deferred=True)
    for step in range(6):
        parts = [batch(10 * step + part) for part in range(3)]
        at_once(torch.cat(parts))
        before = deferred.palette
        for part in parts:
            assert torch.equal(deferred.quantize(part).palette, before)
        deferred.commit()
        torch.testing.assert_close(deferred.centroids, at_once.centroids, rtol=0, atol=1e-6)
        torch.testing.assert_close(deferred.counts, at_once.counts)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_observes_once_and_has_the_right_gradient(
    reentrant: bool,
) -> None:
    plain, repeated = ColorQuantize(8, deferred=True), ColorQuantize(8, deferred=True)
    for step in range(5):
        x = batch(step).requires_grad_()
        (expected,) = torch.autograd.grad(_loss(plain, x), x)
        y = batch(step).requires_grad_()
        checkpoint(lambda y: _loss(repeated, y), y, use_reentrant=reentrant).backward()
        assert torch.equal(y.grad, expected)
        plain.commit()
        repeated.commit()
        assert torch.equal(plain.centroids, repeated.centroids)
        assert torch.equal(plain.counts, repeated.counts)


def _loss(layer: ColorQuantize, x: torch.Tensor) -> torch.Tensor:
    result = layer.quantize(x)
    return (result.values * torch.linspace(0, 1, 16)).sum() + 100 * result.mse


def test_learning_at_once_refuses_activation_checkpointing() -> None:
    layer = ColorQuantize(8)
    for step in range(5):
        x = batch(step).requires_grad_()
        loss = checkpoint(lambda y: layer(y).square().sum(), x, use_reentrant=False)
        with pytest.raises(RuntimeError, match="deferred=True"):
            loss.backward()


def test_commit_is_for_deferred_layers() -> None:
    with pytest.raises(RuntimeError, match="deferred=True"):
        ColorQuantize(8).commit()


def test_a_frozen_layer_commits_nothing() -> None:
    layer = ColorQuantize(8, deferred=True, frozen=True)
    before = layer.palette
    layer(batch(0))
    layer.commit()
    assert torch.equal(layer.palette, before)


def test_what_was_observed_about_another_palette_is_forgotten() -> None:
    layer = ColorQuantize(2, deferred=True)
    for step in range(4):
        layer(0.2 * batch(step))
        layer.commit()
    layer(0.2 * batch(9) + 0.8)
    state = layer.state_dict()
    for renew in (lambda: layer.fit(0.2 * batch(10)), lambda: layer.load_state_dict(state)):
        layer(0.2 * batch(9) + 0.8)
        renew()
        before = layer.palette
        layer.commit()
        assert torch.equal(layer.palette, before)
