"""Slow, obvious oracles in numpy and float64."""

from collections import Counter

import numpy as np


def srgb_to_linear(rgb):
    """IEC 61966-2-1, one value at a time."""
    values = np.asarray(rgb, dtype=np.float64)
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values.flat]
    return np.array(linear).reshape(values.shape)


def oklab(rgb):
    """Ottosson 2020: two matrices with a cube root between them."""
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.cbrt(srgb_to_linear(rgb) @ to_lms.T) @ to_lab.T


def entropy(indices):
    """Bits a symbol of a sequence of indices."""
    counts = Counter(np.asarray(indices).flat)
    shares = [count / sum(counts.values()) for count in counts.values()]
    return -sum(share * np.log2(share) for share in shares)
