"""Deferred learning, against learning at once from the same pixels."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from colorquant_nn import ColorQuantize, DeferredColorQuantize, kernels
from colorquant_nn.functional import online
from tests.helpers import batch

pytestmark = pytest.mark.usefixtures("on_device")


@pytest.mark.parametrize("space", ["rgb", "oklab"])
def test_a_commit_learns_as_from_one_batch(space: str) -> None:
    palette = batch(99, 8, 3)
    at_once = ColorQuantize.from_palette(palette, space=space, frozen=False)
    deferred = DeferredColorQuantize.from_palette(palette, space=space, frozen=False)
    for step in range(4):
        parts = [batch(10 * step + part) for part in range(3)]
        at_once(torch.cat(parts))
        before = deferred.palette
        for part in parts:
            assert torch.equal(deferred.quantize(part).palette, before)
        deferred.commit()
        torch.testing.assert_close(deferred.centroids, at_once.centroids, rtol=0, atol=1e-6)
        torch.testing.assert_close(deferred.counts, at_once.counts)


@pytest.mark.parametrize("space", ["rgb", "oklab"])
def test_a_commit_of_the_warm_up_fits_as_well_as_one_batch(space: str) -> None:
    # Not the same bits: it fits to the memory, whose colours are in half precision.
    at_once = ColorQuantize(8, space=space, warm_up=3)
    deferred = DeferredColorQuantize(8, space=space, warm_up=3)
    for step in range(3):
        parts = [batch(10 * step + part) for part in range(3)]
        at_once(torch.cat(parts))
        for part in parts:
            deferred(part)
        deferred.commit()
    x = torch.cat([batch(10 * step + part) for step in range(3) for part in range(3)])
    errors = [layer.eval().quantize(x).mse for layer in (at_once, deferred)]
    assert errors[1] < 1.03 * errors[0]
    torch.testing.assert_close(deferred.counts.sum(), at_once.counts.sum(), rtol=1e-5, atol=0)


def test_the_memory_loses_no_pixel_and_little_of_their_colours() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(30_000, 3, generator=generator) ** 2
    cells = kernels.histogram(points[None], online.HISTOGRAM_BITS)[online.octree_order()]
    summary = online.summarize(cells, 500)
    assert summary.shape == (500, 4)
    torch.testing.assert_close(summary.sum(0), cells.sum(0))
    used = summary[summary[:, 0] > 0]
    assert len(used) > 450
    # The error of as many cells of equal size, 8 a side, is that of a uniform density in each.
    error = torch.cdist(points.double(), used[:, 1:] / used[:, :1]).amin(1).square().mean()
    assert error < 3 * (1 / 8) ** 2 / 12
    unpacked = online.unpack(online.pack(summary).half())
    torch.testing.assert_close(unpacked.double(), summary, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_observes_once_and_has_the_right_gradient(
    reentrant: bool,
) -> None:
    plain, repeated = (DeferredColorQuantize(8, warm_up=3) for _ in range(2))
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
    layer = ColorQuantize(8, warm_up=3)
    for step in range(5):
        x = batch(step).requires_grad_()
        loss = checkpoint(lambda y: layer(y).square().sum(), x, use_reentrant=False)
        with pytest.raises(RuntimeError, match="DeferredColorQuantize"):
            loss.backward()


def test_the_old_spelling_of_deferred_learning_is_deprecated() -> None:
    with pytest.warns(DeprecationWarning, match="now DeferredColorQuantize"):
        layer = ColorQuantize(8, deferred=True, space="oklab", warm_up=3)
    assert type(layer) is DeferredColorQuantize
    layer(batch(0))
    assert not layer.seeded
    layer.commit()
    assert layer.seeded


def test_a_frozen_layer_commits_nothing() -> None:
    layer = DeferredColorQuantize(8, warm_up=3)
    layer(batch(0))
    before = layer.palette
    layer.frozen = True
    layer.commit()
    assert torch.equal(layer.palette, before)
    assert not layer.seeded
    layer.frozen = False
    layer.commit()
    assert layer.seeded


def test_what_was_observed_about_another_palette_is_forgotten() -> None:
    layer = DeferredColorQuantize(2, warm_up=3)
    for step in range(4):
        layer(0.2 * batch(step))
        layer.commit()
    layer(0.2 * batch(9) + 0.8)
    layer.fit(0.2 * batch(10))
    before = layer.palette
    layer.commit()
    assert torch.equal(layer.palette, before)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_state_saved_between_forward_and_commit_has_what_waits(steps: int) -> None:
    layer, loaded = DeferredColorQuantize(4, warm_up=3), DeferredColorQuantize(4, warm_up=3)
    for step in range(steps):
        layer(batch(step))
        layer.commit()
    layer(batch(9))
    loaded.load_state_dict(layer.state_dict())
    layer.commit()
    loaded.commit()
    assert torch.equal(loaded.centroids, layer.centroids)


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_commit_of_nothing_changes_nothing(steps: int) -> None:
    layer = DeferredColorQuantize(4, warm_up=3)
    for step in range(steps):
        layer(batch(step))
        layer.commit()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.commit()
    layer(torch.full((1, 3, 4, 4), torch.nan))
    layer.commit()
    layer(batch(9))
    layer.eval().commit()
    for name in ("centroids", "counts", "batches"):
        assert torch.equal(layer.state_dict()[name], before[name]), name
    layer.train().commit()
    assert layer.batches == steps + 1
