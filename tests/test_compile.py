"""torch.compile: one graph for every batch size, the same results, the warm-up included."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from colorquant_nn import (
    ColorQuantize,
    DeferredColorQuantize,
    LearnedPalette,
    PerImageColorQuantize,
)
from colorquant_nn.functional import gradients
from tests.helpers import SPACES, batch

pytestmark = pytest.mark.usefixtures("on_device")

SIZES = (2, 3, 5, 2, 4, 7, 2)
ESTIMATORS = [
    gradients.straight_through,
    gradients.soft,
    gradients.cut,
    gradients.through_palette,
]
QUICK = [("rgb", gradients.soft), ("oklab", gradients.straight_through)]
SLOW = pytest.mark.slow
COMBINATIONS = [
    pytest.param(space, estimator, marks=[] if (space, estimator) in QUICK[:1] else SLOW)
    for space in SPACES
    for estimator in ESTIMATORS
]
MODES = [
    pytest.param(
        *(space, estimator, training),
        marks=[] if (space, estimator) in QUICK and training else SLOW,
    )
    for space in SPACES
    for estimator in ESTIMATORS
    for training in (True, False)
]


def check(make: Callable[[], nn.Module], training: bool) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled, eager = make().train(training), make().train(training)
    # The backend changes nothing of what is tested here, and inductor takes minutes for it.
    run = torch.compile(compiled.quantize, fullgraph=True, backend="aot_eager")
    for step, size in enumerate(SIZES):
        x = batch(step, size, 3, 8, 8).requires_grad_()
        ours, expected = run(x), eager.quantize(x)
        assert torch.equal(ours.indices, expected.indices)
        torch.testing.assert_close(ours.values, expected.values, rtol=0, atol=2e-6)
        torch.testing.assert_close(ours.mse, expected.mse)
        gradients, references = (
            torch.autograd.grad(
                result.values.square().sum() + result.mse,
                [x, *layer.parameters()],
                allow_unused=True,
                materialize_grads=True,
            )
            for result, layer in ((ours, compiled), (expected, eager))
        )
        for gradient, reference in zip(gradients, references, strict=True):
            torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-5)
        if step == 1:
            settled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    # The second size makes it dynamic; from then on, nothing is compiled again.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == settled <= 2
    for mine, theirs in zip(compiled.buffers(), eager.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("space", "estimator", "training"), MODES)
def test_layer(space: str, estimator: object, training: bool) -> None:
    check(partial(ColorQuantize, 8, space=space, estimator=estimator, warm_up=3), training)


@pytest.mark.parametrize(("space", "estimator"), COMBINATIONS)
def test_layer_per_image(space: str, estimator: object) -> None:
    check(partial(PerImageColorQuantize, 4, space=space, estimator=estimator), True)


@pytest.mark.parametrize(("space", "estimator"), COMBINATIONS)
@pytest.mark.parametrize("training", [True, pytest.param(False, marks=SLOW)])
def test_layer_learned(space: str, estimator: object, training: bool) -> None:
    check(partial(LearnedPalette, 8, space=space, estimator=estimator), training)


@SLOW
def test_deferred() -> None:
    check(partial(DeferredColorQuantize, 8, warm_up=3), True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
@pytest.mark.parametrize("make", [partial(ColorQuantize, warm_up=3), LearnedPalette])
def test_inside_a_model_under_inductor(make) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), make(8), nn.Conv2d(3, 4, 3))
    run = torch.compile(model, fullgraph=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(30):
        loss = run(batch(step, 2 + step % 3, 3, 16, 16)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
