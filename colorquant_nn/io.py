"""Pictures in and out of files: `load_image`, `load_frames`, `save_image`, `save_frames`.

Reading ends in sRGB with 8 bits, whatever the file holds; writing never leaves half a file.
Tensors are channels-first, as everywhere; arrays are as in `image_files`.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn import image_files
from colorquant_nn.files import PathLike, check_suffix, read_file, write_atomically
from colorquant_nn.functional.points import check_count, check_tensor, check_values, with_alpha
from colorquant_nn.image_files import MAX_PIXELS, MAX_RESOLUTION
from colorquant_nn.names import Effort

if TYPE_CHECKING:
    from colorquant_nn.image import QuantizedImage

__all__ = [
    "FrameStream",
    "Frames",
    "encode_frames",
    "image_array",
    "load_frames",
    "load_image",
    "open_frames",
    "palette_array",
    "save_frames",
    "save_image",
]

Array = NDArray[np.uint8]


class Frames(NamedTuple):
    """What `load_frames` returns."""

    images: list[Tensor]
    """(3, H, W) or (4, H, W) uint8, all alike in channels; pages may differ in size."""
    durations: list[float]
    """Milliseconds each frame is shown; 0 where the file says nothing."""
    plays: int
    """How often the animation is shown, 0 for ever."""


class FrameStream:
    """The frames of an image file, one at a time: each iteration decodes them anew.

    It yields (3, H, W) or (4, H, W) uint8, each with the milliseconds that it is shown.

    Args:
        data: the content of the file.
        name: of the file, for messages.
        max_pixels: see `load_image`.

    Raises:
        ValueError: as `load_image`; also while it is iterated.
        TypeError: for a number of pixels that is not whole.
    """

    def __init__(self, data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> None:
        self._file = image_files.ImageFile(data, name, check_count(max_pixels, "max_pixels"))
        self.durations = self._file.durations
        self.plays = self._file.plays
        self.resolution = self._file.resolution

    def __len__(self) -> int:
        return len(self._file)

    def __iter__(self) -> Iterator[tuple[Tensor, float]]:
        for pixels, duration in zip(self._file, self.durations, strict=True):
            yield _to_tensor(pixels), duration


def open_frames(path: PathLike, *, max_pixels: int = MAX_PIXELS) -> FrameStream:
    """Open an animation or a document without loading its frames: they come one at a time.

    Args:
        path: a file; a still picture is one frame.
        max_pixels: see `load_image`.

    Returns:
        the frames, to be iterated as often as needed; with their number (`len`), ``durations``,
        ``plays`` and ``resolution``, as `save_frames` takes them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `load_image`.
        TypeError: for something else than a path.

    Examples:
        >>> import tempfile, torch
        >>> from colorquant_nn import apply_palette, fit_palette
        >>> from colorquant_nn import open_frames, save_frames, save_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_image(f"{folder}/in.png", torch.rand(3, 8, 8))
        ...     frames = open_frames(f"{folder}/in.png")
        ...     palette = fit_palette(frames, 4)
        ...     drawn = (apply_palette(image, palette) for image, _ in frames)
        ...     save_frames(f"{folder}/out.gif", drawn, frames.durations, frames.plays)
    """
    return FrameStream(read_file(path, "an image"), str(path), max_pixels)


def load_image(path: PathLike, *, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Load a picture as 8-bit sRGB.

    EXIF orientation is applied, an ICC profile is converted to sRGB. Greyscale, 1-bit, 16-bit,
    CMYK and indexed files become RGB. Of an animation, the first frame: a still that is not part
    of it is left out.

    Args:
        path: a PNG, JPEG, GIF, WebP, TIFF, BMP, AVIF, JPEG 2000, PNM, ICO, QOI, PCX or TGA file,
            whatever it is called.
        max_pixels: that a frame may have, 179 million unless said; all frames of a file together
            eight times as many. It keeps small files that unfold to gigabytes out.

    Returns:
        (3, H, W) uint8; (4, H, W) with straight alpha if any pixel is not opaque.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an image, is broken, or is too large to be trusted; or for a
            bound below 1.
        TypeError: for something else than a path and a whole number.

    Examples:
        >>> import tempfile, torch
        >>> from colorquant_nn import load_image, save_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_image(f"{folder}/grey.png", torch.full((3, 4, 6), 0.5))
        ...     load_image(f"{folder}/grey.png").shape
        torch.Size([3, 4, 6])
    """
    image, _ = next(iter(open_frames(path, max_pixels=max_pixels)))
    return image


def load_frames(path: PathLike, *, max_pixels: int = MAX_PIXELS) -> Frames:
    """Load all frames of an animation or pages of a document, each as `load_image` does.

    Args:
        path: a file; a still picture is one frame.
        max_pixels: see `load_image`.

    Returns:
        the frames with their timing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `load_image`.
        TypeError: for something else than a path.

    Examples:
        >>> import tempfile, torch
        >>> from colorquant_nn import load_frames, save_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_image(f"{folder}/still.png", torch.rand(3, 4, 6))
        ...     frames = load_frames(f"{folder}/still.png")
        >>> len(frames.images), frames.durations
        (1, [0.0])
    """
    frames = open_frames(path, max_pixels=max_pixels)
    images = [image for image, _ in frames]
    if len({len(image) for image in images}) > 1:
        images = [with_alpha(image.movedim(0, -1)).movedim(-1, 0) for image in images]
    return Frames(images, frames.durations, frames.plays)


def save_image(
    path: PathLike,
    image: Tensor | QuantizedImage,
    *,
    resolution: tuple[float, float] | None = None,
    effort: Effort = "balanced",
) -> None:
    """Save a picture without loss.

    A quantized image becomes an indexed file; with more than 256 colours a true-colour one. Index
    i of the file is colour i of the palette, whether it is used or not; only .webp, and .tif of a
    picture with alpha, have no palette. In a .gif the first colour that is more clear than not
    stands for all such colours. An existing file is replaced as a whole.

    Args:
        path: ends in .png, .gif (at most 256 colours; alpha is on or off), .webp, .tif or .bmp
            (no alpha).
        image: (3, H, W) or (4, H, W), sRGB in [0, 1] or uint8; or a `QuantizedImage`.
        resolution: dots per inch, across and down, for formats that hold it.
        effort: "fast", "balanced" or "best": how long a smaller .png is searched for.

    Raises:
        ValueError: the format or the effort is unknown, or the format cannot hold the picture.
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
    if not _is_quantized(image):
        check_tensor(image, "an image as a tensor (3, H, W) or (4, H, W), or a QuantizedImage")
    if isinstance(image, Tensor):
        suffix = check_suffix(path, image_files.FORMATS, "an image without loss")
        display = _display([0], 1, resolution)
        data = _encode(path, [image_array(image)], suffix, display, None, effort)
    else:
        data = encode_frames(path, [image], resolution=resolution, effort=effort)
    write_atomically({path: data})


def save_frames(
    path: PathLike,
    frames: Iterable[QuantizedImage],
    durations: Sequence[float] | None = None,
    plays: int = 1,
    *,
    resolution: tuple[float, float] | None = None,
    effort: Effort = "balanced",
) -> None:
    """Save quantized frames that share one palette as an animation or as pages.

    Times and plays that the format cannot hold become the nearest that it can, with a warning. A
    GIF counts hundredths of a second: other times are rounded so that their sum stays, and frames
    shorter than 20 ms, which browsers show for 100 ms, give their time to a neighbour.

    Args:
        path: as in `save_image`; in .tif the frames are pages.
        frames: quantized images of one size (pages may differ) and one palette; taken one at a
            time, so that a generator of them needs no memory.
        durations: milliseconds for each frame; a generator needs them, to say how many there are.
        plays: how often the animation is shown, 0 for ever.
        resolution: see `save_image`.
        effort: see `save_image`.

    Raises:
        ValueError: as `save_image`, or the palettes differ.
        TypeError: for something else than a path, quantized images and numbers.

    Examples:
        >>> import tempfile, torch
        >>> from colorquant_nn import apply_palette, load_frames, save_frames
        >>> black_and_white = torch.tensor([[0.0, 0, 0], [1, 1, 1]])
        >>> frames = [apply_palette(torch.rand(3, 8, 8), black_and_white) for _ in range(2)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_frames(f"{folder}/blink.gif", frames, [100, 50], plays=0)
        ...     load_frames(f"{folder}/blink.gif").durations
        [100.0, 50.0]
    """
    data = encode_frames(path, frames, durations, plays, resolution=resolution, effort=effort)
    write_atomically({path: data})


def encode_frames(
    path: PathLike,
    frames: Iterable[QuantizedImage],
    durations: Sequence[float] | None = None,
    plays: int = 1,
    *,
    resolution: tuple[float, float] | None = None,
    effort: Effort = "balanced",
) -> bytes:
    """Encode what `save_frames` writes.

    Args:
        path: as in `save_frames`; nothing is written to it.
        frames: as in `save_frames`.
        durations: as in `save_frames`.
        plays: as in `save_frames`.
        resolution: as in `save_frames`.
        effort: as in `save_frames`.

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
    if not isinstance(frames, Iterable):
        frames = [frames]
    if durations is None:
        frames = list(frames)
        durations = [0.0] * len(frames)
    display = _display(durations, plays, resolution)
    if not display.durations:
        raise ValueError("expected at least one frame, got none")
    stream = iter(frames)
    try:
        first = next(stream)
    except StopIteration:
        raise ValueError("expected at least one frame, got none") from None
    palette = _quantized(first).palette
    colors = palette_array(palette)
    indexed = len(colors) <= 256
    if suffix == ".gif" and not indexed:
        raise ValueError(
            f"{path}: a GIF holds at most 256 colours, got {len(colors)}; use .png, .webp or .tif"
        )

    def arrays() -> Iterator[Array]:
        for frame in map(_quantized, chain([first], stream)):
            same = frame.palette is palette
            if not same and not np.array_equal(palette_array(frame.palette), colors):
                raise ValueError("expected frames that share one palette, got different ones")
            indices = _index_array(frame.indices, len(colors))
            yield indices.astype(np.uint8) if indexed else image_array(frame.rgb)

    return _encode(path, arrays(), suffix, display, colors if indexed else None, effort)


def palette_array(palette: Tensor) -> Array:
    """Round a palette to 8 bits.

    Args:
        palette: (K, 3) or (K, 4), sRGB, float in [0, 1] or uint8.

    Returns:
        (K, C) uint8.

    Raises:
        ValueError: for another shape, no values, or one that leaves [0, 1].
        TypeError: for something else than a tensor, or a wrong dtype.

    Examples:
        >>> import torch
        >>> from colorquant_nn.io import palette_array
        >>> palette_array(torch.tensor([[0.0, 0.5, 1.0]])).tolist()
        [[0, 128, 255]]
    """
    check_tensor(palette, "a palette as a tensor (K, 3) or (K, 4)")
    check_values(palette, "a palette")
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
        ValueError: for another shape, no values, or one that leaves [0, 1].
        TypeError: for something else than a tensor, or a wrong dtype.

    Examples:
        >>> import torch
        >>> from colorquant_nn.io import image_array
        >>> image_array(torch.rand(3, 4, 6)).shape
        (4, 6, 3)
    """
    check_tensor(image, "an image as a tensor (3, H, W) or (4, H, W)")
    check_values(image, "an image")
    if image.ndim != 3 or image.shape[0] not in (3, 4) or 0 in image.shape:
        raise ValueError(
            f"expected an image of shape (3, H, W) or (4, H, W), got {tuple(image.shape)}"
        )
    return np.ascontiguousarray(_to_bytes(image, "image").transpose(1, 2, 0))


def _encode(
    path: PathLike,
    frames: Iterable[Array],
    suffix: str,
    display: image_files.Display,
    colors: Array | None,
    effort: Effort,
) -> bytes:
    """Errors and warnings name the file, but errors of the frames, which name theirs."""
    display, lost = image_files.fit_display(display, suffix)
    if lost:
        warnings.warn(f"{path}: {lost}", stacklevel=2)
    try:
        return image_files.encode(frames, suffix, display, colors=colors, effort=effort)
    except image_files.FormatError as error:
        raise ValueError(f"{path}: {error}") from error


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
    check_tensor(indices, "indices as a tensor (H, W)")
    check_values(indices, "indices")
    if indices.ndim != 2 or 0 in indices.shape:
        raise ValueError(f"expected indices of shape (H, W), got {tuple(indices.shape)}")
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise TypeError(f"expected indices as whole numbers, got {indices.dtype}")
    low, high = (x.item() for x in indices.aminmax())
    if not 0 <= low <= high < num_colors:
        raise ValueError(f"expected indices of 0 to {num_colors - 1}, got {low} to {high}")
    return indices.cpu().numpy()


def _is_quantized(image: object) -> bool:
    """Whether it has the parts of a `QuantizedImage`."""
    return all(hasattr(image, part) for part in ("rgb", "indices", "palette"))


def _quantized(frame: QuantizedImage | None) -> QuantizedImage:
    if frame is None or not _is_quantized(frame):
        raise TypeError(
            "expected quantized images, such as quantize_image returns, in a sequence, "
            f"got {type(frame).__name__}"
        )
    return frame


def _display(
    durations: Sequence[float], plays: int, resolution: tuple[float, float] | None
) -> image_files.Display:
    try:
        given = [float(0.0 + duration) for duration in durations]
        plays = operator.index(plays)
    except TypeError:
        raise TypeError(
            "expected durations in milliseconds and a whole number of plays, "
            f"got {durations!r} and {plays!r}"
        ) from None
    if wrong := [duration for duration in given if not 0 <= duration < math.inf]:
        raise ValueError(f"expected finite durations of at least 0 milliseconds, got {wrong[0]}")
    if plays < 0:
        raise ValueError(f"expected a number of plays of at least 0, got {plays}")
    if resolution is not None:
        try:
            across, down = (float(dots) for dots in resolution)
        except (TypeError, ValueError):
            raise TypeError(
                f"expected a resolution as dots per inch, across and down, got {resolution!r}"
            ) from None
        if not (0 < across <= MAX_RESOLUTION and 0 < down <= MAX_RESOLUTION):
            raise ValueError(
                f"expected a resolution above 0 and of at most {MAX_RESOLUTION} dots per inch, "
                f"got {across:g} and {down:g}"
            )
        resolution = across, down
    return image_files.Display(given, plays, resolution)
