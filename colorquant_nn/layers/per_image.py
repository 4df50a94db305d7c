"""A palette for each image, found by k-means inside forward.

Letters: B images, N = H W pixels, K colours.
"""

import torch
from torch import Tensor

from colorquant_nn import kernels
from colorquant_nn.functional.color import color_space
from colorquant_nn.functional.gradients import (
    Estimator,
    clamp_through,
    cluster_means,
    rows_of,
    through_palette,
)
from colorquant_nn.functional.points import check_count, finite_weights, in_space
from colorquant_nn.functional.seeding import num_candidates
from colorquant_nn.layers.quantizer import Assigned, Quantizer
from colorquant_nn.names import Space

__all__ = ["PerImageColorQuantize"]

GOLDEN_RATIO = (5**0.5 - 1) / 2  # its multiples, modulo 1, fill [0, 1) evenly


class PerImageColorQuantize(Quantizer):
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
        commitment_weight: of the term that `quantize` gives to add to a loss, at least 0.
        value_range: the values of black and white, (-1, 1) for most generators.

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
        commitment_weight: float = 1.0,
        value_range: tuple[float, float] = (0, 1),
    ) -> None:
        super().__init__(space, estimator, commitment_weight, value_range)
        self.num_colors = check_count(num_colors)
        self.num_iters = check_count(num_iters, "num_iters")

    def _assign(self, points: Tensor, weights: Tensor | None) -> Assigned:
        self._look(points.detach())
        converted = in_space(points, self.space)
        rgb = self.space == "rgb"  # the kernel clamps, and sees what is not finite
        with_gradient = torch.is_grad_enabled() and points.requires_grad
        votes = weights
        if with_gradient or not rgb:
            known = finite_weights(points.detach())
            votes = known if weights is None else known * weights
        with torch.no_grad():
            centroids, indices, counts = kernels.kmeans_per_image(
                converted,
                self.num_colors,
                self.num_iters,
                _uniforms(self.num_colors, points.device),
                weights if rgb else votes,
                clamp=rgb,
            )
        means = cluster_means(converted, indices, centroids, counts, votes)
        palette = clamp_through(color_space(self.space).to_rgb(means)).to(torch.float32)
        return Assigned(indices, rows_of(palette, indices).to(points.dtype), palette)


def _uniforms(num_colors: int, device: torch.device) -> Tensor:
    """(K, candidates) numbers in [0, 1), always the same, for the draws of k-means++."""
    candidates = num_candidates(num_colors)
    ordinal = torch.arange(1, num_colors * candidates + 1, device=device, dtype=torch.float32)
    return (ordinal * GOLDEN_RATIO).frac().reshape(num_colors, candidates)
