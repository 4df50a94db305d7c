"""How long and how often frames are shown, and what of that each format can hold."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

__all__ = [
    "MAX_RESOLUTION",
    "METRE",
    "Display",
    "FormatError",
    "as_fraction",
    "fit_display",
    "in_hundredths",
    "in_milliseconds",
]

LONGEST = {".gif": 655_350, ".png": 65_535_000, ".webp": (1 << 24) - 1}  # milliseconds
MOST_PLAYS = {".gif": 65_536, ".png": (1 << 31) - 1, ".webp": 65_535}
MAX_RESOLUTION = 1_000_000  # dots per inch
METRE = 100 / 2.54  # inches
SHORTEST = 2  # hundredths: browsers show a GIF's frame of 0 or 10 ms for 100 ms


class FormatError(ValueError):
    """A format cannot hold what it was given, which may be right for another."""


class Display(NamedTuple):
    """How frames are shown."""

    durations: Sequence[float] = (0,)
    """Milliseconds for each frame; 0: nothing is said."""
    plays: int = 1
    """How often an animation is shown, 0 for ever."""
    resolution: tuple[float, float] | None = None
    """Dots per inch, across and down; None: nothing is said."""


def fit_display(display: Display, suffix: str) -> tuple[Display, str]:
    """Find the nearest display that a format can hold.

    Args:
        display: of any times and plays.
        suffix: of the format.

    Returns:
        that display; and in a few words what was lost, "" if nothing was.

    Examples:
        >>> from colorquant_nn.image_files import Display, fit_display
        >>> fit_display(Display([20, 20], plays=70_000), ".gif")[1]
        'shown 65536 times at most, not 70000'
    """
    if suffix not in LONGEST:
        return display, ""
    lost = []
    durations, plays = display.durations, display.plays
    longest, most = LONGEST[suffix], MOST_PLAYS[suffix]
    if max(durations) > longest:
        lost.append(f"a frame is shown for {longest} ms at most, not {max(durations):.15g}")
        durations = [min(duration, longest) for duration in durations]
    if plays > most:
        lost.append(f"shown {most} times at most, not {plays}")
        plays = most
    if suffix == ".gif" and (dropped := len(durations) - len(in_hundredths(durations))):
        lost.append(
            f"{dropped} of {len(durations)} frames left out, since none is shown for less "
            f"than {10 * SHORTEST} ms"
        )
    moves = len(durations) > 1  # of a still nobody sees the times
    return Display(durations, plays, display.resolution), "; ".join(lost) if moves else ""


def in_hundredths(durations: Sequence[float]) -> dict[int, int]:
    """Round the times of a GIF: frames that would be too short give theirs to a neighbour.

    Times that are whole hundredths of a second stay what they are. Else the running total is
    rounded, so that the whole lasts as long as before, to 10 ms.

    Args:
        durations: milliseconds for each frame.

    Returns:
        number of each frame that is shown, to hundredths of a second.

    Examples:
        >>> from colorquant_nn.image_files.display import in_hundredths
        >>> in_hundredths([1000 / 30] * 6)
        {0: 3, 1: 4, 2: 3, 3: 3, 4: 4, 5: 3}
        >>> in_hundredths([1000 / 60] * 6)
        {0: 2, 1: 2, 2: 2, 3: 2, 5: 2}
    """
    hundredths = [duration / 10 for duration in durations]
    if all(abs(one - round(one)) < 1e-6 for one in hundredths):
        return {number: round(one) for number, one in enumerate(hundredths)}
    shown: dict[int, int] = {}
    total, clock = 0.0, 0
    for number, one in enumerate(hundredths):
        total += one
        if one and clock and total <= clock + 1e-6:  # its time has passed
            continue
        shown[number] = max(SHORTEST, round(total) - clock) if one else 0
        clock += shown[number]
    timed = [number for number in shown if shown[number]]
    last = max(number for number, one in enumerate(hundredths) if one)
    if timed[-1] != last:  # an animation ends with the picture that it ended with
        shown[last] = shown.pop(timed[-1])
        timed[-1] = last
    before = clock - shown[last]
    shown[last] = round(total) - before
    if shown[last] < SHORTEST <= total - before + 1 + 1e-6:  # 10 ms too long at most
        shown[last] = SHORTEST
    while shown[last] < SHORTEST and len(timed) > 1:
        shown[last] += shown.pop(timed.pop(-2))
    shown[last] = max(1, shown[last])
    longest = LONGEST[".gif"] // 10
    return {number: min(shown[number], longest) for number in sorted(shown)}


def in_milliseconds(durations: Sequence[float]) -> list[int]:
    """Round times so that their sum stays: the running total is rounded.

    Args:
        durations: milliseconds for each frame.

    Returns:
        whole milliseconds for each frame.

    Examples:
        >>> from colorquant_nn.image_files.display import in_milliseconds
        >>> in_milliseconds([1000 / 60] * 3)
        [17, 16, 17]
    """
    rounded = []
    total, clock = 0.0, 0
    for duration in durations:
        total += duration
        rounded.append(min(round(total) - clock, LONGEST[".webp"]))
        clock += rounded[-1]
    return rounded


def as_fraction(duration: float) -> tuple[int, int]:
    """Find the nearest fraction of a second of two numbers of 16 bits.

    Args:
        duration: milliseconds, at most 65535 seconds.

    Returns:
        numerator and denominator.

    Examples:
        >>> from colorquant_nn.image_files.display import as_fraction
        >>> as_fraction(1000 / 60), as_fraction(40)
        ((1, 60), (1, 25))
    """
    seconds = Fraction(duration) / 1000
    most = 65_535
    if seconds > 1:  # so that the numerator has 16 bits, too
        most = int(most / seconds)
    nearest = seconds.limit_denominator(most)
    return nearest.numerator, nearest.denominator
