"""Files byte by byte: what Pillow cannot write, as the specifications have it."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, INDEXED, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6


def saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def chunk(kind, content=b""):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def header(width, height, depth, kind):
    return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))


def packed(samples, depth):
    """Rows of samples (H, W * C), compressed."""
    samples = np.asarray(samples)
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in samples]
    else:
        bits = samples[..., None] >> np.arange(depth - 1, -1, -1) & 1
        rows = [np.packbits(row).tobytes() for row in bits.reshape(len(samples), -1)]
    return zlib.compress(b"".join(b"\0" + row for row in rows))


def png(samples, depth, kind, *chunks):
    """A PNG of samples (H, W, C)."""
    height, width, _ = np.shape(samples)
    rows = np.reshape(samples, (height, -1))
    parts = [chunk(*one) for one in (*chunks, (b"IDAT", packed(rows, depth)), (b"IEND", b""))]
    return header(width, height, depth, kind) + b"".join(parts)


def apng(size, frames, *, kind=RGB_ALPHA, plays=0, hidden=None, chunks=()):
    """frames: (samples (H, W, C), left, top, disposal, blend, (delay, of a second))."""
    parts = [header(*size, 8, kind), chunk(b"acTL", struct.pack(">II", len(frames), plays))]
    parts += [chunk(*one) for one in chunks]
    if hidden is not None:
        parts.append(chunk(b"IDAT", packed(np.reshape(hidden, (len(hidden), -1)), 8)))
    sequence = 0
    for samples, left, top, disposal, blend, delay in frames:
        height, width, _ = np.shape(samples)
        control = (sequence, width, height, left, top, *delay, disposal, blend)
        parts.append(chunk(b"fcTL", struct.pack(">5I2H2B", *control)))
        data = packed(np.reshape(samples, (height, -1)), 8)
        sequence += 1
        if sequence == 1 and hidden is None:
            parts.append(chunk(b"IDAT", data))
        else:
            parts.append(chunk(b"fdAT", struct.pack(">I", sequence) + data))
            sequence += 1
    return b"".join([*parts, chunk(b"IEND")])


def gif(size, frames, colors=None, loop=None):
    """frames: dicts of indices (H, W), and left, top, disposal, transparent, colors, delay."""
    parts = [
        b"GIF89a",
        struct.pack("<HH", *size),
        *table(colors, 0x70),
    ]
    if loop is not None:
        parts.append(b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", loop, 0))
    for frame in frames:
        indices = np.asarray(frame["indices"])
        transparent = frame.get("transparent")
        flags = frame.get("disposal", 0) << 2 | (transparent is not None)
        control = struct.pack("<BHBB", flags, frame.get("delay", 0), transparent or 0, 0)
        place = (frame.get("left", 0), frame.get("top", 0), *indices.shape[::-1])
        flags, own = table(frame.get("colors"), 0, background=b"")
        image = struct.pack("<4H", *place) + flags + own
        parts += [b"\x21\xf9\x04" + control, b"," + image, compressed(indices)]
    return b"".join([*parts, b";"])


def table(colors, flags, background=b"\0\0"):
    if colors is None:
        return bytes([flags]) + background, b""
    bits = max(1, (len(colors) - 1).bit_length())
    data = np.array(colors, np.uint8).tobytes().ljust(3 << bits, b"\0")
    return bytes([flags | 0x80 | bits - 1]) + background, data


def compressed(indices):
    """Legal LZW that never grows its codes: it forgets before it would have to."""
    codes = []
    for place, index in enumerate(np.ravel(indices).tolist()):
        codes += [256] * (place % 250 == 0) + [index]
    bits = sum(code << 9 * place for place, code in enumerate([*codes, 257]))
    data = bits.to_bytes((9 * len(codes) + 9 + 7) // 8, "little")
    blocks = [data[start : start + 255] for start in range(0, len(data), 255)]
    return b"\x08" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def tiff(samples, bits, photometric, *, order="<", sample_format=None, tags=()):
    """One page, not compressed; samples (H, W, C); tags: (number, type H or I, values)."""
    samples = np.asarray(samples)
    height, width, channels = samples.shape
    kind = {8: "u1", 16: "u2", 32: "f4"}.get(bits, "u1")
    data = (
        np.packbits(samples[..., 0].astype(bool), axis=1).tobytes()
        if bits == 1
        else samples.astype(order + kind).tobytes()
    )
    entries = [
        (256, "I", [width]), (257, "I", [height]), (258, "H", [bits] * channels), (259, "H", [1]),
        (262, "H", [photometric]), (273, "I", [8]), (277, "H", [channels]), (278, "I", [height]),
        (279, "I", [len(data)]), *tags,
    ]  # fmt: skip
    if sample_format is not None:
        entries.append((339, "H", [sample_format] * channels))
    data += b"\0" * (len(data) % 2)
    place = 8 + len(data)
    more_at, more, directory = place + 2 + 12 * len(entries) + 4, b"", b""
    for number, type_, values in sorted(entries):
        content = struct.pack(f"{order}{len(values)}{type_}", *values)
        if len(content) > 4:
            content, more = struct.pack(order + "I", more_at + len(more)), more + content
        directory += struct.pack(order + "HHI", number, {"H": 3, "I": 4}[type_], len(values))
        directory += content.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    count = struct.pack(order + "H", len(entries))
    return mark + struct.pack(order + "I", place) + data + count + directory + bytes(4) + more


def icc(primaries, curve, name="a profile", space=b"RGB "):
    """A matrix profile: primaries as three XYZ (D50) columns; curve: a gamma or a list of 16 bits.

    With ``space`` of GRAY, only its white and its curve.
    """

    def numbers(*values):
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    if isinstance(curve, (int, float)):
        curved = b"curv" + bytes(4) + struct.pack(">IH", 1, round(curve * 256))
    else:
        curved = b"curv" + bytes(4) + struct.pack(f">I{len(curve)}H", len(curve), *curve)
    text = name.encode() + b"\0"
    description = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    white = (0.9642, 1.0, 0.8249)
    tags = {b"desc": description, b"wtpt": b"XYZ " + bytes(4) + numbers(*white)}
    tags[b"cprt"] = b"text" + bytes(4) + b"none\0"
    if space == b"GRAY":
        tags[b"kTRC"] = curved
    else:
        for letter, column in zip((b"r", b"g", b"b"), primaries, strict=True):
            tags[letter + b"XYZ"] = b"XYZ " + bytes(4) + numbers(*column)
            tags[letter + b"TRC"] = curved
    entries, body, place = b"", b"", 128 + 4 + 12 * len(tags)
    for key, content in tags.items():
        entries += key + struct.pack(">II", place + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(
        ">I4sI4s4s4s", place + len(body), b"none", 0x02100000, b"mntr", space, b"XYZ "
    )
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + numbers(*white)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + body


def pictures():
    """A small picture of each kind that is read, by name."""
    random = np.random.default_rng(0)
    colors = random.integers(0, 256, (24, 31, 4), dtype=np.uint8)
    rgba = Image.fromarray(colors)
    rgb, grey = rgba.convert("RGB"), rgba.convert("L")
    indexed = rgb.quantize(20)
    kinds = {"RGB": rgb, "RGBA": rgba, "L": grey, "P": indexed, "1": grey.convert("1")}
    kinds["LA"] = rgba.convert("LA")
    kinds["CMYK"] = rgb.convert("CMYK")
    takes = {
        "PNG": ("RGB", "RGBA", "L", "P", "1", "LA"), "JPEG": ("RGB", "L", "CMYK"),
        "GIF": ("P", "L"), "WEBP": ("RGB", "RGBA"), "BMP": ("RGB", "L", "P", "1"),
        "AVIF": ("RGB", "RGBA"),
        "TIFF": ("RGB", "RGBA", "L", "P", "1", "CMYK"), "JPEG2000": ("RGB", "L"),
        "PPM": ("RGB", "L", "1"), "ICO": ("RGBA", "P"), "QOI": ("RGB", "RGBA"),
        "PCX": ("RGB", "L", "P", "1"), "TGA": ("RGB", "RGBA", "L", "P"),
    }  # fmt: skip
    files = {
        f"{format}-{mode}": saved(kinds[mode], format)
        for format, modes in takes.items()
        for mode in modes
    }
    exif = Image.Exif()
    exif[0x0112], exif[282], exif[283] = 6, 200.0, 100.0
    profile = icc([(0.6, 0.3, 0.1), (0.2, 0.6, 0.1), (0.16, 0.1, 0.6)], 1.8)
    for format in ("PNG", "JPEG", "WEBP", "TIFF"):
        files[f"{format}-metadata"] = saved(rgb, format, exif=exif, icc_profile=profile)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[f"TIFF-{compression}"] = saved(rgb, "TIFF", compression=compression)
    for format in ("PNG", "GIF", "WEBP", "TIFF", "AVIF"):
        others = [rgb.rotate(90), rgb.rotate(180)]
        files[f"{format}-frames"] = saved(rgb, format, save_all=True, append_images=others)
    deep = random.integers(0, 65536, (24, 31, 4))
    for kind, channels in ((GREY, 1), (RGB, 3), (GREY_ALPHA, 2), (RGB_ALPHA, 4)):
        files[f"PNG-16-{kind}"] = png(deep[..., :channels], 16, kind)
    files["TIFF-16"] = tiff(deep[..., :1], 16, 0)
    patches = [(colors[:9, :7], 3 * n, 2 * n, n % 3, n % 2, (n, 60)) for n in range(4)]
    files["APNG"] = apng((31, 24), patches, hidden=colors)
    index = random.integers(0, 8, (12, 9))
    patches = [
        {"indices": index, "left": 5 * n, "top": n, "disposal": n, "transparent": n}
        for n in range(4)
    ]
    files["GIF-patches"] = gif((31, 24), patches, colors[0, :8, :3], loop=2)
    return files
