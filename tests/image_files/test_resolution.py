"""Dots per inch, wherever a format keeps them, turned with the picture."""

import struct

import pytest
from PIL import Image

from colorquant_nn.image_files import ImageFile
from tests.image_files.files import RGB, png, saved, tiff

IMAGE = Image.new("RGB", (6, 4), (9, 8, 7))


def resolution(data):
    found = ImageFile(data, "a file").resolution
    return found and pytest.approx(found, abs=0.05)


def tags(orientation=1, **values):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.update({282: values["across"], 283: values["down"], 296: values.get("unit", 2)})
    return exif


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP"])
def test_each_format_has_its_own_place(format):
    assert resolution(saved(IMAGE, format, dpi=(300, 150))) == (300, 150)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG"])
def test_exif_says_it_too_in_inches_or_centimetres(format):
    assert resolution(saved(IMAGE, format, exif=tags(across=300.0, down=150.0))) == (300, 150)
    metric = tags(across=100.0, down=50.0, unit=3)
    assert resolution(saved(IMAGE, format, exif=metric)) == (254, 127)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_axes_turn_with_the_picture(format, orientation):
    data = saved(IMAGE, format, exif=tags(orientation, across=300.0, down=150.0))
    image = ImageFile(data, "a file")
    turned = orientation > 4
    assert image.resolution == pytest.approx((150, 300) if turned else (300, 150))
    assert next(iter(image)).shape == ((6, 4, 3) if turned else (4, 6, 3))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "GIF"])
def test_nothing_said_is_none(format):
    assert resolution(saved(IMAGE, format)) is None
    if format != "GIF":
        orientation = Image.Exif()
        orientation[0x0112] = 1
        assert resolution(saved(IMAGE, format, exif=orientation)) is None


def test_a_guess_is_none_in_several_jpegs_too():
    orientation = Image.Exif()
    orientation[0x0112] = 1
    data = saved(IMAGE, "MPO", save_all=True, append_images=[IMAGE], exif=orientation)
    assert resolution(data) is None


def test_nonsense_is_none():
    for across, unit in ((0, 1), (2**31 - 1, 1), (11811, 0), (39, 1)):
        chunk = (b"pHYs", struct.pack(">IIB", across, across, unit))
        assert resolution(png([[[1, 2, 3]]], 8, RGB, chunk)) is None
    # Rationals that are no numbers; and one dot each, of no unit.
    samples = [[[7]]]
    for numbers, unit in (((0, 0), 2), ((1, 0), 2), ((0, 1), 2), ((1, 1), 1), ((300, 1), 1)):
        rational = struct.pack("<2I", *numbers)
        data = tiff(
            samples, 8, 1, tags=[(282, "I", numbers), (283, "I", numbers), (296, "H", [unit])]
        )
        for tag in (282, 283):  # two whole numbers are one rational
            old = struct.pack("<HHI", tag, 4, 2)
            data = data.replace(old, struct.pack("<HHI", tag, 5, 1))
        assert rational in data
        assert resolution(data) is None
