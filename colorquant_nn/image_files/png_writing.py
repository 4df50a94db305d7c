"""PNG and APNG, written: https://www.w3.org/TR/png-3/.

At effort "fast" zlib and Pillow compress, in a fraction of the time; at "balanced" and "best"
oxipng does, which tries filters and has a better deflate. A palette keeps its order, which may be
somebody's: who has none asks `functional.order` before. True colour becomes what stores the same
pixels in the fewest bytes, grey or a palette. Of a small picture every effort up to the one that is
asked for is tried, so that more of it never makes more bytes.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple, get_args

import numpy as np
import oxipng
from numpy.typing import NDArray
from PIL import Image

from colorquant_nn.image_files.display import METRE, Display, as_fraction
from colorquant_nn.image_files.packing import changed_box, pack_rows
from colorquant_nn.image_files.png import SIGNATURE, pack_chunk, walk_chunks
from colorquant_nn.names import Effort

__all__ = ["encode_png"]

Array = NDArray[np.uint8]

LARGE = 1 << 22  # pixels
LEVEL, LEVEL_LARGE = 9, 6
MEMORY_LEVEL = 7  # blocks with codes of their own: the best of 4 to 9, by 0.3 % to 0.6 %
LEVEL_TRUE_COLOR = 8  # 2 % to 4 % smaller than 6 for twice the time, some 0.1 s a megapixel
SMALL = 1 << 16  # pixels, for which some bytes may decide that less effort makes less of them

NONE, SUB = oxipng.RowFilter.NoOp, oxipng.RowFilter.Sub
BY_ROW = oxipng.RowFilter.Entropy, oxipng.RowFilter.Bigrams, oxipng.RowFilter.BigEnt


class Search(NamedTuple):
    """What oxipng tries."""

    filters: tuple[oxipng.RowFilter, ...]
    level: int
    """Of libdeflate, up to 12."""
    thorough: bool = True
    """Whether every filter is tried at that level; else at a low one, which may be mistaken."""


# Without a filter, or all rows with that of left neighbours, which pays where the palette is in an
# order for it (`functional.order`): what else oxipng -o4 tries is 4 times as slow for some 0.1 %.
SEARCHES = {"balanced": Search((NONE, SUB), 12), "best": Search((NONE, SUB, *BY_ROW), 12)}
FEW = 16  # colours, whose differences no filter makes smaller
SEARCHES_FEW = {"balanced": Search((NONE,), 12), "best": Search((NONE, *BY_ROW), 12)}
SEARCHES_TRUE_COLOR = {
    "balanced": Search((NONE, SUB, *BY_ROW), 12, thorough=False),
    "best": Search((NONE, SUB, *BY_ROW, oxipng.RowFilter.Brute), 12),
}
SEARCHES_LARGE = {
    "balanced": Search((NONE, SUB, BY_ROW[0]), 11, thorough=False),
    "best": Search((NONE, SUB, *BY_ROW), 12, thorough=False),
}


def encode_png(
    frames: Iterator[Array], display: Display, colors: Array | None, effort: Effort
) -> bytes:
    """Encode a still as PNG, several frames as APNG of what changes from one to the next.

    Args:
        frames: as in `image_files.encode`.
        display: as in `image_files.encode`.
        colors: as in `image_files.encode`; all of them are stored, in their order.
        effort: as in `image_files.encode`.

    Returns:
        the content of the file.
    """
    if len(display.durations) > 1:
        return _encode_animation(frames, display, colors, effort)
    (frame,) = frames
    efforts = get_args(Effort)
    small = frame.shape[0] * frame.shape[1] <= SMALL
    tried = efforts[: efforts.index(effort) + 1] if small else (effort,)
    return min((_encode_still(frame, display, colors, one) for one in tried), key=len)


def _encode_still(frame: Array, display: Display, colors: Array | None, effort: Effort) -> bytes:
    if colors is None and effort != "fast":
        # The fewest channels and bits, or a palette, whatever is smallest.
        return _optimize(frame, None, 8, effort, free=True, resolution=display.resolution)
    files = []
    for bits in _depths(colors, effort):
        data = _compress(frame, colors, bits, effort)
        parts = _header(frame, colors, bits, display), pack_chunk(b"IDAT", data), END
        files.append(b"".join(parts))
    return min(files, key=len)


def _encode_animation(
    frames: Iterator[Array], display: Display, colors: Array | None, effort: Effort
) -> bytes:
    file = io.BytesIO()
    bits = _fewest_bits(colors)
    before = None
    number = 0  # of the next chunk of an animation
    for frame, duration in zip(frames, display.durations, strict=False):
        if before is None:
            file.write(_header(frame, colors, bits, display))
        box = rows, columns = changed_box(before, frame)
        control = struct.pack(
            ">IIIIIHHBB",
            number,
            columns.stop - columns.start,
            rows.stop - rows.start,
            columns.start,
            rows.start,
            *as_fraction(duration),
            0,  # it stays,
            0,  # and replaces what it covers
        )
        file.write(pack_chunk(b"fcTL", control))
        number += 1
        data = _compress(np.ascontiguousarray(frame[box]), colors, bits, effort)
        if before is None:
            file.write(pack_chunk(b"IDAT", data))
        else:
            file.write(pack_chunk(b"fdAT", struct.pack(">I", number) + data))
            number += 1
        before = frame
    file.write(END)
    return file.getvalue()


END = pack_chunk(b"IEND", b"")


def _header(frame: Array, colors: Array | None, bits: int, display: Display) -> bytes:
    height, width = frame.shape[:2]
    kind = 3 if colors is not None else 2 if frame.shape[2] == 3 else 6
    parts = [
        SIGNATURE,
        pack_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)),
    ]
    if display.resolution is not None:
        parts.append(pack_chunk(b"pHYs", _physical(display.resolution)))
    if colors is not None:
        parts.append(pack_chunk(b"PLTE", colors[:, :3].tobytes()))
        alpha = colors[:, 3].tobytes().rstrip(b"\xff") if colors.shape[1] == 4 else b""
        if alpha:
            parts.append(pack_chunk(b"tRNS", alpha))
    if (count := len(display.durations)) > 1:
        parts.append(pack_chunk(b"acTL", struct.pack(">II", count, display.plays)))
    return b"".join(parts)


def _physical(resolution: tuple[float, float]) -> bytes:
    across, down = (max(1, round(dots * METRE)) for dots in resolution)
    return struct.pack(">IIB", across, down, 1)


def _fewest_bits(colors: Array | None) -> int:
    if colors is None:
        return 8
    return next(bits for bits in (1, 2, 4, 8) if len(colors) <= 1 << bits)


def _depths(colors: Array | None, effort: Effort) -> tuple[int, ...]:
    """Deflate sees bytes: repetitions of 4 bits are lost to it where they begin within one."""
    bits = _fewest_bits(colors)
    return (bits, 8) if effort != "fast" and bits == 4 else (bits,)


def _compress(pixels: Array, colors: Array | None, bits: int, effort: Effort) -> bytes:
    """The rows with their filters, deflated."""
    if effort != "fast":
        return _image_data(_optimize(pixels, colors, bits, effort, free=False))
    large = pixels.shape[0] * pixels.shape[1] > LARGE
    if colors is None:
        # Pillow chooses a filter for each row.
        file = io.BytesIO()
        level = LEVEL_LARGE if large else LEVEL_TRUE_COLOR
        Image.fromarray(pixels).save(file, "PNG", compress_level=level)
        return _image_data(file.getvalue())
    # Indices are names, whose differences mean nothing: no filter.
    rows = np.pad(pack_rows(pixels, bits), ((0, 0), (1, 0)))
    compressor = zlib.compressobj(LEVEL_LARGE if large else LEVEL, memLevel=MEMORY_LEVEL)
    return compressor.compress(rows.data) + compressor.flush()


def _image_data(file: bytes) -> bytes:
    return b"".join(file[start:stop] for kind, start, stop in walk_chunks(file) if kind == b"IDAT")


def _optimize(
    pixels: Array,
    colors: Array | None,
    bits: int,
    effort: Effort,
    *,
    free: bool,
    resolution: tuple[float, float] | None = None,
) -> bytes:
    """A still of its own by oxipng, which is free to choose channels and bits or keeps them."""
    height, width = pixels.shape[:2]
    if colors is not None:
        rows, searches = pack_rows(pixels, bits), SEARCHES_FEW if len(colors) <= FEW else SEARCHES
        alpha = colors[:, 3:] if colors.shape[1] == 4 else np.full((len(colors), 1), 255, np.uint8)
        kind = oxipng.ColorType.indexed(np.hstack([colors[:, :3], alpha]).tolist())
    else:
        rows, searches = pixels, SEARCHES_TRUE_COLOR
        kind = oxipng.ColorType.rgb() if pixels.shape[2] == 3 else oxipng.ColorType.rgba()
    search = (SEARCHES_LARGE if height * width > LARGE else searches)[effort]
    image = oxipng.RawImage(rows.tobytes(), width, height, color_type=kind, bit_depth=bits)
    if resolution is not None:
        image.add_png_chunk(b"pHYs", _physical(resolution))
    return image.create_optimized_png(
        filter=search.filters,
        deflate=oxipng.Deflaters.libdeflater(search.level),
        fast_evaluation=not search.thorough,
        bit_depth_reduction=free,
        color_type_reduction=free,
        palette_reduction=free,
        grayscale_reduction=free,
    )
