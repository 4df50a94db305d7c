"""Pictures of every kind in, files without loss out, and what happens to bad ones."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from colorquant_nn.files import write_atomically
from colorquant_nn.io import load_frames, load_image, save_image
from tests.helpers import HEIGHT, WIDTH, as_bytes, bits_per_pixel, photo, quantized

LOSSLESS = (".png", ".gif", ".webp", ".tif", ".bmp")


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("colors", [1, 2, 3, 4, 5, 16, 17, 200, 256])
def test_an_indexed_file_holds_the_colors_exactly(tmp_path, suffix, colors):
    image = quantized(colors)
    save_image(tmp_path / f"a{suffix}", image, effort="fast")
    expected = as_bytes(image.rgb)
    assert load_image(tmp_path / f"a{suffix}").equal(expected)
    if suffix == ".png":
        bits = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 16: 4, 17: 8, 200: 8, 256: 8}[colors]
        assert bits_per_pixel(tmp_path / "a.png") == bits
        stored = Image.open(tmp_path / "a.png")
        assert stored.mode == "P"
        assert len(stored.getpalette("RGB")) == 3 * colors
        assert np.array_equal(np.asarray(stored), image.indices)
    assert [file.name for file in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("colors", [3, 200])
def test_partial_alpha_is_kept(tmp_path, suffix, colors):
    image = quantized(colors, channels=4)
    save_image(tmp_path / f"a{suffix}", image)
    assert load_image(tmp_path / f"a{suffix}").equal(as_bytes(image.rgb))
    if suffix == ".png":
        assert bits_per_pixel(tmp_path / "a.png") == (2 if colors == 3 else 8)


def test_alpha_of_a_gif_is_on_or_off(tmp_path):
    image = quantized(40, channels=4)
    save_image(tmp_path / "a.gif", image)
    back = load_image(tmp_path / "a.gif")
    opaque = image.rgb[3] * 255 >= 128
    assert back[3].bool().equal(opaque)
    assert back[:3, opaque].equal(as_bytes(image.rgb[:3, opaque]))


@pytest.mark.parametrize(
    ("suffix", "channels"),
    [(".png", 3), (".png", 4), (".webp", 3), (".webp", 4), (".tif", 3), (".tif", 4), (".bmp", 3)],
)
def test_true_color(tmp_path, suffix, channels):
    image = torch.randint(0, 256, (channels, 9, 11), dtype=torch.uint8)
    save_image(tmp_path / f"a{suffix}", image)
    assert load_image(tmp_path / f"a{suffix}").equal(image)
    save_image(tmp_path / f"b{suffix}", image.double() / 255)
    assert load_image(tmp_path / f"b{suffix}").equal(image)


def test_more_than_256_colors_become_true_color(tmp_path):
    image = quantized(300, height=30, width=30)
    save_image(tmp_path / "a.png", image)
    assert load_image(tmp_path / "a.png").equal(as_bytes(image.rgb))
    with pytest.raises(ValueError, match="at most 256 colours, got 300"):
        save_image(tmp_path / "a.gif", image)


@pytest.mark.parametrize(
    ("image", "name", "message"),
    [
        (torch.rand(3, 4, 4), "a.jpg", r"ends in \.png, \.gif.*got '\.jpg'"),
        (torch.rand(3, 4, 4), "a", "got ''"),
        (torch.rand(3, 4, 4), "a.gif", "a GIF holds an indexed image"),
        (torch.rand(2, 3, 4, 4), "a.png", r"got \(2, 3, 4, 4\)"),
        (torch.rand(5, 4, 4), "a.png", r"got \(5, 4, 4\)"),
        (torch.full((3, 4, 4), 2.0), "a.png", r"in \[0, 1\], got 2 to 2"),
        (torch.full((3, 4, 4), float("nan")), "a.png", r"in \[0, 1\], got nan"),
        (torch.rand(3, 4, 4), "no/folder/a.png", "does not exist"),
    ],
)
def test_what_cannot_be_saved(tmp_path, image, name, message):
    with pytest.raises(ValueError, match=message):
        save_image(tmp_path / name, image)
    with pytest.raises(TypeError, match=r"floating point or uint8, got torch\.int64"):
        save_image(tmp_path / "a.png", torch.ones(3, 4, 4, dtype=torch.int64))
    for kind in (torch.rand(3, 4, 4).to_sparse(), torch.rand(3, 4, 4, device="meta")):
        with pytest.raises(ValueError, match=r"expected an image (as a dense|with values)"):
            save_image(tmp_path / "a.png", kind)
    for kind in (np.zeros((4, 4, 3), np.uint8), [[0]], None, "a.png"):
        with pytest.raises(TypeError, match=r"expected an image as a tensor .*, got "):
            save_image(tmp_path / "a.png", kind)
    with pytest.raises(ValueError, match=r"a\.bmp: a BMP has no transparency"):
        save_image(tmp_path / "a.bmp", torch.rand(4, 4, 4))
    assert not list(tmp_path.iterdir())


# Reading


def as_array(image):
    return image.permute(1, 2, 0).numpy()


def test_greyscale_one_bit_and_sixteen_bits(tmp_path):
    grey = photo()[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(as_array(load_image(tmp_path / "grey.png")), np.dstack([grey] * 3))
    Image.fromarray(grey > 60).save(tmp_path / "bits.png")
    assert np.array_equal(as_array(load_image(tmp_path / "bits.png"))[..., 0], (grey > 60) * 255)
    deep = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        rounded = np.round(deep / 257).astype(np.uint8)
        assert np.array_equal(as_array(load_image(tmp_path / name))[..., 1], rounded)
    Image.fromarray(deep.astype(np.float32) / 65535).save(tmp_path / "float.tif")
    assert np.array_equal(as_array(load_image(tmp_path / "float.tif"))[..., 2], rounded)
    Image.fromarray(deep.astype(np.float32)).save(tmp_path / "radiance.tif")
    with pytest.raises(ValueError, match="from 0 to 1 in an image of mode F, got 0 to 65520"):
        load_image(tmp_path / "radiance.tif")


def test_sixteen_bit_rgb(tmp_path):
    deep = (photo().astype(">u2") * 257).reshape(HEIGHT, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in deep)

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert np.array_equal(as_array(load_image(tmp_path / "a.png")), photo())


def test_indexed_and_transparent_inputs(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=0)
    assert load_image(tmp_path / "a.png").flatten(1).T.tolist() == [
        [255, 0, 0, 0],
        [0, 0, 255, 255],
    ]
    image.save(tmp_path / "b.png", transparency=bytes([100, 255]))
    assert load_image(tmp_path / "b.png")[3].tolist() == [[100, 255]]
    grey = Image.new("LA", (2, 1))
    grey.putdata([(9, 0), (8, 77)])
    grey.save(tmp_path / "c.png")
    assert load_image(tmp_path / "c.png").flatten(1).T.tolist() == [[9, 9, 9, 0], [8, 8, 8, 77]]
    keyed = Image.new("RGB", (2, 1))
    keyed.putdata([(1, 2, 3), (4, 5, 6)])
    keyed.save(tmp_path / "d.png", transparency=(4, 5, 6))
    assert load_image(tmp_path / "d.png")[3].tolist() == [[255, 0]]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_a_picture_of_a_pixel_may_be_written_to(tmp_path, size):
    Image.new("RGB", size, (1, 2, 3)).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png")
    image += 1
    assert image[:, 0, 0].tolist() == [2, 3, 4]


def test_alpha_that_is_not_used_is_dropped(tmp_path):
    Image.fromarray(np.dstack([photo(), np.full((HEIGHT, WIDTH), 255, np.uint8)])).save(
        tmp_path / "a.png"
    )
    assert load_image(tmp_path / "a.png").shape == (3, HEIGHT, WIDTH)


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise
    Image.fromarray(photo()).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(as_array(load_image(tmp_path / "a.png")), np.rot90(photo(), -1))
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        Image.fromarray(photo()).save(tmp_path / "a.png", exif=exif)
        with Image.open(tmp_path / "a.png") as stored:
            upright = ImageOps.exif_transpose(stored)
        assert np.array_equal(as_array(load_image(tmp_path / "a.png")), np.asarray(upright))


def wide_profile() -> bytes:
    """sRGB with red and green exchanged: a profile whose effect is obvious."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", data, 128)[0]
    entries = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data.replace("sRGB".encode("utf-16-be"), "xxxx".encode("utf-16-be")))


def test_icc_profiles_are_converted_to_srgb(tmp_path):
    flat = Image.new("RGB", (4, 4), (255, 0, 0))
    flat.save(tmp_path / "a.png", icc_profile=wide_profile())
    red, green, blue = load_image(tmp_path / "a.png")[:, 0, 0].tolist()
    assert red <= 1
    assert green >= 254
    assert blue <= 1
    with_alpha = Image.new("RGBA", (4, 4), (255, 0, 0, 50))
    with_alpha.save(tmp_path / "b.png", icc_profile=wide_profile())
    assert load_image(tmp_path / "b.png")[:, 0, 0].tolist() == [red, green, blue, 50]


def test_a_profile_of_lab(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB", 5000)).tobytes()
    flat = Image.new("LAB", (4, 4), (136, 208, 195))  # about the red of sRGB
    flat.save(tmp_path / "a.tif", icc_profile=profile)
    red, green, blue = load_image(tmp_path / "a.tif")[:, 0, 0].tolist()
    assert red > 200
    assert max(green, blue) < 60


def test_srgb_profiles_change_nothing(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(photo()).save(tmp_path / "a.png", icc_profile=profile)
    assert np.array_equal(as_array(load_image(tmp_path / "a.png")), photo())


def test_a_broken_profile_is_a_warning_that_names_the_file(tmp_path):
    Image.fromarray(photo()).save(tmp_path / "a.png", icc_profile=b"nonsense")
    with pytest.warns(UserWarning, match=r"a\.png: ICC profile ignored"):
        assert np.array_equal(as_array(load_image(tmp_path / "a.png")), photo())


def test_cmyk(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    assert load_image(tmp_path / "a.jpg")[:, 4, 4].tolist() == pytest.approx([255, 0, 0], abs=4)
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.tif")
    assert load_image(tmp_path / "a.tif")[:, 4, 4].tolist() == [0, 255, 255]


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text", "truncated", "bomb"])
@pytest.mark.parametrize("load", [load_image, load_frames])
def test_bad_files_are_named(tmp_path, monkeypatch, kind, load):
    path = tmp_path / "some.png"
    error, message = ValueError, ""
    if kind == "missing":
        error, message = FileNotFoundError, "no such file"
    elif kind == "folder":
        path.mkdir()
        message = "got a folder"
    elif kind == "empty":
        path.write_bytes(b"")
        message = "empty"
    elif kind == "text":
        path.write_text("hello")
        message = "not an image"
    elif kind == "truncated":
        data = io.BytesIO()
        Image.fromarray(photo()).save(data, "PNG")
        path.write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
        message = "truncated"
    else:
        Image.fromarray(photo()).save(path)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        message = "too large"
    with pytest.raises(error, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "gif", "jpg", "webp", "tif", "bmp"])
def test_files_cut_anywhere_are_an_image_or_a_value_error(tmp_path, suffix):
    data = io.BytesIO()
    Image.fromarray(photo()).save(data, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix))
    path = tmp_path / f"a.{suffix}"
    for end in range(1, len(data.getvalue()), 97):
        path.write_bytes(data.getvalue()[:end])
        try:
            load_image(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017


# Writing


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="expected an image of shape"):
        save_image(path, torch.rand(7, 7))

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(ValueError, match=r"a\.png: cannot be written \(No space left"):
        write_atomically({path: b"new"})
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_only_regular_files_are_replaced(tmp_path):
    with pytest.raises(ValueError, match="got a folder or a device"):
        write_atomically({os.devnull: b""})
    with pytest.raises(ValueError, match="got a folder or a device"):
        write_atomically({tmp_path: b""})
    target = tmp_path / "target"
    target.write_bytes(b"old")
    (tmp_path / "link").symlink_to(target)
    write_atomically({tmp_path / "link": b"new"})
    assert (tmp_path / "link").is_symlink()
    assert target.read_bytes() == b"new"


def test_mode_of_new_files_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically({tmp_path / "a": b""})
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
