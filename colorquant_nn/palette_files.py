"""Palette files as bytes: GIMP .gpl, JASC .pal, .hex, Adobe .act and .ase, images of swatches.

A reader takes the bytes of a file and the name to blame in an error, and returns the colours; a
writer is its inverse. Colours are (K, 3) or (K, 4) uint8 arrays, sRGB with straight alpha. What
a format cannot hold is a `ValueError`, never a silent loss.
"""

import math
import re
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from colorquant_nn import image_files

__all__ = ["IMAGE_SUFFIXES", "PALETTE_FORMATS", "PaletteFormat", "parse_color"]

Colors = NDArray[np.uint8]

MAX_SWATCHES = 4096  # an image with more colours is a picture, not a palette
SWATCH_SIZE = 32  # pixels
OPAQUE = 255
NO_TRANSPARENT_INDEX = 0xFFFF


class PaletteFormat(NamedTuple):
    """How one kind of palette file is read and written."""

    read: Callable[[bytes, str], Colors]
    """(data, name) -> colors."""
    write: Callable[[Colors, str], bytes]
    """(colors, name) -> data."""


def parse_color(text: str) -> tuple[int, ...]:
    """Read a hexadecimal colour as CSS writes it.

    Args:
        text: ``#rgb``, ``#rgba``, ``#rrggbb`` or ``#rrggbbaa``; the ``#`` may be missing.

    Returns:
        three or four integers from 0 to 255.

    Raises:
        ValueError: it is none of these.
        TypeError: it is no text.

    Examples:
        >>> from colorquant_nn.palette_files import parse_color
        >>> parse_color("#ff8000")
        (255, 128, 0)
    """
    if not isinstance(text, str):
        raise TypeError(f"expected a colour as text, got {type(text).__name__}")
    digits = text.strip().removeprefix("#")
    if len(digits) not in (3, 4, 6, 8) or re.fullmatch("[0-9a-fA-F]*", digits) is None:
        raise ValueError(f"expected a colour such as #ff8000, got {_shorten(text)}")
    if len(digits) < 6:
        digits = "".join(2 * digit for digit in digits)
    return tuple(bytes.fromhex(digits))


def _read_gimp(data: bytes, name: str) -> Colors:
    # https://developer.gimp.org/core/standards/gpl; "Channels: RGBA" is Aseprite's extension.
    lines = _lines(data)
    if lines[0].strip() != "GIMP Palette":
        raise ValueError(f"{name}, line 1: expected 'GIMP Palette', got {_shorten(lines[0])}")
    channels = 3
    rows = []
    for number, line in enumerate(lines[1:], 2):
        text = line.strip()
        if not text or text.startswith("#") or re.match("(Name|Columns):", text):
            continue
        if text.startswith("Channels:"):
            channels = 4 if text.removeprefix("Channels:").strip() == "RGBA" else 3
            continue
        rows.append(_integers(text, channels, f"{name}, line {number}", more=True))
    return _colors(rows, name)


def _write_gimp(colors: Colors, name: str) -> bytes:
    lines = ["GIMP Palette"]
    if colors.shape[1] == 4:
        lines.append("Channels: RGBA")
    else:
        lines += [f"Name: {' '.join(name.split())}", f"Columns: {min(16, len(colors))}"]
    lines.append("#")
    for row in colors:
        numbers = " ".join(f"{value:3d}" for value in row)
        lines.append(f"{numbers}\t#{bytes(row).hex()}")
    return ("\n".join(lines) + "\n").encode()


def _read_jasc(data: bytes, name: str) -> Colors:
    if data.startswith(b"RIFF"):
        raise ValueError(f"{name}: expected a JASC palette, got a Microsoft RIFF palette")
    lines = [line.strip() for line in _lines(data)]
    while lines and not lines[-1]:
        lines.pop()
    for number, expected in enumerate(["JASC-PAL", "0100"], 1):
        line = lines[number - 1] if len(lines) >= number else ""
        if line != expected:
            raise ValueError(f"{name}, line {number}: expected {expected!r}, got {_shorten(line)}")
    count = lines[2] if len(lines) > 2 else ""
    if re.fullmatch("[0-9]{1,6}", count) is None:
        raise ValueError(f"{name}, line 3: expected the number of colours, got {_shorten(count)}")
    if len(lines) - 3 != int(count):
        raise ValueError(
            f"{name}, line 3: expected {int(count)} lines of colours to follow, "
            f"got {len(lines) - 3}"
        )
    rows = [
        _integers(line, 3, f"{name}, line {number}") for number, line in enumerate(lines[3:], 4)
    ]
    return _colors(rows, name)


def _write_jasc(colors: Colors, name: str) -> bytes:
    lines = ["JASC-PAL", "0100", str(len(colors))]
    lines += [" ".join(map(str, row)) for row in _without_alpha(colors, name, "JASC .pal")]
    return ("\r\n".join(lines) + "\r\n").encode()


def _read_hex(data: bytes, name: str) -> Colors:
    rows = []
    for number, line in enumerate(_lines(data), 1):
        if not line.strip():
            continue
        try:
            rows.append(parse_color(line))
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: {error}") from None
    if any(len(row) == 4 for row in rows):
        rows = [row if len(row) == 4 else (*row, OPAQUE) for row in rows]
    return _colors(rows, name)


def _write_hex(colors: Colors, name: str) -> bytes:
    return "".join(f"{bytes(row).hex()}\n" for row in colors).encode()


def _read_color_table(data: bytes, name: str) -> Colors:
    # "Color Table" in https://www.adobe.com/devnet-apps/photoshop/fileformatashtml/: 256 RGB
    # triples, then perhaps their number and the index of the transparent one, big-endian.
    if len(data) not in (768, 772):
        raise ValueError(f"{name}: expected 768 or 772 bytes, got {len(data)}")
    colors = np.frombuffer(data[:768], np.uint8).reshape(256, 3)
    if len(data) == 768:
        return colors.copy()
    count, transparent = struct.unpack(">HH", data[768:])
    if not 1 <= count <= 256:
        raise ValueError(f"{name}, byte 768: expected a number of colours up to 256, got {count}")
    colors = colors[:count]
    if transparent == NO_TRANSPARENT_INDEX:
        return colors.copy()
    if transparent >= count:
        raise ValueError(
            f"{name}, byte 770: expected the index of one of {count} colours or "
            f"{NO_TRANSPARENT_INDEX}, got {transparent}"
        )
    alpha = np.full((count, 1), OPAQUE, np.uint8)
    alpha[transparent] = 0
    return np.hstack([colors, alpha])


def _write_color_table(colors: Colors, name: str) -> bytes:
    if len(colors) > 256:
        raise ValueError(f"{name}: Adobe .act holds at most 256 colours, got {len(colors)}")
    transparent = NO_TRANSPARENT_INDEX
    if colors.shape[1] == 4:
        see_through = np.flatnonzero(colors[:, 3] != OPAQUE)
        if len(see_through) > 1 or (colors[see_through, 3] != 0).any():
            raise ValueError(
                f"{name}: Adobe .act holds one fully transparent colour and no partial alpha; "
                "use .gpl, .hex or .png"
            )
        transparent = int(see_through[0]) if len(see_through) else NO_TRANSPARENT_INDEX
    table = np.ascontiguousarray(colors[:, :3]).tobytes()
    return table.ljust(768, b"\0") + struct.pack(">HH", len(colors), transparent)


def _read_swatch_exchange(data: bytes, name: str) -> Colors:
    # Adobe publishes no specification; http://www.selapa.net/swatches/colors/fileformats.php#adobe_ase
    if data[:4] != b"ASEF":
        raise ValueError(f"{name}: expected an Adobe swatch file ('ASEF'), got {data[:4]!r}")
    try:
        (count,) = struct.unpack_from(">I", data, 8)
        position = 12
        rows = []
        for _ in range(count):
            kind, length = struct.unpack_from(">HI", data, position)
            position += 6
            if position + length > len(data):
                raise ValueError(
                    f"{name}, byte {position}: expected a block of {length} bytes, "
                    f"got {len(data) - position}"
                )
            if kind == 1:  # a colour; groups and their ends hold none
                block = data[position : position + length]
                rows.append(_swatch(block, f"{name}, byte {position}"))
            position += length
    except struct.error:
        raise ValueError(f"{name}: expected more blocks, got the end of the file") from None
    return _colors(rows, name)


def _swatch(block: bytes, place: str) -> tuple[int, ...]:
    (name_length,) = struct.unpack_from(">H", block)
    start = 2 + 2 * name_length
    model = block[start : start + 4].decode("latin-1").strip().upper()
    channels = {"RGB": 3, "CMYK": 4, "GRAY": 1}.get(model)
    if channels is None:
        raise ValueError(f"{place}: expected an RGB, CMYK or Gray colour, got {model!r}")
    values = struct.unpack_from(f">{channels}f", block, start + 4)
    if not all(-1e-4 <= value <= 1 + 1e-4 for value in values):  # NaN fails, too
        raise ValueError(f"{place}: expected values from 0 to 1, got {values}")
    if model == "GRAY":
        values *= 3
    elif model == "CMYK":  # the file names no profile: ideal inks
        values = tuple((1 - value) * (1 - values[3]) for value in values[:3])
    return tuple(round(255 * min(max(value, 0.0), 1.0)) for value in values)


def _write_swatch_exchange(colors: Colors, name: str) -> bytes:
    blocks = []
    for row in _without_alpha(colors, name, "Adobe .ase"):
        label = f"#{bytes(row).hex()}\0"
        blocks.append(
            struct.pack(">H", len(label))
            + label.encode("utf-16-be")
            + b"RGB "
            + struct.pack(">3fH", *(value / 255 for value in row.tolist()), 2)  # 2: process colour
        )
    header = b"ASEF" + struct.pack(">HHI", 1, 0, len(blocks))
    return header + b"".join(struct.pack(">HI", 1, len(block)) + block for block in blocks)


def _read_swatches(data: bytes, name: str) -> Colors:
    """An indexed image gives its own palette, any other its colours in reading order."""
    colors = image_files.own_palette(data, name)
    if colors is not None:
        return colors
    pixels = next(iter(image_files.ImageFile(data, name)))
    pixels = pixels.reshape(-1, pixels.shape[-1])
    colors, first = np.unique(pixels, axis=0, return_index=True)
    if len(colors) > MAX_SWATCHES:
        raise ValueError(
            f"{name}: expected an image of at most {MAX_SWATCHES} swatches, "
            f"got {len(colors)} distinct colours"
        )
    return colors[np.argsort(first)]


def _write_swatches(colors: Colors, name: str) -> bytes:
    if len(colors) > MAX_SWATCHES or (len(colors) > 256 and not _distinct(colors)):
        raise ValueError(
            f"{name}: an image holds 256 swatches, or {MAX_SWATCHES} distinct ones, "
            f"got {len(colors)}; use .gpl or .hex"
        )
    columns = len(colors) if len(colors) <= 16 else math.ceil(math.sqrt(len(colors)))
    rows = math.ceil(len(colors) / columns)
    indices = np.arange(rows * columns).clip(max=len(colors) - 1).reshape(rows, columns)
    indices = indices.repeat(SWATCH_SIZE, 0).repeat(SWATCH_SIZE, 1)
    if len(colors) > 256:
        return image_files.encode([colors[indices]], ".png")
    return image_files.encode([indices.astype(np.uint8)], ".png", colors=colors)


IMAGE_SUFFIXES = (".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")

PALETTE_FORMATS: dict[str, PaletteFormat] = {
    ".gpl": PaletteFormat(_read_gimp, _write_gimp),
    ".pal": PaletteFormat(_read_jasc, _write_jasc),
    ".hex": PaletteFormat(_read_hex, _write_hex),
    ".act": PaletteFormat(_read_color_table, _write_color_table),
    ".ase": PaletteFormat(_read_swatch_exchange, _write_swatch_exchange),
    ".png": PaletteFormat(_read_swatches, _write_swatches),
}


def _lines(data: bytes) -> list[str]:
    # Names may be in any encoding; colours are ASCII. Only real line ends count.
    return re.split("\r\n|\r|\n", data.decode("utf-8-sig", errors="replace"))


def _integers(text: str, count: int, place: str, more: bool = False) -> tuple[int, ...]:
    words = text.split()
    numbers = words[:count] if more else words
    if len(numbers) != count or not all(
        re.fullmatch("[0-9]{1,3}", word) and int(word) <= 255 for word in numbers
    ):
        raise ValueError(f"{place}: expected {count} numbers from 0 to 255, got {_shorten(text)}")
    return tuple(int(word) for word in numbers)


def _colors(rows: list[tuple[int, ...]], name: str) -> Colors:
    if not rows:
        raise ValueError(f"{name}: expected at least one colour, got none")
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"{name}: expected all colours with alpha or none")
    return np.array(rows, np.uint8)


def _without_alpha(colors: Colors, name: str, kind: str) -> Colors:
    if colors.shape[1] == 4 and (colors[:, 3] != OPAQUE).any():
        raise ValueError(f"{name}: {kind} holds no alpha; use .gpl, .hex or .png")
    return colors[:, :3]


def _distinct(colors: Colors) -> bool:
    return len(np.unique(colors, axis=0)) == len(colors)


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
