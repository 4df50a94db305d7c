"""Custom ops: functions that `torch.compile` leaves alone, as one node of its graph."""

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["define"]

# `torch.library.custom_op` would do the same in fewer lines, but its first call imports
# torch._dynamo, which takes a second.
_library = torch.library.Library("colorquant_nn", "DEF")


def define(
    schema: str,
    function: Callable[..., Any],
    fake: Callable[..., Any],
    **devices: Callable[..., Any],
) -> None:
    """Register an op without a gradient as ``torch.ops.colorquant_nn.NAME``.

    Args:
        schema: ``NAME(arguments) -> results``, in the language of PyTorch's native functions.
        function: the implementation for all devices.
        fake: allocates the results without computing them.
        devices: other implementations by dispatch key, like ``CPU`` or ``CUDA``.
    """
    name = _library.define(schema)
    _library.impl(name, function, "CompositeExplicitAutograd")
    for key, implementation in devices.items():
        _library.impl(name, implementation, key)
    _library.impl(name, torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(f"colorquant_nn::{name}", fake, lib=_library)
