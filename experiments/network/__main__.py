"""``python -m experiments.network PART``: the parts of the study, each with its own ``--help``.

``--config configs/network.yaml`` gives a part the arguments of the published runs.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

PARTS = {
    "shared": "one palette for all images, learnt from the classifier's loss",
    "own": "a palette for each image, chosen by a small network",
    "estimators": "ways for the gradient to pass a palette, compared",
    "color_cnn": "the head of ColorCNN at the same size",
    "unseen": "a classifier that no palette was made for",
    "display": "a generator behind a dithered display",
    "packed": "the data set as packed indices",
    "transfer": "all of them, judged by that classifier as well",
    "report": "network.md from what all of them have left",
}


def with_config(part: str, arguments: Sequence[str]) -> list[str]:
    """The arguments with those of ``--config FILE`` in front of them, from the part's section.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no YAML, or has no such section.
    """
    if "--config" not in arguments[:-1]:
        return [*arguments]
    place = [*arguments].index("--config")
    file = Path(arguments[place + 1])
    if not file.is_file():
        raise FileNotFoundError(f"no config at {file.absolute()}")
    try:
        content = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: expected YAML: {error}") from error
    section = content.get(part) if isinstance(content, dict) else None
    if not isinstance(section, dict):
        raise ValueError(f"{file}: expected a section {part!r} with its arguments")
    given: list[str] = []
    for name, value in section.items():
        values = value if isinstance(value, list) else [value]
        texts = [] if value is True else [str(one) for one in values]
        given += [] if value is False else [f"--{name.replace('_', '-')}", *texts]
    return [*given, *arguments[:place], *arguments[place + 2 :]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a part; what a user got wrong is one line on stderr, and exit code 2."""
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    if not given or given[0] not in PARTS:
        lines = [f"  {name:<12}{what}" for name, what in PARTS.items()]
        print("usage: python -m experiments.network PART ...", *lines, sep="\n", file=sys.stderr)
        sys.exit(2)
    part, *rest = given
    try:
        module = importlib.import_module(f"experiments.network.{part}")
        module.run(with_config(part, rest))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
