import math
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from colorquant_nn import image as image_module
from colorquant_nn.functional import gamut, histogram
from colorquant_nn.functional.color import SPACES, color_space, rgb_to_linear
from colorquant_nn.functional.dither import DITHERS
from colorquant_nn.functional.fitting import EFFORTS
from colorquant_nn.functional.histogram import ColorHistogram
from colorquant_nn.image import (
    apply_palette,
    draw_frames,
    fit_palette,
    match_palette,
    quantize_frames,
    quantize_image,
    smallest_palette,
    within_cluster_sum_of_squares,
)
from colorquant_nn.names import Dither, Space
from colorquant_nn.palettes import load_panel
from tests.helpers import DATA, assert_same, picture, random

PALETTE = random(4, 3, seed=3)


def with_hole(seed: int, **size: int) -> Tensor:
    """Opaque noise, whose upper rows are transparent in two colours."""
    image = picture(seed, 4, **size)
    image[3] = 255
    image[:, :5] = torch.tensor([255, 0, 0, 0], dtype=torch.uint8)[:, None, None]
    image[1, :2] = 255
    return image


def psnr_of(image: Tensor, palette: Tensor, space: str = "oklab") -> float:
    drawn = apply_palette(image, palette, space=space).rgb.double()
    scale = 255 if image.dtype == torch.uint8 else 1
    error = ((drawn - image.double()) / scale).square().mean()
    return float(-10 * error.log10())


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
    image = picture(0)
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
    image = picture(1)
    points = color_space(space).from_rgb(image.flatten(1).T.float() / 255).numpy()
    inertia = cluster.KMeans(num_colors, n_init=3, random_state=0).fit(points).inertia_
    for effort, factor in (("fast", 1.03), ("balanced", 1.01), ("best", 1.001)):
        palette = fit_palette(image, num_colors, space=space, effort=effort)
        ours = within_cluster_sum_of_squares(image, palette, space=space)
        assert ours <= factor * inertia


@pytest.mark.parametrize("chunk", [1 << 20, 300])
@pytest.mark.parametrize("space", list(SPACES))
def test_objective_is_the_sum_of_squared_distances(
    space: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_module, "CHUNK", chunk)
    image, palette = picture(2), random(5, 3)
    convert = color_space(space).from_rgb
    points = convert(image.flatten(1).T.double() / 255)
    expected = torch.cdist(points, convert(palette.double())).square().min(1).values.sum()
    found = within_cluster_sum_of_squares(image, palette, space=space)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("space", list(SPACES))
def test_the_objective_leaves_out_what_has_no_vote(space: str) -> None:
    transparent = torch.tensor([[0.0, 0, 0, 1], [1, 0, 0, 0]]).T[:, None]
    black = torch.tensor([[0.0, 0, 0, 1]])
    assert within_cluster_sum_of_squares(transparent, black, space=space) == 0
    odd = torch.tensor([[0.0, 0, 0], [torch.nan, 1, 1], [torch.inf, 0, 0]]).T[:, None]
    assert within_cluster_sum_of_squares(odd, black[:, :3], space=space) == 0


def test_weights_are_votes() -> None:
    image, weights = picture(3), torch.zeros(40, 50)
    weights[:10] = 1
    assert torch.equal(fit_palette(image, 4, weights=weights), fit_palette(image[:, :10], 4))
    twice = torch.cat([image, image[:, :10]], dim=1)
    weights += 1
    doubled = fit_palette(image, 4, weights=weights)
    torch.testing.assert_close(doubled, fit_palette(twice, 4), atol=1e-5, rtol=0)


def test_weights_are_votes_with_alpha_too() -> None:
    image, weights = picture(3), random(40, 50) ** 8
    opaque = torch.cat([image, torch.full_like(image[:1], 255)])
    plain = fit_palette(image, 6, weights=weights)
    torch.testing.assert_close(fit_palette(opaque, 6, weights=weights)[:, :3], plain)
    assert not torch.equal(plain, fit_palette(image, 6))


@pytest.mark.parametrize("weight", [2.0**-140, 1e-38, 3e38])
def test_all_weights_alike_are_none(weight: float) -> None:
    image = picture(5)
    weights = torch.full(image.shape[1:], weight)
    assert torch.equal(fit_palette(image, 6, weights=weights), fit_palette(image, 6))


def test_default_dtype_and_device_change_nothing() -> None:
    image, mixed = picture(6), with_hole(6)
    opaque = torch.cat([image, torch.full_like(image[:1], 255)])
    few = few_colors(0, 4)

    def results() -> list[Tensor]:
        pictures = (image, image / 255, mixed, mixed / 255, opaque, few / 255)
        found = [fit_palette(given, 6) for given in pictures]
        found += [fit_palette(stream, 6) for stream in ([image, image], [image, mixed])]
        found.append(fit_palette(ColorHistogram().update([image, image / 255]), 6))
        found += [smallest_palette(given, 20) for given in (image, image / 255, mixed)]
        found += [frame.rgb for frame in quantize_frames([image, mixed], 6)]
        found += [match_palette(found[0], mixed), match_palette(found[2], image)]
        found.append(within_cluster_sum_of_squares(mixed, found[2]))
        found += [fit_palette(given, 6, bits=(3, 3, 2)) for given in (image, mixed, few)]
        gamut._table.cache_clear()
        found += [fit(mixed, found[0]) for fit in (gamut.fit_gamut, gamut.fit_lightness)]
        return [*found, *apply_palette(image, found[0], space="oklab")]

    expected = results()
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        found = results()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.mark.parametrize("space", list(SPACES))
def test_kept_colors_are_in_the_palette_and_the_rest_adapts(space: str) -> None:
    image = picture(4)
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
def test_a_colour_to_keep_counts_once(space: str) -> None:
    keep = torch.tensor([[1.0, 0.0, 1.0]])
    palette = fit_palette(picture(4), 6, space=space, keep=keep.repeat(3, 1))
    assert len(palette.unique(dim=0)) == 6
    assert torch.equal(palette, fit_palette(picture(4), 6, space=space, keep=keep))
    with pytest.raises(ValueError, match=r"\(J, 3\) for images of 3 channels, got \(1, 4\)"):
        fit_palette(picture(4), 6, keep=torch.ones(1, 4))


@pytest.mark.parametrize("space", list(SPACES))
def test_kept_colours_without_alpha_are_opaque(space: str) -> None:
    palette = fit_palette(with_hole(1), 5, space=space, keep=torch.tensor([[1.0, 0.0, 1.0]]))
    assert (palette == torch.tensor([1.0, 0, 1, 1])).all(1).any()
    assert (palette[:, 3] == 0).sum() == 1
    keep = torch.tensor([[0.0, 0, 0, 0], [1, 0, 1, 1]])
    own = fit_palette(with_hole(1), 5, space=space, keep=keep)  # it is transparent already
    assert (own[:, 3] == 0).sum() == 1


@pytest.mark.parametrize("function", [fit_palette, quantize_image])
def test_colours_to_keep_leave_room_for_the_transparent_one(function: Callable[..., Any]) -> None:
    white, image = torch.ones(1, 3), with_hole(1)
    with pytest.raises(ValueError, match=r"room for the transparent .* beside 1 colours to keep"):
        function(image, 1, keep=white)
    both = torch.cat([torch.zeros(1, 4), torch.ones(1, 4)])
    assert torch.equal(quantize_image(image, 2, keep=white).palette[:, 2:], both[:, 2:])
    assert torch.equal(fit_palette(image, 2, keep=both), both)
    assert torch.equal(fit_palette(image, 1, keep=both[:1]), both[:1])


def test_a_picture_of_nothing_has_one_transparent_colour() -> None:
    nothing = with_hole(0)[:, :4]
    for image in (nothing, nothing / 255):
        for found in (
            fit_palette(image, 7),
            fit_palette([image, image], 7),
            quantize_image(image, 7, dither="ordered").palette,
            quantize_frames([image, image], 7, dither="atkinson")[0].palette,
            smallest_palette(image, 40),
        ):
            assert found[:, 3].tolist() == [0]
    mixed = with_hole(0)
    with pytest.raises(ValueError, match="a vote"):
        fit_palette(mixed, 4, weights=torch.zeros(mixed.shape[1:]))
    weights = (mixed[3] > 0).float()
    assert (fit_palette(mixed, 4, weights=weights)[:, 3] == 0).sum() == 1


@given(
    st.integers(0, 10**6),
    st.integers(2, 16),
    st.sampled_from(list(DITHERS)),
    st.sampled_from(list(SPACES)),
    st.sampled_from([0.0, 0.3, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_opaque_stays_opaque_and_clear_clear(
    seed: int, count: int, dither: Dither, space: Space, softness: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(4, 9, 12, generator=generator)
    hard = torch.randint(2, (9, 12), generator=generator).float()
    is_soft = torch.rand(9, 12, generator=generator) < softness / 2
    image[3] = torch.where(is_soft, image[3].clamp(min=0.01), hard)
    image[3, 0, :2] = torch.tensor([0.0, 1.0])
    if softness == 1:
        image[:3] *= torch.rand(3, 1, 1, generator=generator)
    image = (image * 255).round().byte() if seed % 2 else image
    opaque, clear = image[3] == image.new_tensor(1) * (255 if seed % 2 else 1), image[3] == 0
    plain = quantize_image(image, count, space=space)
    drawn = apply_palette(image, plain.palette, space=space, dither=dither)
    assert (drawn.rgb[3, clear] == 0).all()
    assert (drawn.rgb[3, opaque] > 0).all()
    if count > 2 or softness == 0:
        assert (drawn.rgb[3, opaque] == image[3, opaque]).all()
    assert torch.equal(drawn.rgb[3] == 0, plain.rgb[3] == 0)  # no dither moves the outline


@pytest.mark.parametrize("space", list(SPACES))
@pytest.mark.parametrize("dither", list(DITHERS))
def test_opaque_colours_with_alpha_are_drawn_as_without(dither: Dither, space: Space) -> None:
    image = picture(7)
    palette = fit_palette(image, 8)
    with_clear = torch.cat([palette, torch.ones(8, 1)], 1)
    with_clear = torch.cat([with_clear, torch.tensor([[1.0, 0, 0, 0]])])
    expected = apply_palette(image, palette, space=space, dither=dither).indices
    for same in (image, torch.cat([image, torch.full_like(image[:1], 255)])):
        found = apply_palette(same, with_clear, space=space, dither=dither).indices
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["floyd-steinberg", "atkinson"])
def test_errors_do_not_cross_holes(name: Dither) -> None:
    image = torch.cat([torch.full((3, 12, 21), 0.5), torch.ones(1, 12, 21)])
    image[3, :, 9:12] = 0
    palette = torch.tensor([[0.0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    before = apply_palette(image, palette, dither=name).indices
    image[:3, :, :9] = torch.rand(3, 1, 1)
    image[:3, :, 9:12] = 1
    after = apply_palette(image, palette, dither=name).indices
    assert torch.equal(before[:, 9:], after[:, 9:])


def test_entries_become_opaque_where_it_costs_little() -> None:
    """A disc with a soft edge: nearly opaque means become opaque; the error hardly grows."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    alpha = ((20 - ((x - 23.5) ** 2 + (y - 23.5) ** 2).sqrt()) / 6 + 0.5).clamp(0, 1)
    image = torch.stack([0.95 - 0.25 * x / 48, 0.75 + 0.2 * y / 48, 0.3 + 0.3 * x / 48, alpha])
    for count in (2, 3, 4, 8, 16):
        result = quantize_image(image, count)
        assert (result.rgb[3, alpha == 1] == 1).all()
        seen = within_cluster_sum_of_squares(image, result.palette)
        free = torch.where(result.palette[:, 3:] == 1, 0.999 - 0.01 / count, result.palette[:, 3:])
        loose = torch.cat([result.palette[:, :3], free], 1)
        assert seen < 1.1 * within_cluster_sum_of_squares(image, loose)
    mostly_soft = image.clone()
    mostly_soft[3] = alpha * 0.6
    mostly_soft[3, :1] = 1
    alone = fit_palette(mostly_soft, 2)  # one is transparent, the other cannot be both
    assert 0 < alone[1, 3] < 1
    assert (fit_palette(mostly_soft, 3)[:, 3] == 1).sum() == 1


@pytest.mark.parametrize("space", list(SPACES))
def test_opaque_alpha_changes_nothing(space: str) -> None:
    image = picture(5)
    opaque = torch.cat([image, torch.full((1, 40, 50), 255, dtype=torch.uint8)])
    palette = fit_palette(opaque, 12, space=space)
    assert (palette[:, 3] == 1).all()
    torch.testing.assert_close(
        palette[:, :3], fit_palette(image, 12, space=space), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("space", list(SPACES))
def test_a_single_colour_is_that_of_the_opaque_pixels(space: str) -> None:
    image = with_hole(2)
    alone = fit_palette(image[:, 5:], 1, space=space)
    assert alone[:, 3].tolist() == [1]
    with pytest.warns(UserWarning, match="with two, one is transparent"):
        assert torch.equal(fit_palette(image, 1, space=space), alone)
    assert torch.equal(fit_palette(image, 2, space=space)[1:], alone)
    hidden = fit_palette(image[:, :5], 3, space=space)
    assert torch.equal(hidden, torch.tensor([[1.0, 1, 0, 0]]))


def test_transparent_pixels_do_not_vote_and_stay_transparent() -> None:
    image = picture(6, 4)
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
    image, palette = picture(7), fit_palette(picture(7), 8)
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
    image = picture(8)
    palette = image.flatten(1).T[::10].unique(dim=0)
    result = apply_palette(image, palette, space=space)
    for color in palette:
        there = (image == color[:, None, None]).all(0)
        assert (result.rgb[:, there] == color[:, None]).all()


def test_alpha_and_no_alpha_meet() -> None:
    image, palette = picture(9), torch.tensor([[0.0, 0, 0], [1, 1, 1]])
    with_alpha = torch.cat([palette, torch.tensor([[1.0], [1.0]])], dim=1)
    assert apply_palette(image, with_alpha).rgb.shape == (4, 40, 50)
    assert apply_palette(picture(9, 4), palette).palette.shape == (2, 4)
    assert torch.equal(
        apply_palette(image, with_alpha).indices, apply_palette(image, palette).indices
    )


def test_streams_batches_and_histograms_agree() -> None:
    images = torch.stack([picture(seed) for seed in range(4)])
    whole = images.permute(1, 0, 2, 3).flatten(1, 2)
    expected = fit_palette(whole, 8)
    assert torch.equal(fit_palette(images, 8), expected)
    assert torch.equal(fit_palette(iter(images), 8), expected)
    assert torch.equal(fit_palette([images[:2, :, :7], images[:2, :, 7:], images[2:]], 8), expected)
    from_cells = fit_palette(ColorHistogram().update(images), 8)
    cost = within_cluster_sum_of_squares(images, from_cells)
    assert cost < 1.02 * within_cluster_sum_of_squares(images, expected)


@pytest.mark.parametrize("space", list(SPACES))
def test_large_pictures_are_drawn_by_parts(space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(3)
    palette = fit_palette(image, 8)
    for whole in (image, with_hole(3)):
        monkeypatch.setattr(image_module, "CHUNK", 1 << 20)
        expected = apply_palette(whole, palette, space=space)
        monkeypatch.setattr(image_module, "CHUNK", 300)
        found = apply_palette(whole, palette, space=space)
        assert torch.equal(found.indices, expected.indices)


@pytest.mark.parametrize("effort", list(EFFORTS))
@pytest.mark.parametrize("space", list(SPACES))
def test_quantizing_is_fitting_and_applying(space: str, effort: str) -> None:
    image = picture(0) / 255
    keep = torch.tensor([[1.0, 0.0, 1.0]])
    for options in ({"seed": 0}, {"seed": 7}, {"keep": keep}):
        palette = fit_palette(image, 24, space=space, effort=effort, **options)
        expected = apply_palette(image, palette, space=space, dither="ordered", strength=0.7)
        found = quantize_image(
            image, 24, space=space, effort=effort, dither="ordered", strength=0.7, **options
        )
        assert_same(found, expected)


@pytest.mark.parametrize("space", list(SPACES))
def test_frames_share_a_palette(space: str) -> None:
    frames = torch.stack([picture(seed) for seed in range(3)])
    palette = (fit_palette(frames, 12, space=space) * 255).round() / 255
    for several in (frames, list(frames)):
        found = quantize_frames(several, 12, space=space, dither="atkinson")
        for frame, result in zip(frames, found, strict=True):
            expected = apply_palette(frame, palette, space=space, dither="atkinson")
            assert_same(result, expected)


def test_frames_differ_in_size_alpha_and_dtype() -> None:
    opaque, mixed = few_colors(0, 4), few_colors(1, 5, 4)
    mixed[3] = 255
    mixed[:, :, :20] = 0
    frames = [opaque, mixed, opaque[:, :, :9]]
    distinct = len(torch.cat([opaque, mixed[:3]], dim=2)[:, 0].T.unique(dim=0)) + 1
    found = quantize_frames(frames, distinct)
    for frame, result in zip(frames, found, strict=True):
        assert torch.equal(result.rgb[: frame.shape[0]], frame)
        assert (result.rgb[3] == 255).sum() == (mixed[3] == 255).sum() or frame.shape[0] == 3
        assert torch.equal(result.palette, found[0].palette)
    assert (found[0].palette[:, 3] == 0).sum() == 1
    floats = quantize_frames([opaque / 255, mixed], distinct)
    assert torch.equal(floats[1].rgb, mixed)
    assert torch.equal(floats[0].rgb[:3], opaque / 255)
    assert len(quantize_frames(frames, 3, keep=torch.ones(1, 3))[0].palette) == 3


@pytest.mark.parametrize("space", list(SPACES))
def test_frames_share_the_smallest_palette(space: str) -> None:
    frames = [picture(10), picture(11, height=20)]
    whole = torch.cat([frame.flatten(1) for frame in frames], dim=1)[:, None]
    palette = smallest_palette(frames, 24, space=space)
    assert torch.equal(palette, smallest_palette(whole, 24, space=space))
    assert psnr_of(whole, palette, space) >= 24


def test_a_palette_is_matched_to_the_picture() -> None:
    opaque, mixed = picture(0), with_hole(0)
    plain = torch.tensor([[0.0, 0.5, 1.0], [1.0, 0.0, 0.0]])
    ones = torch.ones(2, 1)
    assert torch.equal(match_palette(plain, opaque), plain)
    assert torch.equal(match_palette((plain * 255).to(torch.uint8)[1:], opaque), plain[1:])
    assert torch.equal(match_palette(plain, mixed[:, 5:]), torch.cat([plain, ones], dim=1))
    with_clear = match_palette(plain, mixed)
    assert torch.equal(with_clear, torch.cat([torch.cat([plain, ones], 1), torch.zeros(1, 4)]))
    for picture_or_frames in (mixed, opaque, [opaque, mixed], mixed[None]):
        assert torch.equal(match_palette(with_clear, picture_or_frames), with_clear)
    assert torch.equal(match_palette(plain, [opaque, mixed]), with_clear)
    assert torch.equal(match_palette(with_clear[:2], mixed), with_clear)
    with pytest.raises(ValueError, match="visible colour"):
        match_palette(with_clear[2:], opaque)


@pytest.mark.parametrize("place", [0, 2, 4])
def test_an_index_is_the_colour_of_the_palette_given(place: int) -> None:
    """With a transparent colour anywhere or none, for pictures with and without holes."""
    palette = torch.cat([few_colors(3, 5)[:, 0, :5].T / 255, torch.ones(5, 1)], 1)
    palette[place] = torch.tensor([1.0, 0.0, 1.0, 0.0])
    indices = torch.tensor([[i for i in range(5) if i != place] * 2])
    image = palette[indices].movedim(-1, 0)
    for drawn in (image, image[:3], (image * 255).round().byte()):
        matched = match_palette(palette, drawn)
        assert torch.equal(matched, palette)
        assert torch.equal(apply_palette(drawn, matched).indices, indices)
    image[3, 0, :2] = 0
    assert apply_palette(image, palette).indices[0, :2].tolist() == [place] * 2
    others = palette[palette[:, 3] > 0, :3]
    added = apply_palette(image, match_palette(others, image))
    assert added.indices[0].tolist() == [4, 4, 2, 3, 0, 1, 2, 3]
    assert torch.equal(added.palette[:4, :3], others)


def test_a_full_palette_gives_its_least_used_colour_for_the_transparent_one() -> None:
    palette = torch.tensor([[0, 0, 0], [255, 0, 0], [0, 0, 255], [255, 255, 255]]).byte()
    indices = torch.tensor([[0, 0, 1, 2, 3, 3]])
    image = torch.cat([palette[indices].movedim(-1, 0), torch.full((1, 1, 6), 255).byte()])
    assert len(match_palette(palette, image, most=4)) == 4
    image[3, 0, 0] = 0  # each of 0, 1 and 2 is used once now
    with pytest.warns(UserWarning, match=r"colour 2 of the palette, #0000ff, gives its place"):
        matched = match_palette(palette, [(image, 50.0), (image, 50.0)], most=4)
    assert (matched * 255)[:, 2:].tolist() == [[0, 255], [0, 255], [0, 0], [255, 255]]
    assert len(match_palette(palette, image, most=5)) == 5
    assert len(match_palette(palette, image, most=3)) == 5  # no file of so few colours anyway
    with pytest.raises(TypeError, match="frames that are there twice, got generator"):
        match_palette(palette, (frame for frame in [image]), most=4)
    with pytest.raises(ValueError, match="at least one image, got none"):
        match_palette(palette, [])
    assert len(match_palette(palette[:1], image, most=1)) == 2  # what can be seen stays


def test_streams_are_exact_and_may_mix_alpha() -> None:
    black = [torch.full((3, 4, 4), value, dtype=torch.uint8) for value in (0, 1)]
    assert (fit_palette(black, 4) * 255).tolist() == [[0, 0, 0], [1, 1, 1]]
    opaque, mixed = picture(0), with_hole(1)
    for stream in ([opaque, mixed], [mixed, opaque], iter([opaque, mixed])):
        palette = fit_palette(stream, 5)
        assert (palette[:, 3] == 0).sum() == 1
        assert (palette[:, 3] == 1).sum() == 4
    alike = torch.cat([opaque, torch.full_like(opaque[:1], 255)])
    assert torch.equal(fit_palette([mixed, opaque], 5), fit_palette([mixed, alike], 5))
    whole = torch.cat([mixed, alike], dim=1)
    assert torch.equal(fit_palette([mixed, opaque], 5), fit_palette(whole, 5))
    assert torch.equal(fit_palette([(opaque, 7), [opaque, 8]], 5), fit_palette([opaque] * 2, 5))


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("space", list(SPACES))
@pytest.mark.parametrize("of_bytes", [True, False])
def test_smallest_palette(space: str, alpha: bool, of_bytes: bool) -> None:
    image = picture(10, height=20, width=30)
    if alpha:
        image = torch.cat([image, image[:1] // 2 + 127])
    image = image if of_bytes else image / 255
    for least in (15, 24):
        palette = smallest_palette(image, least, space=space)
        assert psnr_of(image, palette, space) >= least - 1e-4
        assert not of_bytes or torch.equal(palette, (palette * 255).round() / 255)
        smaller = fit_palette(image, len(palette) - 1, space=space)
        smaller = (smaller * 255).round() / 255 if of_bytes else smaller
        assert psnr_of(image, smaller, space) < least + 1e-4
    assert len(smallest_palette(image, -5.0, space=space)) == 1


def test_the_smallest_palette_has_a_largest() -> None:
    image = picture(10, height=20, width=30)
    best = psnr_of(image, (fit_palette(image, 12) * 255).round() / 255)
    reached = rf"12 colours reach {best:.1f} dB, not 50: .* more than 12 \(--min-psnr, -k\)"
    with pytest.raises(ValueError, match=reached):
        smallest_palette(image, 50, max_colors=12)
    assert len(smallest_palette(image, best - 0.01, max_colors=12)) <= 12
    expected = smallest_palette(image, best - 2)
    assert torch.equal(smallest_palette(image, best - 2, max_colors=200), expected)


def test_the_smallest_palette_of_a_stream_and_of_a_histogram() -> None:
    frames = [picture(seed, height=20, width=30) for seed in (10, 11)]
    expected = smallest_palette(frames, 24)
    assert torch.equal(smallest_palette(iter(frames), 24), expected)
    histogram = ColorHistogram().update(frames)
    found = smallest_palette(histogram, 24)
    assert abs(len(found) - len(expected)) <= 2
    assert histogram.distortion(found) <= 10**-2.4
    with pytest.raises(ValueError, match="colours reach"):
        smallest_palette(histogram, 70, max_colors=10**6)  # that of its cells is not 0
    holes = smallest_palette(with_hole(1), 5)
    assert holes[:, 3].tolist() == [0, 1]


@pytest.mark.parametrize("of_bytes", [True, False])
def test_the_smallest_palette_counts_pixels_not_colours(of_bytes: bool) -> None:
    image = torch.cat([torch.zeros(990), torch.linspace(0.1, 1, 10)]).expand(3, 1, 1000)
    image = (image * 255).to(torch.uint8) if of_bytes else image
    reached = [psnr_of(image, fit_palette(image, count)) >= 25 for count in range(1, 11)]
    assert len(smallest_palette(image, 25.0)) == reached.index(True) + 1


def test_the_smallest_palette_reaches_infinity() -> None:
    floats = torch.tensor([0.5, 0.5005, 0.501]).expand(3, 1, 3)
    for least, count in ((60, 1), (90, 3), (math.inf, 3)):
        palette = smallest_palette(floats, least)
        assert len(palette) == count
        assert psnr_of(floats, palette) >= least
    # One byte of two colours far apart, and two bytes of colours that are nearly the same.
    levels = torch.tensor([49.6, 50.4, 100.45, 100.55]).expand(3, 1, 4)
    assert len(smallest_palette(levels / 255, 65)) == 3
    exact = smallest_palette(few_colors(1, 9), float("inf"))
    assert len(exact) == len(few_colors(1, 9).flatten(1).T.unique(dim=0))


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
        (lambda x: fit_palette(x, 4, weights=1 / torch.zeros(40, 50)), ValueError, "are finite"),
        (lambda x: fit_palette([x], 4, weights=torch.ones(40, 50)), ValueError, "40 weights for 1"),
        (lambda x: fit_palette(x, 4, weights=[1]), TypeError, "weights as a tensor.*got list"),
        (lambda x: fit_palette(x, 4.0), TypeError, r"num_colors as a whole number, got 4\.0"),
        (lambda x: fit_palette(x, True), TypeError, "num_colors as a whole number, got True"),
        (lambda x: fit_palette(x, "4"), TypeError, "num_colors as a whole number, got '4'"),
        (lambda x: fit_palette(x.numpy(), 4), TypeError, r"got ndarray; torch\.from_numpy"),
        (lambda x: fit_palette("x.png", 4), TypeError, r"got str; load_image\(path\)"),
        (lambda x: fit_palette({"x": x}, 4), TypeError, "got dict"),
        (lambda x: apply_palette(Image.new("RGB", (2, 2)), x), TypeError, r"load_image\(path\)"),
        (lambda x: apply_palette(x, "pico-8"), TypeError, r"got str.*load_palette\(path\)"),
        (lambda x: quantize_image([x], 4), TypeError, "got list"),
        (lambda x: quantize_frames([], 4), ValueError, "at least one image, got none"),
        (lambda x: quantize_frames([x[None]], 4), ValueError, "one image"),
        (lambda x: quantize_frames("x.png", 4), TypeError, r"got str; load_image\(path\)"),
        (lambda x: smallest_palette(x * torch.nan, 20), ValueError, "one finite pixel"),
        (lambda x: match_palette(x, x), ValueError, r"\(K, 3\) or \(K, 4\), got \(3, 40, 50\)"),
        (lambda x: fit_palette(x, 1, keep=torch.rand(2, 3)), ValueError, "at most 1.*got 2"),
        (lambda x: fit_palette(x, 4, keep=torch.rand(3)), ValueError, r"\(3,\)"),
        (lambda x: fit_palette([], 4), ValueError, "at least one"),
        (lambda x: fit_palette(["x.png"], 4), TypeError, "str"),
        (lambda x: fit_palette(ColorHistogram(), 4), ValueError, "at least one pixel"),
        (lambda x: fit_palette(x.float() * torch.nan, 4), ValueError, "at least one pixel"),
        (lambda x: apply_palette(x, torch.rand(2, 3), dither="noise"), ValueError, "noise"),
        (lambda x: apply_palette(x, torch.rand(2, 3), strength=2), ValueError, "got 2"),
        (lambda x: apply_palette(x, torch.rand(2, 5)), ValueError, r"\(2, 5\)"),
        (lambda x: apply_palette(x, torch.rand(2, 3) + 1), ValueError, r"in \[0, 1\]"),
        (lambda x: match_palette(torch.rand(2, 3), x[:2]), ValueError, "one image"),
        (lambda x: match_palette(torch.rand(2, 3), x, space="hsv"), ValueError, "hsv"),
        (
            lambda x: fit_palette(x, 4, seed=-1),
            ValueError,
            r"a seed from 0 to 2 \*\* 64 - 1, got -1",
        ),
        (lambda x: quantize_image(x, 4, seed=1 << 64), ValueError, "seed from 0 to"),
        (
            lambda x: smallest_palette(x, 20, seed=1.0),
            TypeError,
            r"seed as a whole number, got 1\.0",
        ),
        (lambda x: smallest_palette(x, 20, max_colors=0), ValueError, "max_colors of at least 1"),
        (lambda x: fit_palette(x.to("meta"), 4), ValueError, "images with values, got .* meta"),
        (lambda x: quantize_image(x.to_sparse(), 4), ValueError, r"dense tensor.*\.to_dense\(\)"),
        (lambda x: apply_palette(x, torch.rand(2, 3, device="meta")), ValueError, "on the meta"),
        (lambda x: quantize_frames([x.to("meta")], 4), ValueError, "on the meta device"),
        (lambda x: smallest_palette(x.to_sparse(), 4), ValueError, "dense tensor"),
        (lambda x: apply_palette(x, torch.eye(3).to_sparse()), ValueError, "palette as a dense"),
        (lambda x: smallest_palette(x, float("nan")), ValueError, "nan"),
        (lambda x: within_cluster_sum_of_squares(x, torch.rand(2, 4)), ValueError, r"\(2, 4\)"),
    ],
)
def test_bad_input_is_named(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(picture(0))  # type: ignore[operator]


@pytest.mark.parametrize("function", [quantize_image, fit_palette, smallest_palette])
@pytest.mark.parametrize(
    ("image", "error", "remedy"),
    [
        (Image.new("RGB", (4, 5)), TypeError, "torch.from_numpy(numpy.array(image)).movedim"),
        (np.zeros((4, 5, 3), np.uint8), TypeError, "torch.from_numpy(array).movedim(-1, -3)"),
        ({"image": torch.zeros(3, 4, 5)}, TypeError, 'such as batch["image"]'),
        ("a.png", TypeError, "load_image(path)"),
        (torch.zeros(6, 5, 3), ValueError, "images.movedim(-1, -3) puts the channels first"),
        (torch.zeros(1, 4, 5), ValueError, "images.expand(3, -1, -1) makes colours"),
        (torch.zeros(4, 5), ValueError, "images.expand(3, -1, -1) makes colours"),
        (torch.zeros(2, 1, 4, 5), ValueError, "expand("),
        (torch.zeros(2, 7, 3, 4, 5), ValueError, "images.flatten(0, 1) makes images"),
        (torch.arange(8.0), ValueError, "of (images, labels), give the images alone"),
    ],
)
def test_a_refusal_says_what_to_do(
    function: Any, image: Any, error: type[Exception], remedy: str
) -> None:
    with pytest.raises(error, match=re.escape(remedy)):
        function(image, 4)


def test_the_remedies_work() -> None:
    photo = np.array(Image.new("RGB", (5, 4), (9, 20, 30)))
    image = torch.from_numpy(photo).movedim(-1, -3)
    assert image.shape == (3, 4, 5)
    greys, film = torch.rand(2, 1, 4, 5), torch.rand(2, 7, 3, 4, 5)
    for images in (
        image,
        greys.expand(-1, 3, -1, -1),
        greys[0].expand(3, -1, -1),
        greys[0, 0].expand(3, -1, -1),
        film.flatten(0, 1),
        greys.expand(-1, 4, -1, -1)[..., :3, :, :],
    ):
        assert quantize_image(images, 2).palette.shape[1] == 3
    with pytest.raises(ValueError, match=re.escape("images[..., :3, :, :] leaves alpha out")):
        ColorHistogram().update(torch.rand(4, 4, 5))


@pytest.mark.parametrize("dither", ["none", "ordered", "floyd-steinberg", "atkinson"])
@pytest.mark.parametrize("space", ["rgb", "oklab"])
@pytest.mark.parametrize("channels", [3, 4])
def test_each_image_of_a_batch_is_drawn_as_it_is_alone(
    dither: Dither, space: Space, channels: int
) -> None:
    images = torch.stack([picture(seed, channels, 9, 14) for seed in range(3)])
    palette = torch.stack(list(picture(9, channels, 1, 7).flatten(1).T))
    for batch in (images, images / 255, images.movedim(1, -1).contiguous().movedim(-1, 1)):
        drawn = apply_palette(batch, palette, space=space, dither=dither, strength=0.7)
        assert drawn.indices.shape == (3, 9, 14)
        assert drawn.rgb.dtype == batch.dtype
        for image, rgb, indices in zip(batch, drawn.rgb, drawn.indices, strict=True):
            alone = apply_palette(image, palette, space=space, dither=dither, strength=0.7)
            assert_same((rgb, indices, drawn.palette), alone)


def test_a_batch_has_one_palette() -> None:
    images = torch.stack([picture(seed) for seed in range(2)])
    found = quantize_image(images, 6, dither="atkinson", space="oklab", effort="fast", seed=3)
    expected = (fit_palette(images, 6, space="oklab", effort="fast", seed=3) * 255).round() / 255
    assert torch.equal(found.palette, expected)
    assert_same(found, apply_palette(images, expected, dither="atkinson", space="oklab"))
    assert quantize_image(images / 255, 6).rgb.shape == images.shape
    few = torch.stack([picture(seed) // 128 * 128 for seed in range(2)])
    assert torch.equal(quantize_image(few, 8).rgb, few)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (3, 0, 5)])
@pytest.mark.parametrize("dither", ["none", "atkinson"])
def test_batches_without_pixels_are_drawn(shape: tuple[int, ...], dither: Dither) -> None:
    drawn = apply_palette(torch.zeros(shape), torch.zeros(2, 3), dither=dither)
    assert drawn.rgb.shape == shape
    assert drawn.indices.shape == (*shape[:-3], *shape[-2:])


def unread() -> Iterator[Tensor]:
    """A stream that must not be touched."""
    raise AssertionError("read before the arguments were checked")
    yield


WRONG = [
    ({"num_colors": 0}, "num_colors"),
    ({"space": "hsv"}, "hsv"),
    ({"effort": "max"}, "max"),
    ({"keep": torch.rand(3)}, "colours to keep"),
    ({"keep": torch.rand(9, 3)}, "at most 4 colours to keep, got 9"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), [*WRONG, ({"weights": 0.5}, "iterable of weights")]
)
def test_arguments_are_checked_before_a_stream_is_read(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        fit_palette(unread(), **{"num_colors": 4, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        *((quantize_image, *case) for case in WRONG),
        (quantize_image, {"dither": "noise"}, "noise"),
        (quantize_image, {"strength": 2}, "strength from 0 to 1"),
        (quantize_frames, {"dither": "noise"}, "noise"),
        (smallest_palette, {"space": "hsv"}, "hsv"),
        (smallest_palette, {"effort": "max"}, "max"),
        (smallest_palette, {"min_psnr": math.nan}, "min_psnr"),
    ],
)
def test_arguments_are_checked_before_pixels_are_counted(
    function: Callable[..., object], arguments: dict[str, object], message: str
) -> None:
    nothing = torch.full((3, 4, 4), torch.nan)  # which is refused, too, but later
    count = {"min_psnr": 20} if function is smallest_palette else {"num_colors": 4}
    given = [nothing] if function is quantize_frames else nothing
    with pytest.raises(ValueError, match=message):
        function(given, **{**count, **arguments})


@pytest.mark.parametrize("number", [np.int64(5), np.uint8(5), torch.tensor(5)])
def test_a_number_of_any_library_will_do(number: int) -> None:
    image = picture(0)
    assert torch.equal(fit_palette(image, number), fit_palette(image, 5))
    assert torch.equal(quantize_image(image, number).rgb, quantize_image(image, 5).rgb)


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


@pytest.mark.parametrize(
    "work",
    [
        lambda image: fit_palette(image, 4),
        lambda image: fit_palette([image, image], 4),
        lambda image: smallest_palette(image, 10),
        lambda image: apply_palette(image, PALETTE),
        lambda image: within_cluster_sum_of_squares(image, PALETTE),
        lambda image: ColorHistogram().update(image),
        lambda image: ColorHistogram().update([image, image]),
    ],
)
def test_floats_of_0_to_255_are_told_of_once_a_line(work: Callable[[Tensor], object]) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for seed in range(3):
            work(random(3, 8, 8, seed=seed))
            work(random(3, 8, 8, seed=seed).mul(255).byte())
        assert not told
        for seed in range(3):
            work(255 * random(3, 8, 8, seed=seed))
    [warning] = told
    assert re.search(r"outside of \[0, 1\] .* or give them as uint8", str(warning.message))
    assert warning.filename in (__file__, histogram.__file__)  # which reads a stream


def test_an_image_of_0_to_255_is_told_of_when_it_is_quantized() -> None:
    with pytest.warns(UserWarning, match=r"outside of \[0, 1\] .* or give them as uint8"):
        quantize_image(255 * random(3, 8, 8), 4)


def test_a_histogram_looks_at_its_first_floats_only() -> None:
    histogram = ColorHistogram().update(random(3, 8, 8).mul(255).byte())
    with pytest.warns(UserWarning, match=r"outside of \[0, 1\]"):
        histogram.update(255 * random(3, 8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        histogram.update(255 * random(3, 8, 8))


@pytest.mark.parametrize("dither", ["none", "floyd-steinberg"])
def test_a_device_has_its_own_colours_and_the_same_indices(dither):
    measured, device = load_panel("spectra6")
    image = picture(0)
    seen = apply_palette(image, measured, dither=dither)
    written = apply_palette(image, measured, dither=dither, device=device)
    assert written.indices.equal(seen.indices)
    assert written.palette.equal(device)
    assert written.rgb.equal((device[seen.indices] * 255).round().to(torch.uint8).movedim(-1, 0))
    batch = apply_palette(image[None].float() / 255, measured, dither=dither, device=device)
    assert batch.rgb.equal(device[batch.indices].movedim(-1, 1))


def test_what_is_clear_in_a_palette_is_clear_on_the_device():
    image = picture(0, channels=4)
    image[3] = 255
    image[3, :10] = 0
    measured, device = load_panel("epaper-bwry")
    palette = match_palette(measured, image)
    written = apply_palette(image, palette, device=device)
    assert written.palette.tolist() == [[*row, 1.0] for row in device.tolist()] + [[0.0] * 4]
    assert ((written.rgb[3] == 0) == (image[3] == 0)).all()


def test_a_clear_colour_at_any_place_is_clear_on_the_device():
    palette = torch.tensor([[0.2, 0.2, 0.2, 1], [0, 0, 0, 0], [0.7, 0.7, 0.7, 1]])
    device = torch.tensor([[0.0] * 3, [0.5] * 3, [1.0] * 3])
    image = torch.tensor([[1.0, 0, 1]]).expand(4, 1, 3)
    written = apply_palette(image, palette, device=device)
    assert written.palette.tolist() == [[0.0, 0, 0, 1], [0.0] * 4, [1.0, 1, 1, 1]]
    assert written.rgb.unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        (torch.zeros(3, 3), ValueError, "as many colours of a device as the palette has, 4, got 3"),
        (torch.full((4, 3), 2.0), ValueError, "colours of a device in"),
        (torch.zeros(4, 2), ValueError, "colours of a device"),
        (torch.zeros(4, 3, dtype=torch.int64), TypeError, "colours of a device of uint8"),
        ([[0.0, 0.0, 0.0]], TypeError, "colours of a device as a tensor"),
    ],
)
def test_colours_of_a_device_that_are_none(device, error, message):
    with pytest.raises(error, match=message):
        apply_palette(picture(0), torch.eye(4)[:, :3], device=device)


def moving_object(frames: int = 3) -> list[Tensor]:
    """A disc that moves over a still, noisy background."""
    generator = torch.Generator().manual_seed(0)
    background = torch.rand(3, 40, 48, generator=generator) * 0.3 + 0.3
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(48), indexing="ij")
    pictures = []
    for i in range(frames):
        disc = (rows - 20) ** 2 + (columns - 14 - 8 * i) ** 2 < 64
        pictures.append(torch.where(disc, torch.tensor([0.9, 0.6, 0.2])[:, None, None], background))
    return pictures


@pytest.mark.parametrize("dither", list(DITHERS))
def test_still_pixels_of_an_animation_do_not_flicker(dither: Dither) -> None:
    frames = moving_object()
    drawn = quantize_frames(frames, 6, dither=dither, effort="fast")
    for place in range(1, len(frames)):
        still = (frames[place] == frames[place - 1]).all(0)
        assert 0.5 < still.double().mean() < 1
        assert torch.equal(drawn[place].indices[still], drawn[place - 1].indices[still])
    # What moves is dithered: its mean light is that of the disc.
    palette = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]])
    *_, last = draw_frames(frames, palette, dither=dither)
    disc = (frames[-1] == torch.tensor([0.9, 0.6, 0.2])[:, None, None]).all(0)
    light = rgb_to_linear(last.rgb[:, disc].T).mean(0)
    expected = rgb_to_linear(torch.tensor([0.9, 0.6, 0.2]))
    if dither not in ("none", "atkinson", "auto"):
        assert (light - expected)[:2].abs().max() < 0.15
    first = next(draw_frames(frames, palette, dither=dither))
    assert_same(first, apply_palette(frames[0], palette, dither=dither))


def test_nothing_is_kept_of_a_frame_of_another_kind() -> None:
    frame = (moving_object(1)[0] * 255).to(torch.uint8)
    palette = torch.tensor([[0.0, 0, 0, 1], [1, 0, 0, 1], [1, 1, 0, 1], [1, 1, 1, 1]])
    opaque = torch.cat([frame, torch.full_like(frame[:1], 255)])
    frames = [frame, frame[:, :30], opaque[:, :30], opaque, opaque.float() / 255]
    drawn = list(draw_frames(frames, palette, dither="stucki"))
    for its, result in zip(frames, drawn, strict=True):
        assert_same(result, apply_palette(its, palette, dither="stucki"))


@pytest.mark.parametrize("dither", ["none", "bayer"])
def test_frames_may_come_in_the_same_memory_one_after_the_other(dither: Dither) -> None:
    memory = torch.empty(3, 8, 8)
    levels = (memory.fill_(level) for level in (0.0, 1.0, 0.0))
    means = []
    for drawn in draw_frames(levels, torch.tensor([[0.0] * 3, [1.0] * 3]), dither=dither):
        means.append(float(drawn.indices.double().mean()))
        drawn.indices.fill_(1)  # they are the caller's
    assert means == [0, 1, 0]


def test_what_changes_its_opacity_or_its_scale_is_not_still() -> None:
    palette = torch.tensor([[0.0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    white = torch.full((4, 8, 8), 255, dtype=torch.uint8)
    clear = white.clone()
    clear[3] = 0
    for frames, index in (([white, clear], 2), ([torch.ones_like(white), torch.ones(4, 8, 8)], 1)):
        *_, last = draw_frames(frames, palette, dither="bayer")
        assert (last.indices == index).all()
