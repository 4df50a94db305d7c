import io

import numpy as np
import pytest
import torch
from PIL import Image

from colorquant_nn import functional
from colorquant_nn.functional import quality
from colorquant_nn.functional.metrics import visual_quality
from tests import oracles
from tests.helpers import picture, random

TAPS = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)


def noisy(image, strength, seed=5):
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    return (image + strength * noise).clamp(0, 1)


def positive_xyb(linear):
    """libjxl's XYB, moved and scaled as the measure does."""
    cones = np.array(
        [[0.3, 0.622, 0.078], [0.23, 0.692, 0.078], [0.24342268924547819, 0.20476744424496821, 0]]
    )
    cones[2, 2] = 1 - cones[2].sum()
    bias = 0.0037930732552754493
    long, middle, short = np.moveaxis(np.cbrt(linear @ cones.T + bias) - np.cbrt(bias), -1, 0)
    x, y = (long - middle) / 2, (long + middle) / 2
    return [14 * x + 0.42, y + 0.01, short - y + 0.55]


def blurred(plane):
    """Rows are reflected beyond the edges, and columns are black there."""
    plane = np.pad(np.pad(plane, ((5, 5), (0, 0)), "symmetric"), ((0, 0), (5, 5)))
    for axis in (0, 1):
        plane = np.apply_along_axis(np.convolve, axis, plane, TAPS / TAPS.sum(), "valid")
    return plane


def maps(first, second):
    """Of structure, of edges that came up, of edges that were lost."""
    mean1, mean2 = blurred(first), blurred(second)
    variance1 = blurred(first * first) - mean1**2
    variance2 = blurred(second * second) - mean2**2
    covariance = blurred(first * second) - mean1 * mean2
    light = 1 - (mean1 - mean2) ** 2
    structure = 1 - light * (2 * covariance + 0.0009) / (variance1 + variance2 + 0.0009)
    edges = (1 + abs(second - mean2)) / (1 + abs(first - mean1)) - 1
    return [np.maximum(x, 0) for x in (structure, edges, -edges)]


def slow_quality(image, reference):
    """From the definition, in float64, of (3, H, W) in [0, 1]; the weights that count."""
    pair = [oracles.srgb_to_linear(x.double().movedim(0, -1).numpy()) for x in (reference, image)]
    total = 0
    for weights in quality.WEIGHTS:
        channels = [positive_xyb(linear) for linear in pair]
        for channel, norm, *factors in weights:
            differences = maps(*(planes[channel] for planes in channels))
            for factor, difference in zip(factors, differences, strict=True):
                total += factor * (difference**norm).mean() ** (1 / norm)
        height, width = pair[0].shape[:2]
        pair = [
            np.array(
                [
                    [x[i : i + 2, j : j + 2].mean((0, 1)) for j in range(0, width, 2)]
                    for i in range(0, height, 2)
                ]
            )
            for x in pair
        ]
    total *= 0.9562382616834844
    bent = 2.326765642916932 * total - 0.020884521182843837 * total**2
    return 100 - 10 * (bent + 6.248496625763138e-05 * total**3) ** 0.6276336467831387


@pytest.mark.parametrize("size", [(1, 1), (2, 37), (45, 3), (70, 33)])
def test_it_is_what_the_definition_says(size, device):
    reference = random(3, *size)
    for strength in (0.02, 0.3):
        image = noisy(reference, strength)
        found = visual_quality(image.to(device), reference.to(device))
        assert found.item() == pytest.approx(slow_quality(image, reference), abs=0.02)


@pytest.mark.slow
def test_it_is_what_others_measure():
    ssimulacra2 = pytest.importorskip("ssimulacra2")
    reference = picture(0, height=256, width=290)
    for strength in (0.01, 0.04, 0.2):
        image = (noisy(reference / 255, strength) * 255).round().to(torch.uint8)
        files = [io.BytesIO() for _ in range(2)]
        for file, x in zip(files, (reference, image), strict=True):
            Image.fromarray(x.movedim(0, -1).numpy()).save(file, "png")
        expected = ssimulacra2.compute_ssimulacra2(*files)
        assert visual_quality(image, reference).item() == pytest.approx(expected, abs=0.05)


def test_the_original_has_100_and_noise_takes_away_from_it():
    for reference in (picture(1) / 255, picture(2, channels=4) / 255, torch.zeros(3, 9, 1)):
        assert visual_quality(reference, reference) == 100
    reference = picture(1) / 255
    found = [visual_quality(noisy(reference, x), reference) for x in (0, 0.01, 0.03, 0.1, 0.3)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0 < 70 < found[1] < 100
    assert visual_quality(1 - reference, reference) < found[3]


def test_an_original_is_prepared_once():
    reference = picture(1)
    prepared = quality.prepare(reference)
    for strength in (0.05, 0.1):
        image = noisy(reference / 255, strength)
        assert quality.quality(image, prepared) == visual_quality(image, reference / 255)


def test_the_number_of_threads_changes_nothing():
    reference = picture(1, height=150, width=230)
    image = noisy(reference / 255, 0.1)
    found, threads = [], torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(visual_quality(image, reference / 255))
    finally:
        torch.set_num_threads(threads)
    assert found == found[:1] * 2


def test_a_picture_with_alpha_is_seen_over_black_and_over_white():
    reference, image = picture(3, channels=4) / 255, noisy(picture(3, channels=4) / 255, 0.1)
    seen = [[x[:3] * x[3:] + (1 - x[3:]) * ground for x in (image, reference)] for ground in (0, 1)]
    expected = min(visual_quality(*pair) for pair in seen)
    torch.testing.assert_close(visual_quality(image, reference), expected)
    reference[3] = image[3] = 1
    assert visual_quality(image, reference) == visual_quality(image[:3], reference[:3])
    reference[3] = image[3] = 0
    assert visual_quality(image, reference) == 100
    holes = torch.zeros(4, 8, 8)
    holes[3, :, 4:] = 1  # black on black is nothing lost: over white it is
    assert visual_quality(torch.cat([holes[:3], torch.ones(1, 8, 8)]), holes) < 0


def test_pictures_of_any_kind():
    reference, image = picture(1), picture(1).flip(2)
    expected = visual_quality(image / 255, (reference / 255).requires_grad_())
    assert (expected.shape, expected.dtype) == ((), torch.float32)
    assert not expected.requires_grad
    assert visual_quality(image, reference) == expected
    assert visual_quality(image.double() / 255, reference) == expected
    half = visual_quality((reference / 255).half(), reference)
    assert (half.dtype, half > 90) == (torch.float32, True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert visual_quality(image / 255, reference) == expected
    found = visual_quality(
        torch.stack([image, reference])[None], reference.expand(1, 2, -1, -1, -1)
    )
    assert found.tolist() == [[expected.item(), 100]]
    nothing = torch.empty(0, 3, 8, 8)
    assert visual_quality(nothing, nothing).shape == (0,)
    image = reference / 255
    image[0, 3, 4] = torch.nan
    assert visual_quality(image, reference).isnan()
    assert visual_quality(reference, image).isnan()
    assert functional.visual_quality is visual_quality


def test_what_is_wrong_is_said():
    image = random(3, 8, 8)
    with pytest.raises(ValueError, match=r"one shape, got \(3, 8, 8\) and \(3, 8, 7\)"):
        visual_quality(image, image[..., 1:])
    for wrong in (random(2, 8, 8), random(8, 8), random(3, 0, 8), random(8, 8, 3)):
        with pytest.raises(ValueError, match=r"3, H, W\).*, got \("):
            visual_quality(wrong, wrong)
    with pytest.raises(ValueError, match=r"original's shape \(3, 8, 8\), got \(4, 8, 8\)"):
        quality.quality(random(4, 8, 8), quality.prepare(image))
    with pytest.raises(ValueError, match=r"\(3, H, W\) or \(4, H, W\).*, got \(1, 3, 8, 8\)"):
        quality.prepare(image[None])
    with pytest.raises(TypeError, match=r"uint8 or floating point, got torch\.int32"):
        visual_quality(image.int(), image.int())
    with pytest.raises(TypeError, match=r"got ndarray; torch\.from_numpy"):
        quality.prepare(image.numpy())
