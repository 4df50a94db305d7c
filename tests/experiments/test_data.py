"""The data: what it looks like, that it is a function of seed, epoch and index, what is missing."""

import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor

from experiments.data import Crops, ImageData, crop, draw
from experiments.datasets import (
    PHOTOGRAPHS,
    MissingSplit,
    Photographs,
    find_source,
    hold_out,
    to_pixels,
)


def epoch_of(data: ImageData, epoch: int) -> list[tuple[Tensor, Tensor]]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]  # as Lightning does
    return [tuple(batch) for batch in loader]  # type: ignore[misc]


def photos(**options: object) -> ImageData:
    return ImageData(crop_size=24, train_crops=12, val_crops=6, batch_size=5, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_functions_of_seed_and_epoch(num_workers: int) -> None:
    expected = {
        (seed, epoch): epoch_of(photos(seed=seed), epoch) for seed in (0, 1) for epoch in (0, 1)
    }
    assert len({images.sum().item() for run in expected.values() for images, _ in run}) == 12
    for seed in (0, 1):
        data = photos(seed=seed, num_workers=num_workers)
        for epoch in (1, 0):  # in any order
            for batch, same in zip(epoch_of(data, epoch), expected[seed, epoch], strict=True):
                assert torch.equal(batch[0], same[0])
                assert torch.equal(batch[1], same[1])


def test_persistent_workers_follow_the_epoch() -> None:
    loader = photos(num_workers=2).train_dataloader()
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for (images, _), (same, _) in zip(loader, epoch_of(photos(), epoch), strict=True):
            assert torch.equal(images, same)


def test_the_global_random_state_changes_nothing() -> None:
    torch.manual_seed(1)
    first = epoch_of(photos(), 0)
    torch.manual_seed(2)
    for (images, _), (same, _) in zip(first, epoch_of(photos(), 0), strict=True):
        assert torch.equal(images, same)


def test_validation_is_the_same_in_every_epoch_and_not_the_training() -> None:
    data = photos()
    data.setup("fit")
    crops = data.crops["val"]
    assert torch.equal(crops[0, 3][0], crops[7, 3][0])
    assert draw(0, 0, 3, stage=0) != draw(0, 0, 3, stage=1)


def test_every_crop_comes_once_per_epoch_in_an_order_of_the_seed() -> None:
    keys = [list(photos(seed=seed).train_dataloader().sampler) for seed in (0, 0, 1)]
    assert sorted(keys[0]) == [(0, index) for index in range(12)]
    assert keys[0] == keys[1] != keys[2]
    assert list(photos().val_dataloader().sampler) == [(0, index) for index in range(6)]


class TwoDevices:
    """What the data asks of the trainer of one of two devices."""

    world_size = 2
    fit_loop = pl.Trainer(accelerator="cpu", logger=False).fit_loop

    def __init__(self, rank: int) -> None:
        self.global_rank = rank


def test_two_devices_divide_the_epoch() -> None:
    keys: list[object] = []
    for rank in (0, 1):
        data = photos()
        data.trainer = TwoDevices(rank)  # type: ignore[assignment]
        keys += list(data.train_dataloader().sampler)
    assert sorted(keys) == [(0, index) for index in range(12)]  # type: ignore[type-var]


def test_two_devices_divide_the_whole_images_and_see_none_twice() -> None:
    expected = [image / 255 for image in Photographs("train").images]  # five
    for rank, share in ((0, expected[::2]), (1, expected[1::2])):
        data = photos()
        data.trainer = TwoDevices(rank)  # type: ignore[assignment]
        images: list[Tensor] = []
        for some in data.whole_images():
            images += list(some) if some.ndim == 4 else [some]
        assert len(images) == len(share)
        assert all(torch.equal(image, same) for image, same in zip(images, share, strict=True))


def test_images_are_the_photographs_colours() -> None:
    source = Photographs("train")
    image, label = Crops(source, "train")[0, 1]
    assert label == 1
    assert image.dtype == torch.float32
    assert torch.equal((image * 255).round().byte(), source.images[1])


def test_crops_lie_inside_and_reach_the_borders() -> None:
    pixels = torch.arange(30).reshape(1, 5, 6).expand(3, -1, -1).byte()
    assert torch.equal(crop(pixels, 3, (0.0, 0.0)), pixels[:, :3, :3])
    assert torch.equal(crop(pixels, 3, (0.999, 0.999)), pixels[:, 2:, 3:])
    assert torch.equal(crop(pixels, 3, (0.0, 0.999)), pixels[:, :3, 3:])
    assert torch.equal(crop(pixels, 3, (0.5, 0.5)), pixels[:, 1:4, 2:5])


def test_fewer_crops_than_images_are_spread_over_them() -> None:
    source = [(torch.zeros(3, 2, 2, dtype=torch.uint8), label) for label in range(10)]
    crops = Crops(source, "val", num_crops=4)  # type: ignore[arg-type]
    assert [crops[0, index][1] for index in range(len(crops))] == [0, 2, 5, 7]


def test_small_images_are_enlarged_to_the_crop() -> None:
    assert crop(torch.zeros(3, 8, 10, dtype=torch.uint8), 16, (0.5, 0.5)).shape == (3, 16, 16)


def test_mirroring_turns_half_of_the_training_images_and_no_others() -> None:
    ramp = torch.arange(4, dtype=torch.uint8).expand(3, 2, 4)
    source = [(ramp, 0)] * 200
    turned = {
        stage: sum(
            image[0, 0, 0].item() > 0
            for image, _ in (Crops(source, stage, mirror=True)[0, i] for i in range(200))  # type: ignore[arg-type]
        )
        for stage in ("train", "val")
    }
    assert 70 < turned["train"] < 130
    assert turned["val"] == 0


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_pil_images_of_any_mode_become_rgb(mode: str) -> None:
    assert to_pixels(Image.new(mode, (4, 3))).shape == (3, 3, 4)


def test_other_types_of_images_are_refused() -> None:
    with pytest.raises(TypeError, match="uint8 tensor of shape"):
        to_pixels(torch.zeros(1, 4, 4))


def test_photographs_are_divided_and_all_there() -> None:
    train, val = Photographs("train").names, Photographs("val").names
    assert sorted(train + val) == sorted(PHOTOGRAPHS)
    assert not set(train) & set(val)


@pytest.mark.parametrize("splits", [("train", "val", "test"), ("train", "val"), ("train", "test")])
def test_image_folder_judges_each_split_on_its_own_images(
    splits: tuple[str, ...], tmp_path: Path
) -> None:
    for number, split in enumerate(splits):
        for index in range(20):
            folder = tmp_path / split / f"{number}{index:02}"  # a class per image, named after it
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 8), (number, index, 0)).save(folder / "0.png")
    data = ImageData(name="ImageFolder", root=tmp_path)
    data.setup()
    seen = {
        stage: {
            (round(255 * image[0, 0, 0].item()), round(255 * image[1, 0, 0].item()))
            for image, _ in (crops[0, index] for index in range(len(crops)))
        }
        for stage, crops in data.crops.items()
    }
    of_split = {
        split: {(number, index) for index in range(20)} for number, split in enumerate(splits)
    }
    assert data.has_test() == ("test" in splits)
    assert seen.get("test") == of_split.get("test")
    if "val" in splits:
        assert (seen["train"], seen["val"]) == (of_split["train"], of_split["val"])
    else:  # a tenth of the training images, none of the test's
        assert seen["train"] | seen["val"] == of_split["train"]
        assert [len(seen[stage]) for stage in ("train", "val")] == [18, 2]


def test_held_out_images_are_the_same_in_every_run_on_every_device_and_spread() -> None:
    parts = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        data = ImageData(name="FakeData", options={"size": 200}, seed=seed, val_share=0.25)
        data.setup("fit")
        parts.append([data.sources[stage].indices for stage in ("train", "val")])  # type: ignore[attr-defined]
    train, val = parts[0]
    assert parts[1] == [train, val]
    assert sorted(train + val) == list(range(200))
    assert len(val) == 50
    assert val == sorted(val)
    assert all(5 < sum(low <= index < low + 50 for index in val) < 20 for low in (0, 50, 100, 150))


def test_something_is_held_out_and_something_stays() -> None:
    for size, share, expected in ((2, 0.01, 1), (2, 0.99, 1), (10, 0.99, 9), (1000, 0.1, 100)):
        train, val = hold_out(range(size), share)  # type: ignore[arg-type]
        assert (len(train), len(val)) == (size - expected, expected)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two training images or more to hold one out, got 1"):
        hold_out(range(1), 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_shares_that_leave_nothing_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"val_share between 0 and 1, got {share}"):
        ImageData(val_share=share)


def test_photographs_have_no_test_and_the_test_says_so() -> None:
    data = photos()
    assert not data.has_test()
    with pytest.raises(MissingSplit, match="Photographs has no test split of its own"):
        data.setup("test")


def test_whole_images_are_those_that_an_epoch_takes_once_and_uncropped() -> None:
    images = list(ImageData(crop_size=8, train_crops=100).whole_images())
    assert [tuple(x.shape[1:]) for x in images] == [
        tuple(x.shape[1:]) for x in Photographs("train").images
    ]
    options = {"size": 40, "image_size": [3, 4, 4]}
    data = ImageData(name="FakeData", options=options, train_crops=10, batch_size=4, crop_size=2)
    whole = torch.cat(list(data.whole_images()))
    source = data.source("train")
    expected = [to_pixels(source[36 * index // 10][0]) for index in range(10)]
    assert torch.equal((whole * 255).round().byte(), torch.stack(expected))
    assert len(torch.cat(list(data.whole_images(max_images=3)))) == 3


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "nowhere" / "val")):
        ImageData(name="ImageFolder", root=tmp_path / "nowhere").setup("fit")
    (tmp_path / "val").mkdir()
    with pytest.raises(FileNotFoundError, match="one folder of images per class"):
        ImageData(name="ImageFolder", root=tmp_path).setup("validate")
    (tmp_path / "val").rmdir()
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "train")):
        ImageData(name="ImageFolder", root=tmp_path).setup("validate")


@pytest.mark.parametrize(
    "name", ["CIFAR10", "CIFAR100", "STL10", "SVHN", "Flowers102", "OxfordIIITPet", "EuroSAT"]
)
@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_missing_dataset_names_the_path_and_the_way_to_get_it(
    name: str, stage: str, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=f"{name}.*{tmp_path}.*download=true"):
        ImageData(name=name, root=tmp_path).setup(stage)


def test_dataset_that_torchvision_cannot_download_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="by hand"):
        ImageData(name="ImageNet", root=tmp_path).setup("fit")


@pytest.mark.parametrize("name", ["CIFAR11", "wrap_dataset_for_transforms_v2"])
def test_unknown_dataset_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="CIFAR10"):
        ImageData(name=name, root=tmp_path).setup("fit")


PARTS = (("train", 18), ("val", 2))


def test_split_keywords_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins with the signatures that torchvision's datasets have."""

    class Base(list[tuple[Image.Image, int]]):
        def __init__(self, label: int, size: int = 20) -> None:
            super().__init__([(Image.new("RGB", (4, 4)), label + i) for i in range(size)])

    class WithTrain(Base):
        def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
            super().__init__(0 if train else 100)

    class WithSplit(Base):
        def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
            places = {"trainval": 0, "test": 100}
            if split not in places:
                raise ValueError(f"unknown split {split}")
            super().__init__(places[split])

    class WithAll(Base):
        def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
            places = {"train": 0, "test": 100, "valid": 200}
            if split not in places:
                raise ValueError(f"unknown split {split}")
            super().__init__(places[split])

    class Whole(Base):
        def __init__(self, root: str, download: bool = False) -> None:
            super().__init__(0)

    datasets = sys.modules["torchvision.datasets"]
    for stand_in in (WithTrain, WithSplit, WithAll, Whole):
        monkeypatch.setattr(datasets, stand_in.__name__, stand_in, raising=False)
    names = ("WithTrain", "WithSplit", "WithAll", "Whole")
    monkeypatch.setattr(datasets, "__all__", (*datasets.__all__, *names))  # type: ignore[attr-defined]
    for name in ("WithTrain", "WithSplit", "WithAll"):
        for stage, first in (("train", 0), ("test", 100)):
            assert find_source(name, tmp_path, stage)[0][1] == first  # type: ignore[arg-type]
    assert find_source("WithAll", tmp_path, "val")[0][1] == 200
    for name in ("WithTrain", "WithSplit", "Whole"):
        with pytest.raises(MissingSplit, match=f"{name} has no val split"):
            find_source(name, tmp_path, "val")
        data = ImageData(name=name, root=tmp_path)
        data.setup()
        labels = [[data.source(part)[i][1] for i in range(n)] for part, n in PARTS]  # type: ignore[arg-type]
        assert sorted(labels[0] + labels[1]) == list(range(20))
        assert data.has_test() == (name != "Whole")


def test_fake_data_differs_between_the_splits() -> None:
    data = ImageData(name="FakeData", options={"size": 2, "image_size": [3, 8, 8]})
    data.setup()
    assert not torch.equal(data.crops["train"][0, 0][0], data.crops["val"][0, 0][0])


def test_missing_test_images_name_the_way_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"CIFAR10 .test.*{tmp_path}.*download=true"):
        ImageData(name="CIFAR10", root=tmp_path).setup("test")


@pytest.mark.parametrize("name", ["batch_size", "crop_size", "train_crops", "val_crop_size"])
def test_sizes_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} >= 1, got 0"):
        ImageData(**{name: 0})  # type: ignore[arg-type]


def test_each_split_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bool] = []

    class Counted(list[tuple[Image.Image, int]]):
        def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
            super().__init__([(Image.new("RGB", (4, 4)), 0)] * 2)
            read.append(train)

    torchvision_datasets = sys.modules["torchvision.datasets"]
    monkeypatch.setattr(torchvision_datasets, "CIFAR10", Counted)
    data = ImageData(name="CIFAR10", root=tmp_path)
    data.setup("fit")
    data.setup("fit")  # as the reference does
    assert read == [True]  # validation is a part of it
    data.setup("test")
    assert data.has_test()
    assert read == [True, False]
    read.clear()
    data = ImageData(name="CIFAR10", root=tmp_path, download=True)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    assert read == [True, False]


def test_options_and_downloads_that_a_dataset_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"options that CIFAR10 has: .*'trian'"):
        find_source("CIFAR10", tmp_path, "train", options={"trian": True})
    with pytest.raises(ValueError, match=f"FakeData cannot be downloaded; put it under {tmp_path}"):
        find_source("FakeData", tmp_path, "train", download=True)
    with pytest.raises(ValueError, match="Photographs cannot be downloaded"):
        ImageData(download=True).prepare_data()


def test_images_of_several_sizes_need_a_crop_size() -> None:
    with pytest.raises(ValueError, match=r"expected a data\.init_args.crop_size"):
        list(ImageData(batch_size=7).train_dataloader())
