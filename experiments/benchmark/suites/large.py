"""A picture of 24 megapixels, in memory and from file to file."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from colorquant_nn import apply_palette, fit_palette, load_image, save_image
from colorquant_nn.functional import eye_error
from experiments.benchmark.case import CHECKOUT, OURS, Case, Options, Run
from experiments.benchmark.suites import eye
from experiments.benchmark.suites.images import (
    LIBIMAGEQUANT,
    WARM_UP,
    libimagequant,
    mse,
    ours_quantized,
)
from experiments.benchmark.suites.pictures import load, names

COLORS = 256
FEW = 16
COMMAND, STAGES = "colorquant quantize, a process", "load, fit, apply, save"
CODE = """
import sys
from colorquant_nn.cli import main
assert main(sys.argv[1:]) == 0
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def cases(options: Options) -> list[Case]:
    """The fit and the assignment; then files, with where the seconds go."""
    height, width = (40, 60) if options.quick else (4000, 6000)
    shape = f"{width} x {height}, K={COLORS}"
    return [
        Case(
            f"palette and picture in memory, {shape}",
            {
                OURS: partial(_in_memory, ours_quantized, height, width, options),
                LIBIMAGEQUANT: partial(_in_memory, libimagequant, height, width, options),
            },
            points=height * width,
            targets={LIBIMAGEQUANT: 2},
            judge=lambda palette: {"mse": mse(mosaic(height, width, options), palette)},
        ),
        *_dots(height, width, options),
        Case(
            f"file to indexed PNG, {shape}",
            {
                COMMAND: partial(_command, height, width, options),
                STAGES: partial(_stages, height, width, options),
            },
            ours=(COMMAND, STAGES),
            judge=dict,
            budget=1.0,
            least=2,
        ),
    ]


def _dots(height: int, width: int, options: Options) -> list[Case]:
    """Palette and dots together."""
    ways = eye.photograph_methods()
    return [
        Case(
            f"palette and dots in memory, {height} x {width}, K={FEW}",
            {
                way: partial(_in_memory, ways[way], height, width, options, FEW)
                for way in (eye.SPATIAL, eye.PNGQUANT)
            },
            ours=(eye.SPATIAL,),
            points=height * width,
            limits={eye.SPATIAL: 60},
            judge=lambda drawn: {
                "eye error": eye_error(drawn, mosaic(height, width, options)).item()
            },
            budget=1.0,
            least=1,
            once=True,
        )
    ]


def mosaic(height: int, width: int, options: Options) -> Tensor:
    """All pictures side by side, again and again: (3, height, width) uint8."""
    pictures = [load(name) for name in names(options)]
    pictures = [x if x.shape[2] >= x.shape[1] else x.transpose(1, 2) for x in pictures]
    rows, columns = (min(x.shape[side] for x in pictures) for side in (1, 2))
    tiles = [x[:, :rows, :columns] for x in pictures]
    across, down = -(-width // columns), -(-height // rows)
    tiles *= -(-across * down // len(tiles))
    bands = [torch.cat(tiles[i * across : (i + 1) * across], 2) for i in range(down)]
    return torch.cat(bands, 1)[:, :height, :width].contiguous()


def _in_memory(find: Any, height: int, width: int, options: Options, colors: int = COLORS) -> Run:
    image = mosaic(height, width, options)
    find(image[:, :WARM_UP, :WARM_UP].contiguous(), colors)()
    run: Run = find(image, colors)
    return run


class _Files:
    """A mosaic in a file, and a place for the result, as long as this lives."""

    def __init__(self, height: int, width: int, options: Options) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.source = f"{self.folder.name}/mosaic.png"
        self.target = f"{self.folder.name}/quantized.png"
        save_image(self.source, mosaic(height, width, options))


def _command(height: int, width: int, options: Options) -> Run:
    files = _Files(height, width, options)

    def run() -> Mapping[str, float]:
        arguments = ["quantize", files.source, "-k", str(COLORS), "-o", files.target, "--force"]
        arguments += ["--space", "rgb", "--dither", "none"]  # as the rows in memory
        command = [sys.executable, "-c", CODE, *arguments]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
        peak = int(done.stdout.split()[-1]) * 1024
        return {"peak of the process, MiB": peak / 2**20}

    return run


def _stages(height: int, width: int, options: Options) -> Run:
    files = _Files(height, width, options)

    def run() -> Mapping[str, float]:
        clock = [time.perf_counter()]
        image = load_image(files.source)
        clock.append(time.perf_counter())
        palette = fit_palette(image, COLORS, space="rgb")
        clock.append(time.perf_counter())
        result = apply_palette(image, palette, space="rgb")
        clock.append(time.perf_counter())
        save_image(files.target, result)
        clock.append(time.perf_counter())
        stages = ("load, s", "fit, s", "apply, s", "save, s")
        return {name: clock[i + 1] - clock[i] for i, name in enumerate(stages)}

    return run
