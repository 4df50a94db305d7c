"""Palette files as bytes, in the formats of other programs.

A reader takes the bytes of a file and the name to blame in an error, and returns the colours; a
writer is its inverse. Colours are (K, 3) or (K, 4) uint8 arrays, sRGB with straight alpha. What
a format cannot hold is a `ValueError`, never a silent loss. The first bytes of a file say how it
is read; only what has no header is read by its suffix.
"""

import os
from collections.abc import Callable
from functools import partial
from itertools import chain

from colorquant_nn.image_files import PICTURES
from colorquant_nn.palette_files import adobe, css, swatches, tables, text
from colorquant_nn.palette_files.colors import (
    MAX_COLORS,
    Colors,
    parse_color,
    parse_colors,
    parse_panel,
    stack,
)

__all__ = [
    "MAX_COLORS",
    "PALETTE_FORMATS",
    "PANEL_FORMATS",
    "parse_color",
    "parse_colors",
    "parse_panel",
    "read_palette",
    "read_panel",
    "stack",
]

MAX_BYTES = 1 << 22  # enough for as many colours, with names

Reader = Callable[[bytes, str], Colors]
Writer = Callable[[Colors, str], bytes]

# What is written, by suffix. A .pal is JASC's, which more programs read than Microsoft's.
PALETTE_FORMATS: dict[str, Writer] = {
    ".gpl": text.write_gimp,
    ".pal": text.write_jasc,
    ".hex": text.write_hex,
    ".act": tables.write_color_table,
    ".ase": adobe.write_swatch_exchange,
    ".aco": adobe.write_swatches,
    ".txt": text.write_paint_net,
    ".css": css.write_css,
    ".png": swatches.write_swatches,
}
# Those that may give each colour twice, as measured and as the device wants it.
PANEL_FORMATS: dict[str, Callable[[Colors, Colors, str], bytes]] = {
    ".gpl": text.write_gimp_panel,
    ".hex": text.write_hex_panel,
}
BY_FIRST_BYTES: list[tuple[Callable[[bytes], bool], Reader]] = [
    (adobe.is_swatch_exchange, adobe.read_swatch_exchange),
    (lambda data: data.startswith(b"RIFF"), tables.read_riff),
    (adobe.is_swatches, adobe.read_swatches),
    (partial(text.begins_with, pattern=text.GIMP), text.read_gimp),
    (partial(text.begins_with, pattern=text.JASC), text.read_jasc),
    (partial(text.begins_with, pattern=text.PAINT_NET), text.read_hex),
    (text.is_hex, text.read_hex),  # no header, but nothing else looks like it
]
BY_SUFFIX: dict[str, Reader] = {
    ".gpl": text.read_gimp,
    ".pal": tables.read_raw,
    ".psppalette": text.read_jasc,
    ".hex": text.read_hex,
    ".act": tables.read_color_table,
    ".ase": adobe.read_swatch_exchange,
    ".aco": adobe.read_swatches,
    **dict.fromkeys((".txt", ".css", ".scss", ".less", ".json"), css.read_css),
    **dict.fromkeys(chain(*PICTURES.values()), swatches.read_swatches),
}


def read_palette(data: bytes, name: str) -> Colors:
    """Read a palette file of any format.

    Args:
        data: the content of the file.
        name: of the file, for messages; its suffix counts where the first bytes say nothing.

    Returns:
        (K, 3) uint8; (K, 4) with straight alpha if the file has alpha.

    Raises:
        ValueError: it is none, or cannot be understood without doubt; the message names the place.

    Examples:
        >>> from colorquant_nn.palette_files import read_palette
        >>> read_palette(b"#000000 #ff8000", "two.hex").tolist()
        [[0, 0, 0], [255, 128, 0]]
    """
    if swatches.is_image(data):
        return swatches.read_swatches(data, name)
    suffix = os.path.splitext(name)[1].lower()
    if len(data) > MAX_BYTES:
        raise ValueError(
            f"{name}: expected a palette of at most {MAX_BYTES} bytes, got {len(data)}"
        )
    for matches, read in BY_FIRST_BYTES:
        if matches(data):
            return read(data, name)
    if suffix not in BY_SUFFIX:
        expected = ", ".join([*PALETTE_FORMATS, "another image"])
        raise ValueError(f"{name}: expected a palette file ({expected}), got {suffix!r}")
    return BY_SUFFIX[suffix](data, name)


def read_panel(data: bytes, name: str) -> tuple[Colors, Colors]:
    """Read the colours of a panel: as measured, and as the device wants them.

    Args:
        data: the content of the file.
        name: see `read_palette`.

    Returns:
        what `read_palette` returns, and as many colours of the device; the same ones where the
        file gives a colour once.

    Raises:
        ValueError: see `read_palette`.

    Examples:
        >>> from colorquant_nn.palette_files import read_panel
        >>> measured, device = read_panel(b"#000000 #b21318=#ff0000", "two.hex")
        >>> measured.tolist(), device.tolist()
        ([[0, 0, 0], [178, 19, 24]], [[0, 0, 0], [255, 0, 0]])
    """
    return read_palette(data, name), read_palette(text.device_side(data), name)
