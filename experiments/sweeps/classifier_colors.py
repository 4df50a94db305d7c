"""How many colours a classifier needs: top-1 and MSE over K, with shared and per-image palettes.

Run ``python -m experiments.sweeps.classifier_colors --data FOLDER --checkpoint FILE``; the folder
has train/ and test/.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torchmetrics import MeanSquaredError
from torchmetrics.classification import MulticlassAccuracy
from torchvision.transforms.v2 import Normalize
from torchvision.transforms.v2 import functional as transforms
from tqdm import tqdm

from colorquant_nn import ColorHistogram, ColorQuantize, PerImageColorQuantize
from experiments.callbacks import kmeans_palette
from experiments.data import ImageData
from experiments.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RESULTS,
    as_picture,
    interval_text,
    mean_interval,
    write_results,
)
from experiments.models import ResNet20

Quantizers: TypeAlias = dict[str, list[Callable[[Tensor], Tensor]]]
Values: TypeAlias = dict[str, list[dict[str, float]]]

NUM_COLORS = (2, 4, 8, 16, 32, 64)
ORIGINAL = "original"
SHARED, KMEANS, PER_IMAGE = "one palette, ColorQuantize", "one palette, k-means", "per image"
PILLOW = {"median cut": Image.Quantize.MEDIANCUT, "octree": Image.Quantize.FASTOCTREE}


class Style(NamedTuple):
    """How a kind of quantizer is drawn and named."""

    color: str
    marker: str
    line: str
    label: str


KINDS = {
    SHARED: Style(BLUE, "o", "-", "one palette, `ColorQuantize`"),
    KMEANS: Style(GREY, "x", ":", "one palette, full k-means"),
    PER_IMAGE: Style(ORANGE, "s", "-", "a palette per image, `PerImageColorQuantize`"),
    "median cut": Style(GREEN, "v", "--", "a palette per image, Pillow's median cut"),
    "octree": Style(GREEN, "^", ":", "a palette per image, Pillow's fast octree"),
}


def pillow_quantize(images: Tensor, num_colors: int, method: Image.Quantize) -> Tensor:
    """Each image of a batch (B, 3, H, W) in [0, 1] in colours of its own, by Pillow."""
    found = []
    for image in images:
        picture = transforms.to_pil_image((image * 255).round().byte())
        few = picture.quantize(num_colors, method, dither=Image.Dither.NONE).convert("RGB")
        found.append(transforms.pil_to_tensor(few))
    return torch.stack(found).to(images) / 255


def build_quantizers(
    batches: Mapping[int, Iterable[Sequence[Any]]], num_colors: Iterable[int]
) -> Quantizers:
    """All quantizers by ``"<kind> <K>"``, one per seed where a seed makes a difference.

    Args:
        batches: by seed, the training batches ``(images, ...)`` in an order of the seed.
        num_colors: the sizes of the palettes.

    Returns:
        In evaluation mode. `SHARED` has learnt in its forward, in one pass; `KMEANS` is
        scikit-learn's k-means on all of the same pixels, with starts drawn by the seed.
    """
    quantizers: Quantizers = {f"{kind} {size}": [] for size in num_colors for kind in KINDS}
    for seed, loader in batches.items():
        layers = {size: ColorQuantize(size).train() for size in num_colors}
        histogram = ColorHistogram()
        for images, *_ in tqdm(loader, f"learning, seed {seed}"):
            histogram.update(images)
            for layer in layers.values():
                layer(images)
        for size, layer in layers.items():
            full = ColorQuantize.from_palette(kmeans_palette(histogram, size, seed=seed))
            quantizers[f"{SHARED} {size}"].append(layer.eval())
            quantizers[f"{KMEANS} {size}"].append(full.eval())
    for size in num_colors:
        quantizers[f"{PER_IMAGE} {size}"].append(PerImageColorQuantize(size).eval())
        for kind, method in PILLOW.items():
            few = partial(pillow_quantize, num_colors=size, method=method)
            quantizers[f"{kind} {size}"].append(few)
    return quantizers


@torch.no_grad()
def measure(
    batches: Iterable[tuple[Tensor, Tensor]],
    classifier: nn.Module,
    quantizers: Quantizers,
    num_classes: int = 10,
) -> Values:
    """MSE and top-1 (percent) behind each quantizer, and behind none.

    Args:
        batches: test batches ``(images, labels)``.
        classifier: images in [0, 1] to logits.
        quantizers: by name, one per seed.
        num_classes: of the labels.

    Returns:
        By name and seed; the unquantized images under ``"original"``.
    """
    everything: Quantizers = {ORIGINAL: [nn.Identity()], **quantizers}
    accuracy = partial(MulticlassAccuracy, num_classes, average="micro")
    meters = {
        name: [(quantizer, MeanSquaredError(), accuracy()) for quantizer in seeds]
        for name, seeds in everything.items()
    }
    for images, labels in tqdm(batches, "measuring"):
        for seeds in meters.values():
            for quantizer, error, top1 in seeds:
                quantized = quantizer(images).contiguous()  # torchmetrics takes views
                error.update(quantized, images)
                top1.update(classifier(quantized), labels)
    return {
        name: [
            {"mse": error.compute().item(), "top1": 100 * top1.compute().item()}
            for _, error, top1 in seeds
        ]
        for name, seeds in meters.items()
    }


def of_seeds(values: Values, name: str, key: str) -> list[float]:
    """One of a quantizer's numbers, over its seeds."""
    return [seed[key] for seed in values[name]]


def draw(values: Values, num_colors: tuple[int, ...]) -> Image.Image:
    """Top-1 and MSE over the number of colours, means and intervals over the seeds."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    top1, mse = figure.subplots(1, 2)
    for kind, (color, marker, line, label) in KINDS.items():
        for axes, key in ((top1, "top1"), (mse, "mse")):
            points = [mean_interval(of_seeds(values, f"{kind} {k}", key)) for k in num_colors]
            means, halves = zip(*points, strict=True)
            style = {"color": color, "marker": marker, "linestyle": line, "markersize": 5}
            axes.errorbar(num_colors, means, halves, label=label.replace("`", ""), **style)
    (original,) = of_seeds(values, ORIGINAL, "top1")
    top1.axhline(original, color="black", linewidth=0.8, linestyle="--")
    top1.annotate(
        f"all colours: {original:.2f} %",
        (num_colors[0], original),
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=9,
    )
    top1.set_ylabel("top-1 (%)")
    top1.set_ylim(0, 100)
    mse.set_ylabel("MSE")
    mse.set_yscale("log")
    mse.legend(frameon=False, fontsize=8)
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
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="orders of the data"
    )
    parser.add_argument("--batches", type=int, help="stop after these, to try it out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args(argv)
    num_colors = tuple(arguments.colors)

    def images(seed: int) -> ImageData:
        return ImageData(
            name="ImageFolder", root=arguments.data, batch_size=128, num_workers=1, seed=seed
        )

    def some(loader: Iterable[Any]) -> Iterable[Any]:
        return islice(loader, arguments.batches)

    resnet = ResNet20(checkpoint=arguments.checkpoint)
    normalize = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    classifier = nn.Sequential(normalize, resnet).eval()
    classifier.to(memory_format=torch.channels_last)  # almost twice as fast on a CPU
    learning = {seed: some(images(seed).train_dataloader()) for seed in arguments.seeds}
    test = images(0)
    values = measure(
        some(test.test_dataloader()), classifier, build_quantizers(learning, num_colors)
    )
    write(arguments.out, arguments.name, values, num_colors, arguments.seeds)


def write(
    folder: Path,
    name_of_data: str,
    values: Values,
    num_colors: tuple[int, ...],
    seeds: Sequence[int],
) -> None:
    """Write the table and the plot."""
    rows = []
    for kind, style in KINDS.items():
        for key, header, digits in (("top1", "top-1 (%)", 2), ("mse", "MSE", 5)):
            row = {"quantizer": style.label, "": header}
            for size in num_colors:
                numbers = of_seeds(values, f"{kind} {size}", key)
                row[f"K = {size}"] = interval_text(numbers, digits)
            rows.append(row)
    (original,) = of_seeds(values, ORIGINAL, "top1")
    write_results(
        folder,
        "classifier_colors",
        title=f"A ResNet-20 that sees {name_of_data} in K colours",
        text=f"""
The classifier's weights are those trained on all colours, and stay so: its top-1 on the original
test images is {original:.2f} %. Nothing is chosen by the test images, and no palette has seen one.

*One palette* is the same for the whole data set. That of `ColorQuantize` is learnt in one pass over
the training images in batches of 128, without the tenth that is held out for validation. *Full
k-means* is scikit-learn's (best of 3 starts, weighted cell means of a 6-bit histogram) on all
pixels of the same images. *A palette per image* gives every test image its own K colours. Pillow's
(`Image.quantize`, no dither) have at most K.

Means and 95 % t-intervals over {len(seeds)} seeds ({", ".join(map(str, seeds))}), where a seed
makes a difference: of `ColorQuantize` it decides the order of the data, of full k-means the starts.
The palettes per image are functions of the image, without a seed. The intervals are of the palettes
alone; that the test images are a sample adds up to a point of top-1, shared by all rows. MSE is
the mean over pixels and channels of the test images, in [0, 1] units.

Run `python -m experiments.sweeps.classifier_colors --data FOLDER --checkpoint FILE`.""",
        rows=rows,
        values=values,
        plot=draw(values, num_colors),
    )


if __name__ == "__main__":
    main()
