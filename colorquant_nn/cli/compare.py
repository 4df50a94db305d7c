"""``colorquant compare``: how two pictures or animations differ, a frame at a time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from colorquant_nn.cli import report
from colorquant_nn.cli.measures import JUDGES, DistinctColors, Errors, psnr
from colorquant_nn.cli.options import Output
from colorquant_nn.cli.paths import DRAWINGS, settle, to_source
from colorquant_nn.cli.ranks import read_image
from colorquant_nn.files import check_suffix, write_atomically
from colorquant_nn.io import FrameStream

__all__ = ["compare"]


def compare(original: str, other: str, output: Output, *, max_pixels: int) -> int:
    """Measure how two pictures, animations or documents differ.

    Args:
        original: a picture.
        other: one of the same size, with as many frames.
        output: a picture of both, side by side.
        max_pixels: that a frame may have.

    Returns:
        the exit code.
    """
    sources = [to_source(original), to_source(other)]
    picture = None if output.picture is None else Path(output.picture)
    if picture is not None:
        check_suffix(picture, DRAWINGS, "a picture")
    settle(sources, {"-o": output.picture}, output.force)
    entry, first = _differences(sources, max_pixels)
    if picture is not None:
        drawn = report.encode(picture, report.both(entry, first))
        write_atomically({picture: drawn}, replace=output.force)
    report.tell(entry, report.comparison_text(entry), output)
    return 0


def _differences(sources: list[Path], max_pixels: int) -> tuple[dict[str, Any], list[Tensor]]:
    """What there is to tell, with units as in ``quantize --json``; and the first frames."""
    names = [report.name_of(source) for source in sources]
    data = [read_image(source, max_pixels) for source in sources]
    streams = [
        FrameStream(content, name, max_pixels) for content, name in zip(data, names, strict=True)
    ]
    lengths = [len(stream) for stream in streams]
    if lengths[0] != lengths[1]:
        told = [f"{number} frame{'s' * (number != 1)}" for number in lengths]
        raise ValueError(
            f"expected as many frames in both, got {told[0]} in {names[0]} and {told[1]} in "
            f"{names[1]}"
        )
    errors = Errors(lengths[0], list(JUDGES))
    colors = [DistinctColors(), DistinctColors()]
    first: list[Tensor] = []
    for number, pair in enumerate(zip(*streams, strict=True)):
        images = [image for image, _ in pair]
        sizes = [f"{image.shape[2]} x {image.shape[1]}" for image in images]
        if sizes[0] != sizes[1]:
            frame = f" (frame {number + 1})" if lengths[0] > 1 else ""
            raise ValueError(
                f"expected pictures of one size, got {sizes[0]} in {names[0]} "
                f"and {sizes[1]} in {names[1]}{frame}"
            )
        errors.add(*images)
        for distinct, image in zip(colors, images, strict=True):
            distinct.add(image)
        first = first or images
    decibels = psnr(errors.mse)
    plays = [stream.plays for stream in streams]
    entry = {
        "inputs": names,
        "width": first[0].shape[2],
        "height": first[0].shape[1],
        "frames": lengths[0],
        "milliseconds": [sum(stream.durations) for stream in streams],
        "plays": plays,
        "same_timing": plays[0] == plays[1] and streams[0].durations == streams[1].durations,
        "bytes": [len(content) for content in data],
        "colors": [len(distinct) for distinct in colors],
        "mse": errors.mse,
        "psnr": decibels if decibels < math.inf else None,
        "ciede2000": errors.ciede2000,
        **errors.judged,
    }
    return entry, first
