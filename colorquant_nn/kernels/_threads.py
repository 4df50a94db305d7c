"""Run a kernel on as many threads as torch uses.

numba's own threading layers survive neither a fork nor two callers at once. Here a kernel is an
ordinary compiled function that releases the interpreter lock: every thread calls it with the same
arguments, and the calls take tasks from one atomic counter until none are left. Results must not
depend on which thread took which task.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from colorquant_nn.kernels._compile import subroutine

MAX_THREADS = 256


def _atomic_add(typing_context: Any, counter: Any, amount: Any) -> Any:
    """Atomic ``counter[0] += amount`` that returns the old value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        first = cgutils.gep_inbounds(builder, array.data, 0)
        return builder.atomic_rmw("add", first, arguments[1], "monotonic")

    return types.int64(counter, types.int64), generate


atomic_add: Any = intrinsic(_atomic_add)


@subroutine()
def next_task(counter: Any) -> Any:
    """Take the number of the next task."""
    return atomic_add(counter, 1)


def run(
    function: Callable[..., Any],
    num_tasks: int,
    nanoseconds: float,
    *arguments: Any,
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
    helpers: list[Future[Any]] = []
    pool = _pool()
    try:
        for _ in range(threads - 1):
            helpers.append(pool.submit(function, counter, num_tasks, *arguments))
    except RuntimeError:  # no thread can be started, as at the interpreter's end: ours will do
        _pools.clear()
        pool.shutdown(cancel_futures=True)  # what is queued all the same must not begin later
    try:
        function(counter, num_tasks, *arguments)
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
