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
from torch import Tensor

from colorquant_nn import ColorQuantize, PerImageColorQuantize
from experiments.data import ImageData
from experiments.network.judges import accuracy, load_images, load_judge, top1
from experiments.network.own import best_fidelity
from experiments.network.palette_network import SIZES, NeuralColorQuantize
from experiments.network.records import RECORDS, Record, record, records
from experiments.network.unseen import load_unseen
from experiments.sweeps.classifier_colors import PILLOW, pillow_quantize

Quantize: TypeAlias = Callable[[Tensor], Tensor]

KMEANS_SHARED, KMEANS_OWN = "k-means, one palette", "k-means, own palettes"
SHARED, OWN = "learnt, one palette", "network, own palettes"


def methods(
    data: ImageData, found: Mapping[str, Record], weights: Path
) -> Iterator[tuple[str, int, int, Quantize]]:
    """Whatever makes few colours.

    Args:
        data: the images.
        found: the records of the parts ``shared`` and ``own``.
        weights: folder of the networks.

    Yields:
        A method's name, K, the seed, and what images (B, 3, H, W) in [0, 1] are in few colours.

    Raises:
        FileNotFoundError: there is a record of a network and no weights.
    """
    for size in SIZES:
        for name, method in PILLOW.items():
            yield name, size, 0, partial(pillow_quantize, num_colors=size, method=method)
        yield KMEANS_OWN, size, 0, PerImageColorQuantize(size)
        shared = ColorQuantize(size).fit(images for images, _ in data.train_dataloader())
        yield KMEANS_SHARED, size, 0, shared.eval()
    for run in found.values():
        if run.get("fidelity") == 0:
            palette = ColorQuantize.from_palette(torch.tensor(run["palette"])).eval()
            yield SHARED, run["num_colors"], run["seed"], palette
    for name, run in found.items():
        if name.startswith("own-"):
            network = NeuralColorQuantize.load(weights / f"{name}.pt")
            for size in SIZES:
                yield OWN, size, run["seed"], network.of(size, best_fidelity(run, size))


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
    found = records(options.records, "shared-") | records(options.records, "own-")

    def judged(quantize: Quantize) -> Record:
        batches = list(data.test_dataloader())
        few = [quantize(images) for images, _ in batches]
        made = iter(few)
        found = accuracy(batches, judge, lambda _: next(made))
        pairs = zip(few, (labels for _, labels in batches), strict=True)
        return found | {"unseen": top1(pairs, other)}

    record(options.records, "transfer-original", lambda: judged(lambda images: images))
    for name, size, seed, quantize in methods(data, found, options.weights):
        about = {"method": name, "num_colors": size, "seed": seed}
        slug = name.replace(",", "").replace(" ", "_")
        record(
            options.records,
            f"transfer-{slug}-{size}-seed{seed}",
            partial(lambda about, quantize: about | judged(quantize), about, quantize),
        )
