"""Image files that are read: whatever they hold becomes upright 8-bit sRGB, a frame at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from colorquant_nn.image_files.contents import MAX_PIXELS, Contents, Decoded
from colorquant_nn.image_files.decoding import Refused, decoding, is_format
from colorquant_nn.image_files.gif import scan_gif
from colorquant_nn.image_files.png import scan_png
from colorquant_nn.image_files.profiles import to_srgb, transform_deep
from colorquant_nn.image_files.stills import scan_still
from colorquant_nn.image_files.tiff import scan_tiff
from colorquant_nn.image_files.webp import scan_webp

__all__ = ["ImageFile", "scan"]

Array = NDArray[np.uint8]

SCANS: dict[str, Callable[[bytes, int], Contents]] = {
    "GIF": scan_gif,
    "PNG": scan_png,
    "TIFF": scan_tiff,
    "WEBP": scan_webp,
}
TURNS: dict[int, Callable[[Array], Array]] = {  # by EXIF's number of what was done to the picture
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}


def scan(data: bytes, max_pixels: int) -> Contents:
    """Read the headers of an image file, whatever its format.

    Args:
        data: the content of the file.
        max_pixels: that a frame may have.

    Returns:
        what it holds.

    Raises:
        ValueError: it is not an image, is broken, or there are too many pixels.
    """
    of_format = (SCANS[format] for format in SCANS if is_format(data, format))
    return next(of_format, scan_still)(data, max_pixels)


class ImageFile:
    """The frames of an image file, one at a time: each iteration decodes them anew.

    A frame is (H, W, 3) uint8, or (H, W, 4) with straight alpha where it is used.

    Args:
        data: the content of the file.
        name: of the file, for messages.
        max_pixels: that a frame may have; all frames together eight times as many.

    Raises:
        ValueError: the file is not an image, is broken, or is too large to be trusted; also while
            it is iterated.

    Examples:
        >>> import numpy as np
        >>> from colorquant_nn.image_files import ImageFile, encode
        >>> image = ImageFile(encode([np.zeros((4, 6, 3), np.uint8)], ".png"), "black.png")
        >>> [frame.shape for frame in image], image.durations, image.plays
        ([(4, 6, 3)], [0.0], 1)
    """

    durations: list[float]
    """Milliseconds that each frame is shown; 0 where the file says nothing."""
    plays: int
    """How often an animation is shown, 0 for ever."""
    resolution: tuple[float, float] | None
    """Dots per inch, across and down; None if the file says nothing."""

    def __init__(self, data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> None:
        self.name = name
        with decoding(name):
            contents = scan(data, max_pixels)
        self.durations = contents.durations
        self.plays = contents.plays
        self.resolution = contents.resolution
        self._frames = contents.frames
        self._transforms: dict[tuple[bytes, str], Callable[[Image.Image], Image.Image] | None] = {}

    def __len__(self) -> int:
        return len(self.durations)

    def __iter__(self) -> Iterator[Array]:
        frames = self._frames()
        for _ in self.durations:
            with decoding(self.name):
                pixels = self._to_srgb(next(frames))
            yield pixels

    def _to_srgb(self, picture: Decoded) -> Array:
        image, alpha = picture.image, picture.alpha
        if image.mode == "YCbCr":
            image = image.convert("RGB")
        if picture.profile is not None:
            image = self._apply_profile(image, picture.profile, picture.deep)
        image = image if image.mode == "RGB" else image.convert("RGB")
        if alpha is not None and alpha.min() < 255:
            image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
        pixels = np.asarray(image)
        return TURNS[picture.orientation](pixels)

    def _apply_profile(
        self, image: Image.Image, profile: bytes, deep: NDArray[np.uint16] | None
    ) -> Image.Image:
        key = profile, image.mode
        if key not in self._transforms:
            try:
                self._transforms[key] = to_srgb(*key)
            except Refused as error:
                self._transforms[key] = None
                warnings.warn(f"{self.name}: ICC profile ignored ({error})", stacklevel=4)
        transform = self._transforms[key]
        if transform is None:
            return image
        return transform(image) if deep is None else transform_deep(transform, image, deep)
