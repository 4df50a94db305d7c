"""`PerImageColorQuantize`: colours of its own for each image, and the exact gradient."""

import pytest
import torch

from colorquant_nn import PerImageColorQuantize, Quantized
from colorquant_nn.functional import gradients
from colorquant_nn.functional.color import color_space
from tests.helpers import SPACES, batch

pytestmark = pytest.mark.usefixtures("on_device")


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_values_are_palette_colours_bit_for_bit(space: str, dtype: torch.dtype) -> None:
    x = batch(0, dtype=dtype)
    result = PerImageColorQuantize(5, space=space).quantize(x)
    assert result.palette.shape == (4, 5, 3)
    assert result.palette.dtype == torch.float32
    assert result.indices.shape == (4, 16, 16)
    for image in range(4):
        expected = result.palette[image][result.indices[image]].movedim(-1, 0).to(dtype)
        assert torch.equal(result.values[image], expected)
    expected_mse = torch.nn.functional.mse_loss(result.values.float(), x.float())
    torch.testing.assert_close(result.mse.float(), expected_mse, rtol=1e-3, atol=0)


@pytest.mark.parametrize("space", SPACES)
def test_every_colour_is_the_mean_of_its_pixels(space: str) -> None:
    x = batch(1)
    result = PerImageColorQuantize(4, space=space).quantize(x)
    assert_means(result, x, torch.ones(4, 16, 16, dtype=torch.bool), space)


def assert_means(result: Quantized, x: torch.Tensor, votes: torch.Tensor, space: str) -> None:
    """Each colour is the mean, in the space, of those of its pixels that vote."""
    points = color_space(space).from_rgb(x.movedim(1, -1)).double()
    for image, palette in enumerate(result.palette):
        for k, color in enumerate(palette):
            mine = (result.indices[image] == k) & votes[image]
            assert mine.any()
            rgb = color_space(space).to_rgb(points[image][mine].mean(0)).float()
            torch.testing.assert_close(color, rgb, rtol=0, atol=2e-6)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("num_colors", [3, 4, 9])
def test_few_colours_are_reproduced(space: str, num_colors: int) -> None:
    colors = (batch(2, 2, 3, 3) * 255).round() / 255  # three for each of two images
    pattern = (3 * batch(0, 2, 20, 30)).long()
    x = torch.stack([colors[i][pattern[i]] for i in range(2)]).movedim(-1, 1)
    values = PerImageColorQuantize(num_colors, space=space)(x)
    if space == "rgb":
        assert torch.equal(values, x)
    assert torch.equal((255 * values).round(), (255 * x).round())


@pytest.mark.parametrize("space", SPACES)
def test_the_gradient_is_exact_with_the_assignment_held(space: str) -> None:
    x = batch(3, 2, 3, 6, 6).requires_grad_()
    weight = torch.linspace(-1, 1, 36).reshape(6, 6)
    result = PerImageColorQuantize(3, space=space).quantize(x)
    (ours,) = torch.autograd.grad((result.values * weight).sum(), x)
    total = 0.0
    for image in range(2):
        points = color_space(space).from_rgb(x[image].movedim(0, -1))
        for k in range(3):
            mine = result.indices[image] == k
            color = color_space(space).to_rgb(points[mine].mean(0))
            total = total + (weight[mine].sum() * color).sum()
    (expected,) = torch.autograd.grad(total, x)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


def test_straight_through_is_the_alternative() -> None:
    x = batch(4).requires_grad_()
    layer = PerImageColorQuantize(4, estimator=gradients.straight_through)
    (gradient,) = torch.autograd.grad(layer(x).sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    x = batch(5, 3, 3, 20, 20)
    layer = PerImageColorQuantize(6)
    together = layer.quantize(x)
    for image in range(3):
        alone = layer.quantize(x[image])
        assert torch.equal(alone.values, together.values[image])
        assert torch.equal(alone.palette, together.palette[image])
        assert alone.indices.shape == (20, 20)


def test_better_than_a_shared_palette_and_near_full_kmeans() -> None:
    from sklearn.cluster import KMeans

    x = batch(6, 4, 3, 32, 32)
    result = PerImageColorQuantize(8).quantize(x)
    theirs = 0.0
    for image in x:
        theirs += KMeans(8, n_init=3, random_state=0).fit(image.flatten(1).T.cpu().numpy()).inertia_
    assert result.mse.item() < 1.05 * theirs / x.numel()


@pytest.mark.parametrize("space", SPACES)
def test_pixels_that_are_not_finite_never_vote(space: str) -> None:
    x = batch(7, 2, 3, 8, 8)
    spoilt = x.clone()
    spoilt[0, 1, :4] = torch.nan
    spoilt[1, 0, 4:] = torch.inf
    spoilt.requires_grad_()
    layer = PerImageColorQuantize(3, space=space)
    result = layer.quantize(spoilt)
    assert result.values.isfinite().all()
    assert torch.equal(layer.quantize(spoilt.detach()).palette, result.palette)
    finite = spoilt.isfinite().all(1)
    assert_means(result, x, finite, space)
    (gradient,) = torch.autograd.grad(result.values.square().sum() + result.mse, spoilt)
    assert gradient.isfinite().all()
    assert (gradient.movedim(1, -1)[~finite] == 0).all()


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 3, 0, 8), (3, 1, 1), (1, 3, 1, 1)])
def test_odd_shapes(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, requires_grad=True)
    result = PerImageColorQuantize(4).quantize(x)
    assert torch.equal(result.values, x)
    assert result.palette.shape == (*shape[:-3], 4, 3)
    (result.values.sum() + result.mse).backward()


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="num_colors of at least 1, got 0"):
        PerImageColorQuantize(0)
    with pytest.raises(ValueError, match="num_iters of at least 1, got 0"):
        PerImageColorQuantize(2, num_iters=0)
    with pytest.raises(ValueError, match="hsv"):
        PerImageColorQuantize(2, space="hsv")
    with pytest.raises(ValueError, match="channels first"):
        PerImageColorQuantize(2)(torch.rand(4, 4, 3))
    with pytest.raises(TypeError, match="floating point"):
        PerImageColorQuantize(2)(torch.zeros(3, 4, 4, dtype=torch.uint8))
