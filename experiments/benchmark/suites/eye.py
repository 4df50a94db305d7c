"""What people see: few colours and panels of fixed colours, judged at arm's length."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from colorquant_nn import apply_palette, load_panel, quantize_image
from colorquant_nn.functional import eye_error, psnr
from colorquant_nn.names import Dither, Space
from experiments.benchmark.case import Case, Options, Run
from experiments.benchmark.suites.images import WARM_UP, draw_with_libimagequant
from experiments.benchmark.suites.pictures import load, names

COUNTS = (4, 8, 16, 32, 64)
FINE = 256  # colours, where few dots are needed
PANEL = (480, 800)
PANELS = ("acep7", "spectra6")

PNGQUANT = "libimagequant, dither"  # pngquant's engine, and its default
SEARCH = "epaper-dithering, search"
NONE, EARLIER = "ours, none, oklab", "ours, none, rgb"
SPATIAL, AUTO = "ours, spatial, oklab", "ours, auto, oklab"
FLOYD_STEINBERG: Dither = "floyd-steinberg"
DITHERS: tuple[Dither, ...] = get_args(Dither)
SPACES: tuple[Space, ...] = get_args(Space)

Method = Callable[[Tensor, Any], Callable[[], Tensor]]
"""Of a picture (3, H, W) uint8 and the number of colours, or the colours (K, 3) of a panel; what
it returns draws the picture in them."""


def cases(options: Options) -> list[Case]:
    """Every picture at several K, then on every panel."""
    counts = COUNTS[:1] if options.quick else (*COUNTS, FINE)
    files = names(options)
    found = []
    for name in files:
        for colors in counts:
            methods = fine_methods() if colors == FINE else photograph_methods()
            seconds = 1.0 if colors <= 16 else 1.5
            found.append(_case(name, f"K={colors}", methods, colors, seconds, options))
    for name in files:
        for panel in PANELS:
            palette = load_panel(panel).measured
            found.append(_case(name, panel, panel_methods(), palette, 0.3, options))
    return found


def photograph_methods() -> dict[str, Method]:
    """By name, those that choose the palette too."""
    ours: list[tuple[Dither, Space]] = [(dither, "oklab") for dither in DITHERS]
    both: tuple[Dither, ...] = ("none", FLOYD_STEINBERG)
    ours += [(dither, space) for dither in both for space in SPACES if space != "oklab"]
    return {
        PNGQUANT: _libimagequant,
        "Pillow median cut, floyd-steinberg": _pillow,
        **{f"ours, {dither}, {space}": partial(_ours, dither, space) for dither, space in ours},
    }


def fine_methods() -> dict[str, Method]:
    """By name, those that are compared where few dots are needed."""
    methods = photograph_methods()
    undithered = [f"ours, none, {space}" for space in SPACES]
    return {name: methods[name] for name in (PNGQUANT, *undithered, AUTO)}


def panel_methods() -> dict[str, Method]:
    """By name, those that draw in given colours."""
    return {
        "epaper-dithering, burkes": partial(_epaper, "BURKES", False),
        "epaper-dithering, floyd-steinberg": partial(_epaper, "FLOYD_STEINBERG", False),
        SEARCH: partial(_epaper, "BURKES", True),
        **{f"ours, {dither}, oklab": partial(_drawn, dither) for dither in DITHERS},
    }


def _case(
    name: str,
    palette: str,
    methods: Mapping[str, Method],
    colors: Any,
    seconds: float,
    options: Options,
) -> Case:
    on_panel = not isinstance(colors, int)
    return Case(
        f"{Path(name).stem}, {palette}",
        {
            method: partial(_prepare, draw, name, colors, options)
            for method, draw in methods.items()
        },
        ours=tuple(method for method in methods if method.startswith("ours")),
        limits={SPATIAL: seconds},
        judge=partial(judge, name, on_panel, options),
        labels={"picture": Path(name).stem, "palette": palette},
        budget=0.3,
        least=1,
        most=3,
        once=True,
    )


def _prepare(draw: Method, name: str, colors: Any, options: Options) -> Run:
    image = picture(name, not isinstance(colors, int), options)
    draw(image[:, :WARM_UP, :WARM_UP].contiguous(), colors)()
    return draw(image, colors)


def picture(name: str, on_panel: bool, options: Options) -> Tensor:
    """(3, H, W) uint8; for a panel scaled to its width, and its middle."""
    image = load(name, options.quick)
    if options.quick or not on_panel:
        return image
    height, width = PANEL
    scale = max(height / image.shape[1], width / image.shape[2])
    size = [round(side * scale) for side in image.shape[1:]]
    scaled = interpolate(image[None].float(), size, mode="bicubic", antialias=True)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    middle = scaled[:, top : top + height, left : left + width]
    return middle.round().clamp(0, 255).to(torch.uint8)


def judge(name: str, on_panel: bool, options: Options, drawn: Tensor) -> Mapping[str, float]:
    """Eye error at 40 pixels a degree, PSNR, and SSIMULACRA2 where its package is installed."""
    original = picture(name, on_panel, options)
    found = {
        "eye": eye_error(drawn, original).item(),
        "psnr": psnr(drawn, original).item(),
    }
    liked = ssimulacra2(drawn, original)
    return found | ({} if liked is None else {"ssimulacra2": liked})


def ssimulacra2(drawn: Tensor, original: Tensor) -> float | None:
    """Of (3, H, W) uint8 both; None where the package is not installed."""
    with contextlib.suppress(ModuleNotFoundError):
        from ssimulacra2 import compute_ssimulacra2

        files = [BytesIO(), BytesIO()]
        for file, image in zip(files, (original, drawn), strict=True):
            _to_pillow(image).save(file, "PNG", compress_level=1)
        return float(compute_ssimulacra2(*files))
    return None


def _ours(dither: Dither, space: Space, image: Tensor, colors: int) -> Callable[[], Tensor]:
    return lambda: quantize_image(image, colors, space=space, dither=dither).rgb


def _drawn(dither: Dither, image: Tensor, palette: Tensor) -> Callable[[], Tensor]:
    return lambda: apply_palette(image, palette, space="oklab", dither=dither).rgb


def _libimagequant(image: Tensor, colors: int) -> Callable[[], Tensor]:
    draw = draw_with_libimagequant(image, colors, 1.0)

    def paint() -> Tensor:
        indices, palette = draw()
        return torch.from_numpy(palette[indices]).movedim(-1, 0)

    return paint


def _pillow(image: Tensor, colors: int) -> Callable[[], Tensor]:
    source = _to_pillow(image)

    def draw() -> Tensor:
        palette = source.quantize(colors, Image.Quantize.MEDIANCUT)
        return _from_pillow(source.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))

    return draw


def _epaper(mode: str, search: bool, image: Tensor, palette: Tensor) -> Callable[[], Tensor]:
    from epaper_dithering import ColorPalette, DitherMode, dither_image

    rows = (palette * 255).round().int().tolist()
    inks = ColorPalette({str(i): tuple(row) for i, row in enumerate(rows)}, accent="0")
    source, how = _to_pillow(image), DitherMode[mode]
    return lambda: _from_pillow(dither_image(source, inks, mode=how, dbs=search))


def _to_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image.movedim(0, -1).numpy()))


def _from_pillow(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0)
