"""TIFF: the directories of a file, and samples that Pillow does not take as they are meant.

References:
    https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from colorquant_nn.image_files.contents import (
    MAX_PIXELS,
    Contents,
    Decoded,
    Size,
    check_sizes,
    resolution_of,
)
from colorquant_nn.image_files.decoding import Refused, open_image
from colorquant_nn.image_files.pixels import split
from colorquant_nn.image_files.tiff_samples import load_samples, mend_palette

__all__ = ["scan_tiff"]

MAX_PAGES = 10_000
KIND, WIDTH, HEIGHT, BITS, PHOTOMETRIC, TILE_WIDTH, TILE_HEIGHT = 254, 256, 257, 258, 262, 322, 323
TAGS = (KIND, WIDTH, HEIGHT, BITS, PHOTOMETRIC, TILE_WIDTH, TILE_HEIGHT)
REDUCED, MASK = 1, 4  # bits of a page's kind
WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1  # photometric
TYPES = {3: "H", 4: "I", 16: "Q"}  # whole numbers, by the number of the type


def scan_tiff(data: bytes, max_pixels: int) -> Contents:
    """Read the directories of a TIFF; its frames are pages.

    Thumbnails and masks, which say that they are, are left out but for the first page.

    Args:
        data: the content of the file.
        max_pixels: of a page.

    Returns:
        what it holds.

    Raises:
        ValueError: there are too many pages or pixels, or the pages run in a circle.
    """
    pages = [page for page in _pages(data) if not page.number or not page.kind & (REDUCED | MASK)]
    if not pages:
        raise Refused("a TIFF without a page")
    check_sizes([page.size for page in pages], max_pixels)
    check_sizes([page.tile for page in pages], max_pixels)
    # Pillow takes white for black where a sample has more than 8 bits, or refuses the page.
    inverted = [page for page in pages if page.photometric == WHITE_IS_ZERO and page.bits > 8]
    if inverted:
        changed = bytearray(data)
        for page in inverted:
            order = "<H" if data[:2] == b"II" else ">H"
            struct.pack_into(order, changed, page.photometric_at, BLACK_IS_ZERO)
        data = bytes(changed)

    def open_tiff() -> TiffImageFile:
        image = open_image(data)
        assert isinstance(image, TiffImageFile)
        return image

    def turn_to(page: Page, image: TiffImageFile | None = None) -> TiffImageFile:
        image = image or open_tiff()
        image.seek(page.number)
        if page.size[0] * page.size[1] > MAX_PIXELS:
            # Pillow's own bound holds for the memory that it takes by itself.
            image.im = Image.new(image.mode, page.size).im
        return image

    def frames() -> Iterator[Decoded]:
        image = open_tiff()
        for page in pages:
            turn_to(page, image)
            mend_palette(image)
            deep = load_samples(image, page.bits, partial(turn_to, page))
            decoded = split(image, 4095.0 if page.bits == 12 else None, page in inverted)
            yield decoded if decoded.profile is None else decoded._replace(deep=deep)

    return Contents(frames, [0.0] * len(pages), 1, resolution_of(open_image(data)))


class Page(NamedTuple):
    """One directory of a file."""

    number: int
    """Among all directories."""
    kind: int
    size: Size
    tile: Size
    bits: int
    """Of a sample."""
    photometric: int | None
    """How samples are meant."""
    photometric_at: int
    """Where in the file that stands."""


def _pages(data: bytes) -> Iterator[Page]:
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in data[2:4]
    count_of, entry_length, word = ("Q", 20, "Q") if big else ("H", 12, "I")
    word_length = struct.calcsize("=" + word)
    (place,) = struct.unpack_from(order + word, data, word_length)
    seen: dict[int, None] = {}
    entries = 0
    while place:
        if place in seen:
            raise Refused("the pages of this TIFF run in a circle")
        if len(seen) == MAX_PAGES:
            raise Refused(f"expected at most {MAX_PAGES} pages")
        (count,) = struct.unpack_from(order + count_of, data, place)
        start = place + struct.calcsize("=" + count_of)
        stop = start + count * entry_length
        entries += count
        if stop > len(data) or entries * entry_length > len(data):
            raise Refused("broken or truncated: the directory of a page is cut")
        found: dict[int, tuple[int, int]] = {}
        for entry in range(start, stop, entry_length):
            tag, kind = struct.unpack_from(order + "HH", data, entry)
            if tag in TAGS and kind in TYPES:
                (number,) = struct.unpack_from(order + word, data, entry + 4)
                at = entry + 4 + word_length
                if number * struct.calcsize("=" + TYPES[kind]) > word_length:
                    (at,) = struct.unpack_from(order + word, data, at)
                found[tag] = struct.unpack_from(order + TYPES[kind], data, at)[0], at
        values = {tag: value for tag, (value, _) in found.items()}
        yield Page(
            number=len(seen),
            kind=values.get(KIND, 0),
            size=(values.get(WIDTH, 0), values.get(HEIGHT, 0)),
            tile=(values.get(TILE_WIDTH, 1), values.get(TILE_HEIGHT, 1)),
            bits=values.get(BITS, 1),
            photometric=values.get(PHOTOMETRIC),
            photometric_at=found.get(PHOTOMETRIC, (0, 0))[1],
        )
        seen[place] = None
        (place,) = struct.unpack_from(order + word, data, stop)
