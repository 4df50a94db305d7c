"""How pictures differ, and how many colours they have: added up a frame at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colorquant_nn.functional import metrics
from colorquant_nn.functional.histogram import WeightedColors
from colorquant_nn.image import apply_palette
from colorquant_nn.names import Space

__all__ = ["JUDGES", "DistinctColors", "Errors", "error_of_colors", "psnr"]

BAND_PIXELS = 1 << 18  # measured at once: pictures may be larger than memory likes
SAMPLED_PIXELS = 1 << 20  # CIEDE2000 is slow; its mean over a grid of pixels is exact enough
LEAST_SAMPLED = 1 << 12  # of each of many frames
MOST_SOFT = 1 << 22  # half transparent colours that are told apart, in 16 MiB


class Errors:
    """The mean errors between pictures and others, over all pixels of all that were added.

    Errors are of the colours over white, but for the visual quality.

    Args:
        frames: that will be added, about: from each of many, fewer pixels are enough for CIEDE2000.
        judges: of `JUDGES`, that are asked too; they take longest, and memory for a whole frame.
    """

    def __init__(self, frames: int = 1, judges: Sequence[str] = ()) -> None:
        self._sampled = max(SAMPLED_PIXELS // frames, LEAST_SAMPLED)
        self._pixels = self._mse = self._ciede2000 = 0.0
        self._judged = dict.fromkeys(judges, 0.0)

    def add(self, image: Tensor, other: Tensor) -> None:
        """Add a picture (3, H, W) or (4, H, W) and another of its size, uint8."""
        height, width = image.shape[1:]
        pixels = height * width
        step = math.ceil(math.sqrt(pixels / self._sampled)) | 1  # odd, as no dither's matrix is
        self._pixels += pixels
        self._mse += pixels * _mean_over_bands(metrics.mse, image, other)
        self._ciede2000 += pixels * _mean_over_bands(metrics.mean_ciede2000, image, other, step)
        for judge in self._judged:
            self._judged[judge] += pixels * JUDGES[judge](image, other).item()

    @property
    def mse(self) -> float:
        """In units of the range [0, 1]."""
        return self._mse / self._pixels

    @property
    def ciede2000(self) -> float:
        """The mean."""
        return self._ciede2000 / self._pixels

    @property
    def judged(self) -> dict[str, float]:
        """The mean of each judge."""
        return {judge: total / self._pixels for judge, total in self._judged.items()}


class DistinctColors:
    """Counts the distinct colours of uint8 pictures; all that are fully transparent are one.

    Of those that are half transparent, beyond 4 194 304 no more are counted.
    """

    def __init__(self) -> None:
        self._opaque = np.zeros(1 << 24, bool)
        self._soft = [np.zeros(0, np.uint32)]  # codes; the first ones sorted, without repetition
        self._clear = False

    def add(self, image: Tensor) -> None:
        """Add a picture (3, H, W) or (4, H, W)."""
        rows = max(1, BAND_PIXELS // image.shape[2])
        for band in image.split(rows, 1):
            if len(band) == 3:
                self._opaque[_pack(band)] = True
                continue
            alpha = band[3]
            self._opaque[_pack(band[:3, alpha == 255])] = True
            self._clear |= bool((alpha == 0).any())
            soft = (alpha > 0) & (alpha < 255)
            if bool(soft.any()) and len(self._soft[0]) < MOST_SOFT:
                self._soft.append(np.unique(_pack(band[:, soft])))
                if sum(map(len, self._soft)) > 2 * len(self._soft[0]) + BAND_PIXELS:
                    self._merge()

    def __len__(self) -> int:
        self._merge()
        return int(self._opaque.sum()) + len(self._soft[0]) + self._clear

    def _merge(self) -> None:
        self._soft = [np.unique(np.concatenate(self._soft))[:MOST_SOFT]]


def error_of_colors(counted: WeightedColors, palette: Tensor, space: Space) -> float:
    """The mean squared error of counted colours in a palette, as `Errors` has it without dither."""
    row = counted.colors.to(torch.float32).T[:, None]  # a picture of one row
    drawn = apply_palette(row, palette, space=space).rgb
    weights = counted.weights[None]
    return metrics.mse(over_white(row), over_white(drawn), weights=weights).item()


def psnr(mse: float) -> float:
    """In dB, for a peak of 1."""
    return float(metrics.mse_to_psnr(torch.tensor(mse, dtype=torch.float64)))


def over_white(image: Tensor) -> Tensor:
    """A picture without alpha, as it is; with alpha in floating point."""
    if image.shape[0] == 3:
        return image
    if not image.is_floating_point():
        image = image.to(torch.float32) / 255
    return image[:3] * image[3:] + (1 - image[3:])


def _ssim(image: Tensor, other: Tensor) -> Tensor:
    return metrics.ssim(over_white(image), over_white(other))


def _eye_error(image: Tensor, other: Tensor) -> Tensor:
    return metrics.eye_error(over_white(image), over_white(other))


def _visual_quality(image: Tensor, other: Tensor) -> Tensor:
    return metrics.visual_quality(*_alike(other, image))


def _alike(*images: Tensor) -> list[Tensor]:
    """All with alpha where one has it, uint8."""
    if len({len(image) for image in images}) == 1:
        return list(images)
    return [torch.cat([x, torch.full_like(x[:1], 255)]) if len(x) == 3 else x for x in images]


def _mean_over_bands(
    measure: Callable[[Tensor, Tensor], Tensor], image: Tensor, other: Tensor, step: int = 1
) -> float:
    """The mean over a regular grid of pixels, a band of rows at a time."""
    height, width = image.shape[1:]
    rows = max(1, BAND_PIXELS // width) * step
    total = 0.0
    for top in range(0, height, rows):
        bands = [over_white(each[:, top : top + rows : step, ::step]) for each in (image, other)]
        total += measure(*bands).item() * bands[0].shape[1]
    return total / math.ceil(height / step)


def _pack(pixels: Tensor) -> NDArray[np.uint32]:
    """Each pixel as one number."""
    codes = np.zeros(pixels[0].numel(), np.uint32)
    for channel in pixels:
        codes <<= 8
        codes |= channel.flatten().numpy()
    return codes


JUDGES = {"ssim": _ssim, "eye_error": _eye_error, "visual_quality": _visual_quality}
"""Of how two pictures (3, H, W) or (4, H, W) uint8 look beside each other: more than a pixel at a
time. The eye error is that at 40 pixels a degree; the visual quality is in units of SSIMULACRA2, of
pictures with alpha over black or white."""
