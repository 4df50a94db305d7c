"""Progress of long work, on a terminal; whoever calls it may hide it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["hidden_progress", "progress"]

_is_hidden = ContextVar("_is_hidden", default=False)


@contextmanager
def hidden_progress(hide: bool = True) -> Iterator[None]:
    """Show nothing of what is done in this context.

    Args:
        hide: False: show it.

    Examples:
        >>> from colorquant_nn.functional.progress import hidden_progress, progress
        >>> with hidden_progress():
        ...     list(progress(3, "dots", "sweep"))
        [0, 1, 2]
    """
    before = _is_hidden.set(hide)
    try:
        yield
    finally:
        _is_hidden.reset(before)


def progress(steps: int, name: str, unit: str) -> Iterable[int]:
    """Count steps, and show it on a terminal if they take more than a few seconds.

    Args:
        steps: at most.
        name: of what is done.
        unit: of the steps.

    Returns:
        The numbers from 0 on.

    Examples:
        >>> from colorquant_nn.functional.progress import progress
        >>> list(progress(3, "dots", "sweep"))
        [0, 1, 2]
    """
    from tqdm import tqdm  # a tenth of a second that `import colorquant_nn` need not take

    hidden = True if _is_hidden.get() else None  # None: unless on a terminal
    return tqdm(range(steps), name, unit=unit, leave=False, delay=3, disable=hidden)
