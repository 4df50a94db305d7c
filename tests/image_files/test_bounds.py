"""Bounds that hold before there is memory for a picture, and which decoders there are at all."""

import struct
import threading
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from colorquant_nn.image_files import PICTURES, ImageFile, own_palette
from tests.image_files.files import GREY, apng, chunk, gif, header, png, saved, tiff

PIXELS = np.zeros((10, 20, 3), np.uint8)


def big_png(width, height):
    return header(width, height, 8, GREY) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND")


def big_gif(width, height):
    return gif((width, height), [{"indices": [[0]]}], [(0, 0, 0)])


def big_tiff(width, height):
    data = bytearray(tiff([[[0]]], 8, 1))
    for tag, value in ((256, width), (257, height)):
        place = data.index(struct.pack("<HHI", tag, 4, 1), 8)
        struct.pack_into("<I", data, place + 8, value)
    return bytes(data)


def big_icon(width, height):
    inside = big_png(width, height)
    return struct.pack("<3H4B2H2I", 0, 1, 1, 9, 9, 0, 0, 1, 32, len(inside), 22) + inside


def big_webp(width, height):
    data = bytearray(saved(Image.new("RGBA", (3, 3), (1, 2, 3, 4)), "WEBP"))
    place = data.index(b"VP8X") + 12
    data[place : place + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


@pytest.mark.parametrize("make", [big_png, big_gif, big_tiff, big_icon, big_webp])
def test_a_frame_of_too_many_pixels_is_refused_before_it_has_memory(make):
    tracemalloc.start()
    try:
        message = "a file: too large to be trusted: 20000 x 10000 pixels, more than 178956970; max_"
        with pytest.raises(ValueError, match=message):
            ImageFile(make(20000, 10000), "a file")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_bitmap_in_an_icon_has_a_mask_that_does_not_count():
    data = saved(Image.new("RGBA", (16, 16)), "ICO", sizes=[(16, 16)], bitmap_format="bmp")
    assert next(iter(ImageFile(data, "a file", max_pixels=256))).shape == (16, 16, 4)
    with pytest.raises(ValueError, match="16 x 16 pixels, more than 255"):
        ImageFile(data, "a file", max_pixels=255)


def test_memory_that_does_not_suffice_is_named(monkeypatch):
    def take_all(*_):
        raise MemoryError

    monkeypatch.setattr(Image, "fromarray", take_all)
    with pytest.raises(ValueError, match=r"^a file: not enough memory"):
        list(ImageFile(big_gif(1, 1), "a file"))


def test_a_row_longer_than_pillow_can_count_is_refused():
    with pytest.raises(ValueError, match="expected sides below 67108864 pixels, got 100000000 x 1"):
        ImageFile(big_png(100_000_000, 1), "a file")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "WEBP", "TIFF", "JPEG2000", "PPM", "TGA"])
def test_the_bound_is_the_callers(format):
    data = saved(Image.fromarray(PIXELS), format)
    assert next(iter(ImageFile(data, "a file", max_pixels=200))).shape == (10, 20, 3)
    with pytest.raises(ValueError, match=r"20 x 10 pixels, more than 199; max_pixels \(--max"):
        ImageFile(data, "a file", max_pixels=199)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "PPM"])
def test_a_bound_may_be_raised_beyond_pillows_which_stays(monkeypatch, format):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    monkeypatch.setattr("colorquant_nn.image_files.tiff.MAX_PIXELS", 100)
    data = saved(Image.fromarray(PIXELS), format)
    with pytest.raises(ValueError, match="too large to be trusted"):
        ImageFile(data, "a file")
    assert next(iter(ImageFile(data, "a file", max_pixels=1000))).shape == (10, 20, 3)
    assert Image.MAX_IMAGE_PIXELS == 50


def test_all_frames_together_have_a_bound():
    frames = [{"indices": [[0]]}] * 9
    data = gif((10, 20), frames, [(0, 0, 0)])
    with pytest.raises(ValueError, match="1800 pixels in 9 frames, more than 8 x 200; max_pixels"):
        ImageFile(data, "a file", max_pixels=200)
    assert len(ImageFile(data, "a file", max_pixels=225)) == 9
    frame = (np.zeros((1, 1, 4), int), 0, 0, 0, 0, (1, 10))
    whole = (np.zeros((10, 20, 4), int), 0, 0, 0, 0, (1, 10))
    with pytest.raises(ValueError, match="1800 pixels in 9 frames"):
        ImageFile(apng((20, 10), [whole] + [frame] * 8), "a file", max_pixels=200)


def test_frames_stream():
    frames = [{"indices": np.full((64, 64), n % 3)} for n in range(60)]
    data = gif((64, 64), frames, [(0, 0, 0), (255, 0, 0), (0, 255, 0)])
    image = ImageFile(data, "a file")
    next(iter(image))
    tracemalloc.start()
    try:
        for _ in image:
            pass
        assert tracemalloc.get_traced_memory()[1] < 12 * 4 * 64 * 64
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{ } loop\n",
        b"%PDF-1.4\n",
        b"8BPS\0\1" + bytes(6) + b"\0\3" + struct.pack(">IIHH", 4, 4, 8, 3) + bytes(12),
        b"\xd7\xcd\xc6\x9a" + bytes(60),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"hello, this is a text and no picture at all",
    ],
)
def test_only_decoders_on_the_list_are_asked(data):
    for read in (ImageFile, own_palette):
        with pytest.raises(ValueError, match=r"a\.png: not an image that can be read \(PNG, JPEG,"):
            read(data, "a.png")
    assert {"EPS", "PDF", "PSD", "WMF", "FPX", "MIC"}.isdisjoint(PICTURES)


def test_threads_may_read_at_once():
    data = png(np.full((9, 9, 3), 7), 8, 2)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append([p.sum() for p in ImageFile(data, "a")]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[81 * 21]] * 8
