"""Pictures that are no photographs, drawn by code: screenshots, a chart, a logo, icons and more.

They are what people make palette PNGs of. The same versions of the libraries draw the same pixels.
"""

import builtins
import keyword
import re
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from experiments.figures import as_picture

Floats = NDArray[np.float64]
Draw = ImageDraw.ImageDraw
FINE = 4  # shapes are drawn so many times larger, and averaged
SOURCE = '''\
import torch
from torch import Tensor, nn


class Palette(nn.Module):
    """The colours that a batch of pictures is drawn in."""

    def __init__(self, num_colors: int = 16, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("centroids", torch.rand(num_colors, 3))
        self.register_buffer("counts", torch.zeros(num_colors))

    def forward(self, pixels: Tensor) -> Tensor:
        # (N, 3) points, (K, 3) centroids: the nearest of them
        distances = torch.cdist(pixels, self.centroids)
        nearest = distances.argmin(dim=1)
        if self.training:
            self.update(pixels, nearest)
        return self.centroids[nearest]

    @torch.no_grad()
    def update(self, pixels: Tensor, nearest: Tensor) -> None:
        ones = torch.ones(len(pixels))
        sums = torch.zeros_like(self.centroids).index_add(0, nearest, pixels)
        found = torch.zeros_like(self.counts).index_add(0, nearest, ones)
        counts = self.decay * self.counts + found
        step = (sums - found[:, None] * self.centroids) / counts[:, None]
        self.centroids += step.where(found[:, None] > 0, 0)
        self.counts.copy_(counts)
'''
INKS = {  # of the source
    "comment": "#6a737d",
    "string": "#0a7d4b",
    "number": "#b3510b",
    "keyword": "#a626a4",
    "builtin": "#0184bc",
    "name": "#24292e",
}
TOKENS = re.compile(
    r"(?P<comment>#.*)|(?P<string>\"{3}.*?\"{3}|\".*?\")|(?P<number>\b\d[\d.]*\b)|(?P<name>\w+)|(?P<other>.)"
)


def load(name: str) -> Tensor:
    """One of `DRAWINGS`.

    Args:
        name: of it.

    Returns:
        (3, H, W) uint8, or (4, H, W) with alpha.
    """
    return torch.from_numpy(np.array(DRAWINGS[name]())).movedim(-1, 0).contiguous()


@lru_cache
def _font(size: float, face: str = "") -> Any:
    """A face of DejaVu that matplotlib brings, or Pillow's own font."""
    if not face:
        return ImageFont.load_default(size)
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"DejaVu{face}.ttf"), size)


def _shapes(
    size: tuple[int, int], paint: Callable[[Draw], object], mode: str = "RGBA"
) -> Image.Image:
    """What is painted on a transparent ground, in pixels, with soft edges."""
    large = Image.new(mode, (size[0] * FINE, size[1] * FINE))
    paint(ImageDraw.Draw(large))
    return large.resize(size, Image.Resampling.BOX)


def _box(draw: Draw, box: tuple[float, float, float, float], radius: float, **how: Any) -> None:
    """A rounded rectangle on a ground that is `FINE` times larger."""
    left, top, width, height = (side * FINE for side in box)
    corners = (left, top, left + width - 1, top + height - 1)
    draw.rounded_rectangle(corners, radius * FINE, **how)


def _disc(draw: Draw, x: float, y: float, radius: float, **how: Any) -> None:
    corners = [(side + sign * radius) * FINE for sign in (-1, 1) for side in (x, y)]
    draw.ellipse(corners, **how)


def _scaled(points: Any) -> list[tuple[float, float]]:
    return [(x * FINE, y * FINE) for x, y in points]


def _coordinates(width: int, height: int) -> tuple[Floats, Floats]:
    """x and y in [0, 1], (H, W)."""
    y, x = np.mgrid[:height, :width]
    return x / (width - 1), y / (height - 1)


def _blend(stops: dict[float, str], at: Floats) -> Floats:
    """Colours (..., 3) between those that are given for some places of a line."""
    colors = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in stops.values()])
    return np.stack([np.interp(at, list(stops), colors[:, i]) for i in range(3)], -1)


def _picture(colors: Floats) -> Image.Image:
    return Image.fromarray(colors.round().clip(0, 255).astype(np.uint8))


def _noise(width: int, height: int, octaves: int, seed: int) -> Floats:
    """Clouds of so many sizes, of mean 0."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width))
    for octave in range(octaves):
        coarse = random.standard_normal((3 * 2**octave + 1, 4 * 2**octave + 1)).astype(np.float32)
        layer = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(layer) / 2**octave
    return total / 2


def editor() -> Image.Image:
    """A window with source code, tabs, a list of files and a question, on a blue desktop."""
    width, height = 1024, 672
    x, y = _coordinates(width, height)
    picture = _picture(_blend({0: "#3b6ea5", 1: "#89b4d8"}, (x + y) / 2)).convert("RGBA")
    shadow = _shapes((width, height), lambda d: _box(d, (32, 36, 960, 608), 10, fill="#00000070"))
    picture.alpha_composite(shadow.filter(ImageFilter.GaussianBlur(8)))

    def window(draw: Draw) -> None:
        _box(draw, (32, 28, 960, 608), 10, fill="#ffffff")
        _box(draw, (32, 28, 960, 70), 10, fill="#e8eaed")
        _box(draw, (32, 62, 960, 36), 0, fill="#dfe2e6")
        _box(draw, (232, 64, 170, 34), 6, fill="#ffffff")
        _box(draw, (32, 98, 200, 512), 0, fill="#f3f4f6")
        _box(draw, (231, 98, 1, 512), 0, fill="#d0d4d9")
        _box(draw, (32, 150, 200, 24), 0, fill="#d6e4f7")
        _box(draw, (32, 610, 960, 26), 8, fill="#2563a8")
        for i, color in enumerate(("#ff5f57", "#febc2e", "#28c840")):
            _disc(draw, 52 + 22 * i, 46, 6.5, fill=color)
        _box(draw, (908, 36, 68, 22), 5, fill="#2da44e")
        _box(draw, (826, 36, 74, 22), 5, fill="#f6f8fa", outline="#c5cad1", width=FINE)

    def question(draw: Draw) -> None:
        _box(draw, (640, 452, 320, 136), 8, fill="#ffffff", outline="#c5cad1", width=FINE)
        _box(draw, (856, 548, 88, 26), 5, fill="#1f6feb")
        _box(draw, (756, 548, 88, 26), 5, fill="#f6f8fa", outline="#c5cad1", width=FINE)
        _disc(draw, 668, 486, 13, fill="#f0b429")

    picture.alpha_composite(_shapes((width, height), window))
    draw = ImageDraw.Draw(picture)
    draw.text((512, 46), "palette.py - colours", "#4b5563", _font(13), anchor="mm")
    draw.text((942, 47), "Run", "#ffffff", _font(12), anchor="mm")
    draw.text((863, 47), "Compare", "#24292e", _font(12), anchor="mm")
    draw.text((250, 74), "palette.py", "#24292e", _font(13))
    draw.text((420, 74), "README.md", "#6b7280", _font(13))
    files = ["colours", "  __init__.py", "  palette.py", "  histogram.py", "  dither.py"]
    files += [
        "tests",
        "  test_palette.py",
        "  test_dither.py",
        "pictures",
        "  parrots.png",
        "  hats.png",
    ]
    files += ["README.md", "LICENSE", "pyproject.toml"]
    for i, name in enumerate(files):
        indent = len(name) - len(name.lstrip())
        draw.text((50 + 8 * indent, 106 + 24 * i), name.strip(), "#374151", _font(13))
    face = _font(13, "SansMono")
    step = face.getlength("0")
    for number, line in enumerate(SOURCE.splitlines()):
        top = 106 + 16 * number
        draw.text((268, top), str(number + 1), "#a0a7b0", face, anchor="ra")
        for token in TOKENS.finditer(line):
            word = token.group()
            kind = str(token.lastgroup)
            kind = "keyword" if keyword.iskeyword(word) else kind
            kind = "builtin" if hasattr(builtins, word) or word == "self" else kind
            draw.text((282 + step * token.start(), top), word, INKS.get(kind, "#24292e"), face)
    picture.alpha_composite(_shapes((width, height), question))
    draw.text((668, 486), "!", "#ffffff", _font(18, "Sans-Bold"), anchor="mm")
    draw.text((692, 470), "Save the changes to palette.py?", "#1f2937", _font(15))
    draw.text((692, 496), "They are lost if you do not save them.", "#6b7280", _font(12))
    draw.text((900, 561), "Save", "#ffffff", _font(13), anchor="mm")
    draw.text((800, 561), "Discard", "#24292e", _font(13), anchor="mm")
    draw.text((48, 616), "main     0 errors, 2 warnings", "#ffffff", _font(12))
    draw.text(
        (976, 616), "Line 19, column 8     UTF-8     Python", "#ffffff", _font(12), anchor="ra"
    )
    return picture.convert("RGB")


def landscape(width: int, height: int) -> Image.Image:
    """Mountains before an evening sky, with the grain of a photograph."""
    x, y = _coordinates(width, height)
    colors = _blend({0: "#23406e", 0.4: "#c9787a", 0.6: "#f6c98a", 1: "#f6c98a"}, y)
    colors += 14 * _noise(width, height, 5, 1)[..., None] * (0.4 + x[..., None])
    hills = [("#8a6f93", 0.50), ("#5b4a73", 0.60), ("#2f3a4c", 0.72), ("#1a2a22", 0.86)]
    for i, (color, level) in enumerate(hills):
        ridge = level + (0.16 - 0.03 * i) * _noise(width, 4, 6, 10 + i)[:1]
        mask = np.clip((y - ridge) * height, 0, 1)[..., None]
        base = _blend({0: color, 1: color}, y)
        ground = base * (1 + (0.05 + 0.08 * i) * _noise(width, height, 7, 20 + i)[..., None])
        colors = colors * (1 - mask) + ground * mask
    colors += np.random.default_rng(3).normal(0, 2.0, (height, width, 1))
    return _picture(colors)


def player() -> Image.Image:
    """A dark window of an album, with a picture, a list and what is playing."""
    width, height = 960, 640
    _, y = _coordinates(width, height)
    picture = _picture(_blend({0: "#1e2430", 1: "#12151c"}, y)).convert("RGBA")
    photograph = landscape(336, 252).convert("RGBA")
    corners = _shapes(
        photograph.size, lambda d: _box(d, (0, 0, 336, 252), 12, fill="#ffffff"), "RGBA"
    )
    tracks = [
        *(("Blue Hour", "4:12"), ("A Palette of Rain", "3:38"), ("Sixteen Colours", "5:01")),
        *(("Between the Dots", "2:57"), ("Nearest Neighbours", "4:44"), ("Dusk", "3:20")),
        *(("Slow Gradient", "6:15"), ("Afterimage", "3:52")),
    ]

    def panels(draw: Draw) -> None:
        _box(draw, (0, 0, 200, 552), 0, fill="#0d1016")
        _box(draw, (12, 68, 176, 34), 8, fill="#2a3345")
        _box(draw, (0, 552, 960, 88), 0, fill="#1a1f2a")
        _box(draw, (0, 551, 960, 1), 0, fill="#303848")
        _box(draw, (592, 198, 112, 36), 18, fill="#1db954")
        _box(draw, (716, 198, 112, 36), 18, outline="#59657d", width=FINE + 2)
        _box(draw, (232, 369, 696, 30), 6, fill="#28303f")
        _box(draw, (316, 612, 340, 5), 2.5, fill="#434d61")
        _box(draw, (316, 612, 132, 5), 2.5, fill="#1db954")
        _disc(draw, 448, 614.5, 7, fill="#ffffff")
        _disc(draw, 486, 582, 19, fill="#ffffff")
        draw.polygon(_scaled([(480, 572), (480, 592), (496, 582)]), fill="#1a1f2a")
        for side in (-1, 1):
            for shift in (40, 50):
                points = [(486 + side * shift, 575), (486 + side * shift, 589), (0, 582)]
                points[2] = (486 + side * (shift + 9), 582)
                draw.polygon(_scaled(points), fill="#c6cede")
        for i, color in enumerate(("#7aa2f7", "#bb9af7", "#e0af68", "#f7768e", "#9ece6a")):
            _box(draw, (24, 250 + 44 * i, 30, 30), 6, fill=color)

    picture.alpha_composite(_shapes((width, height), panels))
    picture.paste(photograph, (232, 40), corners)
    draw = ImageDraw.Draw(picture)
    draw.text((24, 24), "Listen", "#ffffff", _font(22))
    for i, name in enumerate(("Home", "Search", "Library", "Radio")):
        draw.text((28, 76 + 36 * i), name, "#ffffff" if i == 0 else "#98a2b8", _font(15))
    for i, name in enumerate(("Morning", "Focus", "On the road", "Rainy days", "Garden")):
        draw.text((66, 256 + 44 * i), name, "#b8c1d4", _font(14))
    draw.text((592, 56), "ALBUM", "#98a2b8", _font(12))
    draw.text((592, 76), "Evening Air", "#ffffff", _font(44))
    draw.text((592, 136), "The Median Cuts", "#d6dceb", _font(18))
    draw.text((592, 164), "2026, 8 songs, 33 minutes", "#98a2b8", _font(13))
    draw.text((648, 216), "Play", "#08130c", _font(15), anchor="mm")
    draw.text((772, 216), "Follow", "#e8ecf5", _font(15), anchor="mm")
    for i, (name, time) in enumerate(tracks):
        middle, color = 324 + 30 * i, "#1db954" if i == 2 else "#e8ecf5"
        draw.text((256, middle), str(i + 1), "#98a2b8", _font(14), anchor="rm")
        draw.text((276, middle), name, color, _font(14), anchor="lm")
        draw.text((912, middle), time, "#98a2b8", _font(14), anchor="rm")
    draw.text((24, 574), "Sixteen Colours", "#ffffff", _font(15))
    draw.text((24, 596), "The Median Cuts", "#98a2b8", _font(12))
    draw.text((304, 614), "1:56", "#98a2b8", _font(12), anchor="rm")
    draw.text((668, 614), "5:01", "#98a2b8", _font(12), anchor="lm")
    return picture.convert("RGB")


def chart() -> Image.Image:
    """Curves with bands, bars and a legend, as matplotlib draws them."""
    random = np.random.default_rng(7)
    figure = Figure(figsize=(8, 5), layout="constrained")
    lines, bars = figure.subplots(1, 2, width_ratios=(5, 3))
    epochs = np.arange(1, 41)
    for i, name in enumerate(("k-means", "EMA", "straight-through", "soft")):
        curve = 0.08 + (0.5 + 0.1 * i) * np.exp(-epochs / (5 + 4 * i)) + 0.03 * i
        curve += random.normal(0, 0.006, len(epochs))
        lines.plot(epochs, curve, label=name, linewidth=1.8, marker="o" if i == 0 else None, ms=3.5)
        lines.fill_between(epochs, curve * 0.93, curve * 1.07, alpha=0.18)
    lines.set(xlabel="epoch", ylabel="validation error", title="Learning a palette")
    lines.grid(alpha=0.3)
    lines.legend(frameon=True)
    counts = ["4", "8", "16", "32", "64"]
    bars.bar(counts, [24.1, 27.3, 29.9, 32.6, 35.2], color=[f"C{i}" for i in range(5)])
    bars.set(xlabel="colours", ylabel="PSNR, dB", title="After 40 epochs", ylim=(20, 37))
    bars.spines[["top", "right"]].set_visible(False)
    return as_picture(figure, dpi=100)


def logo() -> Image.Image:
    """Flat overlapping petals and a word, on white."""
    size, petals = (640, 400), ("#e4572e", "#f3a712", "#a8c686", "#29a0b1", "#3d5a98", "#8e4585")

    def shapes(draw: Draw) -> None:
        _box(draw, (0, 0, *size), 0, fill="#ffffff")
        turn = np.linspace(0, 2 * np.pi, 240)
        for i, color in enumerate(petals):
            along, across = 62 + 60 * np.cos(turn), 27 * np.sin(turn)
            angle = np.pi / 3 * i - np.pi / 2
            x = 320 + along * np.cos(angle) - across * np.sin(angle)
            y = 150 + along * np.sin(angle) + across * np.cos(angle)
            draw.polygon(_scaled(zip(x, y, strict=True)), fill=color)
        _disc(draw, 320, 150, 24, fill="#ffffff")
        _disc(draw, 320, 150, 16, fill="#22313f")
        word = _font(64 * FINE, "Sans-Bold")
        draw.text(_scaled([(320, 325)])[0], "petals", "#22313f", word, anchor="mm")
        small = _font(17 * FINE, "Sans")
        draw.text(_scaled([(320, 374)])[0], "SIX COLOURS ARE ENOUGH", "#7b8a97", small, anchor="mm")

    return _shapes(size, shapes).convert("RGB")


def pixels() -> Image.Image:
    """A scene of a game in sixteen colours, each of its pixels drawn as four by four."""
    scene = Image.new("RGB", (160, 120), "#6ec6ff")
    draw, random = ImageDraw.Draw(scene), np.random.default_rng(5)
    for i, color in enumerate(("#8fd3ff", "#b3e5fc")):
        draw.rectangle((0, 40 + 16 * i, 160, 120), color)
    for x in range(0, 160, 2):  # dots between the bands of the sky
        draw.point([(x, 39), (x + 1, 38), (x, 55), (x + 1, 54)], "#b3e5fc")
    draw.ellipse((126, 8, 144, 26), "#fff59d")
    for x, y in ((18, 16), (70, 10), (104, 30)):
        for dx, dy, width in ((0, 4, 22), (4, 0, 12), (8, -3, 6)):
            draw.rectangle((x + dx, y + dy, x + dx + width, y + dy + 4), "#ffffff")
    for x in range(160):
        far = int(72 - 10 * np.sin(x / 22) - 4 * np.sin(x / 7))
        near = int(86 - 6 * np.sin(x / 15 + 2) - 2 * np.sin(x / 4))
        draw.line((x, far, x, 120), "#5d9c78")
        draw.line((x, near, x, 120), "#3e7d54")
    draw.rectangle((0, 100, 160, 104), "#7cb342")
    draw.rectangle((0, 104, 160, 120), "#795548")
    for _ in range(90):
        left, top, length = random.integers((0, 105, 0), (160, 119, 3)).tolist()
        draw.rectangle((left, top, left + length, top), "#5d4037")
    for x in range(0, 160, 3):
        draw.line((x, 99 - int(random.integers(0, 3)), x, 101), "#9ccc65")
    for x, y in ((12, 76), (132, 70)):
        draw.rectangle((x + 6, y + 12, x + 9, 100), "#5d4037")
        for dx, dy, side in ((0, 0, 15), (3, -6, 10), (-2, 6, 19)):
            draw.rectangle((x + dx, y + dy, x + dx + side, y + dy + 7), "#2e5d3b")
            draw.line((x + dx + 1, y + dy, x + dx + side - 3, y + dy), "#7cb342")
    draw.rectangle((56, 74, 92, 100), "#ffe0b2")
    draw.polygon([(52, 74), (74, 56), (96, 74)], "#d84343")
    draw.line((52, 74, 74, 56), "#ff8a80")
    draw.rectangle((68, 84, 78, 100), "#795548")
    for x in (60, 82):
        draw.rectangle((x, 80, x + 5, 86), "#6ec6ff", "#5d4037")
    sprite = ["..rrrr..", ".rrrrrr.", ".bwswsb.", ".ssssss.", "..ssss..", ".rrrrrr."]
    sprite += ["srrrrrrs", "s.bbbb.s", "..bbbb..", "..b..b..", ".bb..bb."]
    inks = {"r": "#d84343", "b": "#22313f", "w": "#ffffff", "s": "#ffe0b2"}
    for y, line in enumerate(sprite):
        for x, ink in enumerate(line):
            if ink in inks:
                draw.point((108 + x, 89 + y), inks[ink])
    return scene.resize((640, 480), Image.Resampling.NEAREST)


def sky() -> Image.Image:
    """Dusk with a soft glow, smooth everywhere."""
    width, height = 768, 512
    x, y = _coordinates(width, height)
    stops = {0: "#0b1b3f", 0.35: "#3b3f7d", 0.6: "#b4637a", 0.8: "#f2a65e", 1: "#ffe3a8"}
    colors = _blend(stops, (y + 0.12 * x - 0.05).clip(0, 1))
    glow = np.exp(-(((x - 0.68) / 0.22) ** 2) - ((y - 0.72) / 0.26) ** 2)[..., None]
    colors += glow * (np.array([255, 244, 214]) - colors) * 0.9
    return _picture(colors * (1 - 0.3 * ((x - 0.5) ** 2 + (y - 0.5) ** 2))[..., None])


def _glossy(size: int, top: str, bottom: str, paint: Callable[[Draw], object]) -> Image.Image:
    """A rounded tile of a blend of two colours with a white sign on it, and its shadow."""
    unit = size / 64
    x, y = _coordinates(size, size)
    box = (7 * unit, 5 * unit, 50 * unit, 50 * unit)
    tile = _shapes((size, size), lambda d: _box(d, box, 11 * unit, fill="#ffffff")).getchannel("A")
    black = Image.new("RGBA", (size, size), "#101828")
    icon = Image.new("RGBA", (size, size))
    shadow = Image.new("RGBA", (size, size))
    shadow.paste(black, (0, round(2.5 * unit)), tile.point(lambda a: a // 2))
    icon.alpha_composite(shadow.filter(ImageFilter.GaussianBlur(1.8 * unit)))
    shine = 34 * np.clip(1 - ((x - 0.4) ** 2 + (y - 0.1) ** 2) * 4, 0, 1)
    face = _picture(_blend({0: top, 1: bottom}, y) + shine[..., None]).convert("RGBA")
    face.putalpha(tile)
    icon.alpha_composite(face)
    icon.alpha_composite(_shapes((size, size), paint))
    return icon


def _sign(name: str, unit: float, draw: Draw) -> None:
    """A white sign in the middle of a tile of 64 units."""
    white, width = "#ffffff", round(4 * unit * FINE)

    def line(*points: tuple[float, float]) -> None:
        draw.line(_scaled((x * unit, y * unit) for x, y in points), white, width, "curve")
        for x, y in (points[0], points[-1]):
            _disc(draw, x * unit, y * unit, 2 * unit, fill=white)

    def disc(x: float, y: float, radius: float, fill: str = white) -> None:
        _disc(draw, x * unit, y * unit, radius * unit, fill=fill)

    if name == "mail":
        line((18, 20), (46, 20), (46, 40), (18, 40), (18, 20), (32, 32), (46, 20))
    elif name == "camera":
        _box(draw, (26 * unit, 17 * unit, 12 * unit, 8 * unit), 2 * unit, fill=white)
        _box(draw, (16 * unit, 21 * unit, 32 * unit, 22 * unit), 4 * unit, fill=white)
        disc(32, 32, 7.5, "#334155")
        disc(32, 32, 4.5, "#93c5fd")
    elif name == "clock":
        disc(32, 30, 15)
        disc(32, 30, 12, "#7c2d12")
        line((32, 21), (32, 30), (39, 34))
    elif name == "heart":
        turn = np.linspace(0, 2 * np.pi, 120)
        x = 16 * np.sin(turn) ** 3
        y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
        points = zip((32 + 0.85 * x) * unit, (29 - 0.85 * y) * unit, strict=True)
        draw.polygon(_scaled(points), fill=white)
    elif name == "check":
        line((20, 31), (28, 40), (45, 20))
    elif name == "search":
        disc(29, 27, 11.5)
        disc(29, 27, 7.5, "#0f766e")
        line((38, 36), (45, 44))
    elif name == "bars":
        for place, top in ((21, 34), (32, 26), (43, 18)):
            line((place, top), (place, 42))
    elif name == "note":
        disc(25, 40, 5)
        disc(42, 36, 5)
        line((28, 40), (28, 22), (45, 18), (45, 36))


def icon() -> Image.Image:
    """A camera on a blue tile with a shadow, and nothing around it."""
    return _glossy(256, "#60a5fa", "#1d4ed8", partial(_sign, "camera", 4.0))


def icons() -> Image.Image:
    """Eight signs on tiles of eight colours."""
    tiles = {
        "mail": ("#7dd3fc", "#0369a1"),
        "camera": ("#c4b5fd", "#5b21b6"),
        "clock": ("#fdba74", "#c2410c"),
        "heart": ("#fda4af", "#be123c"),
        "check": ("#86efac", "#15803d"),
        "search": ("#5eead4", "#0f766e"),
        "bars": ("#fde047", "#a16207"),
        "note": ("#cbd5e1", "#334155"),
    }
    sheet = Image.new("RGBA", (512, 256))
    for i, (name, colors) in enumerate(tiles.items()):
        tile = _glossy(128, *colors, partial(_sign, name, 2.0))
        sheet.paste(tile, (128 * (i % 4), 128 * (i // 4)))
    return sheet


DRAWINGS: dict[str, Callable[[], Image.Image]] = {
    f"drawn {draw.__name__}": draw
    for draw in (editor, player, chart, logo, pixels, sky, icon, icons)
}
"""By name."""
WITH_ALPHA = ("drawn icon", "drawn icons")
