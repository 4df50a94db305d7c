"""What travels between the rooms of the command: options, exit codes, and how errors are told."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
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
    "Given",
    "Goal",
    "Outcome",
    "Output",
    "RankLostError",
    "boundary",
    "exit_code",
    "is_one_of_several",
    "print_error",
    "shown",
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
    bits: tuple[int, int, int] | None = None
    """Of red, green and blue, of a display that has fewer than 8."""


class Given(NamedTuple):
    """Colours that pictures are drawn in, instead of fitted ones."""

    palette: str
    """A name, a list or a file."""
    fit: str | None = None
    """What of a picture is fitted to them: "gamut" or "lightness"."""


class Goal(NamedTuple):
    """What each picture is to reach, with as few colours, or in as few bytes, as it takes."""

    min_psnr: float | None = None
    """In dB, with the fewest colours."""
    max_bytes: int | None = None
    """Of a PNG; this one and those below are goals of `compress_image`."""
    min_quality: float | None = None
    """In units of SSIMULACRA2."""
    lossy: float | None = None
    """The price of a bit."""

    @property
    def compresses(self) -> bool:
        """Whether pixels are chosen by their bytes."""
        return self[1:] != (None, None, None)


class Drawing(NamedTuple):
    """How a picture is drawn in a palette."""

    space: Space
    dither: Dither
    strength: float


class Output(NamedTuple):
    """Where results go."""

    file: str | None
    """The picture or the palette; or a folder; "-" is standard output."""
    picture: str | None
    """For people: a comparison or a plot; or a folder."""
    json: bool
    """On stdout."""
    force: bool
    """Replace existing files."""
    quiet: bool = False
    """Neither summaries nor progress."""
    suffix: str | None = None
    """Of the names of results, before the dot; None: "-quantized" beside an input, else none."""
    skip_if_larger: bool = False
    """Write no picture that is larger than its input."""
    strip: bool = False
    """Drop metadata, such as the resolution."""


class RankLostError(Exception):
    """A process ended, or did not answer in time; nothing can be agreed on any more."""


class Outcome:
    """What a `boundary` tells of the work in it."""

    failures: int = 0
    """1 if it failed, to be added up."""


@contextmanager
def boundary(name: object) -> Iterator[Outcome]:
    """Keep what goes wrong with one input from all others: it becomes one line on stderr.

    Not so what ends the whole command: `KeyboardInterrupt`, which signals raise, and a lost rank.

    Args:
        name: of the input, which the line begins with unless the error names it already.

    Yields:
        what became of it.

    Examples:
        >>> from colorquant_nn.cli.options import boundary
        >>> with boundary("photo.png") as outcome:
        ...     raise MemoryError
        >>> outcome.failures
        1
    """
    outcome = Outcome()
    try:
        yield outcome
    except RankLostError:
        raise
    except Exception as error:  # libraries raise nearly every kind
        outcome.failures = 1
        text = _describe(error)
        if not re.search(rf"(?<![\w./-]){re.escape(str(name))}(?![\w/-]|\.\w)", text):
            text = f"{name}: {text}"
        with _beside_the_bar():
            print_error(text.replace(str(name), shown(name)))


def exit_code(done: int, failures: int) -> int:
    """Of inputs that were done, and of others that failed."""
    if not failures:
        return 0
    return EXIT_SOME_FAILED if done else EXIT_BAD_INPUT


def is_one_of_several() -> bool:
    """Whether this process is one of those that ``torchrun`` started."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1")


def print_error(error: object) -> None:
    """Print one line on stderr."""
    text = _describe(error) if isinstance(error, BaseException) else str(error)
    line = re.sub(r"\s*[\r\n]\s*", " ", text.strip())
    print(f"colorquant: {shown(line)}", file=sys.stderr)


def shown(text: object) -> str:
    """Text for a terminal: what would steer it, or is no character, is escaped.

    Args:
        text: such as the name of a file.

    Returns:
        it on one line.

    Examples:
        >>> from colorquant_nn.cli.options import shown
        >>> print(shown("caf\\xe9 \\x1b[2J.png"))
        café \\x1b[2J.png
    """
    return "".join(map(_escape, str(text)))


def _escape(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    if "\udc80" <= character <= "\udcff":  # a byte that is no character where we are
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _describe(error: BaseException) -> str:
    """What an error says, and its kind if it is not one of those that speak to people."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return ": ".join([*names[:1], error.strerror])
    if isinstance(error, ValueError | TypeError | OSError | ImportError) and str(error):
        return str(error)
    return ": ".join(filter(None, [type(error).__name__, str(error)]))


@contextmanager
def _beside_the_bar() -> Iterator[None]:
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        yield
