"""Palette files: round trips, files of other programs, and what happens to garbage."""

import re
import shutil
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from colorquant_nn.functional.color import rgb_to_lab
from colorquant_nn.named_palettes import NAMED_PALETTES
from colorquant_nn.palette_files import PALETTE_FORMATS, PANEL_FORMATS, read_palette
from colorquant_nn.palettes import load_palette, load_panel, save_palette
from tests.helpers import as_bytes, random

WITH_ALPHA = (".gpl", ".hex", ".txt", ".css", ".png")

rgb = st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=256)
rgba = st.lists(st.tuples(*[st.integers(0, 255)] * 4), min_size=1, max_size=256)


@pytest.mark.parametrize("suffix", PALETTE_FORMATS)
@given(colors=rgb)
@settings(max_examples=40, deadline=None)
def test_reading_what_was_written_is_identity(suffix, colors):
    colors = np.array(colors, np.uint8)
    data = PALETTE_FORMATS[suffix](colors, "some name")
    np.testing.assert_array_equal(read_palette(data, f"file{suffix}"), colors)


@pytest.mark.parametrize("suffix", WITH_ALPHA)
@given(colors=rgba)
@settings(max_examples=40, deadline=None)
def test_alpha_is_kept(suffix, colors):
    colors = np.array(colors, np.uint8)
    back = read_palette(PALETTE_FORMATS[suffix](colors, "name"), f"file{suffix}")
    if suffix in (".txt", ".css", ".png") and (colors[:, 3] == 255).all():  # nothing to say
        colors = colors[:, :3]
    np.testing.assert_array_equal(back, colors)


SPICE = [b"GIMP Palette\n", b"JASC-PAL\r\n0100\r\n", b"ASEF\0\1\0\0\0\0\0\2", b"\0" * 768, b"12 7 "]
SPICE += [b"\x89PNG\r\n\x1a\n", b"#ff00aa\n", b"\0\1\0\0\0\x16", b"RGB ", b"Channels: RGBA\n", b""]


@pytest.mark.parametrize("suffix", PALETTE_FORMATS)
@given(parts=st.lists(st.one_of(st.sampled_from(SPICE), st.binary(max_size=60)), max_size=6))
@settings(max_examples=150, deadline=None)
def test_garbage_is_a_palette_or_a_value_error(suffix, parts):
    try:
        colors = read_palette(b"".join(parts), f"garbage{suffix}")
    except ValueError as error:
        assert "garbage" in str(error)  # noqa: PT017
    else:
        assert colors.dtype == np.uint8
        assert colors.ndim == 2
        assert colors.shape[0] >= 1
        assert colors.shape[1] in (3, 4)


@pytest.mark.parametrize("suffix", PALETTE_FORMATS)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_damaged_files_are_a_palette_or_a_value_error(suffix, data):
    colors = np.array(data.draw(rgb), np.uint8)
    good = bytearray(PALETTE_FORMATS[suffix](colors, "name"))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(good)))
    try:
        read_palette(bytes(good[:end]), f"damaged{suffix}")
    except ValueError as error:
        assert "damaged" in str(error)  # noqa: PT017


@pytest.mark.parametrize("suffix", PALETTE_FORMATS)
@pytest.mark.parametrize("name", NAMED_PALETTES)
def test_named_palettes_survive_every_file(tmp_path, name, suffix):
    palette = load_palette(name)
    assert palette.dtype == torch.float32
    assert len(palette.unique(dim=0)) == len(palette)
    save_palette(tmp_path / f"a{suffix}", palette)
    assert load_palette(tmp_path / f"a{suffix}").equal(palette)
    assert [file.name for file in tmp_path.iterdir()] == [f"a{suffix}"]


def test_named_palettes_are_the_hardware():
    known = {  # the size, and one colour with its place, from its source
        "gameboy": (4, 2, "#8bac0f"),
        "cga": (16, 6, "#aa5500"),
        "cga-mode4-green": (4, 1, "#55ff55"),
        "cga-mode4-cyan": (4, 1, "#55ffff"),
        "ega": (64, 20, "#aa5500"),
        "nes": (54, 1, "#001e74"),
        "c64": (16, 2, "#813338"),
        "c64-pepto": (16, 2, "#68372b"),
        "zx-spectrum": (15, 1, "#0000d8"),
        "pico-8": (16, 8, "#ff004d"),
        "web-safe": (216, 1, "#000033"),
        "spectra6": (6, 3, "#711813"),
        "acep7": (7, 6, "#b16a49"),
        "epaper-bwry": (4, 2, "#ac8000"),
        "epaper-grey-4": (4, 1, "#5b5b5b"),
        "epaper-grey-16": (16, 1, "#373737"),
        "grey-2": (2, 1, "#ffffff"),
        "grey-4": (4, 1, "#555555"),
        "grey-16": (16, 1, "#111111"),
        "grey-256": (256, 7, "#070707"),
    }
    assert NAMED_PALETTES.keys() == known.keys()
    for name, (size, place, code) in known.items():
        palette = load_palette(name)
        assert len(palette) == size, name
        assert f"#{bytes(as_bytes(palette[place]).tolist()).hex()}" == code, name
    ega = (load_palette("ega") * 255).int().tolist()
    # The sixteen that the EGA shows by default are those of the CGA.
    default = [0, 1, 2, 3, 4, 5, 20, 7, 56, 57, 58, 59, 60, 61, 62, 63]
    assert [ega[number] for number in default] == (load_palette("cga") * 255).int().tolist()
    assert (load_palette("grey-4") * 255).int()[:, 0].tolist() == [0, 85, 170, 255]
    assert all(entry.source for entry in NAMED_PALETTES.values())


def test_named_panels_say_who_measured_them_and_how():
    panels = {name: entry for name, entry in NAMED_PALETTES.items() if entry.device}
    coloured, greys = ["spectra6", "acep7", "epaper-bwry"], ["epaper-grey-4", "epaper-grey-16"]
    assert list(panels) == coloured + greys
    for name, entry in panels.items():
        assert "https://" in entry.source
        assert "photographed" in entry.source or "data sheet" in entry.source
        measured, device = load_panel(name)
        assert measured.shape == device.shape == (len(entry.device.split()), 3)
        white = 1 if name in coloured else -1  # black and white come first, as in the device's
        assert (device[0] == 0).all()
        assert (device[white] == 1).all()
        assert measured[0].max() < 0.3
        assert measured[white].min() > 0.6


@pytest.mark.parametrize(
    ("name", "white", "contrast"), [("epaper-grey-4", 0.35, 8), ("epaper-grey-16", 0.46, 16)]
)
def test_greys_of_e_paper_are_those_of_their_data_sheets(name, white, contrast):
    reflected = np.array([white / contrast, white])
    lightness = np.linspace(*(116 * np.cbrt(reflected) - 16), len(load_palette(name)))
    found = rgb_to_lab(load_palette(name)).numpy()
    np.testing.assert_allclose(found[:, 0], lightness, atol=0.25)  # of 8 bits
    np.testing.assert_allclose(found[:, 1:], 0, atol=0.02)


@pytest.mark.parametrize("suffix", PANEL_FORMATS)
def test_panels_survive_their_files(tmp_path, suffix):
    panel = load_panel("spectra6")
    save_palette(tmp_path / f"a{suffix}", panel.measured, device=panel.device)
    shutil.copy(tmp_path / f"a{suffix}", tmp_path / "a.TXT")
    for source in (tmp_path / f"a{suffix}", tmp_path / "a.TXT"):
        back = load_panel(source)
        assert back.measured.equal(panel.measured)
        assert back.device.equal(panel.device)
        assert load_palette(source).equal(panel.measured)


def test_a_colour_may_be_given_once_or_twice(tmp_path):
    measured, device = load_panel("black, #b21318=red, rgb(9, 9, 9) = rgb(1 2 3)")
    assert as_bytes(measured).tolist() == [[0, 0, 0], [178, 19, 24], [9, 9, 9]]
    assert as_bytes(device).tolist() == [[0, 0, 0], [255, 0, 0], [1, 2, 3]]
    codes = tmp_path / "codes.hex"
    codes.write_text("#000\n#b21318=#f00 // red\n0A0A0A=ffffff\n")
    measured, device = load_panel(codes)
    assert as_bytes(measured).tolist() == [[0, 0, 0], [178, 19, 24], [10, 10, 10]]
    assert as_bytes(device).tolist() == [[0, 0, 0], [255, 0, 0], [255, 255, 255]]
    named = tmp_path / "named.gpl"
    named.write_bytes(
        b"GIMP Palette\nName: #00ff00=#ff00ff\n#\n0 0 0 Black\n178 19 24\t#B21318=#FF0000\n"
    )
    assert as_bytes(load_panel(named).measured).tolist() == [[0, 0, 0], [178, 19, 24]]
    assert as_bytes(load_panel(named).device).tolist() == [[0, 0, 0], [255, 0, 0]]
    for name in ("gameboy", "#0008,#fff"):  # no panels
        assert load_panel(name).measured.equal(load_panel(name).device)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("#fff=#00f8,#000", "opaque colours of a panel"),
        ("#fff=", "got ''"),
        ("#fff=#000=#fff", "got '#000=#fff'"),
        ("#fff=256", "got '256'"),
    ],
)
def test_panels_that_are_none(tmp_path, source, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_panel(source)
    (tmp_path / "bad.hex").write_text(source.replace(",", "\n"))
    with pytest.raises(ValueError, match=r"bad\.hex"):
        load_panel(tmp_path / "bad.hex")


def test_a_panel_of_other_words_than_codes_is_not_taken_for_a_list_of_properties(tmp_path):
    (tmp_path / "panel.txt").write_text("#0f0f0f=black\n#b21318=red\n")
    with pytest.raises(ValueError, match=r"line 1: expected colours of a panel as codes"):
        load_panel(tmp_path / "panel.txt")


def test_a_panel_is_not_saved_with_loss(tmp_path):
    measured, device = load_panel("spectra6")
    with pytest.raises(ValueError, match=r"\.gpl, \.hex"):
        save_palette(tmp_path / "a.pal", measured, device=device)
    with pytest.raises(ValueError, match=r"\(6, 3\) and \(5, 3\)"):
        save_palette(tmp_path / "a.gpl", measured, device=device[1:])
    with pytest.raises(ValueError, match="got 0 to 2"):
        save_palette(tmp_path / "a.gpl", measured, device=device * 2)
    assert not list(tmp_path.iterdir())


def test_files_of_other_programs(tmp_path):
    gimp = tmp_path / "gimp.gpl"
    gimp.write_bytes(
        b"GIMP Palette\r\nName: \xe9t\xe9\r\nColumns: 4\r\n#\r\n\r\n"
        b"  0   0   0\tBlack 12\r\n255 128   0 \r\n# comment\r\n"
    )
    assert (load_palette(gimp) * 255).tolist() == [[0, 0, 0], [255, 128, 0]]
    old_gimp = tmp_path / "old.gpl"
    old_gimp.write_bytes(b"GIMP Palette\n1 2 3 a\n")
    assert as_bytes(load_palette(old_gimp)).tolist() == [[1, 2, 3]]
    shouting = old_gimp.rename(tmp_path / "OLD.GPL")
    assert as_bytes(load_palette(shouting)).tolist() == [[1, 2, 3]]
    aseprite = tmp_path / "aseprite.gpl"
    aseprite.write_bytes(b"GIMP Palette\nChannels: RGBA\n#\n0 0 0 0 Clear\n254 91 89 255 Red\n")
    assert as_bytes(load_palette(aseprite)).tolist() == [[0, 0, 0, 0], [254, 91, 89, 255]]
    lospec = tmp_path / "lospec.hex"
    lospec.write_bytes(b"1a1c2c\r\nffcd75")
    assert as_bytes(load_palette(lospec)).tolist() == [[26, 28, 44], [255, 205, 117]]
    some_alpha = tmp_path / "some.hex"
    some_alpha.write_text("ff0000\n00ff0080\n")
    assert as_bytes(load_palette(some_alpha)).tolist() == [[255, 0, 0, 255], [0, 255, 0, 128]]
    old_photoshop = tmp_path / "old.act"
    old_photoshop.write_bytes(bytes(range(256)) * 3)
    assert load_palette(old_photoshop).shape == (256, 3)
    one_pixel_each = tmp_path / "strip.png"
    Image.fromarray(np.array([[[9, 8, 7], [200, 100, 0]]], np.uint8)).save(one_pixel_each)
    assert as_bytes(load_palette(one_pixel_each)).tolist() == [[9, 8, 7], [200, 100, 0]]


def test_swatch_exchange_of_illustrator(tmp_path):
    """A group, its end, and grey and CMYK colours, as Illustrator writes them."""

    def block(kind, payload):
        return struct.pack(">HI", kind, len(payload)) + payload

    def text(name):
        return struct.pack(">H", len(name) + 1) + (name + "\0").encode("utf-16-be")

    blocks = [
        block(0xC001, text("Inks")),
        block(1, text("Cyan") + b"CMYK" + struct.pack(">4fH", 1, 0, 0, 0.2, 0)),
        block(1, text("Half") + b"Gray" + struct.pack(">fH", 0.5, 1)),
        block(1, text("Red") + b"RGB " + struct.pack(">3fH", 1, 0.2, 0, 0)),
        block(0xC002, b""),
    ]
    path = tmp_path / "inks.ase"
    path.write_bytes(b"ASEF" + struct.pack(">HHI", 1, 0, len(blocks)) + b"".join(blocks))
    expected = [[0, 204, 204], [128, 128, 128], [255, 51, 0]]
    assert as_bytes(load_palette(path)).tolist() == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.gpl", b"GIMP\n1 2 3", "a.gpl, line 1: expected 'GIMP Palette', got 'GIMP'"),
        ("a.gpl", b"GIMP Palette\n1 2 300 x", "line 2: expected 3 numbers from 0 to 255"),
        ("a.gpl", b"GIMP Palette\n#\n", "expected at least one colour"),
        ("a.pal", b"JASC-PAL\n0100\n2\n1 2 3\n", "line 3: expected 2 lines of colours to follow"),
        ("a.pal", b"JASC-PAL\n0100\n1\n1 2\n", "line 4: expected 3 numbers"),
        ("a.hex", b"ff0000\nred\n", "a.hex, line 2: expected a colour such as #ff8000, got 'red'"),
        ("a.act", b"123", "a.act: expected a table of bytes, got text"),
        ("a.act", bytes(768) + b"\0\0\xff\xff", "number of colours up to 256, got 0"),
        ("a.act", bytes(768) + b"\0\1\0\1", "index of one of 1 colours or 65535, got 1"),
        ("a.hex", b"", "a.hex: the file is empty"),
        ("a.ase", b"ASEF\0\1\0\0\0\0\0\1", "got the end of the file"),
        ("a.ase", b"hello", "expected an Adobe swatch file"),
        ("a.png", b"hello", "a.png: not an image"),
        ("a.xyz", b"hello", "expected a palette file (.gpl, .pal, .hex"),
    ],
)
def test_errors_name_path_line_and_what_was_expected(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        load_palette(tmp_path / name)
    assert message in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_name_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gamegirl: no such palette.*gameboy, cga"):
        load_palette("gamegirl")
    with pytest.raises(ValueError, match="got a folder"):
        load_palette(tmp_path)
    picture = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    Image.fromarray(noise).save(picture)
    with pytest.raises(ValueError, match=r"at most 4096 swatches, got 9\d\d\d distinct colours"):
        load_palette(picture)


@pytest.mark.parametrize("suffix", [".pal", ".ase", ".aco", ".act"])
def test_formats_without_alpha_say_so(tmp_path, suffix):
    palette = torch.tensor([[0.0, 0.0, 0.0, 0.5], [1.0, 1.0, 1.0, 1.0]])
    with pytest.raises(ValueError, match="alpha"):
        save_palette(tmp_path / f"a{suffix}", palette)
    assert not list(tmp_path.iterdir())
    save_palette(tmp_path / f"a{suffix}", torch.ones(2, 4))  # all opaque: nothing is lost
    assert load_palette(tmp_path / f"a{suffix}").equal(torch.ones(2, 3))


def test_one_transparent_color_of_a_color_table(tmp_path):
    palette = torch.tensor([[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    save_palette(tmp_path / "a.act", palette)
    assert load_palette(tmp_path / "a.act").equal(palette)


def test_sizes_that_a_format_cannot_hold(tmp_path):
    many = random(300, 3)
    eight_bits = (many * 255).round() / 255
    with pytest.raises(ValueError, match="at most 256 colours, got 300"):
        save_palette(tmp_path / "a.act", many)
    for suffix in (".gpl", ".pal", ".hex", ".ase", ".aco", ".txt", ".css", ".png"):
        save_palette(tmp_path / f"a{suffix}", many)
        assert load_palette(tmp_path / f"a{suffix}").equal(eight_bits)
    with pytest.raises(ValueError, match="256 swatches, or 4096 distinct ones, got 300"):
        save_palette(tmp_path / "b.png", many.round())
    with pytest.raises(ValueError, match="holds 65536 colours, got 65537"):
        save_palette(tmp_path / "b.gpl", torch.zeros(65537, 3))
    with pytest.raises(ValueError, match=r"shape \(K, 3\)"):
        save_palette(tmp_path / "a.gpl", torch.rand(3))
    with pytest.raises(ValueError, match=r"\[0, 1\], got"):
        save_palette(tmp_path / "a.gpl", torch.full((2, 3), 255.0))


def test_the_palette_of_an_indexed_image(tmp_path):
    image = Image.new("P", (4, 4))
    image.putpalette([10, 20, 30, 10, 20, 30, 0, 0, 0])
    image.save(tmp_path / "a.png")
    expected = [[10, 20, 30], [10, 20, 30], [0, 0, 0]]
    assert as_bytes(load_palette(tmp_path / "a.png")).tolist() == expected
