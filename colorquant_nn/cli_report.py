"""What the commands tell: measures, summaries as text, swatches in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from colorquant_nn.functional import metrics
from colorquant_nn.io import palette_array

if TYPE_CHECKING:
    from PIL import Image

    from colorquant_nn.image import QuantizedImage

BAND_PIXELS = 1 << 20  # measured at once: pictures may be larger than memory likes
SAMPLED_PIXELS = 1 << 20  # CIEDE2000 is slow; its mean over a grid of pixels is exact enough
COLORS_IN_A_LINE = 8


def measure(
    source: Path,
    target: Path,
    images: Sequence[Tensor],
    results: Sequence[QuantizedImage],
    seconds: float,
) -> dict[str, Any]:
    """The summary of one input, as ``--json`` prints it.

    Errors are of the colours over white. ``mse`` is in units of the range [0, 1], ``psnr`` in
    dB (None: no error).
    """
    pixels = [image.shape[1] * image.shape[2] for image in images]
    pairs = [(image, result.rgb) for image, result in zip(images, results, strict=True)]

    def mean(values: list[float]) -> float:
        return float(np.average(values, weights=pixels))

    error = mean([mean_squared_error(*pair) for pair in pairs])
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
        "bytes_before": source.stat().st_size,
        "bytes_after": target.stat().st_size,
        "colors_before": count_colors(images),
        "colors_after": int((counts > 0).sum()),
        "mse": error,
        "psnr": _finite(psnr_of(error)),
        "ciede2000": mean([mean_ciede2000(*pair) for pair in pairs]),
        "seconds": round(seconds, 4),
        "palette": hex_codes(palette),
        "counts": counts.tolist(),
    }


def differences(paths: Sequence[Path], images: Sequence[Tensor]) -> dict[str, Any]:
    """What ``colorquant compare`` prints; units as in `measure`."""
    error = mean_squared_error(*images)
    return {
        "inputs": [str(path) for path in paths],
        "width": images[0].shape[2],
        "height": images[0].shape[1],
        "bytes": [path.stat().st_size for path in paths],
        "colors": [count_colors([image]) for image in images],
        "mse": error,
        "psnr": _finite(psnr_of(error)),
        "ssim": metrics.ssim(*[_over_white(image) for image in images]).item(),
        "ciede2000": mean_ciede2000(*images),
    }


def summary(entry: dict[str, Any]) -> str:
    """One input on a few lines."""
    before, after = entry["bytes_before"], entry["bytes_after"]
    frames = f", {entry['frames']} frames" if entry["frames"] > 1 else ""
    return "\n".join(
        [
            f"{entry['input']} -> {entry['output']}",
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
        f"{entry['output']}: {short_size(entry['bytes_before'])} -> "
        f"{short_size(entry['bytes_after'])}, {entry['colors_after']} colours, "
        f"{decibels(entry['psnr'])}, {entry['seconds']:.2f} s"
    )


def comparison_text(entry: dict[str, Any]) -> str:
    """What `differences` found, on a few lines."""
    first, second = entry["bytes"]
    return "\n".join(
        [
            f"{entry['inputs'][0]} and {entry['inputs'][1]}, {entry['width']} x {entry['height']}",
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
    from colorquant_nn.plot import comparison

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
        ink = "0;0;0" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "255;255;255"
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


def mean_squared_error(image: Tensor, other: Tensor) -> float:
    """`metrics.mse` over white, a band of rows at a time."""
    return _mean_over_bands(metrics.mse, image, other)


def mean_ciede2000(image: Tensor, other: Tensor) -> float:
    """`metrics.mean_ciede2000` over white, of a regular grid of pixels in a large picture."""
    step = math.ceil(math.sqrt(image.shape[1] * image.shape[2] / SAMPLED_PIXELS))
    image, other = image[:, ::step, ::step], other[:, ::step, ::step]
    return _mean_over_bands(metrics.mean_ciede2000, image, other)


def psnr_of(mse: float) -> float:
    """PSNR in dB for a peak of 1."""
    return -10 * math.log10(mse) if mse > 0 else math.inf


def decibels(psnr: float | None) -> str:
    """For people."""
    return "no error" if psnr is None else f"{psnr:.2f} dB"


def short_size(size: int) -> str:
    """Bytes in the unit that suits them."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.2f} MB"


def _mean_over_bands(measure: Any, image: Tensor, other: Tensor) -> float:
    rows = max(1, BAND_PIXELS // image.shape[2])
    total = 0.0
    for top in range(0, image.shape[1], rows):
        band, other_band = image[:, top : top + rows], other[:, top : top + rows]
        mean = measure(_over_white(band), _over_white(other_band)).item()
        total += mean * band.shape[1]
    return total / image.shape[1]


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
