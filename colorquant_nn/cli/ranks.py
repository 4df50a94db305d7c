"""The colours of files, counted by all the processes that ``torchrun`` started.

Rank 0 is the command: it reads the options, lists the files, fits, writes and prints. The others
wait for the list, count the colours of their share, and end with the exit code of rank 0.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from colorquant_nn.cli.options import (
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    TIMEOUT,
    TIMEOUT_VARIABLE,
    RankLostError,
    boundary,
    is_one_of_several,
    print_error,
)
from colorquant_nn.cli.report import name_of, progress
from colorquant_nn.files import MAX_BYTES, STANDARD, read_file
from colorquant_nn.functional.gathering import gather_colors
from colorquant_nn.functional.histogram import WeightedColors, accumulate, count_each, merge_colors
from colorquant_nn.io import FrameStream

__all__ = ["count_files", "read_image", "run"]


Read = Callable[[Path, int], bytes]
"""``f(source, max_pixels)``: the content of an image file."""


def read_image(source: Path, max_pixels: int) -> bytes:
    """The content of an image file, of at most six bytes for each pixel that is allowed."""
    return read_file(source, "an image", max(MAX_BYTES, 6 * max_pixels))


def run(command: Callable[[], int]) -> int:
    """Run a command on rank 0, and help it on the others.

    Args:
        command: returns an exit code, or leaves with one.

    Returns:
        the exit code, the same on all ranks.
    """
    is_first = os.environ["RANK"] == "0"
    try:
        with _others():
            dist.init_process_group("gloo", timeout=timedelta(minutes=_timeout() or TIMEOUT))
        return _lead(command) if is_first else _help()
    except (RankLostError, ValueError) as error:
        if is_first:
            print_error(error)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        if is_first:
            print_error("interrupted")
        return EXIT_INTERRUPTED
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def count_files(
    sources: Sequence[Path], max_pixels: int, read: Read = read_image
) -> tuple[WeightedColors | None, list[Path]]:
    """Count the colours of all frames of files, with the help of other ranks where there are any.

    Args:
        sources: pictures; those that cannot be read are told on stderr.
        max_pixels: that a frame may have.
        read: gives the content of a file; other ranks read as they do.

    Returns:
        the colours, None if there is no picture; and the files that can be read.
    """
    if not is_one_of_several():
        return _count(sources, max_pixels, 0, 1, read)
    if STANDARD in sources:
        raise ValueError("standard input is of one process: run this without torchrun")
    _tell((max_pixels, [str(source) for source in sources]))
    return _count(sources, max_pixels, 0, dist.get_world_size())


def _count(
    sources: Sequence[Path], max_pixels: int, rank: int, world: int, read: Read = read_image
) -> tuple[WeightedColors | None, list[Path]]:
    """What `count_files` returns, on rank 0; every rank reads its share."""
    failed: list[int] = []
    holes: list[tuple[int, Tensor]] = []  # the first fully transparent pixel, whose colour counts
    films: list[WeightedColors] = []  # merged: one at most

    def stills() -> Iterator[Tensor]:
        """Pictures, to be counted many at once; an animation is, as a whole or not at all, here."""
        for place in progress(range(rank, len(sources), world), hidden=rank > 0):
            image = None
            with boundary(name_of(sources[place])) as outcome:
                data = read(sources[place], max_pixels)
                frames = FrameStream(data, name_of(sources[place]), max_pixels)
                if len(frames) == 1:
                    [(image, _)] = frames
                    hole = _first_clear(image)
                else:
                    film = merge_colors(count_each(frames))
                    hole = film.hole
                    films[:] = [part for part in [accumulate([*films, film])] if part is not None]
                if hole is not None and not holes:
                    holes.append((place, hole))
            if outcome.failures:
                failed.append(place)
            elif image is not None:
                yield image

    parts = [part for part in [accumulate(count_each(stills()))] if part is not None] + films
    if world == 1:
        colors = merge_colors(parts) if parts else None
    else:
        shares: list[Any] = [None] * world
        with _others():
            dist.gather_object((failed, holes), shares if rank == 0 else None)
            colors = gather_colors(parts)
        if colors is not None:
            failed = [place for places, _ in shares for place in places]
            holes = [hole for _, found in shares for hole in found]
    if colors is not None:
        _, first = min(holes, key=itemgetter(0), default=(0, None))
        colors = colors._replace(hole=first)
    bad = set(failed)
    return colors, [source for place, source in enumerate(sources) if place not in bad]


def _first_clear(image: Tensor) -> Tensor | None:
    """The first fully transparent pixel of (C, H, W) bytes, as `count_each` has it."""
    if len(image) == 3 or not bool((clear := image[3].flatten() == 0).any()):
        return None
    return image.flatten(1)[:, int(clear.byte().argmax())].to(torch.float32) / 255


def _lead(command: Callable[[], int]) -> int:
    if _timeout() is None:
        print_error(
            f"{TIMEOUT_VARIABLE}: expected minutes above 0, got {os.environ[TIMEOUT_VARIABLE]!r}"
        )
        code = EXIT_BAD_INPUT
    else:
        try:
            code = command()
        except SystemExit as end:  # --help, and wrong options
            code = int(end.code or 0)
    if code != EXIT_INTERRUPTED:  # as all of them are then, and perhaps gone
        _tell(code)
        _ignore_the_end()
    return code


def _help() -> int:
    """Count what rank 0 asks for, until it says with which exit code to end."""
    while True:
        box: list[Any] = [None]
        with _others():
            dist.broadcast_object_list(box)
        if isinstance(box[0], int):
            _ignore_the_end()
            return box[0]
        max_pixels, names = box[0]
        _count(list(map(Path, names)), max_pixels, dist.get_rank(), dist.get_world_size())


def _tell(what: tuple[int, list[str]] | int) -> None:
    """Send the largest size and files to count, or the exit code, to the other ranks."""
    with _others():
        dist.broadcast_object_list([what])


def _ignore_the_end() -> None:
    """All is done; ``torchrun`` ends the others as soon as one has an exit code that is not 0."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _others() -> Iterator[None]:
    """Turns what gloo and the store raise into one sentence."""
    try:
        yield
    except RuntimeError as error:
        reason = re.sub(r"^\[[^\]]*\]\s*", "", str(error)).splitlines()[0]  # of a line of C++
        raise RankLostError(
            f"another process ended, or did not answer in {_timeout() or TIMEOUT:g} minutes "
            f"({TIMEOUT_VARIABLE} sets how many): {reason}"
        ) from error


def _timeout() -> float | None:
    """In minutes; None if the variable is no good."""
    try:
        minutes = float(os.environ.get(TIMEOUT_VARIABLE, TIMEOUT))
    except ValueError:
        return None
    return minutes if 0 < minutes < 1e6 else None
