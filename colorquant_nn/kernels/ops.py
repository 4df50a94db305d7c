"""The table of operations: what a backend owes, and where each implementation is.

A row is an operation without a gradient, registered as ``torch.ops.colorquant_nn.NAME``: one node
to `torch.compile`. A column is a backend. A cell is a path, ``module:function`` under
``colorquant_nn``, which is imported when it is called first, so that nobody waits for numba or
Triton who does not need them. The function takes the arguments of the schema. It may leave what it
does not support to the reference by returning ``NotImplemented``.

To add a backend, add a field to `Op`, its dispatch key to `register`, and functions to the rows;
what is missing is done by the reference, in plain torch. A row without a reference is done by the
CPU for every device: tensors go there and the results come back.
"""

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from colorquant_nn.kernels import reference

__all__ = ["OPS", "Op", "call", "implementation"]


class Op(NamedTuple):
    """An operation and its implementations.

    Examples:
        >>> from colorquant_nn.kernels.ops import OPS
        >>> OPS["assign"].cpu
        'kernels.cpu.assign:assign'
    """

    schema: str
    """``(arguments) -> results``, in the language of PyTorch's native functions."""
    fake: Callable[..., Any]
    """Allocates the results without computing them."""
    reference: str | None = None
    """The path of plain torch, for every device; paths are ``module:function``."""
    cpu: str | None = None
    """That of the CPU."""
    cuda: str | None = None
    """That of CUDA."""


def _like(argument: int, dtype: torch.dtype | None = None) -> Callable[..., Tensor]:
    """A fake: one result of the shape of an argument."""
    return lambda *arguments: torch.empty_like(arguments[argument], dtype=dtype)


def _fake_assign(points: Tensor, *_: object) -> Tensor:
    return points.new_empty(points.shape[:2], dtype=torch.int64)


def _fake_lookup(palette: Tensor, indices: Tensor) -> Tensor:
    images, num_points = indices.shape
    return palette.new_empty((images, palette.shape[2], num_points)).transpose(1, 2)


def _fake_distinct_colors(points: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    return (
        points.new_empty(count, dtype=torch.int64),
        points.new_empty((count, 3), dtype=torch.float32),
        points.new_empty(count, dtype=torch.float64),
    )


def _fake_batch(
    points: Tensor, weights: Tensor | None, centroids: Tensor, *_: object
) -> tuple[Tensor, ...]:
    palette = torch.empty_like(centroids)
    indices, moments, values = reference.allocate(points, centroids[None], palette[None])
    return indices, moments[0], values, palette


def _fake_blur_errors(
    points: Tensor, weights: Tensor, colors: Tensor, blur: Tensor, *_: object
) -> Tensor:
    height, width, axes = points.shape
    reach = len(blur) - 1
    return points.new_empty((height + reach, width + reach, axes))


def _fake_couple_colors(
    weights: Tensor, blur: Tensor, indices: Tensor, response: Tensor, num_colors: int
) -> tuple[Tensor, Tensor]:
    matrix = weights.new_empty((num_colors, num_colors, 4), dtype=torch.float64)
    return matrix, torch.empty_like(matrix[0])


def _fake_choose_indices(
    points: Tensor,
    weights: Tensor,
    kinds: Tensor,
    colors: Tensor,
    allowed: Tensor,
    costs: Tensor,
    diffusion: float,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(kinds, dtype=torch.int32), torch.empty_like(costs, dtype=torch.int64)


OPS = {
    "assign": Op(
        "(Tensor points, Tensor centroids, bool clamp) -> Tensor",
        _fake_assign,
        reference="kernels.reference:assign",
        cpu="kernels.cpu.assign:assign",
        cuda="kernels.cuda:assign",
    ),
    "cluster": Op(
        "(Tensor points, Tensor centroids, Tensor? palette, Tensor? weights, bool clamp)"
        " -> (Tensor, Tensor, Tensor)",
        lambda points, centroids, palette, *_: reference.allocate(points, centroids, palette),
        reference="kernels.reference:cluster",
        cpu="kernels.cpu.assign:cluster",
        cuda="kernels.cuda:cluster",
    ),
    "lookup": Op(
        "(Tensor palette, Tensor indices) -> Tensor",
        _fake_lookup,
        reference="kernels.reference:lookup",
        cpu="kernels.cpu.assign:lookup",
    ),
    "kmeans_per_image": Op(
        "(Tensor points, SymInt num_clusters, int num_iters, Tensor uniforms, Tensor? weights,"
        " bool clamp) -> (Tensor, Tensor, Tensor)",
        lambda points, num_clusters, *_: reference.allocate_kmeans(points, num_clusters),
        reference="functional.clustering:kmeans_per_image",
        cpu="kernels.cpu.kmeans:kmeans_per_image",
    ),
    "seed": Op(
        "(Tensor points, Tensor weights, Tensor start, int pinned, Tensor uniforms) -> Tensor",
        _like(2),
        reference="functional.seeding:seed",
        cpu="kernels.cpu.search:seed",
    ),
    "relocate": Op(
        "(Tensor centroids, Tensor counts, Tensor moments, Tensor movable, Tensor limit,"
        " float margin, Tensor? blur, int pinned) -> (Tensor, Tensor)",
        lambda centroids, counts, *_: (torch.empty_like(centroids), torch.empty_like(counts)),
        reference="functional.relocation:relocate",
        cpu="kernels.cpu.search:relocate",
    ),
    "search": Op(
        "(Tensor points, Tensor weights, Tensor start, int pinned, Tensor uniforms, Tensor blurs,"
        " int steps, int steps_a_round) -> Tensor",
        lambda points, weights, start, *_: start.new_empty(start.shape[1:]),
        reference="functional.search:search",
        cpu="kernels.cpu.search:search",
    ),
    "histogram": Op(
        "(Tensor points, Tensor? weights, Tensor(a!) cells, float unit) -> ()",
        lambda *_: None,
        reference="kernels.reference:histogram",
        cpu="kernels.cpu.colors:histogram",
    ),
    "distinct_colors": Op(
        "(Tensor points, Tensor? weights) -> (Tensor, Tensor, Tensor)",
        _fake_distinct_colors,
        cpu="kernels.cpu.colors:distinct_colors",
    ),
    "convert_color": Op(
        "(Tensor colors, str[] stages, float[] matrices) -> Tensor",
        _like(0),
        reference="functional.color:convert_plain",
        cpu="kernels.cpu.convert:convert_color",
    ),
    "diffuse": Op(
        "(Tensor points, Tensor? kinds, Tensor centroids, str[] stages, float[] matrices,"
        " Tensor targets, Tensor? kept, Tensor? amounts) -> Tensor",
        _fake_assign,
        cpu="kernels.cpu.dither:diffuse",
    ),
    "mix": Op(
        "(Tensor points, Tensor? kinds, Tensor centroids, str[] stages, float[] matrices,"
        " Tensor thresholds, float strength) -> Tensor",
        _fake_assign,
        cpu="kernels.cpu.dither:mix",
    ),
    "dither_amounts": Op(
        "(Tensor points, Tensor indices, Tensor colors, float unseen, float hidden, float[] flat)"
        " -> Tensor",
        lambda points, *_: points.new_empty(points.shape[:2]),
        cpu="kernels.cpu.amounts:dither_amounts",
    ),
    "blur_channels": Op(
        "(Tensor channels) -> Tensor",
        lambda channels: channels.new_empty((2, *channels.shape)),
        cpu="kernels.cpu.quality:blur_channels",
    ),
    "compare_channels": Op(
        "(Tensor channels, Tensor others, Tensor blurred) -> Tensor",
        lambda channels, *_: channels.new_empty((len(channels), 3, 2), dtype=torch.float64),
        cpu="kernels.cpu.quality:compare_channels",
    ),
    "sweep_dots": Op(
        "(Tensor points, Tensor weights, Tensor kinds, Tensor colors, Tensor blur,"
        " Tensor(a!) indices, Tensor(b!) response, Tensor(c!) stale) -> Tensor",
        lambda points, *_: points.new_empty((), dtype=torch.int64),
        cpu="kernels.cpu.spatial:sweep_dots",
    ),
    "blur_errors": Op(
        "(Tensor points, Tensor weights, Tensor colors, Tensor blur, Tensor indices) -> Tensor",
        _fake_blur_errors,
        cpu="kernels.cpu.spatial:blur_errors",
    ),
    "couple_colors": Op(
        "(Tensor weights, Tensor blur, Tensor indices, Tensor response, int num_colors)"
        " -> (Tensor, Tensor)",
        _fake_couple_colors,
        cpu="kernels.cpu.spatial:couple_colors",
    ),
    "move_colors": Op(
        "(Tensor matrix, Tensor gradient, Tensor colors, Tensor axes, Tensor movable, int rounds)"
        " -> Tensor",
        _like(2, torch.float64),
        cpu="kernels.cpu.spatial:move_colors",
    ),
    "choose_indices": Op(
        "(Tensor points, Tensor weights, Tensor kinds, Tensor colors, Tensor allowed,"
        " Tensor costs, float diffusion) -> (Tensor, Tensor)",
        _fake_choose_indices,
        cpu="kernels.cpu.deflate:choose_indices",
    ),
    "soft_backward": Op(
        "(Tensor x, Tensor palette, Tensor grad, float temperature) -> (Tensor, Tensor)",
        lambda x, palette, *_: (
            x.new_empty(x.shape),
            torch.empty_like(palette, memory_format=torch.contiguous_format),
        ),
        reference="functional.gradients:soft_backward",
    ),
    "learn": Op(
        "(Tensor points, Tensor? weights, Tensor(a!) centroids, Tensor(b!) counts,"
        " Tensor(c!) memory, Tensor(d!) batches, str space, float decay, float dead_below,"
        " int warm_up, str ranks) -> (Tensor, Tensor, Tensor, Tensor)",
        _fake_batch,
        reference="functional.online:run_learn",
    ),
    "observe": Op(
        "(Tensor points, Tensor? weights, Tensor centroids, Tensor counts, Tensor(a!) memory,"
        " Tensor batches, Tensor(b!) pending, str space, float decay, float dead_below,"
        " int warm_up, str ranks) -> (Tensor, Tensor, Tensor, Tensor)",
        _fake_batch,
        reference="functional.online:run_observe",
    ),
    "renew": Op(
        "(Tensor points, Tensor? weights, Tensor(a!) colors, Tensor(b!) counts,"
        " Tensor(c!) pending, Tensor(d!) previous, str space, float dead_below, str ranks)"
        " -> Tensor",
        _fake_assign,
        reference="functional.renewal:run_renew",
    ),
    "draw": Op(
        "(Tensor pictures, Tensor palettes, str dither, float strength, str space) -> Tensor",
        lambda pictures, *_: pictures.new_empty(pictures.shape[:3], dtype=torch.int64),
        cpu="functional.drawing:run_draw",
    ),
}
"""The table: rows by name."""

# `torch.library.custom_op` would do the same in fewer lines, but its first call imports
# torch._dynamo, which takes a second.
_library = torch.library.Library("colorquant_nn", "DEF")


def call(name: str, *arguments: Any) -> Any:
    """Call an operation of the table, on the backend of its arguments' device.

    Args:
        name: of a row.
        arguments: all of them, in order.

    Returns:
        A tensor or a tuple of tensors, as the schema says.

    Examples:
        >>> import torch
        >>> from colorquant_nn.kernels.ops import call
        >>> points, centroids = torch.rand(1, 2, 3), torch.zeros(1, 1, 3)
        >>> call("assign", points, centroids, True)
        tensor([[0, 0]])
    """
    return getattr(torch.ops.colorquant_nn, name)(*arguments)


@cache
def implementation(name: str, backend: str) -> Callable[..., Any] | None:
    """The function that a backend has for an operation.

    Args:
        name: of a row.
        backend: "reference", "cpu" or "cuda".

    Returns:
        The function, or None where the table has no path, or there is no Triton for "cuda".

    Raises:
        KeyError: there is no such row.
        ImportError: the function's module cannot be imported.

    Examples:
        >>> from colorquant_nn.kernels.ops import implementation
        >>> implementation("assign", "reference").__module__
        'colorquant_nn.kernels.reference'
    """
    path = getattr(OPS[name], backend)
    if path is None:
        return None
    module, function = path.split(":")
    try:
        return getattr(importlib.import_module(f"colorquant_nn.{module}"), function)
    except ImportError:
        if backend != "cuda":  # a build of PyTorch without Triton
            raise
        return None


def _register(name: str, op: Op) -> None:
    def use(backend: str) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            function = implementation(name, backend)
            result = NotImplemented if function is None else function(*arguments)
            if result is NotImplemented:
                function = implementation(name, "reference")
                assert function is not None
                result = function(*arguments)
            return result

        return run

    def on_the_cpu(*arguments: Any) -> Any:
        devices = [argument.device for argument in arguments if isinstance(argument, Tensor)]
        arguments = pytree.tree_map_only(Tensor, Tensor.cpu, arguments)
        return pytree.tree_map_only(
            Tensor, lambda result: result.to(devices[0]), call(name, *arguments)
        )

    _library.define(name + op.schema)
    everywhere = on_the_cpu if op.reference is None else use("reference")
    _library.impl(name, everywhere, "CompositeExplicitAutograd")
    for backend in ("cpu", "cuda"):
        if getattr(op, backend) is not None:
            _library.impl(name, use(backend), backend.upper())
    _library.impl(name, torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(f"colorquant_nn::{name}", op.fake, lib=_library)


def _convert_color_vmap(
    info: Any, in_dims: Any, colors: Tensor, stages: list[str], matrices: list[float]
) -> tuple[Tensor, int]:
    return call("convert_color", colors.movedim(in_dims[0], 0), stages, matrices), 0


for _name, _op in OPS.items():
    _register(_name, _op)
torch.library.register_vmap("colorquant_nn::convert_color", _convert_color_vmap)
