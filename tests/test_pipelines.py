"""What people do to models, done to a model that holds the layer.

Compilation, export, devices, checkpoints and odd shapes have files of their own.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from colorquant_nn import ColorQuantize, DeferredColorQuantize, PerImageColorQuantize
from colorquant_nn.functional import gradients
from colorquant_nn.functional.gradients import Estimator
from tests.helpers import FEW, assert_same, assert_same_state, batch, state_of

pytestmark = pytest.mark.usefixtures("on_device")

HALVES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("space", ["rgb", "lab", "oklab"])
def test_autocast_changes_nothing(space: str, dtype: torch.dtype) -> None:
    plain, cast = (ColorQuantize(8, space=space, warm_up=FEW) for _ in range(2))
    for step in range(FEW + 2):
        x = batch(step, 2, 3, 8, 8).to(dtype)
        expected = plain.quantize(x)
        with torch.autocast("cpu", dtype):
            result = cast.quantize(x)
        assert_same(result, expected)
        assert_same_state(cast, state_of(plain))
    per_image = PerImageColorQuantize(8, space=space)
    expected = per_image.quantize(x)
    with torch.autocast("cpu", dtype):
        fitted = ColorQuantize(8, space=space).fit(x)
        result = per_image.quantize(x)
    assert_same_state(fitted, state_of(ColorQuantize(8, space=space).fit(x)))
    assert_same(result, expected)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("space", ["rgb", "oklab"])
def test_half_images_get_the_indices_of_the_same_colours_in_float32(
    space: str, dtype: torch.dtype
) -> None:
    layers = [ColorQuantize(64, space=space, warm_up=FEW) for _ in range(2)]
    per_image = PerImageColorQuantize(8, space=space)
    for step in range(FEW + 2):
        x = batch(step, 2, 3, 16, 16).to(dtype)
        results = layers[0].quantize(x), layers[1].quantize(x.float())
        assert torch.equal(results[0].indices, results[1].indices)
        assert_same_state(layers[0], state_of(layers[1]))
        assert torch.equal(per_image.quantize(x).indices, per_image.quantize(x.float()).indices)


@pytest.mark.parametrize("dtype", HALVES)
def test_training_under_autocast(dtype: torch.dtype) -> None:
    losses = _train(_model(), lambda: torch.autocast("cpu", dtype))
    assert losses[-1] < 0.7 * losses[0]


def test_training_in_true_bfloat16() -> None:
    model = _model().bfloat16()
    losses = _train(model, lambda: torch.autocast("cpu", enabled=False), torch.bfloat16)
    assert losses[-1] < 0.7 * losses[0]
    assert model[2].centroids.dtype == model[2].counts.dtype == torch.float32
    assert model[2].palette.dtype == torch.float32


@pytest.mark.parametrize(
    "layer",
    [
        lambda: ColorQuantize(8, warm_up=FEW),
        lambda: ColorQuantize(8).fit(batch(9)).eval(),
        lambda: ColorQuantize(8, space="oklab", estimator=gradients.soft, warm_up=FEW),
        lambda: DeferredColorQuantize(8, warm_up=FEW),
        lambda: PerImageColorQuantize(8, space="lab"),
    ],
)
def test_functional_call_and_grad_are_autograd(layer: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 3, 1), layer())
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}

    def loss(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, (parameters, buffers), (x,)).square().mean()

    before = {name: value.clone() for name, value in model.named_buffers()}
    ours = torch.func.grad(loss)(parameters, batch(0))
    # The call learns into the buffers that it was given, and leaves the module's own alone.
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    torch.manual_seed(0)
    again = nn.Sequential(nn.Conv2d(3, 3, 1), layer())
    again(batch(0)).square().mean().backward()
    for name, value in again.named_parameters():
        torch.testing.assert_close(ours[name], value.grad)
    for name, value in again.named_buffers():
        torch.testing.assert_close(buffers[name], value)


@pytest.mark.parametrize("cls", [ColorQuantize, PerImageColorQuantize])
def test_threads_share_a_module_for_inference(cls: type[nn.Module]) -> None:
    layer = cls(16, space="rgb")
    layer = (layer.fit(batch(0)) if isinstance(layer, ColorQuantize) else layer).eval()
    images = [batch(seed, 1 + seed % 3, 3, 32, 16 + seed) for seed in range(24)]
    expected = [layer.quantize(image) for image in images]
    with torch.no_grad(), ThreadPoolExecutor(8) as pool:
        results = list(pool.map(layer.quantize, images))
    for ours, theirs in zip(results, expected, strict=True):
        assert torch.equal(ours.indices, theirs.indices)
        assert torch.equal(ours.values, theirs.values)


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("cls", [ColorQuantize, PerImageColorQuantize])
@pytest.mark.parametrize(
    "estimator", [gradients.straight_through, gradients.soft, gradients.through_palette]
)
def test_deterministic_algorithms(cls: type[nn.Module], estimator: Estimator) -> None:
    gradient = []
    for _ in range(2):
        layer = cls(8, space="oklab", estimator=estimator)
        for step in range(FEW + 2):
            x = batch(step).requires_grad_()
            result = layer.quantize(x)
            (result.values.square().sum() + result.mse).backward()
        gradient.append(x.grad)
    assert torch.equal(*gradient)


@pytest.mark.parametrize("cls", [ColorQuantize, PerImageColorQuantize])
@pytest.mark.parametrize("space", ["rgb", "oklab"])
def test_more_colours_than_pixels_and_expanded_views(cls: type[nn.Module], space: str) -> None:
    layer = cls(32, space=space)
    for shape in ((1, 3, 2, 2), (3, 1, 1), (2, 3, 1, 5)):
        x = batch(len(shape), *shape)
        for _ in range(FEW + 2):
            result = layer.quantize(x)
            assert result.palette.isfinite().all()
            assert result.indices.max() < 32
    view = batch(3, 1, 3, 1, 1).expand(4, 3, 6, 6).requires_grad_()
    result = layer.eval().quantize(view)
    assert torch.equal(result.values, layer(view.detach().contiguous()))
    (gradient,) = torch.autograd.grad(result.values.sum() + result.mse, view)
    assert gradient.isfinite().all()


def test_values_far_outside_are_the_nearest_face_of_the_cube() -> None:
    layer = ColorQuantize.from_palette(torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 0, 1]]))
    far = torch.tensor([[-1e30, -1e30, -3e38], [1e30, 3e38, 2.0], [1e5, -1e5, 0], [-7, -7, 1e20]])
    assert layer.encode(far.T.reshape(3, 2, 2)).flatten().tolist() == [0, 1, 2, 3]
    result = PerImageColorQuantize(4).quantize(far.T.reshape(3, 2, 2))
    assert torch.equal(result.values, far.clamp(0, 1).T.reshape(3, 2, 2))


@pytest.mark.parametrize("cls", [ColorQuantize, PerImageColorQuantize])
def test_channels_last_goes_through(cls: type[nn.Module]) -> None:
    x = batch(0, 2, 3, 8, 10)
    layers = cls(4), cls(4)
    values = layers[0](x)
    last = layers[1](x.to(memory_format=torch.channels_last))
    assert torch.equal(values, last)


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 3, 1),
        nn.Sigmoid(),
        ColorQuantize(8, warm_up=FEW),
        nn.Conv2d(3, 4, 3, padding=1),
    )


def _train(
    model: nn.Module,
    context: Callable[[], torch.autocast],
    dtype: torch.dtype = torch.float32,
) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    losses = []
    for step in range(15):
        with context():
            loss = (model(batch(step % 4, 4, 3, 8, 8).to(dtype)) - 0.5).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
