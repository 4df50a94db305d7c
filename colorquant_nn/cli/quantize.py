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
    Output,
    boundary,
    exit_code,
    print_error,
)
from colorquant_nn.cli.paths import Job, plan, target_for
from colorquant_nn.cli.ranks import Read, read_image
from colorquant_nn.files import STANDARD, write_atomically
from colorquant_nn.functional import spatial
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

Frames = Iterable[tuple[Tensor, float]]
"""Pictures (C, H, W) uint8 with their milliseconds; each iteration may decode them anew."""


class Request(NamedTuple):
    """What is asked of each input."""

    fitting: Fitting
    drawing: Drawing
    output: Output
    panel: Panel | None
    """To draw in, instead of a palette that is fitted."""
    fit: str | None
    """What of the pictures is fitted to the panel: "gamut" or "lightness"."""
    min_psnr: float | None
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
    min_psnr: float | None,
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
        min_psnr: in dB, that is to be reached with the fewest colours instead.
        max_pixels: that a frame may have.

    Returns:
        the exit code.
    """
    spatial.shows_progress = not output.quiet
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
    if min_psnr is not None and drawing.dither != "none" and drawing.strength > 0:
        print_error("warning: --min-psnr is reached before the dither, whose dots cost some of it")
    fits = None if given is None else given.fit
    request = Request(fitting, drawing, output, panel, fits, min_psnr, max_pixels, read)
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
    frames: Frames = list(stream) if len(stream) == 1 else stream
    palette = _palette_for(frames, request, suffix)
    work = Work(frames, palette, request, len(stream), suffix)
    encoded = encode_frames(
        f"standard output{suffix}" if target == STANDARD else target,
        work,
        stream.durations,
        stream.plays,
        resolution=None if output.strip else stream.resolution,
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


def _palette_for(frames: Frames, request: Request, suffix: str) -> Tensor:
    """The palette of all frames, in which each can be drawn."""
    if request.panel is not None:
        most = MOST_INDEXED if suffix in (".png", ".gif") else None
        return match_palette(request.panel.measured, frames, most=most, space=request.drawing.space)
    fitting = request.fitting
    if request.min_psnr is None:
        palette = fit(merge_colors(count_each(frames)), fitting)
    else:
        palette = smallest_palette(
            (image for image, _ in frames),
            request.min_psnr,
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


class Work:
    """Frames that are drawn in a palette and measured while they are iterated, once.

    Args:
        frames: to draw.
        palette: (K, C), to draw them in.
        request: how.
        number: of frames.
        suffix: of the file.

    What is measured, and `first`, is what is seen; what is iterated, what the file is to say.
    """

    first: tuple[Tensor, QuantizedImage]

    def __init__(
        self, frames: Frames, palette: Tensor, request: Request, number: int, suffix: str
    ) -> None:
        self._frames, self._palette, self._number = frames, palette, number
        # Colours that nobody named have no order that anybody expects.
        fitting = request.fitting
        named = request.panel is not None or fitting.keep
        small = suffix == ".png" and fitting.effort != "fast"
        self._reorders = small and number == 1 and len(palette) <= MOST_INDEXED and not named
        self._drawing, self._device = request.drawing, None
        if request.panel is not None and not request.panel.device.equal(request.panel.measured):
            self._device = request.panel.device
        self._fit = _fitter(frames, request)
        self._errors, self._colors = Errors(number), DistinctColors()
        self._counts = torch.zeros(len(palette), dtype=torch.int64)

    def __iter__(self) -> Iterator[QuantizedImage]:
        drawn = draw_frames(self._fitted(), self._palette, **self._drawing._asdict())
        for place, result in enumerate(drawn):
            image = self._image
            if self._reorders:
                result = order_for_size(result)
            self._errors.add(image, result.rgb)
            self._colors.add(image)
            self._counts += result.indices.flatten().bincount(minlength=len(self._counts))
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
        dB (None: no error). ``device`` are the colours that the file says, where a display shows
        those of ``palette`` for them (None: the same ones).
        """
        decibels = psnr(self._errors.mse)
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
            "palette": report.hex_codes(result.palette),
            "device": None if self._device is None else report.hex_codes(self._written),
            "counts": self._counts.tolist(),
        }
