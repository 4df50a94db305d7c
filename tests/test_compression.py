"""Promises of `compress_image`: bytes, quality, colors, holes, and the same result each time."""

import itertools
import math
import re

import hypothesis
import pytest
import torch
from hypothesis import strategies as st

from colorquant_nn import compress_image
from colorquant_nn.functional import visual_quality
from colorquant_nn.io import encode_frames
from tests.helpers import SPACES, assert_same, picture, random

settings = hypothesis.settings(max_examples=8, deadline=None, derandomize=True, database=None)


def compress(image, num_colors=32, **arguments):
    """In so few colors that their order is soon found."""
    return compress_image(image, num_colors=num_colors, **arguments)


def size_of(result, effort="balanced"):
    return len(encode_frames("small.png", [result], effort=effort))


def with_holes(pixels, seed=0):
    """Uint8 (4, H, W): rectangles that are transparent and half so, the rest opaque."""
    height, width = pixels.shape[1:]
    alpha = torch.full((1, height, width), 255, dtype=torch.uint8)
    top, left = (int(x * n / 2) for x, n in zip(random(2, seed=seed), (height, width), strict=True))
    alpha[:, top : top + height // 2, left : left + width // 2] = 128
    alpha[:, top : top + height // 3, left : left + width // 3] = 0
    return torch.cat([pixels, alpha])


@st.composite
def pictures(draw):
    """Small ones: smooth, noise, few colors, one color; RGB and RGBA, bytes and numbers."""
    height, width, seed = (
        draw(st.integers(1, 48)),
        draw(st.integers(1, 48)),
        draw(st.integers(0, 99)),
    )
    kind = draw(st.sampled_from(["smooth", "noise", "few", "one", "clear"]))
    pixels = picture(seed, 3, height, width)
    if kind == "noise":
        pixels = (random(3, height, width, seed=seed) * 255).byte()
    elif kind == "few":
        pixels = pixels // 90 * 90
    elif kind == "one":
        pixels = pixels[:, :1, :1].expand_as(pixels).contiguous()
    if kind == "clear":
        pixels = torch.cat([pixels, torch.zeros_like(pixels[:1])])
    elif draw(st.booleans()):
        pixels = with_holes(pixels, seed)
    return pixels / 255 if draw(st.booleans()) else pixels


def check(result, image, num_colors=256):
    palette, indices = result.palette, result.indices
    assert result.rgb.shape == image.shape
    assert len(palette) <= num_colors
    assert indices.unique().tolist() == list(range(len(palette)))
    torch.testing.assert_close(palette * 255, (palette * 255).round(), rtol=0, atol=1e-4)
    if len(image) == 4 and num_colors > 1:
        alpha = palette[indices][..., 3]
        its = image[3] / 255 if image.dtype == torch.uint8 else image[3]
        assert (alpha[its == 0] == 0).all()
        assert (alpha[its == 1] == 1).all()


@settings
@hypothesis.given(pictures(), st.integers(60, 2500), st.sampled_from([64, 16, 2]))
def test_no_file_is_larger_than_it_may_be(image, budget, num_colors):
    try:
        result = compress(image, max_bytes=budget, num_colors=num_colors)
    except ValueError as error:
        smallest = int(re.search(r"the smallest has (\d+)", str(error))[1])
        assert smallest > budget
        budget = smallest
        result = compress(image, max_bytes=budget, num_colors=num_colors)
    assert size_of(result) <= budget
    check(result, image, num_colors)


@settings
@hypothesis.given(pictures(), st.integers(-50, 100), st.sampled_from([64, 16]))
def test_no_picture_is_worse_than_it_may_be(image, quality, num_colors):
    try:
        result = compress(image, min_quality=quality, num_colors=num_colors)
    except ValueError as error:
        reached = float(re.search(r"reach a quality of (-?\d+\.\d)", str(error))[1])
        assert reached < quality + 0.1
        quality = reached - 0.1
        result = compress(image, min_quality=quality, num_colors=num_colors)
    shown = result.rgb if result.rgb.dtype == image.dtype else result.rgb.to(image.dtype)
    assert float(visual_quality(shown, image)) >= quality
    check(result, image, num_colors)


@pytest.mark.parametrize("effort", ["fast", "balanced", "best"])
def test_the_size_is_that_of_the_file_at_its_effort(effort):
    image = picture(0)
    for budget in (500, 900):
        result = compress(image, 64, max_bytes=budget, effort=effort)
        assert 0.8 * budget < size_of(result, effort) <= budget


def test_more_bytes_look_better():
    image = picture(0)
    qualities = [
        float(visual_quality(compress(image, max_bytes=budget, num_colors=64).rgb, image))
        for budget in (300, 600, 1200)
    ]
    assert qualities == sorted(qualities)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_higher_price_makes_a_smaller_file(channels):
    image = picture(0, height=64, width=64)
    if channels == 4:
        image = with_holes(image)
    sizes = [size_of(compress(image, lossy=lossy)) for lossy in (1, 10, 100, 1000)]
    for dear, cheap in itertools.pairwise(sizes):  # orders of palettes differ by chance
        assert cheap < 1.01 * dear
    assert sizes[-1] < sizes[0] / 2


def test_prices_are_told_from_none():
    image = picture(0)
    none, least = (compress(image, lossy=lossy) for lossy in (0, 1e-320))
    assert_same(none[:3], least[:3])


@pytest.mark.parametrize("lossy", [1e6, 1e20, 1e38, 1e300])
def test_no_price_fills_a_hole_or_makes_one(lossy):
    image = with_holes(picture(0))
    result = compress(image, lossy=lossy)
    check(result, image)
    assert size_of(result) == size_of(compress(image, lossy=1e6))


@pytest.mark.parametrize(
    "arguments", [{"max_bytes": 700}, {"min_quality": 40}, {"lossy": 50, "seed": 3}]
)
def test_the_result_is_the_same_each_time_and_on_any_number_of_threads(arguments, threads):
    image = with_holes(picture(0, height=150, width=20))  # of more bands than one, if 128 high
    results = []
    for count in (1, 1, 3):
        threads(count)
        results.append(compress(image, num_colors=32, **arguments))
    for result in results[1:]:
        assert_same(result[:3], results[0][:3])


@pytest.mark.parametrize("channels", [3, 4])
def test_bytes_and_numbers_give_the_same_picture(channels):
    image = picture(1) if channels == 3 else with_holes(picture(1))
    of_bytes, of_numbers = (compress(x, lossy=30) for x in (image, image / 255))
    assert_same(of_bytes[1:3], of_numbers[1:3])
    assert of_bytes.rgb.dtype == compress(image, max_bytes=900).rgb.dtype


@pytest.mark.parametrize("arguments", [{"lossy": 0}, {"min_quality": 100}, {"max_bytes": 9000}])
@pytest.mark.parametrize("channels", [3, 4])
def test_few_colors_are_kept_where_nothing_speaks_against_it(arguments, channels):
    image = picture(0) // 64 * 64
    if channels == 4:
        image = with_holes(image)
        image[:3] *= image[3:] > 0  # what is transparent has no color
    result = compress_image(image, **arguments)
    shown = (result.palette[result.indices].movedim(-1, 0) * 255).round().byte()
    assert torch.equal(shown, image)


@pytest.mark.parametrize("num_colors", [1, 2, 16])
@pytest.mark.parametrize("arguments", [{"lossy": 5}, {"max_bytes": 300}, {"min_quality": -1e9}])
def test_there_are_no_more_colors_than_asked_for(num_colors, arguments):
    check(compress(picture(0), num_colors=num_colors, **arguments), picture(0), num_colors)


@pytest.mark.parametrize("space", SPACES)
def test_every_space_is_searched(space):
    image = picture(0)
    assert size_of(compress(image, num_colors=32, max_bytes=600, space=space)) <= 600
    reached = visual_quality(compress(image, num_colors=64, min_quality=30, space=space).rgb, image)
    assert float(reached) >= 30


@pytest.mark.parametrize(
    "image",
    [
        torch.full((3, 1, 1), 0.3),
        torch.full((4, 1, 1), 1.0),
        torch.full((3, 9, 7), 0.3),
        torch.zeros(4, 8, 8),
        torch.ones(3, 1, 40),
        torch.ones(3, 40, 1),
    ],
)
@pytest.mark.parametrize("arguments", [{}, {"max_bytes": 100}, {"min_quality": 90}, {"lossy": 1e9}])
def test_one_color_is_one_color(image, arguments):
    result = compress_image(image, **arguments)
    check(result, image)
    assert len(result.palette) == 1
    torch.testing.assert_close(result.rgb, image, rtol=0, atol=0.5 / 255)


def test_the_smallest_is_a_single_color_unless_there_are_holes():
    image = picture(0)
    with pytest.raises(ValueError, match="no palette makes a file of 1 bytes") as refused:
        compress(image, max_bytes=1)
    flat = image.float().mean((1, 2), keepdim=True).expand_as(image) / 255
    assert f"smallest has {size_of(compress(flat))}: " in str(refused.value)
    holes = with_holes(image)
    with pytest.raises(ValueError, match="the smallest has") as refused:
        compress(holes, max_bytes=80)
    smallest = int(re.search(r"smallest has (\d+)", str(refused.value))[1])
    assert smallest <= size_of(compress(holes, lossy=1e6, num_colors=2))
    check(compress(holes, max_bytes=smallest), holes)


def test_a_single_color_fills_the_holes_and_says_so():
    with pytest.warns(UserWarning, match="a single colour for pictures with transparent pixels"):
        result = compress(with_holes(picture(0)), max_bytes=100, num_colors=1)
    assert len(result.palette) == 1


@pytest.mark.parametrize("num_colors", [2, 5])
def test_what_so_many_colors_reach_is_named_and_reached(num_colors):
    image = picture(0)
    plain = compress(image, lossy=0, num_colors=num_colors)
    message = rf"{num_colors} colours reach a quality of (\S+), not 95"
    with pytest.raises(ValueError, match=message) as refused:
        compress(image, min_quality=95, num_colors=num_colors)
    reached = float(re.match(message, str(refused.value))[1])
    assert reached >= float(visual_quality(plain.rgb, image)) - 0.05
    with pytest.raises(ValueError, match=message[:-2]):
        compress(image, min_quality=reached + 0.1, num_colors=num_colors)
    found = compress(image, min_quality=reached - 0.1, num_colors=num_colors)
    assert float(visual_quality(found.rgb, image)) >= reached - 0.1


def test_bytes_and_quality_both_hold_or_neither():
    image = picture(0)
    alone = compress(image, min_quality=40)
    both = compress(image, min_quality=40, max_bytes=size_of(alone))
    assert_same(both[:3], alone[:3])
    size = size_of(alone)
    with pytest.raises(ValueError, match=f"a quality of 40 takes {size} bytes, not {size - 1}: "):
        compress(image, min_quality=40, max_bytes=size - 1)


def test_what_is_not_a_number_spoils_nothing():
    image = random(3, 20, 20)
    image[0, 3, 4], image[1, 9, 9] = float("nan"), float("inf")
    for arguments in ({"lossy": 10}, {"max_bytes": 400}, {"min_quality": 60}):
        result = compress_image(image, num_colors=64, **arguments)
        check(result, image)
        assert len(result.palette) > 2


def test_the_picture_and_the_global_generator_are_left_alone():
    image, state = picture(0), torch.get_rng_state()
    before = image.clone()
    compress(image, max_bytes=500)
    assert torch.equal(image, before)
    assert torch.equal(torch.get_rng_state(), state)


IMAGE = torch.full((3, 4, 4), 0.5)


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (IMAGE, {"max_bytes": 0}, "max_bytes of at least 1, got 0"),
        (IMAGE, {"max_bytes": -5}, "max_bytes of at least 1, got -5"),
        (IMAGE, {"max_bytes": 2.5}, "max_bytes as a whole number, got 2.5"),
        (IMAGE, {"max_bytes": math.inf}, "max_bytes as a whole number, got inf"),
        (IMAGE, {"max_bytes": "60k"}, "max_bytes as a whole number, got '60k'"),
        (IMAGE, {"min_quality": 100.5}, "min_quality of at most 100, got 100.5"),
        (IMAGE, {"min_quality": math.nan}, "min_quality of at most 100, got nan"),
        (IMAGE, {"lossy": -1}, "lossy of at least 0, got -1"),
        (IMAGE, {"lossy": math.inf}, "lossy of at least 0, got inf"),
        (IMAGE, {"lossy": math.nan}, "lossy of at least 0, got nan"),
        (IMAGE, {"lossy": 1, "max_bytes": 99}, "lossy is a price: expected either it"),
        (IMAGE, {"lossy": 1, "min_quality": 9}, "lossy is a price: expected either it"),
        (IMAGE, {"num_colors": 0}, "num_colors of at least 1, got 0"),
        (IMAGE, {"num_colors": 257}, "num_colors of at most 256, got 257"),
        (IMAGE, {"num_colors": 2.0}, "num_colors as a whole number, got 2.0"),
        (IMAGE, {"space": "hsv"}, "colour space of rgb, linear, lab, oklab, got 'hsv'"),
        (IMAGE, {"effort": "none"}, "effort of .*, got 'none'"),
        (IMAGE[None], {}, r"one image \(3, H, W\) or \(4, H, W\).* got \(1, 3, 4, 4\)"),
        (IMAGE[:2], {}, r"got \(2, 4, 4\)"),
        (IMAGE[:, :0], {}, "at least one pixel|sides of at least 1 pixel"),
        (IMAGE.long(), {}, "int64"),
        ("photo.png", {}, "expected a tensor"),
    ],
)
def test_bad_arguments_are_named(image, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        compress_image(image, **arguments)


def test_smooth_pictures_get_dots_where_nothing_else_is_good_enough():
    down, across = torch.linspace(0, 1, 96)[:, None], torch.linspace(0, 1, 128)
    sky = torch.stack(
        [0.2 + 0.6 * down * across, 0.4 + 0.5 * down + 0 * across, 1 - 0.4 * across * down]
    )
    plain = visual_quality(compress_image(sky, lossy=0, num_colors=32).rgb, sky)
    result = compress_image(sky, min_quality=float(plain) + 3, num_colors=32)
    assert visual_quality(result.rgb, sky) >= plain + 3
    roomy = compress_image(sky, max_bytes=10**6, num_colors=32)
    assert visual_quality(roomy.rgb, sky) >= plain + 3
