"""The smallest file at a quality: curves of bytes over quality, of photographs and of drawings.

A method is a curve: the picture at several numbers of colours, qualities or losses. Every PNG, ours
too, is written plainly and then goes through ``oxipng -o4``; what is judged are the pixels that
Pillow reads out of the file.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import colorquant_nn
from colorquant_nn import QuantizedImage, quantize_image, save_image
from colorquant_nn.functional import eye_error, psnr, visual_quality
from colorquant_nn.names import Dither, Space
from experiments.benchmark.case import Case, Options, Run
from experiments.benchmark.suites import drawings, eye
from experiments.benchmark.suites.images import WARM_UP, draw_with_libimagequant
from experiments.benchmark.suites.pictures import load, names

COUNTS = (8, 16, 32, 64, 128, 256)
LOSSES = (0, 2, 5, 10, 20, 50, 100, 200)  # prices of a bit, of errors weighed by what masks them
LOSSES_RGB = (0, 5, 20, 50, 200, 500, 1000, 2000)  # and of plain ones
BUDGETS = (0.5, 0.25, 0.12)  # of the file in 256 colours without dither
QUALITIES = (20, 40, 60, 75, 85, 92)  # of WebP and JPEG
OPTIMISED = 4  # oxipng's level
EQUAL = 99.0  # dB, of pixels that are the same

PNGQUANT, PNGQUANT_NOFS = "pngquant", "pngquant --nofs"  # its engine, libimagequant
PILLOW, PILLOW_DITHER = "Pillow", "Pillow, floyd-steinberg"
NONE, NONE_RGB, AUTO = "ours, none, oklab", "ours, none, rgb", "ours, auto, oklab"
LOSSY, LOSSY_RGB, MAX_BYTES = "ours, lossy, oklab", "ours, lossy, rgb", "ours, max_bytes"
WEBP, WEBP_LOSSLESS, JPEG, PNG = "WebP", "WebP, lossless", "JPEG", "PNG, all colours"

Drawn = Image.Image | QuantizedImage | bytes
"""A picture that is to become a PNG, or a file."""
Draw = Callable[[float], Drawn | None]
"""Draws a picture at a setting; None if that is refused, as a budget that no file keeps."""
Method = Callable[[Tensor], Draw]
"""Of a picture (3, H, W) uint8, or (4, H, W) with alpha."""


class Curve(NamedTuple):
    """A method, and what it is asked for."""

    method: Method
    settings: Sequence[float]
    alpha: bool = True
    """Whether pictures with alpha can be drawn."""


class Point(NamedTuple):
    """What a method made at one setting."""

    setting: float
    drawn: Drawn
    seconds: float


def cases(options: Options) -> list[Case]:
    """Every photograph, then every drawing."""
    drawn = list(drawings.DRAWINGS)  # each is another kind: ``every`` leaves them out of account
    return [_case(name, options) for name in names(options) + drawn[-1 if options.quick else 0 :]]


def curves() -> dict[str, Curve]:
    """By name."""
    return {
        PNGQUANT: Curve(partial(_libimagequant, 1.0), COUNTS),
        PNGQUANT_NOFS: Curve(partial(_libimagequant, 0.0), COUNTS),
        PILLOW: Curve(_pillow, COUNTS),
        PILLOW_DITHER: Curve(_pillow_dither, COUNTS, alpha=False),
        NONE: Curve(partial(_ours, "none", "oklab"), COUNTS),
        NONE_RGB: Curve(partial(_ours, "none", "rgb"), COUNTS),
        AUTO: Curve(partial(_ours, "auto", "oklab"), COUNTS),
        LOSSY: Curve(partial(_lossy, "oklab"), LOSSES),
        LOSSY_RGB: Curve(partial(_lossy, "rgb"), LOSSES_RGB),
        MAX_BYTES: Curve(_within, BUDGETS),
        WEBP: Curve(partial(_encoded, "WEBP"), QUALITIES),
        WEBP_LOSSLESS: Curve(partial(_encoded, "WEBP", lossless=True), (100,)),
        JPEG: Curve(partial(_encoded, "JPEG"), QUALITIES, alpha=False),
        PNG: Curve(lambda image: lambda _: to_pillow(image), (0,)),
    }


@lru_cache(maxsize=1)
def picture(name: str, options: Options) -> Tensor:
    """(3, H, W) uint8, or (4, H, W) with alpha; the corner alone for toy sizes."""
    if name not in drawings.DRAWINGS:
        return load(name, options.quick)
    image = drawings.load(name)
    return image[:, :48, :64].contiguous() if options.quick else image


def _case(name: str, options: Options) -> Case:
    drawn = name in drawings.DRAWINGS
    methods = {
        method: curve
        for method, curve in curves().items()
        if curve.alpha or name not in drawings.WITH_ALPHA
    }
    return Case(
        Path(name).stem,
        {method: partial(_prepare, curve, name, options) for method, curve in methods.items()},
        ours=tuple(method for method in methods if method.startswith("ours")),
        judge=partial(judge, name, options),
        labels={"picture": Path(name).stem, "kind": "drawings" if drawn else "photographs"},
        least=1,
        most=1,
        together=True,
        once=True,
    )


def _prepare(curve: Curve, name: str, options: Options) -> Run:
    image = picture(name, options)
    ends = (curve.settings[0], curve.settings[-1])[: len(curve.settings)]
    settings = ends if options.quick else curve.settings
    random = torch.Generator().manual_seed(0)  # noise: the corners of drawings are of one colour
    size = (len(image), WARM_UP, WARM_UP)
    noise = torch.randint(256, size, dtype=torch.uint8, generator=random)
    for setting in ends:  # few colours and many take different ways
        curve.method(noise)(setting)
    draw = curve.method(image)

    def run() -> list[Point]:
        points = []
        for setting in settings:
            start = time.perf_counter()
            drawn = draw(setting)
            if drawn is not None:
                points.append(Point(setting, drawn, time.perf_counter() - start))
        return points

    return run


def judge(name: str, options: Options, points: Sequence[Point]) -> Mapping[str, Any]:
    """What the files weigh, and how the pictures in them look beside the original.

    Args:
        name: of the picture.
        options: of the run.
        points: of a curve.

    Returns:
        Lists, a value for each point: ``setting``, ``bytes``, ``psnr`` in dB, ``ssimulacra2`` as
        `visual_quality` has it, ``package``, what its package says of one point of the curve, where
        it is installed (else None: it takes forty times as long), ``eye`` (the error), ``clock`` in
        seconds; of ours ``saved``, the bytes that `save_image` writes; and ``megapixels``. With
        alpha the picture is looked at over white and over black: the worse of both, and for PSNR
        the mean.
    """
    image = picture(name, options)
    grounds = over(image)

    def look(point: Point) -> dict[str, float | None]:
        file = encode(point.drawn)
        shown = Image.open(BytesIO(file)).convert("RGBA" if len(image) == 4 else "RGB")
        pairs = list(zip(over(from_pillow(shown)), grounds, strict=True))
        found: dict[str, float | None] = {"setting": point.setting, "bytes": len(file)}
        decibels = [min(psnr(seen, ground).item(), EQUAL) for seen, ground in pairs]
        found["psnr"] = sum(decibels) / len(decibels)
        found["eye"] = max(eye_error(seen, ground).item() for seen, ground in pairs)
        found["ssimulacra2"] = min(visual_quality(seen, ground).item() for seen, ground in pairs)
        found["package"] = None
        if point is points[len(points) // 2]:
            verdicts = [eye.ssimulacra2(seen, ground) for seen, ground in pairs]
            found["package"] = min((x for x in verdicts if x is not None), default=None)
        found["clock"] = point.seconds
        if isinstance(point.drawn, QuantizedImage):
            with TemporaryDirectory() as folder:
                save_image(f"{folder}/ours.png", point.drawn)
                found["saved"] = Path(folder, "ours.png").stat().st_size
        return found

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        rows = list(threads.map(look, points))
    megapixels = image[0].numel() / 1e6
    keys = rows[0] if rows else ("setting", "bytes", "clock", "saved")
    return {key: [row[key] for row in rows] for key in keys} | {"megapixels": megapixels}


def encode(drawn: Drawn) -> bytes:
    """The file: of what is none yet, a PNG that has gone through oxipng."""
    import oxipng

    if isinstance(drawn, bytes):
        return drawn
    if isinstance(drawn, QuantizedImage):
        palette = (drawn.palette * 255).round().byte().numpy()
        drawn = indexed(drawn.indices.byte().numpy(), palette)
    file = BytesIO()
    drawn.save(file, "PNG", compress_level=1)
    return bytes(oxipng.optimize_from_memory(file.getvalue(), level=OPTIMISED))


def indexed(indices: Any, palette: Any) -> Image.Image:
    """A picture of indices (H, W) and a palette (K, 3) or (K, 4), uint8."""
    found = Image.fromarray(indices).convert("P")
    found.putpalette(palette[:, :3].tobytes())
    if palette.shape[1] == 4:
        found.info["transparency"] = palette[:, 3].tobytes()
    return found


def over(image: Tensor) -> list[Tensor]:
    """The picture, or, with alpha, what is seen of it over white and over black."""
    if len(image) == 3:
        return [image]
    alpha = image[3:].float() / 255
    grounds = (255.0, 0.0)
    return [(image[:3] * alpha + ground * (1 - alpha)).round().byte() for ground in grounds]


def to_pillow(image: Tensor) -> Image.Image:
    """Of (3, H, W) or (4, H, W) uint8."""
    return Image.fromarray(np.ascontiguousarray(image.movedim(0, -1).numpy()))


def from_pillow(image: Image.Image) -> Tensor:
    """(3, H, W) or (4, H, W) uint8."""
    return torch.from_numpy(np.array(image)).movedim(-1, 0)


def _libimagequant(dither: float, image: Tensor) -> Draw:
    return lambda colors: indexed(*draw_with_libimagequant(image, int(colors), dither)())


def _pillow(image: Tensor) -> Draw:
    """Median cut; with alpha, where Pillow has none, its octree."""
    source = to_pillow(image)
    return lambda colors: source.quantize(int(colors))


def _pillow_dither(image: Tensor) -> Draw:
    source = to_pillow(image)

    def draw(colors: float) -> Drawn:
        palette = source.quantize(int(colors))
        return source.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)

    return draw


def _ours(dither: Dither, space: Space, image: Tensor) -> Draw:
    return lambda colors: quantize_image(image, int(colors), space=space, dither=dither)


def _lossy(space: Space, image: Tensor) -> Draw:
    compress = colorquant_nn.compress_image
    return lambda loss: compress(image, lossy=loss, space=space)  # type: ignore[no-any-return]


def _within(image: Tensor) -> Draw:
    compress = colorquant_nn.compress_image
    whole = len(encode(quantize_image(image, COUNTS[-1])))

    def draw(part: float) -> Drawn | None:
        with suppress(ValueError):  # what small drawings need for their headers alone
            return compress(image, max_bytes=int(part * whole))  # type: ignore[no-any-return]
        return None

    return draw


def _encoded(suffix: str, image: Tensor, **how: Any) -> Draw:
    source = to_pillow(image)

    def draw(quality: float) -> Drawn:
        file = BytesIO()
        source.save(file, suffix, quality=int(quality), **how)
        return file.getvalue()

    return draw
