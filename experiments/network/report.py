"""What all parts have left: ``experiments/results/network.md``, plots, pictures and weights.

Run ``python -m experiments.network report --data FOLDER --checkpoint FILE --weights FOLDER``.
"""

import argparse
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image
from torch import Tensor

from colorquant_nn import PerImageColorQuantize
from experiments.data import ImageData
from experiments.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RESULTS,
    as_picture,
    interval_text,
    markdown_table,
    mean_interval,
    paragraphs,
    save_picture,
)
from experiments.network import color_cnn, display, estimators, packed, transfer
from experiments.network.__main__ import PARTS
from experiments.network.judges import FrozenClassifier, load_images, load_judge
from experiments.network.own import FIDELITIES, best_fidelity
from experiments.network.palette_network import SIZES, NeuralColorQuantize
from experiments.network.records import RECORDS, Record, part_of, records
from experiments.network.transfer import KMEANS_OWN, KMEANS_SHARED, OWN, SHARED

METHODS = {
    "octree": "octree (Pillow), own palettes",
    "median cut": "median cut (Pillow), own palettes",
    KMEANS_SHARED: "k-means, one palette",
    SHARED: "learnt from the loss, one palette",
    KMEANS_OWN: "k-means, own palettes",
    transfer.COLOR_CNN: "ColorCNN's head at our size, own palettes",
    OWN: "palette network, own palettes",
}
PICTURED = (2, 4, 8)
NUM_PICTURES = 7
COLORS = dict(zip(SIZES, ("#000000", ORANGE, BLUE, GREEN, GREY), strict=True))  # by K


def values_of(found: Mapping[str, Record], method: str, num_colors: int, key: str) -> list[float]:
    """One number of a method at a K, over the seeds that are there."""
    return [
        run[key]
        for run in found.values()
        if run.get("method") == method and run["num_colors"] == num_colors and key in run
    ]


def top1_rows(found: Mapping[str, Record], key: str, digits: int = 2) -> list[dict[str, str]]:
    """A row for each method, a column for each K."""
    table = []
    for method, label in METHODS.items():
        row = {"top-1 (%)": label}
        for size in SIZES:
            values = values_of(found, method, size, key)
            row[f"K = {size}"] = interval_text(values, digits) if values else "–"
        table.append(row)
    return table


def retention_rows(found: Mapping[str, Record]) -> list[dict[str, str]]:
    """The share of the top-1 without quantization that each method keeps, and the VGG of it."""
    table = []
    original = found.get("transfer-original", {})
    for method, label in METHODS.items():
        row = {"kept (%), ResNet-20 / VGG": label}
        for size in SIZES:
            kept = [
                f"{100 * fmean(values) / original[key]:.1f}" if values and original else "–"
                for key in ("top1", "unseen")
                for values in [values_of(found, method, size, key)]
            ]
            row[f"K = {size}"] = " / ".join(kept) if kept != ["–", "–"] else "–"
        table.append(row)
    return table


def transfer_rows(found: Mapping[str, Record]) -> list[dict[str, str]]:
    """What of the gain over k-means the unseen classifier sees, with intervals over the seeds."""
    table = []
    for learnt, base in ((SHARED, KMEANS_SHARED), (OWN, KMEANS_OWN)):
        row = {"gain over k-means, in points": METHODS[learnt]}
        for size in SIZES:
            seen: list[float] = []
            unseen: list[float] = []
            for key, gains in (("top1", seen), ("unseen", unseen)):
                if reference := values_of(found, base, size, key):
                    mean = fmean(reference)
                    gains += [top1 - mean for top1 in values_of(found, learnt, size, key)]
            row[f"K = {size}"] = "–"
            if seen and unseen:
                share = f", {fmean(unseen) / fmean(seen):.0%}" if fmean(seen) > 0.5 else ""
                row[f"K = {size}"] = f"{interval_text(seen, 1)} / {interval_text(unseen, 1)}{share}"
        table.append(row)
    return table


def curves(found: Mapping[str, Record], error: str) -> Image.Image:
    """Top-1 over what the eye or the squared error loses, a line for each K; k-means is a ring.

    Args:
        found: the records by name, those of the parts ``shared``, ``own`` and ``transfer``.
        error: ``"mse"`` or ``"eye_error"``.
    """
    shared, own, judged = (part_of(found, part) for part in ("shared-", "own-", "transfer-"))
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, title in zip(axes, ("one palette", "own palettes, one network"), strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel({"mse": "MSE", "eye_error": "eye error (OKLab x 100)"}[error])
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("top-1, test images (%)")
    for size in SIZES:
        points: dict[float, list[dict[str, float]]] = {}
        for run in shared.values():
            if run["num_colors"] == size:
                points.setdefault(run["fidelity"], []).append(run["test"])
        draw_curve(axes[0], points, error, size)
        points = {f: [run["test"][f"{size} {f:g}"] for run in own.values()] for f in FIDELITIES}
        draw_curve(axes[1], points, error, size)
        for axis, method in zip(axes, (KMEANS_SHARED, KMEANS_OWN), strict=True):
            x, y = values_of(judged, method, size, error), values_of(judged, method, size, "top1")
            axis.plot(x, y, "o", color=COLORS[size], fillstyle="none", markersize=7)
    if own:
        axes[1].legend(frameon=False, fontsize=8, title="colours", title_fontsize=8)
    return as_picture(figure)


def draw_curve(
    axis: Axes, points: Mapping[float, Sequence[Mapping[str, float]]], error: str, size: int
) -> None:
    """One line, with intervals over the seeds."""
    known = [points[f] for f in sorted(points) if points[f]]
    if not known:
        return
    x = [mean_interval([one[error] for one in seeds]) for seeds in known]
    y = [mean_interval([one["top1"] for one in seeds]) for seeds in known]
    axis.errorbar(
        [mean for mean, _ in x],
        [mean for mean, _ in y],
        [half for _, half in y],
        [half for _, half in x],
        color=COLORS[size],
        marker="o",
        markersize=3,
        label=str(size),
    )


def pictures(
    images: Tensor,
    classes: Sequence[str],
    network: NeuralColorQuantize,
    run: Record,
    judge: FrozenClassifier,
) -> Image.Image:
    """Images in few colours, with what the classifier takes them for.

    Args:
        images: (B, 3, H, W) in [0, 1], a row for each.
        classes: their names.
        network: what chooses colours, beside k-means.
        run: its record.
        judge: the classifier that it is for.

    Returns:
        A column for the originals, then for each K one of k-means and one of the network; orange
        where the classifier takes an image for something else than the original.
    """
    columns = {"original": images}
    for size in PICTURED:
        columns[f"k-means, K = {size}"] = PerImageColorQuantize(size)(images)
        columns[f"network, K = {size}"] = network.quantizer(size, best_fidelity(run, size))(images)
    figure = Figure(figsize=(1.35 * len(columns), 1.5 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), len(columns))
    with torch.no_grad():
        guesses = {name: judge(shown).argmax(1).tolist() for name, shown in columns.items()}
    for column, (name, shown) in enumerate(columns.items()):
        for row, image in enumerate(shown.detach().clamp(0, 1)):
            axis = grid[row][column]
            axis.imshow(image.movedim(0, -1).numpy(), interpolation="nearest")
            axis.set_axis_off()
            guess = guesses[name][row]
            right = guess == guesses["original"][row]
            label = f"{name}\n" if row == 0 else ""
            color = "black" if right else ORANGE
            axis.set_title(f"{label}{classes[guess]}", fontsize=8, color=color, pad=2)
    return as_picture(figure)


def section(title: str, *parts: str) -> str:
    """A headline, then paragraphs, tables and pictures; of those, empty ones are left out."""
    texts = [part if part.startswith(("|", "![")) else paragraphs(part) for part in parts if part]
    return "\n\n".join([f"## {title}", *texts])


def write(folder: Path, found: Mapping[str, Record], drawn: Collection[str]) -> None:
    """``network.md`` from the records of all parts; what is not there is left out.

    Args:
        folder: where to.
        found: the records by name.
        drawn: names of the pictures that there are.
    """

    def picture(name: str, text: str) -> str:
        return f"![{text}](network/{name}.png)" if name in drawn else ""

    judged = part_of(found, "transfer-")
    original = found.get("transfer-original", {})
    parameters = sum(weights.numel() for weights in NeuralColorQuantize().parameters())
    sections = [
        section(
            "How few colours, if they are chosen for it",
            HEADLINE.format(
                top1=original.get("top1", float("nan")),
                parameters=f"{parameters:,}".replace(",", " "),
            ),
            markdown_table(top1_rows(judged, "top1")),
            picture("pictures", "Images in few colours"),
        ),
        section(
            "Does another network recognise it, too?",
            TRANSFER.format(unseen=original.get("unseen", float("nan"))),
            markdown_table(top1_rows(judged, "unseen")),
            markdown_table(transfer_rows(judged)),
            markdown_table(retention_rows(judged)),
        ),
        section(
            "Between what a network wants and what an eye sees",
            CURVE,
            picture("curve_mse", "Top-1 over MSE"),
            picture("curve_eye_error", "Top-1 over eye error"),
        ),
    ]
    if peer := color_cnn.rows(part_of(found, "color_cnn-")):
        table = markdown_table(peer)
        sections.append(section("ColorCNN's head at the same size", COLOR_CNN, table))
    if atlas := part_of(found, "estimators-"):
        table = markdown_table(estimators.rows(atlas))
        plot = picture("estimators", "Estimators")
        used = markdown_table(estimators.usage_rows(atlas))
        sections.append(
            section("The atlas of estimators", estimators.NOTES, table, plot, USED, used)
        )
    if dots := part_of(found, "display-"):
        table = markdown_table(display.rows(dots))
        shown = [picture(name, "Dots of a display") for name in drawn if name in dots]
        sections.append(section("A dithered display", DISPLAY, table, *shown))
    if part_of(found, "packed-jpeg-"):  # the last of it
        small = part_of(found, "packed-")
        tables = packed.rows(small), packed.equal_rows(small), packed.training_rows(small)
        texts = [markdown_table(rows) for rows in tables if rows]
        plot = picture("packed", "Top-1 over bytes per image")
        sections.append(section("Data sets in few colours", PACKED, *texts, plot))
    sections.append(section("Commands", COST, markdown_table(cost_rows(found))))
    text = "\n\n".join(["# Palettes for a network", *sections])
    (folder / "network.md").write_text(text + "\n")


def cost_rows(found: Mapping[str, Record]) -> list[dict[str, str]]:
    """What the parts took, in minutes of one core."""
    table = []
    for part, what in PARTS.items():
        runs = [
            max(run["minutes"], run.get("training_minutes", 0))  # a stopped training went on
            for run in part_of(found, f"{part}-").values()
        ]
        if runs:
            numbers = {"runs": len(runs), "minutes in all": sum(runs), "longest": max(runs)}
            table.append(
                {"part": part, "": what} | {key: f"{value:.0f}" for key, value in numbers.items()}
            )
    return table


def run(argv: Sequence[str] | None = None) -> None:
    """Write what there is."""
    parser = argparse.ArgumentParser(prog="python -m experiments.network report")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights of the ResNet-20")
    parser.add_argument("--weights", type=Path, required=True, help="folder of the networks")
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(argv)
    found = records(options.records, "")
    folder: Path = options.out / "network"
    folder.mkdir(parents=True, exist_ok=True)
    shared, own, atlas, small = (
        part_of(found, part) for part in ("shared-", "own-", "estimators-", "packed-")
    )
    drawn: dict[str, Image.Image] = {}
    if shared or own:
        drawn |= {f"curve_{error}": curves(found, error) for error in ("mse", "eye_error")}
    if atlas:
        drawn["estimators"] = estimators.draw(atlas)
    if part_of(small, "packed-jpeg-"):  # the last of it
        drawn["packed"] = packed.draw(small)
    for file in sorted(options.records.glob("display-*.png")):
        drawn[file.stem] = Image.open(file).convert("RGB")
    for name, one in islice(own.items(), 1):  # the first, not the best
        weights = options.weights / f"{name}.pt"
        network = NeuralColorQuantize.load(weights)
        shutil.copy(weights, folder / "palette_network.pt")  # for the example
        images = one_of_each_class(load_images(options.data))
        classes = sorted(place.name for place in (options.data / "test").iterdir())
        judge = load_judge(options.checkpoint)
        drawn["pictures"] = pictures(images, classes, network, one, judge)
    for name, picture in drawn.items():
        save_picture(folder / f"{name}.png", picture)
    (options.out / "network.json").write_text(json.dumps(found) + "\n")
    write(options.out, found, drawn)


def one_of_each_class(data: ImageData) -> Tensor:
    """The first test image of as many classes as are shown."""
    firsts: dict[int, Tensor] = {}
    for images, labels in data.test_dataloader():
        for image, label in zip(images, labels.tolist(), strict=True):
            firsts.setdefault(label, image)
    return torch.stack([firsts[label] for label in sorted(firsts)[:NUM_PICTURES]])


HEADLINE = """
Top-1 on the 10 000 test images of CIFAR-10 (JPEG) of a frozen ResNet-20 that was trained on all
colours ({top1:.2f} % without quantization). Means and 95 % t-intervals over the seeds, where there
are several: of the palettes alone, not of the test images as a sample, which adds up to a point to
all. A tenth of the training images is held out and makes every choice; the test images make none.
The ResNet-20 has seen that tenth in its own training and knows 96 % of it, so that figures on it
are good for choices alone.

*Learnt from the loss*: the K colours are a parameter (`LearnedPalette`), each pixel takes the
nearest. *Palette network*: {parameters} parameters for all K together; it moves the pixels, k-means
of each image groups them there, and a colour is the mean of the pixels that have it. Colours are
hard in training, too. The fidelity at which each K is judged is chosen by the validation images.
"""

TRANSFER = """
The same images, judged by a small VGG ({unseen:.2f} % without quantization), which nothing was made
for. Beside the gain over k-means that the ResNet-20 sees stands what the VGG sees of it, and its
share.
"""

CURVE = """
One weight leads from the loss of the classifier (0) to the squared error (1): a palette for each
weight on the left, one network that is told the weight on the right. Intervals over the seeds.
"""

COLOR_CNN = """
ColorCNN (Hou, Zheng and Gould, Learning to structure an image with few colors, CVPR 2020) as its
authors' program trains it, at our size: one model for each K, soft colours in training and hard
ones in the test. Ours has 120 000 parameters for one K, theirs 13.4 million. A trial of three
epochs at four colours chose the optimizer (theirs or Adam) and the contrast of the colours in
training.

What is not theirs: GroupNorm and SiLU in the U-Net, images shifted and mirrored rather than cropped
and mirrored, and the length: 12 epochs for each K, theirs 60; the palette network has 40 for all K
together, after cheaper ones in which it learns to recognise.

Published, on original instead of JPEG images and with other classifiers, so that nothing here
compares with it: 82.1 % on CIFAR-10 with two colours (their abstract); 77 % with four, where all
colours have 95.45 % (second-hand: as told of Yu et al., arXiv 2602.20650, which trains classifiers
on palettes of clusters of images and has 89.15 % with four colours).
"""

USED = """
Colours in use: the perplexity of the palette on the test images.
"""

DISPLAY = """
A generator of a fixed set of photographs, 16 crops of 48 x 48 pixels with a code for each pixel, is
trained for the eye's error. After 500 steps that all share, its codes are trained for 500 more: for
the pictures as they are, which are then dithered; straight through the dots; or through the nearest
colours. Each picture keeps the code of its least error, of what its way of training sees.

The pictures are all that the generator ever shows, as those of a badge or a sign are: nothing is
held out, and part of the gain is that dots are tried until they are good ones (without each
picture's best it was 14 % in a short run where it is 25 % with it). The last row of each display is
direct search, which tries dots, too, without a generator. Through the dots of pictures that are not
known before, nothing was gained: an autoencoder of photographs, judged on others, was 1.6 % below
dithering afterwards at best. The gradient through the dots of error diffusion is right in the mean
alone: what a pixel is blamed for depends on where its neighbours' dots happen to fall.
"""

PACKED = """
The 50 000 training images as packed indices of 1 to 4 bits, palettes included, and what the frozen
classifier knows of the 10 000 test images packed in the same way.
"""

COST = """
Each part is one command, `python -m experiments.network PART --config configs/network.yaml`, with
the places of the data and the weights named in that file; what has a record is not run again.
Minutes are those of one core of a shared machine, busy with others of these runs.
"""
