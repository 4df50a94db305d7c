"""Image files that are written: index i is colour i, times, limits, one frame at a time."""

import io
import struct
import tracemalloc
import weakref
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from colorquant_nn.image_files import (
    Display,
    FormatError,
    ImageFile,
    encode,
    fit_display,
    own_palette,
)
from colorquant_nn.image_files.display import as_fraction, in_hundredths, in_milliseconds

ANIMATED = [".png", ".gif", ".webp"]
ALL = [*ANIMATED, ".tif", ".bmp"]
INDEXED = [".png", ".gif", ".tif", ".bmp"]


def palette(count: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Colours in no order, the last of them unlike the one before."""
    colors = np.random.default_rng(seed).integers(0, 256, (count, channels), dtype=np.uint8)
    colors[-1] = 255 - colors[-2:-1] if count > 1 else colors[-1]
    return colors


def indices(count: int, height: int = 5, width: int = 13, seed: int = 0) -> np.ndarray:
    numbers = np.random.default_rng(seed).integers(0, count, (height, width))
    return numbers.astype(np.uint8)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def frames_of(data: bytes) -> list[np.ndarray]:
    """All frames as Pillow composes them, RGBA."""
    image = opened(data)
    frames = []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        frames.append(np.asarray(image.convert("RGBA")))
    return frames


def rgba(colors: np.ndarray) -> np.ndarray:
    opaque = np.full((len(colors), 1), 255, np.uint8)
    return colors if colors.shape[1] == 4 else np.hstack([colors, opaque])


# Indices


@pytest.mark.parametrize("suffix", INDEXED)
@pytest.mark.parametrize("unused", [0, 3])
def test_index_i_is_color_i_for_every_number_of_colors(suffix, unused):
    for count in range(1 + unused, 257):
        colors, picture = palette(count, seed=count), indices(count - unused, seed=count)
        data = encode([picture], suffix, colors=colors)
        stored = opened(data)
        assert np.array_equal(stored, picture), count
        assert np.array_equal(own_palette(data, "a"), colors), count
        assert np.array_equal(np.asarray(stored.convert("RGB")), colors[picture]), count


@pytest.mark.parametrize("suffix", INDEXED)
@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("used", [True, False])
def test_a_clear_color_keeps_its_index(suffix, place, used):
    for count in [2, 3, 4, 5, 16, 17, 255, 256]:
        colors = rgba(palette(count, seed=count))
        clear = 0 if place == "first" else count - 1
        colors[clear] = 0
        picture = indices(count, seed=count)
        if used:
            picture[0, 0] = clear
        else:
            picture[picture == clear] = count - 1 - clear
        if suffix == ".bmp" and used:
            with pytest.raises(ValueError, match=r"a BMP has no transparency; use \.png"):
                encode([picture], suffix, colors=colors)
            continue
        data = encode([picture], suffix, colors=colors)
        assert np.array_equal(frames_of(data)[0], colors[picture]), count
        if suffix == ".tif" and used:
            assert opened(data).mode == "RGBA"
            continue
        assert np.array_equal(opened(data), picture), count
        found = own_palette(data, "a")
        if suffix in (".png", ".gif"):
            assert np.array_equal(found, colors), count
        else:
            assert np.array_equal(found, colors[:, :3]), count


@pytest.mark.parametrize("suffix", INDEXED)
@pytest.mark.parametrize(
    ("count", "step"),
    [(1, 1), (2, 1), (2, 255), (3, 1), (4, 1), (5, 1), (16, 1), (16, 17), (100, 1), (256, 1)],
)
def test_tables_of_greys_in_order_stay_tables(suffix, count, step):
    colors = np.repeat(np.arange(count)[:, None] * step, 3, 1).astype(np.uint8)
    picture = indices(count)
    data = encode([picture], suffix, colors=colors)
    assert np.array_equal(frames_of(data)[0][..., :3], colors[picture])
    assert np.array_equal(own_palette(data, "a"), colors)


def test_several_clear_colors_of_a_gif_become_the_first():
    colors = np.array([[9, 9, 9, 255], [8, 8, 8, 0], [7, 7, 7, 127], [6, 6, 6, 128]], np.uint8)
    picture = np.array([[0, 1, 2, 3]], np.uint8)
    stored = opened(encode([picture], ".gif", colors=colors))
    assert np.asarray(stored).tolist() == [[0, 1, 1, 3]]
    assert stored.info["transparency"] == 1
    assert np.array_equal(np.array(stored.getpalette()).reshape(-1, 3), colors[:, :3])


def test_alpha_of_a_png_ends_with_the_last_color_that_is_not_opaque():
    colors = rgba(palette(5))
    colors[1, 3] = 40
    chunks = dict(png_chunks(encode([indices(5)], ".png", colors=colors)))
    assert chunks[b"tRNS"] == b"\xff\x28"
    colors[1, 3] = 255
    assert b"tRNS" not in dict(png_chunks(encode([indices(5)], ".png", colors=colors)))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 33), st.integers(1, 9), st.integers(1, 256), st.sampled_from(INDEXED))
def test_pictures_of_any_size_come_back(width, height, count, suffix):
    colors, picture = palette(count), indices(count, height, width, seed=width)
    data = encode([picture], suffix, colors=colors)
    assert np.array_equal(frames_of(data)[0], rgba(colors)[picture])
    true_color = rgba(colors)[picture][..., : 3 + width % 2 * (suffix != ".bmp")]
    if suffix != ".gif":
        assert np.array_equal(frames_of(encode([true_color], suffix))[0], rgba(colors)[picture])


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_soft_colors_come_back(suffix):
    colors, picture = palette(9, channels=4), indices(9)
    for data in (encode([picture], suffix, colors=colors), encode([colors[picture]], suffix)):
        assert np.array_equal(frames_of(data)[0], colors[picture])


def test_the_rows_of_an_indexed_png_are_not_filtered():
    chunks = dict(png_chunks(encode([indices(4)], ".png", colors=palette(4))))
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8)
    assert not rows.reshape(5, 1 + 4)[:, 0].any()  # 13 indices of 2 bits


# Animations


def moving(channels: int = 3, count: int = 6) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames with a spot that moves, one like the one before, and a last one that is all new."""
    colors = palette(8, channels)
    if channels == 4:
        colors[:, 3] = 255
        colors[0] = 0
    frames = []
    for number in range(count):
        frame = indices(8) if channels == 3 else np.zeros((5, 13), np.uint8)
        place = max(0, number - 1)
        frame[place % 3 : place % 3 + 2, 1 + place : 4 + place] = 1 + number // 2
        frames.append(frame)
    return [*frames, indices(8, seed=9)], colors


@pytest.mark.parametrize("suffix", [*ANIMATED, ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("true_color", [False, True])
def test_frames_come_back(suffix, channels, true_color):
    frames, colors = moving(channels)
    display = Display([40] * len(frames), 0)
    drawn = [colors[frame] for frame in frames]
    if not true_color:
        data = encode(iter(frames), suffix, display, colors=colors)
    elif suffix == ".gif":
        with pytest.raises(ValueError, match="quantize the picture first"):
            encode(drawn, suffix, display)
        return
    else:
        data = encode(iter(drawn), suffix, display)
    if suffix != ".png":  # Pillow shows equal frames of an APNG as they are, too
        assert getattr(opened(data), "n_frames", 1) == len(frames)
    for found, frame in zip(frames_of(data), frames, strict=True):
        assert np.array_equal(found, rgba(colors)[frame])


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 1 << 32), st.sampled_from(ANIMATED))
def test_frames_with_holes_come_back(count, change, seed, suffix):
    numbers = np.random.default_rng(seed)
    colors = rgba(palette(4, seed=seed))
    colors[seed % 4] = 0
    frame = numbers.integers(0, 4, (3, 5)).astype(np.uint8)
    frames = []
    for _ in range(count):
        frame = frame.copy()
        frame.flat[numbers.integers(0, frame.size, change)] = numbers.integers(0, 4)
        frames.append(frame)
    data = encode(frames, suffix, Display([40] * count, 0), colors=colors)
    for found, frame in zip(frames_of(data), frames, strict=True):
        assert np.array_equal(found, colors[frame])


def test_a_clear_color_that_no_frame_has_costs_a_gif_next_to_nothing():
    frames = [indices(15, 40, 40) for _ in range(9)]
    for number, frame in enumerate(frames):
        frame[number, number] = 1 + frame[number, number] % 14
    colors = rgba(palette(16))
    plain = encode(frames, ".gif", Display([40] * 9, 0), colors=colors)
    colors[15] = 0
    assert len(encode(frames, ".gif", Display([40] * 9, 0), colors=colors)) == len(plain)


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content; every checksum is right."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, chunks = 8, []
    while position < len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + size]
        (check,) = struct.unpack_from(">I", data, position + 8 + size)
        assert check == zlib.crc32(kind + content)
        chunks.append((kind, content))
        position += 12 + size
    assert chunks[-1] == (b"IEND", b"")
    return chunks


@pytest.mark.parametrize("channels", [3, 4])
def test_an_apng_read_by_its_specification_shows_the_frames(channels):
    frames, colors = moving(channels)
    data = encode(frames, ".png", Display([40, 1000 / 60] * 3 + [0], 5), colors=colors)
    chunks = png_chunks(data)
    kinds = [kind for kind, _ in chunks if kind not in (b"PLTE", b"tRNS", b"IEND")]
    assert kinds[:4] == [b"IHDR", b"acTL", b"fcTL", b"IDAT"]
    assert kinds[4:] == [b"fcTL", b"fdAT"] * 6
    assert dict(chunks)[b"acTL"] == struct.pack(">II", 7, 5)
    screen, shown, numbers, delays = np.zeros((5, 13), np.uint8), [], [], []
    for kind, content in chunks:
        if kind == b"fcTL":
            number, width, height, left, top, *delay, dispose, blend = struct.unpack(
                ">IIIIIHHBB", content
            )
            assert (dispose, blend) == (0, 0)
            numbers.append(number)
            delays.append(tuple(delay))
        elif kind in (b"IDAT", b"fdAT"):
            if kind == b"fdAT":
                numbers.append(struct.unpack(">I", content[:4])[0])
                content = content[4:]
            rows = np.frombuffer(zlib.decompress(content), np.uint8).reshape(height, -1)
            assert not rows[:, 0].any()
            nibbles = np.stack([rows[:, 1:] >> 4, rows[:, 1:] & 15], -1).reshape(height, -1)
            screen[top : top + height, left : left + width] = nibbles[:, :width]
            shown.append(screen.copy())
            if len(shown) == 2:
                assert (width, height) == (1, 1)  # nothing changed
    assert numbers == list(range(13))
    assert delays == [(1, 25), (1, 60)] * 3 + [(0, 1)]
    assert all(map(np.array_equal, shown, frames))


def test_a_webp_read_by_its_specification_shows_the_frames():
    frames, colors = moving(4)
    data = encode(frames, ".webp", Display([1000 / 60] * 7, 3, (300, 150)), colors=colors)
    kind, size, form = struct.unpack("<4sI4s", data[:12])
    assert (kind, size, form) == (b"RIFF", len(data) - 8, b"WEBP")
    position, chunks = 12, []
    while position < len(data):
        kind, size = struct.unpack_from("<4sI", data, position)
        chunks.append((kind, data[position + 8 : position + 8 + size]))
        position += 8 + size + size % 2
    assert position == len(data)
    assert [kind for kind, _ in chunks] == [b"VP8X", b"ANIM", *[b"ANMF"] * 7, b"EXIF"]
    assert chunks[0][1] == bytes([0x1A, 0, 0, 0, 12, 0, 0, 4, 0, 0])
    assert chunks[1][1] == bytes([0, 0, 0, 0, 3, 0])
    screen, delays = np.zeros((5, 13, 4), np.uint8), []
    for (_, content), frame in zip(chunks[2:-1], frames, strict=True):
        numbers = [int.from_bytes(content[3 * i : 3 * i + 3], "little") for i in range(5)]
        left, top, width, height = 2 * numbers[0], 2 * numbers[1], numbers[2] + 1, numbers[3] + 1
        delays.append(numbers[4])
        assert content[15] == 2
        still = b"RIFF" + struct.pack("<I", len(content) - 12) + b"WEBP" + content[16:]
        part = np.asarray(opened(still).convert("RGBA"))
        assert part.shape == (height, width, 4)
        screen[top : top + height, left : left + width] = part
        assert np.array_equal(screen, colors[frame])
    assert delays == [17, 16, 17, 17, 16, 17, 17]


# Times and plays


def gif_delays(data: bytes) -> list[int]:
    """Of each frame, in hundredths of a second; 0 where nothing is said."""
    image, delays = opened(data), []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        delays.append(image.info.get("duration", 0) // 10)
    return delays


@pytest.mark.parametrize(
    ("durations", "delays"),
    [
        ([100, 50, 70, 0, 10, 20], [10, 5, 7, 0, 1, 2]),  # whole hundredths, as they are
        ([1000 / 60] * 30, [2] * 25),
        ([1000 / 50] * 3, [2] * 3),
        ([1000 / 30] * 6, [3, 4, 3] * 2),
        ([1000 / 24] * 6, [4, 4, 4, 5, 4, 4]),
        ([15] * 2, [2, 2]),  # 10 ms too long rather than a still
        ([19] * 10, [2] * 10),
        ([9] * 20, [2] * 9),
        ([5] * 8, [2, 2]),
        ([3], [1]),
        ([2, 3], [1]),
        ([0, 25, 0, 25], [0, 2, 0, 3]),
        ([1000 / 60, 0], [2, 0]),
        ([655_350, 5], [65_535]),  # as long as a frame can be shown
    ],
)
def test_times_of_a_gif(durations, delays):
    shown = in_hundredths(durations)
    assert list(shown.values()) == delays
    assert (len(durations) - 1 in shown) or durations[-1] == 0


@given(st.lists(st.one_of(st.just(0.0), st.floats(0.5, 300), st.integers(0, 200)), min_size=1))
def test_times_of_a_gif_add_up_and_are_not_too_short(durations):
    shown = in_hundredths(durations)
    if all(duration % 10 == 0 for duration in durations):
        assert list(shown.values()) == [duration / 10 for duration in durations]
        return
    assert abs(10 * sum(shown.values()) - sum(durations)) <= 10 + 1e-4
    timed = [number for number in shown if durations[number]]
    assert all(shown[number] == 0 for number in shown if not durations[number])
    assert timed[-1] == max(number for number, one in enumerate(durations) if one)
    assert len(timed) == 1 or min(shown[number] for number in timed) >= 2
    assert list(shown) == sorted(shown)


def test_a_gif_shows_the_frames_that_have_time():
    frames, colors = moving()
    durations = [1000 / 60] * 6 + [0]
    data = encode(frames, ".gif", Display(durations, 0), colors=colors)
    assert gif_delays(data) == [2, 2, 2, 2, 2, 0]
    expected = [frames[number] for number in in_hundredths(durations)]
    for found, frame in zip(frames_of(data), expected, strict=True):
        assert np.array_equal(found, rgba(colors)[frame])


@given(st.lists(st.floats(0, 1e5), min_size=1))
def test_rounded_milliseconds_add_up(durations):
    rounded = in_milliseconds(durations)
    assert abs(sum(rounded) - sum(durations)) <= 0.5 + 1e-6
    assert all(abs(ours - given) <= 1 for ours, given in zip(rounded, durations, strict=True))


@given(st.floats(0, 65_535_000))
def test_fractions_have_sixteen_bits_and_are_near(duration):
    numerator, denominator = as_fraction(duration)
    assert 0 <= numerator <= 65_535
    assert 1 <= denominator <= 65_535
    assert abs(1000 * numerator / denominator - duration) <= max(0.01, duration * 1e-4)


@pytest.mark.parametrize("suffix", ANIMATED)
@pytest.mark.parametrize("plays", [0, 1, 2, 3, 65_535, 65_536, 70_000, 1 << 40])
def test_plays_are_the_nearest_that_the_format_holds(suffix, plays):
    most = {".gif": 65_536, ".png": (1 << 31) - 1, ".webp": 65_535}[suffix]
    display, lost = fit_display(Display([50, 50], plays), suffix)
    assert display.plays == min(plays, most)
    assert (lost == f"shown {most} times at most, not {plays}") == (plays > most)
    frames = [indices(2), indices(2, seed=1)]
    data = encode(frames, suffix, Display([50, 50], plays), colors=palette(2))
    assert ImageFile(data, "a").plays == min(plays, most)


@pytest.mark.parametrize(
    ("suffix", "longest"), [(".gif", 655_350), (".png", 65_535_000), (".webp", 16_777_215)]
)
def test_durations_are_the_nearest_that_the_format_holds(suffix, longest):
    durations = [0.6, longest, 1e12, 30]
    display, lost = fit_display(Display(durations), suffix)
    assert display.durations == [0.6, longest, longest, 30]
    assert f"a frame is shown for {longest} ms at most, not 1000000000000" in lost
    frames = [indices(2, seed=number) for number in range(4)]
    data = encode(frames, suffix, Display(durations), colors=palette(2))
    assert max(ImageFile(data, "a").durations) == longest


def test_frames_left_out_are_told_of():
    _, lost = fit_display(Display([1000 / 60] * 30), ".gif")
    assert lost == "5 of 30 frames left out, since none is shown for less than 20 ms"
    for suffix in (".png", ".webp", ".tif"):
        assert fit_display(Display([1000 / 60] * 30), suffix)[1] == ""
    assert fit_display(Display([1e9], 1 << 40), ".gif")[1] == ""  # a still


# Limits


@pytest.mark.parametrize(
    ("suffix", "size", "message"),
    [
        (".gif", (1, 65_536), r"a GIF is at most 65535 .* got 65536 x 1; use \.png"),
        (".webp", (16_384, 1), r"a WebP is at most 16383 .* got 1 x 16384; use \.png"),
        (".png", (1 << 31, 1), r"a PNG is at most 2147483647 .*; make the picture smaller"),
        (".bmp", (1 << 31, 1), "a BMP is at most 2147483647"),
        (".tif", (1, 1 << 31), "a TIFF is at most 2147483647"),
    ],
)
def test_sides_are_checked_before_anything_is_made(suffix, size, message):
    picture = np.broadcast_to(np.uint8(0), size)
    with pytest.raises(ValueError, match=message):
        encode([picture], suffix, colors=palette(2))


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif", ".bmp"])
def test_the_longest_sides_are_written(suffix):
    longest = {".gif": 65_535, ".webp": 16_383}.get(suffix, 70_000)
    picture = indices(2, 1, longest)
    data = encode([picture], suffix, colors=palette(2))
    assert np.array_equal(frames_of(data)[0], rgba(palette(2))[picture])


def test_frames_that_do_not_fit_together():
    small, large = indices(2), indices(2, 6, 14)
    for suffix in ALL:
        with pytest.raises(FormatError, match="expected at least one frame, got none"):
            encode([], suffix, Display([]), colors=palette(2))
        with pytest.raises(FormatError, match="at most 256 colours for indices, got 257"):
            encode([small], suffix, colors=palette(257))
    for suffix in ANIMATED:
        with pytest.raises(ValueError, match=r"got 13 x 5 and 14 x 6; use \.tif for pages"):
            encode([small, large], suffix, Display([9, 9]), colors=palette(2))
        with pytest.raises(ValueError, match="got 2 for more frames"):
            encode([small] * 3, suffix, Display([9, 9]), colors=palette(2))
        with pytest.raises(ValueError, match="got 2 for 1 frames"):
            encode([small], suffix, Display([9, 9]), colors=palette(2))
    with pytest.raises(ValueError, match=r"a BMP holds one picture, got 2 frames; use \.gif"):
        encode([small, small], ".bmp", Display([9, 9]), colors=palette(2))


# Resolution


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_resolutions_come_back(suffix):
    for resolution in ((300, 300), (72.5, 150)):
        data = encode([indices(3)], suffix, Display(resolution=resolution), colors=palette(3))
        assert opened(data).info["dpi"] == pytest.approx(resolution, abs=0.02)
        assert np.array_equal(opened(data), indices(3))
    assert "dpi" not in opened(encode([indices(3)], ".png", colors=palette(3))).info


@pytest.mark.parametrize("count", [1, 2])
def test_a_webp_has_its_resolution_in_exif(count):
    frames = [indices(3), indices(3, seed=1)][:count]
    data = encode(frames, ".webp", Display([9] * count, 1, (300, 72.5)), colors=palette(3))
    exif = opened(data).getexif()
    assert (exif[282], exif[283], exif[296]) == (300, 72.5, 2)
    for found, frame in zip(frames_of(data), frames, strict=True):
        assert np.array_equal(found, rgba(palette(3))[frame])


# Memory


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_two_frames_are_held_at_most(suffix, channels):
    alive = weakref.WeakSet()

    class Frame(np.ndarray):
        """Can be counted."""

        __hash__ = object.__hash__

    def frames():
        for number in range(8):
            assert len(alive) <= 2
            frame = indices(8, seed=number).view(Frame)
            alive.add(frame)
            yield frame
            del frame

    assert encode(frames(), suffix, Display([40] * 8), colors=palette(8, channels))
    assert not alive


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("count", [16, 256])
def test_memory_does_not_grow_with_the_frames(suffix, count):
    blocks = indices(count, 60, 150).repeat(8, 0).repeat(8, 1)
    frames = (blocks[:450, number : number + 800] for number in range(300))
    tracemalloc.start()
    try:
        data = encode(frames, suffix, Display([40] * 300), colors=palette(count))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - len(data) < 60e6
