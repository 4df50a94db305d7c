"""Image files that are read: whatever they hold becomes upright 8-bit sRGB, a frame at a time."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, ImageSequence, UnidentifiedImageError

__all__ = ["MAX_PIXELS", "ImageFile", "own_palette"]

Array = NDArray[np.uint8]

MAX_PIXELS = 178_956_970  # of a frame: half a gigabyte
# Formats whose further images are frames or pages; in others they are previews or layers.
FRAME_FORMATS = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")


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
        self._data = data
        self.durations = []
        with _reading(name):
            image = Image.open(io.BytesIO(data))
            for frame in ImageSequence.Iterator(image):
                frame.load()
                self.durations.append(float(frame.info.get("duration", 0) or 0))
                if image.format not in FRAME_FORMATS:
                    break
            loop = image.info.get("loop")
            if image.format == "GIF":
                loop = 1 if loop is None else loop and loop + 1
            self.plays = 1 if loop is None else loop
            self.resolution = image.info.get("dpi")

    def __len__(self) -> int:
        return len(self.durations)

    def __iter__(self) -> Iterator[Array]:
        image = Image.open(io.BytesIO(self._data))
        for number in range(len(self)):
            with _reading(self.name):
                image.seek(number)
                pixels = _to_srgb(image, self.name)
            yield pixels


def own_palette(data: bytes, name: str) -> Array | None:
    """Read the palette that an indexed image file stores.

    Args:
        data: the content of the file.
        name: of the file, for messages.

    Returns:
        (K, 3) or (K, 4) uint8; None for an image without a palette.

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
    with _reading(name):
        image = Image.open(io.BytesIO(data))
        if image.format in ("GIF", "BMP") and image.mode in ("1", "L"):
            # For a table of greys in order Pillow has no palette.
            count = 2 << (data[10] & 7) if image.format == "GIF" else data[46] or 256
            step = 1 if image.mode == "L" else 255
            greys = np.arange(count).astype(np.uint8) * np.uint8(step)
            return np.repeat(greys[:, None], 3, 1)
        if image.mode != "P" or image.palette is None:
            return None
        alpha = image.info.get("transparency")
        if isinstance(alpha, int):  # GIF, and PNG with one such colour
            alpha = b"\xff" * alpha + b"\0"
        flat = image.getpalette("RGB") or []
        colors = np.array(flat, np.uint8).reshape(-1, 3)
        if image.format in ("GIF", "TIFF"):
            # Their tables have 2, 4, 8 ... entries: repeats of the last one are padding.
            used = max(int(np.asarray(image).max()) + 1, len(alpha or b""))
            while len(colors) > used and (colors[-1] == colors[-2]).all():
                colors = colors[:-1]
    if not alpha or not len(colors):
        return colors if len(colors) else None
    channel = np.frombuffer(alpha[: len(colors)].ljust(len(colors), b"\xff"), np.uint8)
    return np.hstack([colors, channel[:, None]])


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turns whatever Pillow raises on a bad file into a `ValueError` that names it."""
    with warnings.catch_warnings():
        # Pillow warns from 89 megapixels on and refuses from 179: large is not yet an attack.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", module="PIL")  # odd metadata
        try:
            yield
        except (_Refused, MemoryError):
            raise
        except UnidentifiedImageError:
            raise ValueError(f"{name}: not an image that Pillow can read") from None
        except Image.DecompressionBombError as error:
            raise ValueError(f"{name}: too large to be trusted ({error})") from None
        except Exception as error:  # decoders raise nearly every kind on broken data
            raise ValueError(f"{name}: broken, truncated or unsupported image ({error})") from error


class _Refused(ValueError):
    """Already says what is wrong with the file."""


def _to_srgb(image: Image.Image, name: str) -> Array:
    """Decode one frame to upright 8-bit sRGB; alpha only if it is used."""
    image.load()
    profile = image.info.get("icc_profile")
    image = image.copy()  # frames change under the iterator
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_8_bits(image, name)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        if alpha.getextrema() == (255, 255):
            alpha = None
        image = image.convert("RGB")
    elif image.mode in ("1", "P", "PA"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if profile:
        image = _apply_profile(image, profile, name)
    pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return pixels if alpha is None else np.dstack([pixels, np.asarray(alpha)])


def _to_8_bits(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    top = 1.0 if image.mode == "F" else 65535.0
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= top):
        raise _Refused(
            f"{name}: expected values from 0 to {top:g} in an image of mode {image.mode}, "
            f"got {values.min():g} to {values.max():g}"
        )
    return Image.fromarray(np.round(values * (255 / top)).astype(np.uint8))


def _apply_profile(image: Image.Image, profile: bytes, name: str) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image  # nothing to convert, and no rounding: the bytes stay what they are
        if image.mode not in ("RGB", "L", "CMYK", "LAB"):
            image = image.convert("RGB")
        converted = ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError) as error:
        warnings.warn(f"{name}: ICC profile ignored ({error})", stacklevel=2)
        return image
    return image if converted is None else converted
