"""Fingerprints of what the package computes: a net under changes that should change nothing.

``python -m tests.fingerprints > before.txt`` prints a line for each result, its name and the hash
of its bits; after the change, ``diff`` says what moved (a minute and a half). Times are not in it:
`experiments.benchmark` has those.
"""

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from colorquant_nn import (
    ColorQuantize,
    PerImageColorQuantize,
    apply_palette,
    fit_palette,
    save_image,
)
from colorquant_nn.__main__ import main
from colorquant_nn.names import Dither, Effort, Space

SPACES, EFFORTS, DITHERS = get_args(Space), get_args(Effort), get_args(Dither)
COMMANDS = (
    "quantize photo.png -k 16 -o a.png",
    "quantize photo.png -k 16 --space rgb --dither floyd-steinberg -o b.gif",
    "quantize icon.png -k 8 --keep #ffffff -o c.png",
    "quantize photo.png --palette pico-8 --dither ordered -o d.webp",
    "quantize photo.png --min-psnr 25 --compare e-side.png -o e.png",
    "palette photo.png -k 12 -o f.gpl",
    "palette photo.png icon.png -k 12 -o g.hex",
    "palette photo.png -k 4 --plot h.png -o h.act",
)


def picture(seed: int, channels: int, height: int = 180, width: int = 240) -> Tensor:
    """Smooth shapes with noise, uint8; a fourth channel is alpha, with holes and soft edges."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 6, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    smooth += 0.03 * torch.randn(channels, height, width, generator=generator)
    if channels == 4:
        smooth[3] = smooth[3] * 3 - 1
    return (smooth.clamp(0, 1) * 255).to(torch.uint8)


def fingerprint(*tensors: Tensor) -> str:
    """A hash of shapes, types and bits."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def palettes() -> Iterator[tuple[str, str]]:
    """`fit_palette` of four pictures, with and without alpha, in every space and effort."""
    for channels in (3, 4):
        pictures = {
            "smooth": picture(0, channels),
            "float": picture(1, channels).float() / 255,
            "sprite": picture(2, channels) // 51 * 51,
            "batch": torch.stack([picture(3, channels), picture(4, channels)]),
        }
        for name, image in pictures.items():
            for space in SPACES:
                for effort in EFFORTS:
                    found = [
                        fit_palette(image, count, space=space, effort=effort, seed=count)
                        for count in (6, 48)
                    ]
                    yield f"fit_palette {name} {channels} {space} {effort}", fingerprint(*found)


def layers() -> Iterator[tuple[str, str]]:
    """The state after 40 training batches, and what the layers give then."""
    for space in SPACES:
        layer = ColorQuantize(12, space=space, decay=0.9)
        for seed in range(40):
            layer(picture(seed, 3, 24, 32)[None].float() / 255)
        yield f"layer {space} state", fingerprint(layer.centroids, layer.counts)
        quantized = layer.eval().quantize(picture(99, 3)[None].float() / 255)
        yield f"layer {space} eval", fingerprint(*quantized)
        per_image = PerImageColorQuantize(12, space=space)
        images = torch.stack([picture(seed, 3, 24, 32) for seed in range(4)]).float() / 255
        yield f"per image {space}", fingerprint(*per_image.quantize(images))
        fitted = ColorQuantize(12, space=space).fit(images)
        yield f"layer {space} fit", fingerprint(fitted.centroids, fitted.counts)


def dithers() -> Iterator[tuple[str, str]]:
    """`apply_palette` with every dither in every space."""
    for channels in (3, 4):
        image = picture(5, channels)
        palette = fit_palette(image, 10)
        for space in SPACES:
            for dither in DITHERS:
                result = apply_palette(image, palette, space=space, dither=dither, strength=0.8)
                yield f"apply_palette {channels} {space} {dither}", fingerprint(*result)


def files() -> Iterator[tuple[str, str]]:
    """The files that the command writes."""
    home = os.getcwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        save_image("photo.png", picture(6, 3))
        save_image("icon.png", picture(7, 4, 40, 40))
        for command in COMMANDS:
            with contextlib.redirect_stdout(io.StringIO()):
                code = main(command.split())
            yield f"exit code of {command}", str(code)
        for path in sorted(Path().iterdir()):
            yield f"file {path}", hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        os.chdir(home)


if __name__ == "__main__":
    for part in (palettes, layers, dithers, files):
        for what, value in part():
            print(f"{value}  {what}", flush=True)
