"""Data sets in few colours: images as packed indices with their palettes, in one small file.

The file is NumPy's .npz, compressed and without pickles, with these arrays:

- ``format``: the text `FORMAT`;
- ``size``: H and W;
- ``palettes``: (N, K, 3) uint8 sRGB, or (1, K, 3), which all images share;
- ``indices``: (N, bytes) uint8. Each image begins at a byte and has its pixels row by row, with as
  many bits each as K needs, the highest first;
- ``labels``: (N,), whole numbers; ``classes``: their names, or none.

Letters: N images, B of them, H rows, W columns, K colours.
"""

import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from colorquant_nn.files import write_atomically

Bytes: TypeAlias = NDArray[np.uint8]

FORMAT = "colorquant packed images, version 1"
MAX_COLORS = 256
BATCH_SIZE = 256  # images that are quantized at once


class IndexedImages(Protocol):
    """Images in few colours, such as the `Quantized` of a layer."""

    @property
    def indices(self) -> Tensor:
        """(B, H, W), below K."""

    @property
    def palette(self) -> Tensor:
        """(B, K, 3), or (K, 3) if it is the same for all images; sRGB in [0, 1]."""


@dataclass(frozen=True, eq=False)
class PackedImages(Dataset[tuple[Tensor, int]]):
    """Images in few colours with their labels, packed in memory: items (3, H, W) uint8, label.

    `pack_images` makes them of images, `save` and `load` keep them in a file. It needs a few bytes
    more than the file, unpacks what is asked for, and goes to the workers of a DataLoader as it is.

    Args:
        indices: (N, bytes) uint8, as `pack_indices` packs them.
        palettes: (N, K, 3) uint8 sRGB, or (1, K, 3) for all images.
        labels: (N,) whole numbers from 0.
        size: H and W.
        classes: the labels' names, or none.

    Raises:
        ValueError: they are of other shapes or types, or do not fit each other.

    Examples:
        >>> import torch
        >>> from colorquant_nn import PerImageColorQuantize
        >>> from experiments.packed_images import pack_images
        >>> images = torch.randint(256, (10, 3, 32, 32), dtype=torch.uint8)
        >>> packed = pack_images(images, [0] * 10, PerImageColorQuantize(4).quantize)
        >>> image, label = packed[3]
        >>> image.shape, label, packed.indices.nbytes + packed.palettes.nbytes
        (torch.Size([3, 32, 32]), 0, 2680)
    """

    indices: Bytes
    palettes: Bytes
    labels: NDArray[np.int64]
    size: tuple[int, int]
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        indices, palettes, labels = self.indices, self.palettes, self.labels
        number = len(labels)
        if labels.ndim != 1 or labels.dtype != np.int64 or number == 0:
            raise ValueError(f"expected int64 labels (N,), got {_told(labels)}")
        if labels.min() < 0 or (self.classes and labels.max() >= len(self.classes)):
            raise ValueError(
                f"expected labels from 0 to below {len(self.classes) or 'the number of classes'}, "
                f"got {labels.min()} to {labels.max()}"
            )
        if (
            palettes.dtype != np.uint8
            or palettes.ndim != 3
            or palettes.shape[0] not in (1, number)
            or not 1 <= palettes.shape[1] <= MAX_COLORS
            or palettes.shape[2] != 3
        ):
            raise ValueError(
                f"expected uint8 palettes ({number}, K, 3) or (1, K, 3) with K from 1 to "
                f"{MAX_COLORS}, got {_told(palettes)}"
            )
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"expected a size (H, W) of a pixel or more, got {self.size}")
        row = -(-self.size[0] * self.size[1] * self.bits // 8)
        if indices.dtype != np.uint8 or indices.shape != (number, row):
            raise ValueError(
                f"expected uint8 indices ({number}, {row}) of {number} images of {self.size} "
                f"pixels with {self.bits} bits, got {_told(indices)}"
            )
        if self.num_colors < 1 << self.bits:  # others cannot be too large
            largest = unpack_indices(indices, self.bits, self.size[0] * self.size[1]).max()
            if largest >= self.num_colors:
                raise ValueError(f"expected indices below {self.num_colors}, got {largest}")

    @property
    def num_colors(self) -> int:
        """K."""
        return self.palettes.shape[1]

    @property
    def bits(self) -> int:
        """Of a pixel."""
        return bits_for(self.num_colors)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.batch([index])
        return images[0], int(labels[0])

    def batch(self, which: Sequence[int] | Tensor | slice) -> tuple[Tensor, Tensor]:
        """Some of the images at once.

        Args:
            which: their numbers, or a slice.

        Returns:
            (B, 3, H, W) uint8, and (B,) int64 labels.

        Raises:
            IndexError: there are not so many.
        """
        chosen: Any = which if isinstance(which, slice) else np.asarray(which, np.int64)
        rows = self.indices[chosen]
        indices = torch.from_numpy(unpack_indices(rows, self.bits, self.size[0] * self.size[1]))
        every = np.broadcast_to(self.palettes, (len(self), *self.palettes.shape[1:]))
        channels = torch.from_numpy(every[chosen].transpose(0, 2, 1).copy())  # (B, 3, K)
        images = channels.gather(2, indices[:, None].long().expand(-1, 3, -1))
        labels = torch.from_numpy(self.labels[chosen].copy())
        return images.reshape(-1, 3, *self.size), labels

    def save(self, path: str | Path, replace: bool = False) -> None:
        """Write a file that `load` reads: whole, or not at all.

        Args:
            path: of the file.
            replace: whether there may be one already.

        Raises:
            ValueError: there is one that may not be replaced, or it cannot be written.
        """
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            format=np.array(FORMAT),
            size=np.array(self.size),
            palettes=self.palettes,
            indices=self.indices,
            labels=self.labels.astype(np.min_scalar_type(self.labels.max())),
            classes=np.array(self.classes, np.str_),
        )
        write_atomically({path: buffer.getvalue()}, replace)

    @classmethod
    def load(cls, path: str | Path) -> "PackedImages":
        """Read what `save` wrote.

        Args:
            path: of the file.

        Returns:
            The images.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is another file, or not whole.

        Examples:
            >>> import tempfile, torch
            >>> from colorquant_nn import ColorQuantize
            >>> from experiments.packed_images import PackedImages, pack_images
            >>> images = torch.randint(256, (10, 3, 32, 32), dtype=torch.uint8)
            >>> layer = ColorQuantize(8).fit(images).eval()
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     pack_images(images, [0] * 10, layer.quantize).save(f"{folder}/train.npz")
            ...     len(PackedImages.load(f"{folder}/train.npz"))
            10
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no packed images at {Path(path).absolute()}")
        try:
            if not zipfile.is_zipfile(path):  # NumPy would look for other things in it
                raise ValueError("not an .npz file, or only the beginning of one")
            with np.load(path, allow_pickle=False) as arrays:
                if arrays["format"] != FORMAT:
                    raise ValueError(f"its format is {arrays['format']}")
                return cls(
                    arrays["indices"],
                    arrays["palettes"],
                    arrays["labels"].astype(np.int64, casting="same_kind"),
                    tuple(map(int, arrays["size"])),  # type: ignore[arg-type]
                    tuple(map(str, arrays["classes"])),
                )
        except (
            *(ValueError, KeyError, TypeError, EOFError, OSError, MemoryError),
            *(zipfile.BadZipFile, zlib.error),
        ) as error:
            raise ValueError(f"{path}: expected {FORMAT!r}: {error}") from error


def pack_images(
    images: Tensor,
    labels: Sequence[int] | Tensor,
    quantize: Callable[[Tensor], IndexedImages],
    classes: Sequence[str] = (),
) -> PackedImages:
    """Images in few colours, packed; colours are rounded to 8 bits, and go from dark to light.

    Args:
        images: (N, 3, H, W) uint8 sRGB.
        labels: (N,), whole numbers from 0.
        quantize: gives indices and palettes of a batch (B, 3, H, W) in [0, 1], as the ``quantize``
            of a layer does. A palette (K, 3) has to be the same for every batch.
        classes: the labels' names.

    Returns:
        The images: ``palette[indices]`` of what `quantize` gave, with the palette rounded.

    Raises:
        ValueError: images, labels or what `quantize` gives is of another shape or range.
        TypeError: labels are not whole numbers.

    Examples:
        >>> import torch
        >>> from colorquant_nn import PerImageColorQuantize
        >>> from experiments.packed_images import pack_images
        >>> image = torch.tensor([0, 255], dtype=torch.uint8).expand(1, 3, 4, 2)
        >>> packed = pack_images(image, [0], PerImageColorQuantize(2).quantize, ["stripes"])
        >>> torch.equal(packed[0][0], image[0]), packed.indices.tolist()
        (True, [[85]])
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise ValueError(
            f"expected images (N, 3, H, W) uint8, got {tuple(images.shape)} {images.dtype}"
        )
    palettes, indices, shared = [], [], False
    with torch.no_grad():
        for batch in images.split(BATCH_SIZE):
            found = quantize(batch.float() / 255)
            shared = found.palette.ndim == 2
            colors, ranks = _sorted(found.palette[None] if shared else found.palette)
            few = _checked(found.indices, batch, colors.shape).flatten(1)
            chosen = ranks.expand(len(batch), -1).gather(1, few)
            palettes.append(colors.numpy())
            indices.append(pack_indices(chosen.numpy(), bits_for(colors.shape[1])))
    if shared and any(not np.array_equal(palettes[0], other) for other in palettes):
        raise ValueError("expected one palette (K, 3) for all batches, got several")
    return PackedImages(
        np.concatenate(indices),
        palettes[0] if shared else np.concatenate(palettes),
        np.asarray(labels).astype(np.int64, casting="same_kind"),
        (images.shape[2], images.shape[3]),
        tuple(classes),
    )


def bits_for(num_colors: int) -> int:
    """Bits of an index below `num_colors`, at least one.

    Examples:
        >>> from experiments.packed_images import bits_for
        >>> [bits_for(num_colors) for num_colors in (1, 2, 3, 4, 8, 16, 256)]
        [1, 1, 2, 2, 3, 4, 8]
    """
    return max(1, (num_colors - 1).bit_length())


def pack_indices(indices: NDArray[Any], bits: int) -> Bytes:
    """Rows of indices with so many bits each, no bit between them; a row ends with zeros.

    Args:
        indices: (B, pixels), below ``2 ** bits``.
        bits: 1 to 8.

    Returns:
        (B, bytes).

    Examples:
        >>> import numpy as np
        >>> from experiments.packed_images import pack_indices, unpack_indices
        >>> packed = pack_indices(np.array([[1, 7, 0, 5]]), 3)
        >>> [f"{byte:08b}" for byte in packed[0]]
        ['00111100', '01010000']
        >>> unpack_indices(packed, 3, 4)
        array([[1, 7, 0, 5]], dtype=uint8)
    """
    digits = np.unpackbits(indices.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :]
    return np.packbits(digits.reshape(len(indices), -1), axis=1)


def unpack_indices(packed: Bytes, bits: int, pixels: int) -> Bytes:
    """What `pack_indices` packed: (B, bytes) to (B, pixels)."""
    digits = np.unpackbits(packed, axis=1, count=pixels * bits).reshape(len(packed), pixels, bits)
    indices = digits[..., 0].copy()
    for place in range(1, bits):
        indices <<= 1
        indices |= digits[..., place]
    return indices


def _sorted(palettes: Tensor) -> tuple[Tensor, Tensor]:
    """Palettes (B, K, 3) in 8 bits from dark to light, and where each colour went, (B, K).

    Neighbouring pixels then have like indices, which compress better.
    """
    if palettes.ndim != 3 or palettes.shape[2] != 3 or not 1 <= palettes.shape[1] <= MAX_COLORS:
        raise ValueError(f"expected palettes (B, K, 3) or (K, 3), got {tuple(palettes.shape)}")
    colors = (palettes.cpu().clamp(0, 1) * 255).round()
    luma = (colors * torch.tensor([299.0, 587.0, 114.0])).sum(2)
    order = luma.argsort(dim=1, stable=True)
    return colors.gather(1, order[..., None].expand_as(colors)).byte(), order.argsort(1)


def _checked(indices: Tensor, batch: Tensor, palettes: tuple[int, ...]) -> Tensor:
    """Indices, if they fit the images and the palettes (B, K, 3)."""
    size = (len(batch), *batch.shape[2:])
    if indices.shape != size or palettes[0] not in (1, len(batch)):
        raise ValueError(
            f"expected indices {size} with a palette for each or for all, "
            f"got {tuple(indices.shape)} and {palettes[0]} palettes"
        )
    low, high = (int(x) for x in indices.aminmax())
    if low < 0 or high >= palettes[1]:
        raise ValueError(f"expected indices from 0 to below {palettes[1]}, got {low} to {high}")
    return indices.cpu().long()


def _told(array: NDArray[Any]) -> str:
    return f"{array.dtype} {array.shape}"
