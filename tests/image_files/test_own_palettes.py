"""The palette that a file stores: index i is colour i, greys and unused ones included."""

import struct

import numpy as np
import pytest
from PIL import Image

from colorquant_nn.image_files import own_palette
from tests.image_files.files import GREY, INDEXED, gif, png, saved, tiff

COLORS = [(9, 9, 9), (255, 0, 0), (0, 255, 0), (9, 9, 9)]
GREYS = [(0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3)]


def palette(data):
    colors = own_palette(data, "a file")
    return None if colors is None else [tuple(color) for color in colors.tolist()]


@pytest.mark.parametrize("colors", [COLORS, GREYS])
def test_png(colors):
    table = (b"PLTE", np.array(colors, np.uint8).tobytes())
    assert palette(png([[[0]]], 8, INDEXED, table)) == colors
    alpha = [(*colors[0], 255), (*colors[1], 7), (*colors[2], 255), (*colors[3], 255)]
    assert palette(png([[[0]]], 2, INDEXED, table, (b"tRNS", b"\xff\7"))) == alpha
    assert palette(png([[[0]]], 8, GREY)) is None


@pytest.mark.parametrize("colors", [COLORS, GREYS])
def test_gif(colors):
    frame = {"indices": [[0]]}
    assert palette(gif((1, 1), [frame], colors)) == colors
    clear = [(*color, 255 * (n != 2)) for n, color in enumerate(colors)]
    assert palette(gif((1, 1), [frame | {"transparent": 2}], colors)) == clear
    padded = [*colors[:3], colors[2]]  # of three, unless somebody means the fourth
    assert palette(gif((1, 1), [frame], padded)) == colors[:3]
    assert len(palette(gif((1, 1), [frame | {"transparent": 3}], padded))) == 4
    later = [frame, frame | {"transparent": 2, "colors": GREYS}]
    assert palette(gif((1, 1), later, colors)) == colors
    assert palette(gif((1, 1), [frame | {"colors": colors}], GREYS[::-1])) == colors
    assert palette(gif((1, 1), [frame])) is None


def test_a_palette_is_not_worth_gigabytes():
    data = gif((65535, 65535), [{"indices": [[0]]}], COLORS)
    with pytest.raises(ValueError, match=r"^a file: too large to be trusted: 65535 x 65535 pixels"):
        palette(data)


def bmp(colors, bits, core=False):
    table = b"".join(bytes(color[::-1]) + b"\0" * (not core) for color in colors)
    if core:
        info = struct.pack("<IHHHH", 12, 1, 1, 1, bits)
    else:
        info = struct.pack("<IiiHH6I", 40, 1, 1, 1, bits, 0, 4, 0, 0, len(colors), 0)
    offset = 14 + len(info) + len(table)
    return b"BM" + struct.pack("<IHHI", offset + 4, 0, 0, offset) + info + table + bytes(4)


@pytest.mark.parametrize("colors", [COLORS, GREYS])
def test_bmp(colors):
    assert palette(bmp(colors, 8)) == colors
    assert palette(bmp(colors[:2], 1)) == colors[:2]
    full = (colors * 4)[:16]
    assert palette(bmp(full, 4)) == palette(bmp(full, 4, core=True)) == full
    assert palette(saved(Image.new("RGB", (2, 2)), "BMP")) is None


def test_tiff_and_the_others():
    map_ = np.zeros((3, 256), int)
    map_[:, :4] = np.array(COLORS).T * 257
    data = tiff([[[0]]], 8, 3, tags=[(320, "H", map_.ravel().tolist())])
    assert palette(data)[:5] == [*COLORS, (0, 0, 0)]
    image = Image.new("P", (2, 2))
    image.putpalette(np.array(COLORS, np.uint8).tobytes())
    assert palette(saved(image, "PCX")) == [*COLORS, (0, 0, 0)]
    assert palette(saved(image, "TGA"))[:4] == COLORS
    for format in ("JPEG", "WEBP"):
        assert palette(saved(image.convert("RGB"), format)) is None


def test_a_bmp_of_indices_has_a_table():
    data = bytearray(bmp([(0, 0, 0), (9, 9, 9)], 8))
    data[10:14] = (14 + 40).to_bytes(4, "little")  # the pixels follow the header at once
    with pytest.raises(ValueError, match=r"a\.bmp: .*a table of colours, got none"):
        own_palette(bytes(data), "a.bmp")
