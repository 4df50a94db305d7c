"""Pillow's decoders: those that are used, and within which bounds.

Pillow knows some forty formats, and a few of them start other programs or describe pages rather
than pictures. A file is only ever given to the decoders of the list below, whatever its name is.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module

from PIL import Image, ImageFile

__all__ = ["PICTURES", "Refused", "decoding", "is_format", "open_image"]

# What is read, by Pillow's name; the suffixes are what a folder is searched for. TGA has no
# signature and comes last.
PICTURES: dict[str, tuple[str, ...]] = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jfif", ".mpo"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "DIB": (),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "ICO": (".ico",),
    "QOI": (".qoi",),
    "PCX": (".pcx",),
    "TGA": (".tga",),
}


for plugin in (
    "Avif",
    "Bmp",
    "Gif",
    "Ico",
    "Jpeg",
    "Jpeg2K",
    "Pcx",
    "Png",
    "Ppm",
    "Qoi",
    "Tga",
    "Tiff",
    "WebP",
):
    with suppress(ImportError):  # AVIF is younger than the oldest Pillow that will do
        import_module(f"PIL.{plugin}ImagePlugin")


def is_format(data: bytes, format: str) -> bool:
    """Tell whether a file begins as those of a format do.

    Args:
        data: the content of the file.
        format: a key of `PICTURES`.

    Returns:
        whether it does.
    """
    _, accept = Image.OPEN.get(format, (None, lambda _: False))
    return accept is None or accept(data[:16]) is True


def open_image(data: bytes) -> ImageFile.ImageFile:
    """Read the header of a picture.

    It is `Image.open` without its bound, which belongs to the whole process.
    """
    for format in PICTURES:
        if is_format(data, format):
            try:
                return Image.OPEN[format][0](io.BytesIO(data), "")
            except (SyntaxError, IndexError, TypeError, KeyError, EOFError, struct.error):
                continue  # as Pillow does: perhaps another format
    raise Refused(
        "not an image that can be read ("
        + ", ".join(name for name in PICTURES if name != "DIB")
        + "), or one that is broken"
    )


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turns whatever is raised on a bad file into a `ValueError` that names it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", module="PIL")  # odd metadata
        try:
            yield
        except Refused as error:
            raise ValueError(f"{name}: {error}") from None
        except MemoryError:
            raise ValueError(f"{name}: not enough memory for this image") from None
        except Image.DecompressionBombError as error:
            raise ValueError(
                f"{name}: too large to be trusted ({error}); in this format, "
                "PIL.Image.MAX_IMAGE_PIXELS bounds it, too"
            ) from None
        except Exception as error:  # decoders raise nearly every kind on broken data
            raise ValueError(f"{name}: broken, truncated or unsupported image ({error})") from error


class Refused(ValueError):
    """Already says what is wrong with the file, but for its name."""
