"""Differentiable, fast colour quantization: a palette layer, and palettes for pictures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colorquant_nn import functional, kernels
    from colorquant_nn import metrics as metrics
    from colorquant_nn import transforms as transforms
    from colorquant_nn.compression import compress_image
    from colorquant_nn.functional.fitting import resize_palette
    from colorquant_nn.functional.gamut import fit_gamut, fit_lightness
    from colorquant_nn.functional.histogram import ColorHistogram
    from colorquant_nn.image import (
        QuantizedImage,
        apply_palette,
        fit_palette,
        match_palette,
        quantize_frames,
        quantize_image,
        smallest_palette,
        spatial_palette,
        within_cluster_sum_of_squares,
    )
    from colorquant_nn.io import load_frames, load_image, open_frames, save_frames, save_image
    from colorquant_nn.layers import (
        ColorQuantize,
        DeferredColorQuantize,
        DitheredColorQuantize,
        LearnedPalette,
        PerImageColorQuantize,
        Quantized,
    )
    from colorquant_nn.palettes import Panel, load_palette, load_panel, save_palette
    from colorquant_nn.plot import comparison, palette_swatch

__all__ = [
    "ColorHistogram",
    "ColorQuantize",
    "DeferredColorQuantize",
    "DitheredColorQuantize",
    "LearnedPalette",
    "Panel",
    "PerImageColorQuantize",
    "Quantized",
    "QuantizedImage",
    "apply_palette",
    "comparison",
    "compress_image",
    "fit_gamut",
    "fit_lightness",
    "fit_palette",
    "functional",
    "kernels",
    "load_frames",
    "load_image",
    "load_palette",
    "load_panel",
    "match_palette",
    "open_frames",
    "palette_swatch",
    "quantize_frames",
    "quantize_image",
    "resize_palette",
    "save_frames",
    "save_image",
    "save_palette",
    "smallest_palette",
    "spatial_palette",
    "within_cluster_sum_of_squares",
]

__version__ = "0.1.0"

# Names come in when they are first used, so that `colorquant --help` need not wait for torch. Each
# is in `__all__` of its home; those that are used most come first.
_HOMES = (
    *("layers", "image", "functional.histogram", "functional.fitting", "functional.gamut"),
    *("compression", "io", "palettes", "plot"),
)
# `metrics` and `transforms` are in no list of names: they need extras, which may not be there.
_ROOMS = ("functional", "kernels", "metrics", "transforms")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    homes = (import_module(f"{__name__}.{home}") for home in _HOMES)
    globals()[name] = value = next(getattr(home, name) for home in homes if name in home.__all__)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
