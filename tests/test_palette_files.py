"""Palette files as other programs write them: read as they are meant, or refused with the place."""

import io
import struct
from itertools import permutations

import colour
import numpy as np
import pytest
import torch
from PIL import Image, ImageColor, ImagePalette
from PIL.GimpPaletteFile import GimpPaletteFile

from colorquant_nn.palette_files import (
    PALETTE_FORMATS,
    parse_color,
    parse_colors,
    read_palette,
)
from colorquant_nn.palettes import encode_palette, load_palette, save_palette
from tests.helpers import as_bytes
from tests.helpers import colors_of as colors_of_image

THREE = [[1, 2, 3], [4, 5, 6], [250, 0, 7]]
RAW = bytes(value for row in THREE for value in row)


def colors_of(data, name):
    return read_palette(data if isinstance(data, bytes) else data.encode(), name).tolist()


def refusal(data, name):
    with pytest.raises(ValueError, match=name.replace(".", r"\.")) as error:
        read_palette(data if isinstance(data, bytes) else data.encode(), name)
    return str(error.value)


def gimp(*lines, before=""):
    return "\n".join([before + "GIMP Palette", *lines, "1 2 3 a", "4 5 6 b", "250 0 7 c", ""])


def jasc(*rows, count=None):
    lines = ["JASC-PAL", "0100", str(len(rows) if count is None else count), *rows]
    return "\r\n".join(lines) + "\r\n"


def riff(*chunks, kind=b"PAL "):
    body = kind
    for name, data in chunks:
        body += struct.pack("<4sI", name, len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def entries(rows, count=None):
    head = struct.pack("<HH", 0x300, len(rows) if count is None else count)
    return head + b"".join(bytes([*row, 4]) for row in rows)


def aco(*colors, version=1):
    """Colours as (space, four values), with their names in version 2."""
    name = struct.pack(">I", 3) + "ab\0".encode("utf-16-be") if version == 2 else b""
    rows = [struct.pack(">5H", space, *(v % 65536 for v in values)) for space, *values in colors]
    return struct.pack(">HH", version, len(rows)) + b"".join(row + name for row in rows)


# GIMP


@pytest.mark.parametrize(
    "text",
    [
        gimp("Name: x", "Columns: 2", "#"),
        gimp("Name : x", "Columns 0"),
        gimp("name: x", "COLUMNS: 3", "Author: me, 2019"),
        gimp("# Description: one", "and a second line of it", "", "#"),
        gimp(before="\n \n"),
        gimp(before="\ufeff"),
        gimp().replace("\n", "\r\n"),
        gimp().replace("\n", "\r"),
        gimp().replace(" ", "\t").replace("GIMP\t", "GIMP "),
        gimp().replace("1 2 3", "001,0002, 3").replace("4 5 6", "4 , 5,6"),
        gimp().replace("250 0 7 c", "250 0 7 8 of 9"),
        gimp() + "\x1a",
        gimp().encode("utf-16"),
        gimp().encode("utf-16-le"),
        gimp().encode("utf-16-be"),
        gimp("Name: été").encode("latin-1"),
    ],
)
@pytest.mark.parametrize("name", ["a.gpl", "a.pal", "a"])
def test_gimp_palettes_of_many_hands(text, name):
    assert colors_of(text, name) == THREE


@pytest.mark.parametrize(
    "line",
    [
        "256 2 3",
        "-1 2 3",
        "1 2",
        "1.5 2 3",
        "1;2;3",
        "1 2 3x",
        "1,,2,3",
        "0x1 2 3",
        "١ 2 3",
    ],
)
def test_a_line_of_no_color_is_named(line):
    text = f"GIMP Palette\n#\n9 9 9\n{line}\n"
    assert refusal(text, "a.gpl").startswith("a.gpl, line 4: expected 3 numbers from 0 to 255, got")


def test_a_color_behind_its_name_is_not_passed_over():
    assert "line 2" in refusal("GIMP Palette\nred 255 0 0\n0 0 0\n", "a.gpl")


def test_alpha_of_a_gimp_palette():
    text = "GIMP Palette\nName: a\nCHANNELS : rgba\n1 2 3 0 hole\n4 5 6 255\n"
    assert colors_of(text, "a.gpl") == [[1, 2, 3, 0], [4, 5, 6, 255]]
    for channels in ("CMYK", "RGB A", ""):
        message = refusal(f"GIMP Palette\nChannels: {channels}\n1 2 3 0\n", "a.gpl")
        assert "line 2: expected RGB or RGBA" in message
    assert "4 numbers" in refusal("GIMP Palette\nChannels: RGBA\n1 2 3 hole\n", "a.gpl")


def test_pillow_reads_the_same_from_what_is_written():
    colors = np.arange(60, dtype=np.uint8).reshape(20, 3)
    data = PALETTE_FORMATS[".gpl"](colors, "x")
    assert GimpPaletteFile(io.BytesIO(data)).getpalette()[0][:60] == colors.tobytes()


@pytest.mark.parametrize("suffix", PALETTE_FORMATS)
def test_a_name_that_is_no_text_is_written(tmp_path, suffix):
    """What a shell makes of a byte that is no UTF-8, and a line end in a name."""
    palette = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    save_palette(tmp_path / f"\udcff\n9 9 9{suffix}", palette)
    assert load_palette(tmp_path / f"\udcff\n9 9 9{suffix}").equal(palette)


# JASC and Microsoft


@pytest.mark.parametrize(
    "text",
    [
        jasc("1 2 3", "4 5 6", "250 0 7"),
        jasc("1 2 3 one", "4 5 6\t2nd", "250 0 7"),
        jasc("1 2 3 255", "4 5 6 255", "250 0 7 255"),
        jasc("1 2 3", "", "4 5 6", "250 0 7", count=3),
        jasc("1 2 3", "4 5 6", "250 0 7", "; end", count=3),
        jasc("1 2 3", "4 5 6", "250 0 7").replace("\r\n", "\n").strip(),
        "\ufeff\n" + jasc("1 2 3", "4 5 6", "250 0 7") + "\x1a",
    ],
)
@pytest.mark.parametrize("name", ["a.pal", "a.PspPalette", "a.txt"])
def test_jasc_palettes_of_many_hands(text, name):
    assert colors_of(text, name) == THREE


def test_the_fourth_number_of_jasc_is_alpha():
    assert colors_of(jasc("1 2 3 0", "4 5 6 128 x"), "a.pal") == [[1, 2, 3, 0], [4, 5, 6, 128]]
    assert "in 1 of 2" in refusal(jasc("1 2 3 0", "4 5 6"), "a.pal")
    assert "no colour would be seen" in refusal(jasc("1 2 3 0", "4 5 6 0"), "a.pal")
    assert "line 4: expected 4 numbers" in refusal(jasc("1 2 3 256"), "a.pal")
    assert "line 4: expected 4 numbers" in refusal(jasc("1 2 3 0.5"), "a.pal")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (jasc("1 2 3", count=256), "line 3: expected 256 lines of colours to follow, got 1"),
        (jasc("1 2 3", "4 5 6", count=1), "line 3: expected 1 lines of colours to follow, got 2"),
        (jasc("1 2 3", count="x"), "line 3: expected the number of colours, got 'x'"),
        (jasc(), "at least one colour"),
        (jasc("1 2 3").replace("0100", "0200"), "line 2: expected '0100', got '0200'"),
        ("JASC-PAL", "line 2: expected '0100', got ''"),
    ],
)
def test_contradictions_of_jasc(text, message):
    assert message in refusal(text, "a.pal")


@pytest.mark.parametrize(
    "data",
    [
        riff((b"data", entries(THREE))),
        riff((b"LIST", b"abc"), (b"data", entries(THREE)), (b"tran", b"\0" * 8)),
        riff((b"data", entries(THREE[:1])), (b"data", entries(THREE[1:]))),
        riff((b"data", entries(THREE) + bytes(8))),
    ],
)
@pytest.mark.parametrize("name", ["a.pal", "a.act", "a.riff"])
def test_microsoft_palettes(data, name):
    assert colors_of(data, name) == THREE


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (riff((b"data", entries(THREE, 4))), "byte 12: expected 4 colours of 4 bytes each, got 12"),
        (riff((b"data", entries(THREE, 2))), "expected 2 colours of 4 bytes each, got 12 bytes"),
        (riff((b"data", entries(THREE)))[:-1], "expected a chunk of 16 bytes, got 15"),
        (riff((b"data", b"\0\3")), "expected a table of colours, got 2 bytes"),
        (riff((b"LIST", b"abcd")), "at least one colour"),
        (riff(kind=b"WAVE"), "kind 'PAL ', got b'WAVE'"),
    ],
)
def test_contradictions_of_microsoft(data, message):
    assert message in refusal(data, "a.pal")


# Without a header


@pytest.mark.parametrize("count", [64, 256, 512])
def test_raw_palettes_of_emulators(count):
    colors = np.random.default_rng(count).integers(0, 256, (count, 3)).astype(np.uint8)
    assert colors_of(colors.tobytes(), "nes.pal") == colors.tolist()
    assert "192, 768 or 1536 bytes" in refusal(colors.tobytes() + b"\0", "nes.pal")


def test_a_raw_palette_that_may_have_six_bits_is_told_of():
    with pytest.warns(UserWarning, match=r"vga\.pal: no value above 63 of 255.*multiply them by 4"):
        read_palette(bytes(range(64)) * 12, "vga.pal")


def test_color_tables_of_many_lengths():
    assert colors_of(RAW, "a.act") == THREE
    assert colors_of(RAW.ljust(768, b"\0"), "a.act") == THREE + [[0, 0, 0]] * 253
    table = RAW.ljust(768, b"\0") + struct.pack(">HH", 3, 1)
    assert colors_of(table, "a.act") == colors_of(table, "a.pal")
    assert colors_of(table, "a.act") == [[1, 2, 3, 255], [4, 5, 6, 0], [250, 0, 7, 255]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes(769), "a multiple of 3, got 769"),
        (bytes(50), "a multiple of 3, got 50"),
        (bytes(768) + b"\0\0\xff\xff", "number of colours up to 256, got 0"),
        (bytes(768) + b"\0\x10\0\xff", "index of one of 16 colours or 65535, got 255"),
        (b"no table", "a multiple of 3, got 8"),
        (b"still none", "a multiple of 3, got 10"),
        (b"text, not a table of colours\r\n", "expected a table of bytes, got text"),
        (b"1234567 not\n" * 64, "expected a table of bytes, got text"),
    ],
)
def test_what_is_no_color_table(data, message):
    assert message in refusal(data, "a.act")


# Hexadecimal, Paint.NET


@pytest.mark.parametrize(
    "text",
    [
        "010203\n040506\nFA0007",
        "#010203\r\n#040506\r\n#fa0007\r\n",
        "010203 040506,fa0007",
        "#010203; #040506;\n#fa0007;",
        "0x010203, 0x040506, 0xFA0007",
        "; a comment\n010203 // one\n# two\n040506 # two\n//\n\nfa0007\n\x1a",
        "010203\n040506\nfa0007\n".encode("utf-16"),
        "\ufeff010203\n040506\nfa0007\n",
    ],
)
@pytest.mark.parametrize("name", ["a.hex", "a.txt", "a.css", "a.act", "a.colors", "a"])
def test_lists_of_codes_whatever_their_name(text, name):
    assert colors_of(text, name) == THREE


def test_short_codes_need_their_mark():
    assert colors_of("#123 #fff", "a.hex") == [[17, 34, 51], [255, 255, 255]]
    assert "line 1: expected a colour such as #ff8000, got '255'" in refusal("255 255 0", "a.hex")
    assert "line 2" in refusal("112233\nred", "a.hex")


@pytest.mark.parametrize("head", ["; paint.net Palette File\r\n; Colors: 2\r\n", ";Paint.NET\n\n"])
@pytest.mark.parametrize("name", ["a.txt", "a.hex", "a.pal", "a"])
def test_paint_net_puts_alpha_first(head, name):
    assert colors_of(head + "FF010203\r\nFF040506\r\n", name) == [[1, 2, 3], [4, 5, 6]]
    assert colors_of(head + "80010203\n040506", name) == [[1, 2, 3, 128], [4, 5, 6, 255]]
    assert "a colour such as" in refusal(head + "FF010203\nFF0405\nFF04\n", name)


def test_eight_digits_that_may_mean_either_are_refused():
    """RRGGBBAA of CSS or AARRGGBB of Paint.NET: with alpha first, all first bytes are FF mostly."""
    assert colors_of("#ff010203", "a.hex") == [[255, 1, 2, 3]]
    assert colors_of("ff0000ff 00ff0080", "a.hex") == [[255, 0, 0, 255], [0, 255, 0, 128]]
    assert colors_of("FF010203 FF040506", "a.txt") == [[1, 2, 3], [4, 5, 6]]
    assert colors_of("ffffffff", "a.hex") == [[255, 255, 255, 255]]
    for text, name in [
        ("FF010203 FF040506", "a.hex"),
        ("FF0000FF", "a.hex"),
        ("FF0000FF", "a.txt"),
        ("FF010203 80040506", "a.hex"),
        ("0x80010203", "a.hex"),
        ("ff0000ff 00ff00ff", "a.txt"),
        ("00ff0080", "a.colors"),
    ]:
        message = refusal(text, name)
        assert "RRGGBBAA or AARRGGBB" in message
        assert "'; paint.net Palette File'" in message


# Style sheets and other lists


def test_every_color_of_a_style_sheet():
    sheet = """
    /* #111111 */ @import "reset.css";
    :root { --a: #010203; --size: 4px; --b: rgb(4, 5, 6); z-index: 100000 }
    #abc a:hover, #fade > b::before { border: 1px solid rgb(250 0 7); background: url(#fff) }
    """
    assert colors_of(sheet, "a.css") == THREE
    scss = """// #111111
    $all: (red: #010203, "blue": #040506); $x: var(--x, 4px);
    .a { &:hover { x: #fa0007; } }"""
    assert colors_of(scss, "a.scss") == THREE
    line = "a { --from: https://a.b; x: #010203; y: #040506; z: #fa0007 } // #111111"
    assert colors_of(line, "a.scss") == THREE


def test_lists_of_css_and_json():
    assert colors_of("#abc; rgb(1,2,3); rgb(1 2 3 / 50%); white", "a.css") == [
        [170, 187, 204, 255],
        [1, 2, 3, 255],
        [1, 2, 3, 128],
        [255, 255, 255, 255],
    ]
    assert colors_of("black, hsl(120, 100%, 25%)\nred", "a.txt") == [
        [0, 0, 0],
        [0, 128, 0],
        [255, 0, 0],
    ]
    lospec = '{"name": "red", "author": "x", "colors": ["010203", "040506", "#fa0007"]}'
    assert colors_of(lospec, "a.json") == THREE
    named = '[{"name": "Red", "hex": "#010203"}, {"name": "tan", "hex": "#040506"}]'
    assert colors_of(named, "a.json") == THREE[:2]
    assert colors_of('["#010203", "rgb(4 5 6)"]', "a.json") == THREE[:2]
    toml = "[normal]\nred = '#010203'\ngreen = \"#040506\"\n"
    assert colors_of(toml, "a.txt") == THREE[:2]


@pytest.mark.parametrize(
    "text", ["tan, white\nGreen #00ff00", "#00ff00\tGreen", "Red,#f00\nGreen,#00ff00"]
)
def test_a_code_beside_a_name_may_be_one_color_or_two(text):
    with pytest.raises(ValueError, match=r"line [12]: .*Green.* may be one colour or two"):
        read_palette(text.encode(), "a.txt")
    assert colors_of("#010203, #040506\nwhite, #010203", "a.txt")[:2] == THREE[:2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("red\nblurple", "a.css, line 2: expected a colour such as #ff8000, orange"),
        ("a {\n\n color: #12345 }", "a.css, line 3: expected a colour .* got '#12345'"),
        ("a { color: oklch(0.5 0.1 20) }", r"line 1: .* got 'oklch\(0.5 0.1 20\)'"),
        ("a { color: rgb(var(--x)) }", r"line 1: .* got 'rgb\('?"),
        ("$a: red;\n$b: lighten(#abc, 10%);", r"line 2: .* got 'lighten\(#abc, 10%\)'"),
        ("$b: color.adjust(#abc, $red: 1)", r"line 1: .* got 'color.adjust\("),
        ("red;\r\n255 0 0", "a.css, line 2: .* got '255'"),
        ("red; ff000080", "line 1: expected eight digits to have a # before them"),
        ("a { margin: 4px }", "a.css: expected at least one colour, got none"),
    ],
)
def test_what_a_list_does_not_say(text, message):
    with pytest.raises(ValueError, match=message):
        read_palette(text.encode(), "a.css")


# Adobe


SWATCHES = [
    ((0, 65535, 0, 32896, 0), [255, 0, 128]),
    ((1, 21845, 65535, 65535, 0), [0, 255, 0]),
    ((2, 0, 65535, 65535, 65535), [0, 255, 255]),
    ((2, 65535, 65535, 65535, 0), [0, 0, 0]),
    ((7, 10000, 0, 0, 0), [255, 255, 255]),
    ((8, 0, 0, 0, 0), [255, 255, 255]),
    ((8, 7500, 0, 0, 0), [64, 64, 64]),
]


@pytest.mark.parametrize(("color", "expected"), SWATCHES)
def test_color_spaces_of_photoshop(color, expected):
    assert colors_of(aco(color), "a.aco") == [expected]
    assert colors_of(aco(color, version=2), "a.aco") == [expected]


def test_the_second_version_counts_where_there_is_one():
    first = aco((0, 0, 0, 0, 0), (0, 1, 1, 1, 1))
    second = aco((0, 65535, 0, 0, 0), (8, 0, 0, 0, 0), version=2)
    for name in ("a.aco", "a.act", "a"):
        assert colors_of(first + second, name) == [[255, 0, 0], [255, 255, 255]]
        assert colors_of(first, name) == [[0, 0, 0]] * 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (aco((3, 1, 2, 3, 4)), "a.aco, byte 4: expected the colour space RGB .* got 3"),
        (aco((0, 0, 0, 0, 0), (10, 1, 2, 3, 4)), "a.aco, byte 14: expected the colour space"),
        (aco((7, 10001, 0, 0, 0)), "byte 4: expected a value of Lab or grey up to 10000"),
        (aco((0, 0, 0, 0, 0))[:-1], "expected more colours, got the end"),
        (aco((0, 0, 0, 0, 0), version=2)[:-1], "expected a name of 3 letters"),
        (aco((0, 0, 0, 0, 0)) + aco((0, 0, 0, 0, 0), version=1), "again in version 2"),
        (aco((0, 0, 0, 0, 0)) + aco(version=2), "again in version 2, got 0"),
        (aco((0, 0, 0, 0, 0), version=2) + b"more", "byte 24: expected the end, got 4 bytes more"),
        (b"\0\3\0\1" + bytes(10), "version 1 or 2, got 3"),
    ],
)
def test_contradictions_of_photoshop(data, message):
    with pytest.raises(ValueError, match=message):
        read_palette(data, "a.aco")


def test_lab_is_that_of_print():
    """At D50, as both of Adobe's formats have it; against colour-science."""
    whole = np.array([[50, 20, -30], [80, -10, 40], [3, 1, 1], [60, 0, 0]], np.float64)
    xyz = colour.Lab_to_XYZ(
        whole, colour.CCS_ILLUMINANTS["CIE 1931 2 Degree Standard Observer"]["D50"]
    )
    expected = colour.XYZ_to_sRGB(
        xyz, colour.CCS_ILLUMINANTS["CIE 1931 2 Degree Standard Observer"]["D50"], "Bradford"
    )
    found = read_palette(aco(*((7, *(int(100 * v) for v in row), 0) for row in whole)), "a.aco")
    np.testing.assert_allclose(found, 255 * expected, atol=0.6)
    blocks = b""
    for lightness, a, b in whole:
        block = b"\0\0LAB " + struct.pack(">3fH", lightness / 100, a, b, 0)
        blocks += struct.pack(">HI", 1, len(block)) + block
    exchanged = b"ASEF" + struct.pack(">HHI", 1, 0, len(whole)) + blocks
    np.testing.assert_array_equal(read_palette(exchanged, "a.ase"), found)


# What decides


def test_first_bytes_decide_before_the_suffix():
    colors = np.array(THREE, np.uint8)
    for written, named in permutations(PALETTE_FORMATS, 2):
        data = PALETTE_FORMATS[written](colors, "x")
        if written == ".act" and named != ".pal":
            continue  # a table of bytes has no first bytes of its own
        if written == ".css" and named not in (".txt", ".css"):
            assert named in str(refusal(data, f"a{named}"))
            continue
        assert colors_of(data, f"a{named}") == THREE, (written, named)


def test_images_under_other_names(tmp_path):
    image = Image.frombytes("P", (3, 1), bytes(range(3)))
    image.putpalette(ImagePalette.ImagePalette("RGB", RAW))
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        file = io.BytesIO()
        image.save(file, kind)
        assert colors_of(file.getvalue(), "a.gpl")[:3] == THREE, kind


@pytest.mark.parametrize("suffix", ["pcx", "tga", "ppm"])
def test_images_of_rarer_kinds(suffix):
    image = Image.fromarray(np.array([THREE], np.uint8))
    file = io.BytesIO()
    (image if suffix == "ppm" else image.quantize(3)).save(file, suffix)
    assert sorted(colors_of(file.getvalue(), f"a.{suffix}"))[-3:] == THREE


def test_files_that_are_too_large_are_refused_at_once():
    assert "at most 65536 colours" in refusal("ff8000\n" * 65537, "a.hex")
    assert "at most 4194304 bytes, got 7000000" in refusal("ff8000\n" * 1_000_000, "a.hex")
    with pytest.raises(ValueError, match=r"a\.hex: a palette file holds 65536 colours, got 65537"):
        encode_palette("a.hex", torch.zeros(65537, 3))


# Colours


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#f80", (255, 136, 0)),
        ("ff8800", (255, 136, 0)),
        (" #FF8800 ", (255, 136, 0)),
        ("#1234", (17, 34, 51, 68)),
        ("11223344", (17, 34, 51, 68)),
        ("White", (255, 255, 255)),
        ("rebeccapurple", (102, 51, 153)),
        ("transparent", (0, 0, 0, 0)),
        ("rgb(255, 128, 0)", (255, 128, 0)),
        ("RGB(100% 50% 0%)", (255, 128, 0)),
        ("rgba(255,128,0,.5)", (255, 128, 0, 128)),
        ("rgb(255 128 0 / 100%)", (255, 128, 0, 255)),
        ("hsl(30, 100%, 50%)", (255, 128, 0)),
        ("hsl(-330deg 100% 50% / 0)", (255, 128, 0, 0)),
    ],
)
def test_colors_as_css_writes_them(text, expected):
    assert parse_color(text) == expected


def test_names_and_hues_are_those_of_pillow():
    for name in ImageColor.colormap:
        assert parse_color(name) == ImageColor.getrgb(name)
    for hue in range(0, 360, 7):
        text = f"hsl({hue}, 60%, 40%)"
        assert parse_color(text) == ImageColor.getrgb(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "#", "#ff", "#gg0000", "#ff00000", "ｆｆ0000", "-12345", "##ffffff", "0xff0000"),
        *("reddish", "blac\u212a", "\udcff", "lab(50 0 0)", "hsl(0, 101%, 0%)", "rgb(256, 0, 0)"),
        *("rgb(1, 2)", "rgb(1 2 3 4 5)", "rgb(1 2 3 /)", "rgb(1 2 / 3)", "rgb(-1 0 0)"),
        *("rgb(nan 0 0)", "rgb(1 2 3 / 2)", "rgb(1 2 3", "rgb 1 2 3", "hsl(50%, 1%, 1%)"),
    ],
)
def test_what_is_no_color(text):
    with pytest.raises(ValueError, match="expected a colour such as #ff8000"):
        parse_color(text)


def test_bare_numbers_are_no_codes():
    with pytest.raises(ValueError, match="short codes need a #: #f80"):
        parse_color("f80")
    for text in ("255,255,255", "0, 64, 128"):
        with pytest.raises(ValueError, match=r"one colour of three numbers is rgb\("):
            parse_colors(text)
    assert parse_colors("rgb(0, 64, 128),#fff , white") == [(0, 64, 128), *[(255, 255, 255)] * 2]


def test_a_palette_as_a_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert as_bytes(load_palette("#000,white,rgb(255,0,0)")).tolist() == [
        [0, 0, 0],
        [255, 255, 255],
        [255, 0, 0],
    ]
    assert as_bytes(load_palette("#000,#ffffff80")).tolist() == [
        [0, 0, 0, 255],
        [255, 255, 255, 128],
    ]
    save_palette("white.gpl", torch.zeros(1, 3))
    (tmp_path / "white.gpl").rename("white")
    assert load_palette("white").equal(torch.ones(1, 3))  # a colour wins over a file
    for path in ("./white", tmp_path / "white"):
        assert load_palette(path).equal(torch.zeros(1, 3))
    (tmp_path / "a,b.gpl").write_text("GIMP Palette\n1 2 3\n")
    assert as_bytes(load_palette("a,b.gpl")).tolist() == [[1, 2, 3]]
    with pytest.raises(ValueError, match=r"#000,#ggg: no such file, and no colours: .*'#ggg'"):
        load_palette("#000,#ggg")
    with pytest.raises(FileNotFoundError):
        load_palette(tmp_path / "#000,#fff")


def test_the_command_takes_colors_as_a_list(folder, run):
    assert run("quantize", "photo.png", "--palette", "#000,white,rgb(255 0 0)")[0] == 0
    assert colors_of_image("photo-quantized.png") <= {(0, 0, 0), (255, 255, 255), (255, 0, 0)}
    keep = ("--keep", "rgb(255, 0, 0),black")
    code, out, _ = run("palette", "photo.png", "-k", 4, *keep, "-o", "\udcff.css")
    assert code == 0
    assert {"#ff0000", "#000000"} <= set(out.split())
    assert len(load_palette("\udcff.css")) == 4


# Fuzz


def samples():
    colors = np.random.default_rng(0).integers(0, 256, (12, 3)).astype(np.uint8)
    for suffix, write in PALETTE_FORMATS.items():
        yield f"a{suffix}", write(colors, "name")
    with_alpha = np.hstack([colors, colors[:, :1]])
    for suffix in (".gpl", ".hex", ".txt", ".css"):
        yield f"b{suffix}", PALETTE_FORMATS[suffix](with_alpha, "name")
    yield "c.pal", riff((b"LIST", b"abc"), (b"data", entries(colors.tolist())))
    yield "d.pal", colors.tobytes() * 16 + bytes(range(192))
    yield "e.act", colors.tobytes()
    yield "f.aco", aco(*(color for color, _ in SWATCHES), version=2)
    yield "g.json", b'{"a": ["ff0000", "#0f0"], "b": {"c": "rgb(1 2 3 / 50%)"}}'
    yield "h.gpl", gimp("Name: x").encode("utf-16")
    file = io.BytesIO()
    Image.fromarray(colors[None]).save(file, "BMP")
    yield "i.bmp", file.getvalue()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*no value above")
@pytest.mark.parametrize("name", [name for name, _ in samples()])
def test_a_thousand_mutations_of_each_format(name):
    good = dict(samples())[name]
    random = np.random.default_rng(len(good))
    for _ in range(1200):
        data = bytearray(good)
        for _ in range(random.integers(1, 6)):
            place = int(random.integers(0, len(data) + 1))
            more = bytes(random.integers(0, 256, random.integers(0, 9)).astype(np.uint8))
            end = place + int(random.choice([0, 1, len(more), random.integers(0, len(good) + 1)]))
            data[place:end] = random.choice([more, good[place : place + 9], b"", b"\n", b"99999 "])
        try:
            colors = read_palette(bytes(data), name)
        except ValueError as error:
            assert name in str(error)  # noqa: PT017
        else:
            assert colors.dtype == np.uint8
            assert colors.ndim == 2
            assert len(colors) > 0
            assert colors.shape[1] in (3, 4)
