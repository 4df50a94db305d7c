"""How many colours a classifier needs: top-1 and MSE over K, with shared and per-image palettes.

Run ``python -m experiments.sweeps.classifier_colors --data FOLDER --checkpoint FILE``; the folder
has train/ and test/.
"""

import argparse
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torchmetrics import MeanSquaredError
from torchmetrics.classification import MulticlassAccuracy
from torchvision.transforms.v2 import Normalize
from tqdm import tqdm

from colorquant_nn import ColorHistogram, ColorQuantize, PerImageColorQuantize
from experiments.callbacks import kmeans_palette
from experiments.data import ImageData
from experiments.figures import BLUE, GREY, ORANGE, RESULTS, as_picture, write_results
from experiments.models import ResNet20

NUM_COLORS = (2, 4, 8, 16, 32, 64)
SHARED, PER_IMAGE, KMEANS = "shared", "per image", "full k-means"


def build_quantizers(batches: Iterable[Any], num_colors: Iterable[int]) -> dict[str, nn.Module]:
    """All quantizers by ``"<kind> <K>"``, their shared palettes learnt in one pass.

    Args:
        batches: training batches ``(images, ...)``.
        num_colors: the sizes of the palettes.

    Returns:
        The quantizers in evaluation mode. `SHARED` learns in its forward; `KMEANS` is
        scikit-learn's k-means on all of the same pixels, for comparison.
    """
    layers = {size: ColorQuantize(size).train() for size in num_colors}
    histogram = ColorHistogram()
    for images, *_ in tqdm(batches, "learning"):
        histogram.update(images)
        for layer in layers.values():
            layer(images)
    quantizers: dict[str, nn.Module] = {}
    for size, layer in layers.items():
        quantizers[f"{SHARED} {size}"] = layer.eval()
        quantizers[f"{PER_IMAGE} {size}"] = PerImageColorQuantize(size).eval()
        palette = kmeans_palette(histogram, size)
        quantizers[f"{KMEANS} {size}"] = ColorQuantize.from_palette(palette).eval()
    return quantizers


@torch.no_grad()
def measure(
    batches: Iterable[tuple[Tensor, Tensor]],
    classifier: nn.Module,
    quantizers: dict[str, nn.Module],
    num_classes: int = 10,
) -> dict[str, dict[str, float]]:
    """MSE and top-1 (percent) behind each quantizer, and the classifier's own top-1.

    Args:
        batches: test batches ``(images, labels)``.
        classifier: images in [0, 1] to logits.
        quantizers: by name.
        num_classes: of the labels.

    Returns:
        By name; the unquantized images under ``"original"``. `KMEANS` has an MSE only.
    """
    names = ["original", *(name for name in quantizers if not name.startswith(KMEANS))]
    accuracies = {name: MulticlassAccuracy(num_classes, average="micro") for name in names}
    errors = {name: MeanSquaredError() for name in quantizers}
    for images, labels in tqdm(batches, "measuring"):
        accuracies["original"].update(classifier(images), labels)
        for name, quantizer in quantizers.items():
            quantized = quantizer(images).contiguous()  # torchmetrics takes views
            errors[name].update(quantized, images)
            if name in accuracies:
                accuracies[name].update(classifier(quantized), labels)
    values: dict[str, dict[str, float]] = {name: {} for name in ("original", *quantizers)}
    for name, error in errors.items():
        values[name]["mse"] = error.compute().item()
    for name, accuracy in accuracies.items():
        values[name]["top1"] = 100 * accuracy.compute().item()
    return values


def draw(values: dict[str, dict[str, float]], num_colors: tuple[int, ...]) -> Image.Image:
    """Top-1 and MSE over the number of colours."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    top1, mse = figure.subplots(1, 2)
    styles: dict[str, Any] = {
        SHARED: {"color": BLUE, "marker": "o", "label": "one palette, learnt by the layer"},
        PER_IMAGE: {"color": ORANGE, "marker": "s", "label": "a palette per image"},
        KMEANS: {
            "color": GREY,
            "marker": "x",
            "linestyle": ":",
            "label": "one palette, full k-means",
        },
    }
    for kind, style in styles.items():
        rows = [values[f"{kind} {size}"] for size in num_colors]
        for axes, key in ((top1, "top1"), (mse, "mse")):
            if key in rows[0]:
                axes.plot(num_colors, [row[key] for row in rows], markersize=5, **style)
    top1.axhline(values["original"]["top1"], color="black", linewidth=0.8, linestyle="--")
    top1.annotate(
        f"all colours: {values['original']['top1']:.2f} %",
        (num_colors[0], values["original"]["top1"]),
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=9,
    )
    top1.set_ylabel("top-1 (%)")
    top1.set_ylim(0, 100)
    mse.set_ylabel("MSE")
    mse.set_yscale("log")
    mse.legend(frameon=False, fontsize=9)
    for axes in (top1, mse):
        axes.set_xscale("log", base=2)
        axes.set_xticks(num_colors, [str(size) for size in num_colors])
        axes.set_xlabel("colours")
        axes.spines[["top", "right"]].set_visible(False)
    return as_picture(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Learn, measure, write."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sweeps.classifier_colors", description=__doc__
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights of the ResNet-20")
    parser.add_argument("--name", default="CIFAR-10 (JPEG)", help="of the data, for the table")
    parser.add_argument("--colors", type=int, nargs="+", default=list(NUM_COLORS))
    parser.add_argument("--batches", type=int, help="stop after these, to try it out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args(argv)
    num_colors = tuple(arguments.colors)

    data = ImageData(name="ImageFolder", root=arguments.data, batch_size=128, num_workers=1)
    data.setup()
    resnet = ResNet20(checkpoint=arguments.checkpoint)
    normalize = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    classifier = nn.Sequential(normalize, resnet).eval()
    quantizers = build_quantizers(islice(data.train_dataloader(), arguments.batches), num_colors)
    values = measure(islice(data.test_dataloader(), arguments.batches), classifier, quantizers)

    rows = []
    for size in num_colors:
        row: dict[str, Any] = {"colours": size}
        for kind in (SHARED, PER_IMAGE):
            row[f"{kind}: top-1 (%)"] = f"{values[f'{kind} {size}']['top1']:.2f}"
        for kind in (SHARED, KMEANS, PER_IMAGE):
            row[f"{kind}: MSE"] = f"{values[f'{kind} {size}']['mse']:.5f}"
        rows.append(row)
    write_results(
        arguments.out,
        "classifier_colors",
        title=f"A ResNet-20 that sees {arguments.name} in K colours",
        text=f"""
The classifier's weights are those trained on all colours, and stay so: its top-1 on the original
test images is {values["original"]["top1"]:.2f} %. *Shared* is one palette for the data set, learnt
by `ColorQuantize` in one pass over the training images in batches of 128; *per image* is
`PerImageColorQuantize`, which gives every test image its own K colours; *full k-means* is one
palette by scikit-learn (best of 3 starts, weighted cell means of a 6-bit histogram of the same
training pixels). MSE is the mean over pixels and channels of the test images, in [0, 1] units.

Run `python -m experiments.sweeps.classifier_colors --data FOLDER --checkpoint FILE`.""",
        rows=rows,
        values=values,
        plot=draw(values, num_colors),
    )


if __name__ == "__main__":
    main()
