"""Image files that are written: frames, indexed or in true colour, without loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from colorquant_nn.image_files.bmp_writing import encode_bmp
from colorquant_nn.image_files.display import Display, FormatError, fit_display
from colorquant_nn.image_files.gif_writing import encode_gif
from colorquant_nn.image_files.png_writing import encode_png
from colorquant_nn.image_files.tiff_writing import encode_tiff
from colorquant_nn.image_files.webp_writing import encode_webp
from colorquant_nn.names import Effort, check_name

__all__ = ["FORMATS", "encode"]

Array = NDArray[np.uint8]
Encoder = Callable[[Iterator[Array], Display, Array | None], bytes]

FORMATS = {
    ".png": "PNG",
    ".gif": "GIF",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
ENCODERS: dict[str, Encoder] = {
    "GIF": encode_gif,
    "WebP": encode_webp,
    "TIFF": encode_tiff,
    "BMP": encode_bmp,
}
LONGEST_SIDE = {"GIF": 65_535, "WebP": 16_383}  # pixels
LONGEST_SIDE_OF_OTHERS = (1 << 31) - 1
STILL = Display()


def encode(
    frames: Iterable[Array],
    suffix: str,
    display: Display = STILL,
    *,
    colors: Array | None = None,
    effort: Effort = "balanced",
) -> bytes:
    """Encode frames as one file without loss; they are taken one at a time.

    Times and plays that the format cannot hold become the nearest that it can (`fit_display`).

    Args:
        frames: as many as there are durations: (H, W, 3) or (H, W, 4) uint8 each; with ``colors``
            (H, W) uint8, the indices.
        suffix: .png, .gif (only with ``colors``), .webp, .tif or .bmp (one opaque frame).
        display: how they are shown.
        colors: (K, 3) or (K, 4) uint8, at most 256, of all frames. All of them are stored in their
            order, but in .webp, and in .tif where a pixel is not opaque: both are true colour.
        effort: "fast", "balanced" or "best": how long a smaller .png is searched for.

    Returns:
        the content of the file.

    Raises:
        FormatError: the frames differ in size, but in .tif; are not as many as durations; or the
            format cannot hold them.
        ValueError: for an effort that there is not.

    Examples:
        >>> import numpy as np
        >>> from colorquant_nn.image_files import encode
        >>> black_and_white = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
        >>> encode([np.eye(3, dtype=np.uint8)], ".gif", colors=black_and_white)[:6]
        b'GIF89a'
        >>> encode([np.zeros((4, 6, 3), np.uint8)], ".webp")[:4]
        b'RIFF'
    """
    check_name("an effort", effort, get_args(Effort))
    if not display.durations:
        raise FormatError("expected at least one frame, got none")
    if colors is not None and len(colors) > 256:
        raise FormatError(f"expected at most 256 colours for indices, got {len(colors)}")
    display, _ = fit_display(display, suffix)
    stream = _checked(frames, len(display.durations), FORMATS[suffix])
    if suffix == ".png":
        return encode_png(stream, display, colors, effort)
    return ENCODERS[FORMATS[suffix]](stream, display, colors)


def _checked(frames: Iterable[Array], count: int, form: str) -> Iterator[Array]:
    """The frames, as many as expected, that the format can hold."""
    number, shape = 0, None
    for number, frame in enumerate(frames, 1):
        if number > count:
            raise FormatError(f"expected a duration for each frame, got {count} for more frames")
        height, width = frame.shape[:2]
        longest = LONGEST_SIDE.get(form, LONGEST_SIDE_OF_OTHERS)
        if max(height, width) > longest:
            instead = "make the picture smaller" if form not in LONGEST_SIDE else "use .png"
            raise FormatError(
                f"a {form} is at most {longest} pixels wide and high, got {width} x {height}; "
                f"{instead}"
            )
        shape = shape or frame.shape
        if frame.shape != shape and form != "TIFF":
            first, other = (f"{size[1]} x {size[0]}" for size in (shape, frame.shape))
            raise FormatError(
                f"expected frames of one size, got {first} and {other}; use .tif for pages"
            )
        yield frame
    if number < count:
        raise FormatError(f"expected a duration for each frame, got {count} for {number} frames")
