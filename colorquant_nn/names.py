"""The names that users write: of colour spaces, dithers, efforts and results.

What a name stands for is in `functional.color.SPACES`, `functional.dither.DITHERS` and
`functional.fitting.EFFORTS`; nothing is imported here, so that the command can offer the names
before torch is there.
"""

from collections.abc import Collection
from typing import Literal

__all__ = ["Dither", "Effort", "Returns", "Space", "check_name"]

Space = Literal["rgb", "linear", "lab", "oklab"]
Dither = Literal[
    "none",
    "ordered",
    "bayer",
    "floyd-steinberg",
    "atkinson",
    "jarvis-judice-ninke",
    "stucki",
    "burkes",
    "sierra",
    "auto",
    "spatial",
]
Effort = Literal["fast", "balanced", "best"]
Returns = Literal["values", "all"]


def check_name(what: str, name: object, names: Collection[str]) -> None:
    """Raise unless a name is one of those that there are.

    Args:
        what: is named, with its article.
        name: that came.
        names: that there are.

    Raises:
        ValueError: for another.

    Examples:
        >>> from typing import get_args
        >>> from colorquant_nn.names import Effort, check_name
        >>> check_name("an effort", "best", get_args(Effort))
    """
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"expected {what} of {', '.join(names)}, got {name!r}")
