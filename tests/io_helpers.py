"""Pictures for the tests of files."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

LOSSLESS = (".png", ".gif", ".webp", ".tif")


class Quantized(NamedTuple):
    """The part of `QuantizedImage` that is saved."""

    rgb: Tensor
    indices: Tensor
    palette: Tensor


def quantized(colors: int, channels: int = 3, height: int = 13, width: int = 17, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randperm(256 * 256, generator=generator)[:colors]
    palette = torch.stack([levels // 256, levels % 256, levels * 7 % 256], 1).float() / 255
    if channels == 4:
        alpha = torch.randint(0, 256, (colors, 1), generator=generator) / 255
        palette = torch.cat([palette, alpha], 1)
    indices = torch.arange(height * width) % colors
    indices = indices[torch.randperm(height * width, generator=generator)].view(height, width)
    return Quantized(palette[indices].permute(2, 0, 1), indices, palette)


def photo(height: int = 32, width: int = 48) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 5, (rows + columns) * 3], -1).astype(np.uint8)


def as_array(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def bits_per_pixel(path) -> int:
    return path.read_bytes()[24]  # IHDR
