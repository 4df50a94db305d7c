"""What the layers of one palette for all images share: how it is given, fitted and looked up.

Letters: B images, N = H W pixels, K colours.
"""

import warnings
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from typing_extensions import Self  # which torch needs, too

from colorquant_nn import kernels
from colorquant_nn.functional import online, ranks
from colorquant_nn.functional.clustering import moments_of
from colorquant_nn.functional.color import SPACES, color_space
from colorquant_nn.functional.fitting import fit
from colorquant_nn.functional.gradients import Estimator
from colorquant_nn.functional.histogram import ColorHistogram
from colorquant_nn.functional.points import (
    check_indices,
    check_palette,
    in_space,
    iterate_images,
    to_image,
    to_index_map,
)
from colorquant_nn.functional.seeding import spread_colors
from colorquant_nn.layers.quantizer import Assigned, Quantizer
from colorquant_nn.names import Space

__all__ = ["SharedPalette"]


class SharedPalette(Quantizer):
    """One palette for all images; a subclass has the state, and learns it in `_assign`.

    Args:
        space: where means and distances are taken: "rgb", "linear", "lab" or "oklab".
        estimator: ``f(x, hard, palette)``, how the gradient passes.
        commitment_weight: of the commitment term, at least 0.
        value_range: what stands for 0 and 1.
        dead_below: a colour whose count is less than this fraction of the mean may move.
        process_group: of the ranks that learn together; None is the default one.
        sync: learn with the other ranks.

    Raises:
        ValueError: for an argument out of range.
        TypeError: for an estimator that cannot be called.
    """

    counts: Tensor
    state_names: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        space: Space,
        estimator: Estimator,
        commitment_weight: float,
        value_range: tuple[float, float],
        dead_below: float,
        process_group: "torch.distributed.ProcessGroup | None",
        sync: bool,
    ) -> None:
        super().__init__(space, estimator, commitment_weight, value_range)
        if not dead_below >= 0:
            raise ValueError(f"dead_below must be at least 0, got {dead_below}")
        self.dead_below = dead_below
        self.process_group = process_group
        self.sync = sync
        self._may_be_unseeded = True

    # What a subclass knows.

    @property
    def palette(self) -> Tensor:
        """The colours: (K, 3) float32 sRGB in [0, 1]."""
        raise NotImplementedError

    @property
    def seeded(self) -> bool:
        """Whether the palette comes from data, or from the user, rather than from the cube."""
        raise NotImplementedError

    @property
    def _learns(self) -> bool:
        """Whether a forward would learn."""
        raise NotImplementedError

    def _in_working_space(self) -> Tensor:
        """The palette (K, 3) where distances are taken."""
        raise NotImplementedError

    def _take(self, palette: Tensor, counts: Tensor | None = None) -> None:
        """Take up colours (K, 3) sRGB that count as learnt, and the pixels of each, if known."""
        raise NotImplementedError

    # What follows from it.

    @classmethod
    def from_palette(cls, palette: Tensor, *, space: Space = "rgb", **arguments: Any) -> Self:
        """Make a layer of given colours.

        Args:
            palette: (K, 3) sRGB, float in [0, 1] or uint8.
            space: where distances are taken, as for the class.
            arguments: others of the class.

        Returns:
            A layer on the palette's device, that counts as seeded.

        Raises:
            TypeError: for something else than a tensor of these types.
            ValueError: for a palette of another shape or range.
        """
        palette = check_palette(palette)
        make: Any = cls
        with palette.device:
            layer = make(palette.shape[0], space=space, **arguments)
        return layer.set_palette(palette)

    def set_palette(self, palette: Tensor) -> Self:
        """Take up given colours; what was learnt before is forgotten.

        Args:
            palette: (K, 3) sRGB, float in [0, 1] or uint8, whatever the layer's ``value_range``.

        Returns:
            This layer, that counts as seeded.

        Raises:
            TypeError: for something else than a tensor of these types.
            ValueError: for a palette of another shape or range.

        Examples:
            >>> import torch
            >>> from colorquant_nn import ColorQuantize
            >>> ColorQuantize(2).set_palette(torch.tensor([[0, 0, 0], [1.0, 1, 1]])).palette
            tensor([[0., 0., 0.],
                    [1., 1., 1.]])
        """
        palette = check_palette(palette)
        if len(palette) != self.num_colors:
            raise ValueError(
                f"expected a palette of {self.num_colors} colours, got {len(palette)}; "
                "resize_palette makes one of another size"
            )
        self._take(palette)
        return self

    @property
    def process_group(self) -> "torch.distributed.ProcessGroup | None":
        """Whose ranks learn together with ``sync``; None is the default group."""
        return self._others.group

    @process_group.setter
    def process_group(self, group: "torch.distributed.ProcessGroup | None") -> None:
        self._others = ranks.Ranks(group)

    @property
    def num_colors(self) -> int:
        """K."""
        return self.counts.shape[0]

    def _worth_learning(self, pixels: Tensor) -> bool:
        """Whether there is a pixel, here or possibly on another rank."""
        return pixels.numel() > 0 or ranks.together(self._ranks)

    @property
    def _ranks(self) -> str:
        return self._others.name if self.sync else ranks.ALONE

    def _look(self, points: Tensor) -> None:
        if not torch.compiler.is_compiling():
            online.look_once(points, self.counts)

    def _look_for_a_palette(self) -> None:
        """Warn once of a palette from nowhere; the one time it looks, it waits for the device."""
        if torch.compiler.is_compiling() or not self._may_be_unseeded:
            return
        self._may_be_unseeded = False
        if self.counts.device.type != "meta" and not self.seeded:
            warnings.warn(
                f"this {type(self).__name__} has not learnt a palette and quantizes to colours "
                "spread over the cube: train it, call fit(images) or set_palette(palette), or load "
                "a state",
                stacklevel=2,
            )

    def _assign_traced(self, points: Tensor, weights: Tensor | None) -> Assigned:
        if self._learns:
            raise RuntimeError("call eval() before exporting: an exported palette does not learn")
        palette, indices = self.palette, self._nearest(points)
        return Assigned(indices, palette[indices].to(points.dtype), palette)

    def _nearest(self, points: Tensor) -> Tensor:
        pixels = in_space(points.detach(), self.space)
        return kernels.assign(pixels, self._in_working_space()[None], clamp=self.space == "rgb")

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
        points = self._to_points(x)
        if not kernels.exporting():
            self._look(points)
            self._look_for_a_palette()
        return to_index_map(self._nearest(points), x)

    def decode(self, indices: Tensor) -> Tensor:
        """The colours of indices, as `encode` gives them.

        Args:
            indices: (B, H, W) or (H, W) of any type of whole numbers, from 0 to K - 1.

        Returns:
            (B, 3, H, W) or (3, H, W) float32 sRGB, in the layer's ``value_range``.

        Raises:
            TypeError: for something else than a tensor of whole numbers.
            ValueError: for another shape.
            IndexError: for an index that the palette does not have.

        Examples:
            >>> import torch
            >>> from colorquant_nn import ColorQuantize
            >>> layer = ColorQuantize.from_palette(torch.tensor([[0.0, 0, 0], [1, 1, 1]]))
            >>> layer.decode(torch.tensor([[0, 1]])).shape
            torch.Size([3, 1, 2])
        """
        rows = check_indices(indices, self.num_colors)
        if rows.dim() not in (2, 3):
            raise ValueError(f"expected indices (B, H, W) or (H, W), got {tuple(rows.shape)}")
        return self._to_values(nn.functional.embedding(rows, self.palette)).movedim(-1, -3)

    @torch.no_grad()
    def fit(
        self,
        images: Tensor | ColorHistogram | Iterable[Any],
        weights: Tensor | Iterable[Any] | None = None,
    ) -> Self:
        """Learn the palette of all images at once: full k-means, in one pass and constant memory.

        What was learnt before is forgotten; the layer may go on to learn in training mode. With
        other ranks to learn with, each gives its share of the images, and all get one palette. A
        histogram is taken as it is: `ColorHistogram.all_reduce` makes it that of all ranks.

        Args:
            images: (B, 3, H, W) or (3, H, W); or any iterable of these, or of tuples whose first
                item they are, as a DataLoader gives; or a histogram of them. uint8, or float in
                the layer's ``value_range``.
            weights: how much each pixel counts, as `ColorHistogram.update` has it.

        Returns:
            This layer.

        Raises:
            ValueError: there is no pixel that is finite and counts.

        Examples:
            >>> import torch
            >>> from colorquant_nn import ColorQuantize
            >>> ColorQuantize(4).fit(torch.rand(2, 3, 8, 8)).counts.sum()
            tensor(128.)
        """
        if isinstance(images, ColorHistogram):
            if weights is not None:
                raise ValueError("a histogram has its weights: expected none beside it")
            histogram = images
        else:
            histogram = ColorHistogram().update(self._in_unit_range(images), weights)
            if ranks.together(self._ranks):
                histogram = histogram.all_reduce(self._others.group)
        colors = histogram.colors()
        fitted = fit(colors, self.num_colors, self.space)
        palette = spread_colors(self.num_colors)  # where there are fewer colours, these stay
        palette[: fitted.shape[0]] = fitted
        from_rgb = color_space(self.space).from_rgb
        centroids, weights = from_rgb(palette), colors.weights.to(torch.float32)
        moments = moments_of(from_rgb(colors.colors), centroids, weights)
        self._take(palette, kernels.unpack_moments(moments).counts)
        return self

    def _in_unit_range(self, images: Tensor | Iterable[Any]) -> Tensor | Iterable[Any]:
        if self.value_range == (0, 1):
            return images
        if isinstance(images, Tensor):
            return self._image_in_unit_range(images)
        return map(self._image_in_unit_range, iterate_images(images))

    def _image_in_unit_range(self, image: Tensor) -> Tensor:
        return to_image(self._to_points(image), image) if image.is_floating_point() else image

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the state to another device, but keep its dtypes whatever the model's."""
        ours = [getattr(self, name) for name in self.state_names]
        ours += [tensor.grad for tensor in ours if tensor.is_leaf and tensor.grad is not None]

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            if moved.dtype == tensor.dtype or not any(tensor is own for own in ours):
                return moved
            return tensor.to(moved.device)

        return super()._apply(move, recurse)


# What the states of both kinds of layer need.


def check_size(palette: Tensor, ours: Tensor) -> None:
    """Raise a ValueError unless the palette (K, 3) of a state is of the layer's size."""
    if palette.shape != ours.shape:
        raise ValueError(
            f"the state has a palette {tuple(palette.shape)}, this layer {tuple(ours.shape)}; make "
            "a layer with as many colours, load into it, and take its colours over with "
            "resize_palette and from_palette"
        )


def space_of(number: float, name: str) -> Space:
    """The space of a state's ``space_number``; a ValueError that names the layer for another."""
    names = list(SPACES)
    if not -0.5 <= number < len(names) - 0.5:  # nor NaN
        raise ValueError(
            f"the state of {name} is in a space of number {number:g}, of which this version does "
            f"not know (0 to {len(names) - 1}: {', '.join(names)})"
        )
    return cast(Space, names[round(number)])


def named(prefix: str) -> str:
    """What to call the layer of a state's prefix."""
    return prefix.removesuffix(".") or "the layer"
