"""What the tasks log about a quantization, accumulated over an epoch and over devices."""

import torch
from torch import Tensor
from torchmetrics import Metric

from colorquant_nn.functional import metrics


class ImageError(Metric):
    """MSE, PSNR and mean CIEDE2000 between images; a batch counts by its number of pixels.

    Examples:
        >>> import torch
        >>> from experiments.metrics import ImageError
        >>> error = ImageError()
        >>> error.update(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.1))
        >>> {name: round(value.item(), 3) for name, value in error.compute().items()}
        {'mse': 0.01, 'psnr': 20.0, 'ciede2000': 5.366}
    """

    full_state_update = False
    squared_error: Tensor
    color_difference: Tensor
    pixels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("squared_error", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("color_difference", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("pixels", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @torch.no_grad()
    def update(self, images: Tensor, others: Tensor) -> None:
        """Add a batch: two tensors of shape ``(B, 3, H, W)``, sRGB in [0, 1]."""
        images, others = images.float(), others.float().clamp(0, 1)
        pixels = images.numel() // 3
        # Autocast would round Lab to half precision, in which small differences vanish.
        with torch.autocast(images.device.type, enabled=False):
            difference = metrics.mean_ciede2000(images, others)
        self.squared_error += metrics.mse(images, others) * pixels
        self.color_difference += difference * pixels
        self.pixels += pixels

    def compute(self) -> dict[str, Tensor]:
        """The means over everything added; the PSNR is that of the mean squared error."""
        mse = self.squared_error / self.pixels
        return {
            "mse": mse,
            "psnr": -10 * mse.log10(),
            "ciede2000": self.color_difference / self.pixels,
        }


class PaletteUsage(Metric):
    """How many colours of the palette are in use, and the perplexity of their use.

    Args:
        num_colors: rows of the palette. Of per-image palettes the same rows are counted together.

    Examples:
        >>> import torch
        >>> from experiments.metrics import PaletteUsage
        >>> usage = PaletteUsage(4)
        >>> usage.update(torch.tensor([[[0, 1], [0, 1]]]))
        >>> {name: value.item() for name, value in usage.compute().items()}
        {'colors_used': 2.0, 'perplexity': 2.0}
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_colors: int) -> None:
        super().__init__()
        counts = torch.zeros(num_colors, dtype=torch.int64)
        self.add_state("counts", counts, dist_reduce_fx="sum")

    @torch.no_grad()
    def update(self, indices: Tensor) -> None:
        """Add a batch of indices, of any shape."""
        self.counts += metrics.palette_usage(indices, len(self.counts))

    def compute(self) -> dict[str, Tensor]:
        """Both numbers over everything added."""
        return {
            "colors_used": metrics.colors_in_use(self.counts).float(),
            "perplexity": metrics.perplexity(self.counts),
        }
