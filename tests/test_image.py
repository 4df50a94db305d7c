import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from colorquant_nn.functional.color import SPACES, color_space
from colorquant_nn.functional.dither import DITHERS
from colorquant_nn.functional.fitting import EFFORTS, smallest_count
from colorquant_nn.functional.histogram import ColorHistogram
from colorquant_nn.image import (
    apply_palette,
    fit_palette,
    quantize_image,
    smallest_palette,
    within_cluster_sum_of_squares,
)

DATA = Path(os.environ.get("COLORQUANT_DATA", Path(__file__).parents[2] / "shared" / "data"))


def noise(seed: int, channels: int = 3, height: int = 40, width: int = 50) -> Tensor:
    """Smooth blobs with noise, uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 5, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    smooth += 0.05 * torch.randn(channels, height, width, generator=generator)
    return (smooth.clamp(0, 1) * 255).to(torch.uint8)


def few_colors(seed: int, count: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    palette = torch.randint(256, (count, channels), generator=generator, dtype=torch.uint8)
    indices = torch.cat([torch.arange(count), torch.randint(count, (200,), generator=generator)])
    return palette[indices].T[:, None]


@pytest.mark.parametrize("space", list(SPACES))
@pytest.mark.parametrize("channels", [3, 4])
def test_few_colors_come_back_bit_for_bit(space: str, channels: int) -> None:
    for count in (1, 2, 7, 256):
        image = few_colors(count, count, channels)
        if channels == 4:
            image[3].clamp_(min=1)
            image[:, :, 1] = torch.tensor([[9], [8], [7], [0]])  # one is fully transparent
        distinct = len(image.flatten(1).T.unique(dim=0))
        result = quantize_image(image, distinct, space=space)
        assert torch.equal(result.rgb, image)
        assert len(result.palette) == distinct
        floats = image.float() / 255
        assert torch.equal(quantize_image(floats, distinct, space=space).rgb, floats)


@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from(list(SPACES)))
@settings(max_examples=25, deadline=None)
def test_few_colors_property(seed: int, count: int, space: str) -> None:
    image = few_colors(seed, count)
    assert torch.equal(quantize_image(image, count + seed % 3, space=space).rgb, image)


def test_floats_that_round_alike_are_told_apart() -> None:
    image = torch.tensor([0.5, 0.5005, 0.501]).expand(3, 1, 3)
    assert torch.equal(fit_palette(image, 8), image[:, 0].T)


@pytest.mark.parametrize("space", list(SPACES))
@pytest.mark.parametrize("effort", list(EFFORTS))
def test_same_seed_same_palette_and_global_randomness_untouched(space: str, effort: str) -> None:
    image = noise(0)
    state = torch.get_rng_state()
    palette = fit_palette(image, 8, space=space, effort=effort, seed=5)
    assert torch.equal(palette, fit_palette(image, 8, space=space, effort=effort, seed=5))
    assert torch.equal(torch.get_rng_state(), state)
    assert palette.dtype == torch.float32
    assert palette.shape == (8, 3)
    linear = color_space("linear").from_rgb(palette) @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert (linear.diff() > -1e-6).all()


@pytest.mark.parametrize("space", list(SPACES))
@pytest.mark.parametrize("num_colors", [4, 24])
def test_not_worse_than_scikit_learn_in_the_space(space: str, num_colors: int) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    image = noise(1)
    points = color_space(space).from_rgb(image.flatten(1).T.float() / 255).numpy()
    inertia = cluster.KMeans(num_colors, n_init=3, random_state=0).fit(points).inertia_
    for effort, factor in (("fast", 1.03), ("balanced", 1.01), ("best", 1.001)):
        palette = fit_palette(image, num_colors, space=space, effort=effort)
        ours = within_cluster_sum_of_squares(image, palette, space=space)
        assert ours <= factor * inertia


def test_objective_is_the_sum_of_squared_distances() -> None:
    image, palette = noise(2), torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    for space in SPACES:
        convert = color_space(space).from_rgb
        points = convert(image.flatten(1).T.double() / 255)
        expected = torch.cdist(points, convert(palette.double())).square().min(1).values.sum()
        found = within_cluster_sum_of_squares(image, palette, space=space)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_weights_are_votes() -> None:
    image, weights = noise(3), torch.zeros(40, 50)
    weights[:10] = 1
    assert torch.equal(fit_palette(image, 4, weights=weights), fit_palette(image[:, :10], 4))
    twice = torch.cat([image, image[:, :10]], dim=1)
    weights += 1
    doubled = fit_palette(image, 4, weights=weights)
    torch.testing.assert_close(doubled, fit_palette(twice, 4), atol=1e-5, rtol=0)


@pytest.mark.parametrize("weight", [2.0**-140, 1e-38, 3e38])
def test_all_weights_alike_are_none(weight: float) -> None:
    image = noise(5)
    weights = torch.full(image.shape[1:], weight)
    assert torch.equal(fit_palette(image, 6, weights=weights), fit_palette(image, 6))


def test_default_dtype_and_device_change_nothing() -> None:
    image = noise(6)
    expected = [fit_palette(given, 6) for given in (image, image / 255)]
    applied = apply_palette(image, expected[0]).rgb
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        found = [fit_palette(given, 6) for given in (image, image / 255)]
        again = apply_palette(image, expected[0]).rgb
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    for a, b in zip([*found, again], [*expected, applied], strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.mark.parametrize("space", list(SPACES))
def test_kept_colors_are_in_the_palette_and_the_rest_adapts(space: str) -> None:
    image = noise(4)
    keep = torch.tensor([[1.0, 0.0, 1.0], [0.123, 0.456, 0.789]])
    palette = fit_palette(image, 6, space=space, keep=keep)
    assert palette.shape == (6, 3)
    for color in keep:
        assert (palette == color).all(1).any()
    free = fit_palette(image, 6, space=space)
    naive = torch.cat([keep, fit_palette(image, 6, space=space)[:4]])
    cost = [within_cluster_sum_of_squares(image, p, space=space) for p in (free, palette, naive)]
    assert cost[0] <= cost[1] < cost[2]


def test_kept_colors_of_an_image_with_few_colors() -> None:
    image = few_colors(0, 4)
    keep = image[:, 0, :1].T  # one of them, uint8
    assert torch.equal(fit_palette(image, 4, keep=keep), fit_palette(image, 4))
    foreign = torch.tensor([[0.1234, 0.5, 0.5]])
    assert fit_palette(image, 8, keep=foreign).shape == (5, 3)
    assert fit_palette(image, 3, keep=foreign).shape == (3, 3)
    assert torch.equal(fit_palette(image, 1, keep=foreign), foreign)


@pytest.mark.parametrize("space", list(SPACES))
def test_opaque_alpha_changes_nothing(space: str) -> None:
    image = noise(5)
    opaque = torch.cat([image, torch.full((1, 40, 50), 255, dtype=torch.uint8)])
    palette = fit_palette(opaque, 12, space=space)
    assert (palette[:, 3] == 1).all()
    torch.testing.assert_close(
        palette[:, :3], fit_palette(image, 12, space=space), atol=1e-5, rtol=0
    )


def test_transparent_pixels_do_not_vote_and_stay_transparent() -> None:
    image = noise(6, 4)
    image[3] = 255
    image[:, :20] = torch.tensor([255, 0, 0, 0], dtype=torch.uint8)[:, None, None]
    image[:3, :10] = torch.tensor([0, 255, 0], dtype=torch.uint8)[:, None, None]
    palette = fit_palette(image, 9)
    assert palette[0, 3] == 0
    assert (palette[1:, 3] == 1).all()
    alone = fit_palette(image[:, 20:], 8)
    cost = [within_cluster_sum_of_squares(image, rows) for rows in (palette, alone)]
    assert cost[0] < 1.02 * cost[1]
    result = quantize_image(image, 9)
    assert (result.rgb[3, :20] == 0).all()
    assert (result.rgb[3, 20:] == 255).all()


def test_partial_alpha_takes_part_in_the_distance() -> None:
    colors = torch.tensor(
        [[200, 0, 0, 255], [200, 0, 0, 128], [0, 0, 200, 255], [0, 0, 200, 3]], dtype=torch.uint8
    )
    image = colors.T[:, None].repeat(1, 5, 1)
    assert torch.equal(quantize_image(image, 4).rgb, image)
    # The two that hardly show are nearest: nearly transparent blue goes to faint red.
    assert quantize_image(image, 3).indices[0].unique().numel() == 3


@pytest.mark.parametrize("dither", list(DITHERS))
@pytest.mark.parametrize("space", list(SPACES))
def test_applied_palette(dither: str, space: str) -> None:
    image, palette = noise(7), fit_palette(noise(7), 8)
    result = apply_palette(image, palette, space=space, dither=dither)
    assert result.rgb.dtype == torch.uint8
    assert result.indices.dtype == torch.int64
    rounded = (palette * 255).round().to(torch.uint8)
    assert torch.equal(result.rgb, rounded[result.indices].permute(2, 0, 1))
    floats = apply_palette(image.float() / 255, palette, space=space, dither=dither)
    assert torch.equal(floats.rgb, palette[floats.indices].permute(2, 0, 1))
    if dither == "none":
        convert = color_space(space).from_rgb
        points = convert(image.flatten(1).T.double() / 255)
        distances = torch.cdist(points, convert(palette.double()))
        chosen = distances.gather(1, result.indices.flatten()[:, None]).squeeze(1)
        torch.testing.assert_close(chosen, distances.min(1).values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("space", list(SPACES))
def test_a_palette_color_maps_to_itself(space: str) -> None:
    image = noise(8)
    palette = image.flatten(1).T[::10].unique(dim=0)
    result = apply_palette(image, palette, space=space)
    for color in palette:
        there = (image == color[:, None, None]).all(0)
        assert (result.rgb[:, there] == color[:, None]).all()


def test_alpha_and_no_alpha_meet() -> None:
    image, palette = noise(9), torch.tensor([[0.0, 0, 0], [1, 1, 1]])
    with_alpha = torch.cat([palette, torch.tensor([[1.0], [1.0]])], dim=1)
    assert apply_palette(image, with_alpha).rgb.shape == (4, 40, 50)
    assert apply_palette(noise(9, 4), palette).palette.shape == (2, 4)
    assert torch.equal(
        apply_palette(image, with_alpha).indices, apply_palette(image, palette).indices
    )


def test_streams_batches_and_histograms_agree() -> None:
    images = torch.stack([noise(seed) for seed in range(4)])
    whole = images.permute(1, 0, 2, 3).flatten(1, 2)
    expected = fit_palette(whole, 8)
    assert torch.equal(fit_palette(images, 8), expected)
    assert torch.equal(fit_palette(iter(images), 8), expected)
    assert torch.equal(fit_palette([images[:2, :, :7], images[:2, :, 7:], images[2:]], 8), expected)
    from_cells = fit_palette(ColorHistogram().update(images), 8)
    cost = within_cluster_sum_of_squares(images, from_cells)
    assert cost < 1.02 * within_cluster_sum_of_squares(images, expected)


@pytest.mark.parametrize("alpha", [False, True])
def test_smallest_palette(alpha: bool) -> None:
    image = noise(10)
    if alpha:
        image = torch.cat([image, image[:1] // 2 + 127])

    def psnr(palette: Tensor) -> float:
        drawn = apply_palette(image, palette).rgb.float() / 255
        return float(-10 * (drawn - image.float() / 255).square().mean().log10())

    palette = smallest_palette(image, 27.0)
    assert psnr(palette) >= 27
    assert psnr(fit_palette(image, len(palette) - 1)) < 27.001
    assert len(smallest_palette(image, -5.0)) == 1
    exact = smallest_palette(few_colors(1, 9), float("inf"))
    assert len(exact) == len(few_colors(1, 9).flatten(1).T.unique(dim=0))


def test_few_fits_find_the_smallest_count() -> None:
    for target in (3, 17, 100, 900):
        calls = []

        def psnr(count: int) -> float:
            calls.append(count)  # noqa: B023
            return 7 * float(torch.tensor(count).log())

        threshold = 7 * float(torch.tensor(target).log())
        assert smallest_count(psnr, threshold, 30000) == target
        assert len(calls) <= 10


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: fit_palette(x, 0), ValueError, "num_colors of at least 1, got 0"),
        (lambda x: fit_palette(x, 4, space="hsv"), ValueError, "hsv"),
        (lambda x: fit_palette(x, 4, effort="max"), ValueError, "fast, balanced, best.*max"),
        (lambda x: fit_palette(x[0], 4), ValueError, r"\(40, 50\)"),
        (lambda x: fit_palette(x.long(), 4), TypeError, "int64"),
        (lambda x: fit_palette(x, 4, weights=torch.ones(3)), ValueError, r"\(40, 50\).*\(3,\)"),
        (lambda x: fit_palette(x, 4, weights=-torch.ones(40, 50)), ValueError, "at least 0"),
        (lambda x: fit_palette(x, 4, weights=torch.zeros(40, 50)), ValueError, "a vote"),
        (lambda x: fit_palette([x], 4, weights=torch.ones(40, 50)), ValueError, "weights only"),
        (lambda x: fit_palette(x, 1, keep=torch.rand(2, 3)), ValueError, "at most 1.*got 2"),
        (lambda x: fit_palette(x, 4, keep=torch.rand(3)), ValueError, r"\(3,\)"),
        (lambda x: fit_palette([], 4), ValueError, "at least one"),
        (lambda x: fit_palette(["x.png"], 4), TypeError, "str"),
        (lambda x: fit_palette(ColorHistogram(), 4), ValueError, "at least one pixel"),
        (lambda x: fit_palette(x.float() * torch.nan, 4), ValueError, "at least one pixel"),
        (lambda x: apply_palette(x, torch.rand(2, 3), dither="bayer"), ValueError, "bayer"),
        (lambda x: apply_palette(x, torch.rand(2, 3), strength=2), ValueError, "got 2"),
        (lambda x: apply_palette(x, torch.rand(2, 5)), ValueError, r"\(2, 5\)"),
        (lambda x: apply_palette(x, torch.rand(2, 3) + 1), ValueError, r"in \[0, 1\]"),
        (lambda x: apply_palette(x[None], torch.rand(2, 3)), ValueError, "one image"),
        (lambda x: smallest_palette(x, float("nan")), ValueError, "nan"),
        (lambda x: within_cluster_sum_of_squares(x, torch.rand(2, 4)), ValueError, r"\(2, 4\)"),
    ],
)
def test_bad_input_is_named(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(noise(0))  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data in {DATA}")
@pytest.mark.parametrize("num_colors", [16, 64, 256])
def test_kodak_against_scikit_learn(num_colors: int) -> None:
    from sklearn.cluster import KMeans

    from colorquant_nn.io import load_image

    totals = dict.fromkeys([*EFFORTS, "reference"], 0.0)
    for number in (1, 5, 13, 23):
        image = load_image(DATA / "kodak" / f"{number:02d}.png")
        pixels = image.flatten(1).T.float().numpy()
        if image.dtype == torch.uint8:
            pixels = pixels / 255
        totals["reference"] += KMeans(num_colors, n_init=1, random_state=0).fit(pixels).inertia_
        for effort in EFFORTS:
            palette = fit_palette(image, num_colors, effort=effort)
            totals[effort] += float(within_cluster_sum_of_squares(image, palette))
    assert totals["fast"] <= 1.03 * totals["reference"]
    assert totals["balanced"] <= totals["reference"]
    assert totals["best"] <= totals["balanced"]
