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

from experiments.packed_images import PackedImages

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

# What torchvision's datasets call the parts, best first. No part stands in for another: the test is
# for the last judgement, and what was chosen by it cannot be judged by it.
SPLITS: dict[Stage, tuple[str, ...]] = {
    "train": ("train", "trainval", "train-standard"),
    "val": ("val", "valid"),
    "test": ("test",),
}


class MissingSplit(ValueError):
    """A data set has no validation or test images of its own."""

    def __init__(self, name: str, stage: Stage) -> None:
        super().__init__(f"{name} has no {stage} split of its own")


class Photographs(Dataset[tuple[Tensor, int]]):
    """The photographs of one split, in memory; the label is the photograph's place in the split.

    Args:
        stage: ``"train"`` or ``"val"``; there is no test split.

    Raises:
        MissingSplit: of the test.
        FileNotFoundError: an installed wheel does not carry a photograph.

    Examples:
        >>> from experiments.datasets import Photographs
        >>> image, label = Photographs("val")[0]
        >>> image.shape, image.dtype
        (torch.Size([3, 512, 512]), torch.uint8)
    """

    def __init__(self, stage: Stage) -> None:
        if stage == "test":
            raise MissingSplit("Photographs", stage)
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
        root: a folder with ``train/`` and, if there are such images, ``val/`` and ``test/``, each
            with a folder per class.
        stage: the split.

    Returns:
        The images of the split.

    Raises:
        FileNotFoundError: there is no folder of training images, or no class folder with images in
            it.
        MissingSplit: there is no folder of that split.
    """
    candidates = [Path(root) / split for split in SPLITS[stage]]
    folder = next((path for path in candidates if path.is_dir()), None)
    if folder is None and stage != "train" and Path(root).is_dir():
        raise MissingSplit(f"the image folder {Path(root).absolute()}", stage)
    if folder is None:
        looked = ", ".join(str(path.absolute()) for path in candidates)
        raise FileNotFoundError(
            f"no image folder for the {stage} split: looked for {looked}; "
            "set data.init_args.root to a folder with train/ (and val/ and test/, if there are any)"
        )
    try:
        return torchvision.datasets.ImageFolder(str(folder))
    except FileNotFoundError as error:  # no classes, or a class without images
        raise FileNotFoundError(
            f"{folder.absolute()} should hold one folder of images per class: {error}"
        ) from None


class Loaded(Dataset[tuple[Tensor, int]]):
    """A source whose images are decoded once and kept, for trainings that see them many times.

    Args:
        source: of images of one size.

    Raises:
        ValueError: the images differ in size.

    Examples:
        >>> from experiments.datasets import Loaded, find_source
        >>> few = find_source("FakeData", "data", "train", options={"size": 4})
        >>> image, label = Loaded(few)[3]
        >>> image.shape, image.dtype
        (torch.Size([3, 224, 224]), torch.uint8)
    """

    def __init__(self, source: Source) -> None:
        size: int = len(source)  # type: ignore[arg-type]
        images, labels = zip(*(source[index] for index in range(size)), strict=True)
        pixels = [to_pixels(image) for image in images]
        sizes = sorted({tuple(image.shape[1:]) for image in pixels})
        if len(sizes) > 1:
            raise ValueError(f"expected images of one size to keep them in memory, got {sizes}")
        self.images = torch.stack(pixels)
        self.labels = [int(label) for label in labels]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]


def packed_images(root: str | Path, stage: Stage) -> PackedImages:
    """Images in few colours, from ``train.npz``, ``val.npz`` or ``test.npz`` in a folder.

    Raises:
        MissingSplit: there is no such file, but a folder.
        FileNotFoundError: there is no folder, or none of training images.
        ValueError: a file holds something else.
    """
    file = Path(root) / f"{stage}.npz"
    if stage != "train" and Path(root).is_dir() and not file.exists():
        raise MissingSplit(f"the folder of packed images {Path(root).absolute()}", stage)
    return PackedImages.load(file)


SOURCES: dict[str, Callable[[Path, Stage], Source]] = {
    "Photographs": lambda root, stage: Photographs(stage),
    "ImageFolder": image_folder,
    "LoadedFolder": lambda root, stage: Loaded(image_folder(root, stage)),
    "PackedImages": packed_images,
}


def find_source(
    name: str,
    root: str | Path,
    stage: Stage,
    *,
    download: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Source:
    """One split of a source by its name, as its makers divided it.

    Args:
        name: of `SOURCES`, or the class's name in `torchvision.datasets`, such as ``"CIFAR10"``.
        root: the folder that the data is in.
        stage: the split. A dataset of torchvision that has no splits is all for training.
        download: fetch the data first, where torchvision can.
        options: further arguments of torchvision's class.

    Returns:
        The images of the split, with their labels.

    Raises:
        ValueError: there is no dataset of that name, it has no such option, or cannot be
            downloaded.
        MissingSplit: the dataset has no such split; `hold_out` takes one from the training images.
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
        return _split(dataset, name, stage, arguments)
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


def _split(dataset: Any, name: str, stage: Stage, arguments: dict[str, Any]) -> Source:
    """A dataset of torchvision, whatever it calls its splits."""
    accepted = inspect.signature(dataset).parameters
    if stage == "val" and ("train" in accepted or dataset is torchvision.datasets.FakeData):
        raise MissingSplit(name, stage)
    if "train" in accepted:
        return dataset(train=stage == "train", **arguments)  # type: ignore[no-any-return]
    if "split" in accepted and "split" not in arguments:
        return _named_split(dataset, name, stage, arguments)
    if dataset is torchvision.datasets.FakeData:  # its images may differ between the splits
        offset = 0 if stage == "train" else arguments.get("size", 1000)
        return dataset(random_offset=offset, **arguments)  # type: ignore[no-any-return]
    if stage != "train":
        raise MissingSplit(name, stage)
    return dataset(**arguments)  # type: ignore[no-any-return]


def _named_split(dataset: Any, name: str, stage: Stage, arguments: dict[str, Any]) -> Source:
    for split in SPLITS[stage]:
        try:
            return dataset(split=split, **arguments)  # type: ignore[no-any-return]
        except ValueError as error:  # torchvision checks the split's name before it opens anything
            unknown = error
    if stage == "train":
        raise unknown
    raise MissingSplit(name, stage) from unknown


def hold_out(source: Source, share: float) -> tuple[Source, Source]:
    """Training images without a share of them, and that share, for validation.

    Which images are held out is a function of their number and the share alone: it is the same in
    every run, of any seed, and on every device.

    Args:
        source: the training images.
        share: of the images to hold out, in (0, 1); at least one is, and at least one stays.

    Returns:
        What stays, and what is held out, both in the order of the source.

    Raises:
        ValueError: there are fewer than two images.

    Examples:
        >>> from experiments.datasets import find_source, hold_out
        >>> train, val = hold_out(find_source("FakeData", "data", "train"), 0.1)
        >>> len(train), len(val)
        (900, 100)
    """
    size: int = len(source)  # type: ignore[arg-type]
    if size < 2:
        raise ValueError(f"expected two training images or more to hold one out, got {size}")
    number = min(max(1, round(share * size)), size - 1)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0)).tolist()
    return Subset(source, sorted(order[number:])), Subset(source, sorted(order[:number]))
