"""What ``colorquant quantize``, ``palette`` and ``compare`` do."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from colorquant_nn import cli_report as report
from colorquant_nn.cli import EXIT_BAD_INPUT, EXIT_SOME_FAILED, print_error
from colorquant_nn.encoding import FORMATS
from colorquant_nn.functional.histogram import ColorHistogram
from colorquant_nn.image import (
    QuantizedImage,
    apply_palette,
    fit_palette,
    quantize_image,
    smallest_palette,
)
from colorquant_nn.io import (
    load_frames,
    load_image,
    palette_array,
    save_frames,
    write_atomically,
)
from colorquant_nn.palette_files import PALETTE_FORMATS
from colorquant_nn.palettes import load_palette, save_palette

DEFAULT_COLORS = 256
CURVE = (2, 4, 8, 16, 32, 64, 128, 256)
SUFFIX = "-quantized"
DRAWINGS = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG"}  # comparisons and plots
# What a folder is searched for; a file that is named is opened whatever it is called.
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".jp2"}
PICTURES |= {".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".qoi", ".jfif", ".apng", ".mpo"}


class Job(NamedTuple):
    """One input with what is made of it."""

    source: Path
    target: Path
    comparison: Path | None


def quantize(arguments: Namespace) -> int:
    """``colorquant quantize``: every input into a file of its own."""
    sources, failures = _expand(arguments.inputs)
    given = None if arguments.palette is None else load_palette(arguments.palette)
    jobs = []
    taken: dict[Path, Path] = {}
    for source in sources:
        try:
            jobs.append(_plan(source, arguments, len(sources) + failures, taken))
        except (ValueError, OSError) as error:
            failures += _report_failure(error)
    if arguments.shared_palette and jobs:
        jobs, given, failed = _shared_palette(jobs, arguments)
        failures += failed
    entries: list[dict[str, Any]] = []
    for job in _progress(jobs):
        try:
            entry = _quantize_file(job, arguments, given)
        except (ValueError, TypeError, OSError) as error:
            failures += _report_failure(error)
            continue
        entries.append(entry)
        if not arguments.json:
            text = report.summary(entry) if len(sources) == 1 else report.summary_line(entry)
            tqdm.write(text, file=sys.stdout)
    if arguments.json:
        print(json.dumps(entries, indent=2))
    return _exit_code(len(entries), failures)


def palette(arguments: Namespace) -> int:
    """``colorquant palette``: one palette for all inputs."""
    sources, failures = _expand(arguments.inputs)
    for path, formats in ((arguments.output, PALETTE_FORMATS), (arguments.plot, DRAWINGS)):
        if path is not None:
            _check_suffix(Path(path), formats)
            _check_target(Path(path), sources, arguments.force)
    readable: list[Path] = []
    count = arguments.colors or DEFAULT_COLORS
    start = time.perf_counter()
    if len(sources) == 1:
        colors: Tensor | None = _fit(load_image(sources[0]), count, arguments)
        readable = sources
    else:
        colors = _stream(sources, count, arguments, readable)
        failures += len(sources) - len(readable)
    if colors is None:
        return EXIT_BAD_INPUT
    seconds = time.perf_counter() - start
    if arguments.output is not None:
        save_palette(arguments.output, colors)
    if arguments.plot is not None:
        _plot(readable, arguments)
    if arguments.json:
        entry = {
            "inputs": [str(source) for source in readable],
            "output": arguments.output,
            "palette": report.hex_codes(colors),
            "seconds": round(seconds, 3),
        }
        print(json.dumps(entry, indent=2))
    else:
        colored = arguments.color == "always" or (
            arguments.color == "auto" and sys.stdout.isatty() and "NO_COLOR" not in os.environ
        )
        print(report.terminal_swatch(colors) if colored else "\n".join(report.hex_codes(colors)))
    return _exit_code(len(readable), failures)


def compare(arguments: Namespace) -> int:
    """``colorquant compare``: how two pictures differ."""
    paths = [Path(arguments.original), Path(arguments.other)]
    if arguments.output is not None:
        _check_suffix(Path(arguments.output), DRAWINGS)
        _check_target(Path(arguments.output), paths, arguments.force)
    images = [load_image(path) for path in paths]
    sizes = [f"{image.shape[2]} x {image.shape[1]}" for image in images]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"expected pictures of one size, got {sizes[0]} in {paths[0]} "
            f"and {sizes[1]} in {paths[1]}"
        )
    entry = report.differences(paths, images)
    if arguments.output is not None:
        from colorquant_nn.plot import comparison

        size = [report.short_size(value) for value in entry["bytes"]]
        colors = [f"{value:,} colours" for value in entry["colors"]]
        captions = [
            f"{path.name}\n{a}, {b}" for path, a, b in zip(paths, size, colors, strict=True)
        ]
        captions[1] += f", {report.decibels(entry['psnr'])}"
        if captions[0] == captions[1]:
            captions[1] += " (again)"
        picture = comparison(dict(zip(captions, images, strict=True)))
        _write_picture(Path(arguments.output), picture)
    print(json.dumps(entry, indent=2) if arguments.json else report.comparison_text(entry))
    return 0


def _quantize_file(job: Job, arguments: Namespace, given: Tensor | None) -> dict[str, Any]:
    start = time.perf_counter()
    frames = load_frames(job.source)
    results = _quantize_frames(frames.images, arguments, given)
    save_frames(job.target, results, frames.durations, frames.loop)
    seconds = time.perf_counter() - start
    entry = report.measure(job.source, job.target, frames.images, results, seconds)
    if job.comparison is not None:
        _write_picture(job.comparison, report.side_by_side(entry, frames.images[0], results[0]))
    return entry


def _quantize_frames(
    images: list[Tensor], arguments: Namespace, given: Tensor | None
) -> list[QuantizedImage]:
    count = arguments.colors or DEFAULT_COLORS
    mapping = {
        "space": arguments.space,
        "dither": arguments.dither,
        "strength": arguments.strength,
    }
    fitting = {"space": arguments.space, "effort": arguments.effort, "seed": arguments.seed}
    if given is None and len(images) == 1 and not arguments.keep and arguments.min_psnr is None:
        return [
            quantize_image(
                images[0], count, **mapping, effort=arguments.effort, seed=arguments.seed
            )
        ]
    if given is None:
        # Frames are one tall picture; pages of several sizes give their visible pixels.
        if len({image.shape for image in images}) == 1:
            whole = images[0] if len(images) == 1 else torch.cat(images, dim=1)
        else:
            whole = torch.cat([_visible(image) for image in images], dim=2)
            count = max(1, count - any(image.shape[0] == 4 for image in images))
        if arguments.min_psnr is not None:
            given = smallest_palette(whole, arguments.min_psnr, **fitting)
        else:
            given = _fit(whole, count, arguments)
    return [apply_palette(image, _match(given, image), **mapping) for image in images]


def _fit(images: Tensor | ColorHistogram, count: int, arguments: Namespace) -> Tensor:
    """`fit_palette` with the options given, rounded to the 8 bits that files hold."""
    keep = None
    if arguments.keep:
        if len(arguments.keep) > count:
            raise ValueError(f"expected at most {count} colours to keep, got {len(arguments.keep)}")
        channels = images.shape[0] if isinstance(images, Tensor) else 3
        rows = [(*color, 255)[:channels] for color in arguments.keep]
        keep = torch.tensor(rows, dtype=torch.float32) / 255
    palette = fit_palette(
        images,
        count,
        space=arguments.space,
        effort=arguments.effort,
        keep=keep,
        seed=arguments.seed,
    )
    return torch.from_numpy(palette_array(palette)).float() / 255


def _match(palette: Tensor, image: Tensor) -> Tensor:
    """The palette with the image's channels; a picture with holes gets a transparent colour."""
    if palette.shape[1] == image.shape[0]:
        return palette
    if palette.shape[1] == 4:
        opaque = palette[palette[:, 3] == 1, :3]
        if not len(opaque):
            raise ValueError("expected a palette with an opaque colour, for the picture is opaque")
        return opaque
    palette = torch.cat([palette, torch.ones(len(palette), 1)], dim=1)
    if (image[3] == 0).any():
        palette = torch.cat([torch.zeros(1, 4), palette])
    return palette


def _shared_palette(jobs: list[Job], arguments: Namespace) -> tuple[list[Job], Tensor | None, int]:
    """One palette for the inputs that can be read, which are returned, and how many cannot."""
    readable: list[Path] = []
    palette = _stream(
        [job.source for job in jobs], arguments.colors or DEFAULT_COLORS, arguments, readable
    )
    return [job for job in jobs if job.source in readable], palette, len(jobs) - len(readable)


def _stream(
    sources: Sequence[Path], count: int, arguments: Namespace, readable: list[Path]
) -> Tensor | None:
    """Fit one palette to files, one in memory at a time; those that can be read are listed."""
    histogram = ColorHistogram()
    holes = False
    for source in _progress(sources):
        try:
            images = load_frames(source).images
        except (ValueError, OSError) as error:
            _report_failure(error)
            continue
        readable.append(source)
        for image in images:
            holes |= image.shape[0] == 4 and bool((image[3] == 0).any())
            histogram.update(_visible(image))
    # `_match` adds a transparent colour for the holes.
    return _fit(histogram, max(1, count - holes), arguments) if readable else None


def _visible(image: Tensor) -> Tensor:
    """RGB of the pixels that are not fully transparent, as a picture one pixel high."""
    if image.shape[0] == 3:
        return image.flatten(1)[:, None]
    return image[:3, image[3] > 0][:, None]


def _plot(sources: Sequence[Path], arguments: Namespace) -> None:
    from colorquant_nn.plot import rate_distortion

    images = [load_image(source)[:3] for source in sources]
    whole = images[0] if len(images) == 1 else torch.cat([_visible(x) for x in images], dim=2)
    curve = {}
    for count in CURVE:
        colors = _fit(whole, count, arguments) if count >= len(arguments.keep) else None
        if colors is not None:
            result = apply_palette(whole, colors, space=arguments.space)
            curve[count] = report.psnr_of(report.mean_squared_error(whole, result.rgb))
        if curve.get(count) == float("inf"):
            break
    title = sources[0].name if len(sources) == 1 else f"{len(sources)} pictures"
    _write_picture(Path(arguments.plot), rate_distortion(curve, title))


def _write_picture(path: Path, picture: Any) -> None:
    file = io.BytesIO()
    picture.save(file, DRAWINGS[path.suffix.lower()], quality=95, optimize=True)
    write_atomically(path, file.getvalue())


def _expand(inputs: Sequence[str]) -> tuple[list[Path], int]:
    """Files, those of folders in order of their names, and how many inputs were no good."""
    sources: list[Path] = []
    failures = 0
    for name in inputs:
        path = Path(name)
        if not path.is_dir():
            sources.append(path)
            continue
        found = sorted(
            file
            for file in path.iterdir()
            if file.suffix.lower() in PICTURES and not file.stem.endswith(SUFFIX) and file.is_file()
        )
        if not found:
            failures += _report_failure(f"{path}: no pictures in this folder")
        sources += found
    return list(dict.fromkeys(sources)), failures


def _plan(source: Path, arguments: Namespace, inputs: int, taken: dict[Path, Path]) -> Job:
    """Where the result goes, checked before any work is done."""
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such file")
    folder = source.parent
    output = None if arguments.output is None else Path(arguments.output)
    is_folder = output is not None and (
        output.is_dir() or inputs > 1 or arguments.output.endswith(("/", os.sep))
    )
    if output is not None and is_folder:
        if output.suffix.lower() in FORMATS and not output.is_dir():
            raise ValueError(f"{output}: expected a folder for {inputs} inputs, got a file name")
        output.mkdir(parents=True, exist_ok=True)
        folder, output = output, None
    target = output or folder / f"{source.stem}{SUFFIX}{_suffix_for(source)}"
    targets = [(target, FORMATS)]
    comparison = None if arguments.compare is None else Path(arguments.compare)
    if comparison is not None:
        if comparison.is_dir() or inputs > 1:
            comparison.mkdir(parents=True, exist_ok=True)
            comparison = comparison / f"{source.stem}-compare.png"
        targets.append((comparison, DRAWINGS))
    for path, formats in targets:
        _check_suffix(path, formats)
        _check_target(path, [source], arguments.force)
        other = taken.setdefault(path.resolve(), source)
        if other != source:
            raise ValueError(f"{source}: would replace {path}, the result of {other}")
    if target == comparison:
        raise ValueError(f"{target}: expected different files for -o and --compare")
    return Job(source, target, comparison)


def _suffix_for(source: Path) -> str:
    """.png, but the input's own if it holds frames or pages that this format can keep."""
    suffix = source.suffix.lower()
    if suffix not in (".gif", ".webp", ".tif", ".tiff"):
        return ".png"
    from PIL import Image

    try:
        with Image.open(source) as image:
            return suffix if getattr(image, "n_frames", 1) > 1 else ".png"
    except Exception:  # whatever it is, loading it will say so
        return ".png"


def _check_suffix(path: Path, formats: Any) -> None:
    if path.suffix.lower() not in formats:
        raise ValueError(
            f"{path}: expected a name that ends in {', '.join(formats)}, got {path.suffix!r}"
        )


def _check_target(target: Path, sources: Sequence[Path], force: bool) -> None:
    if any(target.resolve() == source.resolve() for source in sources):
        raise ValueError(f"{target}: is an input, and inputs are never replaced")
    if target.is_dir():
        raise ValueError(f"{target}: expected a file, got a folder")
    if target.exists() and not force:
        raise ValueError(f"{target}: exists; --force replaces it")
    if not target.parent.is_dir():
        raise ValueError(f"{target}: the folder {target.parent} does not exist")
    if not os.access(target.parent, os.W_OK):
        raise ValueError(f"{target}: the folder {target.parent} cannot be written to")


def _progress(items: Sequence[Any]) -> Any:
    """A bar on a terminal, nothing in a pipe or for one item."""
    hidden = len(items) < 2 or not sys.stderr.isatty()
    return tqdm(items, unit="file", leave=False, disable=hidden)


def _report_failure(error: object) -> int:
    with tqdm.external_write_mode(file=sys.stderr):  # the bar, if any, makes room
        print_error(error)
    return 1


def _exit_code(done: int, failures: int) -> int:
    if not failures:
        return 0
    return EXIT_SOME_FAILED if done else EXIT_BAD_INPUT
