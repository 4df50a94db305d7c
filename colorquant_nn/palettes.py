"""Palettes in and out: `load_palette` by name, list or file, `save_palette` into one.

A panel shows other colours than it is told to: `load_panel` gives both, `save_palette` writes both.
"""

import os
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn.files import PathLike, check_suffix, read_file, write_atomically
from colorquant_nn.io import palette_array
from colorquant_nn.named_palettes import NAMED_PALETTES
from colorquant_nn.palette_files import (
    MAX_COLORS,
    PALETTE_FORMATS,
    PANEL_FORMATS,
    parse_color,
    parse_panel,
    read_panel,
    stack,
)

__all__ = ["Panel", "encode_palette", "load_palette", "load_panel", "save_palette"]


class Panel(NamedTuple):
    """The colours of a display, twice.

    Examples:
        >>> from colorquant_nn import load_panel
        >>> measured, device = load_panel("spectra6")
        >>> measured.shape == device.shape
        True
    """

    measured: Tensor
    """(K, C) float32 sRGB in [0, 1]: what the eye sees, in which pictures are drawn."""
    device: Tensor
    """(K, C) float32 sRGB in [0, 1]: what files say, so that the display shows it."""


def load_palette(source: PathLike) -> Tensor:
    """Load a palette by its name, from a list of colours or from a file.

    Args:
        source: a key of `NAMED_PALETTES`; or colours with commas between them, such as
            "#000,white,rgb(255 0 0)"; or the path of a file. The first of these that fits is taken:
            a file of such a name is meant by a `pathlib.Path`, or with its folder, "./white".
            The first bytes of a file tell what it is: GIMP .gpl, JASC or Microsoft .pal, Adobe
            .act, .ase or .aco, Paint.NET .txt, or an image; an indexed image gives its own palette,
            any other is read as swatches, its distinct colours from the top left on. By its suffix:
            .hex, .css and other lists of colours, .pal and .act without header.
            Of a panel, these are the measured colours, see `load_panel`.

    Returns:
        (K, 3) float32, sRGB in [0, 1]; (K, 4) with straight alpha if a colour has alpha.

    Raises:
        FileNotFoundError: there is no such name or file.
        ValueError: the file is no palette; the message names the place.
        TypeError: for something else than a name or a path.

    Examples:
        >>> from colorquant_nn import load_palette
        >>> load_palette("gameboy").shape
        torch.Size([4, 3])
        >>> load_palette("black, white, #f00").tolist()
        [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
    """
    return load_panel(source).measured


def load_panel(source: PathLike) -> Panel:
    """Load the colours of a display: as they were measured, and as the device wants them.

    A list or a text of codes gives a colour twice as ``#b21318=#ff0000``, measured=device; in a
    GIMP .gpl the measured colour has this name. Where a colour is given once, it is both.

    Args:
        source: see `load_palette`; of the names, spectra6, acep7 and those of epaper were measured.

    Returns:
        Both, (K, 3); or (K, 4) if a colour has alpha, which no colour given twice may have.

    Raises:
        FileNotFoundError: there is no such name or file.
        ValueError: it is no palette, or one given twice has alpha; the message names the place.
        TypeError: for something else than a name or a path.

    Examples:
        >>> from colorquant_nn import load_panel
        >>> measured, device = load_panel("#0f0f0f=#000, #b2b2b2=#fff")
        >>> device.tolist()
        [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    sides = _load(source)
    if {side.shape[1] for side in sides} != {3} and not np.array_equal(*sides):
        raise ValueError(f"{source}: expected opaque colours of a panel, got some with alpha")
    return Panel(*(torch.from_numpy(side.astype(np.float32)) / 255 for side in sides))


def _load(source: PathLike) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    no_colors = None
    if isinstance(source, str):
        if source in NAMED_PALETTES:
            colors, _, device = NAMED_PALETTES[source]
            measured, written = (
                stack(map(parse_color, side.split()), source) for side in (colors, device or colors)
            )
            return measured, written
        try:
            measured, written = (stack(side, source) for side in parse_panel(source))
            return measured, written
        except ValueError as error:
            no_colors = error
    try:
        data = read_file(source, "a palette file")
    except FileNotFoundError:
        if no_colors and ("," in str(source) or str(source).startswith("#")):
            raise ValueError(f"{source}: no such file, and no colours: {no_colors}") from None
        raise FileNotFoundError(
            f"{source}: no such palette; expected a file, colours such as '#000,#fff', "
            f"or one of {', '.join(NAMED_PALETTES)}"
        ) from None
    return read_panel(data, str(source))


def save_palette(path: PathLike, palette: Tensor, *, device: Tensor | None = None) -> None:
    """Save a palette with 8 bits a channel, in the format that the file's name asks for.

    Args:
        path: ends in .gpl, .pal (JASC), .hex, .act, .ase, .aco, .txt (Paint.NET), .css or .png
            (swatches).
        palette: (K, 3) or (K, 4), sRGB in [0, 1], straight alpha.
        device: (K, 3), for a panel whose measured colours are the palette; for .gpl and .hex.

    Raises:
        ValueError: the format is unknown or cannot hold the palette.
        TypeError: for something else than a path and a palette, or a wrong dtype.

    Examples:
        >>> import tempfile
        >>> from colorquant_nn import load_palette, save_palette
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_palette(f"{folder}/cga.gpl", load_palette("cga"))
        ...     load_palette(f"{folder}/cga.gpl").equal(load_palette("cga"))
        True
    """
    write_atomically({path: encode_palette(path, palette, device=device)})


def encode_palette(path: PathLike, palette: Tensor, *, device: Tensor | None = None) -> bytes:
    """Encode what `save_palette` writes.

    Args:
        path: as in `save_palette`; nothing is written to it.
        palette: as in `save_palette`.
        device: as in `save_palette`.

    Returns:
        the content of the file.

    Raises:
        ValueError: as `save_palette`.
        TypeError: as `save_palette`.

    Examples:
        >>> from colorquant_nn import load_palette
        >>> from colorquant_nn.palettes import encode_palette
        >>> encode_palette("two.hex", load_palette("grey-2"))
        b'000000\\nffffff\\n'
    """
    suffix = check_suffix(path, PALETTE_FORMATS, "a palette")
    colors = palette_array(palette)
    if len(colors) > MAX_COLORS:
        raise ValueError(f"{path}: a palette file holds {MAX_COLORS} colours, got {len(colors)}")
    if device is None:
        return PALETTE_FORMATS[suffix](colors, os.path.basename(path))
    check_suffix(path, PANEL_FORMATS, "a panel")
    written = palette_array(device)
    if not written.shape == colors.shape == (len(colors), 3):
        raise ValueError(
            f"expected measured and device colours (K, 3), got {colors.shape} and {written.shape}"
        )
    return PANEL_FORMATS[suffix](colors, written, os.path.basename(path))
