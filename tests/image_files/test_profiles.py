"""Colour profiles: what they do counts, not what they are called."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from colorquant_nn.image_files import ImageFile, own_palette
from tests.image_files.files import GREY, INDEXED, RGB, RGB_ALPHA, icc, png, saved, tiff

# Columns of XYZ under D50.
SRGB = [(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)]
P3 = [(0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)]
LEVELS = np.linspace(0, 1, 1024)
CURVE = np.where(LEVELS <= 0.04045, LEVELS / 12.92, ((LEVELS + 0.055) / 1.055) ** 2.4)
SRGB_CURVE = np.round(CURVE * 65535).astype(int).tolist()
COLORS = np.array(
    [[[10, 10, 10], [55, 55, 55], [128, 128, 128], [255, 0, 0], [0, 255, 0], [200, 120, 40]]],
    np.uint8,
)


def read(data):
    (pixels,) = ImageFile(data, "a file")
    return pixels


def converted(image, profile):
    return np.asarray(
        ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    )


@pytest.mark.parametrize("name", ["sRGB", "P3 gamut with sRGB transfer", "c2"])
@pytest.mark.parametrize(
    ("primaries", "curve", "moves"),
    [(SRGB, SRGB_CURVE, False), (P3, SRGB_CURVE, True), (SRGB, 1.0, True), (SRGB, 1.8, True)],
)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_colors_move_if_the_profile_moves_them(format, name, primaries, curve, moves):
    profile = icc(primaries, curve, name)
    options = {"lossless": True} if format == "WEBP" else {}
    pixels = read(saved(Image.fromarray(COLORS), format, icc_profile=profile, **options))
    expected = converted(Image.fromarray(COLORS), profile) if moves else COLORS
    assert np.array_equal(pixels, expected)
    assert (np.abs(expected.astype(int) - COLORS).max() > 10) == moves


def test_a_p3_photograph():
    image = Image.fromarray(np.tile(COLORS[:, -1:], (16, 16, 1)))
    pixels = read(saved(image, "JPEG", quality=100, icc_profile=icc(P3, SRGB_CURVE, "sRGB")))
    assert pixels[8, 8].tolist() == pytest.approx([213, 115, 0], abs=3)


def test_greys_with_a_profile_of_greys_or_of_colors():
    values = np.arange(0, 256, 5, dtype=np.uint8)[None]
    grey = Image.fromarray(values)
    expected = np.round(255 * (values / 255.0) ** (1 / 2.4))
    for profile in (icc(None, 1.0, space=b"GRAY"), icc(SRGB, 1.0)):
        pixels = read(saved(grey, "PNG", icc_profile=profile))
        assert np.abs(pixels - pixels[..., :1].astype(int)).max() <= 1
        assert np.abs(pixels[0, 10:, 0] - expected[0, 10:]).max() < 12
        assert pixels[0, 10, 0] > 100
    same = read(saved(grey, "PNG", icc_profile=icc(None, 2.2, space=b"GRAY")))
    assert np.abs(same[..., 0].astype(int) - values).max() <= 8


def test_alpha_and_16_bits_and_palettes():
    profile = icc(P3, SRGB_CURVE)
    expected = converted(Image.fromarray(COLORS), profile)
    clear = np.dstack([COLORS, np.full((1, 6), 90, np.uint8)])
    pixels = read(saved(Image.fromarray(clear), "PNG", icc_profile=profile))
    assert np.array_equal(pixels, np.dstack([expected, clear[..., 3:]]))
    chunks = [(b"iCCP", b"x\0\0" + zlib.compress(profile)), (b"PLTE", COLORS.tobytes())]
    indexed = png([[[n] for n in range(6)]], 4, INDEXED, *chunks)
    assert np.array_equal(read(indexed), expected)
    assert np.array_equal(own_palette(indexed, "a file"), expected[0])
    deep = png(COLORS.astype(int) * 257, 16, 2, chunks[0])
    assert np.array_equal(read(deep), expected)


@pytest.mark.parametrize("kind", [GREY, RGB, RGB_ALPHA])
def test_dark_linear_light_keeps_its_16_bits(kind):
    linear = np.arange(0, 1200, 10).reshape(2, 60, 1) * np.ones({0: 1, 2: 3, 6: 4}[kind], int)
    light = linear[..., :3] / 65535
    expected = 255 * np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    pixels = read(png(linear, 16, kind, (b"gAMA", struct.pack(">I", 100_000))))
    assert np.abs(pixels[..., :3] - expected).max() < 1.6
    if kind == RGB:
        profile = icc(SRGB, 1.0)
        tags = [(34675, "I", np.frombuffer(profile, "<u4").tolist())]
        data = tiff(linear, 16, 2, tags=tags)
        data = data.replace(
            struct.pack("<HHI", 34675, 4, len(profile) // 4),
            struct.pack("<HHI", 34675, 7, len(profile)),
        )
        assert np.abs(read(data) - expected).max() < 1.6


def test_frames_are_converted_and_a_broken_profile_is_warned_of_once():
    frames = [Image.fromarray(COLORS), Image.fromarray(COLORS[:, ::-1])]
    options = {"save_all": True, "append_images": frames[1:], "lossless": True}
    profile = icc(P3, SRGB_CURVE)
    image = ImageFile(saved(frames[0], "WEBP", icc_profile=profile, **options), "a.webp")
    for pixels, frame in zip(image, frames, strict=True):
        assert np.array_equal(pixels, converted(frame, profile))
    image = ImageFile(saved(frames[0], "WEBP", icc_profile=b"nonsense", **options), "a.webp")
    with pytest.warns(UserWarning, match=r"a\.webp: ICC profile ignored") as caught:
        found = [*image, *image]
    assert len(caught) == 1
    assert np.array_equal(found[2], COLORS)


def inks_profile():
    """CMYK by a table of two steps: lighter inks than plain arithmetic has, and bluish black."""
    lab = []
    for node in range(16):
        c, m, y, k = (node >> shift & 1 for shift in (3, 2, 1, 0))
        light = 0.25 if k else 1 - 0.25 * (c + m + y) / 2
        lab += [round(255 * light), 128 + 30 * (m - c), 128 + 30 * (y - k)]
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    lut += struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    lut += bytes(range(256)) * 4 + bytes(lab) + bytes(range(256)) * 3
    head = struct.pack(">I4xI", 144 + len(lut), 0x02100000) + b"prtrCMYKLab " + bytes(12) + b"acsp"
    head = (head + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)).ljust(128, b"\0")
    return head + struct.pack(">I4sII", 1, b"A2B0", 144, len(lut)) + lut


@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
def test_inks_with_a_profile(format):
    profile = inks_profile()
    for inks in ((255, 0, 0, 0), (0, 0, 0, 255), (0, 200, 100, 0)):
        image = Image.new("CMYK", (16, 16), inks)
        expected = converted(image, profile)[8, 8].astype(int)
        options = {"quality": 100} if format == "JPEG" else {}
        pixels = read(saved(image, format, icc_profile=profile, **options))
        assert pixels[8, 8].tolist() == pytest.approx(expected.tolist(), abs=4)
        assert np.abs(expected - np.asarray(image.convert("RGB"))[8, 8]).max() > 20


def test_a_profile_of_other_pictures_is_ignored():
    data = saved(Image.fromarray(COLORS), "PNG", icc_profile=icc(None, 1.0, space=b"GRAY"))
    with pytest.warns(UserWarning, match="ICC profile ignored .it is one of GRAY and not of RGB"):
        assert np.array_equal(read(data), COLORS)
    grey = png([[[7]]], 8, GREY)
    assert read(grey).tolist() == [[[7, 7, 7]]]


def numbers(*values):
    return struct.pack(f">{len(values)}I", *(round(100_000 * value) for value in values))


OF_SRGB = numbers(0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
OF_P3 = numbers(0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)


@pytest.mark.parametrize(
    ("chunks", "profile"),
    [
        ([(b"gAMA", numbers(0.45455))], None),
        ([(b"gAMA", numbers(0.45455)), (b"cHRM", OF_SRGB)], None),
        ([(b"gAMA", numbers(1)), (b"sRGB", b"\0")], None),
        ([(b"gAMA", numbers(1))], icc(SRGB, 1.0)),
        ([(b"gAMA", numbers(1 / 1.8))], icc(SRGB, 1.8)),
        ([(b"cHRM", OF_P3)], icc(P3, SRGB_CURVE)),
        ([(b"gAMA", numbers(0.45455)), (b"cHRM", OF_P3)], icc(P3, SRGB_CURVE)),
        ([(b"cICP", bytes([1, 13, 0, 1]))], None),
        ([(b"cICP", bytes([12, 13, 0, 1]))], icc(P3, SRGB_CURVE)),
        ([(b"cICP", bytes([1, 8, 0, 1])), (b"sRGB", b"\0")], icc(SRGB, 1.0)),
        ([(b"gAMA", numbers(0))], None),
    ],
)
def test_a_png_may_say_its_colors_in_numbers(chunks, profile):
    pixels = read(png(COLORS, 8, 2, *chunks)).astype(int)
    if profile is None:
        assert np.array_equal(pixels, COLORS)
    else:
        expected = converted(Image.fromarray(COLORS), profile)
        assert np.abs(pixels - expected).max() <= 2
        assert np.abs(pixels - COLORS).max() > 10


@pytest.mark.parametrize(
    "chunk", [(b"cICP", bytes([9, 16, 0, 1])), (b"cHRM", bytes(32)), (b"cHRM", numbers(*[0.3] * 8))]
)
def test_numbers_that_are_no_colors_are_warned_of(chunk):
    with pytest.warns(UserWarning, match="profile ignored"):
        assert np.array_equal(read(png(COLORS, 8, 2, chunk)), COLORS)
