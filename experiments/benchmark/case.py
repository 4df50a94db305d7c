"""What a suite is made of."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import colorquant_nn

Run = Callable[[], Any]
OURS = "colorquant_nn"
COPY = "copying the points"
CHECKOUT = Path(colorquant_nn.__file__).parents[1]
"""Where this process has ours from."""


class Seconds(float):
    """What a method returns that watches the clock itself."""


class Options(NamedTuple):
    """What the user asked for; every process gets the same."""

    quick: bool = False
    """Toy sizes, to see that all works."""
    slow: bool = False
    """The images suite with the best of ten starts of scikit-learn."""
    pictures: Path | None = None
    """Folder of the pictures; without it, Kodak's beside the repository, or scikit-image's."""
    cifar: Path | None = None
    """Folder of the CIFAR-10 training images."""
    every: int = 1
    """Only each n-th picture."""


class Case(NamedTuple):
    """A piece of work, and who can do it."""

    name: str
    methods: Mapping[str, Callable[[], Run]]
    """By name: prepares everything, imports included, and returns what is to be timed."""
    ours: tuple[str, ...] = (OURS,)
    """The methods that are ours."""
    points: int = 0
    """Pixels or points of the work; memory is told per point."""
    targets: Mapping[str, float] = {}
    """By peer: how many times faster than it ours has to be."""
    limits: Mapping[str, float] = {}
    """By method: how many seconds it may take."""
    judge: Callable[[Any], Mapping[str, Any]] | None = None
    """Turns what a method returned into further numbers, or lists of them, outside of the time."""
    labels: Mapping[str, Any] = {}
    """Further columns, such as the picture."""
    budget: float = 6.0
    """Seconds: a method that has spent them is not repeated any more."""
    least: int = 3
    """Repeats at least."""
    most: int = 15
    """Repeats at most."""
    together: bool = False
    """All methods in one process, which ends with the case: for differences smaller than those
    between processes, and for methods so many that their processes would take most of the time."""
    once: bool = False
    """No run before the timed ones: ``methods`` have warmed up on something small."""
