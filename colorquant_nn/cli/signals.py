"""Signals that end a process: it cleans up, then dies by them as if it had not heeded them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from colorquant_nn.files import discard_partials

__all__ = ["Stopped", "die", "handled"]

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end."""


@contextmanager
def handled(dies: bool = False) -> Iterator[list[int]]:
    """Turn signals into `Stopped`, but those that are ignored, as under ``nohup``.

    A second signal ends the process at once: whoever sends it has no time.

    Args:
        dies: whether one that comes during an import does so, too: what is raised into a library
            that is half loaded may abort the process.

    Yields:
        those that came. What is raised may be lost in a library that catches all.
    """
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1 or (dies and _is_importing(frame)):
            die(number)
        raise Stopped

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, stop)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def die(number: int) -> None:
    """End this process by a signal, so that a shell sees it and its loops end."""
    discard_partials()
    signal.signal(number, signal.SIG_DFL)
    if os.name == "posix":
        os.kill(os.getpid(), number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
