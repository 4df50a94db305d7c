"""Pictures in and out of files: `load_image`, `load_frames`, `save_image`, `save_frames`.

Reading ends in sRGB with 8 bits, whatever the file holds; writing never leaves half a file.
Arrays in this module are (H, W, 3) or (H, W, 4) uint8, as Pillow has them; tensors are
channels-first, as everywhere.
"""

from __future__ import annotations

import io
import os
import secrets
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn import encoding

if TYPE_CHECKING:
    from PIL import Image

    from colorquant_nn.image import QuantizedImage

__all__ = ["Frames", "load_frames", "load_image", "save_frames", "save_image", "write_atomically"]

Array = NDArray[np.uint8]

# Formats whose further images are frames or pages; in others they are previews or layers.
FRAME_FORMATS = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")


class Frames(NamedTuple):
    """What `load_frames` returns."""

    images: list[Tensor]
    """(3, H, W) or (4, H, W) uint8, all alike in channels; pages may differ in size."""
    durations: list[int]
    """Milliseconds each frame is shown; 0 where the file says nothing."""
    loop: int | None
    """How often the animation repeats, 0 for ever; None if the file says nothing."""


def load_image(path: str | os.PathLike[str]) -> Tensor:
    """Load a picture as 8-bit sRGB.

    EXIF orientation is applied, an ICC profile is converted to sRGB. Greyscale, 1-bit, 16-bit,
    CMYK and indexed files become RGB. Of an animation, the first frame.

    Args:
        path: a file in any format that Pillow reads.

    Returns:
        (3, H, W) uint8; (4, H, W) with straight alpha if any pixel is not opaque.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an image, is broken, or is too large to be trusted.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_image(f"{folder}/grey.png", torch.full((3, 4, 6), 0.5))
    ...     load_image(f"{folder}/grey.png").shape
    torch.Size([3, 4, 6])
    """
    pixels, _, _ = decode(_read_file(path), str(path), first_only=True)
    return _to_tensor(pixels[0])


def load_frames(path: str | os.PathLike[str]) -> Frames:
    """Load all frames of an animation or pages of a document, each as `load_image` does.

    Args:
        path: a file; a still picture is one frame.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `load_image`.
    """
    arrays, durations, loop = decode(_read_file(path), str(path))
    if len({array.shape[2] for array in arrays}) > 1:
        arrays = [
            array if array.shape[2] == 4 else np.pad(array, _ONE_MORE_CHANNEL, constant_values=255)
            for array in arrays
        ]
    return Frames([_to_tensor(array) for array in arrays], durations, loop)


def save_image(path: str | os.PathLike[str], image: Tensor | QuantizedImage) -> None:
    """Save a picture without loss.

    A quantized image becomes an indexed file with the fewest bits per pixel; with more than 256
    colours a true-colour one. An existing file is replaced as a whole.

    Args:
        path: ends in .png, .gif (at most 256 colours; alpha is on or off), .webp or .tif.
        image: (3, H, W) or (4, H, W), sRGB in [0, 1] or uint8; or a `QuantizedImage`.

    Raises:
        ValueError: the format is unknown or cannot hold the picture.
    """
    if not isinstance(image, Tensor):
        save_frames(path, [image])
        return
    _check_suffix(path)
    if _suffix(path) == ".gif":
        raise ValueError(f"{path}: a GIF holds an indexed image; quantize the picture first")
    write_atomically(path, encoding.encode_true_color(image_array(image), _suffix(path)))


def save_frames(
    path: str | os.PathLike[str],
    frames: Sequence[QuantizedImage],
    durations: Sequence[int] | None = None,
    loop: int | None = None,
) -> None:
    """Save quantized frames that share one palette as an animation or as pages.

    Args:
        path: as in `save_image`; in .tif the frames are pages.
        frames: quantized images of one size (pages may differ) and one palette.
        durations: milliseconds for each frame; kept to 10 ms in .gif.
        loop: how often to repeat, 0 for ever; None to play once.

    Raises:
        ValueError: as `save_image`, or the palettes differ.
    """
    _check_suffix(path)
    suffix = _suffix(path)
    colors = palette_array(frames[0].palette)
    if any(not torch.equal(frame.palette, frames[0].palette) for frame in frames):
        raise ValueError("expected frames that share one palette, got different ones")
    if suffix not in (".tif", ".tiff") and len({frame.indices.shape for frame in frames}) > 1:
        raise ValueError(f"{path}: expected frames of one size, got several; use .tif for pages")
    timing = encoding.Timing(list(durations or [0] * len(frames)), loop)
    if len(colors) > 256 and suffix == ".gif":
        raise ValueError(f"{path}: a GIF holds at most 256 colours, got {len(colors)}")
    if len(colors) > 256:
        arrays = [image_array(frame.rgb) for frame in frames]
        data = encoding.encode_true_color_frames(arrays, suffix, timing)
    else:
        indices = [frame.indices.cpu().numpy().astype(np.uint8) for frame in frames]
        data = encoding.encode_indexed_frames(indices, colors, suffix, timing)
    write_atomically(path, data)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file beside its target, then rename: the target is whole or as it was.

    Raises:
        ValueError: the target is not a regular file, or its folder does not exist.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        raise ValueError(f"{path}: expected a file to write to, got a folder or a device")
    if not target.parent.is_dir():
        raise ValueError(f"{path}: the folder {target.parent} does not exist")
    partial = target.with_name(f".{secrets.token_hex(8)}.partial")  # short: names have a limit
    try:
        with open(partial, "xb") as file:
            file.write(data)
        os.replace(partial, target)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        partial.unlink(missing_ok=True)


def palette_array(palette: Tensor) -> Array:
    """Colours of a palette in 8 bits, (K, C).

    Raises:
        ValueError: it is not (K, 3) or (K, 4) with K at least 1, or leaves [0, 1].
    """
    if palette.ndim != 2 or palette.shape[1] not in (3, 4) or len(palette) == 0:
        raise ValueError(
            f"expected a palette of shape (K, 3) or (K, 4), got {tuple(palette.shape)}"
        )
    return _to_bytes(palette, "palette")


def image_array(image: Tensor) -> Array:
    """A picture in 8 bits, (H, W, C).

    Raises:
        ValueError: it is not (3, H, W) or (4, H, W), or leaves [0, 1].
    """
    if image.ndim != 3 or image.shape[0] not in (3, 4) or 0 in image.shape:
        raise ValueError(
            f"expected an image of shape (3, H, W) or (4, H, W), got {tuple(image.shape)}"
        )
    return np.ascontiguousarray(_to_bytes(image, "image").transpose(1, 2, 0))


def decode(
    data: bytes, name: str, first_only: bool = False
) -> tuple[list[Array], list[int], int | None]:
    """Frames, durations and loop of an image file in memory; ``name`` is what errors blame."""
    from PIL import ImageSequence

    with _reading(name):
        image = _open(data)
        frames, durations = [], []
        for frame in ImageSequence.Iterator(image):
            frames.append(_to_srgb(frame, name))
            durations.append(round(frame.info.get("duration", 0) or 0))
            if first_only or image.format not in FRAME_FORMATS:
                break
        loop = image.info.get("loop")
    return frames, durations, loop


def own_palette(data: bytes, name: str) -> Array | None:
    """The palette that an indexed image file stores; None for other images."""
    with _reading(name):
        image = _open(data)
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


_ONE_MORE_CHANNEL = ((0, 0), (0, 0), (0, 1))


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turns whatever Pillow raises on a bad file into a `ValueError` that names it."""
    from PIL import Image, UnidentifiedImageError

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


def _open(data: bytes) -> Image.Image:
    from PIL import Image

    return Image.open(io.BytesIO(data))


def _read_file(path: str | os.PathLike[str]) -> bytes:
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file")
    if os.path.isdir(path):
        raise ValueError(f"{path}: expected an image, got a folder")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise ValueError(f"{path}: the file is empty")
    return data


def _to_srgb(image: Image.Image, name: str) -> Array:
    """Decode one frame to upright 8-bit sRGB; alpha only if it is used."""
    from PIL import ImageOps

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
    from PIL import Image

    values = np.asarray(image).astype(np.float64)
    top = 1.0 if image.mode == "F" else 65535.0
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= top):
        raise _Refused(
            f"{name}: expected values from 0 to {top:g} in an image of mode {image.mode}, "
            f"got {values.min():g} to {values.max():g}"
        )
    return Image.fromarray(np.round(values * (255 / top)).astype(np.uint8))


def _apply_profile(image: Image.Image, profile: bytes, name: str) -> Image.Image:
    from PIL import ImageCms

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


def _to_tensor(pixels: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _to_bytes(values: Tensor, what: str) -> Array:
    values = values.detach().cpu()
    if values.dtype == torch.uint8:
        return values.numpy()
    if not values.is_floating_point():
        raise ValueError(f"expected the {what} in floating point or uint8, got {values.dtype}")
    low, high = (x.item() for x in values.float().aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"expected the {what} in [0, 1], got {low:g} to {high:g}")
    return (values.float() * 255).round().to(torch.uint8).numpy()


def _suffix(path: str | os.PathLike[str]) -> str:
    return Path(path).suffix.lower()


def _check_suffix(path: str | os.PathLike[str]) -> None:
    if _suffix(path) not in encoding.FORMATS:
        raise ValueError(
            f"{path}: expected a name that ends in {', '.join(encoding.FORMATS)} "
            f"(formats without loss), got {_suffix(path)!r}"
        )
