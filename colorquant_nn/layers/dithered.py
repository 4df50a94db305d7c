"""Dots in a network: the palette of any layer, drawn by a dither.

Letters: B images, N = H W pixels, K colours.
"""

from typing import Any, cast

from torch import Tensor, nn

from colorquant_nn.functional.drawing import check_drawing, draw
from colorquant_nn.functional.gradients import rows_of
from colorquant_nn.kernels import sanitize
from colorquant_nn.layers.color_quantize import ColorQuantize
from colorquant_nn.layers.quantizer import Assigned, Quantized, Quantizer, leaf
from colorquant_nn.names import Dither, Returns

__all__ = ["DitheredColorQuantize"]


class DitheredColorQuantize(nn.Module):
    """Draws images in the dots of a dither, with the palette of another layer.

    The layer within finds its palette, and learns it, from the nearest colours as ever: a
    `ColorQuantize` follows the data, or is fixed; a `LearnedPalette` is moved by gradients; a
    `PerImageColorQuantize` has one for each image. Then the dots are drawn with that palette, the
    images of a batch on threads. The gradient passes straight through to the images, ones, and to
    each colour of a palette that learns from where it is drawn; the estimator of the layer within,
    which is about nearest colours, has no part in it.

    With `colorquant_nn.functional.eye_error` as the loss, which sees what eyes see of dots, what is
    in front learns for a dithered display: `experiments/examples/dithered_display.py`.

    Dithers are computed on the CPU: images on another device go there, and their indices come back.
    A dither is one operation to `torch.compile`; no graph can be exported with it.

    Args:
        quantizer: a layer; or a palette (K, 3) sRGB, float in [0, 1] or uint8, that stays as it is.
        dither: a name of `colorquant_nn.functional.dither.DITHERS`.
        strength: of the dither, 0 to 1; both may change during training.

    Shapes:
        (B, 3, H, W) or (3, H, W) of floating point sRGB, in the ``value_range`` of the quantizer;
        the output is the same.

    Attributes:
        quantizer: the layer that has the palette, all of the state.

    Raises:
        ValueError: for an argument out of range, or an input of another shape.
        TypeError: for something else than a layer, or an input that is not floating point.

    References:
        Bengio, Léonard and Courville 2013, "Estimating or propagating gradients through
        stochastic neurons for conditional computation", arXiv 1308.3432 (the gradient).

    Examples:
        >>> import torch
        >>> from colorquant_nn import DitheredColorQuantize, load_palette
        >>> layer = DitheredColorQuantize(load_palette("gameboy"), dither="ordered")
        >>> images = torch.rand(2, 3, 16, 16, requires_grad=True)
        >>> out = layer(images)
        >>> out.sum().backward()
        >>> out.shape, images.grad.unique()
        (torch.Size([2, 3, 16, 16]), tensor([1.]))
    """

    def __init__(
        self,
        quantizer: Quantizer | Tensor,
        dither: Dither = "floyd-steinberg",
        strength: float = 1.0,
    ) -> None:
        super().__init__()
        if isinstance(quantizer, Tensor):
            quantizer = ColorQuantize.from_palette(quantizer)
        if not isinstance(quantizer, Quantizer):
            raise TypeError(
                "expected a ColorQuantize, a LearnedPalette, a PerImageColorQuantize or a palette, "
                f"got {type(quantizer).__name__}"
            )
        check_drawing(quantizer.space, dither, strength)
        self.quantizer = quantizer
        self.dither: Dither = dither
        self.strength = strength

    def forward(self, x: Tensor, weights: Tensor | None = None, returns: Returns = "values") -> Any:
        """Draw; the images alone, or all that is known.

        Args:
            x: see `Quantizer.forward`.
            weights: see `quantize`.
            returns: see `Quantizer.forward`.

        Returns:
            See `Quantizer.forward`.

        Raises:
            ValueError: as the quantizer, and for another ``returns``.
            TypeError: as the quantizer.
        """
        node = leaf(self, x, weights, returns)
        return self.quantizer._run(x, weights, returns, self._draw) if node is None else node

    def quantize(self, x: Tensor, weights: Tensor | None = None) -> Quantized:
        """Draw, and return all that is known: ``layer(x, weights, returns="all")``.

        Args:
            x: (B, 3, H, W) or (3, H, W), floating point.
            weights: (B, H, W) or (H, W), how much each pixel teaches the palette, and counts in
                ``mse`` and ``commitment``; all pixels are drawn.

        Returns:
            ``values`` are ``palette[indices]`` of the dots, and ``mse`` is theirs; ``commitment``
            is that of the quantizer, to the nearest colours.

        Raises:
            ValueError: as the quantizer.
            TypeError: as the quantizer.

        Examples:
            >>> import torch
            >>> from colorquant_nn import ColorQuantize, DitheredColorQuantize
            >>> layer = DitheredColorQuantize(ColorQuantize(4))
            >>> result = layer.quantize(torch.rand(2, 3, 8, 8))
            >>> torch.equal(result.values, result.palette[result.indices].movedim(-1, 1))
            True
        """
        return cast(Quantized, self(x, weights, returns="all"))

    def _draw(self, x: Tensor, points: Tensor, nearest: Assigned) -> Assigned:
        pictures = sanitize(points, clamp=True).unflatten(1, x.shape[-2:])
        palettes = nearest.palette if nearest.palette.dim() == 3 else nearest.palette[None]
        dots = draw(
            pictures, palettes.detach(), self.dither, self.strength, self.quantizer.space
        ).flatten(1)
        hard = rows_of(palettes.expand(len(points), -1, -1), dots).to(points.dtype)
        return Assigned(dots, hard, nearest.palette)

    def extra_repr(self) -> str:
        """The dither, and a strength that is not the default."""
        strength = "" if self.strength == 1 else f", strength={self.strength}"
        return f"dither={self.dither!r}{strength}"
