"""Compile numba functions: a `kernel` is called from Python, a `subroutine` from kernels.

A compiled kernel is stored on disk next to its source or, where that cannot be written, in the
user's cache directory. A subroutine has no entry for Python, whose making takes as long as the rest
of a short function's compilation.
"""

import gc
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numba.core import config
from numba.core.caching import FunctionCache
from numba.core.registry import CPUDispatcher
from numba.core.runtime import rtsys  # type: ignore[attr-defined]

__all__ = ["EXACT", "FUSED", "REORDERED", "kernel", "subroutine"]

if config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise ImportError("colorquant_nn on the CPU needs numba's compiler: unset NUMBA_DISABLE_JIT")

Function = TypeVar("Function", bound=Callable[..., Any])

# What the compiler may do with floats. Nothing: they are rounded as they are in torch.
EXACT: tuple[str, ...] = ()
# Multiply and add in one go.
FUSED = ("contract",)
# The same, and sums may run in several lanes, in one fixed order all the same.
REORDERED = ("contract", "reassoc", "nsz")

_SOURCES = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
).digest()


class _Storage(FunctionCache):
    """numba's cache on disk, but for two things.

    A kernel is loaded without what only compiling needs: a third of a second of imports. And it
    is out of date when any file in this folder has changed, not only the kernel's own.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)  # memory for arrays, which compiled code asks for
        try:
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)
        except Exception:  # a damaged file, whatever it holds
            self.flush()
            return None

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _SOURCES)


class _Kernel(CPUDispatcher):  # type: ignore[misc]
    def compile(self, sig: Any) -> Any:
        # The million objects of a compilation are not garbage yet: to look for some in them takes
        # a tenth of the time.
        enabled = gc.isenabled()
        gc.disable()
        try:
            return super().compile(sig)
        finally:
            if enabled:
                gc.enable()


class _Subroutine(CPUDispatcher):  # type: ignore[misc]
    def __call__(self, *_: object) -> None:
        raise TypeError(f"only kernels can call {self.py_func.__qualname__}")


def kernel(floats: tuple[str, ...] = FUSED) -> Callable[[Function], Function]:
    """Compile on first call; what Python calls, without the interpreter lock while it runs."""

    def decorate(function: Function) -> Function:
        dispatcher: Any = _Kernel(function, targetoptions={"nogil": True, **_options(floats)})
        try:
            if hasattr(FunctionCache, "_load_overload"):
                dispatcher._cache = _Storage(function)
            else:  # a numba in which that has another name
                dispatcher.enable_caching()
        except RuntimeError:  # no directory to store it in
            pass
        return dispatcher  # type: ignore[no-any-return]

    return decorate


def subroutine(floats: tuple[str, ...] = FUSED) -> Callable[[Function], Function]:
    """Compile for the kernels that call it."""

    def decorate(function: Function) -> Function:
        options = {"no_cpython_wrapper": True, **_options(floats)}
        dispatcher: Any = _Subroutine(function, targetoptions=options)
        return dispatcher  # type: ignore[no-any-return]

    return decorate


def _options(floats: tuple[str, ...]) -> dict[str, Any]:
    return {"nopython": True, "fastmath": set(floats), "error_model": "numpy"}
