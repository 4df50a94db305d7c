"""What the layers and the functions for pictures are made of.

Mostly pure functions of points, channels last, ``(..., N, C)``; `metrics` and `histogram` take
pictures, channels first. Modules come in when they are first used.
"""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    if all(module.name != name for module in iter_modules(__path__)):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
