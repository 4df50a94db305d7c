"""``python -m experiments.network PART``: the parts of the study, each with its own ``--help``."""

import importlib
import sys
from collections.abc import Sequence

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a part; what a user got wrong is one line on stderr, and exit code 2."""
    part, *rest = [*(sys.argv[1:] if arguments is None else arguments), ""]
    if part not in PARTS:
        lines = [f"  {name:<12}{what}" for name, what in PARTS.items()]
        print("usage: python -m experiments.network PART ...", *lines, sep="\n", file=sys.stderr)
        sys.exit(2)
    try:
        importlib.import_module(f"experiments.network.{part}").run(rest[:-1])
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
