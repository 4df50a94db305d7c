"""The layers: modules that quantize with a palette which they learn, or find for each image.

Letters: B images, N = H W pixels, K colours. Images are channels first; the functions of the core
see (B, N, 3) views of them.
"""

import warnings
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import Self  # which torch needs, too

from colorquant_nn import kernels
from colorquant_nn.functional import online
from colorquant_nn.functional.clustering import distortion, moments_of
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
from colorquant_nn.functional.seeding import num_candidates, spread_colors
from colorquant_nn.names import Space

__all__ = ["ColorQuantize", "DeferredColorQuantize", "PerImageColorQuantize", "Quantized"]

HALF_MAX = torch.finfo(torch.float16).max
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
    does. The first ``warm_up`` batches fit the palette to what was seen (k-means++, Lloyd,
    relocations), after them the update rule holds. In evaluation mode, or when ``frozen``, nothing
    changes, but for `fit`. Pixels count as clamped to [0, 1] (NaN as 0); those that are not finite
    are quantized, but never learnt from. Put the layer before any `Normalize`.

    The state is the four buffers: 64 KiB at most up to 1000 colours, which DDP broadcasts in every
    forward. No centroid leaves the sRGB cube.

    Args:
        num_colors: K, at least 1.
        space: where means and distances are taken: "rgb", "linear", "lab" or "oklab".
        decay: of the running counts, from 0 to 1: 0 is Lloyd's algorithm on each batch, 1 is
            minibatch k-means, between is an exponential moving average.
        dead_below: a colour whose count is less than this fraction of the mean count moves to
            where the error is largest, if that lowers the error; 0 never moves one.
        frozen: never learn.
        estimator: ``f(x, hard, palette)``, how the gradient passes; see
            `colorquant_nn.functional.gradients`.
        warm_up: how many batches the palette is fitted to as a whole, at least 1.
        deferred: deprecated, makes a `DeferredColorQuantize`.

    Shapes:
        (B, 3, H, W) or (3, H, W) of floating point sRGB; the output is the same.

    Attributes:
        centroids: (K, 3) float32 buffer, the palette in the working space.
        counts: (K,) float32 buffer, running number of pixels of each colour.
        memory: (6144, 4) float16 buffer, colours of the warm-up: root of the weight, and mean sRGB;
            zero after it.
        batches: () float32 buffer, how many batches were learnt from.

    Raises:
        ValueError: for an argument out of range, or an input of another shape.
        TypeError: for an input that is not floating point.

    References:
        van den Oord et al. 2017, "Neural discrete representation learning" (the bottleneck);
        Sculley 2010, "Web-scale k-means clustering" (the update).

    Examples:
        >>> import torch
        >>> from colorquant_nn import ColorQuantize
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
    memory: Tensor
    batches: Tensor
    state_names: ClassVar[tuple[str, ...]] = ("centroids", "counts", "memory", "batches")

    def __init__(
        self,
        num_colors: int,
        *,
        space: Space = "rgb",
        decay: float = 0.99,
        dead_below: float = 0.1,
        frozen: bool = False,
        estimator: Estimator = straight_through,
        warm_up: int = 32,
        deferred: bool = False,
    ) -> None:
        super().__init__()
        num_colors = check_count(num_colors)
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be from 0 to 1, got {decay}")
        if not dead_below >= 0:
            raise ValueError(f"dead_below must be at least 0, got {dead_below}")
        color_space(space)
        self.space = space
        self.decay = decay
        self.dead_below = dead_below
        self.frozen = frozen
        self.estimator = estimator
        self.warm_up = check_count(warm_up, "warm_up")
        if deferred and not isinstance(self, DeferredColorQuantize):
            if type(self) is not ColorQuantize:
                raise ValueError("expected a subclass of DeferredColorQuantize for deferred=True")
            warnings.warn(
                "ColorQuantize(deferred=True) is now DeferredColorQuantize",
                DeprecationWarning,
                stacklevel=2,
            )
            self.__class__ = DeferredColorQuantize
        self._add_buffers(num_colors)
        self.reset_parameters()

    def _add_buffers(self, num_colors: int) -> None:
        self.register_buffer("centroids", torch.empty(num_colors, 3, dtype=torch.float32))
        self.register_buffer("counts", torch.empty(num_colors, dtype=torch.float32))
        self.register_buffer("memory", torch.empty(online.MEMORY, 4, dtype=torch.float16))
        self.register_buffer("batches", torch.empty((), dtype=torch.float32))

    def reset_parameters(self) -> None:
        """Forget everything: colours spread over the cube, as of a new layer."""
        spread = color_space(self.space).from_rgb(spread_colors(self.num_colors))
        self._set_state(spread, batches=0)

    @classmethod
    def from_palette(
        cls, palette: Tensor, *, space: Space = "rgb", frozen: bool = True, **arguments: Any
    ) -> Self:
        """Make a layer of given colours, fixed unless ``frozen`` is false.

        Args:
            palette: (K, 3) sRGB, float in [0, 1] or uint8.
            space: where distances are taken, as for the class.
            frozen: never learn.
            arguments: others of the class.

        Returns:
            A layer on the palette's device, that counts as seeded.

        Raises:
            TypeError: for something else than a tensor of these types.
            ValueError: for a palette of another shape or range.

        Examples:
            >>> import torch
            >>> from colorquant_nn import ColorQuantize
            >>> ColorQuantize.from_palette(torch.tensor([[0.0, 0, 0], [1, 1, 1]]))
            ColorQuantize(2, space='rgb', frozen=True)
        """
        palette = check_palette(palette)
        with palette.device:
            layer = cls(palette.shape[0], space=space, frozen=frozen, **arguments)
        layer._set_state(color_space(space).from_rgb(palette), layer.warm_up)
        return layer

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
        return bool(self.batches > 0)

    def forward(self, x: Tensor) -> Tensor:
        """Quantize; the values alone of `quantize`."""
        return self.quantize(x).values

    def quantize(self, x: Tensor) -> Quantized:
        """Quantize, and in training mode learn from the batch.

        ``values`` are ``palette[indices]`` in the input's dtype, bit for bit. ``palette`` is what
        the batch was quantized with: after seeding, before the update.

        Args:
            x: (B, 3, H, W) or (3, H, W), floating point sRGB.

        Returns:
            See `Quantized`.

        Raises:
            ValueError: for another shape.
            TypeError: for something else than a floating point tensor.

        Examples:
            >>> import torch
            >>> from colorquant_nn import ColorQuantize
            >>> values, indices, palette, mse = ColorQuantize(4).quantize(torch.rand(2, 3, 8, 8))
            >>> torch.equal(values, palette[indices].movedim(-1, 1))
            True
        """
        if kernels.exporting():
            return self._quantize_traced(x)
        points = to_points(x)
        pixels = points.detach()
        with torch.no_grad():
            if self.training and not self.frozen and _worth_learning(pixels):
                batch = self._learn(pixels)
            else:
                batch = online.quantize(pixels, self.centroids, self.space)
        hard = batch.values.to(x.dtype)
        known = _mean_squared_error(batch.moments) if self.space == "rgb" else None
        values = self.estimator(points, hard, batch.palette)
        return Quantized(
            to_image(values, x),
            to_index_map(batch.indices, x),
            batch.palette,
            palette_mse(points, hard, known),
        )

    def _learn(self, pixels: Tensor) -> online.Batch:
        return online.learn(pixels, self._state, self._how)

    @property
    def _state(self) -> online.PaletteState:
        return online.PaletteState(self.centroids, self.counts, self.memory, self.batches)

    @property
    def _how(self) -> online.Learning:
        return online.Learning(self.space, self.decay, self.dead_below, self.warm_up)

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

        Raises:
            ValueError: for another shape.
            TypeError: for something else than a floating point tensor.

        Examples:
            >>> import torch
            >>> from colorquant_nn import ColorQuantize
            >>> layer = ColorQuantize.from_palette(torch.tensor([[0.0, 0, 0], [1, 1, 1]]))
            >>> layer.encode(torch.full((3, 1, 2), 0.7))
            tensor([[1, 1]])
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

        Examples:
            >>> import torch
            >>> from colorquant_nn import ColorQuantize
            >>> layer = ColorQuantize.from_palette(torch.tensor([[0.0, 0, 0], [1, 1, 1]]))
            >>> layer.decode(torch.tensor([[0, 1]])).shape
            torch.Size([3, 1, 2])
        """
        return nn.functional.embedding(indices, self.palette).movedim(-1, -3)

    @torch.no_grad()
    def fit(self, images: Tensor | Iterable[Any]) -> Self:
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
            >>> import torch
            >>> from colorquant_nn import ColorQuantize
            >>> ColorQuantize(4).fit(torch.rand(2, 3, 8, 8)).counts.sum()
            tensor(128.)
        """
        colors = ColorHistogram().update(images).colors()
        fitted = fit(colors, self.num_colors, self.space)
        palette = spread_colors(self.num_colors)  # where there are fewer colours, these stay
        palette[: fitted.shape[0]] = fitted
        from_rgb = color_space(self.space).from_rgb
        centroids, weights = from_rgb(palette), colors.weights.to(torch.float32)
        moments = moments_of(from_rgb(colors.colors), centroids, weights)
        self._set_state(centroids, self.warm_up, kernels.unpack_moments(moments).counts)
        return self

    def extra_repr(self) -> str:
        """The arguments that say what the layer does."""
        learning = "frozen=True" if self.frozen else f"decay={self.decay:g}"
        return f"{self.num_colors}, space={self.space!r}, {learning}"

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take up a state: of any floating point dtype, of version 0.1.0, or a part of one."""
        self._take_version_0_1_0(state_dict, prefix)
        ours = {name: getattr(self, name) for name in self.state_names}
        given = {
            name: state_dict.pop(prefix + name) for name in ours if prefix + name in state_dict
        }
        missing = [name for name in ours if name not in given]
        complaint = ""
        if "centroids" in given:
            if given["centroids"].shape != self.centroids.shape:
                raise ValueError(
                    f"the state has a palette {tuple(given['centroids'].shape)}, this layer "
                    f"{tuple(self.centroids.shape)}; make a layer with as many colours, load into "
                    "it, and take its colours over with resize_palette and from_palette"
                )
            for name in missing:
                given[name] = torch.zeros_like(ours[name], device=given["centroids"].device)
            if "batches" in missing:
                given["batches"] += self.warm_up
            # Half precision has infinities where it was too small.
            given = {
                name: value.to(ours[name].dtype).nan_to_num(0.0, posinf=HALF_MAX, neginf=0.0)
                for name, value in given.items()
            }
            given["centroids"] = online.into_cube(given["centroids"], self.space)
            missing = [name for name in missing if name != "pending"]  # nothing waits
            complaint = "its palette is taken as learnt, without a history"
        elif given:
            given = {}
            complaint = "nothing of it is loaded"
        if complaint and missing:
            warnings.warn(
                f"the state of {prefix.removesuffix('.') or 'the layer'} has no "
                f"{', '.join(missing)}: {complaint}",
                stacklevel=2,
            )
        state_dict.update({prefix + name: value for name, value in given.items()})
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )
        missing_keys.extend(prefix + name for name in missing if name in given)

    def _take_version_0_1_0(self, state_dict: dict[str, Any], prefix: str) -> None:
        """Translate a state that has its warm-up in a dictionary, as a histogram."""
        old = state_dict.pop(prefix + "_extra_state", None)
        if not isinstance(old, dict):
            return
        cells = torch.zeros(64**3, 4, device="cpu")
        cells[old["cells"].cpu()] = self.decay * old["histogram"].cpu().float()
        batches, counts = old["batches"], state_dict.get(prefix + "counts")
        if not bool(batches) and counts is not None and bool(counts.any()):
            batches = torch.full_like(batches, self.warm_up)  # of an averaged model
        state_dict[prefix + "batches"] = batches
        summary = online.summarize(cells[online.octree_order()], online.MEMORY)
        state_dict[prefix + "memory"] = online.pack(summary)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the state to another device, but keep its dtypes whatever the model's."""
        before = {name: getattr(self, name) for name in self.state_names}
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = getattr(self, name)
            if new.dtype != old.dtype:
                self._buffers[name] = old.to(new.device)
        return self

    @torch.no_grad()
    def _set_state(self, centroids: Tensor, batches: int, counts: Tensor | float = 0.0) -> None:
        for name in self.state_names:
            getattr(self, name).zero_()
        self.centroids.copy_(centroids)
        self.counts += counts
        self.batches.fill_(batches)


class DeferredColorQuantize(ColorQuantize):
    """A `ColorQuantize` that gathers in forward, and learns when `commit` is called.

    For gradient accumulation and activation checkpointing: until the commit, once per optimizer
    step, the palette is constant, and a forward that is repeated in a backward counts once.

    Its arguments and shapes are those of `ColorQuantize`. In the warm-up it fits to the memory
    alone, and so tells apart no more colours than that has cells. Ranks have to make the same
    number of forwards between two commits.


    Attributes:
        pending: (K, 10) float32 buffer, moments of what waits for a commit, beside ``memory``.

    Raises:
        ValueError: as `ColorQuantize`.
        TypeError: as `ColorQuantize`.

    Examples:
        >>> import torch
        >>> from colorquant_nn import DeferredColorQuantize
        >>> layer = DeferredColorQuantize(16)
        >>> for _ in range(4):  # parts of a batch
        ...     out = layer(torch.rand(2, 3, 8, 8))
        >>> layer.seeded
        False
        >>> layer.commit()
        >>> layer.seeded
        True
    """

    pending: Tensor
    state_names: ClassVar[tuple[str, ...]] = (*ColorQuantize.state_names, "pending")

    def _add_buffers(self, num_colors: int) -> None:
        super()._add_buffers(num_colors)
        pending = torch.empty(num_colors, kernels.num_moments(3), dtype=torch.float32)
        self.register_buffer("pending", pending)

    def _learn(self, pixels: Tensor) -> online.Batch:
        return online.observe(pixels, self._state, self.pending, self._how)

    @torch.no_grad()
    def commit(self) -> None:
        """Learn from all batches since the last call as from one.

        Call it after each optimizer step, on every rank, outside of what is compiled. If there was
        nothing to learn from, in evaluation mode or when ``frozen``, nothing changes.

        Examples:
            >>> import torch
            >>> from colorquant_nn import DeferredColorQuantize
            >>> layer = DeferredColorQuantize(4)
            >>> layer.commit()
            >>> layer.seeded
            False
        """
        if self.training and not self.frozen:
            online.commit(self._state, self.pending, self._how)


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
        >>> import torch
        >>> from colorquant_nn.layers import PerImageColorQuantize
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
        color_space(space)
        self.num_colors = check_count(num_colors)
        self.space = space
        self.num_iters = check_count(num_iters, "num_iters")
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
    return online.distributed() or pixels.numel() > 0


def _uniforms(num_colors: int, device: torch.device) -> Tensor:
    """(K, candidates) numbers in [0, 1), always the same, for the draws of k-means++."""
    candidates = num_candidates(num_colors)
    ordinal = torch.arange(1, num_colors * candidates + 1, device=device, dtype=torch.float32)
    return (ordinal * GOLDEN_RATIO).frac().reshape(num_colors, candidates)
