"""What a palette can show: results are mixtures of its colours, and look like the picture."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from colorquant_nn import fit_gamut, fit_lightness, load_palette
from colorquant_nn.functional.color import linear_to_rgb, oklab_to_rgb, rgb_to_linear, rgb_to_oklab
from colorquant_nn.functional.gamut import _hull, _nearest, lightness_range
from tests.helpers import picture, random

BLACK_WHITE_RED = "#0f0f0f,#b2b2b2,#701010"
FLAT = "#101010,#c0c0c0,#ff0000,#701010,#8a5050"  # more than three in a plane
MANY = ",".join(f"#{''.join(row)}" for row in product(("20", "80", "d0"), repeat=3))
PALETTES = ["spectra6", "acep7", "pico-8", "gameboy", "grey-4", BLACK_WHITE_RED, FLAT, MANY]


def distance_from_mixtures(colors: torch.Tensor, palette: torch.Tensor) -> float:
    """How far the farthest of sRGB colours (N, 3) is from what dots can show, in linear light."""
    vertices = np.vstack([rgb_to_linear(palette).numpy().T, np.full(len(palette), 10.0)])
    rows = rgb_to_linear(colors).numpy()
    return max(nnls(vertices, np.append(row, 10.0))[1] for row in rows)


def as_image(colors: torch.Tensor) -> torch.Tensor:
    return colors.T[:, None].contiguous()


@pytest.mark.parametrize("name", PALETTES)
def test_what_comes_out_is_a_mixture_of_the_palette(name):
    palette = load_palette(name)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    colors = torch.cat([corners, palette, random(60, 3)])
    fitted = fit_gamut(as_image(colors), palette)[:, 0].T
    assert distance_from_mixtures(fitted, palette) < 1e-4
    assert distance_from_mixtures(colors, palette) > 0.1  # so that something is asked of it


@pytest.mark.parametrize("name", PALETTES)
def test_greys_keep_their_order_from_the_darkest_colour_to_the_lightest(name):
    palette = load_palette(name)
    greys = torch.linspace(0, 1, 65).expand(3, 1, 65)
    lightness = rgb_to_oklab(fit_gamut(greys, palette)[:, 0].T)[:, 0]
    assert (lightness.diff() > -1e-4).all()
    ends = rgb_to_oklab(palette)[:, 0]
    assert lightness[0] == pytest.approx(float(ends.min()), abs=0.01)
    assert lightness[-1] == pytest.approx(float(ends.max()), abs=0.01)
    middle = (lightness[40] - lightness[24]) / (lightness[-1] - lightness[0])
    inputs = rgb_to_oklab(greys[:, 0].T)[:, 0]
    assert middle > inputs[40] - inputs[24] - 0.01  # its contrast


@pytest.mark.parametrize("name", ["spectra6", "acep7", "epaper-bwry", "epaper-grey-4"])
def test_greys_that_a_palette_has_stay_and_the_others_stay_apart(name):
    palette = load_palette(name)
    inputs = torch.linspace(0, 1, 41)
    greys = oklab_to_rgb(torch.stack([inputs, 0 * inputs, 0 * inputs], 1))
    lightness = rgb_to_oklab(fit_gamut(as_image(greys), palette)[:, 0].T)[:, 0]
    ends = rgb_to_oklab(palette)[:, 0]
    middle = (inputs - 0.55).abs() < 0.08
    assert (lightness - inputs)[middle].abs().max() < 0.02
    shadows, highlights = (inputs > 0.04) & (inputs <= ends.min()), inputs >= ends.max()
    for outside in (shadows, highlights):
        assert (lightness[outside].diff() / 0.025 > 0.08).all()


@pytest.mark.parametrize("name", ["spectra6", "acep7", "pico-8"])
def test_moderate_colours_keep_their_hue(name):
    turns = torch.arange(24) * torch.pi / 12
    points = torch.stack([torch.full((24,), 0.45), 0.03 * turns.cos(), 0.03 * turns.sin()], dim=1)
    fitted = rgb_to_oklab(fit_gamut(as_image(oklab_to_rgb(points)), load_palette(name))[:, 0].T)
    hue = torch.atan2(fitted[:, 2], fitted[:, 1])
    assert ((hue - turns + torch.pi) % (2 * torch.pi) - torch.pi).abs().max() < 0.35
    chroma = fitted[:, 1:].norm(dim=1)
    assert chroma.median() > 0.018


def test_saturated_detail_is_not_flattened():
    red = torch.linspace(0.05, 0.16, 9)
    points = torch.stack([torch.full_like(red, 0.5), red, red / 2], dim=1)
    fitted = rgb_to_oklab(
        fit_gamut(as_image(oklab_to_rgb(points)), load_palette("spectra6"))[:, 0].T
    )
    chroma = fitted[:, 1:].norm(dim=1)
    assert (chroma.diff() > 0).all()
    assert chroma[8] - chroma[4] > 0.006  # clipped, 0.004


def test_a_palette_that_has_the_whole_cube_changes_nothing():
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    image = picture(0)
    assert fit_gamut(image, corners).equal(image)
    nearly = corners * 0.9995
    assert (fit_gamut(image / 255, nearly) - image / 255).abs().max() < 1 / 255


def test_dtypes_batches_and_alpha_stay_as_they_are():
    palette = load_palette("spectra6")
    image = torch.stack([picture(seed, channels=4, height=6, width=7) for seed in range(2)])
    fitted = fit_gamut(image, palette)
    assert fitted.dtype == torch.uint8
    assert fitted[:, 3].equal(image[:, 3])
    assert fitted[1].equal(fit_gamut(image[1], palette))
    exact = fit_gamut(image.double() / 255, palette)
    assert exact.dtype == torch.float64
    assert (exact[:, :3] * 255 - fitted[:, :3]).abs().max() <= 0.51
    seen = torch.cat([palette, torch.ones(6, 1)], 1)
    clear = torch.cat([seen, torch.tensor([[1.0, 0, 1, 0]])])
    assert fit_gamut(image, clear).equal(fitted)  # what is transparent shows nothing
    assert fit_lightness(image, clear).equal(fit_lightness(image, palette))


def test_a_gradient_goes_through():
    image = random(3, 4, 4).requires_grad_()
    fit_gamut(image, load_palette("spectra6")).sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert image.grad.abs().sum() > 0


@pytest.mark.parametrize("fit", [fit_gamut, fit_lightness])
def test_one_colour_shows_nothing(fit):
    for palette in (
        torch.ones(1, 3),
        torch.ones(2, 3),
        torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 0]]),
    ):
        with pytest.raises(ValueError, match="at least two different visible colours"):
            fit(torch.rand(3, 2, 2), palette)
    with pytest.raises(ValueError, match="from 0 to 2"):
        fit(torch.rand(3, 2, 2), torch.tensor([[0.0, 0, 0], [2, 2, 2]]))


@pytest.mark.parametrize("name", ["gameboy", "grey-4"])
def test_a_picture_is_stretched_over_the_line_of_a_palette(name):
    palette = load_palette(name)
    image = 0.35 + 0.3 * random(3, 40, 40)
    fitted = rgb_to_oklab(fit_lightness(image, palette).flatten(1).T)
    line = rgb_to_oklab(palette)
    assert fitted[:, 0].min() == pytest.approx(float(line[:, 0].min()), abs=1e-3)
    assert fitted[:, 0].max() == pytest.approx(float(line[:, 0].max()), abs=1e-3)
    for axis in (1, 2):
        there = np.interp(fitted[:, 0], line[:, 0], line[:, axis])
        np.testing.assert_allclose(fitted[:, axis], there, atol=2e-3)
    order = rgb_to_oklab(image.flatten(1).T)[:, 0].argsort()
    assert (fitted[order, 0].diff() > -1e-4).all()  # lightness alone decides


def test_of_a_palette_of_several_hues_only_lightness_is_stretched():
    image = torch.tensor([[0.4, 0.6], [0.5, 0.5], [0.45, 0.55]])[:, None]
    before = rgb_to_oklab(image[:, 0].T)
    after = rgb_to_oklab(fit_lightness(image, load_palette("cga"))[:, 0].T)
    torch.testing.assert_close(after[:, 1:].sign(), before[:, 1:].sign())
    bounds = (0.2, 0.9)
    apart = rgb_to_oklab(fit_lightness(image, load_palette("cga"), bounds=bounds)[:, 0].T)
    torch.testing.assert_close(apart[:, 0], (before[:, 0] - 0.2) / 0.7, atol=1e-3, rtol=0)
    torch.testing.assert_close(apart[:, 1:], before[:, 1:], atol=1e-3, rtol=0)


def test_a_range_is_of_what_is_seen_in_all_images():
    dark, light = torch.full((3, 8, 8), 0.2), torch.full((3, 8, 8), 0.8)
    low, high = lightness_range([dark, light])
    assert lightness_range(torch.stack([dark, light])) == (low, high)
    assert lightness_range(iter([dark])) == (low, low)
    hidden = torch.cat([torch.ones(3, 8, 8), torch.zeros(1, 8, 8)])
    assert lightness_range([dark, hidden, light]) == (low, high)
    assert lightness_range(hidden) == (0.0, 1.0)
    speck = dark.expand(3, 8, 8).repeat(1, 8, 8)
    speck[:, 0, 0] = 1
    assert lightness_range(speck) == (low, low)


def test_a_flat_picture_is_not_stretched():
    palette = load_palette("grey-4")
    image = torch.full((3, 4, 4), 0.5)
    torch.testing.assert_close(fit_lightness(image, palette), image, atol=1e-3, rtol=0)


def test_two_colours_of_one_lightness_are_no_line_of_tones():
    hues = oklab_to_rgb(torch.tensor([[0.50, 0.1, 0.0], [0.56, -0.1, 0.0]]))
    greys = torch.linspace(0, 1, 9).expand(3, 1, 9)
    fitted = rgb_to_oklab(fit_lightness(greys, hues)[:, 0].T)
    assert fitted[:, 1:].abs().max() < 1e-3
    assert fitted[[0, -1], 0].tolist() == pytest.approx([0.50, 0.56], abs=1e-3)


def test_what_is_flat_stays_within_the_lightness_of_the_palette():
    hues = oklab_to_rgb(torch.tensor([[0.4, 0.1, 0.0], [0.5, -0.1, 0.1], [0.6, 0.0, -0.1]]))
    for level, expected in ((0.0, 0.4), (1.0, 0.6)):
        fitted = fit_lightness(torch.full((3, 2, 2), level), hues)
        assert float(rgb_to_oklab(fitted[:, 0].T)[0, 0]) == pytest.approx(expected, abs=1e-3)


def test_no_mixture_is_nearer_than_the_nearest():
    """In lightness, chroma and hue, each by its weight."""
    vertices = rgb_to_linear(load_palette("spectra6"))
    targets = rgb_to_oklab(random(40, 3, seed=3))
    hue = targets[:, 1:] / targets[:, 1:].norm(dim=1, keepdim=True)
    weights = torch.tensor([0.25, 1.0, 4.0]).expand(40, 3)
    frames = torch.zeros(40, 3, 3)
    frames[:, 0, 0], frames[:, 1, 1:] = 1, hue
    frames[:, 2, 1:] = torch.stack([-hue[:, 1], hue[:, 0]], 1)

    def cost(light):  # (N, M, 3)
        apart = rgb_to_oklab(linear_to_rgb(light)) - targets[:, None]
        return ((apart @ frames.mT).square() * weights[:, None]).sum(-1)

    shares = random(4000, 6, seed=4).pow(6)
    mixtures = (shares / shares.sum(1, keepdim=True)) @ vertices
    found = _nearest(targets, hue, _hull(vertices), weights)
    least = cost(mixtures.expand(40, -1, -1)).amin(1)
    assert (cost(found[:, None])[:, 0] <= 1.02 * least + 1e-5).all()


@pytest.mark.parametrize("bounds", [(1.0, 0.0), (float("nan"), 1.0), (1.0,)])
def test_bounds_of_lightness_are_two_in_order(bounds):
    with pytest.raises(ValueError, match="expected bounds as two lightnesses"):
        fit_lightness(torch.rand(3, 2, 2), torch.eye(3), bounds=bounds)
