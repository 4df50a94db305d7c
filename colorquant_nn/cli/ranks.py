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
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor

from colorquant_nn.cli.options import (
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    TIMEOUT,
    TIMEOUT_VARIABLE,
    RankLostError,
    is_one_of_several,
    print_error,
)
from colorquant_nn.cli.report import progress, report_failure
from colorquant_nn.functional.gathering import gather_colors
from colorquant_nn.functional.histogram import WeightedColors, accumulate, count_each, merge_colors
from colorquant_nn.io import load_frames

__all__ = ["count_files", "run"]


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


def count_files(sources: Sequence[Path]) -> tuple[WeightedColors | None, list[Path]]:
    """Count the colours of files, with the help of the other ranks where there are any.

    Args:
        sources: pictures; those that cannot be read are told on stderr.

    Returns:
        the colours, None if there is no picture; and the files that can be read.
    """
    if not is_one_of_several():
        return _count(sources, 0, 1)
    _tell([str(source) for source in sources])
    return _count(sources, 0, dist.get_world_size())


def _count(
    sources: Sequence[Path], rank: int, world: int
) -> tuple[WeightedColors | None, list[Path]]:
    """What `count_files` returns, on rank 0; every rank reads its share."""
    failed: list[int] = []
    holes: list[int] = []  # the first picture with a fully transparent pixel, whose colour counts

    def images() -> Iterator[Tensor]:
        for place in progress(range(rank, len(sources), world), hidden=rank > 0):
            try:
                frames = load_frames(sources[place]).images
            except (ValueError, OSError) as error:
                report_failure(error)
                failed.append(place)
                continue
            if not holes and any(len(x) == 4 and bool((x[3] == 0).any()) for x in frames):
                holes.append(place)
            yield from frames

    own = accumulate(count_each(images()))
    parts = [] if own is None else [own]
    if world == 1:
        colors = merge_colors(parts) if parts else None
    else:
        shares: list[Any] = [None] * world
        hole = [(place, part.hole) for place in holes for part in parts]
        with _others():
            dist.gather_object((failed, hole), shares if rank == 0 else None)
            colors = gather_colors(parts)
        if colors is not None:
            first = min((hole for _, found in shares for hole in found), default=(0, None))
            colors = colors._replace(hole=first[1])
            failed = [place for places, _ in shares for place in places]
    bad = set(failed)
    return colors, [source for place, source in enumerate(sources) if place not in bad]


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
        _count([Path(name) for name in box[0]], dist.get_rank(), dist.get_world_size())


def _tell(what: list[str] | int) -> None:
    """Send files to count, or the exit code, to the other ranks."""
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
