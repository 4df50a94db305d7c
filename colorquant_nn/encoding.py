"""Image files without loss, as bytes: PNG, GIF, WebP and TIFF, from indices or true colour.

Arrays as in Pillow: indices (H, W) uint8, colours (K, 3) or (K, 4) uint8 with straight alpha,
pictures (H, W, 3) or (H, W, 4) uint8.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FORMATS", "Timing", "encode_indexed_frames", "encode_true_color"]

Array = NDArray[np.uint8]

FORMATS = {".png": "PNG", ".gif": "GIF", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {},
    ".webp": {"lossless": True, "exact": True},  # exact: colours below alpha 0 are kept
    ".tif": {"compression": "tiff_adobe_deflate"},
    ".tiff": {"compression": "tiff_adobe_deflate"},
}
LARGE = 1 << 22  # pixels
PNG_LEVEL, PNG_LEVEL_LARGE = 8, 6  # 2 % to 4 % smaller for twice the time, some 0.1 s a megapixel
HALF_OPAQUE = 128
MAX_GIF_DURATION = 655350  # milliseconds: 16 bits of hundredths


class Timing(NamedTuple):
    """When the frames of an animation are shown."""

    durations: list[int]
    """Milliseconds for each frame."""
    loop: int | None
    """Repeats, 0 for ever, None for one play."""


def encode_true_color(pixels: Array, suffix: str) -> bytes:
    """One picture as .png, .webp or .tif."""
    return encode_true_color_frames([pixels], suffix, Timing([0], None))


def encode_true_color_frames(frames: Sequence[Array], suffix: str, timing: Timing) -> bytes:
    """Pictures as one .png, .webp or .tif."""
    from PIL import Image

    return _save([Image.fromarray(pixels) for pixels in frames], suffix, timing, {})


def encode_indexed_frames(
    frames: Sequence[Array], colors: Array, suffix: str, timing: Timing
) -> bytes:
    """Indexed pictures that share up to 256 colours, with the fewest bits per pixel."""
    if suffix == ".gif":
        return _encode_gif(frames, colors, timing)
    has_alpha = colors.shape[1] == 4 and bool((colors[:, 3] < 255).any())
    if suffix == ".webp" or (has_alpha and suffix != ".png"):
        # WebP finds the palette itself; a TIFF palette has no alpha.
        colors = colors if has_alpha else colors[:, :3]
        return encode_true_color_frames([colors[indices] for indices in frames], suffix, timing)
    # Pillow takes the number of bits from the size of the palette.
    more = {}
    if has_alpha:
        more["transparency"] = colors[:, 3].tobytes().rstrip(b"\xff")
    return _save([_indexed(indices, colors) for indices in frames], suffix, timing, more)


def _save(images: list[Image.Image], suffix: str, timing: Timing, more: dict[str, Any]) -> bytes:
    options = OPTIONS[suffix] | more
    if suffix == ".png":
        large = images[0].width * images[0].height > LARGE
        options["compress_level"] = PNG_LEVEL_LARGE if large else PNG_LEVEL
    if len(images) > 1:
        options = options | {"save_all": True, "append_images": images[1:]}
        if suffix in (".png", ".webp"):
            options |= {
                "duration": timing.durations,
                "loop": 1 if timing.loop is None else timing.loop,
            }
        if suffix == ".png":
            options |= {"disposal": 0, "blend": 0}  # each frame replaces what it covers
    file = io.BytesIO()
    images[0].save(file, FORMATS[suffix], **options)
    return file.getvalue()


def _indexed(indices: Array, colors: Array) -> Image.Image:
    from PIL import Image

    height, width = indices.shape
    image = Image.frombytes("P", (width, height), np.ascontiguousarray(indices).tobytes())
    image.putpalette(np.ascontiguousarray(colors[:, :3]).tobytes())
    return image


def _encode_gif(frames: Sequence[Array], colors: Array, timing: Timing) -> bytes:
    """GIF89a with one global colour table: https://www.w3.org/Graphics/GIF/spec-gif89a.txt.

    Pillow compresses the frames, but merges equal ones and may give each its own colours.
    """
    from PIL import GifImagePlugin

    transparent, frames = _merge_transparent(frames, colors)
    height, width = frames[0].shape
    bits = max(1, (len(colors) - 1).bit_length())
    parts = [
        b"GIF89a",
        struct.pack("<HHBBB", width, height, 0x80 | 0x70 | (bits - 1), 0, 0),
        np.ascontiguousarray(colors[:, :3]).tobytes().ljust(3 << bits, b"\0"),
    ]
    if len(frames) > 1 and timing.loop is not None:
        parts.append(b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", timing.loop, 0))
    # Without transparency a frame stays and the next one replaces what changed; with it, each
    # frame is whole and is cleared.
    disposal = 1 if transparent is None else 2
    options: dict[str, Any] = {} if transparent is None else {"transparency": transparent}
    if len(frames) > 1:
        options["disposal"] = disposal
    for number, (frame, duration) in enumerate(zip(frames, timing.durations, strict=True)):
        box = (0, 0, width, height)
        if number and transparent is None:
            box = _changed_box(frames[number - 1], frame)
        left, top, right, bottom = box
        image = _indexed(frame[top:bottom, left:right], colors)
        options["duration"] = min(duration, MAX_GIF_DURATION)
        parts += GifImagePlugin.getdata(image, (left, top), **options)
    return b"".join(parts) + b";"


def _merge_transparent(
    frames: Sequence[Array], colors: Array
) -> tuple[int | None, Sequence[Array]]:
    """A GIF has one transparent index: all colours that are more clear than not."""
    if colors.shape[1] == 3 or not (clear := colors[:, 3] < HALF_OPAQUE).any():
        return None, frames
    transparent = int(np.flatnonzero(clear)[0])
    table = np.where(clear, transparent, np.arange(len(colors))).astype(np.uint8)
    return transparent, [table[frame] for frame in frames]


def _changed_box(before: Array, after: Array) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what changed; one pixel where nothing did."""
    changed = before != after
    rows = np.flatnonzero(changed.any(1))
    columns = np.flatnonzero(changed.any(0))
    if not len(rows):
        return 0, 0, 1, 1
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
