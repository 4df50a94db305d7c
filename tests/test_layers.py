"""`ColorQuantize`: what it returns, and what it refuses."""

from functools import partial

import pytest
import torch
from torch import nn

from colorquant_nn import ColorQuantize
from colorquant_nn.functional import gradients
from colorquant_nn.functional.color import color_space
from tests.helpers import FEW, SPACES, batch
from tests.oracles import assert_nearest

pytestmark = pytest.mark.usefixtures("on_device")


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_values_are_palette_colours_bit_for_bit(space: str, dtype: torch.dtype) -> None:
    layer = ColorQuantize(16, space=space, warm_up=FEW)
    for step in range(FEW + 2):
        x = batch(step, dtype=dtype).requires_grad_()
        result = layer.quantize(x)
        assert result.palette.dtype == torch.float32
        expected = result.palette[result.indices].movedim(-1, 1).to(dtype)
        assert result.values.dtype == dtype
        assert torch.equal(result.values, expected), step
        (gradient,) = torch.autograd.grad(result.values.sum(), x)
        assert torch.equal(gradient, torch.ones_like(x))
    layer.eval()
    result = layer.quantize(x)
    assert torch.equal(result.values, result.palette[result.indices].movedim(-1, 1).to(dtype))
    assert torch.equal(layer(x), result.values)


@pytest.mark.parametrize("num_colors", [2, 3, 16, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_encode_is_brute_force_in_float64(
    num_colors: int, dtype: torch.dtype, autocast: bool
) -> None:
    palette = batch(7, num_colors, 3)
    layer = ColorQuantize.from_palette(palette)
    x = batch(8, 2, 3, 64, 64, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        indices = layer.encode(x)
    found = indices.flatten(1).cpu()
    assert_nearest(x.flatten(2).mT.cpu(), palette[None].cpu(), found)


def test_ties_go_to_the_lowest_index() -> None:
    layer = ColorQuantize.from_palette(torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]]))
    x = torch.tensor([0.5, 0.0, 0.0]).reshape(3, 1, 1)
    assert layer.encode(x).item() == 0
    assert layer.encode(0 * x).item() == 1


def test_encode_and_decode_invert_each_other() -> None:
    layer = ColorQuantize.from_palette(batch(1, 8, 3), space="oklab")
    indices = (8 * batch(5, 2, 5, 6)).long()
    images = layer.decode(indices)
    assert images.shape == (2, 3, 5, 6)
    assert torch.equal(layer.encode(images), indices)
    assert torch.equal(layer.encode(images[0]), indices[0])
    assert torch.equal(layer.decode(indices[0]), images[0])
    for wrong in (indices + 100, indices - 100):
        with pytest.raises(IndexError, match="indices from 0 to 7, got from"):
            layer.decode(wrong)
    assert torch.equal(layer.decode(indices.to(torch.uint8)), images)
    with pytest.raises(ValueError, match=r"\(B, H, W\) or \(H, W\), got \(3,\)"):
        layer.decode(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(TypeError, match="whole numbers, got torch"):
        layer.decode(indices.float())


def test_mse_is_torchs_and_its_gradient_holds_the_palette() -> None:
    for space in SPACES:
        layer = ColorQuantize(8, space=space)
        x = batch(0).requires_grad_()
        result = layer.quantize(x)
        expected = nn.functional.mse_loss(x, result.values.detach())
        torch.testing.assert_close(result.mse, expected)
        (ours,) = torch.autograd.grad(result.mse, x)
        (theirs,) = torch.autograd.grad(expected, x)
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (gradients.straight_through, True),
        (gradients.soft, True),
        (partial(gradients.soft, temperature=0.1), True),
        (gradients.cut, False),
        (gradients.through_palette, False),
    ],
)
def test_estimators_fit_in(estimator, expected: bool) -> None:
    layer = ColorQuantize(8, estimator=estimator)
    x = batch(0).requires_grad_()
    values = layer(x)
    assert values.requires_grad == expected
    if expected:
        values.square().sum().backward()
        assert x.grad.isfinite().all()
        assert x.grad.abs().sum() > 0


def test_inside_sequential_it_trains() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 3, 1), ColorQuantize(8, warm_up=FEW), nn.Flatten(), nn.Linear(3 * 8 * 8, 2)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    x, target = batch(0, 16, 3, 8, 8), torch.arange(16) % 2
    first = next(iter(model.parameters())).clone()
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert not torch.equal(first, next(iter(model.parameters())))


def test_from_palette_is_fixed_and_counts_as_seeded() -> None:
    palette = batch(0, 5, 3)
    layer = ColorQuantize.from_palette(palette)
    assert layer.seeded
    assert layer.frozen
    layer(batch(1))
    assert torch.equal(layer.palette, palette)
    assert "frozen" in repr(layer)
    learning = ColorQuantize.from_palette(palette, frozen=False)
    learning(batch(1))
    assert not torch.equal(learning.palette, palette)
    in_lab = ColorQuantize.from_palette(palette, space="lab")
    torch.testing.assert_close(in_lab.centroids, color_space("lab").from_rgb(palette))
    torch.testing.assert_close(in_lab.palette, palette, rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 4, 4, 4), (4, 4, 3), (3, 4), (1, 2, 3, 4, 4)])
def test_wrong_shapes_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\).*got \(" + ", ".join(map(str, shape))):
        ColorQuantize(4)(torch.rand(shape))


def test_wrong_types_are_named() -> None:
    with pytest.raises(TypeError, match=r"floating point.*got torch.uint8.*255"):
        ColorQuantize(4)(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(TypeError, match=r"expected a tensor.*got list"):
        ColorQuantize(4)([1, 2, 3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_colors": 0}, "num_colors of at least 1, got 0"),
        ({"num_colors": 4, "space": "hsv"}, "hsv"),
        ({"num_colors": 4, "decay": 1.5}, "decay must be from 0 to 1, got 1.5"),
        ({"num_colors": 4, "decay": float("nan")}, "decay"),
        ({"num_colors": 4, "dead_below": -1.0}, "dead_below must be at least 0, got -1"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ColorQuantize(**arguments)


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        (torch.rand(4), r"\(K, 3\), got \(4,\)"),
        (torch.rand(0, 3), r"\(K, 3\), got \(0, 3\)"),
        (255 * torch.rand(4, 3), r"in \[0, 1\], got from"),
        (torch.full((4, 3), torch.nan), r"in \[0, 1\]"),
    ],
)
def test_wrong_palettes_are_named(palette: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ColorQuantize.from_palette(palette)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 1, 1), (2, 3, 5, 1)])
def test_odd_shapes_and_layouts(shape: tuple[int, ...]) -> None:
    layer = ColorQuantize.from_palette(batch(0, 4, 3))
    x = batch(1, *shape)
    assert layer(x).shape == x.shape
    assert layer.encode(x).shape == shape[:-3] + shape[-2:]


def test_any_layout_gives_the_same() -> None:
    x = batch(1, 4, 3, 6, 10)
    layouts = [
        x.to(memory_format=torch.channels_last),
        x.flip(-1).flip(-1),
        x.transpose(2, 3).contiguous().transpose(2, 3),
        torch.cat([x, x], dim=3)[..., :10],
    ]
    reference = ColorQuantize(6)
    expected = reference(x)
    for layout in layouts:
        layer = ColorQuantize(6)
        assert torch.equal(layer(layout), expected)
        torch.testing.assert_close(layer.centroids, reference.centroids, rtol=0, atol=1e-6)
    expanded = torch.full((1, 3, 1, 1), 0.3).expand(4, 3, 6, 6)
    assert ColorQuantize(2)(expanded).shape == expanded.shape


def test_half_models_keep_float32_state() -> None:
    for cast in (nn.Module.half, nn.Module.bfloat16, nn.Module.double):
        layer = ColorQuantize(4)
        model = cast(nn.Sequential(nn.Conv2d(3, 3, 1), layer))
        assert layer.centroids.dtype == layer.counts.dtype == torch.float32
        assert model[0].weight.dtype != torch.float32
