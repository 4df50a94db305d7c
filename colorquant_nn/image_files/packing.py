"""How pixels are packed into files: in few bits, only what changed, with alpha where it is used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["box_of", "changed_box", "is_opaque", "pack_rows"]

Array = NDArray[np.uint8]


def pack_rows(indices: Array, bits: int) -> Array:
    """Pack several indices into each byte, the first in its highest bits.

    Args:
        indices: (H, W), each below ``2**bits``.
        bits: 1, 2, 4 or 8.

    Returns:
        (H, ceil(W * bits / 8)); each row begins with a byte of its own.

    Examples:
        >>> import numpy as np
        >>> from colorquant_nn.image_files.packing import pack_rows
        >>> pack_rows(np.array([[3, 0, 1, 2, 3]], np.uint8), 2).tolist()
        [[198, 192]]
    """
    if bits == 8:
        return indices
    height, width = indices.shape
    apart = 8 // bits
    packed = np.zeros((height, -(-width // apart)), np.uint8)
    for place in range(apart):
        part = indices[:, place::apart]
        packed[:, : part.shape[1]] |= part << np.uint8(8 - bits * (place + 1))
    return packed


def changed_box(before: Array | None, after: Array, step: int = 1) -> tuple[slice, slice]:
    """Find the smallest box that holds all that changed.

    Args:
        before: a frame, (H, W) or (H, W, C); None: everything is new.
        after: the next one, of the same shape.
        step: of the box's upper left corner.

    Returns:
        rows and columns; one pixel where nothing changed.

    Examples:
        >>> import numpy as np
        >>> from colorquant_nn.image_files.packing import changed_box
        >>> changed_box(np.zeros((3, 3), np.uint8), np.eye(3, dtype=np.uint8)[::-1] // [1, 1, 2])
        (slice(1, 3, None), slice(0, 2, None))
    """
    height, width = after.shape[:2]
    if before is None:
        return slice(0, height), slice(0, width)
    changed = before != after
    return box_of(changed.any(-1) if changed.ndim == 3 else changed, step)


def box_of(mask: NDArray[np.bool_], step: int = 1) -> tuple[slice, slice]:
    """Find the smallest box that holds all of a mask.

    Args:
        mask: (H, W).
        step: of the box's upper left corner.

    Returns:
        rows and columns; one pixel for an empty mask.

    Examples:
        >>> import numpy as np
        >>> from colorquant_nn.image_files.packing import box_of
        >>> box_of(np.array([[False, True, True]]))
        (slice(0, 1, None), slice(1, 3, None))
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return slice(0, 1), slice(0, 1)
    top, left = (int(places[0]) // step * step for places in (rows, columns))
    return slice(top, int(rows[-1]) + 1), slice(left, int(columns[-1]) + 1)


def is_opaque(frame: Array, colors: Array | None) -> bool:
    """Tell whether no pixel of a frame is clear or soft.

    Args:
        frame: (H, W, 3) or (H, W, 4); with ``colors`` (H, W), the indices.
        colors: (K, 3) or (K, 4).

    Returns:
        whether that is so; colours that no pixel has do not count.

    Examples:
        >>> import numpy as np
        >>> from colorquant_nn.image_files.packing import is_opaque
        >>> red_and_nothing = np.array([[255, 0, 0, 255], [0, 0, 0, 0]], np.uint8)
        >>> is_opaque(np.array([[0, 0]], np.uint8), red_and_nothing)
        True
    """
    if colors is None:
        return frame.shape[-1] == 3 or bool((frame[..., 3] == 255).all())
    if colors.shape[1] == 3 or (soft := colors[:, 3] < 255).sum() == 0:
        return True
    return not soft[frame].any()
