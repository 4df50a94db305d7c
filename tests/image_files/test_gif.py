"""GIF: what browsers show, whatever the blocks say."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from colorquant_nn.image_files import ImageFile
from tests.image_files.files import gif, saved

COLORS = [(9, 9, 9), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
CLEAR, RED, GREEN, BLUE = (0, 0, 0, 0), (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255)


def shown(data):
    """Each frame's pixels as RGBA, clear ones without a colour."""
    frames = []
    for pixels in ImageFile(data, "a.gif"):
        if pixels.shape[2] == 3:
            pixels = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
        frames.append(np.where(pixels[..., 3:] > 0, pixels, 0))
    return frames


@st.composite
def animations(draw):
    """A screen and frames that may have their own colours, stick out, and be disposed of."""
    width, height = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    frames = []
    for number in range(draw(st.integers(1, 5))):
        wide = draw(st.integers(1, 6 if number else width))
        high = draw(st.integers(1, 6 if number else height))
        values = draw(st.lists(st.integers(0, 3), min_size=wide * high, max_size=wide * high))
        frames.append(
            {
                "indices": np.reshape(values, (high, wide)),
                "left": draw(st.integers(0, 6)),
                "top": draw(st.integers(0, 6)),
                "disposal": draw(st.integers(0, 3)),
                "transparent": draw(st.none() | st.integers(0, 3)),
                "colors": draw(st.sampled_from([None, COLORS[::-1], COLORS[:2]])),
                "delay": draw(st.integers(0, 300)),
            }
        )
    return (width, height), frames


def as_browsers_do(size, frames):
    """Pixel by pixel, by the words of the specification."""
    screen = {}
    for frame in frames:
        before = dict(screen)
        touched = []
        for (y, x), index in np.ndenumerate(frame["indices"]):
            place = frame["left"] + x, frame["top"] + y
            if place[0] >= size[0] or place[1] >= size[1]:
                continue
            touched.append(place)
            colors = frame["colors"] or COLORS
            if index != frame["transparent"] and index < len(colors):
                screen[place] = (*colors[index], 255)
        yield np.array(
            [[screen.get((x, y), CLEAR) for x in range(size[0])] for y in range(size[1])], np.uint8
        )
        if frame["disposal"] == 2:
            for place in touched:
                screen.pop(place, None)
        elif frame["disposal"] == 3:
            screen = before


@settings(max_examples=100)
@given(animations())
def test_frames_are_composed_as_browsers_do(animation):
    size, frames = animation
    data = gif(size, frames, COLORS)
    expected = list(as_browsers_do(size, frames))
    found = shown(data)
    assert len(found) == len(expected)
    for pixels, other in zip(found, expected, strict=True):
        assert np.array_equal(pixels, other)
    assert ImageFile(data, "a.gif").durations == [10.0 * frame["delay"] for frame in frames]


def test_what_no_frame_covers_is_clear():
    data = gif((3, 1), [{"indices": [[1]], "left": 1}], COLORS)
    assert shown(data)[0].tolist() == [[[0, 0, 0, 0], [255, 0, 0, 255], [0, 0, 0, 0]]]


@pytest.mark.parametrize(
    ("disposals", "expected"),
    [
        ((0, 2, 0), [[RED, RED], [GREEN, GREEN], [BLUE, CLEAR]]),
        ((2, 0, 0), [[RED, RED], [GREEN, GREEN], [BLUE, GREEN]]),
        ((1, 3, 0), [[RED, RED], [GREEN, GREEN], [BLUE, RED]]),
        ((1, 4, 0), [[RED, RED], [GREEN, GREEN], [BLUE, RED]]),
        ((3, 0, 0), [[RED, RED], [GREEN, GREEN], [BLUE, GREEN]]),
        ((3, 3, 0), [[RED, RED], [GREEN, GREEN], [BLUE, CLEAR]]),
    ],
)
def test_each_frame_has_its_own_disposal(disposals, expected):
    indices = [[1, 1]], [[2, 2]], [[3]]
    frames = [
        {"indices": values, "disposal": disposal, "transparent": 0}
        for values, disposal in zip(indices, disposals, strict=True)
    ]
    found = shown(gif((2, 1), frames, COLORS))
    assert [[tuple(pixel) for pixel in frame[0].tolist()] for frame in found] == expected


def test_what_is_said_of_one_frame_is_not_said_of_the_next():
    frames = [{"indices": [[1]], "delay": 7, "transparent": 2}, {"indices": [[2]]}]
    head, first, second = gif((1, 1), frames, COLORS).split(b"\x21\xf9")
    without = head + b"\x21\xf9" + first + second[6:]
    assert [frame[0, 0].tolist() for frame in shown(without)] == [list(RED), list(GREEN)]
    assert ImageFile(without, "a.gif").durations == [70, 0]


def test_a_frame_beyond_the_screen_is_cut_and_only_a_first_one_enlarges_it():
    small, large = np.ones((2, 2), int), np.full((5, 4), 2)
    later = gif((2, 2), [{"indices": small}, {"indices": large, "left": 1, "top": 1}], COLORS)
    assert [pixels.shape for pixels in ImageFile(later, "a.gif")] == [(2, 2, 3)] * 2
    first = gif((2, 2), [{"indices": large}, {"indices": small}], COLORS)
    assert [pixels.shape for pixels in ImageFile(first, "a.gif")] == [(5, 4, 3)] * 2
    wide = gif((2, 9), [{"indices": large}], COLORS)
    assert [pixels.shape for pixels in ImageFile(wide, "a.gif")] == [(5, 4, 3)]
    nowhere = gif((0, 0), [{"indices": small}], COLORS)
    assert [pixels.shape for pixels in ImageFile(nowhere, "a.gif")] == [(2, 2, 3)]


@pytest.mark.parametrize(("loop", "plays"), [(None, 1), (0, 0), (1, 2), (65535, 65536)])
def test_repeats_come_after_the_first_play(loop, plays):
    data = gif((1, 1), [{"indices": [[1]]}] * 2, COLORS, loop)
    assert ImageFile(data, "a.gif").plays == plays


def test_without_a_table_indices_are_greys():
    (pixels,) = ImageFile(gif((2, 1), [{"indices": [[7, 200]]}]), "a.gif")
    assert pixels.tolist() == [[[7] * 3, [200] * 3]]


@pytest.mark.parametrize("interlace", [0, 1])
def test_ordinary_animations_are_as_pillow_reads_them(interlace):
    random = np.random.default_rng(0)
    frames = [
        Image.fromarray(random.integers(0, 99, (23, 17, 3), dtype=np.uint8)).quantize(50)
        for _ in range(4)
    ]
    options = {
        "save_all": True,
        "append_images": frames[1:],
        "duration": [70, 20, 30, 40],
        "loop": 4,
    }
    data = saved(frames[0], "GIF", interlace=interlace, **options)
    image = ImageFile(data, "a.gif")
    assert (image.durations, image.plays) == ([70, 20, 30, 40], 5)
    for _ in range(2):  # as often as one likes
        stored = ImageSequence.Iterator(Image.open(io.BytesIO(data)))
        for pixels, other in zip(image, stored, strict=True):
            assert np.array_equal(pixels, np.asarray(other.convert("RGB")))


def test_a_cut_file_is_refused():
    data = gif((9, 9), [{"indices": np.ones((9, 9), int)}] * 2, COLORS)
    list(ImageFile(data[:-1], "a.gif"))  # the trailer alone is missed by nobody
    for end in range(len(data) - 2, 12, -7):
        with pytest.raises(ValueError, match=r"a\.gif: (broken, truncated|a GIF without a frame)"):
            list(ImageFile(data[:end], "a.gif"))
