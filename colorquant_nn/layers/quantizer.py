"""What the layers share: images in, images out, the gradient, the loss term, what they warn of.

Letters: B images, N = H W pixels, K colours. Images are channels first; the functions of the core
see (B, N, 3) views of them.
"""

from collections.abc import Callable
from inspect import signature
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from colorquant_nn import kernels
from colorquant_nn.functional.color import color_space
from colorquant_nn.functional.gradients import (
    Estimator,
    check_estimator,
    commitment,
    palette_mse,
    straight_through_both,
)
from colorquant_nn.functional.online import RANGES
from colorquant_nn.functional.points import (
    check_weights,
    to_image,
    to_index_map,
    to_points,
    warn_of_range,
)
from colorquant_nn.names import Returns, Space, check_name

__all__ = ["Assigned", "Quantized", "Quantizer"]


class Quantized(NamedTuple):
    """A quantized image or batch, and all that is known of it."""

    values: Tensor
    """The image in palette colours: shape, dtype and range of the input."""
    indices: Tensor
    """(B, H, W) int64, or (H, W): the palette's row at each pixel."""
    palette: Tensor
    """(K, 3) float32 sRGB in [0, 1], or (B, K, 3) where each image has its own."""
    mse: Tensor
    """To report: mean squared error over all elements, of the input limited to its range, in units
    of [0, 1]."""
    commitment: Tensor
    """To add to a loss: ``commitment_weight`` times the mean squared distance of the input, as far
    out as it is, from its palette colours; in units of [0, 1] whatever the ``value_range``."""


class Assigned(NamedTuple):
    """What a layer finds for its points."""

    indices: Tensor
    """(B, N) int64."""
    hard: Tensor
    """(B, N, 3) sRGB, the palette's row of each point in the points' dtype."""
    palette: Tensor
    """(K, 3) or (B, K, 3) float32 sRGB."""
    mse: Tensor | None = None
    """() the mean squared error, if it has been found on the way."""


# Of the input, its points, and what is nearest to them: what is drawn instead.
Drawing = Callable[[Tensor, Tensor, Assigned], Assigned]


class Quantizer(nn.Module):
    """The contract of all layers; a subclass has `_assign`, and `_assign_traced` if it exports.

    Args:
        space: where means and distances are taken: "rgb", "linear", "lab" or "oklab".
        estimator: ``f(x, hard, palette)``, how the gradient passes.
        commitment_weight: of the commitment term, at least 0.
        value_range: what stands for 0 and 1.

    Raises:
        ValueError: for an argument out of range.
        TypeError: for an estimator that cannot be called.
    """

    def __init__(
        self,
        space: Space,
        estimator: Estimator,
        commitment_weight: float,
        value_range: tuple[float, float],
    ) -> None:
        super().__init__()
        color_space(space)
        if not commitment_weight >= 0:
            raise ValueError(f"commitment_weight must be at least 0, got {commitment_weight}")
        self._space: Space = space
        self.estimator = estimator
        self.commitment_weight = commitment_weight
        self.value_range = value_range
        self._has_looked = False  # for what it warns of once

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "estimator":  # which may change during training
            check_estimator(value)
        super().__setattr__(name, value)

    @property
    def space(self) -> Space:
        """Where means and distances are taken; fixed, since a state is in it."""
        return self._space

    @property
    def value_range(self) -> tuple[float, float]:
        """The values of black and white."""
        return self._value_range

    @value_range.setter
    def value_range(self, value_range: tuple[float, float]) -> None:
        self._value_range = _check_range(value_range)

    def forward(self, x: Tensor, weights: Tensor | None = None, returns: Returns = "values") -> Any:
        """Quantize; the images alone, or all that is known.

        Args:
            x: (B, 3, H, W) or (3, H, W), floating point.
            weights: see `quantize`.
            returns: "values" for the images, so that the layer fits in `nn.Sequential`; "all" for
                a `Quantized`.

        Returns:
            The shape, dtype and range of ``x``; or a `Quantized`.

        Raises:
            ValueError: see `quantize`, and for another ``returns``.
            TypeError: see `quantize`.
        """
        node = leaf(self, x, weights, returns)
        return self._run(x, weights, returns) if node is None else node

    def _run(
        self, x: Tensor, weights: Tensor | None, returns: Returns, draw: Drawing | None = None
    ) -> Any:
        """Forward; what draws (of `DitheredColorQuantize`) has the last word on the indices."""
        if not torch.compiler.is_compiling() and torch._C._is_tracing():
            raise RuntimeError(_NO_JIT)
        check_name("returns", returns, ("values", "all"))
        points, votes = self._to_points(x), self._votes(weights, x)
        if kernels.exporting():
            if draw is not None:
                raise RuntimeError(_NO_DOTS)
            found = nearest = self._assign_traced(points, votes)
            values = found.hard
        elif draw is None:
            found = nearest = self._assign(points, votes)
            values = self.estimator(points, found.hard, found.palette)
        else:
            nearest = self._assign(points.detach(), votes)
            found = draw(x, points.detach(), nearest)
            values = straight_through_both(points, found.hard, found.palette)
        values = to_image(self._to_values(values), x).to(x.dtype)
        if returns == "values":
            return values
        palette = found.palette.detach()
        return Quantized(
            values,
            to_index_map(found.indices, x),
            palette if palette.dim() == 2 or x.dim() == 4 else palette.squeeze(0),
            palette_mse(points, found.hard, votes, found.mse),
            self._commitment(points, nearest.hard, votes),
        )

    def _commitment(self, points: Tensor, hard: Tensor, votes: Tensor | None) -> Tensor:
        if self.commitment_weight == 0:
            return points.new_zeros((), dtype=torch.promote_types(points.dtype, torch.float32))
        return self.commitment_weight * commitment(points, hard, votes)

    def quantize(self, x: Tensor, weights: Tensor | None = None) -> Quantized:
        """Quantize, and return all that is known: ``layer(x, weights, returns="all")``.

        ``values`` are ``palette[indices]`` in the input's dtype, bit for bit (in another
        ``value_range``: ``palette`` brought to it).

        Args:
            x: (B, 3, H, W) or (3, H, W), floating point.
            weights: (B, H, W) or (H, W), how much each pixel counts, at least 0, or a mask: those
                of weight 0 are quantized, but teach the palette nothing and are left out of ``mse``
                and ``commitment``. All count the same without it.

        Returns:
            See `Quantized`.

        Raises:
            ValueError: for another shape, or weights that are negative or not finite (on a GPU,
                where to look would be to wait, such weights count as 0).
            TypeError: for something else than a floating point tensor.

        Examples:
            >>> import torch
            >>> from colorquant_nn import ColorQuantize
            >>> images = torch.rand(2, 3, 8, 8)
            >>> result = ColorQuantize(4).quantize(images, weights=torch.ones(2, 8, 8))
            >>> torch.equal(result.values, result.palette[result.indices].movedim(-1, 1))
            True
        """
        return cast(Quantized, self(x, weights, returns="all"))

    def _assign(self, points: Tensor, weights: Tensor | None) -> Assigned:
        raise NotImplementedError

    def _assign_traced(self, points: Tensor, weights: Tensor | None) -> Assigned:
        """`_assign` as plain nodes of a graph, where it has a form of its own."""
        return self._assign(points, weights)

    def _to_points(self, x: Tensor) -> Tensor:
        points = to_points(x)
        low, high = self.value_range
        if (low, high) == (0, 1):
            return points
        return (points.to(torch.promote_types(x.dtype, torch.float32)) - low) / (high - low)

    def _to_values(self, colors: Tensor) -> Tensor:
        low, high = self.value_range
        return colors if (low, high) == (0, 1) else colors * (high - low) + low

    def _votes(self, weights: Tensor | None, x: Tensor) -> Tensor | None:
        return None if weights is None else check_weights(weights, x, wait=False)

    def _look(self, points: Tensor) -> None:
        """Warn once of images in another range; the one time it looks, it waits for the device."""
        if not torch.compiler.is_compiling() and not self._has_looked:
            self._has_looked = True
            warn_of_range(points, RANGES)

    def __prepare_scriptable__(self) -> None:
        raise RuntimeError(_NO_JIT)

    def extra_repr(self) -> str:
        """The number of colours, the space, and the arguments that are not the default."""
        shown = [str(self.num_colors), f"space={self.space!r}"]
        for name, parameter in signature(type(self)).parameters.items():
            if name in ("num_colors", "space", "process_group", "deferred"):
                continue
            value = getattr(self, name, parameter.default)
            if value != parameter.default:
                shown.append(f"{name}={getattr(value, '__name__', repr(value))}")
        return ", ".join(shown)


def leaf(module: nn.Module, x: Any, weights: Any, returns: Returns) -> torch.fx.Proxy | None:
    """A call of a layer as one node of a graph, where torch.fx traces one."""
    proxies = [value for value in (x, weights) if isinstance(value, torch.fx.Proxy)]
    if not proxies:
        return None
    tracer: Any = proxies[0].tracer
    arguments = (x,) if weights is None else (x, weights)
    keywords = {} if returns == "values" else {"returns": returns}
    node = tracer.create_proxy("call_module", tracer.path_of_module(module), arguments, keywords)
    return cast(torch.fx.Proxy, node)


_NO_DOTS = (
    "dots are drawn one after the other, which no graph says: export the quantizer alone, "
    "layer.quantizer, and draw with apply_palette"
)
_NO_JIT = (
    "torch.jit knows no palettes: export with torch.export.export(model, (x,)), or with "
    "torch.onnx.export(model, (x,), dynamo=True)"
)


def _check_range(value_range: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = value_range
        if low < high:
            return (low, high)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"expected value_range as (low, high), such as (-1, 1), got {value_range!r}")
