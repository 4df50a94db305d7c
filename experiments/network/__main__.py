"""``python -m experiments.network PART``: the parts of the study, each with its own ``--help``."""

import importlib
import sys

PARTS = {
    "shared": "one palette for all images, learnt from the classifier's loss",
    "own": "a palette for each image, chosen by a small network",
    "estimators": "ways for the gradient to pass a palette, compared",
    "color_cnn": "the head of ColorCNN at the same size",
    "unseen": "a classifier that no palette was made for",
    "display": "an autoencoder in front of a dithered display",
    "packed": "the data set as packed indices",
    "report": "network.md from what all of them have left",
}


def main() -> None:
    """Run a part."""
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    if part not in PARTS:
        lines = [f"  {name:<12}{what}" for name, what in PARTS.items()]
        sys.exit("usage: python -m experiments.network PART ...\n\n" + "\n".join(lines))
    sys.argv = [f"python -m experiments.network {part}", *sys.argv[2:]]
    importlib.import_module(f"experiments.network.{part}").run()


if __name__ == "__main__":
    main()
