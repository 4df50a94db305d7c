"""The smallest picture at a quality, or the best one within a number of bytes.

How much a bit is worth, `lossy`, is looked for: Lloyd's steps go on, and the price follows what
they cost.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from colorquant_nn.functional.fitting import EFFORTS
from colorquant_nn.functional.points import check_count, check_image, warn_of_pictures
from colorquant_nn.functional.quality import prepare, quality
from colorquant_nn.functional.rate import (
    Coded,
    Source,
    begin,
    improve,
    prepare_source,
    to_result,
)
from colorquant_nn.image import QuantizedImage, fit_palette, repaint
from colorquant_nn.io import encode_frames
from colorquant_nn.names import Effort, Space, check_name

__all__ = ["compress_image"]

LOSSY = 20.0  # half the bytes of 256 colours, and hard to tell from them
STEPS = 3  # of Lloyd's algorithm at one price
LEAST, MOST = 1.0, 1e6  # prices that make a difference
FASTEST = 8.0  # times, at most, that the price changes in a step
NEAR = 0.985  # of the bytes that are allowed, which are aimed at; 0.97 is near enough
NEAR_ENOUGH = 0.97
BETTER = 0.5  # points of quality more than are asked for, that are near enough
TRIES = 12
FEWER = (64, 16, 4, 2, 1)  # colours, when no price is high enough
OVERHEAD = 200  # bytes of a file beside its indices, and 3 for each colour


class Try(NamedTuple):
    """What a price led to."""

    lossy: float
    coded: Coded
    result: QuantizedImage


def compress_image(
    image: Tensor,
    *,
    max_bytes: int | None = None,
    min_quality: float | None = None,
    lossy: float | None = None,
    num_colors: int = 256,
    space: Space = "oklab",
    effort: Effort = "balanced",
    seed: int = 0,
) -> QuantizedImage:
    """Find the palette and the indices that look best for the bytes of their PNG.

    Each index is chosen by its error and by what it costs to store (`functional.rate`). Smooth
    areas are kept, errors go where the picture's texture hides them. Transparent pixels stay
    transparent, opaque ones opaque.

    Args:
        image: (3, H, W) or (4, H, W) sRGB, float in [0, 1] or uint8.
        max_bytes: of the file, as ``save_image("small.png", result, effort=effort)`` writes it; the
            best quality within it is looked for.
        min_quality: in units of SSIMULACRA2, as `functional.visual_quality` has it: 90 is hard to
            tell from the original, 70 is high, 50 medium. The smallest file that reaches it is
            looked for. With ``max_bytes`` both hold.
        lossy: the price of a bit instead, at least 0: a millionth, for each pixel's squared error,
            of that of black and white. 20, if nothing else is asked for; 5 is hardly seen, 100 is.
        num_colors: K at most, 2 to 256.
        space: where errors are measured. In "oklab" they are weighed by what the eye masks; the
            others know the plain squared error: "rgb" for the best PSNR.
        effort: of the palette and of the file, see `fit_palette` and `save_image`.
        seed: see `fit_palette`.

    Returns:
        The picture in the palette, which is rounded to bytes and has the colours that are used.

    Raises:
        ValueError: for a wrong shape, range or name, ``lossy`` beside the others, a quality that
            ``num_colors`` do not reach, or bytes that no palette reaches; both say what can be.
        TypeError: for something else than a tensor, or a wrong dtype.

    References:
        Chou, Lookabaugh and Gray 1989, "Entropy-constrained vector quantization".

    Examples:
        >>> import torch
        >>> from colorquant_nn import compress_image
        >>> from colorquant_nn.io import encode_frames
        >>> image = torch.rand(3, 64, 64).cumsum(2) / 64
        >>> sizes = []
        >>> for budget in (2000, 1000):
        ...     result = compress_image(image, max_bytes=budget)
        ...     sizes.append(len(encode_frames("small.png", [result], effort="balanced")))
        >>> sizes[0] <= 2000, sizes[1] <= 1000
        (True, True)
    """
    check_image(image)
    check_name("an effort", effort, EFFORTS)
    num_colors = check_count(num_colors)
    if num_colors > 256:
        raise ValueError(f"expected num_colors of at most 256, got {num_colors}")
    if lossy is not None and (max_bytes is not None or min_quality is not None):
        raise ValueError("lossy is a price: expected either it, or max_bytes and min_quality")
    if lossy is not None and not 0 <= lossy < math.inf:
        raise ValueError(f"expected lossy of at least 0, got {lossy}")
    if max_bytes is not None and not max_bytes > 0:
        raise ValueError(f"expected max_bytes above 0, got {max_bytes}")
    if min_quality is not None and not min_quality <= 100:
        raise ValueError(f"expected min_quality of at most 100, got {min_quality}")
    warn_of_pictures(image)
    work = _Work(image, space, effort, seed)
    if min_quality is not None:
        found = work.reach(min_quality, num_colors)
        if max_bytes is not None and (size := work.size(found)) > max_bytes:
            raise ValueError(
                f"a quality of {min_quality:g} takes {size} bytes, not {max_bytes}: expected more "
                "max_bytes, or a smaller min_quality (--max-bytes, --min-quality)"
            )
    elif max_bytes is not None:
        found = work.fit_into(max_bytes, num_colors)
    else:
        found = work.at(LOSSY if lossy is None else lossy, num_colors)
    return found.result


class _Work:
    """A picture that is tried at several prices."""

    def __init__(self, image: Tensor, space: Space, effort: Effort, seed: int) -> None:
        self._image, self._space = image, space
        self._effort, self._seed = effort, seed
        self._source: Source = prepare_source(image.detach().cpu().movedim(0, -1), space)

    def at(self, lossy: float, num_colors: int) -> Try:
        """After some steps at one price."""
        coded = self._begin(num_colors)
        for _ in range(STEPS):
            coded = improve(self._source, coded, lossy)
        return self._paint(lossy, coded)

    def size(self, found: Try) -> int:
        """Of the file, in bytes."""
        return len(encode_frames("compressed.png", [found.result], effort=self._effort))

    def fit_into(self, max_bytes: int, num_colors: int) -> Try:
        """The best picture of at most so many bytes."""
        aim = NEAR * max_bytes
        coded, lossy = self._begin(num_colors), LOSSY
        ratio = 1.0  # of a file to what its indices are said to take
        best: Try | None = None
        low, high = 0.0, math.inf  # prices of too large and of small enough files
        for step in range(TRIES):
            coded = improve(self._source, coded, lossy)
            expected = ratio * coded.bits / 8
            if step < STEPS - 1 or (abs(math.log(expected / aim)) > 0.1 and step < TRIES // 2):
                lossy = _bounded(lossy * _within((expected / aim) ** 2, FASTEST))
                continue
            tried = self._paint(lossy, coded)
            size = self.size(tried)
            ratio = size / (coded.bits / 8)
            if size <= max_bytes:
                if best is None or lossy < best.lossy:
                    best = tried
                high = min(high, lossy)
                if size >= NEAR_ENOUGH * max_bytes or lossy <= LEAST:
                    break
            else:
                low = max(low, lossy)
            wanted = lossy * _within((size / aim) ** 2, FASTEST)
            if not low < wanted < high:
                wanted = math.sqrt(max(low, LEAST / 2) * min(high, 2 * MOST))
            lossy = _bounded(wanted)
        if best is None or best.lossy <= LEAST:
            best = self._at_the_ends(best, max_bytes, num_colors)
        return best

    def _at_the_ends(self, best: Try | None, max_bytes: int, num_colors: int) -> Try:
        """Where no price helps: as good as can be, or as small."""
        if best is not None:
            plain = self.at(0.0, num_colors)
            return plain if self.size(plain) <= max_bytes else best
        size = 0
        for count in (num_colors, *(count for count in FEWER if count < num_colors)):
            tried = self.at(MOST, count)
            size = self.size(tried)
            if size <= max_bytes:
                return tried
        raise ValueError(
            f"no palette makes a file of {max_bytes} bytes, the smallest has {size}: expected more "
            "max_bytes (--max-bytes)"
        )

    def reach(self, min_quality: float, num_colors: int) -> Try:
        """The smallest picture that is so good."""
        original = prepare(self._image.detach().cpu())
        coded, lossy = self._begin(num_colors), LOSSY
        best: Try | None = None
        low, high = 0.0, math.inf  # prices of good enough and of too bad pictures
        slope = 10.0  # points that are lost when the price is e times as high
        before: tuple[float, float] | None = None
        for step in range(TRIES):
            coded = improve(self._source, coded, lossy)
            tried = self._paint(lossy, coded)
            reached = float(quality(tried.result.rgb.cpu(), original))
            if step >= STEPS - 1 or lossy <= LEAST:
                if reached >= min_quality:
                    if best is None or lossy > best.lossy:
                        best = tried
                    low = max(low, lossy)
                    if reached <= min_quality + BETTER or lossy >= MOST:
                        break
                else:
                    high = min(high, lossy)
                    if lossy <= LEAST:
                        break
            if before is not None and abs(math.log(lossy / before[0])) > 0.05:
                found = (before[1] - reached) / math.log(lossy / before[0])
                slope = min(max(found, 2.0), 40.0)
            before = lossy, reached
            aim = min_quality + BETTER / 2
            wanted = lossy * _within(math.exp((reached - aim) / slope), FASTEST)
            if not low < wanted < high:
                wanted = math.sqrt(max(low, LEAST / 2) * min(high, 2 * MOST))
            lossy = _bounded(wanted)
        if best is None:
            best = self.at(0.0, num_colors)
            reached = float(quality(best.result.rgb.cpu(), original))
            if reached < min_quality:
                raise ValueError(
                    f"{num_colors} colours reach a quality of {reached:.1f}, not {min_quality:g}: "
                    "expected a smaller min_quality, or more num_colors (--min-quality, -k)"
                )
        return best

    def _begin(self, num_colors: int) -> Coded:
        palette = fit_palette(
            self._image, num_colors, space=self._space, effort=self._effort, seed=self._seed
        )
        return begin(self._source, palette.cpu())

    def _paint(self, lossy: float, coded: Coded) -> Try:
        palette, indices = to_result(self._source, coded)
        unpainted = QuantizedImage(self._image, indices.to(self._image.device), palette)
        return Try(lossy, coded, repaint(unpainted, palette))


def _within(factor: float, most: float) -> float:
    return min(max(factor, 1 / most), most)


def _bounded(lossy: float) -> float:
    return min(max(lossy, LEAST), MOST)
