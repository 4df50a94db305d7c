"""Where images come from: installed photographs, folders, and torchvision's datasets by name.

Every source is a map-style dataset of ``(image, label)``. An image is a PIL image or a uint8 tensor
of shape ``(3, H, W)``; `experiments.data` turns it into what a model sees.
"""

import importlib.util
import inspect
from collections.abc import Mapping
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


class DatasetNotFound(FileNotFoundError):
    """A dataset is not on disk; the message names the place and the way to get it."""


class UnknownDataset(ValueError):
    """There is no dataset of the name that a config gives."""


class Photographs(Dataset[tuple[Tensor, int]]):
    """The photographs of one split, in memory; the label is the photograph's place in the split.

    Args:
        stage: ``"train"``, or ``"val"`` or ``"test"``, which here are the same photographs.

    Raises:
        DatasetNotFound: If an installed wheel does not carry a photograph.

    Example:
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
    raise DatasetNotFound(
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
        root: A folder with ``train/`` and ``val/`` or ``test/``, each with a folder per class.
        stage: The split; validation falls back to ``test/`` and the test to ``val/``.

    Raises:
        DatasetNotFound: If there is no such folder, or no class folder with images in it.
    """
    candidates = [Path(root) / split for split in SPLITS[stage]]
    folder = next((path for path in candidates if path.is_dir()), None)
    if folder is None:
        looked = ", ".join(str(path.absolute()) for path in candidates)
        raise DatasetNotFound(
            f"no image folder for the {stage} split: looked for {looked}; "
            "set data.init_args.root to a folder with train/ and val/ or test/"
        )
    try:
        return torchvision.datasets.ImageFolder(str(folder))
    except FileNotFoundError as error:  # no classes, or a class without images
        raise DatasetNotFound(
            f"{folder.absolute()} should hold one folder of images per class: {error}"
        ) from None


def torchvision_dataset(
    name: str,
    root: str | Path,
    stage: Stage,
    *,
    download: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Source:
    """One split of a dataset of `torchvision.datasets`, whatever it calls its splits.

    Args:
        name: The class's name, such as ``"CIFAR10"`` or ``"Flowers102"``.
        root: The folder that torchvision keeps the data in.
        stage: The split. A dataset without a validation split validates on its test split, and one
            without splits is divided by a seeded permutation, nine tenths for training.
        download: Fetch the data first, where torchvision can.
        options: Further arguments of the class.

    Raises:
        UnknownDataset: If torchvision has no dataset of that name.
        DatasetNotFound: If the data is not under `root` and is not to be downloaded.

    Example:
        >>> len(torchvision_dataset("FakeData", "data", "train", options={"size": 8}))
        8
    """
    dataset_class: Any = getattr(torchvision.datasets, name, None)
    is_dataset = inspect.isclass(dataset_class) and name in torchvision.datasets.__all__
    if not is_dataset:
        raise UnknownDataset(
            "expected 'Photographs', 'ImageFolder' or the name of a dataset in "
            f"torchvision.datasets (such as 'CIFAR10'), got {name!r}"
        )
    accepted = inspect.signature(dataset_class).parameters
    arguments = dict(options or {})
    if "root" in accepted:
        arguments["root"] = str(root)
    if "download" in accepted:
        arguments["download"] = download
    elif download:
        raise ValueError(
            f"torchvision cannot download {name}; put it under {Path(root).absolute()}"
        )

    try:
        if "train" in accepted:
            return dataset_class(train=stage == "train", **arguments)  # type: ignore[no-any-return]
        if "split" in accepted and "split" not in arguments:
            return _first_split(dataset_class, SPLITS[stage], arguments)
        if name == "FakeData":  # images differ between the splits, and need no division
            offset = 0 if stage == "train" else arguments.get("size", 1000)
            return dataset_class(random_offset=offset, **arguments)  # type: ignore[no-any-return]
        return _divided(dataset_class(**arguments), stage)
    except (RuntimeError, FileNotFoundError) as error:
        if download:
            raise  # the download itself went wrong: torchvision says how
        advice = (
            "download it with data.init_args.download=true"
            if "download" in accepted
            else "torchvision cannot download it: get it by hand"
        )
        raise DatasetNotFound(
            f"{name} ({stage} split) is not under {Path(root).absolute()}: {advice}, "
            f"or set data.init_args.root to the folder that holds it"
        ) from error


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
