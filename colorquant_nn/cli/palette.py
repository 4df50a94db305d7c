"""``colorquant palette``: one palette for all frames of all inputs."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from colorquant_nn.cli import report
from colorquant_nn.cli.fitting import count_for, fit
from colorquant_nn.cli.measures import error_of_colors, psnr
from colorquant_nn.cli.options import EXIT_BAD_INPUT, Fitting, Output, exit_code
from colorquant_nn.cli.paths import DRAWINGS, expand, settle
from colorquant_nn.files import check_suffix, write_atomically
from colorquant_nn.functional.histogram import WeightedColors
from colorquant_nn.palette_files import PALETTE_FORMATS
from colorquant_nn.palettes import encode_palette
from colorquant_nn.plot import rate_distortion

__all__ = ["palette"]

CURVE = (2, 4, 8, 16, 32, 64, 128, 256)


def palette(
    inputs: Sequence[str], fitting: Fitting, output: Output, color: str, *, max_pixels: int
) -> int:
    """Find one palette for all inputs.

    Args:
        inputs: pictures, or folders of them and their subfolders.
        fitting: how the palette is found.
        output: a palette file, and a picture for the plot.
        color: whether it is printed in colour: "auto", "always" or "never".
        max_pixels: that a frame may have.

    Returns:
        the exit code.
    """
    sources, failures = expand(inputs, output)
    file, picture = (None if name is None else Path(name) for name in (output.file, output.picture))
    if file is not None:
        check_suffix(file, PALETTE_FORMATS, "a palette")
    if picture is not None:
        check_suffix(picture, DRAWINGS, "a picture")
    settle(sources, {"-o": output.file, "--plot": output.picture}, output.force)
    start = time.perf_counter()
    counted, readable = count_for(fitting, sources, max_pixels)
    failures += len(sources) - len(readable)
    if counted is None:
        return EXIT_BAD_INPUT
    colors = fit(counted, fitting)
    seconds = time.perf_counter() - start
    files: dict[Path, bytes] = {}
    if file is not None:
        files[file] = encode_palette(file, colors)
    if picture is not None:
        files[picture] = report.encode(picture, _plot(counted, readable, fitting))
    write_atomically(files, replace=output.force)
    codes = report.hex_codes(colors)
    entry = {
        "inputs": [report.name_of(source) for source in readable],
        "output": output.file,
        "palette": codes,
        "seconds": round(seconds, 3),
    }
    colored = color == "always" or (
        color == "auto" and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    )
    text = report.terminal_swatch(colors) if colored else "\n".join(codes)
    report.tell(entry, text, output)
    return exit_code(len(readable), failures)


def _plot(counted: WeightedColors, sources: Sequence[Path], fitting: Fitting) -> Image.Image:
    """The error without dither over the number of colours, up to the first that has none."""
    curve: dict[int, float] = {}
    for number in [number for number in CURVE if number >= len(fitting.keep)] or [fitting.colors]:
        colors = fit(counted, fitting._replace(colors=number))
        curve[len(colors)] = psnr(error_of_colors(counted, colors, fitting.space))
        if curve[len(colors)] == math.inf:
            break
    title = report.file_name(sources[0]) if len(sources) == 1 else f"{len(sources)} pictures"
    return rate_distortion(curve, title)
