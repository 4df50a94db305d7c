"""Files that are broken, cut, mixed up: an image or a `ValueError`, and memory stays flat."""

import random
import resource

import numpy as np
import pytest

from colorquant_nn.image_files import ImageFile, own_palette
from tests.image_files.files import pictures


def broken(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    kind = chance.randrange(6)
    if kind == 0:
        return data[:place]
    if kind == 1:
        other = chance.choice(others)
        return data[:place] + other[chance.randrange(len(other)) :]
    if kind == 2:
        length = chance.randrange(1, 40)
        return data[:place] + data[place + length :]
    if kind == 3:
        return data + chance.randbytes(chance.randrange(1, 200))
    # Headers are where it matters: half of the changes fall there.
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(min(len(data), 200) if chance.random() < 0.5 else len(data))
        changed[at] = chance.choice((0, 1, 255, 127, chance.randrange(256)))
    return bytes(changed)


def attempt(data: bytes) -> bool:
    """Whether it was read; anything but a `ValueError` fails the test."""
    try:
        own_palette(data, "a file")
    except ValueError as error:
        assert str(error).startswith("a file: ")  # noqa: PT017
    try:
        # A bound for a test in minutes: pictures have 744 pixels.
        image = ImageFile(data, "a file", max_pixels=1 << 20)
        assert len(image) == len(image.durations)
        for pixels in image:
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] in (3, 4)
    except ValueError as error:
        assert str(error).startswith("a file: ")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
        return False
    return True


@pytest.mark.filterwarnings("ignore:.*ICC profile ignored")
@pytest.mark.parametrize("rounds", [1, pytest.param(400, marks=pytest.mark.slow)])
def test_broken_files_are_images_or_value_errors(rounds):
    files = pictures()
    for name, data in files.items():
        assert attempt(data), name
    chance = random.Random(rounds)
    others = list(files.values())
    read, before = 0, 0
    for turn in range(rounds):
        for name, data in files.items():
            changed = broken(data, others, chance)
            try:
                read += attempt(changed)
            except Exception as error:
                raise AssertionError(f"{name}, round {turn}: {changed.hex()}") from error
        if turn == rounds // 4:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert 0 < read < rounds * len(files)
    assert after < before + 50_000  # kB
