"""A layer that finds a palette for each image.

Letters: B images, N = H W pixels, K colours.
"""

import math

import torch
from torch import Tensor, nn

from colorquant_nn import kernels
from colorquant_nn.functional.color import color_space
from colorquant_nn.functional.gradients import (
    clamp_through,
    cluster_means,
    palette_mse,
    rows_of,
    through_palette,
)
from colorquant_nn.views import (
    Estimator,
    Quantized,
    finite_weights,
    in_space,
    to_image,
    to_index_map,
    to_points,
)

__all__ = ["PerImageColorQuantize"]

GOLDEN_RATIO = (5**0.5 - 1) / 2  # its multiples, modulo 1, fill [0, 1) evenly


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
        space: str = "rgb",
        num_iters: int = 10,
        estimator: Estimator = through_palette,
    ) -> None:
        super().__init__()
        if num_colors < 1:
            raise ValueError(f"num_colors must be at least 1, got {num_colors}")
        if num_iters < 1:
            raise ValueError(f"num_iters must be at least 1, got {num_iters}")
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


def _uniforms(num_colors: int, device: torch.device) -> Tensor:
    """(K, candidates) numbers in [0, 1), always the same, for the draws of k-means++."""
    candidates = 2 + int(math.log(num_colors))
    ordinal = torch.arange(1, num_colors * candidates + 1, device=device, dtype=torch.float32)
    return (ordinal * GOLDEN_RATIO).frac().reshape(num_colors, candidates)
