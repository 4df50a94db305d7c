"""The data set as packed indices of 1 to 4 bits, against PNG, WebP and JPEG of the same pictures.

Seconds, bytes and the frozen classifier's accuracy; with ``--train`` a ResNet-20 learns from them.
Where the data set's own files are JPEGs, JPEG and WebP have it easy: what they drop first is gone
already, and the classifier has learnt without it.
"""

import argparse
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from io import BytesIO
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder

from colorquant_nn import ColorQuantize, PerImageColorQuantize, save_image
from experiments.data import ImageData
from experiments.datasets import Loaded, Stage, image_folder
from experiments.figures import BLUE, GREEN, GREY, ORANGE, as_picture, interval_text
from experiments.models import ResNet20
from experiments.network.classifier import ClassifierTraining
from experiments.network.judges import (
    FrozenClassifier,
    accuracy,
    load_images,
    load_judge,
)
from experiments.network.own import best_fidelity
from experiments.network.palette_network import NeuralColorQuantize
from experiments.network.records import RECORDS, Record, record, records
from experiments.network.training import fit
from experiments.packed_images import IndexedImages, PackedImages, pack_images, unpack_indices

COLORS = (2, 4, 8, 16)
KINDS = {
    "own": "a palette for each image",
    "shared": "one palette",
    "network": "what the palette network chooses",
}
EQUALLED = ("own", "network")  # kinds that other formats are compared with at equal bytes
TRAINED = (None, 16, 4)  # colours of the images that a network learns from, all of them first
SAMPLE = 2000  # images that other formats are timed on
QUALITIES = (1, 10, 25, 50, 75, 90)
BATCH_SIZE = 250
# By label: the lossy format, the bytes that count, and how it is drawn.
CURVES = {
    "WebP": ("webp", "bytes", GREEN, "-"),
    "JPEG": ("jpeg", "bytes", GREY, "-"),
    "JPEG, tables kept once": ("jpeg", "scan_bytes", GREY, ":"),
}


Quantize: TypeAlias = Callable[[Tensor], IndexedImages]


class Format(NamedTuple):
    """A way to keep an image in a file."""

    label: str
    encode: Callable[[Image.Image], bytes]


def pillow(label: str, name: str, **options: Any) -> Format:
    """A format as Pillow writes it."""

    def encode(image: Image.Image) -> bytes:
        file = BytesIO()
        image.save(file, name, **options)
        return file.getvalue()

    return Format(label, encode)


def save_with_oxipng(image: Image.Image) -> bytes:
    """The PNG that `colorquant_nn.save_image` writes."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    with TemporaryDirectory() as folder:
        save_image(f"{folder}/image.png", pixels)
        return Path(folder, "image.png").read_bytes()


LOSSLESS = {
    "png": pillow("PNG, Pillow", "PNG", optimize=True),
    "oxipng": Format("PNG, `save_image`", save_with_oxipng),
    "webp-lossless": pillow("WebP, lossless", "WEBP", lossless=True),
}


def lossy(name: str, quality: int) -> Format:
    """JPEG or WebP at a quality from 0 to 100."""
    if name == "jpeg":
        return pillow(f"JPEG, quality {quality}", "JPEG", quality=quality, optimize=True)
    return pillow(f"WebP, quality {quality}", "WEBP", quality=quality)


class Material:
    """The decoded images of both splits, the files that they came from, and the judge.

    Args:
        root: a folder with ``train/`` and ``test/``.
        checkpoint: weights of the ResNet-20.

    Raises:
        FileNotFoundError: one of them is missing.
        ValueError: the weights are of another network, or the images differ in size.
    """

    def __init__(self, root: Path, checkpoint: Path) -> None:
        self.root = root
        self.judge = load_judge(checkpoint)
        self.train_folder: ImageFolder = image_folder(root, "train")
        self.test_folder = image_folder(root, "test")

    @cached_property
    def train(self) -> Loaded:
        """All training images."""
        return Loaded(self.train_folder)

    @cached_property
    def test(self) -> Loaded:
        """The test images."""
        return Loaded(self.test_folder)

    def sample(self, number: int) -> Tensor:
        """Training images spread evenly over the classes."""
        images = self.train.images
        return images[torch.linspace(0, len(images) - 1, min(number, len(images))).long()]

    def accuracy(self, change: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Of the judge on all test images, after a change (B, 3, H, W) uint8 to the same."""

        def few(images: Tensor) -> Tensor:
            return change((images * 255).round().byte()).float() / 255

        batches = zip(
            (self.test.images.float() / 255).split(BATCH_SIZE),
            torch.tensor(self.test.labels).split(BATCH_SIZE),
            strict=True,
        )
        return accuracy(batches, self.judge, few)


def measure_packed(
    material: Material, kind: str, num_colors: int, network: Callable[[int], Quantize] | None = None
) -> Record:
    """Seconds, bytes and accuracy of packed indices.

    Args:
        material: images and judge.
        kind: of `KINDS`.
        num_colors: K.
        network: of K, how the palette network quantizes; needed for its kind alone.

    Returns:
        ``seconds`` for all training images, from decoded pixels to packed indices; ``file_seconds``
        to write the file and ``images_read_per_second`` to unpack batches of 128; bytes per image,
        labels apart: ``packed_bytes`` before the file compresses them, ``bytes`` in the file,
        ``indexed_png_bytes`` as a PNG for each image; and what `accuracy` finds.
    """
    images, labels = material.train.images, material.train.labels
    quantizer(kind, num_colors, images[:8], network)(images[:8] / 255)  # compiles its kernels
    began = time.perf_counter()
    quantize = quantizer(kind, num_colors, images, network)
    packed = pack_images(images, labels, quantize, material.train_folder.classes)
    seconds = time.perf_counter() - began
    with TemporaryDirectory() as folder:
        file = Path(folder, "train.npz")
        began = time.perf_counter()
        packed.save(file)
        file_seconds = time.perf_counter() - began
        with zipfile.ZipFile(file) as members:
            label_bytes = members.getinfo("labels.npy").compress_size
        file_bytes = file.stat().st_size
        began = time.perf_counter()
        packed = PackedImages.load(file)
        for start in range(0, len(packed), 128):
            packed.batch(slice(start, start + 128))
        read_seconds = time.perf_counter() - began

    def change(few: Tensor) -> Tensor:
        return pack_images(few, [0] * len(few), quantize).batch(slice(None))[0]

    number = len(packed)
    pngs = [len(png) for png in indexed_pngs(packed, SAMPLE)]
    return {
        "kind": kind,
        "num_colors": num_colors,
        "threads": torch.get_num_threads(),
        "images": number,
        "seconds": round(seconds, 2),
        "images_per_second": round(number / seconds),
        "file_seconds": round(file_seconds, 2),
        "images_read_per_second": round(number / read_seconds),
        "file_bytes": file_bytes,
        "packed_bytes": (packed.indices.nbytes + packed.palettes.nbytes) / number,
        "bytes": (file_bytes - label_bytes) / number,
        "indexed_png_bytes": sum(pngs) / len(pngs),
        **material.accuracy(change),
    }


def quantizer(
    kind: str, num_colors: int, images: Tensor, network: Callable[[int], Quantize] | None
) -> Quantize:
    """What makes K colours of images: of their own, of all uint8 images, or a network's."""
    if kind == "own":
        return PerImageColorQuantize(num_colors).eval().quantize
    if kind == "shared":
        return ColorQuantize(num_colors).fit(images.split(BATCH_SIZE)).eval().quantize
    if network is None:
        raise ValueError(f"expected a network for {kind!r}, got none")
    return network(num_colors)


def chosen_by(weights: Path, folder: Path) -> Callable[[int], Quantize]:
    """Of K, how a palette network quantizes at the fidelity that its validation images chose.

    Args:
        weights: of the network.
        folder: of the records, with that of the network.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: they are something else, or have no record.
    """
    found = records(folder, weights.stem).get(weights.stem)
    if found is None:
        raise ValueError(f"no {weights.stem}.json in {folder}: the part `own` leaves it there")
    network = NeuralColorQuantize.load(weights)
    return lambda num_colors: partial(
        network, num_colors=num_colors, fidelity=best_fidelity(found, num_colors)
    )


def indexed_pngs(packed: PackedImages, number: int) -> Iterator[bytes]:
    """Some of the images, spread evenly, each as Pillow's smallest PNG of the same indices."""
    height, width = packed.size
    for index in np.linspace(0, len(packed) - 1, min(number, len(packed))).astype(int):
        row = packed.indices[index : index + 1]
        indices = unpack_indices(row, packed.bits, height * width)
        image = Image.fromarray(indices.reshape(height, width)).convert("P")
        image.putpalette(packed.palettes[min(index, len(packed.palettes) - 1)].tobytes())
        file = BytesIO()
        image.save(file, "PNG", optimize=True, bits=packed.bits)
        yield file.getvalue()


def measure_format(material: Material, kept: Format, lossless: bool) -> Record:
    """Seconds and bytes of another format on `SAMPLE` training images, scaled to all of them.

    Args:
        material: images and judge.
        kept: the format.
        lossless: then the accuracy is known.

    Returns:
        As `measure_packed` has it. Of a JPEG also ``scan_bytes``: without its tables, which a file
        of many images could keep once (the standard's Huffman tables instead of its own).
    """
    sample = pictures(material.sample(SAMPLE))
    began = time.perf_counter()
    files = [kept.encode(image) for image in sample]
    rate = len(sample) / (time.perf_counter() - began)
    began = time.perf_counter()
    decode(files)
    read_rate = len(sample) / (time.perf_counter() - began)
    found: Record = {
        "label": kept.label,
        "images": len(sample),
        "seconds": round(len(material.train) / rate, 2),
        "images_per_second": round(rate),
        "images_read_per_second": round(read_rate),
        "bytes": sum(map(len, files)) / len(files),
    }

    def change(few: Tensor) -> Tensor:
        return decode([kept.encode(image) for image in pictures(few)])

    return found if lossless else found | material.accuracy(change)


def measure_lossy(material: Material, name: str, quality: int) -> Record:
    """`measure_format` of JPEG or WebP at a quality."""
    found = measure_format(material, lossy(name, quality), lossless=False)
    found |= {"format": name, "quality": quality}
    if name == "jpeg":
        found["scan_bytes"] = mean_bytes(material.sample(SAMPLE), "jpeg-scan", quality)
    return found


def mean_bytes(images: Tensor, name: str, quality: int) -> float:
    """Bytes of an image (B, 3, H, W) uint8 in a lossy format; ``"jpeg-scan"`` without tables."""
    if name == "jpeg-scan":
        plain = pillow("", "JPEG", quality=quality)
        return float(np.mean([scan_bytes(plain.encode(image)) for image in pictures(images)]))
    kept = lossy(name, quality)
    return float(np.mean([len(kept.encode(image)) for image in pictures(images)]))


def scan_bytes(file: bytes) -> int:
    """Bytes of a JPEG from its first scan on: without quantization and Huffman tables.

    References:
        ITU-T T.81 (1992), annex B: a segment is a marker and the length of what follows it.
    """
    start = 2
    while file[start + 1] != 0xDA:
        start += 2 + int.from_bytes(file[start + 2 : start + 4], "big")
    return len(file) - start


def equal_quality(images: Tensor, name: str, target: float) -> int | None:
    """The highest quality whose images have at most so many bytes on average, if there is one."""
    low, high = -1, 100
    while low < high:
        quality = (low + high + 1) // 2
        if mean_bytes(images, name, quality) <= target:
            low = quality
        else:
            high = quality - 1
    return low if low >= 0 else None


def pictures(images: Tensor) -> list[Image.Image]:
    """Images (B, 3, H, W) uint8 as Pillow's."""
    return [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).contiguous().numpy()]


def decode(files: Sequence[bytes]) -> Tensor:
    """Images of one size (B, 3, H, W) uint8, as Pillow reads them."""
    decoded = [np.asarray(Image.open(BytesIO(file)).convert("RGB")) for file in files]
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)


def measure_training(
    material: Material, num_colors: int | None, *, seed: int, epochs: int
) -> Record:
    """Train on images with own palettes in K colours, or on the original ones.

    Args:
        material: both splits.
        num_colors: K, or None for the original images.
        seed: of weights and order.
        epochs: passes over the training images.

    Returns:
        Top-1 in percent on test images that are kept as the training images are, ``top1``, and on
        the original ones, ``original_top1``.
    """
    original = load_images(material.root, seed)
    with TemporaryDirectory() as folder:
        data = original
        if num_colors is not None:
            splits: dict[Stage, Loaded] = {"train": material.train, "test": material.test}
            for split, loaded in splits.items():
                quantize = PerImageColorQuantize(num_colors).quantize
                packed = pack_images(loaded.images, loaded.labels, quantize)
                packed.save(Path(folder, f"{split}.npz"))
            data = ImageData("PackedImages", folder, batch_size=128, mirror=True, seed=seed)
            data.setup("fit")
        task = ClassifierTraining(ResNet20, seed)
        fit(task, data, epochs=epochs)
        judge = FrozenClassifier(task.network)
        top1, original_top1 = (
            accuracy(x.test_dataloader(), judge, lambda images: images)["top1"]
            for x in (data, original)
        )
    return {
        "num_colors": num_colors,
        "seed": seed,
        "top1": top1,
        "original_top1": original_top1,
    }


def run(argv: Sequence[str] | None = None) -> None:
    """Measure, and leave records."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.network packed", description=__doc__
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights of the ResNet-20")
    parser.add_argument(
        "--network", type=Path, help="weights of a palette network, which `own` left"
    )
    parser.add_argument("--train", action="store_true", help="also train on packed images, at last")
    parser.add_argument("--epochs", type=int, default=6, help="of these trainings")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of these trainings")
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records")
    arguments = parser.parse_args(argv)
    folder: Path = arguments.records
    material = Material(arguments.data, arguments.checkpoint)
    network = None if arguments.network is None else chosen_by(arguments.network, folder)

    def original() -> Record:
        sizes = [Path(path).stat().st_size for path, _ in material.train_folder.samples]
        found = {"label": "the files of the data set", "bytes": float(np.mean(sizes))}
        return found | material.accuracy(lambda images: images)

    record(folder, "packed-original", original)
    targets = []
    for kind in KINDS:
        for num_colors in COLORS if kind != "network" or network is not None else ():
            measure = partial(measure_packed, material, kind, num_colors, network)
            found = record(folder, _name(kind, num_colors), measure)
            if kind in EQUALLED:
                targets.append(found["bytes"])
    for name, kept in LOSSLESS.items():
        record(folder, f"packed-{name}", partial(measure_format, material, kept, lossless=True))
    sample = material.sample(SAMPLE)
    for name, measures in (("webp", ["webp"]), ("jpeg", ["jpeg", "jpeg-scan"])):
        equal = [equal_quality(sample, measure, t) for measure in measures for t in targets]
        for quality in sorted({*QUALITIES, *(q for q in equal if q is not None)}):
            record(
                folder,
                f"packed-{name}-{quality:03d}",
                partial(measure_lossy, material, name, quality),
            )
    for colors in TRAINED if arguments.train else ():
        for seed in arguments.seeds:
            record(
                folder,
                _training_name(colors, seed),
                partial(measure_training, material, colors, seed=seed, epochs=arguments.epochs),
                epochs=arguments.epochs,
            )


def rows(found: Mapping[str, Record]) -> list[dict[str, str]]:
    """The data set's files, lossless formats and packed indices: bytes, speed and accuracy.

    Args:
        found: of this part, by name.

    Returns:
        A row for each, as `experiments.figures.markdown_table` takes them; top-1 and MSE stand
        where something is lost.
    """
    table = []
    original = found["packed-original"]
    kept = [(original["label"], original)]
    kept += [(found[f"packed-{x}"]["label"], found[f"packed-{x}"]) for x in LOSSLESS]
    for kind, label in KINDS.items():
        names = [(k, _name(kind, k)) for k in COLORS]
        kept += [(f"packed, {label}, K = {k}", found[x]) for k, x in names if x in found]
    for label, run in kept:
        row = {"images kept as": label, "bytes per image": f"{run['bytes']:.0f}"}
        if "packed_bytes" in run:
            row["without deflate"] = f"{run['packed_bytes']:.0f}"
            row["as indexed PNG"] = f"{run['indexed_png_bytes']:.0f}"
        if "seconds" in run:
            row["seconds to make all"] = f"{run['seconds']:.1f}"
            row["made per second"] = f"{run['images_per_second']:,}".replace(",", " ")
            row["read per second"] = f"{run['images_read_per_second']:,}".replace(",", " ")
        if "top1" in run:
            row |= {"top-1 (%)": f"{run['top1']:.2f}", "MSE": f"{run['mse']:.5f}"}
        table.append(row)
    return table


def equal_rows(found: Mapping[str, Record]) -> list[dict[str, str]]:
    """Top-1 at equal bytes: packed, and the best of each lossy format with no more bytes."""
    table = []
    for kind, num_colors in product(EQUALLED, COLORS):
        ours = found.get(_name(kind, num_colors))
        if ours is None:
            continue
        row = {"packed": KINDS[kind], "K": str(num_colors)}
        row |= {"bytes per image": f"{ours['bytes']:.0f}", "top-1 (%)": f"{ours['top1']:.2f}"}
        for label, (name, key, _, _) in CURVES.items():
            fitting = [run for run in _lossy(found, name) if float(run[key]) <= ours["bytes"]]
            if fitting:
                best = max(fitting, key=lambda run: int(run["quality"]))
                row[label] = f"{best['top1']:.2f} (quality {best['quality']})"
            else:
                row[label] = "none so small"
        table.append(row)
    return table


def training_rows(found: Mapping[str, Record]) -> list[dict[str, str]]:
    """Top-1 of networks that learnt from packed images, mean and interval over the seeds."""
    table = []
    for colors in TRAINED:
        prefix = _training_name(colors, "")
        runs = [run for name, run in found.items() if name.startswith(prefix)]
        if runs:
            row = {
                "learnt from": "all colours" if colors is None else f"own palettes, K = {colors}"
            }
            row["top-1 on such images (%)"] = interval_text([run["top1"] for run in runs], 2)
            originals = [run["original_top1"] for run in runs]
            row["top-1 on the original images (%)"] = interval_text(originals, 2)
            row["epochs"] = str(runs[0]["epochs"])
            row["minutes"] = interval_text([run["minutes"] for run in runs], 1)
            table.append(row)
    return table


def draw(found: Mapping[str, Record]) -> Image.Image:
    """Top-1 over bytes per image: packed indices, JPEG and WebP; lossless PNG as a reference."""
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for kind, color, marker in (
        ("network", "black", "^"),
        ("own", ORANGE, "o"),
        ("shared", BLUE, "s"),
    ):
        runs = [found[name] for k in COLORS if (name := _name(kind, k)) in found]
        if not runs:
            continue
        points = [(run["bytes"], run["top1"]) for run in runs]
        axes.plot(*zip(*points, strict=True), color=color, marker=marker, label=KINDS[kind])
        for num_colors, point in zip([run["num_colors"] for run in runs], points, strict=True):
            text = axes.annotate(
                str(num_colors), point, xytext=(5, -11), textcoords="offset points"
            )
            text.set(color=color, fontsize=8)
    for label, (name, key, color, line) in CURVES.items():
        points = sorted((run[key], run["top1"]) for run in _lossy(found, name))
        axes.plot(*zip(*points, strict=True), color=color, linestyle=line, label=label)
    png, original = found["packed-png"], found["packed-original"]
    axes.plot(png["bytes"], original["top1"], "k*", label=png["label"])
    axes.plot(original["bytes"], original["top1"], "kD", markersize=4, label=original["label"])
    axes.axhline(original["top1"], color="black", linewidth=0.8, linestyle="--")
    axes.set(xlabel="bytes per image, palettes and tables included", ylabel="top-1 (%)")
    axes.set_xscale("log", base=2)
    ticks = [2**power for power in range(6, 12)]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_ylim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return as_picture(figure)


def _name(kind: str, num_colors: int) -> str:
    return f"packed-{kind}-{num_colors:02d}"


def _training_name(colors: int | None, seed: int | str) -> str:
    images = "all" if colors is None else f"{colors:02d}"
    return f"packed-training-{images}-seed{seed}"


def _lossy(found: Mapping[str, Record], name: str) -> list[Record]:
    return [run for run in found.values() if run.get("format") == name]
