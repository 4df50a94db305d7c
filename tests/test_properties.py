"""Whatever comes in, the palette stays finite, indices in range, and values palette colours."""

import hypothesis
import pytest
import torch
from hypothesis import strategies as st

from colorquant_nn import (
    ColorQuantize,
    DeferredColorQuantize,
    LearnedPalette,
    PerImageColorQuantize,
    Quantized,
)
from colorquant_nn.functional import gradients
from colorquant_nn.functional.color import color_space
from tests.helpers import SPACES

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
ODD = [0.0, -0.0, 1.0, 0.5, 1e-40, -1e-40, 1e-7, 1 + 1e-6, -3.0, 255.0, 1e30, -3.4e38]
ODD += [float("nan"), float("inf"), float("-inf")]

settings = hypothesis.settings(max_examples=20, deadline=None, derandomize=True, database=None)


@st.composite
def images(draw: st.DrawFn) -> torch.Tensor:
    """Images of any small shape, dtype and values, in memory in one of several ways."""
    height, width = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    shape = draw(st.sampled_from([(), (0,), (1,), (2,), (3,)]))
    shape = (*shape, 3, height, width)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    x = torch.rand(shape, generator=generator)
    kind = draw(st.sampled_from(["clean", "levels", "one", "dirty", "all odd"]))
    odd = torch.tensor(draw(st.lists(st.sampled_from(ODD), min_size=1, max_size=4)))
    chosen = odd[torch.randint(len(odd), shape, generator=generator)]
    if kind == "levels":
        x = (2 * x).round() / 2
    elif kind == "one":
        x = x.new_full((), 0.3).expand(shape)
    elif kind == "dirty":
        x = torch.where(torch.rand(shape, generator=generator) < 0.3, chosen, x)
    elif kind == "all odd":
        x = chosen
    x = x.to(draw(st.sampled_from(DTYPES)))
    return x.mT.contiguous().mT if draw(st.booleans()) else x


ARGUMENTS = st.fixed_dictionaries(
    {
        "num_colors": st.sampled_from([1, 2, 3, 7, 33]),
        "space": st.sampled_from(SPACES),
        "estimator": st.sampled_from([gradients.straight_through, gradients.soft]),
    }
)
LEARNING = st.fixed_dictionaries(
    {
        "decay": st.sampled_from([0.0, 0.5, 0.99, 1.0]),
        "dead_below": st.sampled_from([0.0, 0.1, 1.0]),
        "warm_up": st.sampled_from([1, 2, 3]),
    }
)


def check(result: Quantized, x: torch.Tensor, num_colors: int) -> None:
    palette, indices = result.palette, result.indices
    assert palette.isfinite().all()
    assert ((palette >= 0) & (palette <= 1)).all()
    assert indices.shape == x.shape[:-3] + x.shape[-2:]
    assert indices.dtype == torch.int64
    assert ((indices >= 0) & (indices < num_colors)).all()
    assert result.values.shape == x.shape
    assert result.values.dtype == x.dtype
    if palette.dim() == 3:  # a palette for each image
        image = torch.arange(len(x))[:, None, None].expand_as(indices)
        colors = palette[image, indices]
    else:
        colors = palette[indices]
    assert torch.equal(result.values, colors.movedim(-1, -3).to(x.dtype))
    assert result.mse.isfinite()
    assert result.mse >= 0


@settings
@hypothesis.given(
    st.lists(images(), min_size=1, max_size=5),
    st.sampled_from([ColorQuantize, DeferredColorQuantize]),
    ARGUMENTS,
    LEARNING,
)
def test_layer(batches: list[torch.Tensor], cls, arguments, learning) -> None:
    layer = cls(**arguments, **learning)
    for x in batches:
        x = x.clone().requires_grad_()
        result = layer.quantize(x)
        check(result, x, layer.num_colors)
        (gradient,) = torch.autograd.grad(result.values.float().sum() + result.mse, x)
        assert gradient.isfinite().all()
        if cls is DeferredColorQuantize:
            layer.commit()
        assert layer.centroids.isfinite().all()
        rgb = color_space(layer.space).to_rgb(layer.centroids)
        assert ((rgb >= -1e-4) & (rgb <= 1 + 1e-4)).all()  # in the cube, but for rounding
        assert layer.counts.isfinite().all()
        assert (layer.counts >= 0).all()
        assert layer.centroids.dtype == layer.counts.dtype == torch.float32
    layer.eval()
    for x in batches:
        check(layer.quantize(x), x, layer.num_colors)


@pytest.mark.filterwarnings("ignore:.*outside of", "ignore:.*has not learnt")
@settings
@hypothesis.given(
    st.lists(images(), min_size=1, max_size=5),
    ARGUMENTS,
    st.sampled_from([0.0, 0.01, 1.0]),
    st.sampled_from([0.01, 1.0, 1e4]),
)
def test_learned_palette(batches: list[torch.Tensor], arguments, dead_below, lr) -> None:
    layer = LearnedPalette(dead_below=dead_below, **arguments)
    if layer.estimator is gradients.straight_through:
        layer.estimator = gradients.through_palette
    optimizer = torch.optim.Adam(layer.parameters(), lr)
    for x in batches:
        x = x.clone().requires_grad_()
        result = layer.quantize(x)
        check(result, x, layer.num_colors)
        optimizer.zero_grad()
        (result.values.float().square().sum() + result.mse).backward()
        assert x.grad.isfinite().all()
        assert layer.colors.grad.isfinite().all()
        optimizer.step()
        assert layer.counts.isfinite().all()
        assert (layer.counts >= 0).all()
    layer.eval()
    for x in batches:
        check(layer.quantize(x), x, layer.num_colors)


@settings
@hypothesis.given(images(), ARGUMENTS, st.sampled_from([1, 4]))
def test_layer_per_image(x: torch.Tensor, arguments: dict[str, object], num_iters: int) -> None:
    layer = PerImageColorQuantize(num_iters=num_iters, **arguments)
    x = x.clone().requires_grad_()
    result = layer.quantize(x)
    check(result, x, layer.num_colors)
    (gradient,) = torch.autograd.grad(result.values.float().sum() + result.mse, x)
    assert gradient.isfinite().all()
