"""Palettes as tables of bytes: Adobe .act, Microsoft RIFF .pal, the raw .pal of emulators."""

import struct
import warnings

import numpy as np

from colorquant_nn.palette_files.colors import OPAQUE, Colors, stack

__all__ = ["read_color_table", "read_raw", "read_riff", "write_color_table"]

NO_TRANSPARENT_INDEX = 0xFFFF
RAW_SIZES = (192, 768, 1536)  # 64, 256 and 512 colours
TEXT = bytes(range(32, 127)) + b"\t\r\n\x1a"


def read_color_table(data: bytes, name: str) -> Colors:
    """Read an Adobe colour table: RGB triples, then perhaps their number and the transparent one.

    Args:
        data: the content of the file: 768 or 772 bytes, or a shorter table of some programs.
        name: of the file, for messages.

    Returns:
        (K, 3) uint8; (K, 4) if one is transparent.

    Raises:
        ValueError: it is none.

    References:
        "Color Table" in https://www.adobe.com/devnet-apps/photoshop/fileformatashtml/
    """
    if len(data) != 772 and (len(data) > 768 or len(data) % 3):
        raise ValueError(
            f"{name}: expected 768 or 772 bytes, or fewer that are a multiple of 3, got {len(data)}"
        )
    if not data.strip(TEXT) and (len(data) < 768 or b"\n" in data):
        raise ValueError(f"{name}: expected a table of bytes, got text")
    colors = np.frombuffer(data[:768], np.uint8).reshape(-1, 3).copy()
    if len(data) != 772:
        return colors
    count, transparent = struct.unpack(">HH", data[768:])
    if not 1 <= count <= 256:
        raise ValueError(f"{name}, byte 768: expected a number of colours up to 256, got {count}")
    colors = colors[:count]
    if transparent == NO_TRANSPARENT_INDEX:
        return colors
    if transparent >= count:
        raise ValueError(
            f"{name}, byte 770: expected the index of one of {count} colours or "
            f"{NO_TRANSPARENT_INDEX}, got {transparent}"
        )
    alpha = np.full((count, 1), OPAQUE, np.uint8)
    alpha[transparent] = 0
    return np.hstack([colors, alpha])


def write_color_table(colors: Colors, name: str) -> bytes:
    """Write an Adobe colour table of 772 bytes.

    Args:
        colors: (K, 3) or (K, 4) uint8.
        name: of the file, for messages.

    Returns:
        the content of the file.

    Raises:
        ValueError: there are too many, or more alpha than one transparent colour.
    """
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


def read_riff(data: bytes, name: str) -> Colors:
    """Read a Microsoft palette: chunks, of which those called ``data`` hold colours.

    Args:
        data: the content of the file.
        name: of the file, for messages.

    Returns:
        (K, 3) uint8; the fourth byte of an entry is a flag, not alpha.

    Raises:
        ValueError: it is none, or its lengths contradict each other.

    References:
        https://learn.microsoft.com/windows/win32/api/wingdi/ns-wingdi-logpalette
    """
    if data[8:12] != b"PAL ":
        raise ValueError(f"{name}, byte 8: expected a RIFF file of kind 'PAL ', got {data[8:12]!r}")
    tables = []
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        place = f"{name}, byte {position}"
        chunk = data[position + 8 : position + 8 + length]
        if len(chunk) < length:
            raise ValueError(f"{place}: expected a chunk of {length} bytes, got {len(chunk)}")
        if kind == b"data":
            if length < 4:
                raise ValueError(f"{place}: expected a table of colours, got {length} bytes")
            (count,) = struct.unpack_from("<H", chunk, 2)
            # Some writers leave zeros behind the last colour.
            if length < 4 + 4 * count or chunk[4 + 4 * count :].strip(b"\0"):
                raise ValueError(
                    f"{place}: expected {count} colours of 4 bytes each, got {length - 4} bytes"
                )
            tables.append(np.frombuffer(chunk, np.uint8, 4 * count, 4).reshape(-1, 4)[:, :3])
        position += 8 + length + length % 2
    return stack((tuple(row) for table in tables for row in table.tolist()), name)


def read_raw(data: bytes, name: str) -> Colors:
    """Read RGB triples without any header, as emulators of consoles keep them.

    Args:
        data: the content of the file: 192, 768 or 1536 bytes; or an Adobe colour table.
        name: of the file, for messages.

    Returns:
        (K, 3) uint8, or what `read_color_table` returns.

    Raises:
        ValueError: for another length, or for text.
    """
    if len(data) == 772:
        return read_color_table(data, name)
    if len(data) not in RAW_SIZES or not data.strip(TEXT):
        raise ValueError(
            f"{name}: expected a JASC palette ('JASC-PAL'), a Microsoft RIFF palette, or 192, 768 "
            f"or 1536 bytes of colours, got {len(data)} bytes that begin with {data[:8]!r}"
        )
    colors = np.frombuffer(data, np.uint8).reshape(-1, 3)
    if len(data) == 768 and 0 < colors.max() < 64:
        warnings.warn(
            f"{name}: no value above {colors.max()} of 255; if they have 6 bits, as those of a VGA "
            "card, multiply them by 4",
            stacklevel=2,
        )
    return colors.copy()
