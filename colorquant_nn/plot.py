"""Pictures for people: side by side, a palette with its shares, distortion over the colours.

Everything is drawn with Pillow, the chart too. With matplotlib it would be some 35 lines shorter,
but a user of ``--plot`` would install 75 MB more and wait 0.4 s longer for a picture that says the
same. Boxes are (left, top, right, bottom) in pixels.
"""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from colorquant_nn.functional.points import check_tensor
from colorquant_nn.io import image_array, palette_array

__all__ = ["comparison", "is_light", "palette_swatch", "rate_distortion"]

Box = tuple[int, int, int, int]
Color = tuple[int, int, int]

PAPER: Color = (250, 250, 248)
INK: Color = (34, 36, 40)
FAINT: Color = (112, 117, 125)
HAIRLINE: Color = (218, 219, 220)
ACCENT: Color = (214, 84, 38)
LINE: Color = (52, 98, 160)
SHADE: Color = (232, 238, 246)
CHECKER: tuple[int, int] = (255, 222)  # the greys below transparent pixels

SMALLEST_PANEL = 320  # pixels, the longer edge; smaller pictures are enlarged by whole numbers
LARGEST_PANEL = 1024
ROOM = 240  # pixels at least for what stands beside or above a thin picture
PANELS_IN_A_ROW = 4
WIDE = 3  # times as wide as high: such pictures are stacked
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def comparison(
    images: Mapping[str, Tensor], *, palette: Tensor | None = None, counts: Tensor | None = None
) -> Image.Image:
    """Pictures side by side with captions, and on the right perhaps a palette.

    Args:
        images: caption to picture, (3, H, W) or (4, H, W), float in [0, 1] or uint8. Lines of a
            caption after the first are drawn fainter. Tiny pictures are enlarged without
            smoothing, huge ones reduced.
        palette: (K, 3) or (K, 4), drawn as one more panel.
        counts: (K,) pixels of each colour; the panel then shows the shares.

    Returns:
        an RGB picture.

    Raises:
        ValueError: there is no picture, or a wrong shape or range.
        TypeError: for something else than tensors by captions, or a wrong dtype.

    Examples:
        >>> import torch
        >>> from colorquant_nn import comparison
        >>> comparison({"black": torch.zeros(3, 8, 8), "white": torch.ones(3, 8, 8)}).mode
        'RGB'
    """
    if not isinstance(images, Mapping):
        raise TypeError(f"expected captions with pictures, a dict, got {type(images).__name__}")
    if not images:
        raise ValueError("expected at least one image, got none")
    for name in images:
        if not isinstance(name, str):
            raise TypeError(f"expected captions as text, got {type(name).__name__}")
    if palette is not None:
        palette_array(palette)  # checked before anything is drawn
    panels = [_panel(image_array(image)) for image in images.values()]
    width = max(ROOM, *(panel.width for panel in panels))  # captions need it
    captions = [caption.split("\n") for caption in images]
    heights = [panel.height for panel in panels]
    if palette is not None:
        shares = "" if counts is None else "share of the pixels"
        captions.append([f"palette, {len(palette)} colour{'s' * (len(palette) != 1)}", shares])
        heights.append(ROOM)
    boxes = len(captions)
    columns = boxes if boxes <= PANELS_IN_A_ROW else math.ceil(math.sqrt(boxes))
    if all(panel.width > WIDE * panel.height for panel in panels):
        columns = 1
    text = min(max(width // 26, 15), 30)
    gap = text
    above = round(text * (1.9 + 1.35 * (max(map(len, captions)) - 1)))
    rows = [max(heights[first : first + columns]) for first in range(0, boxes, columns)]
    tops = [gap // 2 + row * (above + gap) + sum(rows[:row]) for row in range(len(rows))]
    palette_width = width
    if len(rows) == 1 and palette is not None:
        palette_width = max(min(width, 460), 300)
    total = gap + columns * (width + gap) + palette_width - width
    canvas, draw = _canvas(total, tops[-1] + above + rows[-1] + gap)
    for number, caption in enumerate(captions):
        left = gap + number % columns * (width + gap)
        top = tops[number // columns]
        room = width
        if number == len(panels):
            room = palette_width
            assert palette is not None
            bottom = top + above + rows[-1]
            _draw_palette(canvas, (left, top + above, left + room, bottom), palette, counts)
        else:
            canvas.paste(panels[number], (left, top + above))
        for line, words in enumerate(caption):
            size = text if line == 0 else round(text * 0.85)
            place = (left, top + round(text * (0.5 + 1.35 * line)))
            words = _fit(draw, words, size, room)
            draw.text(place, words, INK if line == 0 else FAINT, _font(size))
    return canvas


def palette_swatch(palette: Tensor, counts: Tensor | None = None) -> Image.Image:
    """The colours of a palette with their codes, and their shares if there are counts.

    Args:
        palette: (K, 3) or (K, 4), sRGB in [0, 1].
        counts: (K,) pixels of each colour.

    Returns:
        an RGB picture.

    Raises:
        ValueError: for a wrong shape or range.
        TypeError: for something else than tensors, or a wrong dtype.

    Examples:
        >>> import torch
        >>> from colorquant_nn import palette_swatch
        >>> palette_swatch(torch.rand(5, 3)).mode
        'RGB'
    """
    count, channels = palette_array(palette).shape
    columns = min(count, 8 if count <= 64 else 16)
    cell = 96 if count <= 64 else 16 * channels  # for the codes
    rows = math.ceil(count / columns)
    bar = 0 if counts is None else 56
    canvas, _ = _canvas(32 + columns * cell, 32 + rows * cell + bar)
    _draw_palette(canvas, (16, 16, 16 + columns * cell, 16 + rows * cell + bar), palette, counts)
    return canvas


def rate_distortion(curve: Mapping[int, float], title: str = "") -> Image.Image:
    """Error over the number of colours, with the point after which more colours pay less.

    The error is the root of the mean squared one, in levels of 255. The point is the curve's
    knee over the bits per pixel: where it is farthest below the straight line from the first
    point to the last that is not exact.

    Args:
        curve: number of colours to PSNR in dB; an infinite one is exact.
        title: the heading.

    Returns:
        an RGB picture.

    Raises:
        ValueError: there is no point, or one of no colours or of no PSNR.
        TypeError: for something else than numbers by numbers.

    References:
        V. Satopää et al.: Finding a "kneedle" in a haystack. ICDCS workshops (2011).

    Examples:
        >>> from colorquant_nn.plot import rate_distortion
        >>> rate_distortion({2: 20.0, 4: 25.0, 8: 28.0, 16: 30.0}).size
        (1120, 720)
    """
    _check_curve(curve)
    counts = sorted(curve)
    bits = [math.log2(count) for count in counts]
    errors = [255 * 10 ** (-curve[count] / 20) for count in counts]
    finite = sum(error > 0 for error in errors)
    knee = _knee(bits[:finite], errors[:finite]) if finite > 2 else None
    # Drawn three times as large, then reduced: Pillow's own lines have jagged edges.
    canvas, draw = _canvas(3360, 2160)
    left, top, right, bottom = 228, 450, 3228, 1830
    step = _round_step(max(errors) / 5) if finite else 1
    highest = step * max(1, math.ceil(max(errors) * 1.08 / step))
    first, last = (bits[0], bits[-1]) if len(bits) > 1 else (bits[0] - 1, bits[0] + 1)
    points = [
        (
            left + 120 + (bit - first) / (last - first) * (right - left - 330),
            bottom - error / highest * (bottom - top),
        )
        for bit, error in zip(bits, errors, strict=True)
    ]
    draw.polygon([*points, (points[-1][0], bottom), (points[0][0], bottom)], SHADE)
    for number in range(round(highest / step) + 1):
        y = bottom - number * step / highest * (bottom - top)
        draw.line((left, y, right, y), FAINT if number == 0 else HAIRLINE, width=3)
        draw.text((left - 36, y), f"{number * step:g}", FAINT, _font(57), anchor="rm")
    if knee is not None:
        x, y = points[knee]
        for dash in range(round(y), bottom, 27):
            draw.line((x, dash, x, min(dash + 12, bottom)), ACCENT, width=3)
    draw.line(points, LINE, width=12, joint="curve")
    room = float(canvas.width)  # up to the label on the right
    for number, (count, (x, y)) in reversed(list(enumerate(zip(counts, points, strict=True)))):
        color, ink, radius = (ACCENT, ACCENT, 27) if number == knee else (LINE, FAINT, 18)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), color, PAPER, 6)
        label = f"{curve[count]:.1f} dB" if errors[number] else "exact"
        if x + 24 + draw.textlength(label, _font(54)) > room:
            continue
        room = x
        draw.text((x, bottom + 42), str(count), ink, _font(57), anchor="ma")
        draw.text((x + 24, y - 36), label, ink, _font(54), "ls", stroke_width=9, stroke_fill=PAPER)
    notes = [] if knee is None else [f"Beyond {counts[knee]} colours, a doubling buys less."]
    if finite < len(counts):
        notes.append(f"{counts[finite]} colour{'s are' if counts[finite] > 1 else ' is'} exact.")
    heading = _fit(draw, title or "Error and colours", 90, right)
    draw.text((left - 120, 90), heading, INK, _font(90))
    draw.text((left - 120, 222), " ".join(notes), ACCENT, _font(63))
    what = "root mean squared error of a channel, of 255, and PSNR"
    draw.text((left - 120, top - 54), what, FAINT, _font(54), anchor="ls")
    draw.text(((left + right) / 2, bottom + 198), "colours", FAINT, _font(60), anchor="mm")
    return canvas.reduce(3)


def is_light(color: Sequence[int]) -> bool:
    """Whether dark letters are easier to read than light ones on a colour.

    Args:
        color: red, green, blue and perhaps alpha (over light grey), from 0 to 255.

    Returns:
        whether the colour is light.

    Examples:
        >>> from colorquant_nn.plot import is_light
        >>> is_light((255, 255, 0)), is_light((0, 0, 255)), is_light((0, 0, 255, 10))
        (True, False, True)
    """
    alpha = color[3] / 255 if len(color) == 4 else 1.0
    luma = sum(weight * value for weight, value in zip(LUMA, color, strict=False))
    return luma * alpha + 240 * (1 - alpha) > 140


def _check_curve(curve: object) -> None:
    if not isinstance(curve, Mapping) or not all(
        isinstance(number, Real) for point in curve.items() for number in point
    ):
        raise TypeError(f"expected a curve of PSNR in dB by number of colours, got {curve!r:.80}")
    if not curve or not all(
        count >= 1 and psnr > -math.inf for count, psnr in curve.items()
    ):  # NaN fails, too
        raise ValueError(
            f"expected a curve of at least one point, of 1 colour or more, got {dict(curve)!r:.80}"
        )


def _knee(bits: Sequence[float], errors: Sequence[float]) -> int:
    """Place of the point farthest below the chord of the curve, both axes scaled to [0, 1]."""
    across = (np.array(bits) - bits[0]) / (bits[-1] - bits[0])
    spread = errors[0] - errors[-1]
    down = (errors[0] - np.array(errors)) / spread if spread > 0 else across
    return int((down - across).argmax())


def _round_step(rough: float) -> float:
    """The next of 1, 2, 5, 10, ... and their tenths."""
    power = 10 ** math.floor(math.log10(max(rough, 1e-9)))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)


def _draw_palette(canvas: Image.Image, box: Box, palette: Tensor, counts: Tensor | None) -> None:
    """A bar with the shares to scale, and a grid with the codes where there is room."""
    colors = palette_array(palette)
    draw = ImageDraw.Draw(canvas)
    left, top, right, bottom = box
    shares: NDArray[np.float64] | None = None
    if counts is not None:
        check_tensor(counts, f"counts as a tensor ({len(colors)},)")
        if counts.shape != (len(colors),):
            raise ValueError(
                f"expected counts of shape ({len(colors)},), got {tuple(counts.shape)}"
            )
        weights = counts.detach().cpu().double().numpy()
        shares = weights / max(weights.sum(), 1e-30)
        bar = max(20, min(48, (bottom - top) // 9))
        edges = left + np.concatenate([[0], shares.cumsum()]) * (right - left)
        edges = edges.round().astype(int)
        for color, start, stop in zip(colors, edges[:-1], edges[1:], strict=True):
            if stop > start:
                _fill(canvas, (int(start), top, int(stop), top + bar), color)
        top += bar + max(6, bar // 5)
    columns = _columns(len(colors), (right - left) / max(bottom - top, 1))
    rows = math.ceil(len(colors) / columns)
    for number, color in enumerate(colors):
        row, column = divmod(number, columns)
        cell = (
            left + column * (right - left) // columns,
            top + row * (bottom - top) // rows,
            left + (column + 1) * (right - left) // columns,
            top + (row + 1) * (bottom - top) // rows,
        )
        _fill(canvas, cell, color)
        _label(draw, cell, color, None if shares is None else float(shares[number]))


def _columns(count: int, aspect: float) -> int:
    """Columns of a grid whose cells are about square, with little left over."""

    def badness(columns: int) -> float:
        rows = math.ceil(count / columns)
        return abs(math.log(aspect * rows / columns)) + 8 * (rows * columns - count) / count

    return min(range(1, count + 1), key=badness)


def _label(draw: ImageDraw.ImageDraw, cell: Box, color: Sequence[int], share: float | None) -> None:
    width, height = cell[2] - cell[0], cell[3] - cell[1]
    lines = [bytes(int(value) for value in color).hex()]
    if share is not None:
        percent = 100 * share
        lines.insert(0, f"{percent:.0f} %" if percent >= 10 else f"{percent:.1f} %")
    size = min(22, int(width / (4.6 if len(color) == 3 else 5.8)))
    while lines and len(lines) * size * 1.25 + 6 > height:
        lines.pop()
    if size < 11 or not lines:
        return
    ink = (20, 20, 20) if is_light(color) else (245, 245, 245)
    middle = (cell[0] + cell[2]) / 2
    y = (cell[1] + cell[3]) / 2 - (len(lines) - 1) * size * 0.62
    for number, line in enumerate(lines):
        font = _font(size if number == 0 else max(11, round(size * 0.86)))
        draw.text((middle, y), line, ink, font, anchor="mm")
        y += size * 1.24


def _fill(canvas: Image.Image, box: Box, color: NDArray[np.uint8]) -> None:
    size = (box[2] - box[0], box[3] - box[1])
    if len(color) == 3:
        canvas.paste(tuple(int(value) for value in color), box)
    else:
        pixels = np.broadcast_to(color, (size[1], size[0], 4))
        canvas.paste(Image.fromarray(_over_checkerboard(pixels)), box)


def _panel(pixels: NDArray[np.uint8]) -> Image.Image:
    """A picture at the size at which it is shown."""
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if longer < SMALLEST_PANEL:
        factor = math.ceil(SMALLEST_PANEL / longer)
        pixels = pixels.repeat(factor, 0).repeat(factor, 1)
    if pixels.shape[2] == 4:
        pixels = _over_checkerboard(pixels)
    image = Image.fromarray(pixels)
    if longer > LARGEST_PANEL:
        scale = LARGEST_PANEL / longer
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
    return image


def _over_checkerboard(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = np.indices(pixels.shape[:2]) // 8
    ground = np.array(CHECKER)[(rows + columns) % 2][..., None]
    alpha = pixels[..., 3:] / 255
    return (pixels[..., :3] * alpha + ground * (1 - alpha)).round().astype(np.uint8)


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), PAPER)
    return image, ImageDraw.Draw(image)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _fit(draw: ImageDraw.ImageDraw, text: str, size: int, width: int) -> str:
    """The text in letters that the font has, cut with an ellipsis where there is no room."""
    letters = unicodedata.normalize("NFKD", text)
    letters = "".join(
        letter if letter.isprintable() else "?"
        for letter in letters
        if not unicodedata.combining(letter)
    )
    text = letters.encode("ascii", "replace").decode()
    if draw.textlength(text, _font(size)) <= width:
        return text
    while text and draw.textlength(text + "…", _font(size)) > width:
        text = text[:-1]
    return text + "…"
