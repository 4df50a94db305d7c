"""Image files as bytes: what Pillow reads becomes 8-bit sRGB, what is written loses nothing.

`decode` and `own_palette` read; `encode_true_color` and `encode_indexed` write PNG, GIF, WebP and
TIFF. Arrays as in Pillow: pictures (H, W, 3) or (H, W, 4) uint8 with straight alpha, indices (H, W)
uint8, colours (K, 3) or (K, 4) uint8. A ``name`` is what errors and warnings blame.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import (
    GifImagePlugin,
    Image,
    ImageCms,
    ImageOps,
    ImageSequence,
    UnidentifiedImageError,
)

__all__ = ["FORMATS", "Timing", "decode", "encode_indexed", "encode_true_color", "own_palette"]

Array = NDArray[np.uint8]

# Formats whose further images are frames or pages; in others they are previews or layers.
FRAME_FORMATS = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
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
    """Milliseconds each frame is shown; 0 where the file says nothing."""
    loop: int | None
    """How often the animation repeats, 0 for ever; None if the file says nothing: once."""


STILL = Timing([0], None)


def decode(data: bytes, name: str, first_only: bool = False) -> tuple[list[Array], Timing]:
    """Decode the frames of an image file to upright sRGB, with alpha only where it is used.

    Args:
        data: the content of the file.
        name: of the file, for messages.
        first_only: whether one frame is enough.

    Returns:
        (H, W, 3) or (H, W, 4) uint8 each, and their timing.

    Raises:
        ValueError: the file is not an image, is broken, or is too large to be trusted.

    Examples:
        >>> import numpy as np
        >>> from colorquant_nn.image_files import decode, encode_true_color
        >>> frames, timing = decode(encode_true_color([np.zeros((4, 6, 3), np.uint8)], ".png"), "")
        >>> frames[0].shape, timing.durations
        ((4, 6, 3), [0])
    """
    with _reading(name):
        image = Image.open(io.BytesIO(data))
        frames, durations = [], []
        for frame in ImageSequence.Iterator(image):
            frames.append(_to_srgb(frame, name))
            durations.append(round(frame.info.get("duration", 0) or 0))
            if first_only or image.format not in FRAME_FORMATS:
                break
        return frames, Timing(durations, image.info.get("loop"))


def own_palette(data: bytes, name: str) -> Array | None:
    """Read the palette that an indexed image file stores.

    Args:
        data: the content of the file.
        name: of the file, for messages.

    Returns:
        (K, 3) or (K, 4) uint8; None for an image without a palette.

    Raises:
        ValueError: as `decode`.

    Examples:
        >>> import numpy as np
        >>> from colorquant_nn.image_files import encode_indexed, own_palette
        >>> black_and_white = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
        >>> data = encode_indexed([np.eye(3, dtype=np.uint8)], black_and_white, ".png")
        >>> own_palette(data, "eye.png").tolist()
        [[0, 0, 0], [255, 255, 255]]
    """
    with _reading(name):
        image = Image.open(io.BytesIO(data))
        if image.mode != "P" or image.palette is None:
            return None
        alpha = image.info.get("transparency")
        if isinstance(alpha, int):  # GIF, and PNG with one such colour
            alpha = b"\xff" * alpha + b"\0"
        flat = image.getpalette("RGB") or []
    colors = np.array(flat, np.uint8).reshape(-1, 3)
    if not alpha or not len(colors):
        return colors if len(colors) else None
    channel = np.frombuffer(alpha[: len(colors)].ljust(len(colors), b"\xff"), np.uint8)
    return np.hstack([colors, channel[:, None]])


def encode_true_color(frames: Sequence[Array], suffix: str, timing: Timing = STILL) -> bytes:
    """Encode pictures as one file without a palette.

    Args:
        frames: (H, W, 3) or (H, W, 4) uint8 each.
        suffix: .png, .webp or .tif.
        timing: of the frames.

    Returns:
        the content of the file.

    Examples:
        >>> import numpy as np
        >>> from colorquant_nn.image_files import encode_true_color
        >>> encode_true_color([np.zeros((4, 6, 3), np.uint8)], ".webp")[:4]
        b'RIFF'
    """
    return _save([Image.fromarray(pixels) for pixels in frames], suffix, timing, {})


def encode_indexed(
    frames: Sequence[Array], colors: Array, suffix: str, timing: Timing = STILL
) -> bytes:
    """Encode indexed pictures that share up to 256 colours, with the fewest bits per pixel.

    Args:
        frames: (H, W) uint8 each, the indices.
        colors: (K, 3) or (K, 4) uint8.
        suffix: .png, .gif, .webp or .tif.
        timing: of the frames.

    Returns:
        the content of the file.

    Examples:
        >>> import numpy as np
        >>> from colorquant_nn.image_files import encode_indexed
        >>> black_and_white = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
        >>> encode_indexed([np.eye(3, dtype=np.uint8)], black_and_white, ".gif")[:6]
        b'GIF89a'
    """
    if suffix == ".gif":
        return _encode_gif(frames, colors, timing)
    has_alpha = colors.shape[1] == 4 and bool((colors[:, 3] < 255).any())
    if suffix == ".webp" or (has_alpha and suffix != ".png"):
        # WebP finds the palette itself; a TIFF palette has no alpha.
        colors = colors if has_alpha else colors[:, :3]
        return encode_true_color([colors[indices] for indices in frames], suffix, timing)
    # Pillow takes the number of bits from the size of the palette.
    more = {}
    if has_alpha:
        more["transparency"] = colors[:, 3].tobytes().rstrip(b"\xff")
    return _save([_indexed(indices, colors) for indices in frames], suffix, timing, more)


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
    height, width = indices.shape
    image = Image.frombytes("P", (width, height), np.ascontiguousarray(indices).tobytes())
    image.putpalette(np.ascontiguousarray(colors[:, :3]).tobytes())
    return image


def _encode_gif(frames: Sequence[Array], colors: Array, timing: Timing) -> bytes:
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
