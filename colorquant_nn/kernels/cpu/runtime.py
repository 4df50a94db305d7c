"""Compile numba functions, and run them on as many threads as torch uses.

A `kernel` is called from Python, a `subroutine` from kernels. A compiled kernel is stored on disk
next to its source or, where that cannot be written, in the user's cache directory. A subroutine
has no entry for Python, whose making takes as long as the rest of a short function's compilation.
A first step of training waits for all of them: a loop takes about 20 ms to compile, an array made
15, a subroutine 25 besides its code, and again when its caller is compiled.

numba's own threading layers survive neither a fork nor two callers at once. Here a kernel is an
ordinary compiled function that releases the interpreter lock: every thread calls it with the same
arguments, and the calls take tasks from one atomic counter until none are left. Results must not
depend on which thread took which task.
"""

# mypy: disable-error-code="no-untyped-def"

import gc
import hashlib
import operator
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numba import njit, types
from numba.core import cgutils, config
from numba.core.caching import FunctionCache
from numba.core.registry import CPUDispatcher
from numba.core.runtime import rtsys  # type: ignore[attr-defined]
from numba.extending import intrinsic

__all__ = [
    "EXACT",
    "FUSED",
    "REORDERED",
    "atomic_add",
    "greater",
    "kernel",
    "lesser",
    "next_task",
    "run",
    "run_tasks",
    "subroutine",
]

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

    A kernel is loaded without what only compiling needs, and it is out of date when any file in
    this folder has changed, not only the kernel's own. The first `assign` of a process takes 71 ms
    so, the first step of training 154 and the first `fit_palette` 107; with numba's own cache and
    compiler calls 338, 438 and 361.
    """

    def load_overload(self, sig, target_context):
        rtsys.initialize(target_context)  # memory for arrays, which compiled code asks for
        try:
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)
        except Exception:  # a damaged file, whatever it holds
            self.flush()
            return None

    def _index_key(self, sig, codegen):
        return (*super()._index_key(sig, codegen), _SOURCES)


class _Kernel(CPUDispatcher):  # type: ignore[misc]
    def compile(self, sig):
        # The million objects of torch and of a compilation are not garbage: to look for some in
        # them takes 80 of the milliseconds above, and a tenth of the seconds of a compilation.
        enabled = gc.isenabled()
        gc.disable()
        try:
            return super().compile(sig)
        finally:
            if enabled:
                gc.enable()


def kernel(floats: tuple[str, ...] = FUSED) -> Callable[[Function], Function]:
    """Compile on first call; what Python calls, without the interpreter lock while it runs."""

    def decorate(function: Function) -> Function:
        options = {"nopython": True, "nogil": True, "error_model": "numpy"}
        dispatcher: Any = _Kernel(function, targetoptions={**options, "fastmath": set(floats)})
        try:
            if hasattr(FunctionCache, "_load_overload"):
                dispatcher._cache = _Storage(function)
            else:  # a numba in which that has another name
                dispatcher.enable_caching()
        except RuntimeError:  # no directory to store it in
            pass
        return dispatcher  # type: ignore[no-any-return]

    return decorate


def subroutine(
    floats: tuple[str, ...] = FUSED, inline: str = "never"
) -> Callable[[Function], Function]:
    """Compile for the kernels that call it; a call from Python crashes.

    With ``inline="always"`` it becomes part of its caller before anything is compiled, which is
    sooner done for a function of many loops that has one caller.
    """
    options: dict[str, Any] = {"no_cpython_wrapper": True, "error_model": "numpy"}
    options["inline"] = inline
    return njit(fastmath=set(floats), **options)


MAX_THREADS = 256


def _atomic_add(typing_context, counter, amount):
    """Atomic ``counter[0] += amount`` that returns the old value."""

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        first = cgutils.gep_inbounds(builder, array.data, 0)
        return builder.atomic_rmw("add", first, arguments[1], "monotonic")

    return types.int64(counter, types.int64), generate


atomic_add: Any = intrinsic(_atomic_add)


def _first_in(order: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """What ``min`` and ``max`` do with two numbers, but nothing is compiled for each call."""

    def first(typing_context, a, b):
        kind = typing_context.unify_types(types.unliteral(a), types.unliteral(b))

        def generate(context, builder, signature, arguments):
            comes_first = context.get_function(order, types.boolean(kind, kind))
            return builder.select(comes_first(builder, arguments[::-1]), *arguments[::-1])

        return kind(kind, kind), generate

    return first


lesser: Any = intrinsic(_first_in(operator.lt))
greater: Any = intrinsic(_first_in(operator.gt))


@subroutine()
def next_task(counter):
    """Take the number of the next task."""
    return atomic_add(counter, 1)


def run(
    function: Callable[..., Any],
    num_tasks: int,
    nanoseconds: float,
    *arguments: object,
    max_threads: int = MAX_THREADS,
) -> None:
    """Call ``function(counter, num_tasks, *arguments)`` on torch's number of threads.

    Args:
        function: a `kernel` that asks `next_task` for work until it has all been taken.
        num_tasks: how many tasks there are.
        nanoseconds: about how long they take together, so that little work stays on one thread.
        arguments: passed on.
        max_threads: never use more.
    """
    counter = np.zeros(1, np.int64)
    worthwhile = 1 + int(nanoseconds / 30_000)
    threads = min(torch.get_num_threads(), num_tasks, worthwhile, max_threads)
    _call_on(threads, function, counter, num_tasks, *arguments)


def run_tasks(function: Callable[[int], object], num_tasks: int) -> None:
    """Call ``function(task)`` for each task, on torch's number of threads.

    Args:
        function: of Python, most of whose time is spent in kernels.
        num_tasks: how many tasks there are.
    """
    tasks = iter(range(num_tasks))

    def work() -> None:
        for task in tasks:  # each goes to the thread that asks first
            function(task)

    _call_on(min(torch.get_num_threads(), num_tasks), work)


def _call_on(threads: int, function: Callable[..., Any], *arguments: object) -> None:
    helpers: list[Future[Any]] = []
    pool = _pool()
    try:
        for _ in range(threads - 1):
            helpers.append(pool.submit(function, *arguments))
    except RuntimeError:  # no thread can be started, as at the interpreter's end: ours will do
        _pools.clear()
        pool.shutdown(cancel_futures=True)  # what is queued all the same must not begin later
    try:
        function(*arguments)
    finally:
        for helper in helpers:
            if not helper.cancel():  # one that has not started would find nothing left to do
                helper.result()


_pools: list[ThreadPoolExecutor] = []


def _pool() -> ThreadPoolExecutor:
    # Two threads that race here make two pools, and both work.
    if not _pools:
        _pools.append(ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="colorquant_nn"))
    return _pools[-1]


if hasattr(os, "register_at_fork"):
    # A child has the pool's bookkeeping but none of its threads: it starts its own.
    os.register_at_fork(after_in_child=_pools.clear)
