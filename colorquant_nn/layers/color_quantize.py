"""Palettes that follow the data by k-means: at once, or when a commit says so.

Letters: B images, N = H W pixels, K colours.
"""

import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Self  # which torch needs, too

from colorquant_nn import kernels
from colorquant_nn.functional import online
from colorquant_nn.functional.clustering import distortion
from colorquant_nn.functional.color import SPACES, color_space
from colorquant_nn.functional.gradients import Estimator, straight_through
from colorquant_nn.functional.points import check_count
from colorquant_nn.functional.seeding import spread_colors
from colorquant_nn.layers.quantizer import Assigned
from colorquant_nn.layers.shared_palette import SharedPalette, check_size, named, space_of
from colorquant_nn.names import Space

__all__ = ["ColorQuantize", "DeferredColorQuantize"]

HALF_MAX = torch.finfo(torch.float16).max


class ColorQuantize(SharedPalette):
    """Maps every pixel to the nearest of K colours, which follow the data as k-means does.

    In training mode each forward learns from its batch, with or without gradients, as BatchNorm
    does. The first ``warm_up`` batches fit the palette to what was seen (k-means++, Lloyd,
    relocations), after them the update rule holds. In evaluation mode, or when ``frozen``, nothing
    changes, but for `fit`. Pixels count as clamped to [0, 1] (NaN as 0); those that are not finite
    are quantized, but never learnt from. Put the layer before any `Normalize`.

    As soon as there is a process group the palette is that of all its ranks, as with
    `torch.nn.SyncBatchNorm`: each training forward is one all-reduce, and `fit` is one, so that all
    ranks have to make them. A forward on one rank alone is for `eval()`. For models that differ
    from rank to rank, or an uneven number of batches (`Join`), there is ``sync=False``, with which
    DDP still broadcasts the palette of its first rank.

    The state is the five buffers: 64 KiB at most up to 1000 colours, which DDP broadcasts in every
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
        commitment_weight: of the term that `quantize` gives to add to a loss, at least 0. It keeps
            what an encoder gives near the palette; without it, straight-through, the encoder's
            colours run away. Around a plain encoder 1 rebuilds as well as any and stays within
            [-1, 2]; from 0.25 to 2 the difference is that of the seeds, 0.1 lets colours out, 4
            holds too tightly (`experiments/results/commitment.md`). Who recolours by a correction
            of the image needs, with `soft`, none.
        warm_up: how many batches the palette is fitted to as a whole, at least 1.
        value_range: the values of black and white, (-1, 1) for most generators.
        process_group: of the ranks that learn together; None is the default one, if there is one.
        sync: learn with the other ranks.
        deferred: deprecated, makes a `DeferredColorQuantize`.

    Shapes:
        (B, 3, H, W) or (3, H, W) of floating point sRGB; the output is the same.

    Attributes:
        centroids: (K, 3) float32 buffer, the palette in the working space.
        counts: (K,) float32 buffer, running number of pixels of each colour.
        memory: (6144, 4) float16 buffer, colours of the warm-up: root of the weight, and mean sRGB;
            zero after it.
        batches: () float32 buffer, how many batches were learnt from.
        space_number: () float32 buffer, the place of the space in
            `colorquant_nn.functional.color.SPACES`: what a state's centroids mean.

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
    space_number: Tensor
    state_names: ClassVar[tuple[str, ...]] = (
        "centroids",
        "counts",
        "memory",
        "batches",
        "space_number",
    )

    def __init__(
        self,
        num_colors: int,
        *,
        space: Space = "rgb",
        decay: float = 0.99,
        dead_below: float = 0.1,
        frozen: bool = False,
        estimator: Estimator = straight_through,
        commitment_weight: float = 1.0,
        warm_up: int = 32,
        value_range: tuple[float, float] = (0, 1),
        process_group: "torch.distributed.ProcessGroup | None" = None,
        sync: bool = True,
        deferred: bool = False,
    ) -> None:
        super().__init__(
            space, estimator, commitment_weight, value_range, dead_below, process_group, sync
        )
        num_colors = check_count(num_colors)
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be from 0 to 1, got {decay}")
        self.decay = decay
        self.frozen = frozen
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

    @property
    def deferred(self) -> bool:
        """Whether this is a `DeferredColorQuantize`, which the class says."""
        return isinstance(self, DeferredColorQuantize)

    def _add_buffers(self, num_colors: int) -> None:
        self.register_buffer("centroids", torch.empty(num_colors, 3, dtype=torch.float32))
        self.register_buffer("counts", torch.empty(num_colors, dtype=torch.float32))
        self.register_buffer("memory", torch.empty(online.MEMORY, 4, dtype=torch.float16))
        self.register_buffer("batches", torch.empty((), dtype=torch.float32))
        self.register_buffer("space_number", torch.empty((), dtype=torch.float32))

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
        return super().from_palette(palette, space=space, frozen=frozen, **arguments)

    @property
    def palette(self) -> Tensor:
        """The colours: (K, 3) float32 sRGB in [0, 1], a copy."""
        return color_space(self.space).to_rgb(self.centroids).clamp(0, 1)

    @property
    def seeded(self) -> bool:
        """Whether the palette comes from data, or from the user, rather than from the cube."""
        return bool(self.batches > 0)

    @property
    def _learns(self) -> bool:
        return self.training and not self.frozen

    def _in_working_space(self) -> Tensor:
        return self.centroids

    def _take(self, palette: Tensor, counts: Tensor | None = None) -> None:
        centroids = color_space(self.space).from_rgb(palette)
        self._set_state(centroids, self.warm_up, 0.0 if counts is None else counts)

    def _assign(self, points: Tensor, weights: Tensor | None) -> Assigned:
        pixels = points.detach()
        self._look(pixels)
        with torch.no_grad():
            if self._learns and self._worth_learning(pixels):
                batch = self._learn(pixels, weights)
            else:
                self._look_for_a_palette()
                batch = online.quantize(pixels, self.centroids, self.space, weights)
        known = _mean_squared_error(batch.moments) if self.space == "rgb" else None
        return Assigned(batch.indices, batch.values.to(points.dtype), batch.palette, known)

    def _learn(self, pixels: Tensor, weights: Tensor | None) -> online.Batch:
        return online.learn(pixels, self._state, self._how, weights)

    @property
    def _state(self) -> online.PaletteState:
        return online.PaletteState(self.centroids, self.counts, self.memory, self.batches)

    @property
    def _how(self) -> online.Learning:
        return online.Learning(self.space, self.decay, self.dead_below, self.warm_up, self._ranks)

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
        self._take_that_of_others(state_dict, prefix)
        ours = {name: getattr(self, name) for name in self.state_names}
        given = {
            name: state_dict.pop(prefix + name) for name in ours if prefix + name in state_dict
        }
        missing = [name for name in ours if name not in given]
        complaint = ""
        if "centroids" in given:
            check_size(given["centroids"], self.centroids)
            for name in missing:
                given[name] = torch.zeros_like(ours[name], device=given["centroids"].device)
            if "batches" in missing:
                given["batches"] += self.warm_up
            self._take_space(given, missing, prefix)
            # Half precision has infinities where it was too small.
            given = {
                name: value.to(ours[name].dtype).nan_to_num(0.0, posinf=HALF_MAX, neginf=0.0)
                for name, value in given.items()
            }
            given["centroids"] = online.into_cube(given["centroids"], self.space)
            missing = [name for name in missing if name not in ("pending", "space_number")]
            complaint = "its palette is taken as learnt, without a history"
        elif given:
            given = {}
            complaint = "nothing of it is loaded"
        if complaint and missing:
            warnings.warn(
                f"the state of {named(prefix)} has no {', '.join(missing)}: {complaint}",
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

    def _take_space(self, given: dict[str, Tensor], missing: list[str], prefix: str) -> None:
        """Convert the centroids of a state from its space to ours; one without it has ours."""
        stored = given["space_number"]
        ours = list(SPACES).index(self.space)
        given["space_number"] = torch.full_like(stored, ours, dtype=torch.float32)
        if "space_number" in missing:
            if self.space != "rgb":
                warnings.warn(
                    f"the state of {named(prefix)} does not say its colour space: it is taken as "
                    f"this layer's, {self.space}",
                    stacklevel=2,
                )
            return
        theirs = space_of(float(stored), named(prefix))
        if theirs == self.space:
            return
        colors = color_space(theirs).to_rgb(given["centroids"].to(torch.float32))
        given["centroids"] = color_space(self.space).from_rgb(colors)
        if "pending" in given:
            given["pending"] = torch.zeros_like(given["pending"])
        warnings.warn(
            f"the state of {named(prefix)} is in {theirs}, the layer in {self.space}: its "
            "palette is converted, and goes on to learn in the layer's space",
            stacklevel=2,
        )

    def _take_that_of_others(self, state_dict: dict[str, Any], prefix: str) -> None:
        """Translate a state of a layer that learns in another way."""
        if "pending" not in self.state_names:
            state_dict.pop(prefix + "pending", None)  # of DeferredColorQuantize: what it waits with
        colors = state_dict.pop(prefix + "colors", None)
        if colors is None or prefix + "centroids" in state_dict:
            return
        for name in ("counts", "pending", "previous"):
            state_dict.pop(prefix + name, None)
        from_rgb = color_space(self.space).from_rgb
        state_dict[prefix + "centroids"] = from_rgb(colors.detach().float().clamp(0, 1))
        whole = {name: torch.zeros_like(getattr(self, name)) for name in self.state_names}
        whole["batches"] += self.warm_up
        whole["space_number"] += list(SPACES).index(self.space)
        state_dict.update({prefix + name: x for name, x in whole.items() if name != "centroids"})
        warnings.warn(
            f"the state of {named(prefix)} is that of a LearnedPalette: its palette is taken, and "
            "follows the data from now on",
            stacklevel=2,
        )

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

    @torch.no_grad()
    def _set_state(self, centroids: Tensor, batches: int, counts: Tensor | float = 0.0) -> None:
        for name in self.state_names:
            getattr(self, name).zero_()
        self.centroids.copy_(centroids)
        self.counts += counts
        self.batches.fill_(batches)
        self.space_number.fill_(list(SPACES).index(self.space))


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

    def _learn(self, pixels: Tensor, weights: Tensor | None) -> online.Batch:
        return online.observe(pixels, self._state, self.pending, self._how, weights)

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
        if self._learns:
            online.commit(self._state, self.pending, self._how)


def _mean_squared_error(moments: Tensor) -> Tensor:
    """Of the points in the moments (K, F), over all three channels; 0 without points."""
    size = 3 * moments[:, 0].sum()
    return distortion(moments) / torch.where(size > 0, size, 1)
