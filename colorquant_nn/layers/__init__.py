"""The layers: modules that quantize with a palette which they learn, or find for each image."""

from colorquant_nn.layers.color_quantize import ColorQuantize, DeferredColorQuantize
from colorquant_nn.layers.dithered import DitheredColorQuantize
from colorquant_nn.layers.learned_palette import LearnedPalette
from colorquant_nn.layers.per_image import PerImageColorQuantize
from colorquant_nn.layers.quantizer import Quantized

__all__ = [
    "ColorQuantize",
    "DeferredColorQuantize",
    "DitheredColorQuantize",
    "LearnedPalette",
    "PerImageColorQuantize",
    "Quantized",
]
