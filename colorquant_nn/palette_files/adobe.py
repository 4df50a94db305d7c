"""Swatches of Adobe's programs: .ase (Swatch Exchange) and .aco (Photoshop)."""

import colorsys
import struct
from collections.abc import Iterator

import numpy as np

from colorquant_nn.palette_files.colors import Colors, stack, without_alpha

__all__ = [
    "is_swatch_exchange",
    "is_swatches",
    "read_swatch_exchange",
    "read_swatches",
    "write_swatch_exchange",
    "write_swatches",
]

RGB, HSB, CMYK, LAB, GREY = 0, 1, 2, 7, 8  # of .aco
SPACES = 16  # numbers of spaces that a .aco may have, most of them of inks
# https://www.w3.org/TR/css-color-4/#color-conversion-code: XYZ at D50 to linear sRGB.
XYZ_TO_LINEAR = np.array(
    [
        [3.1341359569958707, -1.6173863321612538, -0.4906619460083532],
        [-0.978795502912089, 1.916254567259524, 0.03344273116131949],
        [0.07195537988411677, -0.2289768264158322, 1.405386058324125],
    ]
)
D50 = np.array([0.3457 / 0.3585, 1.0, (1 - 0.3457 - 0.3585) / 0.3585])


def is_swatch_exchange(data: bytes) -> bool:
    """Tell whether it begins as an .ase.

    Args:
        data: the content of the file.

    Returns:
        whether it does.
    """
    return data.startswith(b"ASEF")


def read_swatch_exchange(data: bytes, name: str) -> Colors:
    """Read an .ase: blocks, of which some are colours.

    Args:
        data: the content of the file.
        name: of the file, for messages.

    Returns:
        (K, 3) uint8; CMYK as ideal inks, since no profile is named.

    Raises:
        ValueError: it is none, is cut off, or has a colour of another kind.

    References:
        http://www.selapa.net/swatches/colors/fileformats.php#adobe_ase (Adobe publishes nothing)
    """
    if not is_swatch_exchange(data):
        raise ValueError(f"{name}: expected an Adobe swatch file ('ASEF'), got {data[:4]!r}")

    def rows() -> Iterator[tuple[int, ...]]:
        (count,) = struct.unpack_from(">I", data, 8)
        position = 12
        for _ in range(count):
            kind, length = struct.unpack_from(">HI", data, position)
            position += 6
            if position + length > len(data):
                raise ValueError(
                    f"{name}, byte {position}: expected a block of {length} bytes, "
                    f"got {len(data) - position}"
                )
            if kind == 1:  # a colour; groups and their ends hold none
                block = data[position : position + length]
                yield _exchanged(block, f"{name}, byte {position}")
            position += length

    try:
        return stack(rows(), name)
    except struct.error:
        raise ValueError(f"{name}: expected more blocks, got the end of the file") from None


def write_swatch_exchange(colors: Colors, name: str) -> bytes:
    """Write an .ase, the colours named by their codes.

    Args:
        colors: (K, 3) or (K, 4) uint8.
        name: of the file, for messages.

    Returns:
        the content of the file.

    Raises:
        ValueError: one is not opaque.
    """
    blocks = []
    for row in without_alpha(colors, name, "Adobe .ase"):
        label = f"#{bytes(row).hex()}\0"
        blocks.append(
            struct.pack(">H", len(label))
            + label.encode("utf-16-be")
            + b"RGB "
            + struct.pack(">3fH", *(value / 255 for value in row.tolist()), 2)  # 2: process colour
        )
    header = b"ASEF" + struct.pack(">HHI", 1, 0, len(blocks))
    return header + b"".join(struct.pack(">HI", 1, len(block)) + block for block in blocks)


def is_swatches(data: bytes) -> bool:
    """Tell whether it has the structure of an .aco, which begins with no word of its own.

    Args:
        data: the content of the file.

    Returns:
        whether it has that of version 1, the first in nearly every file.
    """
    if len(data) < 14:
        return False
    version, count, space = struct.unpack_from(">HHH", data)
    end = 4 + 10 * count
    second = data[end : end + 4] in (b"", struct.pack(">HH", 2, count))
    return version == 1 and space < SPACES and count > 0 and end <= len(data) and second


def read_swatches(data: bytes, name: str) -> Colors:
    """Read an .aco: colours, then perhaps the same again with names.

    Args:
        data: the content of the file.
        name: of the file, for messages.

    Returns:
        (K, 3) uint8; CMYK as ideal inks, grey as black ink, Lab at D50, cut at the edge of sRGB.

    Raises:
        ValueError: it is none, is cut off, or has a colour of another kind.

    References:
        "Color Swatches" in https://www.adobe.com/devnet-apps/photoshop/fileformatashtml/
    """
    try:
        version, count = struct.unpack_from(">HH", data)
        if version not in (1, 2):
            raise ValueError(
                f"{name}: expected Photoshop's colours of version 1 or 2, got {version}"
            )
        rows, end = _section(data, 0, name)
        if version == 1 and end < len(data):
            again, number = struct.unpack_from(">HH", data, end)
            if (again, number) != (2, count):
                raise ValueError(
                    f"{name}, byte {end}: expected the {count} colours again in version 2, "
                    f"got {number} in version {again}"
                )
            rows, end = _section(data, end, name)
    except struct.error:
        raise ValueError(f"{name}: expected more colours, got the end of the file") from None
    if data[end:].strip(b"\0"):
        raise ValueError(f"{name}, byte {end}: expected the end, got {len(data) - end} bytes more")
    return stack(rows, name)


def write_swatches(colors: Colors, name: str) -> bytes:
    """Write an .aco of both versions, the colours named by their codes.

    Args:
        colors: (K, 3) or (K, 4) uint8.
        name: of the file, for messages.

    Returns:
        the content of the file.

    Raises:
        ValueError: one is not opaque, or there are too many.
    """
    if len(colors) > 0xFFFF:
        raise ValueError(f"{name}: Adobe .aco holds at most 65535 colours, got {len(colors)}")
    first, second = [struct.pack(">HH", 1, len(colors))], [struct.pack(">HH", 2, len(colors))]
    for row in without_alpha(colors, name, "Adobe .aco"):
        color = struct.pack(">5H", RGB, *(257 * value for value in row.tolist()), 0)
        label = f"#{bytes(row).hex()}\0"
        first.append(color)
        second.append(color + struct.pack(">I", len(label)) + label.encode("utf-16-be"))
    return b"".join(first + second)


def _exchanged(block: bytes, place: str) -> tuple[int, ...]:
    """A colour of an .ase."""
    (name_length,) = struct.unpack_from(">H", block)
    start = 2 + 2 * name_length
    model = block[start : start + 4].decode("latin-1").strip().upper()
    channels = {"RGB": 3, "CMYK": 4, "LAB": 3, "GRAY": 1}.get(model)
    if channels is None:
        raise ValueError(f"{place}: expected an RGB, CMYK, Lab or Gray colour, got {model!r}")
    values = struct.unpack_from(f">{channels}f", block, start + 4)
    if not all(-1e-4 <= value <= 1 + 1e-4 for value in values[: 1 if model == "LAB" else None]):
        raise ValueError(f"{place}: expected values from 0 to 1, got {values}")  # NaN, too
    if model == "LAB":
        if not all(-129 <= value <= 129 for value in values[1:]):
            raise ValueError(f"{place}: expected a and b from -128 to 127, got {values[1:]}")
        return _lab(100 * values[0], *values[1:])
    if model == "GRAY":
        values *= 3
    elif model == "CMYK":
        values = _inks(*values)
    return _bytes(values)


def _section(data: bytes, start: int, name: str) -> tuple[list[tuple[int, ...]], int]:
    """The colours of one version, and where it ends."""
    version, count = struct.unpack_from(">HH", data, start)
    position = start + 4
    rows = []
    for _ in range(count):
        space, *values = struct.unpack_from(">5H", data, position)
        rows.append(_swatch(space, values, f"{name}, byte {position}"))
        position += 10
        if version == 2:
            (length,) = struct.unpack_from(">I", data, position)
            position += 4 + 2 * length
            if position > len(data):
                raise ValueError(
                    f"{name}, byte {position - 2 * length}: expected a name of {length} letters, "
                    "got the end of the file"
                )
    return rows, position


def _swatch(space: int, values: list[int], place: str) -> tuple[int, ...]:
    """A colour of an .aco."""
    shares = [value / 0xFFFF for value in values]
    if space == RGB:
        return _bytes(shares[:3])
    if space == HSB:
        return _bytes(colorsys.hsv_to_rgb(*shares[:3]))
    if space == CMYK:  # 0 is all the ink
        return _bytes(_inks(*(1 - share for share in shares)))
    lightness, a, b, _ = struct.unpack(">4h", struct.pack(">4H", *values))
    if space == LAB and 0 <= lightness <= 10000 and max(abs(a), abs(b)) <= 12800:
        return _lab(lightness / 100, a / 100, b / 100)
    if space == GREY and values[0] <= 10000:  # ink, as Photoshop counts it: 10000 is black
        return _bytes([1 - values[0] / 10000] * 3)
    if space in (LAB, GREY):
        raise ValueError(f"{place}: expected a value of Lab or grey up to 10000, got {values}")
    raise ValueError(
        f"{place}: expected the colour space RGB (0), HSB (1), CMYK (2), Lab (7) or grey (8), "
        f"got {space}"
    )


def _inks(cyan: float, magenta: float, yellow: float, black: float) -> tuple[float, ...]:
    """Ideal inks: the files name no profile."""
    return tuple((1 - value) * (1 - black) for value in (cyan, magenta, yellow))


def _lab(lightness: float, a: float, b: float) -> tuple[int, ...]:
    """CIE Lab at D50 in sRGB, cut at its edge."""
    middle = (lightness + 16) / 116
    roots = np.array([middle + a / 500, middle, middle - b / 200])
    xyz = D50 * np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29))
    linear = (XYZ_TO_LINEAR @ xyz).clip(0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return _bytes(curved.tolist())


def _bytes(values: tuple[float, ...] | list[float]) -> tuple[int, ...]:
    return tuple(int(255 * min(max(value, 0.0), 1.0) + 0.5) for value in values)
