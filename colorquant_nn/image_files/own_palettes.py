"""The palette that an indexed image file stores: index i of the file is colour i."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from colorquant_nn.image_files.contents import MAX_PIXELS
from colorquant_nn.image_files.decoding import Refused, decoding, is_format, open_image
from colorquant_nn.image_files.gif import parse_gif
from colorquant_nn.image_files.png import INDEXED, parse_png
from colorquant_nn.image_files.profiles import to_srgb
from colorquant_nn.image_files.reading import scan
from colorquant_nn.image_files.tiff_samples import mend_palette

__all__ = ["own_palette"]

Array = NDArray[np.uint8]


def own_palette(data: bytes, name: str) -> Array | None:
    """Read the palette that an indexed image file stores.

    Args:
        data: the content of the file; of an animation or pages, the first frame's palette.
        name: of the file, for messages.

    Returns:
        (K, 3) or (K, 4) uint8, as they are stored; None for an image without a palette.

    Raises:
        ValueError: as `ImageFile`.

    Examples:
        >>> import numpy as np
        >>> from colorquant_nn.image_files import encode, own_palette
        >>> black_and_white = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
        >>> data = encode([np.eye(3, dtype=np.uint8)], ".png", colors=black_and_white)
        >>> own_palette(data, "eye.png").tolist()
        [[0, 0, 0], [255, 255, 255]]
    """
    with decoding(name):
        if is_format(data, "PNG"):
            return _of_png(data)
        if is_format(data, "BMP"):
            return _of_bmp(data)
        scan(data, MAX_PIXELS)  # the others may be decoded
        return _of_gif(data) if is_format(data, "GIF") else _of_others(data)


def _of_gif(data: bytes) -> Array | None:
    frame = parse_gif(data).frames[0]
    colors = _with_alpha(frame.colors, {frame.transparent: 0})
    return None if colors is None else _without_padding(colors, open_image(data))


def _of_png(data: bytes) -> Array | None:
    png = parse_png(data)
    if png.kind != INDEXED:
        return None
    colors = _with_alpha(png.chunks[b"PLTE"], dict(enumerate(png.chunks.get(b"tRNS", b""))))
    return colors if colors is None or png.profile is None else _to_srgb(colors, png.profile)


def _of_bmp(data: bytes) -> Array | None:
    offset, header = struct.unpack_from("<2I", data, 10)
    is_old = header == 12
    (bits,) = struct.unpack_from("<H", data, 24 if is_old else 28)
    (count,) = (0,) if is_old else struct.unpack_from("<I", data, 46)
    step = 3 if is_old else 4
    if not 1 <= bits <= 8:
        return None
    count = min(count or 1 << bits, 1 << bits)
    table = np.frombuffer(data[14 + header : min(offset, 14 + header + step * count)], np.uint8)
    if len(table) < step:
        raise Refused("expected a table of colours, got none")
    return table[: len(table) // step * step].reshape(-1, step)[:, 2::-1].copy()


def _of_others(data: bytes) -> Array | None:
    image = open_image(data)
    if image.mode not in ("P", "PA") or image.palette is None:
        return None
    if is_format(data, "TIFF"):
        mend_palette(image)
    colors = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if image.format in ("TIFF", "PCX"):
        colors = _without_padding(colors, image)
    profile = image.info.get("icc_profile")
    return colors if profile is None else _to_srgb(colors, profile)


def _without_padding(colors: Array, image: Image.Image) -> Array:
    """A table whose format allows only some lengths: without repeats of its last colour.

    Those that are used, or transparent, stay.
    """
    used = int(np.asarray(image).max()) + 1
    if colors.shape[1] == 4:
        used = max(used, int(np.flatnonzero(colors[:, 3] < 255).max(initial=-1)) + 1)
    while len(colors) > used and (colors[-1, :3] == colors[-2, :3]).all():
        colors = colors[:-1]
    return colors


def _with_alpha(flat: bytes, alpha: dict[int | None, int]) -> Array | None:
    """Colours with the alpha that some of them have."""
    colors = np.frombuffer(flat[: len(flat) // 3 * 3], np.uint8).reshape(-1, 3)
    channel = np.array([alpha.get(index, 255) for index in range(len(colors))], np.uint8)
    if not len(colors):
        return None
    return colors.copy() if (channel == 255).all() else np.hstack([colors, channel[:, None]])


def _to_srgb(colors: Array, profile: bytes) -> Array:
    try:
        transform = to_srgb(profile, "RGB")
    except Refused:
        return colors  # reading the picture warns of it
    if transform is None:
        return colors
    row = np.ascontiguousarray(colors[None, :, :3])
    return np.hstack([np.asarray(transform(Image.fromarray(row)))[0], colors[:, 3:]])
