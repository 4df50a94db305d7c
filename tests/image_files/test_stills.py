"""Pictures of formats without frames: alpha that is meant, and alpha that is not."""

import struct

import numpy as np
import pytest
from PIL import Image

from colorquant_nn.image_files import ImageFile
from tests.image_files.files import saved

MASKS = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)


def bmp(pixels):
    """A BITMAPV5HEADER with a mask for alpha; pixels (H, W, 4)."""
    height, width, _ = pixels.shape
    info = struct.pack("<IiiHHIIiiII", 124, width, height, 1, 32, 3, 0, 0, 0, 0, 0)
    info = (info + MASKS + b"BGRs").ljust(124, b"\0")
    body = pixels[::-1, :, [2, 1, 0, 3]].tobytes()
    return struct.pack("<2sIII", b"BM", 138 + len(body), 0, 138) + info + body


def tga(pixels):
    return saved(Image.fromarray(pixels), "TGA")


@pytest.mark.parametrize("encode", [bmp, tga])
def test_alpha_that_is_zero_everywhere_was_never_filled_in(encode):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (read,) = ImageFile(encode(pixels), "a")
    assert np.array_equal(read, pixels)
    pixels[..., 3] = 0
    (read,) = ImageFile(encode(pixels), "a")
    assert np.array_equal(read, pixels[..., :3])
