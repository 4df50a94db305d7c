"""Images, palettes, weights and counts as the core wants them: checked, once, and as points.

The doors (layers, functions for pictures, histograms) call these checks; what lies behind them
trusts its arguments. Views copy nothing.

Letters: B images, N = H W pixels, K colours, C channels (3, or 4 with alpha).
"""

import operator
import warnings
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from typing import Any, TypeGuard

import torch
from torch import Tensor

from colorquant_nn.functional.color import color_space, to_working_space
from colorquant_nn.functional.gradients import clamp_through
from colorquant_nn.kernels import finite, sanitize
from colorquant_nn.names import Space

__all__ = [
    "check_count",
    "check_images",
    "check_palette",
    "check_weights",
    "iterate_images",
    "iterate_weighted",
    "to_image",
    "to_index_map",
    "to_pixels",
    "to_points",
    "warn_of_pictures",
    "warn_of_range",
    "with_alpha",
]


OUTSIDE = 1e-4  # of the cube: more than conversions round, less than a level of 8 bits
LOOKED_AT = 1 << 16  # values that tell of which range the others are


def check_tensor(value: object, expected: str) -> None:
    """Raise a TypeError that says what came, and how to make a tensor of it, unless it is one."""
    if isinstance(value, Tensor):
        return
    kind, remedy = type(value), ""
    library = kind.__module__.partition(".")[0]
    if library == "numpy":
        remedy = (
            "; torch.from_numpy(array) makes a tensor of it, and of a picture (H, W, C) one with "
            "channels first: torch.from_numpy(array).movedim(-1, -3)"
        )
    elif library == "PIL":
        remedy = (
            "; torch.from_numpy(numpy.array(image)).movedim(-1, -3) makes a tensor of it, in mode "
            "RGB or RGBA, and load_image(path) reads one from a file"
        )
    elif isinstance(value, (str, PathLike)):
        remedy = "; load_image(path) reads a picture as a tensor, load_palette(path) a palette"
    elif isinstance(value, Mapping):
        remedy = '; give the images in it alone, such as batch["image"]'
    raise TypeError(f"expected {expected}, got {kind.__name__}{remedy}")


def check_values(tensor: Tensor, what: str) -> None:
    """Raise a ValueError unless a tensor has values to read: dense, and not on the meta device."""
    if tensor.layout != torch.strided:
        raise ValueError(f"expected {what} as a dense tensor, got {tensor.layout}; use .to_dense()")
    if tensor.is_meta:
        raise ValueError(f"expected {what} with values, got a tensor on the meta device")


def check_images(
    images: Tensor, alpha: bool = True, batch: bool = True, of_bytes: bool = True
) -> None:
    """Raise unless images are (C, H, W) or (B, C, H, W), floating point or uint8.

    Args:
        images: what came.
        alpha: whether C may be 4.
        batch: whether there may be a B.
        of_bytes: whether they may be uint8.

    Raises:
        TypeError: for something else than a tensor, or a wrong dtype.
        ValueError: for another shape.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.points import check_images
        >>> check_images(torch.rand(8, 3, 4, 4))
    """
    if not isinstance(images, Tensor):
        check_tensor(images, f"a tensor {_shapes(alpha, batch)}")
    if (
        not (images.dim() == 3 or (batch and images.dim() == 4))
        or images.shape[-3] not in (3, 4)[: 1 + alpha]
    ):
        raise ValueError(
            f"expected {'images' if batch else 'one image'} {_shapes(alpha, batch)}, channels "
            f"first, got {tuple(images.shape)}{_remedy(images.shape, alpha)}"
        )
    if of_bytes:  # which layers do not take; they trace shapes, too
        check_values(images, "images")
    if images.is_floating_point() or (of_bytes and images.dtype == torch.uint8):
        return
    if of_bytes:
        raise TypeError(f"expected images of uint8 or floating point, got {images.dtype}")
    raise TypeError(
        f"expected floating point images in [0, 1], got {images.dtype}; "
        "divide uint8 images by 255 (x.float() / 255)"
    )


def _remedy(shape: torch.Size, alpha: bool) -> str:
    """What to do about images of another shape than expected, if it is known."""
    channels = [axis for axis in (-3, -1) if len(shape) >= -axis and shape[axis] in (3, 4)]
    if len(shape) < 2:
        return "; of (images, labels), give the images alone"
    if len(shape) == 5 and -3 in channels:
        return "; images.flatten(0, 1) makes images of a video (B, T, C, H, W)"
    if len(shape) == 2 or (len(shape) in (3, 4) and shape[-3] == 1):
        axes = ", ".join(["-1"] * (len(shape) - 3) + ["3", "-1", "-1"])
        return f"; images.expand({axes}) makes colours of greys"
    if channels == [-1] and len(shape) in (3, 4):
        return "; images.movedim(-1, -3) puts the channels first"
    if shape[-3] == 4 and not alpha and len(shape) in (3, 4):
        return "; images[..., :3, :, :] leaves alpha out"
    return ""


def _shapes(alpha: bool, batch: bool) -> str:
    leads, channels = ("", "B, ")[: 1 + batch], (3, 4)[: 1 + alpha]
    return " or ".join(f"({lead}{count}, H, W)" for lead in leads for count in channels)


def check_image(image: Tensor) -> None:
    """Raise unless an image is (C, H, W), floating point or uint8; see `check_images`."""
    check_images(image, batch=False)


def check_pictures(image: Tensor, other: Tensor) -> None:
    """Raise unless two pictures of any number of axes have one shape and are float or uint8."""
    for picture in (image, other):
        check_tensor(picture, "an image as a tensor (..., 3, H, W)")
        if picture.dtype != torch.uint8 and not picture.is_floating_point():
            raise TypeError(f"expected images of uint8 or floating point, got {picture.dtype}")
    if image.shape != other.shape:
        raise ValueError(
            f"expected images of one shape, got {tuple(image.shape)} and {tuple(other.shape)}"
        )


def iterate_images(images: Tensor | Iterable[Any]) -> Iterator[Tensor]:
    """The images of whatever holds some, each checked by `check_images`.

    Args:
        images: a tensor, or an iterable of tensors, or of tuples or lists whose first item is one,
            as a DataLoader gives them.

    Returns:
        (C, H, W) or (B, C, H, W) each.

    Raises:
        TypeError: for something else, a file's name and a dictionary included.
        ValueError: for another shape.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.points import iterate_images
        >>> batches = [(torch.rand(8, 3, 4, 4), torch.arange(8)), torch.rand(3, 4, 4)]
        >>> [tuple(images.shape) for images in iterate_images(batches)]
        [(8, 3, 4, 4), (3, 4, 4)]
    """
    batches: Iterable[Any] = images if _is_collection(images) else [images]
    for batch in batches:
        image = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
        check_images(image)
        yield image


def iterate_weighted(
    images: Tensor | Iterable[Any], weights: Tensor | Iterable[Any] | None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The images of whatever holds some, see `iterate_images`, each with its weights, checked.

    Args:
        images: a tensor, or an iterable of images.
        weights: as many as images, of their sizes, see `check_weights`; None where all are 1.

    Returns:
        (C, H, W) or (B, C, H, W), and (B, N) float32 or None, each.

    Raises:
        TypeError: for something else.
        ValueError: for another shape, or another number of weights than of images.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.points import iterate_weighted
        >>> images, masks = torch.rand(2, 3, 4, 4), torch.ones(2, 4, 4, dtype=torch.bool)
        >>> [votes.shape for _, votes in iterate_weighted(list(images), masks)]
        [torch.Size([1, 16]), torch.Size([1, 16])]
    """
    if weights is None:
        yield from ((image, None) for image in iterate_images(images))
        return
    given: Any = weights
    if not _is_collection(images):
        images, given = [images], [weights]
    elif not _is_collection(weights) and not isinstance(weights, Tensor):
        raise TypeError(
            "expected an iterable of weights, one tensor for each image, got "
            f"{type(weights).__name__}"
        )
    sizes = operator.length_hint(given), operator.length_hint(images)  # 0 where it is not known
    if all(sizes) and sizes[0] != sizes[1]:
        raise ValueError(
            f"expected weights for each image, got {sizes[0]} weights for {sizes[1]} images"
        )
    rest, number = iter(given), 0
    for number, image in enumerate(iterate_images(images), 1):
        its = next(rest, rest)
        if its is rest:
            raise ValueError(
                f"expected weights for each image, got {number - 1} weights for at least {number} "
                "images"
            )
        yield image, None if its is None else check_weights(its, image)
    if next(rest, rest) is not rest:
        raise ValueError(
            f"expected weights for each image, got at least {number + 1} weights for {number} "
            "images"
        )


def _is_collection(images: object) -> TypeGuard[Iterable[Any]]:
    """Whether what an iterable gives may be images: letters, keys and rows of an array are none."""
    if isinstance(images, (str, bytes, Mapping)) or hasattr(images, "__array__"):  # Tensors too
        return False
    return isinstance(images, Iterable) or hasattr(images, "__getitem__")


def check_weights(weights: Tensor, images: Tensor, wait: bool = True) -> Tensor:
    """Check that weights are of the images' size and at least 0; make them float32.

    Args:
        weights: (H, W) or (B, H, W); of bool, a mask, they count as 0 and 1.
        images: (C, H, W) or (B, C, H, W).
        wait: look at them even where that waits for a device; otherwise those there that are
            negative or not finite become 0.

    Returns:
        (B, N) float32.

    Raises:
        TypeError: for something else than a tensor.
        ValueError: for another shape, or weights that are negative or not finite.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.points import check_weights
        >>> check_weights(torch.ones(2, 2), torch.rand(3, 2, 2))
        tensor([[1., 1., 1., 1.]])
    """
    shape = images.shape[:-3] + images.shape[-2:]
    check_tensor(weights, f"weights as a tensor {tuple(shape)}")
    if weights.shape != shape:
        raise ValueError(
            f"expected weights of the image's size {tuple(shape)}, got {tuple(weights.shape)}"
        )
    if weights.layout != torch.strided:
        check_values(weights, "weights")
    weights = weights.detach().reshape(-1, shape[-2] * shape[-1]).to(torch.float32)
    if not (wait or is_at_hand(weights)):
        return weights.nan_to_num(0, 0, 0).clamp_min(0)
    check_votes(weights)
    return weights


def is_at_hand(tensor: Tensor) -> bool:
    """Whether to look at the values of a tensor is neither to wait nor to break a graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def check_votes(weights: Tensor) -> None:
    """Raise unless weights are finite and at least 0."""
    low, high = weights.aminmax() if weights.numel() > 0 else (0, 0)  # NaN if there is one
    if not (low >= 0 and high < torch.inf):
        raise ValueError("expected weights that are finite and at least 0")


def check_palette(palette: Tensor, alpha: bool = False, what: str = "a palette") -> Tensor:
    """Check that colours are (K, 3), K at least 1, in [0, 1] or uint8; make them float32.

    Args:
        palette: what came.
        alpha: whether it may be (K, 4).
        what: to call it.

    Returns:
        (K, 3) or (K, 4) float32 in [0, 1].

    Raises:
        TypeError: for something else than a tensor, or a wrong dtype.
        ValueError: for another shape or range.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.points import check_palette
        >>> check_palette(torch.tensor([[0, 51, 255]], dtype=torch.uint8))
        tensor([[0.0000, 0.2000, 1.0000]])
    """
    shapes = "(K, 3) or (K, 4)" if alpha else "(K, 3)"
    check_tensor(palette, f"{what} as a tensor {shapes}")
    if palette.dim() != 2 or palette.shape[1] not in (3, 4)[: 1 + alpha] or len(palette) == 0:
        raise ValueError(f"expected {what} {shapes}, got {tuple(palette.shape)}")
    check_values(palette, what)
    palette = palette.detach()
    if palette.dtype == torch.uint8:
        return palette.to(torch.float32) / 255
    if not palette.is_floating_point():
        raise TypeError(f"expected {what} of uint8 or floating point, got {palette.dtype}")
    if not bool(((palette >= 0) & (palette <= 1)).all()):
        low, high = palette.min().item(), palette.max().item()
        raise ValueError(f"expected {what} in [0, 1], got from {low:g} to {high:g}")
    return palette.to(torch.float32)


def check_indices(indices: Tensor, num_colors: int) -> Tensor:
    """Check that indices are whole numbers below K, the latter where that needs no waiting.

    Args:
        indices: what came, of any shape.
        num_colors: K.

    Returns:
        The same as int64.

    Raises:
        TypeError: for something else than a tensor of whole numbers.
        IndexError: for an index that is not from 0 to K - 1.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.points import check_indices
        >>> check_indices(torch.tensor([[0, 3]], dtype=torch.uint8), 4)
        tensor([[0, 3]])
    """
    check_tensor(indices, "indices as a tensor (B, H, W) of whole numbers")
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise TypeError(f"expected indices of whole numbers, got {indices.dtype}")
    indices = indices.to(torch.int64)
    check_rows(indices, num_colors)
    return indices


def check_rows(indices: Tensor, num_colors: int) -> None:
    """Raise an IndexError for an index that is not from 0 to K - 1, where to look is no waiting."""
    if is_at_hand(indices) and indices.numel() > 0:
        low, high = (int(end) for end in indices.aminmax())
        if low < 0 or high >= num_colors:
            raise IndexError(
                f"expected indices from 0 to {num_colors - 1}, got from {low} to {high}"
            )


def check_kept(keep: Tensor | None, num_colors: int) -> Tensor | None:
    """Check the colours to keep, (J, 3) or (J, 4), J at most K; each once, on the CPU."""
    if keep is None or (isinstance(keep, Tensor) and keep.numel() == 0):
        return None
    kept = check_palette(keep, alpha=True, what="colours to keep").cpu().unique(dim=0)
    if len(kept) > num_colors:
        raise ValueError(f"expected at most {num_colors} colours to keep, got {len(kept)}")
    return kept


def warn_of_range(points: Tensor, remedy: str) -> None:
    """Warn if more than one finite value in a hundred is no colour; it waits for the device.

    Of many points it looks at some, evenly spread. There are no numbers in the words, so that
    Python says them once.

    Args:
        points: (B, N, C), of which [0, 1] is expected.
        remedy: that the warning names.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.points import warn_of_range
        >>> warn_of_range(torch.rand(1, 4, 3), "divide by 255")
    """
    if points.numel() == 0 or points.device.type == "meta":
        return
    some = points[:, :: 1 + points.numel() // LOOKED_AT].to(torch.float32)
    values = some[some.isfinite()]
    outside = (values < -OUTSIDE) | (values > 1 + OUTSIDE)
    if float(outside.float().mean()) > 0.01:
        warnings.warn(
            "more than 1% of the values are outside of [0, 1] and count as clamped: " + remedy,
            stacklevel=4,  # the line of the user, where a function for pictures asks
        )


def warn_of_pictures(images: Tensor) -> None:
    """`warn_of_range` of pictures: (C, H, W) or (B, C, H, W); bytes are always in range."""
    if images.is_floating_point():
        warn_of_range(to_pixels(images), "divide images of 0 to 255 by 255, or give them as uint8")


def check_count(count: Any, name: str = "num_colors") -> int:
    """Check that a number is whole, of any library, and at least 1; make it an int.

    Args:
        count: what came.
        name: to call it.

    Returns:
        The number.

    Raises:
        TypeError: for something else than a whole number.
        ValueError: for less than 1.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.points import check_count
        >>> check_count(torch.tensor(16))
        16
    """
    if isinstance(count, bool) or not hasattr(count, "__index__"):
        raise TypeError(f"expected {name} as a whole number, got {count!r}")
    number = operator.index(count)
    if number < 1:
        raise ValueError(f"expected {name} of at least 1, got {number}")
    return number


def check_seed(seed: Any) -> int:
    """Check that a seed is a whole number from 0 to 2 ** 64 - 1; make it an int."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"expected seed as a whole number, got {seed!r}")
    number = operator.index(seed)
    if not 0 <= number < 1 << 64:
        raise ValueError(f"expected a seed from 0 to 2 ** 64 - 1, got {number}")
    return number


def check_strength(strength: float) -> None:
    """Raise unless the strength of a dither is from 0 to 1."""
    if not 0 <= strength <= 1:
        raise ValueError(f"expected a strength from 0 to 1, got {strength}")


def to_points(x: Tensor) -> Tensor:
    """View a layer's input as points.

    Args:
        x: (3, H, W) or (B, 3, H, W), floating point.

    Returns:
        (B, N, 3); B is 1 for one image.

    Raises:
        TypeError: for something else than a floating point tensor.
        ValueError: for another shape.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.points import to_points
        >>> to_points(torch.rand(8, 3, 4, 5)).shape
        torch.Size([8, 20, 3])
    """
    check_images(x, alpha=False, of_bytes=False)
    return to_pixels(x)


def to_pixels(images: Tensor) -> Tensor:
    """View images as lists of pixels, unchecked.

    Args:
        images: (C, H, W) or (B, C, H, W).

    Returns:
        (B, N, C); B is 1 for one image.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.points import to_pixels
        >>> to_pixels(torch.rand(4, 2, 5)).shape
        torch.Size([1, 10, 4])
    """
    return (images if images.dim() == 4 else images[None]).flatten(2).transpose(1, 2)


def to_image(points: Tensor, x: Tensor) -> Tensor:
    """View points as images: what `to_points` did, undone.

    Args:
        points: (B, N, 3).
        x: (3, H, W) or (B, 3, H, W), whose shape they get.

    Returns:
        (3, H, W) or (B, 3, H, W).

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.points import to_image, to_points
        >>> x = torch.rand(3, 4, 5)
        >>> to_image(to_points(x), x).equal(x)
        True
    """
    image = points.transpose(1, 2).unflatten(2, x.shape[-2:])
    return image if x.dim() == 4 else image.squeeze(0)


def to_index_map(indices: Tensor, x: Tensor) -> Tensor:
    """View indices as the pixels of images.

    Args:
        indices: (B, N).
        x: (3, H, W) or (B, 3, H, W).

    Returns:
        (H, W) or (B, H, W).

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.points import to_index_map
        >>> to_index_map(torch.arange(6)[None], torch.rand(3, 2, 3))
        tensor([[0, 1, 2],
                [3, 4, 5]])
    """
    shaped = indices.unflatten(1, x.shape[-2:])
    return shaped if x.dim() == 4 else shaped.squeeze(0)


def with_alpha(colors: Tensor) -> Tensor:
    """Give colours an alpha: opaque, where they have none.

    Args:
        colors: (..., 3) or (..., 4), floating point in [0, 1] or uint8.

    Returns:
        (..., 4) of the same dtype.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.points import with_alpha
        >>> with_alpha(torch.zeros(1, 3))
        tensor([[0., 0., 0., 1.]])
    """
    if colors.shape[-1] == 4:
        return colors
    opaque = 1 if colors.is_floating_point() else 255
    return torch.cat([colors, torch.full_like(colors[..., :1], opaque)], dim=-1)


def asks_for_dots(pixels: Tensor, palette: Tensor, strength: float) -> bool:
    """Whether there is something to dither; raises for what is no picture, palette or strength."""
    if pixels.ndim != 3 or pixels.shape[-1] not in (3, 4):
        raise ValueError(
            f"expected pixels of shape (H, W, 3) or (H, W, 4), got {tuple(pixels.shape)}"
        )
    channels = pixels.shape[-1]
    if palette.ndim != 2 or palette.shape[-1] != channels or len(palette) == 0:
        raise ValueError(f"expected a palette of shape (K, {channels}), got {tuple(palette.shape)}")
    check_strength(strength)
    return strength > 0 and len(palette) > 1 and pixels.numel() > 0


def in_space(pixels: Tensor, space: Space) -> Tensor:
    """Pixels (B, N, 3) in the working space; in sRGB as they are, since the kernel clamps them."""
    return pixels if space == "rgb" else color_space(space).from_rgb(clamp_through(pixels))


def in_working_space(pixels: Tensor, channels: int, space: Space) -> Tensor:
    """Pixels (N, 3) or (N, C) of an image in the working space."""
    colors = sanitize(pixels, clamp=True)
    return to_working_space(with_alpha(colors) if channels == 4 else colors, space)


def finite_weights(pixels: Tensor) -> Tensor:
    """Weights (B, N) float32 of the pixels (B, N, 3): 0 where a channel is not finite, else 1."""
    return finite(pixels).to(torch.float32)
