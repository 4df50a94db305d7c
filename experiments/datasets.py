"""Where images come from: installed photographs, folders, and torchvision's datasets by name.

Every source is a map-style dataset of ``(image, label)``. An image is a PIL image or a uint8 tensor
(3, H, W); `experiments.data` turns it into what a model sees. To add one, write a function of a
folder and a stage, and give it a name in `SOURCES`.
"""

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
import torchvision.datasets
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchvision.transforms.v2 import functional as transforms

Stage: TypeAlias = Literal["train", "val", "test"]
Source: TypeAlias = Dataset[tuple[Any, int]]

# The colour photographs inside the wheels of scikit-image and scikit-learn: nothing to download.
# Left out: the right half of the motorcycle's stereo pair (its twin would be in the other split),
# and the pictures of microscopes, telescopes and eyes.
PHOTOGRAPHS: dict[str, tuple[str, str]] = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "coffee": ("skimage", "data/coffee.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
}
VALIDATION_PHOTOGRAPHS = ("astronaut", "chelsea")

# What torchvision's datasets call the parts, best first.
SPLITS: dict[Stage, tuple[str, ...]] = {
    "train": ("train", "trainval", "train-standard"),
    "val": ("val", "valid", "test"),
    "test": ("test", "val", "valid"),
}


class Photographs(Dataset[tuple[Tensor, int]]):
    """The photographs of one split, in memory; the label is the photograph's place in the split.

    Args:
        stage: ``"train"``, or ``"val"`` or ``"test"``, which here are the same photographs.

    Raises:
        FileNotFoundError: an installed wheel does not carry a photograph.

    Examples:
        >>> from experiments.datasets import Photographs
        >>> image, label = Photographs("val")[0]
        >>> image.shape, image.dtype
        (torch.Size([3, 512, 512]), torch.uint8)
    """

    def __init__(self, stage: Stage) -> None:
        self.names = [n for n in PHOTOGRAPHS if (n in VALIDATION_PHOTOGRAPHS) == (stage != "train")]
        self.images = []
        for name in self.names:
            with Image.open(photograph_path(name)) as image:
                self.images.append(to_pixels(image))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], index


def photograph_path(name: str) -> Path:
    """The file of one of `PHOTOGRAPHS` inside the installed package that carries it."""
    package, file = PHOTOGRAPHS[name]
    spec = importlib.util.find_spec(package)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    for folder in folders:
        if (path := Path(folder) / file).is_file():
            return path
    raise FileNotFoundError(
        f"the photograph {name!r} should be at {file} inside the package {package}, "
        f"looked for in {folders or 'no folder: the package is not installed'}; "
        "`pip install -e '.[experiments]'` installs it"
    )


def to_pixels(image: Image.Image | Tensor) -> Tensor:
    """A PIL image of any mode, or a uint8 tensor, as a uint8 tensor of shape ``(3, H, W)``."""
    if isinstance(image, Image.Image):
        return transforms.pil_to_tensor(image.convert("RGB"))
    if isinstance(image, Tensor) and image.dtype == torch.uint8 and image.shape[0] == 3:
        return image
    raise TypeError(f"expected a PIL image or a uint8 tensor of shape (3, H, W), got {image!r}")


def image_folder(root: str | Path, stage: Stage) -> Source:
    """`torchvision.datasets.ImageFolder` on the subfolder of a split.

    Args:
        root: a folder with ``train/`` and ``val/`` or ``test/``, each with a folder per class.
        stage: the split; validation falls back to ``test/`` and the test to ``val/``.

    Returns:
        The images of the split.

    Raises:
        FileNotFoundError: there is no such folder, or no class folder with images in it.
    """
    candidates = [Path(root) / split for split in SPLITS[stage]]
    folder = next((path for path in candidates if path.is_dir()), None)
    if folder is None:
        looked = ", ".join(str(path.absolute()) for path in candidates)
        raise FileNotFoundError(
            f"no image folder for the {stage} split: looked for {looked}; "
            "set data.init_args.root to a folder with train/ and val/ or test/"
        )
    try:
        return torchvision.datasets.ImageFolder(str(folder))
    except FileNotFoundError as error:  # no classes, or a class without images
        raise FileNotFoundError(
            f"{folder.absolute()} should hold one folder of images per class: {error}"
        ) from None


SOURCES: dict[str, Callable[[Path, Stage], Source]] = {
    "Photographs": lambda root, stage: Photographs(stage),
    "ImageFolder": image_folder,
}


def find_source(
    name: str,
    root: str | Path,
    stage: Stage,
    *,
    download: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Source:
    """One split of a source by its name.

    Args:
        name: of `SOURCES`, or the class's name in `torchvision.datasets`, such as ``"CIFAR10"``.
        root: the folder that the data is in.
        stage: the split. Of torchvision, a dataset without a validation split validates on its
            test split, and one without splits is divided by a seeded permutation, nine tenths for
            training.
        download: fetch the data first, where torchvision can.
        options: further arguments of torchvision's class.

    Returns:
        The images of the split, with their labels.

    Raises:
        ValueError: there is no dataset of that name, it has no such option, or cannot be
            downloaded.
        FileNotFoundError: the data is not under `root`, and not to be had by downloading.

    Examples:
        >>> from experiments.datasets import find_source
        >>> len(find_source("FakeData", "data", "train", options={"size": 8}))
        8
    """
    dataset: Any = SOURCES.get(name, getattr(torchvision.datasets, name, None))
    if name not in SOURCES and not (
        name in torchvision.datasets.__all__ and inspect.isclass(dataset)
    ):
        raise ValueError(
            f"expected {', '.join(map(repr, SOURCES))} or the name of a dataset in "
            f"torchvision.datasets (such as 'CIFAR10'), got {name!r}"
        )
    place, arguments = Path(root).absolute(), dict(options or {})
    signature = inspect.signature(dataset)
    accepted = signature.parameters
    try:
        signature.bind_partial(**arguments)
    except TypeError as error:
        raise ValueError(f"expected options that {name} has: {error}") from error
    if download and "download" not in accepted:
        raise ValueError(f"{name} cannot be downloaded; put it under {place}")
    if name in SOURCES:
        return SOURCES[name](Path(root), stage)
    ours = {"root": str(root), "download": download}
    arguments |= {key: value for key, value in ours.items() if key in accepted}
    try:
        return _split(dataset, stage, accepted, arguments)
    except (RuntimeError, FileNotFoundError) as error:
        if download:
            raise FileNotFoundError(f"{name} did not get to {place}: {error}") from error
        advice = (
            "download it with data.init_args.download=true"
            if "download" in accepted
            else "torchvision cannot download it: get it by hand"
        )
        raise FileNotFoundError(
            f"{name} ({stage} split) is not under {place}: {advice}, "
            "or set data.init_args.root to the folder that holds it"
        ) from error


def _split(
    dataset: Any, stage: Stage, accepted: Mapping[str, Any], arguments: dict[str, Any]
) -> Source:
    """A dataset of torchvision, whatever it calls its splits."""
    if "train" in accepted:
        return dataset(train=stage == "train", **arguments)  # type: ignore[no-any-return]
    if "split" in accepted and "split" not in arguments:
        return _first_split(dataset, SPLITS[stage], arguments)
    if dataset is torchvision.datasets.FakeData:  # its images may differ between the splits
        offset = 0 if stage == "train" else arguments.get("size", 1000)
        return dataset(random_offset=offset, **arguments)  # type: ignore[no-any-return]
    return _divided(dataset(**arguments), stage)


def _first_split(dataset_class: Any, splits: tuple[str, ...], arguments: dict[str, Any]) -> Source:
    for split in splits:
        try:
            return dataset_class(split=split, **arguments)  # type: ignore[no-any-return]
        except ValueError as error:  # torchvision checks the split's name before it opens anything
            unknown = error
    raise unknown


def _divided(dataset: Source, stage: Stage) -> Source:
    size = len(dataset)  # type: ignore[arg-type]
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0)).tolist()
    tenth = max(1, size // 10)
    return Subset(dataset, order[:-tenth] if stage == "train" else order[-tenth:])
