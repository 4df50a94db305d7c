"""Image files that are written: frames, indexed or in true colour, without loss."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image

__all__ = ["FORMATS", "Display", "encode"]

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
MAX_REPEATS = 65535  # 16 bits


class Display(NamedTuple):
    """How frames are shown."""

    durations: Sequence[float] = (0,)
    """Milliseconds for each frame; 0: nothing is said."""
    plays: int = 1
    """How often an animation is shown, 0 for ever."""
    resolution: tuple[float, float] | None = None
    """Dots per inch, across and down; None: nothing is said."""


STILL = Display()


def encode(
    frames: Iterable[Array], suffix: str, display: Display = STILL, *, colors: Array | None = None
) -> bytes:
    """Encode frames as one file, with the fewest bits per pixel; they are taken one at a time.

    Args:
        frames: as many as there are durations: (H, W, 3) or (H, W, 4) uint8 each; with ``colors``
            (H, W) uint8, the indices.
        suffix: .png, .gif (only with ``colors``), .webp or .tif.
        display: how they are shown.
        colors: (K, 3) or (K, 4) uint8, at most 256, of all frames.

    Returns:
        the content of the file.

    Raises:
        ValueError: the frames differ in size, but in .tif, or are not as many as durations.

    Examples:
        >>> import numpy as np
        >>> from colorquant_nn.image_files import encode
        >>> black_and_white = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
        >>> encode([np.eye(3, dtype=np.uint8)], ".gif", colors=black_and_white)[:6]
        b'GIF89a'
        >>> encode([np.zeros((4, 6, 3), np.uint8)], ".webp")[:4]
        b'RIFF'
    """
    frames = list(frames)
    if len(frames) != len(display.durations):
        raise ValueError(
            f"expected a duration for each frame, got {len(display.durations)} "
            f"for {len(frames)} frames"
        )
    if suffix not in (".tif", ".tiff") and len({frame.shape for frame in frames}) > 1:
        raise ValueError("expected frames of one size, got several; use .tif for pages")
    if colors is None:
        return _save([Image.fromarray(pixels) for pixels in frames], suffix, display, {})
    if suffix == ".gif":
        return _encode_gif(frames, colors, display)
    has_alpha = colors.shape[1] == 4 and bool((colors[:, 3] < 255).any())
    if suffix == ".webp" or (has_alpha and suffix != ".png"):
        # WebP finds the palette itself; a TIFF palette has no alpha.
        colors = colors if has_alpha else colors[:, :3]
        return encode((colors[indices] for indices in frames), suffix, display)
    # Pillow takes the number of bits from the size of the palette.
    more = {}
    if has_alpha:
        more["transparency"] = colors[:, 3].tobytes().rstrip(b"\xff")
    return _save([_indexed(indices, colors) for indices in frames], suffix, display, more)


def _save(images: list[Image.Image], suffix: str, display: Display, more: dict[str, Any]) -> bytes:
    options = OPTIONS[suffix] | more
    if suffix == ".png":
        large = images[0].width * images[0].height > LARGE
        options["compress_level"] = PNG_LEVEL_LARGE if large else PNG_LEVEL
    if len(images) > 1:
        options = options | {"save_all": True, "append_images": images[1:]}
        if suffix in (".png", ".webp"):
            options |= {
                "duration": [round(one) for one in display.durations],
                "loop": display.plays,
            }
        if suffix == ".png":
            options |= {"disposal": 0, "blend": 0}  # each frame replaces what it covers
    file = io.BytesIO()
    images[0].save(file, FORMATS[suffix], **options)
    return file.getvalue()


def _indexed(indices: Array, colors: Array) -> Image.Image:
    height, width = indices.shape
    image = Image.frombytes("P", (width, height), np.ascontiguousarray(indices).tobytes())
    image.putpalette(np.ascontiguousarray(colors[:, :3]).tobytes())
    return image


def _encode_gif(frames: Sequence[Array], colors: Array, display: Display) -> bytes:
    """GIF89a with one global colour table: https://www.w3.org/Graphics/GIF/spec-gif89a.txt.

    Pillow compresses the frames, but merges equal ones and may give each its own colours.
    """
    transparent, frames = _merge_transparent(frames, colors)
    height, width = frames[0].shape
    bits = max(1, (len(colors) - 1).bit_length())
    parts = [
        b"GIF89a",
        struct.pack("<HHBBB", width, height, 0x80 | 0x70 | (bits - 1), 0, 0),
        np.ascontiguousarray(colors[:, :3]).tobytes().ljust(3 << bits, b"\0"),
    ]
    if len(frames) > 1 and display.plays != 1:
        repeats = min(max(0, display.plays - 1), MAX_REPEATS)
        parts.append(b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", repeats, 0))
    # Without transparency a frame stays and the next one replaces what changed; with it, each
    # frame is whole and is cleared.
    disposal = 1 if transparent is None else 2
    options: dict[str, Any] = {} if transparent is None else {"transparency": transparent}
    if len(frames) > 1:
        options["disposal"] = disposal
    for number, (frame, duration) in enumerate(zip(frames, display.durations, strict=True)):
        box = (0, 0, width, height)
        if number and transparent is None:
            box = _changed_box(frames[number - 1], frame)
        left, top, right, bottom = box
        image = _indexed(frame[top:bottom, left:right], colors)
        options["duration"] = min(round(duration), MAX_GIF_DURATION)
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
