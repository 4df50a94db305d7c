import numpy as np
import pytest
import scipy.ndimage
import torch

from colorquant_nn import functional
from colorquant_nn.functional import eye, metrics
from colorquant_nn.functional.color import linear_to_rgb
from colorquant_nn.functional.metrics import eye_error
from tests import oracles
from tests.helpers import random

# Zhang and Wandell 1997: XYZ to opponent axes; the weights and spreads of each axis.
TO_XYZ = [
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
]
TO_AXES = [[0.279, 0.72, -0.107], [-0.449, 0.29, -0.077], [0.086, -0.59, 0.501]]
AXES = [
    [(1.00327, 0.05), (0.11442, 0.225), (-0.11769, 7)],
    [(0.61673, 0.0685), (0.38328, 0.826)],
    [(0.56789, 0.092), (0.43212, 0.6451)],
]


def seen(image, pixels_per_degree):
    """From the definition, in float64: (3, H, W) sRGB to (H, W, 3) OKLab."""
    to_axes = np.array(TO_AXES) @ TO_XYZ
    axes = oracles.srgb_to_linear(image.double().movedim(0, -1).numpy()) @ to_axes.T
    for axis, mixture in enumerate(AXES):
        blurred = 0
        for weight, spread in mixture:
            deviation = min(spread * pixels_per_degree / np.sqrt(2), 60)
            part = scipy.ndimage.gaussian_filter(
                axes[..., axis], deviation, mode="nearest", truncate=3
            )
            blurred += weight * part / sum(weight for weight, _ in mixture)
        axes[..., axis] = blurred
    return oracles.linear_to_oklab(np.maximum(axes @ np.linalg.inv(to_axes).T, 0))


def dots(height, width, seed=0):
    """A smooth picture, and dots of black, white and primary colours that look like it."""
    coarse = random(1, 3, 4, 4, seed=seed)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)
    return smooth, (random(3, height, width, seed=seed + 1) < smooth).float()


def checks(height, width):
    """A checkerboard of two greys, and the grey of its mean light."""
    greys = torch.tensor([0.3, 0.9])
    odd = (torch.arange(height)[:, None] + torch.arange(width)).remainder(2)
    mean = linear_to_rgb(functional.color.rgb_to_linear(greys.expand(3, 2).T).mean(0))
    return greys[odd].expand(3, -1, -1), mean.view(3, 1, 1).expand(3, height, width)


@pytest.mark.parametrize("size", [(60, 90), (1, 1), (2, 37), (131, 5)])
@pytest.mark.parametrize("pixels_per_degree", [3, 40, 60.5, 200])
def test_the_eye_sees_what_the_definition_says(size, pixels_per_degree, device):
    image, other = dots(*size)
    views = [seen(x, pixels_per_degree) for x in (image, other)]
    found = eye.as_seen(other.double(), pixels_per_degree).numpy()
    np.testing.assert_allclose(found, views[1], rtol=0, atol=2e-3)
    expected = 100 * np.linalg.norm(views[0] - views[1], axis=-1).mean()
    for dtype in (torch.float32, torch.float64):
        pair = (x.to(device, dtype) for x in (other, image))
        error = eye_error(*pair, pixels_per_degree=pixels_per_degree)
        assert error.item() == pytest.approx(expected, rel=5e-4)


def test_narrow_gaussians_are_exact_and_wide_ones_nearly():
    x = random(70, 100, dtype=torch.float64)
    for deviation, tolerance in ((0.01, 0), (1.4, 1e-12), (3.9, 1e-12), (6.4, 5e-3), (60, 2e-3)):
        expected = scipy.ndimage.gaussian_filter(x, deviation, mode="nearest", truncate=3)
        error = (eye._blur(x, deviation).numpy() - expected).std()
        assert error <= tolerance * expected.std()


def test_flat_pictures_differ_as_their_colours():
    colors = random(2, 3, 1, 1, dtype=torch.float64)
    image, other = colors.expand(2, 3, 20, 30)
    expected = 100 * np.linalg.norm(np.subtract(*oracles.oklab(colors[..., 0, 0].numpy())))
    assert eye_error(image, other).item() == pytest.approx(expected, rel=1e-9)
    assert eye_error(image, image) == 0


def test_dots_and_their_mean_light_are_equal_from_afar():
    image, flat = checks(90, 120)
    assert metrics.psnr(image, flat) < 15
    assert eye_error(image, flat, pixels_per_degree=2) > 20
    assert eye_error(image, flat, pixels_per_degree=200) < 0.5  # of the corners, which continue
    inside = (seen[45, 60] for seen in (eye.as_seen(x, 40) for x in (image, flat)))
    torch.testing.assert_close(*inside, rtol=0, atol=1e-4)
    assert eye_error(image, flat + 0.05, pixels_per_degree=200) > 3


def test_dots_are_seen_less_from_farther_away():
    image, other = dots(90, 120)
    errors = [eye_error(other, image, pixels_per_degree=x) for x in (5, 10, 20, 40, 80)]
    assert errors == sorted(errors, reverse=True)
    assert eye_error(image, other) == eye_error(other, image)


def test_each_image_has_an_error_of_its_own(monkeypatch):
    pairs = [dots(20, 30, seed) for seed in range(6)]
    images, others = (torch.stack(x).view(2, 3, 3, 20, 30) for x in zip(*pairs, strict=True))
    found = eye_error(images, others, per_image=True)
    assert found.shape == (2, 3)
    torch.testing.assert_close(found[1, 2], eye_error(*pairs[5]))
    torch.testing.assert_close(found.mean(), eye_error(images, others))
    monkeypatch.setattr(metrics, "SEEN_PIXELS", 1500)
    torch.testing.assert_close(eye_error(images, others, per_image=True), found)
    nothing = images[:0, 0]
    assert eye_error(nothing, nothing, per_image=True).shape == (0,)
    assert eye_error(nothing, nothing).isnan()


@pytest.mark.parametrize("pixels_per_degree", [10, 40])
def test_large_pictures_are_seen_in_bands(monkeypatch, pixels_per_degree):
    image, other = dots(300, 8)
    expected = eye_error(image, other, pixels_per_degree=pixels_per_degree)
    monkeypatch.setattr(metrics, "SEEN_PIXELS", 100)
    monkeypatch.setattr(metrics, "SEEN_ROWS", 96)
    monkeypatch.setattr(eye, "STRIP_PIXELS", 1000)
    found = eye_error(image, other, pixels_per_degree=pixels_per_degree)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_the_gradient_is_that_of_the_error():
    images = (0.1 + 0.8 * random(2, 3, 4, 5, dtype=torch.float64)).requires_grad_()

    def error(images):
        return eye_error(*images, pixels_per_degree=12)

    assert torch.autograd.gradcheck(error, images, fast_mode=True)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_the_gradient_is_finite_where_pictures_are_equal_black_or_white(level):
    flat = torch.full((3, 20, 24), level)
    marked = flat.clone()
    marked[:, :, :4] = 1 - level
    marked[0, 5:] = 0
    for image, other in ((flat, flat), (flat, marked), (marked, flat)):
        image = image.clone().requires_grad_()
        (grad,) = torch.autograd.grad(eye_error(image, other), image)
        assert grad.isfinite().all()
        assert grad.any() == (not torch.equal(image, other))


def test_a_picture_comes_nearer_when_it_follows_the_gradient():
    image, other = dots(24, 32)
    image = (0.25 + image / 2).requires_grad_()
    optimizer, errors = torch.optim.Adam([image], 0.02), []
    for _ in range(5):
        errors.append(eye_error(image, other))
        optimizer.zero_grad()
        errors[-1].backward()
        optimizer.step()
    assert errors[-1] < 0.8 * errors[0]


def test_pictures_of_any_kind():
    image, other = ((x * 255).to(torch.uint8) for x in dots(16, 18))
    expected = eye_error(image / 255, other / 255)
    assert (expected.shape, expected.dtype) == ((), torch.float32)
    assert eye_error(image, other) == expected
    assert eye_error(image / 255, other) == expected
    assert eye_error(image.double() / 255, other).dtype == torch.float64
    half = eye_error((image / 255).half(), other)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(expected.item(), rel=0.01)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert eye_error(image / 255, other / 255) == expected
    assert functional.eye_error is eye_error


def test_what_is_wrong_is_said():
    image = random(3, 8, 8)
    for pixels_per_degree in (0, -40, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"above 0 and finite, got {pixels_per_degree}"):
            eye_error(image, image, pixels_per_degree=pixels_per_degree)
    with pytest.raises(ValueError, match=r"one shape, got \(3, 8, 8\) and \(3, 8, 7\)"):
        eye_error(image, image[..., 1:])
    for wrong in (random(4, 8, 8), random(8, 8), random(3, 0, 8), random(8, 8, 3)):
        with pytest.raises(ValueError, match=r"\(\.\.\., 3, H, W\).*, got \("):
            eye_error(wrong, wrong)
    with pytest.raises(TypeError, match=r"uint8 or floating point, got torch\.int32"):
        eye_error(image.int(), image.int())
    with pytest.raises(TypeError, match=r"got ndarray; torch\.from_numpy"):
        eye_error(image, image.numpy())
