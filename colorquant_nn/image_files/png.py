"""PNG and APNG: the chunks of a file. Pillow undoes the compression of a picture.

References:
    https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from colorquant_nn.image_files.colorimetry import profile_of_chunks
from colorquant_nn.image_files.compositing import CLEAR, KEEP, RESTORE, Patch, compose
from colorquant_nn.image_files.contents import (
    Contents,
    Decoded,
    check_sizes,
    orientation_of,
    resolution_of,
)
from colorquant_nn.image_files.decoding import Refused
from colorquant_nn.image_files.pixels import to_8_bits

__all__ = ["SIGNATURE", "Frame", "Png", "pack_chunk", "parse_png", "scan_png", "walk_chunks"]

Array = NDArray[np.uint8]
Chunk = tuple[bytes, bytes]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, INDEXED, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
MAX_PROFILE = 1 << 24  # bytes, unfolded
ORIENTATIONS = (b"XML:com.adobe.xmp", b"Raw profile type exif")  # texts that may hold it


def scan_png(data: bytes, max_pixels: int) -> Contents:
    """Read the chunks of a PNG.

    Args:
        data: the content of the file.
        max_pixels: of the picture.

    Returns:
        what it holds.

    Raises:
        ValueError: a chunk that matters is broken, frames are missing, or pixels are too many.
    """
    png = parse_png(data)
    check_sizes([png.size] * len(png.frames), max_pixels)

    def frames() -> Iterator[Decoded]:
        meant = png.profile, png.orientation
        if b"acTL" not in png.chunks:
            image, alpha, deep = _decode(data, png, png.frames[0])
            yield Decoded(image, alpha, *meant, deep if png.profile else None)
            return
        for canvas in compose(png.size, (_draw(data, png, frame) for frame in png.frames)):
            mode = "L" if png.kind in (GREY, GREY_ALPHA) else "RGB"
            yield Decoded(Image.fromarray(canvas).convert(mode), canvas[..., 3], *meant)

    return Contents(frames, [frame.delay for frame in png.frames], png.plays, png.resolution)


class Frame(NamedTuple):
    """An image of the file, still compressed."""

    width: int
    height: int
    left: int = 0
    top: int = 0
    delay: float = 0.0
    """Milliseconds."""
    disposal: int = 0
    blend: int = 0
    data: Sequence[tuple[int, int]] = ()
    """Where in the file its compressed data are."""


class Png(NamedTuple):
    """What a file says before anything is decompressed."""

    size: tuple[int, int]
    depth: int
    """Bits of a sample."""
    kind: int
    """The colour type."""
    interlaced: int
    frames: list[Frame]
    plays: int
    chunks: dict[bytes, bytes]
    """What else there is, the first of each kind."""
    profile: bytes | None
    """ICC; empty if it is broken."""
    orientation: int
    resolution: tuple[float, float] | None


def parse_png(data: bytes) -> Png:
    """Read the chunks of a PNG.

    A still that is no frame of an animation is left out: it is there for programs that know none.

    Args:
        data: the content of the file.

    Returns:
        its frames in order, one for a still picture.

    Raises:
        ValueError: a chunk that matters is broken, or frames are missing.
    """
    chunks: dict[bytes, bytes] = {}
    texts: list[Chunk] = []
    still: list[tuple[int, int]] = []
    parts: list[list[tuple[int, int]]] = []
    frames: list[Frame] = []
    for kind, start, stop in walk_chunks(data):
        if kind == b"IDAT":
            still.append((start, stop))
        elif kind == b"fcTL" and b"acTL" in chunks:
            parts.append([] if parts or still else still)  # the still may be the first frame
            frames.append(_frame(data[start:stop], parts[-1]))
        elif kind == b"fdAT" and parts:
            parts[-1].append((start + 4, stop))
        elif kind == b"acTL" and still:
            continue  # too late: it is no animation
        elif kind in (b"iTXt", b"zTXt", b"tEXt"):
            if data[start:stop].startswith(ORIENTATIONS):
                texts.append((kind, data[start:stop]))
        else:
            chunks.setdefault(kind, data[start:stop])
    width, height, depth, kind_of_color, _, _, interlaced = struct.unpack(
        ">IIBBBBB", chunks[b"IHDR"]
    )
    plays = 1
    count, repeats = struct.unpack_from(">II", chunks.get(b"acTL", bytes(8)))
    if count:
        frames, plays = frames[:count], repeats
        if len(frames) < count or not all(frame.data for frame in frames):
            raise Refused(f"truncated: expected {count} frames, got {len(frames)}")
        for frame in frames:
            if frame.left + frame.width > width or frame.top + frame.height > height:
                raise Refused("a frame reaches beyond the picture")
    else:
        frames = [Frame(width, height, data=still)]
    orientation, resolution = _display(chunks, texts)
    return Png(
        (width, height), depth, kind_of_color, interlaced, frames, plays, chunks,
        _profile(chunks), orientation, resolution,
    )  # fmt: skip


def walk_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Find the chunks of a file, up to where it is cut.

    A broken chunk is passed over if a picture can do without it.

    Args:
        data: the content of the file.

    Yields:
        kind, start and stop of each.

    Raises:
        ValueError: a chunk that matters is broken.
    """
    position = len(SIGNATURE)
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        start, stop = position + 8, position + 8 + length
        if kind == b"IEND" or not kind.isalpha():
            break
        needed = not kind[0] & 0x20
        if kind in (b"IDAT", b"fdAT"):
            yield kind, start, min(stop, len(data))
        elif data[stop : stop + 4] == struct.pack(">I", zlib.crc32(data[position + 4 : stop])):
            yield kind, start, stop
        elif needed:
            raise Refused(f"broken or truncated: the checksum of {kind.decode()} is wrong")
        position = stop + 4


def _frame(control: bytes, data: Sequence[tuple[int, int]]) -> Frame:
    _, width, height, left, top, delay, unit, disposal, blend = struct.unpack(">5I2H2B", control)
    return Frame(width, height, left, top, 1000 * delay / (unit or 100), disposal, blend, data)


def _profile(chunks: dict[bytes, bytes]) -> bytes | None:
    if b"cICP" in chunks or b"iCCP" not in chunks:
        return profile_of_chunks(chunks)
    _, _, packed = chunks[b"iCCP"].partition(b"\0")
    unpacking = zlib.decompressobj()
    try:
        profile = unpacking.decompress(packed[1:], MAX_PROFILE)
    except zlib.error:
        return b""
    return b"" if unpacking.unconsumed_tail else profile


def _display(
    chunks: dict[bytes, bytes], texts: list[Chunk]
) -> tuple[int, tuple[float, float] | None]:
    """How the picture is to be turned, and its resolution, as Pillow reads them."""
    named = [(kind, chunks[kind]) for kind in (b"eXIf", b"pHYs") if kind in chunks]
    try:
        image = _open((1, 1), 8, GREY, 0, [*named, *texts, (b"IDAT", zlib.compress(b"\0\0"))])
        image.load()
        return orientation_of(image), resolution_of(image)
    except Exception:  # odd metadata
        return 1, None


def _open(
    size: tuple[int, int], depth: int, kind: int, interlaced: int, chunks: Sequence[Chunk]
) -> PngImagePlugin.PngImageFile:
    """A picture that has these chunks alone."""
    header = struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, interlaced)
    parts = (pack_chunk(*chunk) for chunk in ((b"IHDR", header), *chunks, (b"IEND", b"")))
    return PngImagePlugin.PngImageFile(io.BytesIO(SIGNATURE + b"".join(parts)))


def pack_chunk(kind: bytes, data: bytes) -> bytes:
    """Write a chunk.

    Args:
        kind: four letters.
        data: its content.

    Returns:
        the chunk with its length and checksum.
    """
    check = zlib.crc32(data, zlib.crc32(kind))
    return b"".join([struct.pack(">I", len(data)), kind, data, struct.pack(">I", check)])


def _draw(data: bytes, png: Png, frame: Frame) -> Patch:
    image, alpha, _ = _decode(data, png, frame)
    pixels = np.array(image.convert("RGBA"))
    if alpha is not None:
        pixels[..., 3] = alpha
    after = {1: CLEAR, 2: RESTORE}.get(frame.disposal, KEEP)
    everywhere = np.broadcast_to(np.True_, pixels.shape[:2])
    return Patch(pixels, frame.left, frame.top, after, None if frame.blend else everywhere)


def _decode(
    data: bytes, png: Png, frame: Frame
) -> tuple[Image.Image, Array | None, NDArray[np.uint16] | None]:
    """The colours, in mode L or RGB, alpha, and the colours in 16 bits if they have them."""
    packed = b"".join(data[start:stop] for start, stop in frame.data)
    size = frame.width, frame.height
    if png.depth == 16:
        values = _decode_deep(size, png, packed)
        pixels = to_8_bits(values)
        if png.kind in (GREY_ALPHA, RGB_ALPHA):
            return _image(pixels[..., :-1]), pixels[..., -1], values[..., :-1]
        return _image(pixels), _mask(png, values), values
    chunks = [(name, png.chunks[name]) for name in (b"PLTE",) if name in png.chunks]
    image = _open(size, png.depth, png.kind, png.interlaced, [*chunks, (b"IDAT", packed)])
    if png.kind == INDEXED:
        if b"PLTE" not in png.chunks:
            raise Refused("an indexed picture without a palette")
        alpha = None
        if b"tRNS" in png.chunks:
            table = np.frombuffer(png.chunks[b"tRNS"][:256].ljust(256, b"\xff"), np.uint8)
            alpha = table[np.asarray(image)]
        return image.convert("RGB"), alpha, None
    if png.kind in (GREY_ALPHA, RGB_ALPHA):
        alpha = np.asarray(image.getchannel("A"))
        return image.convert("L" if png.kind == GREY_ALPHA else "RGB"), alpha, None
    image_8 = image.convert("RGB" if png.kind == RGB else "L")
    return image_8, _mask(png, np.asarray(image_8).reshape(*size[::-1], -1)), None


def _decode_deep(size: tuple[int, int], png: Png, packed: bytes) -> NDArray[np.uint16]:
    """16 bits of a sample; Pillow gives either the upper or the lower ones."""
    body = [(b"IDAT", packed)]
    if png.kind in (GREY, GREY_ALPHA):  # of the same layout: two bytes for a sample
        image = _open(size, 8, GREY_ALPHA if png.kind == GREY else RGB_ALPHA, png.interlaced, body)
        return np.ascontiguousarray(image).view(">u2").astype(np.uint16)
    upper, lower = (_open(size, 16, png.kind, png.interlaced, body) for _ in range(2))
    place = ("zip", (0, 0, *size), lower.tile[0][2])
    lower.tile = [(*place, "RGB;16L" if png.kind == RGB else "RGBA;16L")]  # type: ignore[list-item]
    return np.asarray(upper).astype(np.uint16) << 8 | np.asarray(lower)


def _image(pixels: Array) -> Image.Image:
    """In mode L or RGB, of (H, W, 1) or (H, W, 3)."""
    one = pixels.shape[-1] == 1
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if one else pixels))


def _mask(png: Png, values: NDArray[np.integer]) -> Array | None:
    """Alpha where one grey or one colour is transparent; values are (H, W, C)."""
    if b"tRNS" not in png.chunks:
        return None
    channels = values.shape[-1]
    key = np.array(struct.unpack_from(f">{channels}H", png.chunks[b"tRNS"]), np.uint32)
    key &= (1 << png.depth) - 1
    if png.depth < 8:
        key = key * (255 // ((1 << png.depth) - 1))
    return np.where((values == key).all(axis=-1), 0, 255).astype(np.uint8)
