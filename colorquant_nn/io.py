"""Pictures in and out of files: `load_image`, `load_frames`, `save_image`, `save_frames`.

Reading ends in sRGB with 8 bits, whatever the file holds; writing never leaves half a file.
Tensors are channels-first, as everywhere; arrays are as in `image_files`.
"""

from __future__ import annotations

import operator
import os
import secrets
import stat
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn import image_files

if TYPE_CHECKING:
    from colorquant_nn.image import QuantizedImage

__all__ = [
    "Frames",
    "check_suffix",
    "encode_frames",
    "image_array",
    "load_frames",
    "load_image",
    "palette_array",
    "read_file",
    "save_frames",
    "save_image",
    "write_atomically",
]

Array = NDArray[np.uint8]
PathLike = str | os.PathLike[str]
AnyPath = TypeVar("AnyPath", bound=PathLike)

MOST_LOOPS = 65535  # 16 bits in a GIF


class Frames(NamedTuple):
    """What `load_frames` returns."""

    images: list[Tensor]
    """(3, H, W) or (4, H, W) uint8, all alike in channels; pages may differ in size."""
    durations: list[int]
    """Milliseconds each frame is shown; 0 where the file says nothing."""
    loop: int | None
    """How often the animation repeats, 0 for ever; None if the file says nothing."""


def load_image(path: PathLike) -> Tensor:
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
        TypeError: for something else than a path.

    Examples:
        >>> import tempfile, torch
        >>> from colorquant_nn import load_image, save_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_image(f"{folder}/grey.png", torch.full((3, 4, 6), 0.5))
        ...     load_image(f"{folder}/grey.png").shape
        torch.Size([3, 4, 6])
    """
    pixels, _ = image_files.decode(read_file(path, "an image"), str(path), first_only=True)
    return _to_tensor(pixels[0])


def load_frames(path: PathLike) -> Frames:
    """Load all frames of an animation or pages of a document, each as `load_image` does.

    Args:
        path: a file; a still picture is one frame.

    Returns:
        the frames with their timing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `load_image`.
        TypeError: for something else than a path.

    Examples:
        >>> import tempfile, torch
        >>> from colorquant_nn import save_image
        >>> from colorquant_nn.io import load_frames
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_image(f"{folder}/still.png", torch.rand(3, 4, 6))
        ...     frames = load_frames(f"{folder}/still.png")
        >>> len(frames.images), frames.durations
        (1, [0])
    """
    arrays, timing = image_files.decode(read_file(path, "an image"), str(path))
    if len({array.shape[2] for array in arrays}) > 1:
        arrays = [
            array if array.shape[2] == 4 else np.pad(array, _ONE_MORE_CHANNEL, constant_values=255)
            for array in arrays
        ]
    return Frames([_to_tensor(array) for array in arrays], *timing)


def save_image(path: PathLike, image: Tensor | QuantizedImage) -> None:
    """Save a picture without loss.

    A quantized image becomes an indexed file with the fewest bits per pixel; with more than 256
    colours a true-colour one. An existing file is replaced as a whole.

    Args:
        path: ends in .png, .gif (at most 256 colours; alpha is on or off), .webp or .tif.
        image: (3, H, W) or (4, H, W), sRGB in [0, 1] or uint8; or a `QuantizedImage`.

    Raises:
        ValueError: the format is unknown or cannot hold the picture.
        TypeError: for something else than a path and a picture, or a wrong dtype.

    Examples:
        >>> import tempfile, torch
        >>> from colorquant_nn import load_image, quantize_image, save_image
        >>> result = quantize_image(torch.rand(3, 32, 32), 8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_image(f"{folder}/small.gif", result)
        ...     len(load_image(f"{folder}/small.gif").flatten(1).unique(dim=1).T)
        8
    """
    if isinstance(image, Tensor):
        suffix = check_suffix(path, image_files.FORMATS, "an image without loss")
        if suffix == ".gif":
            raise ValueError(f"{path}: a GIF holds an indexed image; quantize the picture first")
        data = image_files.encode_true_color([image_array(image)], suffix)
    elif _is_quantized(image):
        data = encode_frames(path, [image])
    else:
        raise TypeError(
            "expected an image as a tensor (3, H, W) or (4, H, W), or a QuantizedImage, "
            f"got {type(image).__name__}"
        )
    write_atomically({path: data})


def save_frames(
    path: PathLike,
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
        TypeError: for something else than a path, quantized images and whole numbers.

    Examples:
        >>> import tempfile, torch
        >>> from colorquant_nn import apply_palette
        >>> from colorquant_nn.io import load_frames, save_frames
        >>> black_and_white = torch.tensor([[0.0, 0, 0], [1, 1, 1]])
        >>> frames = [apply_palette(torch.rand(3, 8, 8), black_and_white) for _ in range(2)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_frames(f"{folder}/blink.gif", frames, [100, 50], loop=0)
        ...     load_frames(f"{folder}/blink.gif").durations
        [100, 50]
    """
    write_atomically({path: encode_frames(path, frames, durations, loop)})


def encode_frames(
    path: PathLike,
    frames: Sequence[QuantizedImage],
    durations: Sequence[int] | None = None,
    loop: int | None = None,
) -> bytes:
    """Encode what `save_frames` writes.

    Args:
        path: as in `save_frames`; nothing is written to it.
        frames: as in `save_frames`.
        durations: as in `save_frames`.
        loop: as in `save_frames`.

    Returns:
        the content of the file.

    Raises:
        ValueError: as `save_frames`.
        TypeError: as `save_frames`.

    Examples:
        >>> import torch
        >>> from colorquant_nn import quantize_image
        >>> from colorquant_nn.io import encode_frames
        >>> encode_frames("small.gif", [quantize_image(torch.rand(3, 8, 8), 4)])[:6]
        b'GIF89a'
    """
    suffix = check_suffix(path, image_files.FORMATS, "an image without loss")
    for frame in frames if isinstance(frames, Sequence) else [frames]:
        if not _is_quantized(frame):
            raise TypeError(
                "expected quantized images, such as quantize_image returns, in a sequence, "
                f"got {type(frame).__name__}"
            )
    if not frames:
        raise ValueError("expected at least one frame, got none")
    timing = _timing(durations, loop, len(frames))
    colors = palette_array(frames[0].palette)
    indices = [_index_array(frame.indices, len(colors)) for frame in frames]
    if any(not torch.equal(frame.palette, frames[0].palette) for frame in frames):
        raise ValueError("expected frames that share one palette, got different ones")
    if suffix not in (".tif", ".tiff") and len({frame.shape for frame in indices}) > 1:
        raise ValueError(f"{path}: expected frames of one size, got several; use .tif for pages")
    if len(colors) <= 256:
        return image_files.encode_indexed(
            [frame.astype(np.uint8) for frame in indices], colors, suffix, timing
        )
    if suffix == ".gif":
        raise ValueError(f"{path}: a GIF holds at most 256 colours, got {len(colors)}")
    return image_files.encode_true_color(
        [image_array(frame.rgb) for frame in frames], suffix, timing
    )


def write_atomically(files: Mapping[AnyPath, bytes]) -> None:
    """Write files beside their targets, then rename: all are whole, or as they were.

    Args:
        files: path to content.

    Raises:
        ValueError: a target is not a regular file, its folder does not exist, or the disk fails.
        TypeError: for something else than paths.

    Examples:
        >>> import os, tempfile
        >>> from colorquant_nn.io import write_atomically
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomically({f"{folder}/a.txt": b"a", f"{folder}/b.txt": b"b"})
        ...     sorted(os.listdir(folder))
        ['a.txt', 'b.txt']
    """
    moves: dict[AnyPath, tuple[Path, Path]] = {}
    try:
        for path, data in files.items():
            target = Path(os.path.realpath(_to_path(path)))  # a link stays a link
            if target.exists() and not stat.S_ISREG(target.stat().st_mode):
                raise ValueError(f"{path}: expected a file to write to, got a folder or a device")
            if not target.parent.is_dir():
                raise ValueError(f"{path}: the folder {target.parent} does not exist")
            # A short name: names have a limit.
            moves[path] = target.with_name(f".{secrets.token_hex(8)}.partial"), target
            with open(moves[path][0], "xb") as file:
                file.write(data)
        for path in files:
            os.replace(*moves[path])
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        for partial, _ in moves.values():
            partial.unlink(missing_ok=True)


def read_file(path: PathLike, what: str) -> bytes:
    """Read a file that is not empty.

    Args:
        path: a file.
        what: is expected in it, for the message.

    Returns:
        its content.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or is empty.
        TypeError: for something else than a path.
    """
    file = _to_path(path)
    if not file.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if file.is_dir():
        raise ValueError(f"{path}: expected {what}, got a folder")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise ValueError(f"{path}: the file is empty")
    return data


def check_suffix(path: PathLike, formats: Collection[str], what: str) -> str:
    """Check that a path ends in a suffix of those given.

    Args:
        path: of a file to write.
        formats: suffixes with their dots.
        what: is written in these formats, for the message.

    Returns:
        the suffix in small letters.

    Raises:
        ValueError: it is another.
        TypeError: for something else than a path.

    Examples:
        >>> from colorquant_nn.io import check_suffix
        >>> check_suffix("photo.PNG", [".png", ".gif"], "an image")
        '.png'
    """
    suffix = _to_path(path).suffix.lower()
    if suffix not in formats:
        raise ValueError(
            f"{path}: expected a name that ends in {', '.join(formats)} for {what}, got {suffix!r}"
        )
    return suffix


def palette_array(palette: Tensor) -> Array:
    """Round a palette to 8 bits.

    Args:
        palette: (K, 3) or (K, 4), sRGB, float in [0, 1] or uint8.

    Returns:
        (K, C) uint8.

    Raises:
        ValueError: for another shape, or a value that leaves [0, 1].
        TypeError: for something else than a tensor, or a wrong dtype.

    Examples:
        >>> import torch
        >>> from colorquant_nn.io import palette_array
        >>> palette_array(torch.tensor([[0.0, 0.5, 1.0]])).tolist()
        [[0, 128, 255]]
    """
    _check_tensor(palette, "a palette as a tensor (K, 3) or (K, 4)")
    if palette.ndim != 2 or palette.shape[1] not in (3, 4) or len(palette) == 0:
        raise ValueError(
            f"expected a palette of shape (K, 3) or (K, 4), got {tuple(palette.shape)}"
        )
    return _to_bytes(palette, "palette")


def image_array(image: Tensor) -> Array:
    """Round a picture to 8 bits, as Pillow has it.

    Args:
        image: (3, H, W) or (4, H, W), sRGB, float in [0, 1] or uint8.

    Returns:
        (H, W, C) uint8.

    Raises:
        ValueError: for another shape, or a value that leaves [0, 1].
        TypeError: for something else than a tensor, or a wrong dtype.

    Examples:
        >>> import torch
        >>> from colorquant_nn.io import image_array
        >>> image_array(torch.rand(3, 4, 6)).shape
        (4, 6, 3)
    """
    _check_tensor(image, "an image as a tensor (3, H, W) or (4, H, W)")
    if image.ndim != 3 or image.shape[0] not in (3, 4) or 0 in image.shape:
        raise ValueError(
            f"expected an image of shape (3, H, W) or (4, H, W), got {tuple(image.shape)}"
        )
    return np.ascontiguousarray(_to_bytes(image, "image").transpose(1, 2, 0))


_ONE_MORE_CHANNEL = ((0, 0), (0, 0), (0, 1))


def _to_tensor(pixels: Array) -> Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())  # Pillow's arrays are read-only


def _to_bytes(values: Tensor, what: str) -> Array:
    values = values.detach().cpu()
    if values.dtype == torch.uint8:
        return values.numpy()
    if not values.is_floating_point():
        raise TypeError(f"expected the {what} in floating point or uint8, got {values.dtype}")
    low, high = (x.item() for x in values.float().aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"expected the {what} in [0, 1], got {low:g} to {high:g}")
    return (values.float() * 255).round().to(torch.uint8).numpy()


def _index_array(indices: Tensor, num_colors: int) -> NDArray[np.int64]:
    """The indices (H, W) of an image in a palette of K colours."""
    _check_tensor(indices, "indices as a tensor (H, W)")
    if indices.ndim != 2 or 0 in indices.shape:
        raise ValueError(f"expected indices of shape (H, W), got {tuple(indices.shape)}")
    low, high = (x.item() for x in indices.aminmax())
    if not 0 <= low <= high < num_colors:
        raise ValueError(f"expected indices of 0 to {num_colors - 1}, got {low} to {high}")
    return indices.cpu().numpy()


def _is_quantized(image: object) -> bool:
    """Whether it has the parts of a `QuantizedImage`."""
    return all(hasattr(image, part) for part in ("rgb", "indices", "palette"))


def _timing(durations: Sequence[int] | None, loop: int | None, count: int) -> image_files.Timing:
    try:
        given = [0] * count if durations is None else [operator.index(one) for one in durations]
        loop = None if loop is None else operator.index(loop)
    except TypeError:
        raise TypeError(
            "expected durations in whole milliseconds and a loop that is a whole number, "
            f"got {durations!r} and {loop!r}"
        ) from None
    if len(given) != count:
        raise ValueError(f"expected a duration for each of {count} frames, got {len(given)}")
    if min(given) < 0:
        raise ValueError(f"expected durations of at least 0 milliseconds, got {min(given)}")
    if loop is not None and not 0 <= loop <= MOST_LOOPS:
        raise ValueError(f"expected a loop from 0 to {MOST_LOOPS}, got {loop}")
    return image_files.Timing(given, loop)


def _to_path(path: PathLike) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"expected a path as text or os.PathLike, got {type(path).__name__}")
    return Path(path)


def _check_tensor(value: object, expected: str) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"expected {expected}, got {type(value).__name__}")
