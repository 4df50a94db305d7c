"""TIFF: samples as they are meant, pages within bounds."""

import struct

import numpy as np
import pytest
from PIL import Image

from colorquant_nn.image_files import ImageFile, own_palette
from tests.image_files.files import saved, tiff

RAMP = np.array([[[0], [1], [100], [200], [255]]])


def read(data):
    (pixels,) = ImageFile(data, "a.tif")
    return pixels


def greys(data):
    pixels = read(data)
    assert (pixels == pixels[..., :1]).all()
    return pixels[0, :, 0].tolist()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("photometric", "white"), [(0, 0), (1, 255)])
def test_white_is_where_the_file_says(order, photometric, white):
    expected = [value if white else 255 - value for value in RAMP.ravel().tolist()]
    assert greys(tiff(RAMP, 8, photometric, order=order)) == expected
    assert greys(tiff(RAMP * 257, 16, photometric, order=order)) == expected
    assert greys(tiff(RAMP / 255, 32, photometric, order=order, sample_format=3)) == expected
    bits = greys(tiff(RAMP > 99, 1, photometric, order=order))
    assert bits == [value if white else 255 - value for value in (0, 0, 255, 255, 255)]


def test_alpha_is_straight_premultiplied_or_none():
    color = np.array([[[100, 50, 0, 128], [200, 100, 50, 255]]])
    straight = read(tiff(color, 8, 2, tags=[(338, "H", [2])]))
    assert straight.tolist() == color.tolist()
    premultiplied = read(tiff(color, 8, 2, tags=[(338, "H", [1])]))
    assert premultiplied.tolist() == [[[199, 99, 0, 128], [200, 100, 50, 255]]]
    other = read(tiff(color, 8, 2, tags=[(338, "H", [0])]))
    assert other.tolist() == color[..., :3].tolist()
    grey = np.array([[[50, 100], [60, 255]]])
    assert read(tiff(grey, 8, 1, tags=[(338, "H", [2])])).tolist() == [
        [[50, 50, 50, 100], [60, 60, 60, 255]]
    ]
    assert read(tiff(grey, 8, 1, tags=[(338, "H", [1])]))[0, 0].tolist() == [127, 127, 127, 100]


def planes(samples, bits, photometric, order, tags=()):
    """A page whose channels are apart: each a strip of its own."""
    channels = samples.shape[2]
    length = samples[..., 0].size * bits // 8
    data = bytearray(tiff(samples, bits, photometric, order=order, tags=[(284, "H", [2]), *tags]))
    plain = samples.transpose(2, 0, 1).astype(f"{order}u{bits // 8}").tobytes()
    data[8 : 8 + len(plain)] = plain
    starts = [8 + plane * length for plane in range(channels)]
    for tag, values in ((273, starts), (279, [length] * channels)):
        place = data.index(struct.pack(order + "HH", tag, 4), 8 + len(plain))
        data[place + 4 : place + 12] = struct.pack(order + "II", channels, len(data))
        data += struct.pack(f"{order}{channels}I", *values)
    return bytes(data)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "laid_out", [planes, lambda *args, **tags: tiff(*args[:3], order=args[3], **tags)]
)
def test_sixteen_bits_are_rounded_whatever_their_layout(order, laid_out):
    deep = np.array([[[0x0180, 0x80FF, 0xFFFF, 0x8080], [0x0000, 0x0101, 0xFE7F, 0xFFFF]]])
    eight = np.round(deep / 257).astype(int)
    assert read(laid_out(deep[..., :3], 16, 2, order)).tolist() == eight[..., :3].tolist()
    straight = read(laid_out(deep, 16, 2, order, tags=[(338, "H", [2])]))
    assert straight.tolist() == eight.tolist()
    multiplied = deep.copy()
    multiplied[..., :3] = np.round(deep[..., :3] * (deep[..., 3:] / 65535))
    assert (
        read(laid_out(multiplied, 16, 2, order, tags=[(338, "H", [1])])).tolist() == eight.tolist()
    )
    inks = np.array([[[0, 0xFFFF, 0xFFFF, 0], [0, 0, 0, 0xFFFF]]])
    assert read(laid_out(inks, 16, 5, order)).tolist() == [[[255, 0, 0], [0, 0, 0]]]


def test_alpha_in_a_plane_of_its_own_divides_the_others():
    color = np.array([[[100, 50, 0, 128], [200, 100, 50, 255]]])
    pixels = read(planes(color, 8, 2, "<", tags=[(338, "H", [1])]))
    assert pixels.tolist() == [[[199, 100, 0, 128], [200, 100, 50, 255]]]


def test_pages_of_sixteen_bits_are_turned_upright():
    deep = np.arange(18).reshape(2, 3, 3) * 3000
    data = tiff(deep, 16, 2, tags=[(274, "H", [6])])
    assert np.array_equal(read(data), np.rot90(np.round(deep / 257), -1))


@pytest.mark.parametrize("scale", [1, 257])
def test_a_palette_has_sixteen_bits_or_by_some_programs_eight(scale):
    colors = np.zeros((256, 3), int)
    colors[:2] = [[255, 128, 0], [1, 2, 3]]
    tags = [(320, "H", (colors.T * scale).ravel().tolist())]
    data = tiff(np.array([[[0], [1]]]), 8, 3, tags=tags)
    assert read(data).tolist() == [colors[:2].tolist()]
    assert own_palette(data, "a.tif")[:2].tolist() == colors[:2].tolist()


def test_inks_and_lab():
    inks = np.array([[[0, 255, 255, 0], [0, 0, 0, 255], [0, 0, 0, 0]]])
    assert read(tiff(inks, 8, 5))[0].tolist() == [[255, 0, 0], [0, 0, 0], [255, 255, 255]]
    lab = np.array([[[255, 0, 0], [137, 0, 0], [138, 81, 70]]])
    expected = [[255, 255, 255], [128, 128, 128], [255, 0, 0]]
    assert read(tiff(lab, 8, 8))[0].tolist() == [pytest.approx(one, abs=6) for one in expected]


def test_a_page_of_twelve_bits_has_its_own_white():
    packed = np.array([[[0xFF, 0xF0, 0x00]]])  # 4095, 0
    data = bytearray(tiff(packed, 8, 1, tags=[]))
    for tag, value in ((256, 2), (258, 12), (277, 1)):
        place = data.index(struct.pack("<H", tag), 8)
        struct.pack_into("<HII", data, place + 2, 3, 1, value)
    assert greys(bytes(data)) == [255, 0]


def test_thumbnails_and_masks_are_no_pages():
    pages = [Image.new("RGB", (6, 4), (9, 9, 9))]
    pages += [Image.new("L", (side, side)) for side in (2, 3, 5)]
    pages[1].encoderinfo = {"tiffinfo": {254: 1}}
    pages[2].encoderinfo = {"tiffinfo": {254: 4}}
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    shapes = [pixels.shape for pixels in ImageFile(data, "a.tif")]
    assert shapes == [(4, 6, 3), (5, 5, 3)]


def test_pages_in_a_circle_end():
    data = bytearray(tiff(RAMP, 8, 1))
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    struct.pack_into("<I", data, place + 2 + 12 * count, place)
    with pytest.raises(ValueError, match=r"a\.tif: the pages of this TIFF run in a circle"):
        ImageFile(bytes(data), "a.tif")


def test_pages_are_turned_upright_each_by_its_own_tag():
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    pages = [Image.fromarray(pixels), Image.fromarray(pixels)]
    pages[1].encoderinfo = {"tiffinfo": {274: 6}}
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:], tiffinfo={274: 3})
    first, second = ImageFile(data, "a.tif")
    assert np.array_equal(first, pixels[::-1, ::-1])
    assert np.array_equal(second, np.rot90(pixels, -1))
