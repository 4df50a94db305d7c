"""What the layers and the functions for pictures are made of.

Mostly pure functions of points, channels last, ``(..., N, C)``; `metrics` and `histogram` take
pictures, channels first. Modules come in when they are first used, and so do the measures and the
estimators, which are here too: ``functional.psnr``, ``functional.soft``.
"""

# ruff: noqa: F403, F405  (type checkers follow the stars)

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colorquant_nn.functional.gradients import *
    from colorquant_nn.functional.metrics import *

_HOMES = ("metrics", "gradients")  # whose public names are here too


def __getattr__(name: str) -> Any:
    if any(module.name == name for module in iter_modules(__path__)):
        return import_module(f"{__name__}.{name}")
    for home in () if name.startswith("_") else map(_module, _HOMES):
        if name in home.__all__:
            return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    modules = {module.name for module in iter_modules(__path__)}
    return sorted({*globals(), *modules}.union(*(_module(home).__all__ for home in _HOMES)))


def _module(name: str) -> Any:
    return import_module(f"{__name__}.{name}")
