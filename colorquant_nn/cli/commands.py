"""What ``colorquant quantize``, ``palette`` and ``compare`` do: read, call the library, write."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from colorquant_nn.cli import report
from colorquant_nn.cli.options import (
    EXIT_BAD_INPUT,
    EXIT_SOME_FAILED,
    Drawing,
    Fitting,
    Output,
    boundary,
)
from colorquant_nn.cli.paths import DRAWINGS, Job, expand, plan, settle, target_for, to_source
from colorquant_nn.cli.ranks import count_files
from colorquant_nn.files import check_suffix, read_file, write_atomically
from colorquant_nn.functional.fitting import round_to_bytes
from colorquant_nn.functional.histogram import WeightedColors, count
from colorquant_nn.functional.points import check_kept
from colorquant_nn.image import (
    QuantizedImage,
    apply_palette,
    fit_palette,
    match_palette,
    quantize_frames,
    smallest_palette,
)
from colorquant_nn.io import Frames, FrameStream, encode_frames, load_frames
from colorquant_nn.palette_files import PALETTE_FORMATS
from colorquant_nn.palettes import encode_palette, load_palette
from colorquant_nn.plot import comparison, rate_distortion

__all__ = ["compare", "palette", "quantize"]

CURVE = (2, 4, 8, 16, 32, 64, 128, 256)


def quantize(
    inputs: Sequence[str],
    fitting: Fitting,
    drawing: Drawing,
    output: Output,
    *,
    palette: str | None,
    shared: bool,
    min_psnr: float | None,
    max_pixels: int,
) -> int:
    """``colorquant quantize``: every input into a file of its own.

    Args:
        inputs: pictures, or folders of them.
        fitting: how colours are found.
        drawing: how they are used.
        output: a file or a folder for the results, and one for comparisons.
        palette: a name or a file whose colours are used instead.
        shared: whether all inputs have one palette.
        min_psnr: in dB, that is to be reached with the fewest colours instead.
        max_pixels: that a frame may have.

    Returns:
        the exit code.
    """
    jobs, failures = plan(inputs, output, [] if palette is None else [palette])
    several = len(jobs) + failures > 1
    given = None if palette is None else load_palette(palette)
    if shared and jobs:
        given, readable = _fit([job.source for job in jobs], fitting)
        failures += len(jobs) - len(readable)
        jobs = [job for job in jobs if job.source in readable]
    entries: list[dict[str, Any]] = []
    for job in report.progress(jobs):
        with boundary(job.source) as outcome:
            entry = _quantize_file(job, fitting, drawing, given, min_psnr, output.force)
            entries.append(entry)
            if not output.json and not output.quiet:
                text = report.summary_line(entry) if several else report.summary(entry)
                stream = sys.stderr if str(job.target) == "-" else sys.stdout
                tqdm.write(text, file=stream)
        failures += outcome.failures
    if output.json:
        is_piped = any(str(job.target) == "-" for job in jobs)
        print(json.dumps(entries, indent=2), file=sys.stderr if is_piped else sys.stdout)
    return _exit_code(len(entries), failures)


def palette(
    inputs: Sequence[str], fitting: Fitting, output: Output, color: str, *, max_pixels: int
) -> int:
    """``colorquant palette``: one palette for all inputs.

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
    for path, formats, what in (
        (output.file, PALETTE_FORMATS, "a palette"),
        (output.picture, DRAWINGS, "a picture"),
    ):
        if path is not None:
            check_suffix(path, formats, what)
    settle(sources, {"-o": output.file, "--plot": output.picture}, output.force)
    start = time.perf_counter()
    colors, readable = _fit(sources, fitting)
    if colors is None:
        return EXIT_BAD_INPUT
    seconds = time.perf_counter() - start
    files: dict[str, bytes] = {}
    if output.file is not None:
        files[output.file] = encode_palette(output.file, colors)
    if output.picture is not None:
        files[output.picture] = _encode_picture(output.picture, _plot(readable, fitting))
    write_atomically(files, replace=output.force)
    if output.json:
        entry = {
            "inputs": [str(source) for source in readable],
            "output": output.file,
            "palette": report.hex_codes(colors),
            "seconds": round(seconds, 3),
        }
        print(json.dumps(entry, indent=2))
    else:
        colored = color == "always" or (
            color == "auto" and sys.stdout.isatty() and "NO_COLOR" not in os.environ
        )
        print(report.terminal_swatch(colors) if colored else "\n".join(report.hex_codes(colors)))
    return _exit_code(len(readable), failures + len(sources) - len(readable))


def compare(original: str, other: str, output: Output, *, max_pixels: int) -> int:
    """``colorquant compare``: how two pictures differ.

    Args:
        original: a picture.
        other: a picture of the same size.
        output: a picture of both, side by side.
        max_pixels: that a frame may have.

    Returns:
        the exit code.
    """
    paths = [to_source(original), to_source(other)]
    if output.picture is not None:
        check_suffix(output.picture, DRAWINGS, "a picture")
    settle(paths, {"-o": output.picture}, output.force)
    contents = [read_file(path, "an image") for path in paths]
    images = [
        next(iter(FrameStream(data, str(path))))[0]
        for path, data in zip(paths, contents, strict=True)
    ]
    sizes = [f"{image.shape[2]} x {image.shape[1]}" for image in images]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"expected pictures of one size, got {sizes[0]} in {paths[0]} "
            f"and {sizes[1]} in {paths[1]}"
        )
    entry = report.differences(paths, [len(data) for data in contents], images)
    if output.picture is not None:
        size = [report.short_size(value) for value in entry["bytes"]]
        colors = [f"{value:,} colours" for value in entry["colors"]]
        captions = [
            f"{path.name}\n{a}, {b}" for path, a, b in zip(paths, size, colors, strict=True)
        ]
        captions[1] += f", {report.decibels(entry['psnr'])}"
        if captions[0] == captions[1]:
            captions[1] += " (again)"
        drawn = comparison(dict(zip(captions, images, strict=True)))
        write_atomically({output.picture: _encode_picture(output.picture, drawn)}, output.force)
    print(json.dumps(entry, indent=2) if output.json else report.comparison_text(entry))
    return 0


def _quantize_file(
    job: Job,
    fitting: Fitting,
    drawing: Drawing,
    given: Tensor | None,
    min_psnr: float | None,
    force: bool,
) -> dict[str, Any]:
    start = time.perf_counter()
    data = read_file(job.source, "an image")
    stream = FrameStream(data, str(job.source))
    frames = Frames([image for image, _ in stream], stream.durations, stream.plays)
    target, suffix = target_for(job, len(frames.images), data)
    if min_psnr is not None:
        given = smallest_palette(
            frames.images,
            min_psnr,
            space=fitting.space,
            effort=fitting.effort,
            seed=fitting.seed,
        )
    if given is None:
        results = quantize_frames(
            frames.images,
            fitting.colors,
            **drawing._asdict(),
            effort=fitting.effort,
            keep=_kept(fitting),
            seed=fitting.seed,
        )
    else:
        results = _draw(frames.images, given, drawing)
    place = f"-{suffix}" if str(target) == "-" else target
    files = {target: encode_frames(place, results, frames.durations, frames.plays)}
    seconds = time.perf_counter() - start
    entry = report.measure(
        job.source, target, (len(data), len(files[target])), frames.images, results, seconds
    )
    if job.comparison is not None:
        drawn = report.side_by_side(entry, frames.images[0], results[0])
        files[job.comparison] = _encode_picture(job.comparison, drawn)
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(files, replace=force)
    return entry


def _fit(sources: Sequence[Path], fitting: Fitting) -> tuple[Tensor | None, list[Path]]:
    """One palette for files, None if none can be read, and the files that can be."""
    check_kept(_kept(fitting), fitting.colors)  # before all files are read
    colors, readable = count_files(sources)
    return None if colors is None else _fit_colors(colors, fitting), readable


def _fit_colors(colors: WeightedColors, fitting: Fitting) -> Tensor:
    """One palette for the colours of images, in the 8 bits that files hold."""
    palette = fit_palette(
        colors,
        fitting.colors,
        space=fitting.space,
        effort=fitting.effort,
        keep=_kept(fitting),
        seed=fitting.seed,
    )
    return round_to_bytes(palette)


def _kept(fitting: Fitting) -> Tensor | None:
    """The colours to keep, (J, 3), or (J, 4) if one of them is not opaque."""
    if not fitting.keep:
        return None
    rows = torch.tensor([(*color, 255)[:4] for color in fitting.keep], dtype=torch.uint8)
    return rows[:, :3] if bool((rows[:, 3] == 255).all()) else rows


def _draw(images: Sequence[Tensor], palette: Tensor, drawing: Drawing) -> list[QuantizedImage]:
    colors = match_palette(palette, images, most=256, space=drawing.space)
    return [apply_palette(image, colors, **drawing._asdict()) for image in images]


def _plot(sources: Sequence[Path], fitting: Fitting) -> Image.Image:
    """The error of `quantize` over the number of colours, up to the first that has none."""
    images = [image for source in sources for image in load_frames(source).images]
    counted = count(images)
    drawing = Drawing(fitting.space, "none", 1.0)
    curve: dict[int, float] = {}
    for number in [number for number in CURVE if number >= len(fitting.keep)] or [fitting.colors]:
        colors = _fit_colors(counted, fitting._replace(colors=number))
        drawn = [result.rgb for result in _draw(images, colors, drawing)]
        curve[len(colors)] = report.psnr(report.mean_squared_error(images, drawn))
        if curve[len(colors)] == float("inf"):
            break
    title = sources[0].name if len(sources) == 1 else f"{len(sources)} pictures"
    return rate_distortion(curve, title)


def _encode_picture(path: str | Path, picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, DRAWINGS[Path(path).suffix.lower()], quality=95, optimize=True)
    return file.getvalue()


def _exit_code(done: int, failures: int) -> int:
    if not failures:
        return 0
    return EXIT_SOME_FAILED if done else EXIT_BAD_INPUT
