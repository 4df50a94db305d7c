"""A palette that gradients move: the colours are a parameter.

Letters: B images, N = H W pixels, K colours.
"""

import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self  # which torch needs, too

from colorquant_nn import kernels
from colorquant_nn.functional.color import color_space
from colorquant_nn.functional.gradients import Estimator, clamp_through, rows_of, soft
from colorquant_nn.functional.points import check_count
from colorquant_nn.functional.renewal import HORIZON, LearnedState, Renewal, renew
from colorquant_nn.functional.seeding import spread_colors
from colorquant_nn.kernels import sanitize
from colorquant_nn.layers.quantizer import Assigned
from colorquant_nn.layers.shared_palette import SharedPalette, check_size, named, space_of
from colorquant_nn.names import Space

__all__ = ["LearnedPalette"]


class LearnedPalette(SharedPalette):
    """Maps every pixel to the nearest of K colours, which an optimizer moves as any parameter.

    For the palette that a task wants, where `ColorQuantize` has the one of the least squared error.
    The gradient reaches the colours and the input. Begin with k-means, by `fit`; `from_palette`
    trains too, unless ``layer.requires_grad_(False)``.

    What is used and shown is the parameter limited to [0, 1], so that every colour is one, whatever
    a step did. The gradient passes the limits, and the first training forward after a step of the
    optimizer brings the parameter itself back to them (projected gradient descent): no colour runs
    away, none sticks.

    Hardly a gradient reaches a colour that no pixel has. In training mode each forward counts the
    pixels of each, and the first one after a step moves the dead ones to where the squared error
    was largest. Between two steps the palette is constant, whatever is forwarded, accumulated or
    recomputed. As soon as there is a process group these counts are of all its ranks, one
    all-reduce in each training forward; the gradients are DDP's to average.

    Behind a frozen ResNet-20 on CIFAR-10 (JPEG), 100 steps of Adam at 0.01 from k-means raise the
    top-1 at K = 4 from 50.3 to 59.5 % (a slow test of `tests/test_learned_palette.py` prints it).
    There `soft` at 0.01 learnt more than at 0.003, 0.03 or 0.1, and than `through_palette`.

    Args:
        num_colors: K, at least 1.
        space: where distances are taken: "rgb", "linear", "lab" or "oklab".
        estimator: ``f(x, hard, palette)``, how the gradient passes; see
            `colorquant_nn.functional.gradients`. `soft` learns most, see above.
        commitment_weight: of the term that `quantize` gives to add to a loss, at least 0; it moves
            an encoder, not the palette. None by default, since `soft` knows the distance; an
            encoder with `straight_through` needs one, see `ColorQuantize`.
        value_range: the values of black and white, (-1, 1) for most generators.
        dead_below: a colour is dead if its running share of the pixels is less than this fraction
            of the mean; 0 never moves one.
        process_group: of the ranks that count together; None is the default one, if there is one.
            For models that differ from rank to rank a group of the rank alone.
        sync: count with the other ranks. Without it no dead colour moves where there is a process
            group: each rank would move others, and a parameter has to be the same under DDP.

    Shapes:
        (B, 3, H, W) or (3, H, W) of floating point sRGB; the output is the same.

    Attributes:
        colors: (K, 3) float32 parameter, sRGB, whatever the dtype of the model; a penalty on the
            colours is one of ``palette``, which is limited.
        counts: (K,) float32 buffer, running share of the pixels of each colour.
        pending: (K, 10) float32 buffer, moments of the batches since the last step.
        previous: (K, 3) float32 buffer, the colours that these are about.

    Raises:
        ValueError: for an argument out of range, or an input of another shape.
        TypeError: for an input that is not floating point.

    References:
        Agustsson et al. 2017, "Soft-to-hard vector quantization for end-to-end learning
        compressible representations" (the gradient).

    Examples:
        >>> import torch
        >>> from colorquant_nn import LearnedPalette
        >>> images, target = torch.rand(8, 3, 16, 16), torch.tensor([1.0, 0.5, 0.0])
        >>> layer = LearnedPalette(4).fit(images)
        >>> optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
        >>> losses = []
        >>> for _ in range(40):
        ...     loss = (layer(images).mean((0, 2, 3)) - target).square().sum()
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        ...     losses.append(loss.item())
        >>> losses[-1] < 0.1 * losses[0]
        True
    """

    colors: nn.Parameter
    counts: Tensor
    pending: Tensor
    previous: Tensor
    state_names: ClassVar[tuple[str, ...]] = ("colors", "counts", "pending", "previous")

    def __init__(
        self,
        num_colors: int,
        *,
        space: Space = "rgb",
        estimator: Estimator = soft,
        commitment_weight: float = 0,
        value_range: tuple[float, float] = (0, 1),
        dead_below: float = 0.01,
        process_group: "torch.distributed.ProcessGroup | None" = None,
        sync: bool = True,
    ) -> None:
        super().__init__(
            space, estimator, commitment_weight, value_range, dead_below, process_group, sync
        )
        size, dtype = check_count(num_colors), torch.float32
        self.colors = nn.Parameter(torch.empty(size, 3, dtype=dtype))
        self.register_buffer("counts", torch.empty(size, dtype=dtype))
        self.register_buffer("pending", torch.empty(size, kernels.num_moments(3), dtype=dtype))
        self.register_buffer("previous", torch.empty(size, 3, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Forget everything: colours spread over the cube, as of a new layer."""
        self._take(spread_colors(self.num_colors), torch.zeros_like(self.counts))

    @classmethod
    def from_palette(cls, palette: Tensor, *, space: Space = "rgb", **arguments: Any) -> Self:
        """Make a layer of given colours, which gradients move from there; see `ColorQuantize`.

        Raises:
            TypeError: as there, and for ``frozen``.

        Examples:
            >>> import torch
            >>> from colorquant_nn import LearnedPalette
            >>> LearnedPalette.from_palette(torch.eye(3)).requires_grad_(False)
            LearnedPalette(3, space='rgb', requires_grad=False)
        """
        if "frozen" in arguments:
            raise TypeError(
                "a LearnedPalette has no frozen, its colours are a parameter: "
                "layer.requires_grad_(False) fixes them"
            )
        return super().from_palette(palette, space=space, **arguments)

    @property
    def palette(self) -> Tensor:
        """The colours: (K, 3) float32 sRGB in [0, 1], a function of the parameter `colors`."""
        return clamp_through(self.colors)

    @property
    def seeded(self) -> bool:
        """Whether the palette comes from data, or from the user, rather than from the cube."""
        return bool(self.counts.any())

    @property
    def _learns(self) -> bool:
        return self.training and self.colors.requires_grad

    def _in_working_space(self) -> Tensor:
        return color_space(self.space).from_rgb(self.palette.detach())

    @torch.no_grad()
    def _take(self, palette: Tensor, counts: Tensor | None = None) -> None:
        for name, value in _beginning(palette, counts).items():
            getattr(self, name).copy_(value)

    def _assign(self, points: Tensor, weights: Tensor | None) -> Assigned:
        pixels = points.detach()
        self._look(pixels)
        with torch.no_grad():
            if self._learns:
                state = LearnedState(self.colors, self.counts, self.pending, self.previous)
                how = Renewal(self.space, self.dead_below, self._ranks)
                indices = renew(pixels, state, how, weights)
            else:
                self._look_for_a_palette()
                indices = self._nearest(pixels)
        palette = self.palette
        rows = rows_of(palette.expand(points.shape[0], -1, -1), indices)
        return Assigned(indices, rows.to(points.dtype), palette)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        *lists: list[str],
    ) -> None:
        """Take up a state of any floating point dtype, colours alone, or of a `ColorQuantize`."""
        if prefix + "centroids" in state_dict and prefix + "colors" not in state_dict:
            self._take_color_quantize(state_dict, prefix)
        for name in self.state_names:
            given = state_dict.get(prefix + name)
            if given is None:
                continue
            if name == "colors":
                check_size(given, self.colors)
            value = given.to(torch.float32)
            if name == "pending":  # moments that half precision was too small for
                value = torch.where(value.isfinite().all(), value, 0)
            state_dict[prefix + name] = value
        missing = [name for name in self.state_names if prefix + name not in state_dict]
        if "colors" not in missing:  # they count as learnt
            begun = _beginning(state_dict[prefix + "colors"])
            state_dict.update({prefix + name: begun[name] for name in missing})
            missing_keys.extend(prefix + name for name in missing)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, *lists
        )

    def _take_color_quantize(self, state_dict: dict[str, Any], prefix: str) -> None:
        """Translate a state whose colours are in a working space, and which counts pixels."""
        names = ("centroids", "counts", "space_number", "memory", "batches")
        given = {name: state_dict.pop(prefix + name, None) for name in (*names, "pending")}
        number, counts = given["space_number"], given["counts"]
        name = named(prefix)
        space = self.space if number is None else space_of(float(number), name)
        colors = sanitize(color_space(space).to_rgb(given["centroids"]), clamp=True)
        begun = _beginning(colors, counts if counts is not None and counts.any() else None)
        state_dict.update({prefix + name: value for name, value in begun.items()})
        warnings.warn(
            f"the state of {name} is that of a ColorQuantize: its palette is taken, and gradients "
            "move it from now on",
            stacklevel=2,
        )

    def extra_repr(self) -> str:
        """As of the other layers, and whether the colours are fixed."""
        return super().extra_repr() + ("" if self.colors.requires_grad else ", requires_grad=False")


def _beginning(colors: Tensor, counts: Tensor | None = None) -> dict[str, Tensor]:
    """The state of colours that come from elsewhere, and the pixels of each, if known."""
    colors = colors.detach()
    counts = colors.new_ones(len(colors)) if counts is None else counts.to(torch.float32)
    return {
        "colors": colors,
        "counts": HORIZON * counts / counts.sum().clamp_min(kernels.TINY),
        "pending": colors.new_zeros(len(colors), kernels.num_moments(3)),
        "previous": colors.clone(),
    }
