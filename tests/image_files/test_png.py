"""PNG and APNG: transparency at every depth, and frames as the specification composes them."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from colorquant_nn.image_files import ImageFile
from tests.image_files.files import (
    GREY,
    GREY_ALPHA,
    INDEXED,
    RGB,
    RGB_ALPHA,
    apng,
    chunk,
    header,
    png,
    saved,
)


def read(data):
    (pixels,) = ImageFile(data, "a.png")
    return pixels


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_one_grey_is_transparent_at_every_depth(depth):
    top = (1 << depth) - 1
    values = np.array(sorted({0, 1, top // 3, top // 2, top - 1, top}))
    for key in values:
        pixels = read(png(values[None, :, None], depth, GREY, (b"tRNS", struct.pack(">H", key))))
        assert pixels[0, :, 3].tolist() == [0 if value == key else 255 for value in values]
        assert pixels[0, :, 0].tolist() == [round(255 * value / top) for value in values.tolist()]


@pytest.mark.parametrize("depth", [8, 16])
def test_one_color_is_transparent_at_every_depth(depth):
    top = (1 << depth) - 1
    key = np.array([top // 5, 0x0B, top])
    colors = np.array([key, key ^ 1, key ^ [0, 0, 1], key ^ [1 << depth - 1, 0, 0]])
    pixels = read(png(colors[None], depth, RGB, (b"tRNS", struct.pack(">3H", *key))))
    assert pixels[0, :, 3].tolist() == [0, 255, 255, 255]


@pytest.mark.parametrize("kind", [GREY, RGB, GREY_ALPHA, RGB_ALPHA])
def test_16_bits_are_rounded(kind):
    channels = {GREY: 1, RGB: 3, GREY_ALPHA: 2, RGB_ALPHA: 4}[kind]
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, channels))
    expected = np.round(values / 257)
    if kind in (GREY, GREY_ALPHA):
        expected = np.dstack([expected[..., :1]] * 3 + [expected[..., 1:]])
    assert np.array_equal(read(png(values, 16, kind)), expected)


def test_greys_of_two_and_four_bits_and_palettes_with_partial_alpha():
    assert read(png([[[0], [1], [2], [3]]], 2, GREY))[0, :, 0].tolist() == [0, 85, 170, 255]
    colors = bytes([1, 2, 3, 4, 5, 6, 7, 8, 9])
    data = png([[[2], [1], [0]]], 2, INDEXED, (b"PLTE", colors), (b"tRNS", bytes([0, 90])))
    assert read(data)[0].tolist() == [[7, 8, 9, 255], [4, 5, 6, 90], [1, 2, 3, 0]]


@st.composite
def animations(draw):
    width, height = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    frames = []
    for number in range(draw(st.integers(1, 5))):
        left, top = (draw(st.integers(0, side - 1)) if number else 0 for side in (width, height))
        wide = draw(st.integers(1, width - left)) if number else width
        high = draw(st.integers(1, height - top)) if number else height
        values = st.lists(st.sampled_from([0, 40, 200, 255]), min_size=4, max_size=4)
        samples = [[draw(values) for _ in range(wide)] for _ in range(high)]
        ways = draw(st.integers(0, 2)), draw(st.integers(0, 1))
        frames.append((np.array(samples), left, top, *ways, (draw(st.integers(0, 90)), 60)))
    return (width, height), frames


def as_the_specification_says(size, frames):
    screen = np.zeros((*size[::-1], 4))
    for samples, left, top, disposal, blend, _ in frames:
        before = screen.copy()
        area = screen[top : top + len(samples), left : left + samples.shape[1]]
        above, below = samples / 255, area / 255
        if blend:
            alpha = above[..., 3:] + below[..., 3:] * (1 - above[..., 3:])
            mixed = above[..., :3] * above[..., 3:]
            mixed = mixed + below[..., :3] * below[..., 3:] * (1 - above[..., 3:])
            above = np.dstack([mixed / np.where(alpha > 0, alpha, 1), alpha])
        area[:] = np.round(above * 255)
        yield screen.copy()
        if disposal == 1:
            area[:] = 0
        elif disposal == 2:
            screen = before


@settings(max_examples=100)
@given(animations())
def test_frames_are_composed_as_the_specification_says(animation):
    size, frames = animation
    image = ImageFile(apng(size, frames), "a.png")
    assert image.durations == [pytest.approx(1000 * frame[-1][0] / 60) for frame in frames]
    for pixels, expected in zip(image, as_the_specification_says(size, frames), strict=True):
        if pixels.shape[2] == 3:
            pixels = np.dstack([pixels, np.full(pixels.shape[:2], 255)])
        assert np.abs(pixels[..., 3] - expected[..., 3]).max() <= 1
        seen = pixels[..., 3:] > 0
        # Each step rounds, and a faint colour has few levels to be rounded to.
        tolerance = 2 + 2 * 255 / np.maximum(pixels[..., 3:], 1)
        assert (np.abs(pixels[..., :3] - expected[..., :3]) * seen <= tolerance).all()


def flat(*color):
    return np.full((2, 3, len(color)), color)


@pytest.mark.parametrize("count", [1, 2])
def test_a_still_that_is_no_frame_is_not_shown(count):
    frames = [(flat(255, 0, 0), 0, 0, 0, 0, (1, 10)), (flat(0, 0, 255), 0, 0, 0, 0, (1, 5))]
    image = ImageFile(apng((3, 2), frames[:count], kind=RGB, hidden=flat(0, 255, 0)), "a.png")
    assert image.durations == [100, 200][:count]
    assert [tuple(pixels[0, 0]) for pixels in image] == [(255, 0, 0), (0, 0, 255)][:count]


def test_what_is_disposed_of_is_clear_without_an_alpha_channel_too():
    frames = [(flat(255, 0, 0), 0, 0, 1, 0, (1, 10)), (flat(0, 0, 255)[:1, :1], 0, 0, 0, 0, (1, 5))]
    _, pixels = ImageFile(apng((3, 2), frames, kind=RGB), "a.png")
    assert pixels[..., 3].tolist() == [[255, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("plays", [0, 1, 5, 70_000])
def test_plays_and_delays(plays):
    frames = [(flat(0, 0, 0), 0, 0, 0, 0, delay) for delay in ((1, 60), (65535, 1), (3, 0))]
    image = ImageFile(apng((3, 2), frames, kind=RGB, plays=plays), "a.png")
    assert image.plays == plays
    assert image.durations == [pytest.approx(16.6667, abs=1e-4), 65_535_000, 30]


def test_missing_frames_and_frames_outside_are_refused():
    frame = (flat(0, 0, 0), 0, 0, 0, 0, (1, 10))
    data = apng((3, 2), [frame] * 3, kind=RGB)
    with pytest.raises(ValueError, match="expected 3 frames, got 2"):
        ImageFile(data[: data.rindex(b"fcTL") - 4], "a.png")
    with pytest.raises(ValueError, match="reaches beyond the picture"):
        ImageFile(apng((3, 2), [frame, (flat(0, 0, 0), 1, 0, 0, 0, (1, 10))], kind=RGB), "a.png")


def test_a_broken_chunk_matters_if_the_picture_does():
    data = png(flat(1, 2, 3), 8, RGB, (b"tEXt", b"Title\0hello"))
    assert read(data.replace(b"hello", b"hullo"))[0, 0].tolist() == [1, 2, 3]
    place = data.index(b"IHDR") + 4
    with pytest.raises(ValueError, match="checksum of IHDR is wrong"):
        ImageFile(data[:place] + b"\0\0\0\4" + data[place + 4 :], "a.png")


def test_texts_and_profiles_that_unfold_to_gigabytes_are_not_unfolded():
    bomb = zlib.compress(bytes(1 << 25), 9)
    data = png(flat(1, 2, 3), 8, RGB, (b"iCCP", b"x\0\0" + bomb), (b"zTXt", b"a\0\0" + bomb))
    with pytest.warns(UserWarning, match=r"a\.png: ICC profile ignored"):
        assert read(data)[0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(("kind", "channels"), [(GREY, 1), (RGB, 3), (GREY_ALPHA, 2)])
def test_an_interlaced_picture_of_16_bits(kind, channels):
    values = np.random.default_rng(0).integers(0, 65536, (9, 11, channels))
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    rows = b""
    for top, left, down, across in [*passes, (1, 0, 2, 1)]:
        for row in values[top::down, left::across]:
            rows += b"\0" + row.astype(">u2").tobytes()
    head = header(11, 9, 16, kind)
    head = head[:8] + chunk(b"IHDR", head[16:28] + b"\1")
    data = head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND")
    whole = png(values, 16, kind)
    assert np.array_equal(read(data), read(whole))


def test_animations_that_pillow_writes():
    frames = [Image.new("RGB", (4, 3), (60 * n, 0, 9)) for n in range(3)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=[5, 6, 7])
    image = ImageFile(data, "a.png")
    assert image.durations == [5, 6, 7]
    assert [pixels[0, 0].tolist() for pixels in image] == [[0, 0, 9], [60, 0, 9], [120, 0, 9]]
