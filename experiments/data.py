"""The data module: any image dataset, as reproducible batches of float images in [0, 1].

What item `index` looks like in epoch `epoch`, and where it comes in the order, are functions of
``(seed, epoch, index)`` alone. So a run that is resumed at an epoch's end sees what the run that
was never interrupted sees, with any number of workers.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torch.utils.data.distributed import DistributedSampler
from torchvision.transforms.v2 import functional as transforms

from experiments.datasets import MissingSplit, Source, Stage, find_source, hold_out, to_pixels

Key = tuple[int, int]  # (epoch, index): the key carries the epoch, so workers hold no state of it
STAGE_NUMBERS: dict[Stage, int] = {"train": 0, "val": 1, "test": 2}


class EpochSampler(DistributedSampler[Any]):
    """Yields ``(epoch, index)`` keys, in an order that is a function of the seed and the epoch.

    Lightning calls `set_epoch` before each epoch, also after a resume, and leaves a sampler of this
    base class as it is when there are several devices.
    """

    def __iter__(self) -> Iterator[Key]:  # type: ignore[override]
        return ((self.epoch, index) for index in super().__iter__())


class Crops(Dataset[tuple[Tensor, int]]):
    """Float images (3, H, W) from a source, cropped and mirrored by drawn numbers.

    Args:
        source: the images, as PIL images or uint8 tensors, with their labels.
        stage: outside of training the epoch changes nothing, and nothing is mirrored.
        crop_size: the side of the square crops; None takes the images whole. Images that are too
            small are enlarged first.
        num_crops: how many crops an epoch has, spread evenly over the images (a subset of them, if
            there are more); by default one per image, outside of training the one at its centre.
        mirror: whether every other training image is mirrored.
        seed: other seeds draw other crops.

    Examples:
        >>> from experiments.data import Crops
        >>> from experiments.datasets import Photographs
        >>> image, label = Crops(Photographs("train"), "train", crop_size=64, num_crops=100)[3, 42]
        >>> image.shape, image.dtype
        (torch.Size([3, 64, 64]), torch.float32)
    """

    def __init__(
        self,
        source: Source,
        stage: Stage,
        *,
        crop_size: int | None = None,
        num_crops: int | None = None,
        mirror: bool = False,
        seed: int = 0,
    ) -> None:
        self.source = source
        self.stage = stage
        self.crop_size = crop_size
        self.num_crops = num_crops
        self.mirror = mirror
        self.seed = seed

    def __len__(self) -> int:
        return self.num_crops or len(self.source)  # type: ignore[arg-type]

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        epoch, index = key
        num_images: int = len(self.source)  # type: ignore[arg-type]
        if len(self) < num_images:  # folders are sorted by class: the first ones would be one class
            image, label = self.source[index * num_images // len(self)]
        else:
            image, label = self.source[index % num_images]
        pixels = to_pixels(image)
        training = self.stage == "train"
        draws = draw(self.seed, epoch if training else 0, index, STAGE_NUMBERS[self.stage])
        if self.crop_size is not None:
            centred = not training and self.num_crops is None
            pixels = crop(pixels, self.crop_size, (0.5, 0.5) if centred else draws[:2])
        if self.mirror and training and draws[2] < 0.5:
            pixels = pixels.flip(-1)
        return pixels.float() / 255, label


def draw(seed: int, epoch: int, index: int, stage: int) -> tuple[float, float, float]:
    """Three numbers in [0, 1), a function of the arguments (a counter-based generator).

    References:
        Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (2011): Philox.

    Examples:
        >>> from experiments.data import draw
        >>> draw(0, 2, 7, 0) == draw(0, 2, 7, 0), draw(0, 2, 7, 0) == draw(0, 3, 7, 0)
        (True, False)
    """
    # The lowest word of the counter belongs to the generator: it counts the numbers drawn.
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, stage, index, epoch]))
    top, left, mirror = generator.random(3).tolist()
    return top, left, mirror


def crop(pixels: Tensor, size: int, place: tuple[float, ...]) -> Tensor:
    """A square of `size` pixels; `place` is its top and left, as shares of the free room."""
    if min(pixels.shape[-2:]) < size:
        pixels = transforms.resize(pixels, [size], antialias=True)
    height, width = pixels.shape[-2:]
    top = int(place[0] * (height - size + 1))
    left = int(place[1] * (width - size + 1))
    return pixels[:, top : top + size, left : left + size]


def collate(items: list[tuple[Tensor, int]]) -> Any:
    """A batch, if the images have one size."""
    sizes = {tuple(image.shape[1:]) for image, _ in items}
    if len(sizes) > 1:
        raise ValueError(
            "expected a data.init_args.crop_size where images differ in size, "
            f"got none and {sorted(sizes)}"
        )
    return default_collate(items)


def stack(items: list[tuple[Tensor, int]]) -> list[Tensor]:
    """The images, as a batch if they have one size."""
    images = [image for image, _ in items]
    one_size = len({image.shape for image in images}) == 1
    return [torch.stack(images)] if one_size else images


class ImageData(pl.LightningDataModule):
    """Batches ``(images, labels)``: images (B, 3, H, W), sRGB, float in [0, 1].

    Args:
        name: of `experiments.datasets.SOURCES`, such as ``"Photographs"`` (installed with the
            requirements), or of a dataset of `torchvision.datasets`.
        root: where the data lies. For an image folder: a folder with ``train/`` and, if there are
            such images, ``val/`` and ``test/``.
        download: fetch the data where torchvision can.
        batch_size: images per batch and device.
        num_workers: processes that load; the batches are the same for any number.
        crop_size: side of the square crops; needed where the images' sizes differ.
        train_crops: crops in a training epoch, by default one per image.
        val_crops: crops in validation and in the test, by default one per image, at its centre.
        val_crop_size: their side, by default `crop_size`.
        val_share: of the training images, held out for validation where the data set has no
            validation split of its own; the same images in every run, whatever its seed.
        mirror: mirror every other training image.
        options: further arguments of the dataset's class.
        seed: decides the order and the crops; the command line gives it `seed_everything`.

    Raises:
        ValueError: a number is out of range; later, if there is no such data set.

    Examples:
        >>> from experiments.data import ImageData
        >>> data = ImageData(crop_size=64, train_crops=8, val_crops=4, batch_size=4)
        >>> data.setup("fit")
        >>> images, labels = next(iter(data.train_dataloader()))
        >>> images.shape
        torch.Size([4, 3, 64, 64])
    """

    def __init__(
        self,
        name: str = "Photographs",
        root: str | Path = "data",
        download: bool = False,
        batch_size: int = 32,
        num_workers: int = 0,
        crop_size: int | None = None,
        train_crops: int | None = None,
        val_crops: int | None = None,
        val_crop_size: int | None = None,
        val_share: float = 0.1,
        mirror: bool = False,
        options: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sizes = {
            "batch_size": batch_size,
            "crop_size": crop_size,
            "train_crops": train_crops,
            "val_crops": val_crops,
            "val_crop_size": val_crop_size,
        }
        for size, value in sizes.items():
            if value is not None and value < 1:
                raise ValueError(f"expected {size} >= 1, got {value}")
        if num_workers < 0:
            raise ValueError(f"expected num_workers >= 0, got {num_workers}")
        if not 0 < val_share < 1:
            raise ValueError(f"expected val_share between 0 and 1, got {val_share}")
        self.dataset = name
        self.root = Path(root)
        self.download = download
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.train_crops = train_crops
        self.val_crops = val_crops
        self.crop_size = crop_size
        self.val_crop_size = val_crop_size or crop_size
        self.val_share = val_share
        self.mirror = mirror
        self.options = options
        self.seed = seed
        self.sources: dict[Stage, Source] = {}
        self.crops: dict[Stage, Crops] = {}

    def source(self, stage: Stage, *, download: bool = False) -> Source:
        """The whole images of one split, with their labels; read once.

        Raises:
            MissingSplit: of the test, if the data set has none.
        """
        if stage not in self.sources:
            find = partial(
                find_source, self.dataset, self.root, download=download, options=self.options
            )
            if stage == "test":
                self.sources["test"] = find("test")
            else:
                try:
                    if "val" not in self.sources:
                        self.sources["val"] = find("val")
                    if stage == "train":
                        self.sources["train"] = find("train")
                except MissingSplit:
                    train, val = hold_out(find("train"), self.val_share)
                    self.sources |= {"train": train, "val": val}
        return self.sources[stage]

    def has_test(self) -> bool:
        """Whether the data set has test images; if it has, they are read."""
        try:
            self.source("test")
        except MissingSplit:
            return False
        return True

    def prepare_data(self) -> None:
        if self.download:  # in one process per machine; the others then find the data on the disk
            self.source("train", download=True)
            with suppress(MissingSplit):
                self.source("test", download=True)

    def setup(self, stage: str | None = None) -> None:
        splits: dict[str | None, tuple[Stage, ...]] = {
            "fit": ("train", "val"),
            "validate": ("val",),
            "test": ("test",),
        }
        if stage is None:
            splits[None] = ("train", "val", "test") if self.has_test() else ("train", "val")
        for split in splits[stage]:
            if split not in self.crops:
                training = split == "train"
                self.crops[split] = Crops(
                    self.source(split),
                    split,
                    crop_size=self.crop_size if training else self.val_crop_size,
                    num_crops=self.train_crops if training else self.val_crops,
                    mirror=self.mirror,
                    seed=self.seed,
                )

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test")

    def whole_images(self, max_images: int | None = None) -> Iterator[Tensor]:
        """The images that a training epoch takes, uncropped, each once; a device has its share.

        Args:
            max_images: no more than these, spread evenly.

        Yields:
            An image (3, H, W), or (B, 3, H, W) of one size, float in [0, 1].
        """
        source = self.source("train")
        size: int = len(source)  # type: ignore[arg-type]
        number = min(size, self.train_crops or size, max_images or size)
        rank, devices = self._place()
        batches: DataLoader[Any] = DataLoader(
            Crops(source, "train", num_crops=number),
            batch_size=self.batch_size,
            sampler=[(0, index) for index in range(rank, number, devices)],
            num_workers=self.num_workers,
            collate_fn=stack,
        )
        for images in batches:
            yield from images

    def _place(self) -> tuple[int, int]:
        """This device's number, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, stage: Stage) -> DataLoader[Any]:
        if stage not in self.crops:
            self.setup("test" if stage == "test" else "fit")
        trainer = self.trainer
        rank, devices = self._place()
        sampler = EpochSampler(
            self.crops[stage],
            num_replicas=devices,
            rank=rank,
            shuffle=stage == "train",
            seed=self.seed,
        )
        if trainer:  # in a resumed run the workers start to fetch before Lightning sets this
            epoch = trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
            sampler.set_epoch(epoch)
        return DataLoader(
            self.crops[stage],
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
