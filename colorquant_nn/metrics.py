"""Measures of quantization as torchmetrics classes: over batches, epochs and devices.

What they measure is in `colorquant_nn.functional.metrics`. They need torchmetrics, which the extra
``metrics`` brings.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from colorquant_nn.functional import metrics
from colorquant_nn.functional.points import check_count, check_pictures
from colorquant_nn.names import check_name

try:
    from torchmetrics import Metric
except ImportError as error:
    raise ImportError(
        "colorquant_nn.metrics needs torchmetrics: pip install 'colorquant_nn[metrics]'"
    ) from error

__all__ = ["ImageError", "PaletteUsage"]

Measure: TypeAlias = Literal["mse", "psnr", "ciede2000", "ssim"]
Reduction: TypeAlias = Literal["pixels", "images"]

MEASURES: tuple[Measure, ...] = get_args(Measure)
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)

FUNCTIONS: dict[Measure, Callable[..., Tensor]] = {
    "mse": metrics.mse,
    "psnr": metrics.psnr,
    "ciede2000": metrics.mean_ciede2000,
    "ssim": metrics.ssim,
}

# Of many batches float32 would round off the last ones; MPS has nothing longer.
EXACT = torch.float32 if torch.backends.mps.is_available() else torch.float64


class ImageError(Metric):
    """MSE, PSNR, CIEDE2000 and SSIM between images and what stands for them.

    Args:
        measures: of "mse", "psnr", "ciede2000" and "ssim"; SSIM takes longest.
        reduction: "pixels": an image counts by its pixels, and the PSNR is that of the mean squared
            error. "images": each image counts once, and the PSNR is the mean of each image's own,
            as papers mostly report it; infinite if one is exact.
        **options: of `torchmetrics.Metric`.

    Raises:
        ValueError: for another name.
        TypeError: for something else than several names.

    Examples:
        >>> import torch
        >>> from colorquant_nn.metrics import ImageError
        >>> images, errors = torch.zeros(2, 3, 2, 2), torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
        >>> for reduction in ("pixels", "images"):
        ...     error = ImageError(["mse", "psnr"], reduction=reduction)
        ...     error.update(images, images + errors)
        ...     print({name: round(value.item(), 5) for name, value in error.compute().items()})
        {'mse': 0.00505, 'psnr': 22.96709}
        {'mse': 0.00505, 'psnr': 30.0}
    """

    full_state_update = False
    weight: Tensor

    def __init__(
        self,
        measures: Collection[Measure] = MEASURES,
        *,
        reduction: Reduction = "pixels",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_name("a reduction", reduction, REDUCTIONS)
        if isinstance(measures, str) or not isinstance(measures, Iterable):
            raise TypeError(f'expected measures as names, such as ["mse"], got {measures!r}')
        self.measures = tuple(measures)
        self.reduction = reduction
        self.add_state("weight", torch.zeros((), dtype=EXACT), dist_reduce_fx="sum")
        for name in self.measures:
            check_name("a measure", name, MEASURES)
            self.add_state(name, torch.zeros((), dtype=EXACT), dist_reduce_fx="sum")

    @torch.no_grad()
    def update(self, images: Tensor, others: Tensor, weights: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            images: (..., 3, H, W) sRGB, floating point or uint8. What is outside of [0, 1] counts
                as it is shown: clamped.
            others: the same shape.
            weights: importance of each pixel (..., H, W), at least 0; or a mask, True where it
                counts. An image without a pixel that counts does not count.

        Raises:
            ValueError: for another shape, or weights on the CPU that are negative or not finite.
            TypeError: for something else than tensors, or a wrong dtype.
        """
        check_pictures(images, others)
        images, others = (x.clamp(0, 1) if x.is_floating_point() else x for x in (images, others))
        functions = {name: self._function(name) for name in self.measures}
        values = {
            function: function(images, others, weights=weights, per_image=True).to(EXACT)
            for function in set(functions.values())
        }
        if weights is None:
            weights = images.new_ones(()).expand(images.shape[:-3] + images.shape[-2:])
        share = weights.to(EXACT).sum((-2, -1))
        counted = share > 0
        if self.reduction == "images":
            share = counted.to(EXACT)
        self.weight += share.sum()
        for name, function in functions.items():
            total = (values[function].masked_fill(~counted, 0) * share).sum()
            setattr(self, name, getattr(self, name) + total)

    def compute(self) -> dict[str, Tensor]:
        """The means over everything added, by name."""
        means: dict[str, Tensor] = {
            name: (getattr(self, name) / self.weight).float() for name in self.measures
        }
        if "psnr" in means and self.reduction == "pixels":
            means["psnr"] = metrics.mse_to_psnr(means["psnr"])
        return means

    def _function(self, name: Measure) -> Callable[..., Tensor]:
        """What is added up: the PSNR over all pixels is that of their mean squared error."""
        return FUNCTIONS["mse" if name == "psnr" and self.reduction == "pixels" else name]


class PaletteUsage(Metric):
    """How many colours of the palette are in use, and the perplexity of their use.

    Args:
        num_colors: rows of the palette, K.
        reduction: "pixels": all pixels are counted together, those of palettes per image by their
            rows. "images": the means of each image's own numbers.
        **options: of `torchmetrics.Metric`.

    Raises:
        ValueError: for another name, or a number below 1.
        TypeError: for something else than a whole number.

    Examples:
        >>> import torch
        >>> from colorquant_nn.metrics import PaletteUsage
        >>> indices = torch.tensor([[[0, 0], [0, 0]], [[0, 1], [2, 3]]])
        >>> for reduction in ("pixels", "images"):
        ...     usage = PaletteUsage(4, reduction=reduction)
        ...     usage.update(indices)
        ...     print({name: round(value.item(), 3) for name, value in usage.compute().items()})
        {'colors_used': 4.0, 'perplexity': 2.926}
        {'colors_used': 2.5, 'perplexity': 2.5}
    """

    full_state_update = False
    counts: Tensor
    colors_used: Tensor
    perplexity: Tensor
    images: Tensor

    def __init__(self, num_colors: int, *, reduction: Reduction = "pixels", **options: Any) -> None:
        super().__init__(**options)
        check_name("a reduction", reduction, REDUCTIONS)
        self.num_colors = check_count(num_colors)
        self.reduction = reduction
        self.add_state("counts", torch.zeros(self.num_colors, dtype=EXACT), dist_reduce_fx="sum")
        for name in ("colors_used", "perplexity", "images"):
            self.add_state(name, torch.zeros((), dtype=EXACT), dist_reduce_fx="sum")

    @torch.no_grad()
    def update(self, indices: Tensor, weights: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            indices: (...) integers in [0, num_colors); (..., H, W) for the means of images.
            weights: importance of each pixel (...), at least 0; or a mask, True where it counts.
                Where it is 0, the index may be any.

        Raises:
            ValueError: for another shape, or weights on the CPU that are negative or not finite.
            TypeError: for something else than integers.
            IndexError: on the CPU, for an index that is not from 0 to K - 1.
        """
        per_image = self.reduction == "images"
        counts = metrics.palette_usage(
            indices, self.num_colors, weights=weights, per_image=per_image
        ).to(EXACT)
        if not per_image:
            self.counts += counts
            return
        counted = counts.sum(-1) > 0
        self.images += counted.sum()
        self.colors_used += metrics.colors_in_use(counts).sum()
        self.perplexity += metrics.perplexity(counts).masked_fill(~counted, 0).sum()

    def compute(self) -> dict[str, Tensor]:
        """Both numbers over everything added."""
        if self.reduction == "images":
            means = {"colors_used": self.colors_used, "perplexity": self.perplexity}
            return {name: (total / self.images).float() for name, total in means.items()}
        return {
            "colors_used": metrics.colors_in_use(self.counts).float(),
            "perplexity": metrics.perplexity(self.counts).float(),
        }
