"""Palettes as lines of text: GIMP .gpl, JASC .pal, .hex, Paint.NET .txt."""

import os
import re
from collections.abc import Iterator

from colorquant_nn.palette_files.colors import (
    MAX_COLORS,
    OPAQUE,
    Colors,
    drop_opaque,
    shorten,
    stack,
    without_alpha,
)

__all__ = [
    "GIMP",
    "JASC",
    "PAINT_NET",
    "begins_with",
    "decode",
    "device_side",
    "first_line",
    "is_hex",
    "read_gimp",
    "read_hex",
    "read_jasc",
    "write_gimp",
    "write_gimp_panel",
    "write_hex",
    "write_hex_panel",
    "write_jasc",
    "write_paint_net",
]

GIMP, JASC, PAINT_NET = "gimp palette", "jasc-pal", ";.*paint.?net"  # first lines
BETWEEN = r"(?:\s*,\s*|\s+)"
NUMBER = r"0*([0-9]{1,3})"
END = r"(?![^\s,])"  # of a word
FOURTH = BETWEEN.join([NUMBER] * 3) + BETWEEN + r"[-+]?[0-9.]+" + END
CODE = re.compile(r"(#|0x|)([0-9a-f]{6}|[0-9a-f]{8}|(?<=#)[0-9a-f]{3,4})", re.IGNORECASE)
# A colour of a panel, as measured and as the device wants it; in a .gpl it is the name.
PAIR = re.compile(r"(?<![^\s,;])([#0-9a-fx]+)=([#0-9a-fx]+)(?![^\s,;])", re.IGNORECASE)
NAMED_PAIR = re.compile(r"^[ \t]*[0-9][^#\r\n]*#[0-9a-f]{6}=#([0-9a-f]{6})[ \t]*$", re.I | re.M)


def decode(data: bytes) -> str:
    """Decode a text in any encoding that programs write; colours are ASCII, names do not matter.

    Args:
        data: the content of the file.

    Returns:
        its text, without the ctrl-Z of DOS.
    """
    head = data[:8]
    encoding = "utf-8-sig"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif len(head) == 8 and all(head[::2]) and not any(head[1::2]):
        encoding = "utf-16-le"
    elif len(head) == 8 and all(head[1::2]) and not any(head[::2]):
        encoding = "utf-16-be"
    return data.decode(encoding, errors="replace").rstrip("\x1a\0")


def first_line(data: bytes) -> str:
    """Read the first line that is not blank.

    Args:
        data: the content of the file.

    Returns:
        the line in small letters, without the space around it.
    """
    return decode(data[:1024]).strip().partition("\n")[0].partition("\r")[0].strip().lower()


def begins_with(data: bytes, pattern: str) -> bool:
    """Tell whether the first line begins as those of a format do.

    Args:
        data: the content of the file.
        pattern: `GIMP`, `JASC` or `PAINT_NET`.

    Returns:
        whether it does.
    """
    return re.match(pattern, first_line(data)) is not None


def is_hex(data: bytes) -> bool:
    """Tell whether it is a text of hexadecimal colours and nothing else.

    Args:
        data: the content of the file.

    Returns:
        whether it is.
    """
    found = False
    for _, word in _words(data):
        if not all(map(CODE.fullmatch, word.split("=", 1))):
            return False
        found = True
    return found


def device_side(data: bytes) -> bytes:
    """Make the palette of a device from that of a panel, which has pairs ``measured=device``.

    Args:
        data: the content of a .gpl, where pairs are the names of colours, or of a list of
            hexadecimal colours.

    Returns:
        the same with the device's colours in the place of the measured; what came if it has no
        pairs, or is of another format.
    """
    if begins_with(data, GIMP):

        def numbers(found: re.Match[str]) -> str:
            return " ".join(map(str, bytes.fromhex(found[1])))

        return NAMED_PAIR.sub(numbers, decode(data)).encode()
    if is_hex(data) or begins_with(data, PAINT_NET):
        return PAIR.sub(r"\2", decode(data)).encode()
    return data


def read_gimp(data: bytes, name: str) -> Colors:
    """Read a GIMP palette; "Channels: RGBA" is Aseprite's extension.

    Args:
        data: the content of the file.
        name: of the file, for messages.

    Returns:
        (K, 3) or (K, 4) uint8.

    Raises:
        ValueError: it is none, or a line cannot be understood.

    References:
        https://developer.gimp.org/core/standards/gpl
    """
    lines = _lines(data)
    number, text = next(lines, (1, ""))
    if text.lower() != "gimp palette":
        raise ValueError(f"{name}, line {number}: expected 'GIMP Palette', got {shorten(text)}")

    def rows() -> Iterator[tuple[int, ...]]:
        channels, begun = 3, False
        for number, text in lines:
            if text.startswith("#"):
                continue
            # Before the first colour, programs put keywords of their own, and descriptions.
            if not begun and _is_prose(text):
                if found := re.fullmatch(r"channels\s*:\s*(.*)", text, re.IGNORECASE):
                    channels = {"rgb": 3, "rgba": 4}.get(found[1].lower(), 0)
                    if not channels:
                        raise ValueError(
                            f"{name}, line {number}: expected RGB or RGBA, got {shorten(text)}"
                        )
                continue
            begun = True
            yield _integers(text, channels, f"{name}, line {number}")

    return stack(rows(), name)


def write_gimp(colors: Colors, name: str) -> bytes:
    """Write a GIMP palette, with alpha as Aseprite writes it.

    Args:
        colors: (K, 3) or (K, 4) uint8.
        name: of the palette.

    Returns:
        the content of the file.
    """
    lines = ["GIMP Palette"]
    if colors.shape[1] == 4:
        lines.append("Channels: RGBA")
    else:
        lines += [f"Name: {' '.join(name.split())}", f"Columns: {min(16, len(colors))}"]
    lines.append("#")
    for row in colors:
        numbers = " ".join(f"{value:3d}" for value in row)
        lines.append(f"{numbers}\t#{bytes(row).hex()}")
    # A name of a file may hold what is no text.
    return ("\n".join(lines) + "\n").encode(errors="replace")


def read_jasc(data: bytes, name: str) -> Colors:
    """Read a JASC palette; a fourth number in every line is alpha, as Paint Shop Pro writes it.

    Args:
        data: the content of the file.
        name: of the file, for messages.

    Returns:
        (K, 3) uint8; (K, 4) if a colour is not opaque.

    Raises:
        ValueError: it is none, or its lines contradict each other.
    """
    lines = list(_lines(data))
    lines += [(number, "") for number in range(len(lines) + 1, 4)]
    for place, expected in zip(lines, ("JASC-PAL", "0100"), strict=False):
        number, text = place
        if text.upper() != expected:
            raise ValueError(f"{name}, line {number}: expected {expected!r}, got {shorten(text)}")
    number, text = lines[2]
    if re.fullmatch("[0-9]{1,6}", text) is None:
        raise ValueError(
            f"{name}, line {number}: expected the number of colours, got {shorten(text)}"
        )
    count = int(text)
    # What follows the last colour may be a comment, but no colour.
    more = sum(text[0] in "0123456789" for _, text in lines[3 + count :])
    if len(lines) - 3 < count or more:
        raise ValueError(
            f"{name}, line {number}: expected {count} lines of colours to follow, "
            f"got {min(len(lines) - 3, count) + more}"
        )
    rows = [
        _integers(text, 4 if re.match(FOURTH, text) else 3, f"{name}, line {number}")
        for number, text in lines[3 : 3 + count]
    ]
    with_alpha = sum(len(row) == 4 for row in rows)
    if with_alpha not in (0, count):
        raise ValueError(
            f"{name}: expected a fourth number, alpha, in all lines of colours or in none, "
            f"got it in {with_alpha} of {count}"
        )
    if with_alpha and not any(row[3] for row in rows):
        raise ValueError(
            f"{name}: expected a fourth number that is alpha, got 0 in each line: no colour "
            "would be seen; remove it"
        )
    return drop_opaque(stack(rows, name))


def write_jasc(colors: Colors, name: str) -> bytes:
    """Write a JASC palette.

    Args:
        colors: (K, 3) or (K, 4) uint8.
        name: of the file, for messages.

    Returns:
        the content of the file.

    Raises:
        ValueError: one is not opaque.
    """
    lines = ["JASC-PAL", "0100", str(len(colors))]
    lines += [" ".join(map(str, row)) for row in without_alpha(colors, name, "JASC .pal")]
    return ("\r\n".join(lines) + "\r\n").encode()


def read_hex(data: bytes, name: str) -> Colors:
    """Read hexadecimal colours with space, commas or lines between them, and Paint.NET's palettes.

    Eight digits are RRGGBBAA after a ``#`` and in a .hex, AARRGGBB in a palette of Paint.NET. Of a
    pair ``measured=device`` the first counts, see `device_side`.

    Args:
        data: the content of the file.
        name: of the file, for messages.

    Returns:
        (K, 3) or (K, 4) uint8.

    Raises:
        ValueError: something is no such colour, or eight digits may mean either.

    References:
        https://www.getpaint.net/doc/latest/WorkingWithPalettes.html
    """
    rows: list[tuple[int, ...]] = []
    unclear = []  # places of eight digits that no # explains
    marks = set()
    alpha_first = begins_with(data, PAINT_NET)
    for number, word in _words(data):
        sides = [CODE.fullmatch(code) for code in word.split("=", 1)]
        found = sides[0]
        if found is None or None in sides:
            raise ValueError(
                f"{name}, line {number}: expected a colour such as #ff8000, got {shorten(word)}"
            )
        mark, digits = found.groups()
        if len(digits) < 6:
            digits = "".join(2 * digit for digit in digits)
        if len(digits) == 8 and (mark != "#" or alpha_first):
            unclear.append(len(rows))
            marks.add(mark)
        rows.append(tuple(bytes.fromhex(digits)))
        if len(rows) > MAX_COLORS:
            break
    if unclear and not alpha_first:
        alpha_first = _alpha_is_first([rows[place] for place in unclear], marks, name)
    if alpha_first:
        for place in unclear:
            rows[place] = (*rows[place][1:], rows[place][0])
        return drop_opaque(stack(rows, name))
    return stack(rows, name)


def write_hex(colors: Colors, name: str) -> bytes:
    """Write a code a line; those with alpha have a # before them, which makes them RRGGBBAA.

    Args:
        colors: (K, 3) or (K, 4) uint8.
        name: of the file; not used.

    Returns:
        the content of the file.
    """
    mark = "#" if colors.shape[1] == 4 else ""
    return "".join(f"{mark}{bytes(row).hex()}\n" for row in colors).encode()


def write_gimp_panel(measured: Colors, device: Colors, name: str) -> bytes:
    """Write a GIMP palette of a panel: the measured colours, named ``#measured=#device``.

    Args:
        measured: (K, 3) uint8.
        device: (K, 3) uint8.
        name: of the palette.

    Returns:
        the content of the file.
    """
    lines = write_gimp(measured, name).splitlines()
    places = range(len(lines) - len(device), len(lines))
    for place, row in zip(places, device, strict=True):
        lines[place] += b"=#" + bytes(row).hex().encode()
    return b"\n".join(lines) + b"\n"


def write_hex_panel(measured: Colors, device: Colors, name: str) -> bytes:
    """Write a pair ``#measured=#device`` a line.

    Args:
        measured: (K, 3) uint8.
        device: (K, 3) uint8.
        name: of the file; not used.

    Returns:
        the content of the file.
    """
    pairs = zip(measured, device, strict=True)
    return "".join(f"#{bytes(one).hex()}=#{bytes(other).hex()}\n" for one, other in pairs).encode()


def write_paint_net(colors: Colors, name: str) -> bytes:
    """Write a palette of Paint.NET, which shows the first 96 colours.

    Args:
        colors: (K, 3) or (K, 4) uint8.
        name: of the palette.

    Returns:
        the content of the file.
    """
    lines = ["; paint.net Palette File", f"; Palette Name: {' '.join(name.split())}"]
    lines.append(f"; Colors: {len(colors)}")
    for row in colors.tolist():
        red, green, blue, alpha = (*row, OPAQUE)[:4]
        lines.append(bytes([alpha, red, green, blue]).hex().upper())
    return ("\r\n".join(lines) + "\r\n").encode(errors="replace")


def _alpha_is_first(rows: list[tuple[int, ...]], marks: set[str], name: str) -> bool:
    """Whether eight digits mean AARRGGBB where nothing but their values and the suffix tells."""
    suffix = os.path.splitext(name)[1].lower()
    # Most colours are opaque: where FF is, there is alpha.
    first = sum(row[0] == OPAQUE for row in rows)
    last = sum(row[3] == OPAQUE for row in rows)
    if all(row == (OPAQUE,) * 4 for row in rows):
        return False
    if suffix == ".txt" and last < first == len(rows):  # as Paint.NET has it, with or without ;
        return True
    if suffix == ".hex" and last >= first < len(rows) and marks == {""}:
        return False
    raise ValueError(
        f"{name}: expected to know whether {bytes(rows[0]).hex()} means RRGGBBAA or AARRGGBB; for "
        "RRGGBBAA begin each colour with #, for AARRGGBB the file with '; paint.net Palette File'"
    )


def _lines(data: bytes) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers. Only real line ends count."""
    for number, line in enumerate(re.split("\r\n|\r|\n", decode(data)), 1):
        if text := line.strip():
            yield number, text


def _words(data: bytes) -> Iterator[tuple[int, str]]:
    """What is no comment (; at the start of a line, // and a lone # anywhere), with its line."""
    for number, text in _lines(data):
        if not text.startswith(";"):
            text = re.split(r"//|#+(?:\s|$)", text, maxsplit=1)[0]
            yield from ((number, word) for word in re.split(r"[\s,;]+", text) if word)


def _is_prose(text: str) -> bool:
    """Whether a line before the first colour holds none, not even behind a name."""
    if re.match("[-+.,]?[0-9]", text):
        return False
    return ":" in text or re.search(r"[0-9][\s,]+[0-9]", text) is None


def _integers(text: str, count: int, place: str) -> tuple[int, ...]:
    """The numbers that a line begins with; a name may follow."""
    found = re.match(BETWEEN.join([NUMBER] * count) + END, text)
    numbers = tuple(int(number) for number in found.groups()) if found else (256,)
    if max(numbers) > 255:
        raise ValueError(f"{place}: expected {count} numbers from 0 to 255, got {shorten(text)}")
    return numbers
