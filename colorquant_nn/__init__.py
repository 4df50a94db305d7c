"""Differentiable, fast colour quantization: a palette layer, and palettes for pictures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colorquant_nn.functional.histogram import ColorHistogram
    from colorquant_nn.functional.palette import resize_palette
    from colorquant_nn.image import (
        QuantizedImage,
        apply_palette,
        fit_palette,
        quantize_image,
        smallest_palette,
        within_cluster_sum_of_squares,
    )
    from colorquant_nn.io import load_image, save_image
    from colorquant_nn.layers import ColorQuantize, PerImageColorQuantize, Quantized
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
    "resize_palette",
    "save_image",
    "save_palette",
    "smallest_palette",
    "within_cluster_sum_of_squares",
]

__version__ = "0.1.0"

# Names come in when they are first used, so that `colorquant --help` need not wait for torch.
_HOME = {
    "ColorHistogram": "functional.histogram",
    "ColorQuantize": "layers",
    "PerImageColorQuantize": "layers",
    "Quantized": "layers",
    "QuantizedImage": "image",
    "apply_palette": "image",
    "comparison": "plot",
    "fit_palette": "image",
    "load_image": "io",
    "load_palette": "palettes",
    "palette_swatch": "plot",
    "quantize_image": "image",
    "resize_palette": "functional.palette",
    "save_image": "io",
    "save_palette": "palettes",
    "smallest_palette": "image",
    "within_cluster_sum_of_squares": "image",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
