"""Pictures for people: side by side, a palette with its shares, distortion over the colours.

Everything is drawn with Pillow, so nothing else needs to be installed. Boxes are (left, top,
right, bottom) in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from colorquant_nn.io import image_array, palette_array

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont
    from torch import Tensor

__all__ = ["comparison", "palette_swatch", "rate_distortion"]

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
PANELS_IN_A_ROW = 4
SMOOTH = 3  # lines are drawn this much larger, then reduced


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
        ValueError: there is no picture, or its shape is none.

    >>> import torch
    >>> comparison({"black": torch.zeros(3, 8, 8), "white": torch.ones(3, 8, 8)}).mode
    'RGB'
    """
    if not images:
        raise ValueError("expected at least one image, got none")
    panels = [_panel(image_array(image)) for image in images.values()]
    width = max(panel.width for panel in panels)
    height = max(panel.height for panel in panels)
    captions = [caption.split("\n") for caption in images]
    text = min(max(width // 26, 15), 30)
    boxes = len(panels) + (palette is not None)
    columns = boxes if boxes <= PANELS_IN_A_ROW else math.ceil(math.sqrt(boxes))
    rows = math.ceil(boxes / columns)
    lines = max(len(caption) for caption in captions)
    if palette is not None:
        shares = "" if counts is None else "share of the pixels"
        captions.append([f"palette, {len(palette)} colour{'s' * (len(palette) != 1)}", shares])
        lines = max(lines, 1 + bool(shares))
    gap = text
    above = round(text * (1.9 + 1.35 * (lines - 1)))
    palette_width = max(min(width, 460), 300) if palette is not None else 0
    narrow = palette is not None and rows == 1
    total = gap + columns * (width + gap) + ((palette_width - width) if narrow else 0)
    canvas, draw = _canvas(total, gap // 2 + rows * (above + height + gap))
    for number, caption in enumerate(captions):
        left = gap + number % columns * (width + gap)
        top = gap // 2 + number // columns * (above + height + gap)
        room = width
        if number == len(panels):
            room = palette_width if narrow else width
            assert palette is not None
            _draw_palette(
                canvas, (left, top + above, left + room, top + above + height), palette, counts
            )
        else:
            canvas.paste(panels[number], (left, top + above))
        for line, words in enumerate(caption):
            size = text if line == 0 else round(text * 0.85)
            place = (left, top + round(text * (0.5 + 1.35 * line)))
            draw.text(
                place, _fit(draw, words, size, room), INK if line == 0 else FAINT, _font(size)
            )
    return canvas


def palette_swatch(palette: Tensor, counts: Tensor | None = None) -> Image.Image:
    """The colours of a palette with their codes, and their shares if there are counts.

    Args:
        palette: (K, 3) or (K, 4), sRGB in [0, 1].
        counts: (K,) pixels of each colour.

    Returns:
        an RGB picture.

    >>> import torch
    >>> palette_swatch(torch.rand(5, 3)).mode
    'RGB'
    """
    count = len(palette_array(palette))
    columns = min(count, 8 if count <= 64 else 16)
    cell = 96 if count <= 64 else 48
    rows = math.ceil(count / columns)
    bar = 0 if counts is None else 56
    canvas, _ = _canvas(32 + columns * cell, 32 + rows * cell + bar)
    _draw_palette(canvas, (16, 16, 16 + columns * cell, 16 + rows * cell + bar), palette, counts)
    return canvas


def rate_distortion(curve: Mapping[int, float], title: str = "") -> Image.Image:
    """Error over the number of colours, with the point after which more colours pay less.

    The error is the root of the mean squared one, in levels of 255. The point is the curve's
    knee over the bits per pixel: where it is farthest below the straight line from the first
    point to the last.

    Args:
        curve: number of colours to PSNR in dB; an infinite one is named as exact.
        title: the heading.

    Returns:
        an RGB picture.

    Raises:
        ValueError: there are less than two finite points.

    V. Satopää et al.: Finding a "kneedle" in a haystack. ICDCS workshops (2011).

    >>> rate_distortion({2: 20.0, 4: 25.0, 8: 28.0, 16: 30.0}).mode
    'RGB'
    """
    counts = [count for count in sorted(curve) if math.isfinite(curve[count])]
    if len(counts) < 2:
        raise ValueError(f"expected at least two finite points, got {len(counts)}")
    bits = [math.log2(count) for count in counts]
    errors = [255 * 10 ** (-curve[count] / 20) for count in counts]
    knee = _knee(bits, errors)
    canvas, draw = _canvas(1120, 720)
    left, top, right, bottom = 76, 150, 1076, 610
    step = _round_step(max(errors) / 5)
    highest = step * math.ceil(max(errors) * 1.08 / step)
    across = (right - left - 110) / (bits[-1] - bits[0])
    points = [
        (left + 40 + (bit - bits[0]) * across, bottom - error / highest * (bottom - top))
        for bit, error in zip(bits, errors, strict=True)
    ]

    def area(large: ImageDraw.ImageDraw, scale: int) -> None:
        corners = [*points, (points[-1][0], bottom), (points[0][0], bottom)]
        large.polygon(_scaled(corners, scale), SHADE)

    def line_and_dots(large: ImageDraw.ImageDraw, scale: int) -> None:
        large.line(_scaled(points, scale), LINE, width=4 * scale, joint="curve")
        for number, (x, y) in enumerate(_scaled(points, scale)):
            radius = (9 if number == knee else 6) * scale
            color = ACCENT if number == knee else LINE
            large.ellipse((x - radius, y - radius, x + radius, y + radius), color, PAPER, 2 * scale)

    _smooth(canvas, area)
    for number in range(round(highest / step) + 1):
        y = bottom - number * step / highest * (bottom - top)
        draw.line((left, y, right, y), FAINT if number == 0 else HAIRLINE)
        draw.text((left - 12, y), f"{number * step:g}", FAINT, _font(19), anchor="rm")
    for y in range(round(points[knee][1]), bottom, 9):
        draw.line((points[knee][0], y, points[knee][0], min(y + 4, bottom)), ACCENT)
    _smooth(canvas, line_and_dots)
    for number, (count, (x, y)) in enumerate(zip(counts, points, strict=True)):
        ink = ACCENT if number == knee else FAINT
        draw.text((x, bottom + 14), str(count), ink, _font(19), anchor="ma")
        place, label = (x + 8, y - 12), f"{curve[count]:.1f} dB"
        draw.text(place, label, ink, _font(18), anchor="ls", stroke_width=3, stroke_fill=PAPER)
    note = f"Beyond {counts[knee]} colours, a doubling buys less and less."
    exact = [count for count in curve if math.isinf(curve[count])]
    if exact:
        note += f" {min(exact)} are exact."
    draw.text((left - 40, 30), _fit(draw, title or "Error and colours", 30, right), INK, _font(30))
    draw.text((left - 40, 74), note, ACCENT, _font(21))
    label = "root mean squared error of a channel, of 255, and PSNR"
    draw.text((left - 40, top - 18), label, FAINT, _font(18), anchor="ls")
    draw.text(((left + right) / 2, bottom + 66), "colours", FAINT, _font(20), anchor="mm")
    return canvas


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
    from PIL import ImageDraw

    colors = palette_array(palette)
    draw = ImageDraw.Draw(canvas)
    left, top, right, bottom = box
    shares: NDArray[np.float64] | None = None
    if counts is not None:
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
    lines = [bytes(int(value) for value in color[:3]).hex()]
    if share is not None:
        percent = 100 * share
        lines.insert(0, f"{percent:.0f} %" if percent >= 10 else f"{percent:.1f} %")
    size = min(22, int(width / 4.6))
    while lines and len(lines) * size * 1.25 + 6 > height:
        lines.pop()
    if size < 11 or not lines:
        return
    alpha = color[3] / 255 if len(color) == 4 else 1.0
    light = sum(weight * value for weight, value in zip((0.299, 0.587, 0.114), color, strict=False))
    ink = (20, 20, 20) if light * alpha + 240 * (1 - alpha) > 140 else (245, 245, 245)
    middle = (cell[0] + cell[2]) / 2
    y = (cell[1] + cell[3]) / 2 - (len(lines) - 1) * size * 0.62
    for number, line in enumerate(lines):
        font = _font(size if number == 0 else max(11, round(size * 0.86)))
        draw.text((middle, y), line, ink, font, anchor="mm")
        y += size * 1.24


def _fill(canvas: Image.Image, box: Box, color: NDArray[np.uint8]) -> None:
    from PIL import Image

    size = (box[2] - box[0], box[3] - box[1])
    if len(color) == 3:
        canvas.paste(tuple(int(value) for value in color), box)
    else:
        pixels = np.broadcast_to(color, (size[1], size[0], 4))
        canvas.paste(Image.fromarray(_over_checkerboard(pixels)), box)


def _panel(pixels: NDArray[np.uint8]) -> Image.Image:
    """A picture at the size at which it is shown."""
    from PIL import Image

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
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, height), PAPER)
    return image, ImageDraw.Draw(image)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _fit(draw: ImageDraw.ImageDraw, text: str, size: int, width: int) -> str:
    """The text, cut with an ellipsis if it is wider than there is room."""
    if draw.textlength(text, _font(size)) <= width:
        return text
    while text and draw.textlength(text + "…", _font(size)) > width:
        text = text[:-1]
    return text + "…"


def _smooth(canvas: Image.Image, paint: Callable[[ImageDraw.ImageDraw, int], None]) -> None:
    """Paint on a larger copy, then reduce it: Pillow's own lines have jagged edges."""
    from PIL import Image, ImageDraw

    large = canvas.resize((canvas.width * SMOOTH, canvas.height * SMOOTH), Image.Resampling.NEAREST)
    paint(ImageDraw.Draw(large), SMOOTH)
    canvas.paste(large.reduce(SMOOTH))


def _scaled(points: Sequence[tuple[float, float]], scale: int) -> list[tuple[float, float]]:
    return [(x * scale, y * scale) for x, y in points]
