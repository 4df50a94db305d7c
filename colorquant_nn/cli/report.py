"""What the commands tell: measures, summaries as text, swatches in the terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from colorquant_nn.cli.options import print_error, shown
from colorquant_nn.functional import metrics
from colorquant_nn.image import QuantizedImage
from colorquant_nn.io import palette_array
from colorquant_nn.plot import comparison, is_light

BAND_PIXELS = 1 << 20  # measured at once: pictures may be larger than memory likes
SAMPLED_PIXELS = 1 << 20  # CIEDE2000 is slow; its mean over a grid of pixels is exact enough
COLORS_IN_A_LINE = 8


def measure(
    source: Path,
    target: Path,
    sizes: tuple[int, int],
    images: Sequence[Tensor],
    results: Sequence[QuantizedImage],
    seconds: float,
) -> dict[str, Any]:
    """The summary of one input, as ``--json`` prints it.

    Errors are of the colours over white. ``mse`` is in units of the range [0, 1], ``psnr`` in
    dB (None: no error).

    Args:
        source: the file that was read.
        target: the file that is written.
        sizes: of both, in bytes.
        images: the frames of the source.
        results: the frames of the target.
        seconds: that it took.

    Returns:
        what was measured, by name.
    """
    drawn = [result.rgb for result in results]
    error = mean_squared_error(images, drawn)
    palette = results[0].palette
    counts = torch.zeros(len(palette), dtype=torch.int64)
    for result in results:
        counts += result.indices.flatten().bincount(minlength=len(palette)).cpu()
    return {
        "input": str(source),
        "output": str(target),
        "width": images[0].shape[2],
        "height": images[0].shape[1],
        "frames": len(images),
        "bytes_before": sizes[0],
        "bytes_after": sizes[1],
        "colors_before": count_colors(images),
        "colors_after": int((counts > 0).sum()),
        "mse": error,
        "psnr": _finite(psnr(error)),
        "ciede2000": mean_ciede2000(images, drawn),
        "seconds": round(seconds, 4),
        "palette": hex_codes(palette),
        "counts": counts.tolist(),
    }


def differences(
    paths: Sequence[Path], sizes: Sequence[int], images: Sequence[Tensor]
) -> dict[str, Any]:
    """What ``colorquant compare`` prints; units as in `measure`."""
    original, other = ([image] for image in images)
    error = mean_squared_error(original, other)
    return {
        "inputs": [str(path) for path in paths],
        "width": images[0].shape[2],
        "height": images[0].shape[1],
        "bytes": list(sizes),
        "colors": [count_colors([image]) for image in images],
        "mse": error,
        "psnr": _finite(psnr(error)),
        "ssim": metrics.ssim(*[_over_white(image) for image in images]).item(),
        "ciede2000": mean_ciede2000(original, other),
    }


def summary(entry: dict[str, Any]) -> str:
    """One input on a few lines."""
    before, after = entry["bytes_before"], entry["bytes_after"]
    frames = f", {entry['frames']} frames" if entry["frames"] > 1 else ""
    return "\n".join(
        [
            f"{shown(entry['input'])} -> {shown(entry['output'])}",
            f"  size       {before:,} -> {after:,} bytes ({100 * after / before:.1f} %)",
            f"  colours    {entry['colors_before']:,} -> {entry['colors_after']:,}{frames}",
            f"  MSE        {entry['mse']:.6f}",
            f"  PSNR       {decibels(entry['psnr'])}",
            f"  CIEDE2000  {entry['ciede2000']:.2f}",
            f"  time       {entry['seconds']:.2f} s",
        ]
    )


def summary_line(entry: dict[str, Any]) -> str:
    """One input of several on one line."""
    return (
        f"{shown(entry['output'])}: {short_size(entry['bytes_before'])} -> "
        f"{short_size(entry['bytes_after'])}, {entry['colors_after']} colours, "
        f"{decibels(entry['psnr'])}, {entry['seconds']:.2f} s"
    )


def comparison_text(entry: dict[str, Any]) -> str:
    """What `differences` found, on a few lines."""
    first, second = entry["bytes"]
    return "\n".join(
        [
            f"{' and '.join(map(shown, entry['inputs']))}, {entry['width']} x {entry['height']}",
            f"  size       {first:,} and {second:,} bytes ({100 * second / first:.1f} %)",
            f"  colours    {entry['colors'][0]:,} and {entry['colors'][1]:,}",
            f"  MSE        {entry['mse']:.6f}",
            f"  PSNR       {decibels(entry['psnr'])}",
            f"  SSIM       {entry['ssim']:.4f}",
            f"  CIEDE2000  {entry['ciede2000']:.2f}",
        ]
    )


def side_by_side(entry: dict[str, Any], image: Tensor, result: QuantizedImage) -> Image.Image:
    """Original, quantized and the palette with its shares."""
    count = entry["colors_after"]
    quality = f"{decibels(entry['psnr'])}, CIEDE2000 {entry['ciede2000']:.2f}"
    captions = [
        f"original, {entry['colors_before']:,} colours\n"
        f"{Path(entry['input']).name}, {short_size(entry['bytes_before'])}",
        f"quantized, {count} colour{'s' * (count != 1)}\n"
        f"{short_size(entry['bytes_after'])}, {quality}",
    ]
    counts = torch.tensor(entry["counts"])
    images = dict(zip(captions, (image, result.rgb), strict=True))
    return comparison(images, palette=result.palette, counts=counts)


def terminal_swatch(palette: Tensor) -> str:
    """The colours as 24-bit escape sequences, eight to a line."""
    cells = []
    for code, (red, green, blue) in zip(
        hex_codes(palette), palette_array(palette)[:, :3].tolist(), strict=True
    ):
        ink = "0;0;0" if is_light((red, green, blue)) else "255;255;255"
        cells.append(f"\x1b[48;2;{red};{green};{blue}m\x1b[38;2;{ink}m {code} \x1b[0m")
    lines = [cells[i : i + COLORS_IN_A_LINE] for i in range(0, len(cells), COLORS_IN_A_LINE)]
    return "\n".join("".join(line) for line in lines)


def hex_codes(palette: Tensor) -> list[str]:
    """``#rrggbb`` of each colour, ``#rrggbbaa`` with alpha."""
    return [f"#{bytes(row).hex()}" for row in palette_array(palette)]


def count_colors(images: Sequence[Tensor]) -> int:
    """Distinct colours of uint8 pictures; all that are fully transparent are one."""
    if all(image.shape[0] == 3 for image in images):
        seen = np.zeros(1 << 24, bool)
        for image in images:
            seen[_pack(image)] = True
        return int(seen.sum())
    distinct = [np.unique(_pack(image)) for image in images]
    return len(np.unique(np.concatenate(distinct)))


def mean_squared_error(images: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """`metrics.mse` of the pixels of all frames over white, a band of rows at a time."""
    return _mean_over_bands(metrics.mse, images, others)


def mean_ciede2000(images: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """`metrics.mean_ciede2000` likewise, of a regular grid of pixels in a large picture."""
    return _mean_over_bands(metrics.mean_ciede2000, images, others, SAMPLED_PIXELS)


def psnr(mse: float) -> float:
    """In dB, for a peak of 1."""
    return float(metrics.mse_to_psnr(torch.tensor(mse, dtype=torch.float64)))


def decibels(psnr: float | None) -> str:
    """For people."""
    return "no error" if psnr is None else f"{psnr:.2f} dB"


def short_size(size: int) -> str:
    """Bytes in the unit that suits them."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.2f} MB"


def progress(items: Sequence[Any], hidden: bool = False) -> Any:
    """A bar on a terminal, nothing in a pipe or for one item."""
    hidden = hidden or len(items) < 2 or not sys.stderr.isatty()
    return tqdm(items, unit="file", leave=False, disable=hidden)


def report_failure(error: object) -> int:
    """Print the line of an error of one input; 1, to be added up."""
    with tqdm.external_write_mode(file=sys.stderr):  # the bar, if any, makes room
        print_error(error)
    return 1


def _mean_over_bands(
    measure: Callable[[Tensor, Tensor], Tensor],
    images: Sequence[Tensor],
    others: Sequence[Tensor],
    sampled: float = math.inf,
) -> float:
    total = pixels = 0.0
    for image, other in zip(images, others, strict=True):
        height, width = image.shape[1:]
        step = math.ceil(math.sqrt(height * width / sampled)) or 1
        rows = max(1, BAND_PIXELS // width) * step
        mean = 0.0
        for top in range(0, height, rows):
            band, other_band = (
                _over_white(each[:, top : top + rows : step, ::step]) for each in (image, other)
            )
            mean += measure(band, other_band).item() * band.shape[1]
        total += mean / math.ceil(height / step) * height * width
        pixels += height * width
    return total / pixels


def _over_white(image: Tensor) -> Tensor:
    if not image.is_floating_point():
        image = image.to(torch.float32) / 255
    if image.shape[0] == 3:
        return image
    return image[:3] * image[3:] + (1 - image[3:])


def _pack(image: Tensor) -> Any:
    """Each pixel as one number."""
    codes = np.zeros(image[0].numel(), np.uint32)
    for channel in image:
        codes <<= 8
        codes |= channel.flatten().numpy()
    if image.shape[0] == 4:
        codes[codes & 0xFF == 0] = 0
    return codes


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
