"""``colorquant quantize``: every input is read once, and drawn and encoded a frame at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from colorquant_nn.cli import report
from colorquant_nn.cli.fitting import count_for, fit, move_for_dots
from colorquant_nn.cli.measures import DistinctColors, Errors, psnr
from colorquant_nn.cli.options import (
    Drawing,
    Fitting,
    Given,
    Goal,
    Output,
    boundary,
    exit_code,
    print_error,
)
from colorquant_nn.cli.paths import Job, plan, target_for
from colorquant_nn.cli.ranks import Read, read_image
from colorquant_nn.compression import compress_image
from colorquant_nn.files import STANDARD, write_atomically
from colorquant_nn.functional.gamut import fit_gamut, fit_lightness, lightness_range
from colorquant_nn.functional.histogram import count_each, merge_colors
from colorquant_nn.image import (
    QuantizedImage,
    draw_frames,
    match_palette,
    order_for_size,
    repaint,
    smallest_palette,
)
from colorquant_nn.io import FrameStream, encode_frames
from colorquant_nn.palettes import Panel, load_panel

__all__ = ["quantize"]

MOST_INDEXED = 256  # colours of a picture whose pixels are indices
MOST_JUDGED = 1 << 25  # pixels of a picture that --json judges as a whole, in seconds and gigabytes
RESOLUTION_BYTES = 21  # of a PNG, beside what `compress_image` counts

Frames = Iterable[tuple[Tensor, float]]
"""Pictures (C, H, W) uint8 with their milliseconds; each iteration may decode them anew."""

Draw = Callable[[Iterable[Tensor]], Iterable[QuantizedImage]]
"""Draws pictures one by one, in one palette."""


class Request(NamedTuple):
    """What is asked of each input."""

    fitting: Fitting
    drawing: Drawing
    output: Output
    panel: Panel | None
    """To draw in, instead of a palette that is fitted."""
    fit: str | None
    """What of the pictures is fitted to the panel: "gamut" or "lightness"."""
    goal: Goal
    max_pixels: int
    read: Read


def quantize(
    inputs: Sequence[str],
    fitting: Fitting,
    drawing: Drawing,
    output: Output,
    *,
    given: Given | None,
    shared: bool,
    goal: Goal,
    max_pixels: int,
) -> int:
    """Draw every input in few colours, into a file of its own.

    Args:
        inputs: pictures, or folders of them.
        fitting: how colours are found.
        drawing: how they are used.
        output: a file or a folder for the results, and one for comparisons.
        given: colours that are used instead.
        shared: whether all inputs have one palette.
        goal: what each is to reach.
        max_pixels: that a frame may have.

    Returns:
        the exit code.
    """
    jobs, failures = plan(inputs, output, [] if given is None else [given.palette])
    panel = None if given is None else load_panel(given.palette)
    read: Read = read_image
    if shared and jobs:
        read = _remember(read)
        counted, readable = count_for(fitting, [job.source for job in jobs], max_pixels, read)
        if counted is not None:
            images = _images_of(readable, max_pixels, read)
            colors = move_for_dots(fit(counted, fitting), images, fitting, drawing)
            panel = Panel(colors, colors)
        failures += len(jobs) - len(readable)
        jobs = [job for job in jobs if job.source in readable]
    if goal.min_psnr is not None and drawing.dither != "none" and drawing.strength > 0:
        print_error("warning: --min-psnr is reached before the dither, whose dots cost some of it")
    fits = None if given is None else given.fit
    request = Request(fitting, drawing, output, panel, fits, goal, max_pixels, read)
    several = len(jobs) + failures > 1
    totals = report.Totals()
    for job in report.progress(jobs, hidden=output.quiet):
        entry = None
        with boundary(report.name_of(job.source)) as outcome:
            entry = _quantize_file(job, request)
        failures += outcome.failures
        if entry is not None:
            totals.add(entry)
            text = report.summary_line(entry) if several else report.summary(entry)
            report.tell(entry, text, output, beside=job.target == STANDARD)
    if several and totals.done:
        report.tell({}, totals.line(failures), output)
    return exit_code(totals.done, failures)


def _quantize_file(job: Job, request: Request) -> dict[str, Any]:
    """Read, draw and write one input; what there is to tell of it."""
    start = time.perf_counter()
    output = request.output
    data = request.read(job.source, request.max_pixels)
    stream = FrameStream(data, report.name_of(job.source), request.max_pixels)
    target, suffix = target_for(job, len(stream), data)
    if request.goal.compresses:
        _check_compressible(len(stream), suffix)
    frames: Frames = list(stream) if len(stream) == 1 else stream
    resolution = None if output.strip else stream.resolution
    if request.goal.compresses:
        spared = 0 if resolution is None else RESOLUTION_BYTES
        draw: Draw = partial(map, partial(_compress, request, spared))
    else:
        palette = _palette_for(frames, request, suffix)
        draw = partial(draw_frames, palette=palette, **request.drawing._asdict())
    work = Work(frames, draw, request, len(stream), suffix)
    encoded = encode_frames(
        f"standard output{suffix}" if target == STANDARD else target,
        work,
        stream.durations,
        stream.plays,
        resolution=resolution,
        effort=request.fitting.effort,
    )
    skipped = output.skip_if_larger and len(encoded) >= len(data)
    entry = {
        "input": report.name_of(job.source),
        "output": "standard output" if target == STANDARD else str(target),
        "skipped": skipped,
        "bytes_before": len(data),
        "bytes_after": len(encoded),
        **work.measured(),
    }
    files: dict[Path, bytes] = {}
    if target == STANDARD:
        files[target] = data if skipped else encoded
    elif not skipped:
        files[target] = encoded
    if job.comparison is not None and not skipped:
        files[job.comparison] = report.encode(
            job.comparison, report.side_by_side(entry, *work.first)
        )
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(files, replace=output.force)
    return entry | {"seconds": round(time.perf_counter() - start, 4)}


def _check_compressible(frames: int, suffix: str) -> None:
    goals = "--max-bytes, --min-quality and --lossy are for .png stills"
    if frames > 1:
        raise ValueError(f"{goals}: expected one frame, got {frames}")
    if suffix != ".png":
        raise ValueError(f"{goals}: expected -o with a name that ends in .png, got {suffix}")


def _compress(request: Request, spared: int, image: Tensor) -> QuantizedImage:
    """A picture as its goals ask for, with some bytes to spare."""
    goal, fitting = request.goal, request.fitting
    try:
        return compress_image(
            image,
            max_bytes=None if goal.max_bytes is None else max(1, goal.max_bytes - spared),
            min_quality=goal.min_quality,
            lossy=goal.lossy,
            num_colors=fitting.colors,
            space=fitting.space,
            effort=fitting.effort,
            seed=fitting.seed,
        )
    except ValueError as error:
        if not spared or "max_bytes" not in str(error):
            raise
        raise ValueError(
            f"{error}; to the bytes add {spared} for the dots per inch, which --strip drops"
        ) from error


def _palette_for(frames: Frames, request: Request, suffix: str) -> Tensor:
    """The palette of all frames, in which each can be drawn."""
    if request.panel is not None:
        most = MOST_INDEXED if suffix in (".png", ".gif") else None
        return match_palette(request.panel.measured, frames, most=most, space=request.drawing.space)
    fitting = request.fitting
    if request.goal.min_psnr is None:
        palette = fit(merge_colors(count_each(frames)), fitting)
    else:
        palette = smallest_palette(
            (image for image, _ in frames),
            request.goal.min_psnr,
            max_colors=fitting.colors,
            space=fitting.space,
            effort=fitting.effort,
            seed=fitting.seed,
        )
    # A single picture is looked at as a whole.
    images = frames[0][0] if isinstance(frames, list) else (image for image, _ in frames)
    return move_for_dots(palette, images, fitting, request.drawing)


def _images_of(sources: Sequence[Path], max_pixels: int, read: Read) -> Iterator[Tensor]:
    """The pictures and frames of files that could be read before."""
    for source in sources:
        for image, _ in FrameStream(read(source, max_pixels), report.name_of(source), max_pixels):
            yield image


def _remember(read: Read) -> Read:
    """Reading that can be repeated: pipes and standard input are kept in memory."""
    kept: dict[Path, bytes] = {}

    def read_again(source: Path, max_pixels: int) -> bytes:
        if source in kept:
            return kept[source]
        data = read(source, max_pixels)
        if source == STANDARD or not source.is_file():
            kept[source] = data
        return data

    return read_again


def _fitter(frames: Frames, request: Request) -> Callable[[Tensor], Tensor]:
    """What is done to each frame before it is drawn."""
    if request.panel is None or request.fit is None:
        return lambda image: image
    palette = request.panel.measured
    if request.fit == "gamut":
        return partial(fit_gamut, palette=palette)
    bounds = lightness_range(image for image, _ in frames)
    return partial(fit_lightness, palette=palette, bounds=bounds)


def _judges(frames: Frames, request: Request) -> list[str]:
    """Who is asked how a still looks: they take longer than the rest."""
    if not isinstance(frames, list):
        return []
    told = request.output.json and frames[0][0][0].numel() <= MOST_JUDGED
    judges = ["visual_quality"] if told or request.goal.compresses else []
    return [*judges, "eye_error"] if told else judges


class Work:
    """Frames that are drawn in a palette and measured while they are iterated, once.

    Args:
        frames: to draw.
        draw: draws them.
        request: what is asked of them.
        number: of frames.
        suffix: of the file.

    What is measured, and `first`, is what is seen; what is iterated, what the file is to say.
    """

    first: tuple[Tensor, QuantizedImage]

    def __init__(
        self, frames: Frames, draw: Draw, request: Request, number: int, suffix: str
    ) -> None:
        self._frames, self._draw, self._number = frames, draw, number
        # Colours that nobody named have no order that anybody expects.
        fitting = request.fitting
        named = request.panel is not None or fitting.keep
        small = suffix == ".png" and fitting.effort != "fast" and not request.goal.compresses
        self._reorders = small and number == 1 and not named
        self._device = None
        if request.panel is not None and not request.panel.device.equal(request.panel.measured):
            self._device = request.panel.device
        self._fit = _fitter(frames, request)
        self._errors, self._colors = Errors(number, _judges(frames, request)), DistinctColors()
        self._counts = torch.zeros(1, dtype=torch.int64)

    def __iter__(self) -> Iterator[QuantizedImage]:
        for place, result in enumerate(self._draw(self._fitted())):
            image = self._image
            if self._reorders and len(result.palette) <= MOST_INDEXED:
                result = order_for_size(result)
            self._errors.add(image, result.rgb)
            self._colors.add(image)
            found = result.indices.flatten().bincount(minlength=len(result.palette))
            self._counts = self._counts + found
            written = result if self._device is None else repaint(result, self._device)
            if place == 0:
                self.first, self._written = (image, result), written.palette
            yield written

    def _fitted(self) -> Iterator[Tensor]:
        for image, _ in self._frames:
            self._image = image
            yield self._fit(image)

    def measured(self) -> dict[str, Any]:
        """What there is to tell, as ``--json`` prints it.

        Errors are of the colours over white. ``mse`` is in units of the range [0, 1], ``psnr`` in
        dB (None: no error). ``visual_quality``, in units of SSIMULACRA2, and ``eye_error`` are of
        stills (None: not asked for). ``device`` are the colours that the file says, where a display
        shows those of ``palette`` for them (None: the same ones).
        """
        decibels, judged = psnr(self._errors.mse), self._errors.judged
        image, result = self.first
        return {
            "width": image.shape[2],
            "height": image.shape[1],
            "frames": self._number,
            "colors_before": len(self._colors),
            "colors_after": int((self._counts > 0).sum()),
            "mse": self._errors.mse,
            "psnr": decibels if decibels < float("inf") else None,
            "ciede2000": self._errors.ciede2000,
            "eye_error": judged.get("eye_error"),
            "visual_quality": judged.get("visual_quality"),
            "palette": report.hex_codes(result.palette),
            "device": None if self._device is None else report.hex_codes(self._written),
            "counts": self._counts.tolist(),
        }
