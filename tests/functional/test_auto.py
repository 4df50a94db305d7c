"""Dots where bands would be seen, and nowhere else."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from colorquant_nn import apply_palette, fit_palette, kernels
from colorquant_nn.functional.auto import dither_amounts
from colorquant_nn.functional.color import to_working_space
from colorquant_nn.functional.dither import auto, diffuse, nearest
from tests.helpers import assert_same, random

GREYS = torch.linspace(0, 1, 5)[:, None].expand(5, 3)
ALPHA = torch.ones(1)


def ramp(width: int = 256, height: int = 48) -> Tensor:
    return torch.linspace(0.1, 0.9, width).view(1, width, 1).expand(height, width, 3)


def noise(size: int, spread: float) -> Tensor:
    """Grey, with as much noise."""
    grain = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    return (0.6 + spread * grain[..., None].expand(size, size, 3)).clamp(0, 1)


def text() -> Tensor:
    """Black, antialiased, on light grey, with a rule."""
    page = Image.new("RGB", (160, 60), (238, 238, 240))
    draw = ImageDraw.Draw(page)
    for line in range(3):
        draw.text((6, 2 + 18 * line), "Quick brown foxes", (20, 20, 30), ImageFont.load_default(13))
    draw.line([(0, 57), (160, 57)], (200, 60, 60))
    return torch.from_numpy(np.asarray(page) / np.float32(255))


def light_seen(picture: Tensor, palette: Tensor, indices: Tensor) -> Tensor:
    """The root of the mean squared error of 8 x 8 means, in linear light."""
    error = to_working_space(palette, "linear")[indices] - to_working_space(picture, "linear")
    means = torch.nn.functional.avg_pool2d(error.permute(2, 0, 1), 8, stride=1)
    return means.square().mean().sqrt()


def share_of_dots(picture: Tensor, palette: Tensor) -> Tensor:
    plain = nearest(picture, palette, space="oklab")
    return (auto(picture, palette, 1.0, "oklab") != plain).float().mean()


def test_bands_become_dots():
    plain, dots = nearest(ramp(), GREYS, space="oklab"), auto(ramp(), GREYS, 1.0, "oklab")
    assert light_seen(ramp(), GREYS, dots) < light_seen(ramp(), GREYS, plain) / 4


@pytest.mark.parametrize("count", [4, 8, 16])
def test_text_and_rules_stay_as_they_are(count):
    page = text()
    palette = fit_palette(page.permute(2, 0, 1), count, space="oklab")
    assert (diffuse(page, palette, 1.0, "oklab") != nearest(page, palette, space="oklab")).any()
    assert share_of_dots(page, palette) * page[..., 0].numel() < 5  # pixels of soft edges


def test_flat_areas_get_no_dots_though_their_colours_are_missing():
    flats = torch.tensor([0.3, 0.42, 0.6]).repeat_interleave(20)[None, :, None].expand(40, 60, 3)
    assert share_of_dots(flats, GREYS) == 0
    together = torch.cat([flats, ramp(height=40)], 1)
    plain, dots = nearest(together, GREYS, space="oklab"), auto(together, GREYS, 1.0, "oklab")
    assert_same(dots[:, :60], plain[:, :60])
    assert (dots != plain).any()


@pytest.mark.parametrize("grey", [106, 112])
def test_areas_that_a_codec_left_nearly_flat_get_no_dots(grey):
    off = torch.randint(-1, 2, (60, 60, 1), generator=torch.Generator().manual_seed(0))
    assert share_of_dots((grey + off.expand(60, 60, 3)) / 255, GREYS) == 0


def test_steps_of_one_level_are_a_ramp_and_not_flat():
    slow = torch.arange(100, 140).repeat_interleave(12)[None, :, None].expand(32, 480, 3) / 255
    palette = torch.tensor([[110.0] * 3, [130.0] * 3]) / 255
    assert share_of_dots(slow, palette) > 0.1


def test_what_the_picture_hides_gets_fewer_dots():
    palette = torch.tensor([[0.5] * 3, [0.64] * 3, [0.8] * 3])
    amounts = [dither_amounts(noise(64, spread), palette, "oklab").mean() for spread in (0.01, 0.1)]
    assert amounts[0] > 0.6
    assert amounts[1] < 0.3


def test_the_more_colours_there_are_the_less_is_dithered():
    shares = [
        dither_amounts(
            ramp(), torch.linspace(0, 1, count)[:, None].expand(count, 3), "oklab"
        ).mean()
        for count in (4, 16, 64, 256)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.9 > 0.5 > shares[-1]


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("space", ["rgb", "oklab"])
def test_colours_that_the_palette_has_are_exact(channels, space):
    palette = (random(12, channels) * 255).round() / 255
    palette[:, 3:] = 1.0
    indices = torch.randint(12, (20, 30), generator=torch.Generator().manual_seed(0))
    assert_same(auto(palette[indices], palette, 1.0, space), indices)


def test_amounts_are_their_definition():
    """Across bands of rows, on pictures smaller than a blur, and with areas of any form."""
    for seed, (height, width) in enumerate([(150, 9), (7, 40), (1, 1), (1, 6), (3, 2)]):
        points = torch.nn.functional.interpolate(random(1, 3, 4, 4, seed=seed), (height, width))
        points = points[0].permute(1, 2, 0) + random(height, width, 3, seed=9) * 0.02
        colors = random(4, 3, seed=seed + 1)
        indices = torch.cdist(points.view(-1, 3), colors).argmin(1).view(height, width)
        found = kernels.dither_amounts(points, indices, colors, 0.01, 0.5, [0.03, 0.05])
        expected = amounts_of(
            points.numpy(), indices.numpy(), colors.numpy(), 0.01, 0.5, 0.03, 0.05
        )
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
        assert found.min() >= 0
        assert found.max() <= 1


@pytest.mark.parametrize("space", ["rgb", "oklab"])
def test_what_is_seen_and_what_hides_it_are_distances_of_oklab(space):
    picture = ramp(64, 20) * torch.tensor([0.9, 0.6, 0.3]) + 0.03 * random(20, 64, 3)
    palette = random(6, 3)
    points, colors = (to_working_space(x, "oklab") for x in (picture, palette))
    indices = nearest(picture, palette, space=space)
    assert space == "oklab" or not torch.equal(indices, nearest(picture, palette, space="oklab"))
    # Half hidden at 0.0005, by three tenths of contrast; no area across 0.02, flat within 0.01.
    expected = kernels.dither_amounts(points, indices, colors, 0.0005, 0.3, [0.02, 0.01])
    torch.testing.assert_close(dither_amounts(picture, palette, space), expected)
    assert not torch.equal(
        kernels.dither_amounts(points, indices, colors, 0.0005, 0.3, [0.01, 0.02]), expected
    )


def amounts_of(points, indices, colors, unseen, hidden, edge, flat):
    """In float64, by a flood fill."""
    points, colors = points.astype(np.float64), colors.astype(np.float64)
    height, width = indices.shape
    tent = np.array([1, 2, 3, 2, 1]) / 9

    def blur(plane):
        padded = np.pad(plane, 2, mode="edge")
        down = sum(tent[at] * padded[at : at + height] for at in range(5))
        return sum(tent[at] * down[:, at : at + width] for at in range(5))

    error = colors[indices] - points
    seen = np.sqrt(blur(sum(blur(error[..., channel]) ** 2 for channel in range(3))))
    steps = np.zeros((height, width))
    beside = ((points[:, 1:] - points[:, :-1]) ** 2).sum(-1)
    below = ((points[1:] - points[:-1]) ** 2).sum(-1)
    steps[:, 1:] += beside
    steps[:, :-1] += beside
    steps[1:] += below
    steps[:-1] += below
    share = seen / (seen + unseen + hidden * np.sqrt(blur(steps / 4)))
    smooth = np.ones((height, width), bool)
    smooth[:, 1:] &= beside <= edge**2
    smooth[:, :-1] &= beside <= edge**2
    smooth[1:] &= below <= edge**2
    smooth[:-1] &= below <= edge**2
    joined = (indices[:, 1:] == indices[:, :-1]) & smooth[:, 1:] & smooth[:, :-1]
    joined_below = (indices[1:] == indices[:-1]) & smooth[1:] & smooth[:-1]
    varied = np.full((height, width), np.nan)
    for first in np.ndindex(height, width):
        if not np.isnan(varied[first]):
            continue
        piece, front = {first}, [first]
        while front:
            row, column = front.pop()
            for other, is_joined in (
                ((row, column - 1), column > 0 and joined[row, column - 1]),
                ((row, column + 1), column + 1 < width and joined[row, column]),
                ((row - 1, column), row > 0 and joined_below[row - 1, column]),
                ((row + 1, column), row + 1 < height and joined_below[row, column]),
            ):
                if is_joined and other not in piece:
                    piece.add(other)
                    front.append(other)
        reach = max(np.linalg.norm(points[place] - points[first]) for place in piece)
        for place in piece:
            varied[place] = min((reach / flat) ** 2, 1) if len(piece) > 1 else 1
    padded = np.pad(np.where(smooth, varied, 1), 1, constant_values=1)
    beside_it = padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]
    return share * np.where(smooth, varied, np.min(beside_it, 0))


def test_soft_edges_and_holes_keep_their_opacity():
    color = torch.cat([ramp(64, 40), torch.ones(40, 64, 1)], 2)
    color[:8, :, 3] = 0
    color[8:16, :, 3] = torch.linspace(0.1, 0.9, 64)
    palette = torch.cat(
        [torch.cat([GREYS, torch.ones(5, 1)], 1), torch.tensor([[0.0] * 4, [0, 0, 0, 0.5]])]
    )
    dots = palette[auto(color, palette, 1.0, "oklab")]
    assert (dots[:8, :, 3] == 0).all()
    assert (dots[16:, :, 3] == 1).all()
    plain = nearest(color, palette, space="oklab")
    assert_same(dots[..., 3] == 0, palette[plain][..., 3] == 0)
    assert (dots[16:] != palette[plain][16:]).any()


@pytest.mark.parametrize("threads", [1, 3])
def test_amounts_do_not_depend_on_threads(threads):
    before = torch.get_num_threads()
    picture = torch.cat([ramp(600, 300), noise(300, 0.05)], 1)
    expected = dither_amounts(picture, GREYS, "oklab")
    try:
        torch.set_num_threads(threads)
        assert_same(dither_amounts(picture, GREYS, "oklab"), expected)
    finally:
        torch.set_num_threads(before)


def test_what_is_far_away_changes_no_amount():
    """But for flat areas: still parts of an animation are dithered alike in each frame."""
    frames = [noise(64, 0.05), noise(64, 0.05)]
    frames[1] = frames[1].clone()
    frames[1][40:] = 0.2
    first, second = (dither_amounts(frame, GREYS, "oklab") for frame in frames)
    assert_same(first[:36] > 0.05, second[:36] > 0.05)


def test_kept_pixels_keep_their_indices():
    kept = torch.full((48, 256), -1)
    kept[:, 100:130] = 4
    dots = auto(ramp(), GREYS, 1.0, "oklab", kept)
    assert (dots[:, 100:130] == 4).all()
    assert (dots[:, :100] != 4).all()


def test_pictures_are_drawn_by_name():
    picture = ramp().permute(2, 0, 1)
    drawn = apply_palette(picture, GREYS, space="oklab", dither="auto")
    assert_same(drawn.indices, auto(ramp(), GREYS, 1.0, "oklab"))
    half = apply_palette(picture, GREYS, space="oklab", dither="auto", strength=0.5).indices
    assert (half != drawn.indices).any()
