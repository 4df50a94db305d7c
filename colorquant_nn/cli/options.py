"""What travels between the rooms of the command: options, exit codes, and the line of an error."""

import os
import sys
from typing import NamedTuple

from colorquant_nn.names import Dither, Effort, Space

__all__ = [
    "EXIT_BAD_INPUT",
    "EXIT_INTERRUPTED",
    "EXIT_SOME_FAILED",
    "TIMEOUT",
    "TIMEOUT_VARIABLE",
    "Drawing",
    "Fitting",
    "Output",
    "is_one_of_several",
    "print_error",
]

EXIT_SOME_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
# Minutes that processes wait for each other, which is for those that hang: of one that ends, the
# others know at once.
TIMEOUT = 120.0
TIMEOUT_VARIABLE = "COLORQUANT_TIMEOUT"


class Fitting(NamedTuple):
    """How a palette is found."""

    colors: int
    space: Space
    effort: Effort
    keep: tuple[tuple[int, ...], ...]
    """Three or four integers from 0 to 255 each."""
    seed: int


class Drawing(NamedTuple):
    """How a picture is drawn in a palette."""

    space: Space
    dither: Dither
    strength: float


class Output(NamedTuple):
    """Where results go."""

    file: str | None
    """The picture or the palette; or a folder."""
    picture: str | None
    """For people: a comparison or a plot; or a folder."""
    json: bool
    """On stdout."""
    force: bool
    """Replace existing files."""


def is_one_of_several() -> bool:
    """Whether this process is one of those that ``torchrun`` started."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1")


def print_error(error: object) -> None:
    """Print one line on stderr."""
    print(f"colorquant: {' '.join(str(error).split())}", file=sys.stderr)
