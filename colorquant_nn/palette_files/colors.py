"""Colours as people write them: codes, names and functions of CSS."""

import colorsys
import re
from collections.abc import Iterable
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

__all__ = [
    "MAX_COLORS",
    "OPAQUE",
    "Colors",
    "drop_opaque",
    "parse_color",
    "parse_colors",
    "parse_panel",
    "shorten",
    "stack",
    "without_alpha",
]

Colors = NDArray[np.uint8]

OPAQUE = 255
MAX_COLORS = 65536  # of a file


def parse_color(text: str) -> tuple[int, ...]:
    """Read a colour as CSS writes it.

    Args:
        text: ``#rgb``, ``#rgba``, ``#rrggbb`` or ``#rrggbbaa`` (the ``#`` of six and eight digits
            may be missing); ``rgb(255, 128, 0)``, ``rgb(255 128 0 / 50%)``, ``hsl(30, 100%, 50%)``;
            a name such as ``orange``, or ``transparent``.

    Returns:
        three or four integers from 0 to 255.

    Raises:
        ValueError: it is none of these.
        TypeError: it is no text.

    References:
        https://www.w3.org/TR/css-color-4/

    Examples:
        >>> from colorquant_nn.palette_files import parse_color
        >>> parse_color("#ff8000"), parse_color("rgb(255 128 0 / 50%)"), parse_color("white")
        ((255, 128, 0), (255, 128, 0, 128), (255, 255, 255))
    """
    if not isinstance(text, str):
        raise TypeError(f"expected a colour as text, got {type(text).__name__}")
    word = text.strip().lower() if text.isascii() else ""
    if re.fullmatch("#?([0-9a-f]{6}|[0-9a-f]{8})", word):
        return tuple(bytes.fromhex(word.removeprefix("#")))
    if re.fullmatch("#[0-9a-f]{3,4}", word):
        return tuple(17 * int(digit, 16) for digit in word[1:])
    color = _function(word) if word.endswith(")") else _name(word)
    if color is None:
        remedy = f"; short codes need a #: #{word}" if re.fullmatch("[0-9a-f]{3,4}", word) else ""
        raise ValueError(
            "expected a colour such as #ff8000, orange or rgb(255, 128, 0), "
            f"got {shorten(text)}{remedy}"
        )
    return color


def parse_colors(text: str) -> list[tuple[int, ...]]:
    """Read colours with commas between them.

    Args:
        text: what `parse_color` reads, several times.

    Returns:
        three or four integers from 0 to 255 each.

    Raises:
        ValueError: one of them is no colour.

    Examples:
        >>> from colorquant_nn.palette_files import parse_colors
        >>> parse_colors("#000,white")
        [(0, 0, 0), (255, 255, 255)]
    """
    return [parse_color(part) for part in _parts(text)]


def parse_panel(text: str) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Read colours with commas between them, each as measured and, after ``=``, as written.

    Args:
        text: what `parse_colors` reads, each colour alone or twice: ``#b21318=#ff0000``.

    Returns:
        the measured colours and the device's; a colour alone is both.

    Raises:
        ValueError: one of them is no colour.

    Examples:
        >>> from colorquant_nn.palette_files import parse_panel
        >>> parse_panel("black, #b21318=#ff0000")
        ([(0, 0, 0), (178, 19, 24)], [(0, 0, 0), (255, 0, 0)])
    """
    pairs = [part.split("=", 1) for part in _parts(text)]
    return [parse_color(pair[0]) for pair in pairs], [parse_color(pair[-1]) for pair in pairs]


def _parts(text: str) -> list[str]:
    """What is between the commas."""
    # The commas of a function separate its numbers; CSS takes spaces there, too.
    parts = re.sub(r"\([^()]*\)", lambda found: found[0].replace(",", " "), text).split(",")
    if len(parts) == 3 and all(re.fullmatch(r"\s*[0-9]{1,3}\s*", part) for part in parts):
        raise ValueError(
            f"expected colours such as #ff8000, got the numbers {shorten(text)}; "
            f"one colour of three numbers is rgb({text})"
        )
    return parts


def stack(rows: Iterable[tuple[int, ...]], name: str) -> Colors:
    """Make an array of colours; where some have alpha, the others are opaque.

    Args:
        rows: three or four integers from 0 to 255 each.
        name: of the file, for messages.

    Returns:
        (K, 3) or (K, 4) uint8.

    Raises:
        ValueError: there is none, or there are more than a palette has.
    """
    found = list(islice(rows, MAX_COLORS + 1))
    if not found:
        raise ValueError(f"{name}: expected at least one colour, got none")
    if len(found) > MAX_COLORS:
        raise ValueError(f"{name}: expected a palette of at most {MAX_COLORS} colours, got more")
    if len({len(row) for row in found}) > 1:
        found = [(*row, OPAQUE)[:4] for row in found]
    return np.array(found, np.uint8)


def drop_opaque(colors: Colors) -> Colors:
    """Leave out an alpha that says nothing.

    Args:
        colors: (K, 3) or (K, 4) uint8.

    Returns:
        (K, 3) uint8 if all are opaque; otherwise what was given.
    """
    opaque = colors.shape[1] == 4 and bool((colors[:, 3] == OPAQUE).all())
    return colors[:, :3] if opaque else colors


def without_alpha(colors: Colors, name: str, kind: str) -> Colors:
    """Refuse alpha for a format that has none.

    Args:
        colors: (K, 3) or (K, 4) uint8.
        name: of the file, for messages.
        kind: of file, for messages.

    Returns:
        (K, 3) uint8.

    Raises:
        ValueError: one is not opaque.
    """
    colors = drop_opaque(colors)
    if colors.shape[1] == 4:
        raise ValueError(f"{name}: {kind} holds no alpha; use .gpl, .hex or .png")
    return colors


def shorten(text: str) -> str:
    """Quote what a file or a person wrote, in a message.

    Args:
        text: of any length.

    Returns:
        its beginning, with quotes.
    """
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _name(word: str) -> tuple[int, ...] | None:
    if not word.isalpha():
        return None
    if word == "transparent":
        return (0, 0, 0, 0)
    return ImageColor.getrgb(word) if word in ImageColor.colormap else None  # those of CSS


def _function(word: str) -> tuple[int, ...] | None:
    found = re.fullmatch(r"(rgb|hsl)a?\(([^()/]*)(?:/([^()/]*))?\)", word)
    if found is None:
        return None
    kind, body, after = found.groups()
    words = body.replace(",", " ").split() + ([] if after is None else [after.strip()])
    if len(words) not in (3, 4) or (after is not None and len(words) != 4):
        return None
    if kind == "rgb":
        numbers = [_number(one, 255, 255) for one in words[:3]]
    else:
        hue = None if "%" in words[0] else _number(words[0].removesuffix("deg"), 360, None)
        numbers = [hue, *(_number(one.removesuffix("%") + "%", 1, 1) for one in words[1:3])]
    if len(words) == 4:
        numbers.append(_number(words[3], 1, 1))
    values = [number for number in numbers if number is not None]
    if len(values) < len(numbers):
        return None
    if kind == "hsl":
        red_green_blue = colorsys.hls_to_rgb(values[0] / 360 % 1, values[2], values[1])
        values[:3] = [255 * value for value in red_green_blue]
    values[3:] = [255 * value for value in values[3:]]
    return tuple(int(value + 0.5) for value in values)


def _number(word: str, whole: float, top: float | None) -> float | None:
    """A number from 0 to ``top``, of which ``whole`` is 100 %; None for another."""
    found = re.fullmatch(r"([+-]?(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}))(%?)", word)
    if found is None:
        return None
    value = float(found[1]) * whole / 100 if found[2] else float(found[1])
    return value if top is None or 0 <= value <= top else None
