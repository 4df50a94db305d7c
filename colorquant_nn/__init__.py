"""Differentiable, fast colour quantization: a palette layer, and palettes for pictures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from colorquant_nn.functional.histogram import ColorHistogram
from colorquant_nn.image import (
    QuantizedImage,
    apply_palette,
    fit_palette,
    quantize_image,
    smallest_palette,
    within_cluster_sum_of_squares,
)
from colorquant_nn.layers import ColorQuantize
from colorquant_nn.per_image import PerImageColorQuantize
from colorquant_nn.views import Quantized

if TYPE_CHECKING:
    from colorquant_nn.io import load_image, save_image
    from colorquant_nn.palettes import load_palette, save_palette
    from colorquant_nn.plot import comparison, palette_swatch

__all__ = [
    "ColorHistogram",
    "ColorQuantize",
    "PerImageColorQuantize",
    "Quantized",
    "QuantizedImage",
    "apply_palette",
    "comparison",
    "fit_palette",
    "load_image",
    "load_palette",
    "palette_swatch",
    "quantize_image",
    "save_image",
    "save_palette",
    "smallest_palette",
    "within_cluster_sum_of_squares",
]

__version__ = "0.1.0"

# Files and pictures come in when they are first used: a model needs none of them.
_LATER = {
    "load_image": "io",
    "save_image": "io",
    "load_palette": "palettes",
    "save_palette": "palettes",
    "comparison": "plot",
    "palette_swatch": "plot",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
