"""DitheredColorQuantize: the dots of the dithers, with the palette of any layer."""

import copy

import pytest
import torch
from torch import Tensor, nn

from colorquant_nn import (
    ColorQuantize,
    DeferredColorQuantize,
    DitheredColorQuantize,
    LearnedPalette,
    PerImageColorQuantize,
    apply_palette,
)
from colorquant_nn.functional.dither import DITHERS
from colorquant_nn.layers.quantizer import Quantizer
from tests.helpers import batch, random

pytestmark = pytest.mark.usefixtures("on_device")

LAYERS = [ColorQuantize, DeferredColorQuantize, LearnedPalette, PerImageColorQuantize]
BLACK_AND_WHITE = torch.tensor([[0.0] * 3, [1.0] * 3])


def dots(images: Tensor, palette: Tensor, dither: str, space: str = "rgb") -> Tensor:
    """The indices (B, H, W) of pictures that are drawn one by one, each in its palette."""
    palettes = palette if palette.dim() == 3 else palette.expand(len(images), -1, -1)
    pairs = zip(images.detach().clamp(0, 1), palettes, strict=True)
    return torch.stack([apply_palette(x, p, space=space, dither=dither).indices for x, p in pairs])


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("dither", DITHERS)
def test_it_draws_what_apply_palette_draws_with_the_palette_of_the_layer(dither, cls) -> None:
    layer = DitheredColorQuantize(cls(5, space="oklab"), dither)
    x = batch(0) * 1.2 - 0.1
    result = layer.quantize(x)
    assert torch.equal(result.indices, dots(x, result.palette, dither, "oklab"))
    of_each = result.palette.dim() == 3
    colors = result.palette if of_each else result.palette.expand(len(x), -1, -1)
    painted = torch.stack([c[i] for c, i in zip(colors, result.indices, strict=True)])
    assert torch.equal(result.values, painted.movedim(-1, 1))
    error = (result.values - x.clamp(0, 1)).square().mean()
    torch.testing.assert_close(result.mse, error)


@pytest.mark.parametrize("cls", LAYERS)
def test_the_layer_within_learns_as_it_does_alone(cls) -> None:
    alone = cls(5)
    layer = DitheredColorQuantize(copy.deepcopy(alone))
    weights = random(4, 16, 16).to(torch.get_default_device())
    for seed in range(4):
        drawn, quantized = (x.quantize(batch(seed), weights) for x in (layer, alone))
        torch.testing.assert_close(drawn.commitment, quantized.commitment)
        if isinstance(alone, DeferredColorQuantize):
            layer.quantizer.commit()
            alone.commit()
    for ours, theirs in zip(layer.state_dict().values(), alone.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert list(layer.state_dict()) == [f"quantizer.{name}" for name in alone.state_dict()]
    evaluated = layer.eval().state_dict()
    before = copy.deepcopy(evaluated)
    layer(batch(9))
    assert all(torch.equal(before[name], x) for name, x in evaluated.items())


def test_without_a_dither_it_is_the_layer() -> None:
    for dither, strength in (("none", 1.0), ("floyd-steinberg", 0.0)):
        alone = ColorQuantize(5).eval().set_palette(random(5, 3))
        drawn = DitheredColorQuantize(alone, dither, strength).quantize(batch(0))
        for ours, theirs in zip(drawn, alone.quantize(batch(0)), strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("value_range", [(0, 1), (-1, 1)])
def test_the_gradient_is_one_at_each_pixel_and_a_count_at_each_colour(value_range, cls) -> None:
    layer = DitheredColorQuantize(cls(5, value_range=value_range))
    x = batch(0).mul(value_range[1] - value_range[0]).add(value_range[0]).requires_grad_()
    result = layer.quantize(x)
    result.values.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))
    if cls is LearnedPalette:
        counts = result.indices.flatten().bincount(minlength=5).float()
        expected = (counts * (value_range[1] - value_range[0]))[:, None].expand(-1, 3)
        torch.testing.assert_close(layer.quantizer.colors.grad, expected)


def test_commitment_pulls_the_input_to_its_nearest_colours_not_to_its_dots() -> None:
    layer = DitheredColorQuantize(BLACK_AND_WHITE.to(torch.get_default_device()))
    x = torch.full((1, 3, 8, 8), 0.4, requires_grad=True)
    result = layer.quantize(x)
    assert len(result.indices.unique()) == 2
    torch.testing.assert_close(result.commitment.detach(), torch.tensor(0.4**2))
    result.commitment.backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 2 * 0.4 / x.numel()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_values_have_the_dtype_and_the_range_of_the_input(dtype) -> None:
    palette = random(5, 3).to(torch.get_default_device())
    layer = DitheredColorQuantize(ColorQuantize.from_palette(palette, value_range=(-1, 1)))
    x = batch(0, dtype=dtype)
    result = layer.quantize(x * 2 - 1)
    assert result.values.dtype == dtype
    expected = (palette[result.indices].movedim(-1, 1).to(dtype) * 2 - 1).to(dtype)
    torch.testing.assert_close(result.values, expected, rtol=0, atol=1e-2)
    if dtype == torch.float64:
        assert (result.indices == dots(x, palette, "floyd-steinberg")).double().mean() > 0.99


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 3, 1, 1), (0, 3, 4, 4), (2, 3, 0, 4)])
def test_odd_shapes(shape, cls) -> None:
    layer = DitheredColorQuantize(cls(4))
    x = random(*shape).to(torch.get_default_device())
    result = layer.quantize(x)
    assert result.values.shape == x.shape
    assert result.indices.shape == x.shape[:-3] + x.shape[-2:]
    assert result.palette.shape[-2:] == (4, 3)


def test_what_is_not_finite_is_drawn_and_not_passed_on() -> None:
    layer = DitheredColorQuantize(BLACK_AND_WHITE.to(torch.get_default_device()))
    x = torch.zeros(1, 3, 4, 4)
    x[0, :, 0, 0], x[0, 0, 1, 1] = float("nan"), -float("inf")
    assert torch.equal(layer(x), torch.zeros_like(x))


def test_threads_change_nothing_nor_does_inference_mode() -> None:
    layer = DitheredColorQuantize(ColorQuantize(6)).eval()
    layer.quantizer.set_palette(random(6, 3))
    before, x = torch.get_num_threads(), batch(0, 5, 3, 12, 20)
    found = []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            found.append(layer(x))
            with torch.inference_mode():
                found.append(layer(x * 1.0))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found)


@pytest.mark.parametrize(
    "cls", [LearnedPalette, *(pytest.param(x, marks=pytest.mark.slow) for x in LAYERS[::3])]
)
def test_it_compiles_to_one_graph(cls) -> None:
    torch._dynamo.reset()
    compiled, eager = (DitheredColorQuantize(cls(4), "atkinson") for _ in range(2))
    run = torch.compile(compiled.quantize, fullgraph=True, backend="eager")
    for seed in range(2):
        x = batch(seed).requires_grad_()
        ours, theirs = run(x), eager.quantize(x)
        assert torch.equal(ours.indices, theirs.indices)
        torch.testing.assert_close(ours.values, theirs.values, rtol=0, atol=2e-6)
        (gradient,) = torch.autograd.grad(ours.values.sum(), x)
        torch.testing.assert_close(gradient, torch.ones_like(x))


def test_it_is_a_leaf_of_torch_fx_and_no_graph_to_export() -> None:
    model = nn.Sequential(
        nn.Identity(), DitheredColorQuantize(BLACK_AND_WHITE.to(torch.get_default_device()))
    ).eval()
    traced = torch.fx.symbolic_trace(model)
    assert torch.equal(traced(batch(0)), model(batch(0)))
    assert "1" in {node.target for node in traced.graph.nodes if node.op == "call_module"}
    with pytest.raises(RuntimeError, match=r"export the quantizer alone, layer\.quantizer"):
        torch.export.export(model, (batch(0),))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of torch.jit
def test_torch_jit_is_told_of_export() -> None:
    with pytest.raises(RuntimeError, match=r"torch.export.export\(model"):
        torch.jit.trace(DitheredColorQuantize(ColorQuantize(4)).eval(), batch(0))
    with pytest.raises(RuntimeError, match=r"export with torch\.export"):
        torch.jit.script(DitheredColorQuantize(ColorQuantize(4)))


def test_bad_arguments_are_told_what_there_is() -> None:
    with pytest.raises(TypeError, match=r"expected a ColorQuantize, .* or a palette, got Dithered"):
        DitheredColorQuantize(DitheredColorQuantize(ColorQuantize(4)))
    with pytest.raises(TypeError, match="got int"):
        DitheredColorQuantize(4)
    with pytest.raises(ValueError, match=r"expected a palette \(K, 3\)"):
        DitheredColorQuantize(torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"expected a dither of none, .*, got 'dots'"):
        DitheredColorQuantize(ColorQuantize(4), "dots")
    with pytest.raises(ValueError, match="strength"):
        DitheredColorQuantize(ColorQuantize(4), strength=2.0)
    layer = DitheredColorQuantize(ColorQuantize(4))
    with pytest.raises(TypeError, match="floating point"):
        layer(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="got 'both'"):
        layer(batch(0), returns="both")


def test_it_shows_what_it_is() -> None:
    layer = DitheredColorQuantize(ColorQuantize(4), "ordered", 0.5)
    assert repr(layer).splitlines()[1].strip() == "dither='ordered', strength=0.5"
    assert "(quantizer): ColorQuantize(4, space='rgb')" in repr(layer)
    assert isinstance(layer.quantizer, Quantizer)


def test_a_picture_behind_two_colours_learns_to_be_seen_from_afar() -> None:
    """The loss is of the blur, which each pixel alone, black or white, cannot please."""
    target = torch.linspace(0.1, 0.9, 32).expand(1, 3, 32, 32)
    layer = DitheredColorQuantize(BLACK_AND_WHITE.to(torch.get_default_device()))
    shown = torch.full_like(target, 0.5).requires_grad_()
    optimizer = torch.optim.Adam([shown], lr=0.05)
    errors = []
    for _ in range(50):
        seen = (nn.functional.avg_pool2d(x, 8, 1) for x in (layer(shown), target))
        error = nn.functional.mse_loss(*seen)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert max(errors[-5:]) < 0.1 * errors[0]
