"""WebP without loss, written: https://developers.google.com/speed/webp/docs/riff_container."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from colorquant_nn.image_files.display import Display, in_milliseconds
from colorquant_nn.image_files.packing import changed_box
from colorquant_nn.image_files.tiff_writing import directory, resolution_entries

__all__ = ["encode_webp"]

Array = NDArray[np.uint8]

ALPHA, EXIF, ANIMATION = 0x10, 0x08, 0x02
REPLACE = 0x02  # what a frame covers, without blending


def encode_webp(frames: Iterator[Array], display: Display, colors: Array | None) -> bytes:
    """Encode a still, or an animation of what changes from one frame to the next.

    Args:
        frames: as in `image_files.encode`.
        display: as in `image_files.encode`.
        colors: as in `image_files.encode`; WebP finds palettes itself, in an order of its own.

    Returns:
        the content of the file.
    """
    if colors is not None and colors.shape[1] == 4 and (colors[:, 3] == 255).all():
        colors = colors[:, :3]
    file = io.BytesIO()
    file.write(b"RIFF\0\0\0\0WEBP")
    before = None
    animated = len(display.durations) > 1
    for frame, duration in zip(frames, in_milliseconds(display.durations), strict=False):
        if before is None and (animated or display.resolution is not None):
            channels = (frame if colors is None else colors).shape[-1]
            file.write(_header(frame, channels, display))
        rows, columns = box = changed_box(before, frame, step=2)
        pixels = frame[box] if colors is None else colors[frame[box]]
        data = _compress(pixels)
        if animated:
            data = _chunk(
                b"ANMF",
                _three_bytes(
                    columns.start // 2,
                    rows.start // 2,
                    pixels.shape[1] - 1,
                    pixels.shape[0] - 1,
                    duration,
                )
                + bytes([REPLACE])
                + data,
            )
        file.write(data)
        before = frame
    if display.resolution is not None:
        exif = struct.pack("<2sHI", b"II", 42, 8) + directory(
            resolution_entries(display.resolution), 8
        )
        file.write(_chunk(b"EXIF", exif))
    file.seek(4)
    file.write(struct.pack("<I", file.getbuffer().nbytes - 8))
    return file.getvalue()


def _header(frame: Array, channels: int, display: Display) -> bytes:
    height, width = frame.shape[:2]
    animated = len(display.durations) > 1
    flags = ALPHA * (channels == 4)
    flags |= EXIF * (display.resolution is not None) | ANIMATION * animated
    data = _chunk(b"VP8X", bytes([flags, 0, 0, 0]) + _three_bytes(width - 1, height - 1))
    if animated:
        data += _chunk(b"ANIM", struct.pack("<IH", 0, display.plays))
    return data


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join([kind, struct.pack("<I", len(data)), data, b"\0" * (len(data) % 2)])


def _three_bytes(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(3, "little") for number in numbers)


def _compress(pixels: Array) -> bytes:
    """The chunk of a still."""
    file = io.BytesIO()
    # exact: colours below alpha 0 are kept
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "WEBP", lossless=True, exact=True)
    return file.getvalue()[12:]
