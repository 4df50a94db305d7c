"""How a gradient passes a quantizer: estimators ``estimator(x, hard, palette) -> Tensor``.

All return the values of ``hard`` bit for bit; they differ in what flows back. Colours are sRGB,
channels last. Any function of this signature will do. One with a hyperparameter is a small class,
such as `Soft`, so that it can be changed during training, shown, stored and written in a config.

Everything here can be differentiated twice.

Letters: N points, K colours, C channels, B palettes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from colorquant_nn import kernels
from colorquant_nn.kernels import finite, sanitize

__all__ = [
    "Estimator",
    "Soft",
    "check_estimator",
    "clamp_through",
    "cluster_means",
    "commitment",
    "cut",
    "palette_mse",
    "rows_of",
    "soft",
    "straight_through",
    "straight_through_both",
    "through_palette",
]

# Of what returns a Tensor, jsonargparse would take functions from a config, and no class.
Estimator = Callable[[Tensor, Tensor, Tensor], Any]
"""``f(x, hard, palette)``: the values of ``hard``, and what flows back; all (..., N, C) sRGB."""

CHUNK_ELEMENTS = 1 << 20  # of the (chunk, K) probabilities in the backward of `soft`


def straight_through(x: Tensor, hard: Tensor, palette: Tensor) -> Tensor:
    """Pass the gradient to ``x`` as if nothing had been quantized: exactly ones.

    Args:
        x: (..., N, C) before quantization.
        hard: (..., N, C) after.
        palette: unused.

    Returns:
        (..., N, C), ``hard``.

    References:
        Bengio, Léonard and Courville 2013, "Estimating or propagating gradients through
        stochastic neurons for conditional computation", arXiv 1308.3432.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.gradients import straight_through
        >>> x = torch.tensor([[0.4]], requires_grad=True)
        >>> straight_through(x, torch.ones(1, 1), torch.ones(1, 1)).backward()
        >>> x.grad
        tensor([[1.]])
    """
    return _StraightThrough.apply(x, hard)


def straight_through_both(x: Tensor, hard: Tensor, palette: Tensor) -> Tensor:
    """Pass the gradient to ``x`` as `straight_through`, and to the colours as `through_palette`.

    Args:
        x: (..., N, C) before quantization.
        hard: (..., N, C) after, a differentiable function of the palette.
        palette: unused.

    Returns:
        (..., N, C), ``hard``.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.gradients import straight_through_both
        >>> x, palette = torch.zeros(2, 1, requires_grad=True), torch.ones(1, 1, requires_grad=True)
        >>> straight_through_both(x, palette[[0, 0]], palette).sum().backward()
        >>> x.grad.flatten(), palette.grad
        (tensor([1., 1.]), tensor([[2.]]))
    """
    return _StraightThroughBoth.apply(x, hard)


def cut(x: Tensor, hard: Tensor, palette: Tensor) -> Tensor:
    """Stop the gradient: nothing before the quantizer learns through it.

    Args:
        x: (..., N, C) before quantization; unused.
        hard: (..., N, C) after.
        palette: unused.

    Returns:
        (..., N, C), ``hard``.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.gradients import cut
        >>> x = torch.tensor([[0.4]], requires_grad=True)
        >>> cut(x, torch.ones(1, 1), torch.ones(1, 1)).requires_grad
        False
    """
    return hard.detach()


def through_palette(x: Tensor, hard: Tensor, palette: Tensor) -> Tensor:
    """Pass the gradient to the palette's own colours, and to whatever they were made from.

    The derivative with the assignment held fixed. For a palette that is the mean of its pixels
    (`PerImageColorQuantize`) it is exact; for one that takes no part in autograd it is zero.

    Args:
        x: (..., N, C) before quantization; unused.
        hard: (..., N, C) after, a differentiable function of the palette.
        palette: unused.

    Returns:
        (..., N, C), ``hard``.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.gradients import through_palette
        >>> palette = torch.ones(1, 1, requires_grad=True)
        >>> through_palette(torch.zeros(2, 1), palette[[0, 0]], palette).sum().backward()
        >>> palette.grad
        tensor([[2.]])
    """
    return hard


def soft(x: Tensor, hard: Tensor, palette: Tensor, temperature: float = 0.01) -> Tensor:
    """Pass the gradient of a soft assignment, the softmax over negative squared distances.

    Backward is that of ``sum_k p_k c_k`` with ``p = softmax(-|x - c_k|^2 / temperature)``, to ``x``
    and, where it takes part in autograd, to ``palette``; forward is ``hard``. It needs memory for
    a chunk of points only.

    Args:
        x: (..., N, C) before quantization.
        hard: (..., N, C) after.
        palette: (K, C), or (B, K, C) for x of (B, N, C).
        temperature: squared distance, in units of [0, 1] colours, above 0.

    Returns:
        (..., N, C), ``hard``.

    Raises:
        ValueError: for a temperature that is not above 0.

    References:
        Agustsson et al. 2017, "Soft-to-hard vector quantization for end-to-end learning
        compressible representations": the soft assignment.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.gradients import soft
        >>> x = torch.tensor([[0.5]], requires_grad=True)
        >>> soft(x, torch.ones(1, 1), torch.tensor([[0.0], [1.0]]), temperature=0.5).backward()
        >>> x.grad
        tensor([[1.]])
    """
    _check_temperature(temperature)
    return _Soft.apply(x, hard, palette, temperature)


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")


@dataclass(eq=False)
class Soft:
    """`soft` with a temperature of its own, which may change during training.

    Args:
        temperature: squared distance, in units of [0, 1] colours, above 0. The gradient grows with
            its inverse.

    Raises:
        ValueError: for a temperature that is not above 0, when it is set.

    Examples:
        >>> from colorquant_nn import ColorQuantize
        >>> from colorquant_nn.functional.gradients import Soft
        >>> layer = ColorQuantize(16, estimator=Soft(temperature=0.1))
        >>> layer.estimator.temperature *= 0.5
        >>> layer
        ColorQuantize(16, space='rgb', estimator=Soft(temperature=0.05))
    """

    temperature: float = 0.01

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "temperature":
            _check_temperature(value)
        super().__setattr__(name, value)

    def __call__(self, x: Tensor, hard: Tensor, palette: Tensor) -> Tensor:
        """Quantize softly backward, see `soft`."""
        return soft(x, hard, palette, self.temperature)


def check_estimator(estimator: Estimator) -> Estimator:
    """Check that an estimator can be called.

    Args:
        estimator: what came.

    Returns:
        The same.

    Raises:
        TypeError: for something else, a name or a class among them.

    Examples:
        >>> from colorquant_nn.functional.gradients import check_estimator, cut
        >>> check_estimator(cut) is cut
        True
    """
    if callable(estimator) and not isinstance(estimator, type):
        return estimator
    raise TypeError(
        "expected an estimator f(x, hard, palette), such as straight_through, through_palette, "
        "soft, Soft(temperature=0.1) or cut of colorquant_nn.functional.gradients, "
        f"got {estimator!r}"
    )


def commitment(x: Tensor, values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared distance of colours from the palette's: the commitment term of a loss.

    ``x`` is taken as it is, far outside of [0, 1] too, in value and in gradient. The palette is
    held fixed. Points with a channel that is not finite do not count.

    Args:
        x: (..., N, C) before quantization.
        values: (..., N, C) after.
        weights: (..., N) of the points in the mean; all 1 without it.

    Returns:
        () float32 (float64 for float64), 0 if nothing counts; differentiable in ``x``.

    References:
        van den Oord et al. 2017, "Neural discrete representation learning", equation 3.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.gradients import commitment
        >>> commitment(torch.tensor([[50.0], [float("nan")]]), torch.ones(2, 1))
        tensor(2401.)
    """
    return _SquaredError.apply(x, values.detach(), weights, None, False)


def palette_mse(
    x: Tensor, values: Tensor, weights: Tensor | None = None, known: Tensor | None = None
) -> Tensor:
    """Mean squared error of the quantization, as it is reported: of ``x`` limited to [0, 1].

    As a loss it would be blind to what is outside: take `commitment`. Points with a channel that is
    not finite do not count.

    Args:
        x: (..., N, C) before quantization.
        values: (..., N, C) after.
        weights: (..., N) of the points in the mean; all 1 without it.
        known: the result, where it has been computed on the way; only the gradient is added.

    Returns:
        () float32 (float64 for float64), 0 if nothing counts; its gradient to ``x`` passes the
        limits.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.gradients import palette_mse
        >>> palette_mse(torch.tensor([[0.5], [float("nan")]]), torch.ones(2, 1))
        tensor(0.2500)
    """
    return _SquaredError.apply(x, values.detach(), weights, known, True)


def clamp_through(x: Tensor) -> Tensor:
    """Limit to [0, 1], NaN to 0, and pass the gradient as if nothing had been limited.

    Args:
        x: floating point, of any shape.

    Returns:
        The same shape; float64 for float64, otherwise float32.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.gradients import clamp_through
        >>> x = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)
        >>> y = clamp_through(x)
        >>> y.sum().backward()
        >>> y.tolist(), x.grad.tolist()
        ([0.0, 0.5, 1.0], [1.0, 1.0, 1.0])
    """
    return _ClampThrough.apply(x)


def cluster_means(
    points: Tensor,
    indices: Tensor,
    centroids: Tensor,
    counts: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Centroids as what they are: the means of their points, differentiable with respect to these.

    Args:
        points: (B, N, C).
        indices: (B, N) int64, the cluster of each point.
        centroids: (B, K, C), the means, as computed before.
        counts: (B, K), the weight of the points in the mean; a centroid of count 0 is constant.
        weights: (B, N) of the points in the mean, at least 0; all 1 without it.

    Returns:
        (B, K, C), ``centroids``, in the dtype of the points.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.gradients import cluster_means
        >>> points = torch.tensor([[[0.0], [2.0]]], requires_grad=True)
        >>> indices, counts = torch.zeros(1, 2, dtype=torch.int64), torch.full((1, 1), 2.0)
        >>> cluster_means(points, indices, torch.ones(1, 1, 1), counts).backward()
        >>> points.grad.flatten()
        tensor([0.5000, 0.5000])
    """
    return _ClusterMeans.apply(points, indices, centroids, counts, weights)


def rows_of(palette: Tensor, indices: Tensor) -> Tensor:
    """Look up the colours of each image's indices.

    Args:
        palette: (B, K, C).
        indices: (B, N).

    Returns:
        (B, N, C), channel by channel in memory, as images are; differentiable in the palette.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.gradients import rows_of
        >>> rows_of(torch.tensor([[[0.0], [0.5]]]), torch.tensor([[1, 0, 1]])).flatten()
        tensor([0.5000, 0.0000, 0.5000])
    """
    return _Lookup.apply(palette, indices)


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(palette: Tensor, indices: Tensor) -> Tensor:
        return kernels.lookup(palette, indices)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        palette, indices = inputs
        ctx.shape = palette.shape
        ctx.save_for_backward(indices)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (indices,) = ctx.saved_tensors
        images, num_colors, channels = ctx.shape
        chosen = indices[:, None].expand(-1, channels, -1)
        sums = grad.new_zeros(images, channels, num_colors)
        return sums.scatter_add(2, chosen, grad.transpose(1, 2)).transpose(1, 2), None


class _StraightThrough(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, hard: Tensor) -> Tensor:
        return hard.view_as(hard)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _StraightThroughBoth(_StraightThrough):
    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return grad, grad


class _ClampThrough(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return sanitize(x, clamp=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.to(ctx.dtype)


class _ClusterMeans(torch.autograd.Function):
    @staticmethod
    def forward(
        points: Tensor,
        indices: Tensor,
        centroids: Tensor,
        counts: Tensor,
        weights: Tensor | None,
    ) -> Tensor:
        return centroids.to(torch.promote_types(points.dtype, torch.float32), copy=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        points, indices, _, counts, weights = inputs
        ctx.dtype = points.dtype
        ctx.save_for_backward(indices, counts, weights)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        indices, counts, weights = ctx.saved_tensors
        share = grad / torch.where(counts > 0, counts, 1)[..., None]
        spread = rows_of(share, indices)
        if weights is not None:
            spread = spread * weights[..., None]
        return spread.to(ctx.dtype), None, None, None, None


class _Soft(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, hard: Tensor, palette: Tensor, temperature: float) -> Tensor:
        return hard.view_as(hard)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, palette, ctx.temperature = inputs
        # A copy of a palette without a gradient: a buffer may have moved on before backward.
        ctx.save_for_backward(x, palette if palette.requires_grad else palette.clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, None]:
        x, palette = ctx.saved_tensors
        arguments = x, palette, grad, ctx.temperature
        if torch.is_grad_enabled():
            grad_x, grad_palette = _soft_gradients(*arguments)
        else:
            grad_x, grad_palette = kernels.call("soft_backward", *arguments)
        return grad_x, None, grad_palette, None


def _soft_gradients(
    x: Tensor, palette: Tensor, grad: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """The gradient of ``sum_k p_k c_k`` to x and to the palette, differentiable.

    It holds the probabilities of all points.
    """
    centers = palette.unsqueeze(-3)
    difference = clamp_through(x).unsqueeze(-2) - centers  # (..., N, K, C)
    probability = difference.square().sum(-1).div(-temperature).softmax(-1)
    g = grad.to(difference.dtype).unsqueeze(-2)
    along = (g * centers).sum(-1)
    along = probability * (along - (probability * along).sum(-1, keepdim=True)) * (2 / temperature)
    grad_x = (along[..., None] * centers).sum(-2).to(x.dtype)
    grad_palette = (probability[..., None] * g + along[..., None] * difference).sum(-3)
    return grad_x, grad_palette.sum_to_size(palette.shape).to(palette.dtype)


def soft_backward(
    x: Tensor, palette: Tensor, grad: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """`_soft_gradients` of a chunk of points at a time."""
    points = x if palette.dim() == 3 else x.reshape(1, -1, x.shape[-1])  # (B, N, C)
    upstream = grad.reshape(points.shape)
    centers = palette if palette.dim() == 3 else palette[None]
    dtype = torch.promote_types(x.dtype, centers.dtype)
    centers = centers.to(torch.promote_types(dtype, torch.float32))
    grad_points = torch.empty_like(points)
    grad_centers = torch.zeros_like(centers)
    size = max(1, CHUNK_ELEMENTS // max(1, centers.shape[0] * centers.shape[1]))
    for start in range(0, points.shape[1], size):
        part = slice(start, start + size)
        found = _soft_gradients(points[:, part], centers, upstream[:, part], temperature)
        grad_points[:, part] = found[0]
        grad_centers += found[1]
    return grad_points.reshape(x.shape).contiguous(), grad_centers.reshape(palette.shape).to(
        palette.dtype
    )


class _SquaredError(torch.autograd.Function):
    @staticmethod
    def forward(
        x: Tensor, values: Tensor, weights: Tensor | None, known: Tensor | None, clamp: bool
    ) -> Tensor:
        if known is not None:
            return known.to(torch.promote_types(x.dtype, torch.float32), copy=True)
        plain = _plain_error(x, values, weights, clamp)
        if plain is not None:
            return plain.square_().sum() / max(1, plain.numel())
        error, votes, size = _errors(x, values, weights, clamp)
        squares = error.square() if votes is None else error.square() * votes
        return squares.sum() / size

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, values, weights, _, ctx.clamp = inputs
        ctx.save_for_backward(x, values, weights)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, values, weights = ctx.saved_tensors
        plain = None if torch.is_grad_enabled() else _plain_error(x, values, weights, ctx.clamp)
        if plain is not None:
            slope = plain.mul_(2 * grad / max(1, plain.numel()))
        else:
            error, votes, size = _errors(x, values, weights, ctx.clamp)
            slope = error * (2 * grad / size)
            slope = slope if votes is None else slope * votes
        return slope.to(x.dtype), None, None, None, None


def _plain_error(x: Tensor, values: Tensor, weights: Tensor | None, clamp: bool) -> Tensor | None:
    """The error of each element, where all count alike, as nearly always: a third of the time.

    Only the CPU is asked whether they do, where that is no waiting.
    """
    is_plain = weights is None and type(x) is Tensor and x.device.type == "cpu"
    if not is_plain or torch.compiler.is_compiling():
        return None
    exact = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    error = exact - values
    if not bool(error.sum().isfinite()):
        return None
    if clamp and x.numel() > 0:
        low, high = exact.aminmax()
        if low < 0 or high > 1:
            return exact.clamp(0, 1).sub_(values)
    return error


def _errors(
    x: Tensor, values: Tensor, weights: Tensor | None, clamp: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The error of each element, its weight, and the weight of all; 0 where x is not finite."""
    known = finite(x.detach())[..., None]
    exact = clamp_through(x) if clamp else x.to(torch.promote_types(x.dtype, torch.float32))
    error = torch.where(known, exact - values, 0)
    votes = None if weights is None else weights[..., None].to(error.dtype)
    total = known.sum() if votes is None else (known * votes).sum()
    size = total * x.shape[-1]
    return error, votes, torch.where(size > 0, size, 1)
