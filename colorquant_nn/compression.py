"""The smallest picture at a quality, or the best one within a number of bytes.

How much a bit is worth, `lossy`, is looked for: Lloyd's steps go on, and the price follows what
they cost.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from colorquant_nn.functional.fitting import EFFORTS, round_to_bytes
from colorquant_nn.functional.opacity import CLEAR
from colorquant_nn.functional.order import order_for_deflate
from colorquant_nn.functional.points import check_count, check_image, warn_of_pictures
from colorquant_nn.functional.progress import progress
from colorquant_nn.functional.quality import Prepared, prepare, quality
from colorquant_nn.functional.rate import (
    Coded,
    Source,
    begin,
    improve,
    prepare_source,
    to_result,
)
from colorquant_nn.image import (
    QuantizedImage,
    apply_palette,
    fit_palette,
    order_for_size,
    repaint,
)
from colorquant_nn.io import encode_frames
from colorquant_nn.kernels import sanitize
from colorquant_nn.names import Effort, Space, check_name

__all__ = ["compress_image"]

LOSSY = 20.0  # half the bytes of 256 colours, and hard to tell from them
STEPS = 3  # of Lloyd's algorithm at one price
LEAST, MOST = 1.0, 1e6  # prices that make a difference
FASTEST = 8.0  # times, at most, that the price changes in a step
NEAR_ENOUGH = 0.97  # of the bytes that are allowed
BETTER = 1.0  # points of quality more than are asked for
TRIES = 14
STEEPEST = 3.0  # times as steep as usual, or as flat, at most
ORDERED = 10.0  # below this price there are fewer copies, and the order of the palette matters;
SMALL = 1 << 16  # in pictures of so few pixels always
HALVINGS = 8  # of the logarithm of the price,
AROUND = 2.0  # times as far apart as the prices between which steps in a row came to nothing
MISJUDGED = 0.6  # of what indices are said to take: where files are less, the price means little
FEWER = (64, 16, 4, 2, 1)  # colours, when no price is high enough
OVERHEAD = 100  # bytes of a file beside its indices, and 3 for each colour
FILTERED = 0.95  # of what indices are said to take, what they take in files, about


class Try(NamedTuple):
    """What a price led to."""

    lossy: float
    bits: float
    """Of the indices, as they are reckoned."""
    result: QuantizedImage


class Bounds(NamedTuple):
    """What a value is to lie between that falls as the price rises."""

    measure: Callable[[Try, bool], float]
    """The value of a try; or, not exactly, about that."""
    low: float
    high: float
    slope: float
    """By how much it changes, about, when the price is e times as high."""
    margin: float
    """How far beyond the bounds it is measured exactly."""
    dear: bool
    """Whether the highest price is looked for at which the value is high enough; else the lowest
    at which it is low enough."""

    def better(self, tried: Try, value: float, best: Try | None) -> Try | None:
        """The better one of a try and the best one before."""
        if value < self.low if self.dear else value > self.high:
            return best
        if best is None or (tried.lossy > best.lossy if self.dear else tried.lossy < best.lossy):
            return tried
        return best


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

    Ask for ``max_bytes`` where there is a limit, for ``min_quality`` where pictures of all kinds
    are to look equally good. ``lossy`` is one price for all pictures, and the fastest: nothing is
    searched for.

    Args:
        image: (3, H, W) or (4, H, W) sRGB, float in [0, 1] or uint8.
        max_bytes: of the file, as ``save_image("small.png", result, effort=effort)`` writes it; the
            best quality within it is looked for.
        min_quality: in units of SSIMULACRA2, as `functional.visual_quality` has it: 90 is hard to
            tell from the original, 70 is high, 50 medium. The smallest file that reaches it is
            looked for. With ``max_bytes`` both hold.
        lossy: instead of these, the error that saving a bit is worth, at least 0; in millionths of
            the squared error of black in place of white. 5 is hardly seen, 100 is; 20 if nothing is
            asked for, which takes about half the bytes of a photograph in 256 colours.
        num_colors: K at most, 1 to 256.
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
    if max_bytes is not None:
        max_bytes = check_count(max_bytes, "max_bytes")
    if min_quality is not None and not min_quality <= 100:
        raise ValueError(f"expected min_quality of at most 100, got {min_quality}")
    warn_of_pictures(image)
    tries = _Tries(image, space, effort, seed)
    if min_quality is not None:
        found = tries.reach(float(min_quality), num_colors)
        if max_bytes is not None and (size := tries.size(found)) > max_bytes:
            raise ValueError(
                f"a quality of {min_quality:g} takes {size} bytes, not {max_bytes}: expected more "
                "max_bytes, or a smaller min_quality (--max-bytes, --min-quality)"
            )
    elif max_bytes is not None:
        found = tries.fit_into(max_bytes, num_colors)
    else:
        found = tries.at(LOSSY if lossy is None else min(lossy, MOST), num_colors)
    return found.result


class _Tries:
    """A picture that is tried at several prices."""

    def __init__(self, image: Tensor, space: Space, effort: Effort, seed: int) -> None:
        self._image, self._space = image, space
        self._effort, self._seed = effort, seed
        self._source: Source = prepare_source(image.detach().cpu().movedim(0, -1), space)
        self._order: Tensor | None = None
        self._palettes: dict[int, Tensor] = {}

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
        part = FILTERED

        def measure(tried: Try, exactly: bool) -> float:
            nonlocal part
            rest = OVERHEAD + 3 * len(tried.result.palette)
            if not exactly:
                return math.log(part * tried.bits / 8 + rest)
            size = self.size(tried)
            part = max(size - rest, 1) / max(tried.bits / 8, 1)
            return math.log(size)

        high = math.log(max_bytes)
        low = high + math.log(NEAR_ENOUGH)
        bounds = Bounds(measure, low, high, -0.7, margin=0.1, dear=False)
        best = self._search(bounds, num_colors)
        if best is None:
            best = self._shrink(bounds, max_bytes, num_colors)
        elif best.lossy <= LEAST:
            able = (x for x in self._free(num_colors) if self.size(x) <= max_bytes)
            best = max([best, *able], key=self._quality)
        return best

    def _shrink(self, bounds: Bounds, max_bytes: int, num_colors: int) -> Try:
        """As `fit_into`, with fewer colours where the highest price is not high enough."""
        smallest = sys.maxsize
        least = 2 if bool((self._source.kinds == CLEAR).any()) else 1  # one of them is transparent
        for count in (num_colors, *(count for count in FEWER if least <= count < num_colors)):
            tried = self.at(MOST, count)
            if (size := self.size(tried)) <= max_bytes:
                return self._halve(bounds, count, tried, LEAST, MOST) or tried
            smallest = min(smallest, size)
        raise ValueError(
            f"no palette makes a file of {max_bytes} bytes, the smallest has {smallest}: expected "
            "more max_bytes (--max-bytes)"
        )

    def reach(self, min_quality: float, num_colors: int) -> Try:
        """The smallest picture that is so good."""
        bounds = Bounds(
            lambda tried, _: self._quality(tried),
            min_quality,
            min_quality + BETTER,
            -12.0,
            margin=math.inf,
            dear=True,
        )
        best = self._search(bounds, num_colors)
        if best is not None and self.size(best) < MISJUDGED * best.bits / 8:
            # Rows that repeat themselves: what the price spoils may have been cheap.
            plain = self.at(0.0, num_colors)
            if self._quality(plain) >= min_quality and self.size(plain) <= self.size(best):
                best = plain
        if best is None:
            best = max(self._free(num_colors), key=self._quality)
            if (reached := self._quality(best)) < min_quality:
                more = ", or more num_colors (-k)" if num_colors < 256 else ""
                raise ValueError(
                    f"{num_colors} colours reach a quality of {reached:.1f}, not {min_quality:g}: "
                    f"expected a smaller min_quality (--min-quality){more}"
                )
        return best

    def _search(self, bounds: Bounds, num_colors: int) -> Try | None:
        """Let the price follow what Lloyd's steps lead to, by the secant method.

        Returns:
            the best try that will do, or None.
        """
        coded, lossy, slope = self._begin(num_colors), LOSSY, bounds.slope
        aim = (bounds.low + bounds.high) / 2
        best: Try | None = None
        cheap, dear = LEAST, MOST  # prices of too large a value and of too small a one
        before: tuple[float, float] | None = None
        for step in progress(TRIES, "compressing", "try"):
            coded = improve(self._source, coded, lossy)
            tried = self._paint(lossy, coded)
            value, place = bounds.measure(tried, False), math.log(lossy)
            ends = lossy == (MOST if value > aim else LEAST)
            near = bounds.low - bounds.margin <= value <= bounds.high + bounds.margin
            if step >= STEPS - 1 and (near or ends):
                value = bounds.measure(tried, True)
                best = bounds.better(tried, value, best)
                if ends or bounds.low <= value <= bounds.high:
                    break
                cheap, dear = (lossy, dear) if value > aim else (cheap, lossy)
            if before is not None and abs(place - before[0]) > 0.05:
                steepness = (value - before[1]) / (place - before[0])
                slope = min(max(steepness, STEEPEST * bounds.slope), bounds.slope / STEEPEST)
            before = place, value
            farthest = math.log(FASTEST)
            place += min(max((aim - value) / slope, -farthest), farthest)
            lossy = min(max(math.exp(place), LEAST), MOST)
        else:
            best = self._halve(bounds, num_colors, best, min(cheap, dear), max(cheap, dear))
        return best

    def _halve(
        self, bounds: Bounds, num_colors: int, best: Try | None, cheap: float, dear: float
    ) -> Try | None:
        """Look between two prices, where steps in a row did not lead there: each begins anew."""
        cheap, dear = max(cheap / AROUND, LEAST), min(dear * AROUND, MOST)
        for _ in progress(HALVINGS, "compressing", "try"):
            tried = self.at(math.sqrt(cheap * dear), num_colors)
            value = bounds.measure(tried, True)
            best = bounds.better(tried, value, best)
            if bounds.low <= value <= bounds.high:
                break
            if value > bounds.high:
                cheap = tried.lossy
            else:
                dear = tried.lossy
        return best

    def _quality(self, tried: Try) -> float:
        return float(quality(tried.result.rgb.cpu(), self._original))

    def _free(self, num_colors: int) -> Iterator[Try]:
        """What looks best where bits cost nothing: plainly, or with dots where bands would show."""
        yield self.at(0.0, num_colors)
        palette = round_to_bytes(self._fit(num_colors))
        drawn = apply_palette(self._image, palette, space=self._space, dither="auto")
        yield Try(0.0, math.inf, order_for_size(drawn))

    @cached_property
    def _original(self) -> Prepared:
        return prepare(sanitize(self._image.detach().cpu(), clamp=True))

    def _begin(self, num_colors: int) -> Coded:
        return begin(self._source, self._fit(num_colors).cpu())

    def _fit(self, num_colors: int) -> Tensor:
        if num_colors not in self._palettes:
            self._palettes[num_colors] = fit_palette(
                self._image, num_colors, space=self._space, effort=self._effort, seed=self._seed
            )
        return self._palettes[num_colors]

    def _paint(self, lossy: float, coded: Coded) -> Try:
        small = self._source.kinds.numel() <= SMALL
        if self._order is not None and len(self._order) != len(coded.colors):
            self._order = None  # it is that of more colours
        if self._order is None and (small or lossy < ORDERED):
            assert coded.indices is not None
            self._order = order_for_deflate(coded.indices, len(coded.colors))
        palette, indices = to_result(self._source, coded, self._order)
        unpainted = QuantizedImage(self._image, indices.to(self._image.device), palette)
        return Try(lossy, coded.bits, repaint(unpainted, palette))
