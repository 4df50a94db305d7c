"""PNGs written with every effort: what is stored, by decoders of three kinds, and how small."""

import io
import struct
import zlib

import numpy as np
import oxipng
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from colorquant_nn.image_files import Display, ImageFile, encode
from colorquant_nn.image_files.png import walk_chunks
from tests.helpers import run_python

EFFORTS = ("fast", "balanced", "best")
SLOW = ("balanced", "best")


def indexed(draw, channels=4):
    """Indices and colours, some of them twice or in no pixel."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    count = draw(st.sampled_from([1, 2, 3, 4, 5, 16, 17, 200, 256]))
    colors = draw(arrays(np.uint8, (count, channels), elements=st.sampled_from([0, 1, 128, 255])))
    return draw(arrays(np.uint8, shape, elements=st.integers(0, count - 1))), colors


def true_color(draw):
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([3, 4])))
    levels = draw(st.sampled_from([[0, 255], [0, 85, 170, 255], list(range(256))]))
    frame = draw(arrays(np.uint8, shape, elements=st.sampled_from(levels)))
    if draw(st.booleans()):
        frame[..., :3] = frame[..., :1]  # grey
    return frame


INDEXED = st.composite(indexed)()
TRUE_COLOR = st.composite(true_color)()


def chunks(file):
    return [(kind, file[start:stop]) for kind, start, stop in walk_chunks(file)]


def unfiltered(file):
    """The samples (H, W) of an indexed file, by the book: https://www.w3.org/TR/png-3/#9Filters."""
    parts = chunks(file)
    width, height, bits = struct.unpack(">IIB", dict(parts)[b"IHDR"][:9])
    data = zlib.decompress(b"".join(content for kind, content in parts if kind == b"IDAT"))
    lines = np.frombuffer(data, np.uint8).reshape(height, -1).astype(int)
    rows = np.zeros((height + 1, lines.shape[1]), int)  # one above, one to the left
    for y, line in enumerate(lines):
        for x in range(1, len(line)):
            left, up, corner = rows[y + 1, x - 1], rows[y, x], rows[y, x - 1]
            paeth = min((left, up, corner), key=lambda one: abs(left + up - corner - one))
            guess = (0, left, up, (left + up) // 2, paeth)[line[0]]
            rows[y + 1, x] = (line[x] + guess) % 256
    samples = np.unpackbits(rows[1:, 1:].astype(np.uint8), axis=1).reshape(height, -1, bits)
    return (samples @ (1 << np.arange(bits)[::-1]))[:, :width]


@settings(max_examples=30, deadline=None)
@given(INDEXED, st.sampled_from(EFFORTS))
def test_an_index_is_a_place_in_the_palette_that_was_given(picture, effort):
    indices, colors = picture
    file = encode([indices], ".png", Display(resolution=(72, 96)), colors=colors, effort=effort)
    assert np.array_equal(unfiltered(file), indices)
    stored = dict(chunks(file))
    assert stored[b"IHDR"][9] == 3
    assert stored[b"PLTE"] == colors[:, :3].tobytes()
    assert stored.get(b"tRNS", b"") == colors[:, 3].tobytes().rstrip(b"\xff")
    assert stored[b"pHYs"] == struct.pack(">IIB", 2835, 3780, 1)
    with Image.open(io.BytesIO(file)) as image:
        assert np.array_equal(np.asarray(image), indices)
        assert np.array_equal(np.asarray(image.convert("RGBA")), colors[indices])


@settings(max_examples=30, deadline=None)
@given(TRUE_COLOR, st.sampled_from(EFFORTS))
def test_pixels_in_true_color_stay_also_below_full_transparency(frame, effort):
    file = encode([frame], ".png", Display(resolution=(72, 96)), effort=effort)
    assert (b"pHYs", struct.pack(">IIB", 2835, 3780, 1)) in chunks(file)
    whole = np.dstack([frame, np.full_like(frame[..., :1], 255)])[..., :4]
    with Image.open(io.BytesIO(file)) as image:
        assert np.array_equal(np.asarray(image.convert("RGBA")), whole)
    cv2 = pytest.importorskip("cv2")
    by_opencv = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(by_opencv[..., ::-1], frame[..., :3])
    (ours,) = ImageFile(file, "a.png", 10**6)
    assert np.array_equal(ours[..., :3], frame[..., :3])


@settings(max_examples=30, deadline=None)
@given(st.one_of(INDEXED, TRUE_COLOR))
def test_more_effort_never_makes_a_larger_file(picture):
    frame, colors = picture if isinstance(picture, tuple) else (picture, None)
    fast, balanced, best = (
        len(encode([frame], ".png", colors=colors, effort=effort)) for effort in EFFORTS
    )
    assert best <= balanced <= fast


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("channels", [None, 3, 4])
def test_frames_of_an_animation_are_what_they_were(effort, channels):
    draw = np.random.default_rng(0)
    colors = draw.integers(0, 256, (9, 4)).astype(np.uint8) if channels is None else None
    size = (12, 13) if channels is None else (12, 13, channels)
    frames = draw.integers(0, 9, (4, *size)).astype(np.uint8)
    frames[1] = frames[0]
    frames[2, 3:5, 4:9] = 0
    file = encode(frames, ".png", Display([50.0] * 4, 3), colors=colors, effort=effort)
    kinds = [kind for kind, _ in chunks(file)]
    assert kinds.count(b"fcTL") == 4
    assert kinds.count(b"fdAT") == 3
    for number, frame in enumerate(frames):
        with Image.open(io.BytesIO(file)) as image:
            image.seek(number)
            assert np.array_equal(
                np.asarray(image.convert("RGBA"))[..., : channels or 4],
                frame if colors is None else colors[frame],
            )


def test_effort_makes_smaller_files_as_small_as_those_of_oxipng():
    y, x = np.mgrid[:96, :128]
    shade = np.round(127 + 60 * np.sin(x / 9) + 60 * np.cos(y / 7 + x / 30)).astype(np.uint8)
    grey = np.repeat(shade[..., None], 3, 2)
    color = np.dstack([shade, shade[::-1], shade[:, ::-1]])
    soft = np.dstack([color, np.minimum(255, 4 * x).astype(np.uint8)])
    few = color // 64 * 85
    for frame in (grey, color, soft, few):
        fast, *others = (len(encode([frame], ".png", effort=effort)) for effort in EFFORTS)
        peer = len(oxipng.optimize_from_memory(encode([frame], ".png", effort="fast"), level=4))
        assert max(others) < fast
        assert others[-1] <= 1.01 * peer


def test_few_colors_are_stored_in_bytes_where_that_is_smaller():
    # The same row again and again, each time an odd number of pixels further.
    row = np.random.default_rng(0).integers(0, 16, 400)
    moving = np.array([row[7 * y : 7 * y + 150] for y in range(32)], np.uint8)
    colors = np.arange(48, dtype=np.uint8).reshape(16, 3)
    sizes = {}
    for effort in EFFORTS:
        file = encode([moving], ".png", colors=colors, effort=effort)
        sizes[effort] = dict(chunks(file))[b"IHDR"][8]
        assert np.array_equal(unfiltered(file), moving)
    assert sizes == {"fast": 4, "balanced": 8, "best": 8}


@pytest.mark.parametrize("effort", ["", "better", None, 3])
def test_an_effort_is_one_that_there_is(effort):
    with pytest.raises(ValueError, match="expected an effort of fast, balanced, best, got"):
        encode([np.zeros((2, 2, 3), np.uint8)], ".png", effort=effort)


@pytest.mark.slow
def test_threads_change_no_byte():
    code = """
import hashlib, numpy as np
from colorquant_nn.image_files import encode
draw = np.random.default_rng(0)
frame = np.cumsum(draw.integers(-2, 3, (300, 300, 3)), 1).astype(np.uint8)
for effort in ("balanced", "best"):
    print(hashlib.sha256(encode([frame], ".png", effort=effort)).hexdigest())
    print(hashlib.sha256(encode([frame[..., 0]], ".png", colors=np.repeat(
        np.arange(256, dtype=np.uint8)[:, None], 3, 1), effort=effort)).hexdigest())
"""
    one, several = (run_python(code, RAYON_NUM_THREADS=number) for number in ("1", "4"))
    assert one == several
