"""How a gradient passes a quantizer: estimators ``estimator(x, hard, palette) -> Tensor``.

All return the values of ``hard`` bit for bit; they differ in what flows back. Colours are sRGB,
channels last. Any function of this signature will do; bind further arguments with
`functools.partial`.

Letters: N points, K colours, C channels, B palettes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from colorquant_nn import kernels
from colorquant_nn.kernels import finite, sanitize

__all__ = [
    "Estimator",
    "clamp_through",
    "cluster_means",
    "cut",
    "palette_mse",
    "rows_of",
    "soft",
    "straight_through",
    "through_palette",
]

Estimator = Callable[[Tensor, Tensor, Tensor], Tensor]
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
        Bengio, Leonard and Courville 2013, "Estimating or propagating gradients through
        stochastic neurons", section 4.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.gradients import straight_through
        >>> x = torch.tensor([[0.4]], requires_grad=True)
        >>> straight_through(x, torch.ones(1, 1), torch.ones(1, 1)).backward()
        >>> x.grad
        tensor([[1.]])
    """
    return _StraightThrough.apply(x, hard)


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
        compressible representations", section 3.1.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.gradients import soft
        >>> x = torch.tensor([[0.5]], requires_grad=True)
        >>> soft(x, torch.ones(1, 1), torch.tensor([[0.0], [1.0]]), temperature=0.5).backward()
        >>> x.grad
        tensor([[1.]])
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    return _Soft.apply(x, hard, palette, temperature)


def palette_mse(x: Tensor, values: Tensor, known: Tensor | None = None) -> Tensor:
    """Mean squared error of the quantization, with a gradient to ``x``: the commitment term.

    The palette is held fixed. ``x`` counts as clamped to [0, 1]; the gradient passes the clamp.
    Points with a channel that is not finite are left out of the mean.

    Args:
        x: (..., N, C) before quantization.
        values: (..., N, C) after.
        known: the result, where it has been computed on the way; only the gradient is added.

    Returns:
        () float32 (float64 for float64), 0 if nothing is finite.

    References:
        van den Oord et al. 2017, "Neural discrete representation learning", equation 3.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.gradients import palette_mse
        >>> palette_mse(torch.tensor([[0.5], [float("nan")]]), torch.ones(2, 1))
        tensor(0.2500)
    """
    return _PaletteMSE.apply(x, values.detach(), known)


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
        counts: (B, K), the number of points in the mean; a centroid of count 0 is constant.
        weights: (B, N), 0 for points that are left out of the mean and 1 for the others, which are
            all without it.

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
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        indices, counts, weights = ctx.saved_tensors
        share = grad / counts.clamp_min(1)[..., None]
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
        # A copy of the palette: a buffer may have moved on before backward.
        ctx.save_for_backward(x, palette.clone())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, None]:
        x, palette = ctx.saved_tensors
        grad_x, grad_palette = kernels.call("soft_backward", x, palette, grad, ctx.temperature)
        return grad_x, None, grad_palette, None


def soft_backward(
    x: Tensor, palette: Tensor, grad: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """The gradient of ``sum_k p_k c_k`` to x and to the palette, a chunk of points at a time."""
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
        point = sanitize(points[:, part], clamp=True).to(centers.dtype)
        g = upstream[:, part].to(centers.dtype)
        difference = point[:, :, None] - centers[:, None]  # (B, chunk, K, C)
        probability = difference.square().sum(-1).div(-temperature).softmax(-1)
        along = (g[:, :, None] * centers[:, None]).sum(-1)  # (B, chunk, K)
        along = probability * (along - (probability * along).sum(-1, keepdim=True))
        along *= 2 / temperature
        grad_points[:, part] = (along[..., None] * centers[:, None]).sum(2).to(points.dtype)
        direct = probability[..., None] * g[:, :, None]
        grad_centers += (direct + along[..., None] * difference).sum(1)
    return grad_points.reshape(x.shape).contiguous(), grad_centers.reshape(palette.shape).to(
        palette.dtype
    )


class _PaletteMSE(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, values: Tensor, known: Tensor | None) -> Tensor:
        if known is not None:
            return known.to(torch.promote_types(x.dtype, torch.float32), copy=True)
        error, size = _errors(x, values)
        return error.square().sum() / size

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], inputs[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, values = ctx.saved_tensors
        error, size = _errors(x, values)
        return (error * (2 * grad / size)).to(x.dtype), None, None


def _errors(x: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The error of each element, 0 where the point is not finite, and the number of the others."""
    known = finite(x)[..., None]
    error = torch.where(known, sanitize(x, clamp=True) - values, 0)
    return error, (known.sum() * x.shape[-1]).clamp_min(1)
