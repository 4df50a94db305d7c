"""Palettes in and out: `load_palette` by name or from a file, `save_palette` into one."""

import os

import numpy as np
import torch
from torch import Tensor

from colorquant_nn.files import PathLike, check_suffix, read_file, write_atomically
from colorquant_nn.io import palette_array
from colorquant_nn.named_palettes import NAMED_PALETTES
from colorquant_nn.palette_files import IMAGE_SUFFIXES, PALETTE_FORMATS

__all__ = ["encode_palette", "load_palette", "save_palette"]


def load_palette(source: PathLike) -> Tensor:
    """Load a palette by its name or from a file.

    Args:
        source: a key of `NAMED_PALETTES`, or the path of a GIMP .gpl, JASC .pal, .hex, Adobe
            .act or .ase file or of an image. An indexed image gives its own palette; any other
            is read as swatches, its distinct colours from the top left on.

    Returns:
        (K, 3) float32, sRGB in [0, 1]; (K, 4) with straight alpha if the file has alpha.

    Raises:
        FileNotFoundError: there is no such name or file.
        ValueError: the file is no palette; the message names the place.
        TypeError: for something else than a name or a path.

    Examples:
        >>> from colorquant_nn import load_palette
        >>> load_palette("gameboy").shape
        torch.Size([4, 3])
    """
    if isinstance(source, str) and source in NAMED_PALETTES:
        rows = [list(bytes.fromhex(color)) for color in NAMED_PALETTES[source].colors.split()]
        return torch.tensor(rows, dtype=torch.float32) / 255
    try:
        data = read_file(source, "a palette file")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{source}: no such palette; expected a file or one of {', '.join(NAMED_PALETTES)}"
        ) from None
    suffix = os.path.splitext(source)[1].lower()
    if suffix not in PALETTE_FORMATS and suffix not in IMAGE_SUFFIXES:
        expected = ", ".join([*PALETTE_FORMATS, "another image"])
        raise ValueError(f"{source}: expected a palette file ({expected}), got {suffix!r}")
    colors = PALETTE_FORMATS.get(suffix, PALETTE_FORMATS[".png"]).read(data, str(source))
    return torch.from_numpy(colors.astype(np.float32)) / 255


def save_palette(path: PathLike, palette: Tensor) -> None:
    """Save a palette with 8 bits a channel, in the format that the file's name asks for.

    Args:
        path: ends in .gpl, .pal, .hex, .act, .ase or .png (swatches).
        palette: (K, 3) or (K, 4), sRGB in [0, 1], straight alpha.

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
    write_atomically({path: encode_palette(path, palette)})


def encode_palette(path: PathLike, palette: Tensor) -> bytes:
    """Encode what `save_palette` writes.

    Args:
        path: as in `save_palette`; nothing is written to it.
        palette: as in `save_palette`.

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
    return PALETTE_FORMATS[suffix].write(palette_array(palette), os.path.basename(path))
