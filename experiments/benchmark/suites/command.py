"""``colorquant quantize`` from file to file, beyond `import torch`, which all of torch pays."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn.functional import interpolate

from colorquant_nn import apply_palette, fit_palette, save_frames, save_image
from experiments.benchmark.case import CHECKOUT, Case, Options, Run, Seconds
from experiments.benchmark.suites.images import LIBIMAGEQUANT
from experiments.benchmark.suites.pictures import load, names

COLORS = 64
OURS = "colorquant quantize"
PILLOW = "Pillow, median cut"
# Each in a process of its own, which tells seconds, seconds of the processors, and MiB.
MEASURED = """
import sys, time
{before}
def memory(key):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024
base, wall, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
{work}
print(time.perf_counter() - wall, time.process_time() - cpu, memory("VmHWM") - base)
"""
PEER = """
from pathlib import Path
from PIL import Image, ImageSequence
source, target, colors = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
{how}
for file in sorted(source.iterdir()) if source.is_dir() else [source]:
    with Image.open(file) as image:
        frames = [few(frame.convert("RGBA" if "A" in image.mode else "RGB"))
                  for frame in ImageSequence.Iterator(image)]
    place = target / file.name if target.is_dir() else target
    frames[0].save(place, save_all=len(frames) > 1, append_images=frames[1:])
"""
METHODS = {
    OURS: MEASURED.format(
        before="import torch",
        work="from colorquant_nn.cli import main\n"
        "assert main(['quantize', sys.argv[1], '-o', sys.argv[2], '-k', sys.argv[3], '-fq',"
        " '--space', 'rgb', '--dither', 'none']) == 0",
    ),
    LIBIMAGEQUANT: MEASURED.format(
        before="",
        work=PEER.format(
            how="import imagequant\n"
            "def few(image): return imagequant.quantize_pil_image(\n"
            "    image.convert('RGBA'), dithering_level=0.0, max_colors=colors)"
        ),
    ),
    PILLOW: MEASURED.format(
        before="",
        work=PEER.format(
            how="def few(image): return image.quantize(\n"
            "    colors, 2 if image.mode == 'RGBA' else 0, dither=0)"
        ),
    ),
}


class Spent(Seconds):
    """Seconds that passed, with what else a process took."""

    processors: float
    """In seconds."""
    memory: float
    """In MiB, at the peak."""


class Files(NamedTuple):
    """What is quantized, in a folder that is there as long as this lives."""

    folder: "tempfile.TemporaryDirectory[str]"
    source: Path
    target: Path


def cases(options: Options) -> list[Case]:
    """A photograph, an icon, a folder of photographs, an animation."""
    frames, width, height = (3, 80, 45) if options.quick else (300, 800, 450)
    makers: dict[str, Callable[[Options, Path], str]] = {
        "a photograph": save_photo,
        "an icon, 32 x 32": save_icon,
        f"a folder of {len(names(options))} photographs": save_folder,
        f"an animation, {frames} x {width} x {height}, GIF": partial(
            save_film, frames=frames, width=width, height=height
        ),
    }
    return [
        Case(
            f"{name}, K={COLORS}",
            {method: partial(_prepare, code, make, options) for method, code in METHODS.items()},
            ours=(OURS,),
            judge=lambda spent: {"processors, s": spent.processors, "memory, MiB": spent.memory},
            budget=20.0,
            least=1,
            most=5,
            once=True,
        )
        for name, make in makers.items()
    ]


def _prepare(code: str, make: Callable[[Options, Path], str], options: Options) -> Run:
    folder = tempfile.TemporaryDirectory()
    place = Path(folder.name)
    source = place / make(options, place)
    target = place / f"result{source.suffix}"
    if source.is_dir():
        target.mkdir()
    files = Files(folder, source, target)

    def run() -> Spent:
        command = [sys.executable, "-c", code, str(files.source), str(files.target), str(COLORS)]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1]
            if "No module named" in reason:
                raise ModuleNotFoundError(reason, name=reason.split("'")[1])
            raise RuntimeError(reason)
        seconds, processors, memory = map(float, done.stdout.split())
        spent = Spent(seconds)
        spent.processors, spent.memory = processors, memory
        return spent

    run()  # compiles what is not yet, and tells what is not installed
    return run


def save_photo(options: Options, place: Path) -> str:
    """Into a folder; its name."""
    save_image(place / "photo.png", load(names(options)[0], options.quick))
    return "photo.png"


def save_icon(options: Options, place: Path) -> str:
    """A round one, with soft edges."""
    picture = load(names(options)[0])[None].float() / 255
    small = interpolate(picture, (32, 32), mode="area")[0]
    rows = torch.linspace(-1, 1, 32)
    round_edge = ((1 - (rows[:, None] ** 2 + rows**2).sqrt()) * 8 + 1).clamp(0, 1)
    save_image(place / "icon.png", torch.cat([small, round_edge[None]]))
    return "icon.png"


def save_folder(options: Options, place: Path) -> str:
    """All pictures."""
    (place / "photos").mkdir()
    for name in names(options):
        save_image(place / "photos" / f"{Path(name).stem}.png", load(name, options.quick))
    return "photos"


def save_film(options: Options, place: Path, frames: int, width: int, height: int) -> str:
    """A window that pans over a photograph."""
    picture = load(names(options)[0])[None].float() / 255
    picture = interpolate(picture, (height + frames, width + 2 * frames), mode="bilinear")[0]
    palette = fit_palette(picture, 128, space="rgb")
    drawn = (
        apply_palette(
            picture[:, row : row + height, 2 * row : 2 * row + width], palette, space="rgb"
        )
        for row in range(frames)
    )
    save_frames(place / "film.gif", drawn, [40] * frames, plays=0)
    return "film.gif"
