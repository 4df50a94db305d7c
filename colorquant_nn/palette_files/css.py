"""Palettes as style sheets, and as lists in the syntax of CSS or JSON: every colour in them."""

import re
from collections.abc import Iterator

from colorquant_nn.palette_files.colors import Colors, drop_opaque, parse_color, shorten, stack
from colorquant_nn.palette_files.text import decode

__all__ = ["read_css", "write_css"]

# Functions of colours that `parse_color` does not know are found as well, to be refused: CSS's
# others, and those of Sass and Less, whose result is another colour than the one they name.
FUNCTIONS = (
    "rgba?|hsla?|hwb|lab|lch|oklab|oklch|color|color-mix|device-cmyk|lighten|darken"
    "|desaturate|mix|tint|shade|fade|fadein|fadeout|spin|complement|transparentize|opacify"
    r"|(?:saturate|invert)(?=\([^()]*[#$@])"  # otherwise a filter of CSS
    "|adjust-hue|(?:adjust|scale|change)-color|color\\.[a-z]+"
)
TOKEN = re.compile(
    rf"""
    (?P<comment> /\*.*?(?:\*/|\Z) | (?<!:)//[^\n\r]* )
  | (?P<url> url\([^)]*\)? )
  | (?P<string> "[^"\n\r]*" | '[^'\n\r]*' )
  | (?P<color> \#[\w-]+ | (?<![\w-])(?:{FUNCTIONS})\([^()]*\)? )
  | (?P<word> [\w.%$@+-]+ )
  | (?P<mark> \S )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def read_css(data: bytes, name: str) -> Colors:
    """Read every colour in the values of a style sheet, of JSON, or in a mere list.

    Selectors, names of properties and what is no colour in a value are passed over; in a list
    without properties everything has to be a colour.

    Args:
        data: the content of the file.
        name: of the file, for messages.

    Returns:
        (K, 3) uint8; (K, 4) if a colour is not opaque.

    Raises:
        ValueError: something looks like a colour and is none, or there is none.
    """
    return drop_opaque(stack(_colors(decode(data), name), name))


def write_css(colors: Colors, name: str) -> bytes:
    """Write custom properties, one for each colour.

    Args:
        colors: (K, 3) or (K, 4) uint8.
        name: of the file; not used.

    Returns:
        the content of the file.
    """
    lines = [f"  --color-{number}: #{bytes(row).hex()};\n" for number, row in enumerate(colors, 1)]
    return f":root {{\n{''.join(lines)}}}\n".encode()


def _colors(text: str, name: str) -> Iterator[tuple[int, ...]]:
    """The colours, a statement (what ends with ; or a brace) at a time."""
    statement: list[re.Match[str]] = []
    has_property = False
    before = ""
    for token in TOKEN.finditer(text):
        if token.lastgroup == "comment":
            continue
        if token.lastgroup != "mark":
            statement.append(token)
        elif token[0] in ":=":  # the latter in TOML and the like
            has_property = True
            if before == "word" and statement:
                key = statement.pop()  # the name of a property
                if token[0] == "=" and key.lastgroup == "color":
                    raise ValueError(
                        f"{name}, line {_line(text, key)}: expected colours of a panel as codes, "
                        f"such as #b21318=#ff0000, and nothing else in the file, got {key[0]}="
                    )
        elif token[0] == "{" and before in ("word", ")", "]", "*", ">"):
            statement, has_property = [], False  # it was a selector
        elif token[0] in ";}":
            yield from _values(statement, has_property, text, name)
            statement, has_property = [], False
        before = token[0] if token.lastgroup == "mark" else "word"
    yield from _values(statement, has_property, text, name)


def _values(
    statement: list[re.Match[str]], has_property: bool, text: str, name: str
) -> Iterator[tuple[int, ...]]:
    """The colours of one statement; with a property, words may be something else."""
    if statement and statement[0][0].startswith("@"):
        has_property = True  # a rule, such as @import
    if not has_property:
        _refuse_labels(statement, text, name)
    for token in statement:
        word, quoted = token[0], token.lastgroup == "string"
        word = word[1:-1].strip() if quoted else word
        code = re.fullmatch("[0-9a-fA-F]{6}|[0-9a-fA-F]{8}", word)
        must_be = token.lastgroup == "color" or not has_property
        # In a value, orange and "ff8000" are colours, z-index: 100000 and "name": "red" are none.
        may_be = code or word.startswith("#") if quoted else word.isalpha() and not code
        if must_be or may_be:
            try:
                if code and len(word) == 8:
                    raise ValueError(f"expected eight digits to have a # before them, got {word}")
                yield parse_color(word)
            except ValueError as error:
                if must_be:
                    line = _line(text, token)
                    raise ValueError(f"{name}, line {line}: {error}") from None


def _refuse_labels(statement: list[re.Match[str]], text: str, name: str) -> None:
    """Of "Green #00ff00" nobody can tell whether it is one colour and its name, or two colours."""
    lines: list[list[re.Match[str]]] = []
    end = None
    for token in statement:
        if end is None or re.search("[\r\n]", text[end : token.start()]):
            lines.append([])
        lines[-1].append(token)
        end = token.end()
    labelled = 0
    for tokens in lines:
        if len(tokens) == 2 and sum(_is_name(token) for token in tokens) == 1:
            labelled += 1
            first, last = tokens
            if labelled > 1 or not text[first.end() : last.start()].strip():
                both = shorten(text[first.start() : last.end()])
                raise ValueError(
                    f"{name}, line {_line(text, first)}: expected a name or a code, got {both}, "
                    "which may be one colour or two; write name: code for one, a colour a line "
                    "for two"
                )


def _is_name(token: re.Match[str]) -> bool:
    word = token[0].strip("'\"")
    return word.isalpha() and re.fullmatch("[0-9a-fA-F]{6}|[0-9a-fA-F]{8}", word) is None


def _line(text: str, token: re.Match[str]) -> int:
    return len(re.findall("\r\n|\r|\n", text[: token.start()])) + 1
