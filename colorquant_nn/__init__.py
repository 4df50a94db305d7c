"""Differentiable, fast colour quantization: a palette layer, and palettes for pictures."""

from colorquant_nn.layers import ColorQuantize, Quantized
from colorquant_nn.per_image import PerImageColorQuantize

__all__ = ["ColorQuantize", "PerImageColorQuantize", "Quantized"]
