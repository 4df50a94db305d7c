"""Colour spaces that a PNG gives in numbers, as the profiles that they amount to.

References:
    https://www.w3.org/TR/png-3/#11addnlcolinfo
    ITU-T H.273 for the numbers of cICP.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["matrix_profile", "profile_of_chunks"]

# x and y of white, red, green and blue, by the number that cICP has for them.
SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
PRIMARIES = {
    1: SRGB,
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
# Exponents; None is sRGB's own curve. Video's curves are shown with it, too.
CURVES = {1: None, 4: 2.2, 5: 2.8, 6: None, 8: 1.0, 13: None, 14: None, 15: None}
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
NEARLY = 0.05  # from 2.2 on, an exponent stands for sRGB, as libpng takes it
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def profile_of_chunks(chunks: Mapping[bytes, bytes]) -> bytes | None:
    """Make the profile that cICP, or gAMA and cHRM stand for.

    Args:
        chunks: of a PNG, by their kinds.

    Returns:
        ICC; None where nothing is said, and empty for what cannot be said so, as PQ and HLG.
    """
    if b"cICP" in chunks:
        primaries, curve, *_ = chunks[b"cICP"]
        if primaries not in PRIMARIES or curve not in CURVES:
            return b""
        return matrix_profile(PRIMARIES[primaries], CURVES[curve])
    if b"sRGB" in chunks or not chunks.keys() & {b"gAMA", b"cHRM"}:
        return None
    gamma = struct.unpack(">I", chunks.get(b"gAMA", struct.pack(">I", 45455)))[0] / 100_000
    numbers = struct.unpack(">8I", chunks[b"cHRM"]) if b"cHRM" in chunks else ()
    if not gamma:
        return None
    exponent = None if abs(2.2 * gamma - 1) < NEARLY else 1 / gamma
    return matrix_profile([number / 100_000 for number in numbers] or SRGB, exponent)


def matrix_profile(chromaticities: Sequence[float], exponent: float | None) -> bytes:
    """Make an ICC profile of three primaries and a curve.

    Args:
        chromaticities: x and y of white, red, green and blue.
        exponent: from samples to light; None for the curve of sRGB.

    Returns:
        the profile; empty if the numbers make no colour space.
    """
    x, y = np.array(chromaticities, np.float64).reshape(4, 2).T
    if not (y > 0).all():
        return b""
    white, *primaries = np.stack([x / y, np.ones(4), (1 - x - y) / y], axis=1)
    adapted = np.diag((BRADFORD @ D50) / (BRADFORD @ white))
    try:
        scale = np.linalg.solve(np.transpose(primaries), white)
        columns = np.linalg.inv(BRADFORD) @ adapted @ BRADFORD @ (np.transpose(primaries) * scale)
    except np.linalg.LinAlgError:
        return b""
    if not (np.abs(columns) < 1000).all() or not (exponent is None or 0.01 < exponent < 100):
        return b""
    kind, values = (3, SRGB_CURVE) if exponent is None else (0, (exponent,))
    curve = b"para" + struct.pack(">IHH", 0, kind, 0) + _fixed(values)
    tags = [(b"wtpt", b"XYZ \0\0\0\0" + _fixed(D50))]
    for name, column in zip((b"r", b"g", b"b"), columns.T, strict=True):
        tags += [(name + b"XYZ", b"XYZ \0\0\0\0" + _fixed(column)), (name + b"TRC", curve)]
    place = 128 + 4 + 12 * len(tags)
    directory, body = struct.pack(">I", len(tags)), b""
    for name, content in tags:
        directory += struct.pack(">4sII", name, place + len(body), len(content))
        body += content
    head = struct.pack(">I4xI", place + len(body), 0x04000000) + b"mntrRGB XYZ "
    head += bytes(12) + b"acsp" + bytes(28) + _fixed(D50)
    return head.ljust(128, b"\0") + directory + body


def _fixed(values: Sequence[float] | np.ndarray) -> bytes:
    return np.round(np.array(values) * 65536).astype(">i4").tobytes()
