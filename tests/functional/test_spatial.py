"""Palette and dots together, against the objective written down in float64."""

import numpy as np
import pytest
import torch

from colorquant_nn import (
    apply_palette,
    fit_palette,
    kernels,
    quantize_frames,
    quantize_image,
    spatial_palette,
)
from colorquant_nn.functional import eye_error
from colorquant_nn.functional import spatial as module
from colorquant_nn.functional.dither import nearest
from colorquant_nn.functional.fitting import round_to_bytes
from colorquant_nn.functional.grid import round_to_grid
from colorquant_nn.functional.spatial import couple, sample, spatial
from tests.helpers import assert_same, random
from tests.helpers import picture as byte_picture
from tests.oracles import srgb_to_linear

TO_AXES = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]]
) @ np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]]
)  # fmt: skip
BLACK_AND_WHITE = torch.tensor([[0.0] * 3, [1.0] * 3])


def picture(*arguments, **sizes):
    return byte_picture(*arguments, **sizes) / 255


def blurs(strength):
    """h of each of three axes, (5, 5)."""
    places = np.arange(-2, 3)
    lines = [np.exp(-0.5 * (places / (spread * strength)) ** 2) for spread in (0.8, 1.4, 1.4)]
    return [np.outer(line, line) / line.sum() ** 2 for line in lines]


def spread_out(values, blur):
    """The whole convolution of (H, W) with (5, 5)."""
    height, width = values.shape
    total = np.zeros((height + 4, width + 4))
    for y in range(5):
        for x in range(5):
            total[y : y + height, x : x + width] += blur[y, x] * values
    return total


def slopes(pixels):
    """w of each pixel."""
    local = srgb_to_linear(pixels) @ [0.2126, 0.7152, 0.0722]
    for _ in range(2):  # down, and across
        apart = np.abs(np.subtract.outer(range(len(local)), range(len(local))))
        near = np.exp(-0.5 * apart**2.0) * (apart <= 3)
        local = (near @ local / near.sum(1)[:, None]).T
    return (local + 0.01) ** (-2 / 3) / 3


def error_of(pixels, palette, indices, strength=1.0):
    """E, and e of each axis."""
    errors = (srgb_to_linear(palette)[indices] - srgb_to_linear(pixels)) @ TO_AXES.T
    errors *= slopes(pixels)[..., None]
    seen = [spread_out(errors[..., axis], blur) for axis, blur in enumerate(blurs(strength))]
    return sum((part**2).sum() for part in seen)


def problem(seed=0, colors=5, height=18, width=21):
    pixels = picture(seed, height=height, width=width).permute(1, 2, 0).contiguous()
    palette = torch.rand(colors, 3, generator=torch.Generator().manual_seed(seed))
    return pixels, palette


def prepared(pixels, palette, strength=1.0):
    coupling = couple(strength)
    target = module._target(pixels, palette, coupling, "oklab")
    colors = module._on_axes(module._light(palette), coupling)
    return coupling, target, colors, module._undecided(target, coupling)


def test_the_response_gives_the_error_as_it_is_defined():
    pixels, palette = problem()
    coupling, target, colors, dots = prepared(pixels, palette)
    kernels.sweep_dots(target, colors, coupling.blur, dots)
    expected = error_of(pixels.numpy(), palette.numpy(), dots.indices.numpy())
    errors = target.weights[..., None] * (colors[dots.indices.long()] - target.points)
    for response in (
        dots.response,  # as it was kept up to date
        kernels.blur_errors(target, colors, coupling.blur, dots.indices),
    ):
        found = (errors * response[4:-4, 4:-4]).sum()
        assert found == pytest.approx(expected, rel=1e-4)


def test_no_sweep_raises_the_error_and_at_the_end_no_other_color_of_a_pixel_would_lower_it():
    pixels, palette = problem(1)
    coupling, target, colors, dots = prepared(pixels, palette)
    before = np.inf
    while kernels.sweep_dots(target, colors, coupling.blur, dots):
        error = error_of(pixels.numpy(), palette.numpy(), dots.indices.numpy())
        assert error < before * (1 + 1e-6)
        before = error
    for row, column in ((0, 0), (7, 11), (17, 20), (9, 0)):
        for color in range(len(palette)):
            other = dots.indices.numpy().copy()
            other[row, column] = color
            assert error_of(pixels.numpy(), palette.numpy(), other) > before * (1 - 1e-6)


def test_a_sweep_is_the_argmin_over_all_colors_pixel_by_pixel():
    pixels, palette = problem(2, colors=9)
    coupling, target, colors, dots = prepared(pixels, palette)
    kernels.sweep_dots(target, colors, coupling.blur, dots)
    points, weights = target.points.double().numpy(), target.weights.double().numpy()
    rows, line = colors.double().numpy(), coupling.blur.double().numpy()
    coupling = line[:, None] * line
    response = np.zeros((18 + 8, 21 + 8, 4))
    for row in range(18):
        for column in range(21):
            near = response[row : row + 9, column : column + 9]
            changes = weights[row, column] * (rows - points[row, column])
            index = ((changes**2).sum(1) + 2 * (changes * near[4, 4]).sum(1)).argmin()
            assert dots.indices[row, column] == index
            near += coupling * changes[index]


def test_the_palette_step_solves_the_least_squares_of_the_design_matrix():
    pixels, palette = problem(3, colors=3)
    pixels, palette = 0.4 + 0.2 * pixels, 0.4 + 0.2 * palette  # so that no bound is met
    coupling, target, colors, dots = prepared(pixels, palette)
    kernels.sweep_dots(target, colors, coupling.blur, dots)
    indices = dots.indices.numpy()
    weights = slopes(pixels.numpy())
    points = srgb_to_linear(pixels) @ TO_AXES.T
    expected = np.empty((3, 3))
    for axis, blur in enumerate(blurs(1.0)):
        design = [spread_out(weights * (indices == index), blur).ravel() for index in range(3)]
        goal = spread_out(weights * points[..., axis], blur).ravel()
        expected[:, axis] = np.linalg.lstsq(np.stack(design, 1), goal)[0]
    matrix, gradient = kernels.couple_colors(
        target.weights, coupling.blur, dots.indices, dots.response, 3
    )
    light = module._light(palette).double()
    movable = torch.ones(3, dtype=torch.uint8)
    moved = kernels.move_colors(matrix, gradient, light, coupling.axes, movable, 1000)
    assert ((moved[:, :3] > 0.001) & (moved[:, :3] < 0.999)).all()
    assert np.allclose(moved[:, :3].numpy() @ TO_AXES.T, expected, atol=1e-4)


def test_bounds_are_those_of_the_cube_and_hold_where_the_best_lies_outside():
    generator = np.random.default_rng(0)
    root = generator.normal(size=(4, 5, 5))
    matrix = torch.from_numpy((root @ root.transpose(0, 2, 1)).transpose(1, 2, 0).copy())
    gradient = torch.from_numpy(generator.normal(size=(5, 4)) * 3)
    light = torch.cat([random(5, 3), torch.ones(5, 1)], 1).double()
    axes = couple().axes
    movable = torch.tensor([1, 0, 1, 1, 1], dtype=torch.uint8)
    moved = kernels.move_colors(matrix, gradient, light, axes, movable, 2000)
    assert torch.equal(moved[1], light[1])
    assert torch.equal(moved, moved.clamp(0, 1))
    change = (moved - light) @ axes.T
    slope = (gradient + torch.einsum("kla,la->ka", matrix, change)) @ axes
    for place in ((index, channel) for index in (0, 2, 3, 4) for channel in range(3)):
        value = moved[place]
        assert abs(slope[place]) < 1e-3 or (value == 0 and slope[place] > 0) or (
            value == 1 and slope[place] < 0
        )  # fmt: skip


def test_without_blur_the_two_steps_are_those_of_lloyd():
    pixels, palette = problem(4, colors=6)
    coupling, target, colors, dots = prepared(pixels, palette, 0.0)
    kernels.sweep_dots(target, colors, coupling.blur, dots)
    points = target.points.flatten(0, 1)
    nearest_ones = kernels.assign(points[None], colors[None])[0]
    assert torch.equal(dots.indices.flatten().long(), nearest_ones)
    matrix, gradient = kernels.couple_colors(
        target.weights, coupling.blur, dots.indices, dots.response, 6
    )
    moved = kernels.move_colors(
        matrix, gradient, module._light(palette), coupling.axes, torch.ones(6).byte(), 1000
    )
    weights = target.weights.flatten().double() ** 2
    light = srgb_to_linear(pixels).reshape(-1, 3)
    for index in nearest_ones.unique().tolist():
        own = (nearest_ones == index).numpy()
        mean = np.average(light[own], axis=0, weights=weights[own])
        assert moved[index, :3].numpy() == pytest.approx(mean, abs=1e-4)


def test_dots_do_not_depend_on_the_number_of_threads(threads):
    image = picture(5, height=150, width=200)
    threads(1)
    expected = quantize_image(image, 6, dither="spatial")
    for count in (2, 5):
        threads(count)
        assert_same(quantize_image(image, 6, dither="spatial"), expected)


def test_strength_zero_is_nearest_and_the_palette_stays():
    pixels, palette = problem(6)
    for space in ("rgb", "oklab"):
        assert torch.equal(spatial(pixels, palette, 0.0, space), nearest(pixels, palette, 1, space))
    image = pixels.permute(2, 0, 1)
    plain = quantize_image(image, 5)
    assert_same(quantize_image(image, 5, dither="spatial", strength=0.0), plain)


def test_with_strength_the_eye_sees_less_error_and_pixels_have_more():
    image = picture(7, height=64, width=64)
    pixels = image.permute(1, 2, 0).numpy()
    seen, own = [], []
    for strength in (0.0, 0.25, 0.5, 0.75, 1.0):
        result = quantize_image(image, 6, space="oklab", dither="spatial", strength=strength)
        seen.append(error_of(pixels, result.palette.numpy(), result.indices.numpy()))
        own.append(float((result.rgb - image).square().mean()))
    assert max(seen[3:]) < seen[2] < seen[1] < seen[0]
    assert own == sorted(own)


def test_palette_and_dots_together_are_better_than_dots_alone():
    image = picture(8, height=64, width=64)
    pixels = image.permute(1, 2, 0).numpy()
    palette = fit_palette(image, 6, space="oklab")
    moved = spatial_palette(image, palette)
    dots = [apply_palette(image, p, dither="spatial").indices.numpy() for p in (palette, moved)]
    before, after = (
        error_of(pixels, p.numpy(), d) for p, d in zip((palette, moved), dots, strict=True)
    )
    assert after < 0.6 * before


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_few_colors_come_back_as_they_were(dtype):
    colors = (random(4, 3, seed=9) * 255).round()
    image = colors[torch.arange(600).view(20, 30) * 7 % 4].permute(2, 0, 1)
    image = image.to(dtype) if dtype == torch.uint8 else image / 255
    assert torch.equal(quantize_image(image, 6, dither="spatial").rgb, image)
    assert torch.equal(quantize_image(image, 4, dither="spatial").rgb, image)


def test_a_flat_picture_between_two_colors_gets_their_mixture_of_light():
    dots = spatial(torch.full((64, 64, 3), 0.75), BLACK_AND_WHITE)
    assert float(dots.double().mean()) == pytest.approx(float(srgb_to_linear(0.75)), rel=0.06)


def test_kept_pixels_keep_their_index_and_the_others_make_up_for_it():
    pixels = torch.full((32, 32, 3), 0.735)  # half of the light
    kept = torch.full((32, 32), -1)
    kept[:, ::4] = 1
    dots = spatial(pixels, BLACK_AND_WHITE, kept=kept)
    assert (dots[:, ::4] == 1).all()
    assert float(dots.double().mean()) == pytest.approx(0.5, abs=0.05)
    assert float(spatial(pixels, BLACK_AND_WHITE, 0.0, kept=kept).double()[:, ::4].mean()) == 1


def test_kept_pixels_have_their_colors_beside_a_clear_one_too():
    palette = torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]])
    pixels = torch.tensor([0.735, 0.735, 0.735, 1]).expand(32, 32, 4)
    kept = torch.full((32, 32), -1)
    kept[:, ::4] = 1
    dots = spatial(pixels, palette, kept=kept)
    assert (dots[:, ::4] == 1).all()
    assert float((dots == 2).double().mean()) == pytest.approx(0.5, abs=0.05)


def test_clear_pixels_stay_clear_and_opaque_ones_take_opaque_colors():
    pixels = picture(10, 4, 40, 50).permute(1, 2, 0).contiguous()
    pixels[:12, :, 3], pixels[12:24, :, 3] = 0, 1
    palette = torch.cat([random(6, 3, seed=1), torch.tensor([[0.0, 1, 1, 1, 0.5, 0.6]]).T], 1)
    dots = spatial(pixels, palette, space="oklab")
    plain = nearest(pixels, palette, 1.0, "oklab")
    clear = palette[:, 3] == 0
    assert torch.equal(clear[dots], clear[plain])
    assert (palette[dots[12:24], 3] == 1).all()
    soft = palette[dots[24:], 3]
    assert float(soft.mean()) == pytest.approx(float(pixels[24:, :, 3].mean()), abs=0.08)
    pixels[:12, :, :3] = 0.123  # of what is clear, colours do not matter
    assert torch.equal(spatial(pixels, palette, space="oklab"), dots)


def test_palettes_with_alpha_stay_within_their_kind():
    image = picture(11, 4, 48, 48)
    image[3, :16], image[3, 16:32] = 0, 1
    palette = fit_palette(image, 8, space="oklab")
    moved = spatial_palette(image, palette)
    for kind in (0, 1):
        assert (moved[:, 3] == kind).sum() == (palette[:, 3] == kind).sum()
    assert torch.equal(moved, moved.clamp(0, 1))
    assert not torch.equal(moved, palette)


def test_colors_to_keep_are_there_and_all_others_move():
    image = picture(12)
    keep = torch.tensor([[255, 0, 255], [0, 0, 0]], dtype=torch.uint8)
    result = quantize_image(image, 6, dither="spatial", keep=keep)
    for color in keep / 255:
        assert (result.palette == color).all(1).any()
    palette = fit_palette(image, 6, keep=keep)
    moved = spatial_palette(image, palette, keep=keep)
    assert sum(bool((palette == row).all(1).any()) for row in moved) == 2
    opaque = torch.cat([keep, torch.full_like(keep[:, :1], 255)], 1)
    assert torch.equal(spatial_palette(image, palette, keep=opaque), moved)


def test_colors_that_no_dot_needs_are_put_to_use():
    image = torch.linspace(0.42, 0.58, 60).expand(3, 40, 60)
    palette = torch.tensor([[0.42] * 3, [0.58] * 3, [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    moved = spatial_palette(image, palette)
    result = apply_palette(image, moved, dither="spatial")
    assert len(result.indices.unique()) == 4
    of_two = spatial_palette(image, palette[:2])
    errors = [
        eye_error(apply_palette(image, colors, dither="spatial").rgb, image)
        for colors in (moved, of_two)
    ]
    assert errors[0] < 0.7 * errors[1]


def test_equal_colors_part():
    image = torch.linspace(0.1, 0.9, 60).expand(3, 40, 60)
    palette = torch.tensor([[0.2, 0.2, 0.2], [0.7, 0.7, 0.7], [0.7, 0.7, 0.7]])
    moved = spatial_palette(image, palette)
    assert not (moved == palette[2]).all(1).any()
    assert len(apply_palette(image, moved, dither="spatial").indices.unique()) == 3


@pytest.mark.parametrize("bits", [(1, 1, 1), (2, 3, 2), (5, 6, 5)])
@pytest.mark.parametrize("channels", [3, 4])
def test_colors_are_those_of_a_display_and_no_two_are_one(bits, channels):
    image = picture(20, channels, 40, 40)
    if channels == 4:
        image[3, :10], image[3, 10:30] = 0, 1
    palette = fit_palette(image, 7, bits=bits)
    for strength in (0.0, 1.0):
        moved = spatial_palette(image, palette, bits=bits, strength=strength)
        assert torch.equal(round_to_grid(moved, bits), moved)
        assert len(moved.unique(dim=0)) == len(moved) == len(palette)
        assert torch.equal(moved, palette) or strength == 1


def test_the_best_colors_of_a_display_are_better_than_rounded_ones():
    image, bits = picture(21, height=48, width=48), (2, 2, 2)
    palette = fit_palette(image, 6)
    moved = spatial_palette(image, palette, bits=bits)
    rounded = round_to_grid(spatial_palette(image, palette), bits)
    errors = [
        eye_error(apply_palette(image, colors, dither="spatial").rgb, image)
        for colors in (moved, rounded)
    ]
    assert errors[0] < 0.9 * errors[1]


def test_colors_to_keep_are_those_of_the_display_and_stay():
    image, keep = picture(22), torch.tensor([[1.0, 0.0, 1.0]])
    palette = fit_palette(image, 5, keep=keep, bits=2)
    moved = spatial_palette(image, palette, keep=keep, bits=2)
    assert (moved == keep).all(1).any()
    assert len(moved.unique(dim=0)) == 5
    with pytest.raises(ValueError, match="nearest is #555555"):
        spatial_palette(image, palette, keep=torch.tensor([[0.3] * 3]), bits=2)


def test_fewer_colors_are_left_where_the_display_has_no_more_nearby():
    image = picture(23, height=24, width=24)
    palette = torch.cat([BLACK_AND_WHITE, random(12, 3, seed=2)])
    moved = spatial_palette(image, palette, bits=1)
    assert len(moved) == len(moved.unique(dim=0)) == 8


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 1, 40), (3, 40, 1), (4, 1, 1), (3, 9, 65)])
@pytest.mark.parametrize("colors", [1, 2, 5])
def test_pictures_of_any_shape(shape, colors):
    image = random(*shape, seed=3)
    result = quantize_image(image, colors, space="oklab", dither="spatial")
    assert result.rgb.shape == shape
    if shape[1] * shape[2] == 1:
        assert torch.equal(result.rgb, image)


def test_one_color_is_a_mean_of_light():
    image = torch.tensor([0.0, 1.0]).repeat(32).expand(3, 64, 64).contiguous()
    result = quantize_image(image, 1, dither="spatial")
    assert float(result.palette[0, 0]) == pytest.approx(0.735, abs=0.02)


def test_what_is_not_finite_has_no_vote_and_what_is_clear_has_none():
    image = picture(14)
    hurt = image.clone()
    hurt[0, :3, :4] = torch.nan
    palette = fit_palette(image, 5)
    moved = spatial_palette(hurt, palette)
    hurt[1, :3, :4] = 1
    assert torch.equal(spatial_palette(hurt, palette), moved)
    assert (quantize_image(hurt, 5, dither="spatial").indices >= 0).all()
    clear = torch.zeros(4, 9, 9)
    assert (quantize_image(clear, 3, dither="spatial").rgb == 0).all()


def test_frames_share_a_palette_that_is_moved_for_all():
    frames = [picture(seed, height=30, width=40) for seed in (15, 16)]
    results = quantize_frames(frames, 6, space="oklab", dither="spatial")
    palette = fit_palette(torch.stack(frames), 6, space="oklab")
    assert torch.equal(results[0].palette, spatial_palette(iter(frames), palette))
    assert torch.equal(results[0].palette, results[1].palette)


def test_bytes_stay_bytes():
    image = (picture(17) * 255).byte()
    palette = quantize_image(image, 5, dither="spatial").palette
    assert torch.equal(palette, round_to_bytes(palette))


def test_samples_are_spread_evenly_and_bounded(monkeypatch):
    monkeypatch.setattr(module, "TILES", 10)
    monkeypatch.setattr(module, "TILE", 8)
    image = torch.arange(64.0 * 80).view(1, 64, 80).expand(3, 64, 80)
    tiles = sample(image)
    assert len(tiles) == 10
    assert all(tile.shape == (8, 8, 3) for tile in tiles)
    corners = torch.tensor([float(tile[0, 0, 0]) for tile in tiles]).long()
    numbers = corners // 80 // 8 * 10 + corners % 80 // 8
    assert {int(gap) for gap in numbers.diff()} <= set(range(4, 15))
    assert_same(sample(part for part in image[None]), tiles)
    assert len(sample(image[:, :20, :32])) == 1


def test_a_palette_from_tiles_is_nearly_as_good_as_from_all(monkeypatch):
    image = picture(18, height=120, width=120)
    palette = fit_palette(image, 6, space="oklab")

    def error():
        moved = spatial_palette(image, palette)
        dots = apply_palette(image, moved, dither="spatial").indices
        return error_of(image.permute(1, 2, 0).numpy(), moved.numpy(), dots.numpy())

    whole = error()
    monkeypatch.setattr(module, "TILES", 8)
    monkeypatch.setattr(module, "TILE", 30)
    assert error() < 1.5 * whole


def test_tiles_of_an_atlas_do_not_see_each_other():
    pictures = [problem(seed, height=9 + seed, width=12)[0] for seed in range(3)]
    palette = random(4, 3)
    coupling = couple()
    targets = [module._target(pixels, palette, coupling, "oklab") for pixels in pictures]
    atlas = module._atlas(targets, 4)
    colors = module._on_axes(module._light(palette), coupling)
    together = module._undecided(atlas, coupling)
    kernels.sweep_dots(atlas, colors, coupling.blur, together)
    matrix, gradient = 0, 0
    for target in targets:
        dots = module._undecided(target, coupling)
        kernels.sweep_dots(target, colors, coupling.blur, dots)
        parts = kernels.couple_colors(target.weights, coupling.blur, dots.indices, dots.response, 4)
        matrix, gradient = matrix + parts[0], gradient + parts[1]
    found = kernels.couple_colors(
        atlas.weights, coupling.blur, together.indices, together.response, 4
    )
    assert torch.allclose(found[0], matrix, rtol=1e-5)
    assert torch.allclose(found[1], gradient, rtol=1e-4, atol=1e-5)


def test_bad_input_is_told():
    image, palette = picture(19), random(3, 3)
    with pytest.raises(ValueError, match="strength"):
        spatial_palette(image, palette, strength=1.5)
    with pytest.raises(ValueError, match="at least one image"):
        spatial_palette([], palette)
    with pytest.raises(ValueError, match="palette"):
        spatial(image.permute(1, 2, 0), random(3, 4))
    with pytest.raises(ValueError, match="pixels"):
        spatial(image[0], palette)


def test_opacity_blurs_as_lightness_does_and_half_the_strength_is_more_than_half_the_blur():
    blur = couple().blur
    assert torch.equal(blur[:, 3], blur[:, 0])
    assert torch.equal(blur[:, 1], blur[:, 2])
    assert blur[5, 1] > blur[5, 0] > 0
    assert couple(0.5).blur[5, 0] > couple(1.0, 0.4).blur[5, 0]


def test_the_blur_is_as_wide_as_dots_are_coarse_within_bounds():
    white = [torch.ones(9, 9, 3)]
    widths = [module._width(white, torch.full((1, 3), level)) for level in (1.0, 0.9, 0.6, 0.0)]
    assert widths == sorted(widths)
    assert (widths[0], widths[-1]) == module.WIDTHS
    assert module._width(white, torch.full((1, 3), 0.9), 4.0) > widths[1]


def test_colors_without_dots_go_to_errors_that_are_far_from_each_other():
    pixels = torch.zeros(8, 240, 3)
    pixels[:, 80:110, 0] = pixels[:, 200:230, 1] = 1
    palette = torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 0, 1]])
    coupling, target, colors, dots = prepared(pixels, palette[:1])
    kernels.sweep_dots(target, colors, coupling.blur, dots)
    matrix = torch.tensor([1.0, 0, 0]).diag()[..., None].expand(3, 3, 4)
    light = module._light(palette).double()
    moved = module._revive(light, torch.ones(3).byte(), matrix, dots, target, coupling)
    expected = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]).double()
    torch.testing.assert_close(moved[:, :3], expected, atol=1e-4, rtol=0)
    assert (moved[:, 3] == 1).all()
    soft, kinds = light.clone(), torch.tensor([1, 2, 1], dtype=torch.uint8)
    soft[1] = torch.tensor([0.0, 0, 0.5, 0.5])
    moved = module._revive(soft, kinds, matrix, dots, target, coupling)
    torch.testing.assert_close(moved[1], torch.tensor([1.0, 0, 0, 1]).double(), atol=1e-4, rtol=0)
    pinned = torch.tensor([1, 0, 1], dtype=torch.uint8)
    assert torch.equal(module._revive(light, pinned, matrix, dots, target, coupling)[1], light[1])


def test_what_is_not_there_has_no_part_in_the_local_luminance():
    pixels = torch.full((9, 9, 4), 0.2)
    pixels[..., 3] = 1
    palette = torch.tensor([[0.2, 0.2, 0.2, 1], [0, 0, 0, 0]])
    weights = []
    for row in ([0.2, 0.2, 0.2, 1], [1, 1, 1, 0], [1, 1, 1, 0.05]):  # the last is drawn as clear
        pixels[4] = torch.tensor(row)
        weights.append(module._target(pixels, palette, couple(), "oklab").weights[[0, 3, 5, 8]])
    torch.testing.assert_close(weights[1], weights[0])
    torch.testing.assert_close(weights[2], weights[0])
    hurt = pixels[..., :3].clone()
    hurt[4] = torch.nan
    target = module._target(hurt, palette[:1, :3], couple(), "oklab", voting=True)
    torch.testing.assert_close(target.weights[[0, 3, 5, 8]], weights[0])
    assert (target.weights[4] == 0).all()


def test_a_soft_color_stays_between_its_light_and_one():
    light = torch.tensor([[0.2, 0.1, 0.0, 0.5]]).double()
    matrix, movable = torch.ones(1, 1, 4).double(), torch.tensor([2], dtype=torch.uint8)
    for pull, expected in (
        ([0.0, 0, 0, 9], [0.2, 0.1, 0, 0.2]),
        ([0, -9.0, 0, 0], [0.2, 0.5, 0, 0.5]),
    ):
        gradient = torch.tensor([pull]).double()
        moved = kernels.move_colors(matrix, gradient, light, torch.eye(4).double(), movable, 1)
        torch.testing.assert_close(moved, torch.tensor([expected]).double())


def test_of_many_pixels_some_rows_stand_for_all_pairs():
    indices = torch.arange(400, dtype=torch.int32).remainder(2).expand(400, 400).contiguous()
    weights, blur = torch.full((400, 400), 0.5), couple(0.0).blur
    matrix, _ = kernels.couple_colors(weights, blur, indices, torch.zeros(408, 408, 4), 2)
    expected = (torch.eye(2) * 80000 * 0.25)[..., None].expand(2, 2, 4).double()
    torch.testing.assert_close(matrix, expected)


def test_samples_are_kept_though_a_stream_decodes_into_the_same_memory():
    memory = torch.empty(3, 8, 8)
    tiles = sample(memory.fill_(level) for level in (0.25, 1.0))
    assert [float(tile.mean()) for tile in tiles] == [0.25, 1.0]


def test_moved_palettes_are_dark_to_light_rounded_for_bytes_alone_and_keep_what_they_shall():
    frames = [byte_picture(seed, height=16, width=20) for seed in (20, 21)]
    keep = torch.tensor([[255, 0, 255]], dtype=torch.uint8)
    palette = quantize_frames(frames, 5, dither="spatial", keep=keep)[0].palette
    assert (palette == keep / 255).all(1).any()
    assert torch.equal(palette, round_to_bytes(palette))
    backwards = palette.flip(0)
    moved = spatial_palette([frames[0], frames[1] / 255], backwards)
    assert not torch.equal(moved, round_to_bytes(moved))
    lightness = srgb_to_linear(moved) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0).all()


def test_a_soft_color_moves_to_what_soft_pixels_have():
    orange = torch.tensor([1.0, 0.5, 0.0, 0.5])
    palette = torch.tensor([[0.8, 0.6, 0.1, 0.4], [0, 0, 0, 0]])
    free = torch.zeros(2, dtype=torch.bool)
    moved = module.move_palette([orange.expand(8, 8, 4)], palette, 1.0, free)
    torch.testing.assert_close(moved[0], orange, atol=1e-3, rtol=0)
    assert torch.equal(moved[1], palette[1])


def test_a_color_to_keep_keeps_no_other_that_has_one_of_its_channels():
    palette = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.5, 0.2], [0.1, 0.0, 0.4]])
    moved = spatial_palette(picture(22, height=16, width=20), palette, keep=palette[:1])
    assert sum(bool((palette == row).all(1).any()) for row in moved) == 1


def test_an_animation_of_one_frame_is_drawn_as_a_picture():
    image = byte_picture(0, height=1, width=150)
    alone = quantize_image(image, 2, dither="spatial")
    (frame,) = quantize_frames([image], 2, dither="spatial")
    assert_same(frame.palette, alone.palette)
    assert_same(frame.indices, alone.indices)
