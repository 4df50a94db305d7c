"""The layer: a module that holds a palette, learns it, and quantizes with it.

Letters: B images, N = H W pixels, K colours. Images are channels first here, and only here; the
functions below see (B, N, 3) views of them.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from colorquant_nn import kernels
from colorquant_nn.functional import online
from colorquant_nn.functional.clustering import distortion
from colorquant_nn.functional.color import color_space
from colorquant_nn.functional.fitting import fit
from colorquant_nn.functional.gradients import (
    Estimator,
    clamp_through,
    cluster_means,
    palette_mse,
    rows_of,
    straight_through,
    through_palette,
)
from colorquant_nn.functional.histogram import ColorHistogram
from colorquant_nn.functional.points import (
    check_count,
    check_palette,
    finite_weights,
    in_space,
    to_image,
    to_index_map,
    to_points,
)
from colorquant_nn.functional.seeding import spread_colors
from colorquant_nn.names import Space

__all__ = ["ColorQuantize", "PerImageColorQuantize", "Quantized"]

NUM_MOMENTS = 10  # of each cluster in three channels: count, offset, scatter
GOLDEN_RATIO = (5**0.5 - 1) / 2  # its multiples, modulo 1, fill [0, 1) evenly


class Quantized(NamedTuple):
    """A quantized image or batch, and all that is known of it."""

    values: Tensor
    """The image in palette colours: shape and dtype of the input."""
    indices: Tensor
    """(B, H, W) int64, or (H, W): the palette's row at each pixel."""
    palette: Tensor
    """(K, 3) float32 sRGB, or (B, K, 3) where each image has its own."""
    mse: Tensor
    """Mean squared error over all elements, with a gradient to the input."""


class ColorQuantize(nn.Module):
    """Maps every pixel to the nearest of K colours, which follow the data as k-means does.

    In training mode each forward learns from its batch, with or without gradients, as BatchNorm
    does. The first 32 batches fit the palette to a histogram of what was seen (k-means++, Lloyd,
    relocations), after them the update rule holds. In evaluation mode, or when ``frozen``, nothing
    changes, but for `fit`. Pixels count as clamped to [0, 1] (NaN as 0); those that are not finite
    are quantized, but never learnt from. Put the layer before any `Normalize`.

    Args:
        num_colors: K, at least 1.
        space: where means and distances are taken: "rgb", "linear", "lab" or "oklab".
        decay: of the running counts, from 0 to 1: 0 is Lloyd's algorithm on each batch, 1 is
            minibatch k-means, between is an exponential moving average.
        dead_below: a colour whose count is less than this fraction of the mean count moves to
            where the error is largest, if that lowers the error; 0 never moves one.
        frozen: never learn.
        deferred: only gather in forward, and learn when `commit` is called, once per optimizer
            step: for gradient accumulation and activation checkpointing.
        estimator: ``f(x, hard, palette)``, how the gradient passes; see
            `colorquant_nn.functional.gradients`.

    Shapes:
        (B, 3, H, W) or (3, H, W) of floating point sRGB; the output is the same.

    Attributes:
        centroids: (K, 3) float32 buffer, the palette in the working space.
        counts: (K,) float32 buffer, running number of pixels of each colour.

    Raises:
        ValueError: for an argument out of range, or an input of another shape.
        TypeError: for an input that is not floating point.

    References:
        van den Oord et al. 2017, "Neural discrete representation learning" (the bottleneck);
        Sculley 2010, "Web-scale k-means clustering" (the update).

    Examples:
        >>> layer = ColorQuantize(16)
        >>> images = torch.rand(8, 3, 32, 32, requires_grad=True)
        >>> out = layer(images)
        >>> out.shape, len(out.detach().movedim(1, -1).reshape(-1, 3).unique(dim=0)) <= 16
        (torch.Size([8, 3, 32, 32]), True)
        >>> out.sum().backward()
        >>> images.grad.unique()
        tensor([1.])
    """

    centroids: Tensor
    counts: Tensor

    def __init__(
        self,
        num_colors: int,
        *,
        space: Space = "rgb",
        decay: float = 0.99,
        dead_below: float = 0.1,
        frozen: bool = False,
        deferred: bool = False,
        estimator: Estimator = straight_through,
    ) -> None:
        super().__init__()
        num_colors = check_count(num_colors)
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be from 0 to 1, got {decay}")
        if not dead_below >= 0:
            raise ValueError(f"dead_below must be at least 0, got {dead_below}")
        self.space = space
        self.decay = decay
        self.dead_below = dead_below
        self.frozen = frozen
        self.deferred = deferred
        self.estimator = estimator
        self.register_buffer("centroids", color_space(space).from_rgb(spread_colors(num_colors)))
        counts = torch.zeros(num_colors, dtype=torch.float32)
        self.register_buffer("counts", counts)
        # For the warm-up alone, and so in the extra state: 4 MiB that no DDP needs to broadcast.
        self._histogram = torch.zeros(8**online.HISTOGRAM_BITS, 4, dtype=torch.float32)
        # How many batches were learnt from; it stays on the CPU.
        self._batches = torch.zeros((), dtype=torch.int64, device="cpu")
        if deferred:
            self._pending_histogram = torch.zeros_like(self._histogram)
            self._pending_moments = torch.zeros(num_colors, NUM_MOMENTS, dtype=torch.float64)

    @classmethod
    def from_palette(
        cls, palette: Tensor, *, space: Space = "rgb", frozen: bool = True, **arguments: Any
    ) -> "ColorQuantize":
        """Make a layer of given colours, fixed unless ``frozen`` is false.

        Args:
            palette: (K, 3) sRGB, float in [0, 1].
            space: where distances are taken, as for the class.
            frozen: never learn.
            arguments: others of the class.

        Raises:
            ValueError: for a palette of another shape or range.

        Examples:
            >>> ColorQuantize.from_palette(torch.tensor([[0.0, 0, 0], [1, 1, 1]]))
            ColorQuantize(2, space='rgb', frozen=True)
        """
        palette = check_palette(palette)
        layer = cls(palette.shape[0], space=space, frozen=frozen, **arguments)
        layer._set_state(palette, torch.zeros(palette.shape[0]))
        return layer.to(palette.device)

    @property
    def num_colors(self) -> int:
        """K."""
        return self.centroids.shape[0]

    @property
    def palette(self) -> Tensor:
        """The colours: (K, 3) float32 sRGB in [0, 1], a copy."""
        return color_space(self.space).to_rgb(self.centroids).clamp(0, 1)

    @property
    def seeded(self) -> bool:
        """Whether the palette comes from data, or from the user, rather than from the cube."""
        return bool(self._batches > 0)

    def forward(self, x: Tensor) -> Tensor:
        """Quantize; the values alone of `quantize`."""
        return self.quantize(x).values

    def quantize(self, x: Tensor) -> Quantized:
        """Quantize, and in training mode learn from the batch.

        ``values`` are ``palette[indices]`` in the input's dtype, bit for bit. ``palette`` is what
        the batch was quantized with: after seeding, before the update.

        Args:
            x: (B, 3, H, W) or (3, H, W), floating point sRGB.
        """
        if kernels.exporting():
            return self._quantize_traced(x)
        points = to_points(x)
        pixels = points.detach()
        learning = self.training and not self.frozen and _worth_learning(pixels)
        with torch.no_grad():
            if learning and not self.deferred:
                online.warm_up(
                    pixels,
                    self.centroids,
                    self.counts,
                    self._histogram,
                    self._batches,
                    self.decay,
                    self.space,
                )
            palette = self.palette
            rgb = self.space == "rgb"  # the kernel clamps, and sees what is not finite
            clustered = kernels.cluster(
                in_space(pixels, self.space),
                self.centroids[None],
                palette[None],
                None if rgb else finite_weights(pixels),
                clamp=rgb,
            )
            if learning and self.deferred:
                online.observe(
                    pixels,
                    clustered.moments[0],
                    self._pending_histogram,
                    self._pending_moments,
                    self._batches,
                )
            elif learning:
                online.learn(
                    clustered.moments[0],
                    self.centroids,
                    self.counts,
                    self._batches,
                    self.decay,
                    self.dead_below,
                )
        hard = clustered.values.to(x.dtype)
        known = _mean_squared_error(clustered.moments[0]) if rgb else None
        values = self.estimator(points, hard, palette)
        return Quantized(
            to_image(values, x),
            to_index_map(clustered.indices, x),
            palette,
            palette_mse(points, hard, known),
        )

    def _quantize_traced(self, x: Tensor) -> Quantized:
        """`quantize` in evaluation mode, as plain nodes of a graph."""
        if self.training and not self.frozen:
            raise RuntimeError("call eval() before exporting: an exported palette does not learn")
        palette, indices = self.palette, self.encode(x)
        values = palette[indices].movedim(-1, -3).to(x.dtype)
        return Quantized(
            values, indices, palette, palette_mse(x.movedim(-3, -1), values.movedim(-3, -1))
        )

    def encode(self, x: Tensor) -> Tensor:
        """The index of the nearest colour of each pixel; never learns.

        Args:
            x: (B, 3, H, W) or (3, H, W), floating point sRGB.

        Returns:
            (B, H, W) or (H, W) int64.
        """
        pixels = in_space(to_points(x).detach(), self.space)
        indices = kernels.assign(pixels, self.centroids[None], clamp=self.space == "rgb")
        return to_index_map(indices, x)

    def decode(self, indices: Tensor) -> Tensor:
        """The colours of indices, as `encode` gives them.

        Args:
            indices: (B, H, W) or (H, W) int64, from 0 to K - 1.

        Returns:
            (B, 3, H, W) or (3, H, W) float32 sRGB.
        """
        return nn.functional.embedding(indices, self.palette).movedim(-1, -3)

    @torch.no_grad()
    def fit(self, images: Tensor | Iterable[Any]) -> "ColorQuantize":
        """Learn the palette of all images at once: full k-means, in one pass and constant memory.

        What was learnt before is forgotten; the layer may go on to learn in training mode.

        Args:
            images: (B, 3, H, W) or (3, H, W); or any iterable of these, or of tuples whose first
                item they are, as a DataLoader gives. Float in [0, 1] or uint8.

        Returns:
            This layer.

        Raises:
            ValueError: there is no pixel that is finite.

        Examples:
            >>> ColorQuantize(4).fit(torch.rand(2, 3, 8, 8)).counts.sum()
            tensor(128.)
        """
        histogram = ColorHistogram()
        histogram.update(images)
        colors = histogram.colors()
        fitted = fit(colors, self.num_colors, self.space)
        palette = spread_colors(self.num_colors)  # where there are fewer colours, these stay
        palette[: fitted.shape[0]] = fitted
        space = color_space(self.space)
        moments = kernels.cluster(
            space.from_rgb(colors.colors)[None],
            space.from_rgb(palette)[None],
            weights=colors.weights[None].to(torch.float32),
        ).moments[0]
        self._set_state(palette, kernels.unpack_moments(moments).counts)
        return self

    @torch.no_grad()
    def commit(self) -> None:
        """Learn from all batches since the last call as from one; for ``deferred`` layers.

        Call it after each optimizer step, on every rank, and before saving. Until then the palette
        is constant.

        Raises:
            RuntimeError: the layer is not deferred.
        """
        if not self.deferred:
            raise RuntimeError("commit() is for layers made with deferred=True")
        if self.frozen:
            return
        online.commit(
            self._pending_histogram,
            self._pending_moments,
            self.centroids,
            self.counts,
            self._histogram,
            self._batches,
            self.decay,
            self.dead_below,
            self.space,
        )

    def extra_repr(self) -> str:
        """The arguments that say what the layer does."""
        learning = "frozen=True" if self.frozen else f"decay={self.decay:g}"
        return f"{self.num_colors}, space={self.space!r}, {learning}"

    def get_extra_state(self) -> dict[str, Tensor]:
        """What `state_dict` saves besides the buffers: how far the warm-up is, and on what."""
        cells = self._histogram[:, 0].nonzero().squeeze(1)
        return {
            "batches": self._batches.clone(),
            "cells": cells.cpu(),
            "histogram": self._histogram[cells].cpu(),
        }

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take up what `get_extra_state` gave."""
        self._forget_pending()
        self._batches.copy_(state["batches"])
        self._histogram.zero_()
        device = self._histogram.device
        self._histogram[state["cells"].to(device)] = state["histogram"].to(device)
        if not self.seeded and self.counts.any():  # an averaged model: only its buffers followed
            self._batches.fill_(online.WARM_UP_BATCHES)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        centroids = state_dict.get(prefix + "centroids")
        if centroids is not None and centroids.shape != self.centroids.shape:
            raise ValueError(
                f"the state has a palette of {centroids.shape[0]} colours, this layer of "
                f"{self.num_colors}; make the layer with num_colors={centroids.shape[0]}, load "
                "into it, and take its colours over with resize_palette and from_palette"
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ColorQuantize":
        """Move the state to another device, but keep it float32 whatever the model's dtype."""
        before = self.centroids, self.counts
        super()._apply(fn, recurse)
        device = self.centroids.device
        self.centroids, self.counts = (
            new if new.dtype == old.dtype else old.to(device)
            for old, new in zip(before, (self.centroids, self.counts), strict=True)
        )
        self._histogram = self._histogram.to(device)
        if self.deferred:
            self._pending_histogram = self._pending_histogram.to(device)
            self._pending_moments = self._pending_moments.to(device)
        return self

    def _set_state(self, palette: Tensor, counts: Tensor) -> None:
        """Take a palette as learnt."""
        rgb = palette.detach().to(self.centroids)
        self.centroids.copy_(color_space(self.space).from_rgb(rgb))
        self.counts.copy_(counts)
        self._histogram.zero_()
        self._forget_pending()
        self._batches.fill_(online.WARM_UP_BATCHES)

    def _forget_pending(self) -> None:
        """Drop what waits for a commit: it was observed about other centroids."""
        if self.deferred:
            self._pending_histogram.zero_()
            self._pending_moments.zero_()


class PerImageColorQuantize(nn.Module):
    """Quantizes every image with K colours of its own, found by k-means inside forward.

    It has no state: training and evaluation are the same. The default gradient is the exact one
    with the assignment held fixed, where each colour is the mean of its pixels. An image of at
    most K distinct colours comes out as it went in: bit for bit in rgb (float64 as float32), after
    rounding to 8 bits in the other spaces.

    Args:
        num_colors: K, at least 1.
        space: where means and distances are taken: "rgb", "linear", "lab" or "oklab".
        num_iters: steps of Lloyd's algorithm after k-means++, at least 1.
        estimator: ``f(x, hard, palette)``, how the gradient passes; see
            `colorquant_nn.functional.gradients`.

    Shapes:
        (B, 3, H, W) or (3, H, W) of floating point sRGB; the output is the same.

    Raises:
        ValueError: for an argument out of range, or an input of another shape.
        TypeError: for an input that is not floating point.

    Examples:
        >>> layer = PerImageColorQuantize(4)
        >>> out = layer(torch.rand(2, 3, 16, 16))
        >>> [len(image.flatten(1).T.unique(dim=0)) for image in out]
        [4, 4]
    """

    def __init__(
        self,
        num_colors: int,
        *,
        space: Space = "rgb",
        num_iters: int = 10,
        estimator: Estimator = through_palette,
    ) -> None:
        super().__init__()
        num_colors = check_count(num_colors)
        num_iters = check_count(num_iters, "num_iters")
        color_space(space)
        self.num_colors = num_colors
        self.space = space
        self.num_iters = num_iters
        self.estimator = estimator

    def forward(self, x: Tensor) -> Tensor:
        """Quantize; the values alone of `quantize`."""
        return to_image(self._quantize(x)[0], x)

    def quantize(self, x: Tensor) -> Quantized:
        """Quantize each image by itself.

        ``values`` are ``palette[b, indices[b]]`` in the input's dtype, bit for bit, and each colour
        is the mean of its pixels in the working space.

        Args:
            x: (B, 3, H, W) or (3, H, W), floating point sRGB.
        """
        values, hard, palette, indices = self._quantize(x)
        snapshot = palette.detach()
        return Quantized(
            to_image(values, x),
            to_index_map(indices, x),
            snapshot if x.dim() == 4 else snapshot.squeeze(0),
            palette_mse(to_points(x), hard),
        )

    def _quantize(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Values, the colours that they stand for, palettes and indices of the points."""
        points = to_points(x)
        converted = in_space(points, self.space)
        rgb = self.space == "rgb"  # the kernel clamps, and sees what is not finite
        with_gradient = torch.is_grad_enabled() and x.requires_grad
        weights = finite_weights(points.detach()) if with_gradient or not rgb else None
        with torch.no_grad():
            centroids, indices, counts = kernels.kmeans_per_image(
                converted,
                self.num_colors,
                self.num_iters,
                _uniforms(self.num_colors, x.device),
                None if rgb or weights is None else weights > 0,
                clamp=rgb,
            )
        means = cluster_means(converted, indices, centroids, counts, weights)
        palette = clamp_through(color_space(self.space).to_rgb(means)).to(torch.float32)
        hard = rows_of(palette, indices).to(x.dtype)
        return self.estimator(points, hard, palette), hard, palette, indices

    def extra_repr(self) -> str:
        """The arguments that say what the layer does."""
        return f"{self.num_colors}, space={self.space!r}, num_iters={self.num_iters}"


def _mean_squared_error(moments: Tensor) -> Tensor:
    """Of the points in the moments (K, F), over all three channels; 0 without points."""
    size = 3 * moments[:, 0].sum()
    return distortion(moments) / size.clamp_min(1)


def _worth_learning(pixels: Tensor) -> bool:
    """Whether there is a pixel, here or possibly on another rank."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return distributed or pixels.numel() > 0


def _uniforms(num_colors: int, device: torch.device) -> Tensor:
    """(K, candidates) numbers in [0, 1), always the same, for the draws of k-means++."""
    candidates = 2 + int(math.log(num_colors))
    ordinal = torch.arange(1, num_colors * candidates + 1, device=device, dtype=torch.float32)
    return (ordinal * GOLDEN_RATIO).frac().reshape(num_colors, candidates)
