"""Who else recognises it: all palettes, judged by the classifier they are for and by another.

What is gained with the first alone is noise made for it. Run it last, when the other parts have
left their palettes and weights:
``python -m experiments.network transfer --data FOLDER --checkpoint FILE --unseen FILE
--weights FOLDER``.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from PIL import Image
from torch import Tensor

from colorquant_nn import ColorQuantize, PerImageColorQuantize
from experiments.data import ImageData
from experiments.network.color_cnn import load as load_color_cnn
from experiments.network.judges import accuracy, load_images, load_judge, top1
from experiments.network.own import best_fidelity
from experiments.network.palette_network import SIZES, NeuralColorQuantize
from experiments.network.records import RECORDS, Record, record, records
from experiments.network.unseen import load_unseen
from experiments.sweeps.classifier_colors import PILLOW, pillow_quantize

Quantize: TypeAlias = Callable[[Tensor], Tensor]

KMEANS_SHARED, KMEANS_OWN = "k-means, one palette", "k-means, own palettes"
SHARED, OWN = "learnt, one palette", "network, own palettes"
COLOR_CNN = "ColorCNN, own palettes"


def methods(
    data: ImageData, found: Mapping[str, Record], weights: Path
) -> Iterator[tuple[str, int, int, Callable[[], Quantize]]]:
    """Whatever makes few colours.

    Args:
        data: the images.
        found: the records of the other parts.
        weights: folder of the networks.

    Yields:
        A method's name, K, the seed, and what makes the method: that of images (B, 3, H, W) in
        [0, 1] the same in few colours.
    """
    for size in SIZES:
        for name, method in PILLOW.items():
            yield name, size, 0, partial(of_pillow, size, method)
        yield KMEANS_OWN, size, 0, partial(PerImageColorQuantize, size)
        yield KMEANS_SHARED, size, 0, partial(kmeans_shared, data, size)
    for file, run in found.items():
        path = weights / f"{file}.pt"
        if file.startswith("shared-") and run["fidelity"] == 0:
            yield SHARED, run["num_colors"], run["seed"], partial(with_palette, run["palette"])
        elif file.startswith("color_cnn-") and "soft_top1" in run:  # no trial
            model = partial(load_color_cnn, run["num_colors"], path)
            yield COLOR_CNN, run["num_colors"], run["seed"], model
        elif file.startswith("own-"):
            for size in SIZES:
                yield OWN, size, run["seed"], partial(at_the_best_fidelity, path, run, size)


def of_pillow(num_colors: int, method: Image.Quantize) -> Quantize:
    """Own palettes by Pillow."""
    return partial(pillow_quantize, num_colors=num_colors, method=method)


def with_palette(palette: Sequence[Sequence[float]]) -> Quantize:
    """The nearest of given colours."""
    return ColorQuantize.from_palette(torch.tensor(palette)).eval()


def kmeans_shared(data: ImageData, num_colors: int) -> Quantize:
    """The palette of full k-means of the training images."""
    layer = ColorQuantize(num_colors).fit(images for images, _ in data.train_dataloader())
    return layer.eval()


def at_the_best_fidelity(weights: Path, run: Record, num_colors: int) -> Quantize:
    """A palette network, at what the validation images chose."""
    return NeuralColorQuantize.load(weights).quantizer(num_colors, best_fidelity(run, num_colors))


@torch.no_grad()
def run(argv: Sequence[str] | None = None) -> None:
    """Judge everything that is there."""
    parser = argparse.ArgumentParser(prog="python -m experiments.network transfer")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights of the ResNet-20")
    parser.add_argument(
        "--unseen", type=Path, required=True, help="weights of the other classifier"
    )
    parser.add_argument("--weights", type=Path, required=True, help="folder of the networks")
    parser.add_argument("--records", type=Path, default=RECORDS)
    options = parser.parse_args(argv)
    judge, other = load_judge(options.checkpoint), load_unseen(options.unseen)
    data = load_images(options.data)
    found = records(options.records, "")

    def judged(quantize: Quantize) -> Record:
        batches = list(data.test_dataloader())
        few = [quantize(images) for images, _ in batches]
        made = iter(few)
        found = accuracy(batches, judge, lambda _: next(made))
        pairs = zip(few, (labels for _, labels in batches), strict=True)
        return found | {"unseen": top1(pairs, other)}

    record(options.records, "transfer-original", lambda: judged(lambda images: images))
    for name, size, seed, make in methods(data, found, options.weights):
        about = {"method": name, "num_colors": size, "seed": seed}
        slug = name.replace(",", "").replace(" ", "_")
        record(
            options.records,
            f"transfer-{slug}-{size}-seed{seed}",
            partial(lambda about, make: about | judged(make()), about, make),
        )
