"""What the commands tell: summaries as text and as JSON, swatches in the terminal."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from colorquant_nn.cli.options import Output, shown
from colorquant_nn.cli.paths import DRAWINGS
from colorquant_nn.files import STANDARD
from colorquant_nn.image import QuantizedImage
from colorquant_nn.io import palette_array
from colorquant_nn.plot import comparison, is_light

COLORS_IN_A_LINE = 8
GROUND = 240  # the grey below colours that are not opaque


def tell(entry: Mapping[str, Any], text: str, output: Output, beside: bool = False) -> None:
    """Print what was measured: for programs on a line of JSON, or for people.

    Args:
        entry: what was measured, by name; nothing where it is for people alone.
        text: the same for people, on lines.
        output: says for whom.
        beside: whether it goes to stderr, since a picture goes to standard output.
    """
    file = sys.stderr if beside else sys.stdout
    line = (json.dumps(entry) if entry else "") if output.json else "" if output.quiet else text
    if line:
        with tqdm.external_write_mode(file=file):  # the bar, if any, makes room
            print(line, file=file, flush=True)


def summary(entry: Mapping[str, Any]) -> str:
    """One input on a few lines."""
    before, after = entry["bytes_before"], entry["bytes_after"]
    frames = f", {entry['frames']} frames" if entry["frames"] > 1 else ""
    quality = entry["visual_quality"]
    return "\n".join(
        [
            f"{shown(entry['input'])} -> {_target(entry)}",
            f"  size       {before:,} -> {after:,} bytes ({share(after, before)}){_larger(entry)}",
            f"  colours    {entry['colors_before']:,} -> {entry['colors_after']:,}{frames}",
            f"  MSE        {entry['mse']:.6f}",
            f"  PSNR       {decibels(entry['psnr'])}",
            f"  CIEDE2000  {entry['ciede2000']:.2f}",
            *([] if quality is None else [f"  quality    {quality:.1f} (SSIMULACRA2)"]),
            f"  time       {entry['seconds']:.2f} s",
        ]
    )


def summary_line(entry: Mapping[str, Any]) -> str:
    """One input of several on one line."""
    quality = entry["visual_quality"]
    told = "" if quality is None else f", quality {quality:.1f}"
    return (
        f"{_target(entry)}: {short_size(entry['bytes_before'])} -> "
        f"{short_size(entry['bytes_after'])}{_larger(entry)}, {colors(entry['colors_after'])}, "
        f"{decibels(entry['psnr'])}{told}, {entry['seconds']:.2f} s"
    )


class Totals:
    """What several inputs add up to."""

    def __init__(self) -> None:
        self.done = self.skipped = self.before = self.after = 0

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count an input that was written, or was skipped since it would be no smaller."""
        self.done += 1
        self.skipped += entry["skipped"]
        self.before += entry["bytes_before"]
        self.after += entry["bytes_before" if entry["skipped"] else "bytes_after"]

    def line(self, failures: int) -> str:
        """For people."""
        parts = [f"{self.done} picture{'s' * (self.done != 1)}"]
        parts += [f"{self.skipped} of them skipped"] * bool(self.skipped)
        parts += [f"{failures} failed"] * bool(failures)
        sizes = f"{short_size(self.before)} -> {short_size(self.after)}"
        return f"{', '.join(parts)}: {sizes} ({share(self.after, self.before)})"


def comparison_text(entry: Mapping[str, Any]) -> str:
    """What `compare` found, on a few lines."""
    names = [shown(name) for name in entry["inputs"]]
    first, second = entry["bytes"]
    frames = f", {entry['frames']} frames" if entry["frames"] > 1 else ""
    lines = [
        f"{names[0]} and {names[1]}, {entry['width']} x {entry['height']}{frames}",
        f"  size       {first:,} and {second:,} bytes ({share(second, first)})",
        f"  colours    {entry['colors'][0]:,} and {entry['colors'][1]:,}",
        f"  MSE        {entry['mse']:.6f}",
        f"  PSNR       {decibels(entry['psnr'])}",
        f"  SSIM       {entry['ssim']:.4f}",
        f"  CIEDE2000  {entry['ciede2000']:.2f}",
        f"  eye error  {entry['eye_error']:.2f}",
        f"  quality    {entry['visual_quality']:.1f}",
        "  (PSNR: pixels; SSIM: structure; CIEDE2000: colours; "
        "eye error: the look at arm's length, through dots;",
        "  quality: our estimate of SSIMULACRA2, of which 100 is the original, 70 high, 30 low)",
    ]
    if not entry["same_timing"]:
        told = [
            f"{milliseconds / 1000:.2f} s {_plays(plays)}"
            for milliseconds, plays in zip(entry["milliseconds"], entry["plays"], strict=True)
        ]
        other = ", but not of each frame" if told[0] == told[1] else ""
        lines.append(f"  timing     {told[0]} and {told[1]}{other}")
    return "\n".join(lines)


def side_by_side(entry: Mapping[str, Any], image: Tensor, result: QuantizedImage) -> Image.Image:
    """Original, quantized and the palette with its shares; of several frames the first."""
    quality = f"{decibels(entry['psnr'])}, CIEDE2000 {entry['ciede2000']:.2f}"
    frame = "" if entry["frames"] == 1 else f"first of {entry['frames']} frames, "
    captions = [
        f"original, {colors(entry['colors_before'])}\n"
        f"{frame}{short_size(entry['bytes_before'])}, {file_name(entry['input'])}",
        f"quantized, {colors(entry['colors_after'])}\n"
        f"{frame}{short_size(entry['bytes_after'])}, {quality}",
    ]
    images = dict(zip(captions, (image, result.rgb), strict=True))
    return comparison(images, palette=result.palette, counts=torch.tensor(entry["counts"]))


def both(entry: Mapping[str, Any], images: Sequence[Tensor]) -> Image.Image:
    """Two pictures that were compared; of several frames the first."""
    frame = "" if entry["frames"] == 1 else f"first of {entry['frames']} frames, "
    facts = [
        f"{frame}{short_size(size)}, {colors(number)}"
        for size, number in zip(entry["bytes"], entry["colors"], strict=True)
    ]
    facts[1] += f", {decibels(entry['psnr'])}"
    captions = [
        f"{file_name(name)}\n{fact}" for name, fact in zip(entry["inputs"], facts, strict=True)
    ]
    return comparison(dict(zip(captions, images, strict=True)))


def terminal_swatch(palette: Tensor) -> str:
    """The colours as 24-bit escape sequences, eight to a line; over light grey."""
    cells = []
    for code, row in zip(hex_codes(palette), palette_array(palette).tolist(), strict=True):
        alpha = row[3] / 255 if len(row) == 4 else 1.0
        seen = [round(value * alpha + GROUND * (1 - alpha)) for value in row[:3]]
        ink = "0;0;0" if is_light(seen) else "255;255;255"
        ground = ";".join(map(str, seen))
        cells.append(f"\x1b[48;2;{ground}m\x1b[38;2;{ink}m {code} \x1b[0m")
    lines = [cells[i : i + COLORS_IN_A_LINE] for i in range(0, len(cells), COLORS_IN_A_LINE)]
    return "\n".join("".join(line) for line in lines)


def hex_codes(palette: Tensor) -> list[str]:
    """``#rrggbb`` of each colour, ``#rrggbbaa`` with alpha."""
    return [f"#{bytes(row).hex()}" for row in palette_array(palette)]


def colors(number: int) -> str:
    """For people."""
    return f"{number:,} colour{'s' * (number != 1)}"


def decibels(psnr: float | None) -> str:
    """For people."""
    return "no error" if psnr is None else f"{psnr:.2f} dB"


def share(part: int, whole: int) -> str:
    """For people."""
    return f"{100 * part / whole:.1f} %"


def name_of(source: Path) -> str:
    """What messages call an input."""
    return "standard input" if source == STANDARD else str(source)


def file_name(name: str | Path) -> str:
    """Of a path, for people."""
    return shown(Path(name).name)


def short_size(size: int) -> str:
    """Bytes in the unit that suits them."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.2f} MB"


def progress(items: Sequence[Any], hidden: bool = False) -> Any:
    """A bar on a terminal, nothing in a pipe or for one item."""
    hidden = hidden or len(items) < 2 or not sys.stderr.isatty()
    return tqdm(items, unit="file", leave=False, disable=hidden)


def encode(path: Path, picture: Image.Image) -> bytes:
    """The content of a comparison or a plot, in the format that the file's name asks for."""
    file = io.BytesIO()
    picture.save(file, DRAWINGS[path.suffix.lower()], quality=95, optimize=True)
    return file.getvalue()


def _target(entry: Mapping[str, Any]) -> str:
    name = shown(entry["output"])
    return f"{name}: skipped, would be no smaller" if entry["skipped"] else name


def _larger(entry: Mapping[str, Any]) -> str:
    is_larger = entry["bytes_after"] > entry["bytes_before"] and not entry["skipped"]
    return ", larger" if is_larger else ""


def _plays(plays: int) -> str:
    return {0: "for ever", 1: "once"}.get(plays, f"{plays} times")
