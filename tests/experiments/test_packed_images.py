"""Images in few colours as packed indices: the file, the data set, and the study of them."""

import io
import json
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from colorquant_nn import ColorQuantize, PerImageColorQuantize
from experiments.data import ImageData
from experiments.datasets import MissingSplit, find_source
from experiments.figures import markdown_table
from experiments.models import ResNet20
from experiments.network import packed as study
from experiments.network.own import FIDELITIES
from experiments.network.palette_network import SIZES, NeuralColorQuantize
from experiments.network.records import records
from experiments.packed_images import (
    PackedImages,
    bits_for,
    pack_images,
    pack_indices,
    unpack_indices,
)


class Given(NamedTuple):
    """What a quantizer of our own has found."""

    indices: Tensor
    palette: Tensor


def some_images(number: int = 6, height: int = 5, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    shape = (number, 3, height, width)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


def packed_by(num_colors: int = 4, number: int = 6) -> PackedImages:
    labels = [index % 3 for index in range(number)]
    quantize = PerImageColorQuantize(num_colors).quantize
    return pack_images(some_images(number), labels, quantize, ["cat", "dog", "höhle"])


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_images_of_any_size_in_any_number_of_colours_come_back_as_they_were(data: Any) -> None:
    number, height, width = (data.draw(st.integers(1, top)) for top in (4, 6, 9))
    num_colors = data.draw(st.integers(1, 20) | st.sampled_from([128, 200, 256]))
    shared = data.draw(st.booleans())
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))

    def draw(top: int, *shape: int) -> Tensor:
        return torch.randint(top, shape, generator=generator)

    palettes = draw(256, 1 if shared else number, num_colors, 3)
    indices = draw(num_colors, number, height, width)
    given_ = Given(indices, (palettes[0] if shared else palettes) / 255)
    packed = pack_images(
        torch.zeros(number, 3, height, width, dtype=torch.uint8), draw(9, number), lambda _: given_
    )
    assert packed.indices.shape[1] == -(-height * width * packed.bits // 8)
    assert len(packed.palettes) == (1 if shared else number)
    rows = palettes.expand(number, -1, -1)
    expected = torch.stack([p[i] for p, i in zip(rows, indices, strict=True)])
    images, _ = packed.batch(slice(None))
    assert torch.equal(images, expected.permute(0, 3, 1, 2).byte())


@given(st.integers(1, 8), st.integers(1, 40), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_indices_of_any_number_of_bits_come_back(bits: int, pixels: int, seed: int) -> None:
    indices = np.random.default_rng(seed).integers(1 << bits, size=(3, pixels))
    packed = pack_indices(indices, bits)
    assert packed.shape == (3, -(-pixels * bits // 8))
    np.testing.assert_array_equal(unpack_indices(packed, bits, pixels), indices)


@pytest.mark.parametrize("num_colors", [2, 3, 4, 8, 16])
def test_colours_are_those_of_the_layer_in_8_bits_from_dark_to_light(num_colors: int) -> None:
    images = some_images()
    own, shared = PerImageColorQuantize(num_colors), ColorQuantize(num_colors).fit(images).eval()
    for layer in (own, shared):
        packed = pack_images(images, [0] * 6, layer.quantize)  # type: ignore[operator]
        expected = (layer(images / 255) * 255).round().byte()
        assert torch.equal(packed.batch(slice(None))[0], expected)
        luma = packed.palettes @ np.array([299, 587, 114])
        assert (np.diff(luma, axis=1) >= 0).all()
        assert packed.bits == bits_for(num_colors) == int(np.ceil(np.log2(num_colors)))


def test_a_batch_is_its_items_and_counts_from_the_end_too() -> None:
    packed = packed_by()
    images, labels = packed.batch(torch.tensor([4, 0, -1]))
    for place, index in enumerate((4, 0, 5)):
        image, label = packed[index]
        assert torch.equal(images[place], image)
        assert (labels[place], type(label)) == (label, int)
    with pytest.raises(IndexError):
        packed[6]
    assert len(list(packed)) == 6  # type: ignore[call-overload]


def test_a_file_holds_all_of_it_and_a_data_set_fits_a_pickle(tmp_path: Path) -> None:
    packed = packed_by(8)
    packed.save(tmp_path / "train.npz")
    for other in (PackedImages.load(tmp_path / "train.npz"), pickle.loads(pickle.dumps(packed))):
        for name in ("indices", "palettes", "labels"):
            np.testing.assert_array_equal(getattr(other, name), getattr(packed, name))
        assert other.labels.dtype == np.int64
        assert (other.size, other.classes) == ((5, 7), ("cat", "dog", "höhle"))


def test_no_file_is_overwritten_unasked(tmp_path: Path) -> None:
    file = tmp_path / "train.npz"
    packed_by(4).save(file)
    before = file.read_bytes()
    with pytest.raises(ValueError, match="exists"):
        packed_by(2).save(file)
    assert file.read_bytes() == before
    packed_by(2).save(file, replace=True)
    assert PackedImages.load(file).num_colors == 2
    assert [x.name for x in tmp_path.iterdir()] == ["train.npz"]


def test_a_file_that_is_cut_or_changed_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "train.npz"
    packed_by().save(file)
    whole = file.read_bytes()
    for length in range(0, len(whole), 37):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"train\.npz: expected") as caught:
            PackedImages.load(file)
        assert "\n" not in str(caught.value)
    middle = whole.index(b"indices.npy") + 60  # its checksum does not fit any more
    file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    with pytest.raises(ValueError, match=r"train\.npz: expected"):
        PackedImages.load(file)


def arrays_of(file: Path) -> dict[str, Any]:
    with np.load(file) as arrays:
        return dict(arrays)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("format", np.array("something else"), "its format is something else"),
        ("palettes", np.zeros((6, 5, 3), np.uint8), "expected uint8 indices"),
        ("palettes", np.zeros((2, 4, 3), np.uint8), "expected uint8 palettes"),
        ("palettes", np.zeros((6, 4, 3)), "expected uint8 palettes .* got float64"),
        ("palettes", np.zeros((6, 3, 3), np.uint8), "expected indices below 3, got 3"),
        ("indices", np.zeros((6, 8), np.uint8), "expected uint8 indices"),
        ("labels", np.arange(6), "expected labels from 0 to below 3, got 0 to 5"),
        ("labels", np.arange(6.0), "Cannot cast"),
        ("labels", np.arange(0), "expected int64 labels"),
        ("size", np.array([5, 7, 1]), "expected a size"),
        ("size", np.array([-5, -7]), "expected a size"),
        ("indices", None, "indices is not a file in the archive"),
        ("labels", np.array([{}] * 6), "allow_pickle=False"),
    ],
)
def test_a_file_of_other_arrays_is_refused(
    tmp_path: Path, name: str, value: Any, message: str
) -> None:
    file = tmp_path / "train.npz"
    packed_by().save(file)
    arrays = {**arrays_of(file), name: value}
    buffer = io.BytesIO()
    np.savez(buffer, **{key: array for key, array in arrays.items() if array is not None})
    file.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=message) as caught:
        PackedImages.load(file)
    assert str(file) in str(caught.value)


def test_what_does_not_fit_is_not_packed() -> None:
    images = some_images()
    quantize = PerImageColorQuantize(4).quantize
    with pytest.raises(ValueError, match=r"expected images \(N, 3, H, W\) uint8, got .*float32"):
        pack_images(images / 255, [0] * 6, quantize)
    with pytest.raises(ValueError, match="expected uint8 palettes"):
        pack_images(images, [0] * 5, quantize)
    with pytest.raises(TypeError, match="Cannot cast"):
        pack_images(images, [0.5] * 6, quantize)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="expected labels from 0 to below 2, got 0 to 2"):
        pack_images(images, [0, 1, 2] * 2, quantize, ["cat", "dog"])
    indices = torch.zeros(6, 5, 7, dtype=torch.int64)
    for bad, palette, message in (
        (indices + 2, torch.rand(6, 2, 3), "expected indices from 0 to below 2, got 2 to 2"),
        (indices[:, :4], torch.rand(6, 2, 3), r"expected indices \(6, 5, 7\)"),
        (indices, torch.rand(5, 2, 3), "got .* and 5 palettes"),
        (indices, torch.rand(6, 2, 4), r"expected palettes \(B, K, 3\)"),
        (indices, torch.rand(6, 300, 3), r"expected palettes \(B, K, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            pack_images(images, [0] * 6, lambda _, a=bad, b=palette: Given(a, b))  # type: ignore[misc]
    many = some_images(300, 1, 1)
    with pytest.raises(ValueError, match=r"expected one palette \(K, 3\) for all batches"):
        pack_images(many, [0] * 300, lambda x: Given(x[:, 0].long() * 0, x[:1, :, 0, 0]))


def test_it_is_a_source_by_name_with_any_number_of_workers(tmp_path: Path) -> None:
    packed_by(number=40).save(tmp_path / "train.npz")
    packed_by(2).save(tmp_path / "test.npz")
    batches = []
    for workers in (0, 2):
        data = ImageData("PackedImages", tmp_path, batch_size=8, num_workers=workers, mirror=True)
        data.setup("fit")
        batches.append(list(data.train_dataloader()))
        assert sum(len(labels) for _, labels in data.val_dataloader()) == 4  # held out
    assert len(batches[0]) == 5
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    ((images, _),) = data.test_dataloader()
    assert torch.equal((images * 255).round().byte(), packed_by(2).batch(slice(None))[0])


def test_a_folder_without_training_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingSplit, match="has no val split"):
        find_source("PackedImages", tmp_path, "val")
    with pytest.raises(FileNotFoundError, match=r"no packed images at .*train\.npz"):
        find_source("PackedImages", tmp_path, "train")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of two images in each split, and the weights of a network."""
    images = iter(torch.rand(8, 4, 4, 3, generator=torch.Generator().manual_seed(0)))
    for split in ("train", "test"):
        for label in "ab":
            place = tmp_path / "data" / split / label
            place.mkdir(parents=True)
            for number in range(2):
                pixels = (next(images) * 255).byte().numpy()
                picture = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC)
                picture.save(place / f"{number}.png")
    torch.save({"state_dict": ResNet20().state_dict()}, tmp_path / "weights.pt")
    return tmp_path


def study_of(folder: Path, *options: str) -> dict[str, Any]:
    places = {"data": "data", "checkpoint": "weights.pt", "records": "records"}
    arguments = [f"--{name}={folder / place}" for name, place in places.items()]
    study.run([*arguments, *options])
    return records(folder / "records", "packed-")


def test_the_study_measures_each_format_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "QUALITIES", (1, 90))
    found = study_of(folder)
    packed = found["packed-own-04"]
    assert packed["packed_bytes"] == 32 * 32 * 2 / 8 + 12
    assert found["packed-shared-04"]["packed_bytes"] == 32 * 32 * 2 / 8 + 12 / 4
    assert packed["mse"] < found["packed-shared-04"]["mse"]
    for kind in ("own", "shared"):
        runs = [found[f"packed-{kind}-{k:02d}"] for k in study.COLORS]
        assert all(run["mse"] > 0 and run["images"] == 4 for run in runs)
        errors, sizes = ([run[key] for run in runs] for key in ("mse", "packed_bytes"))
        assert errors == sorted(errors, reverse=True)
        assert sizes == sorted(sizes)
    best = found["packed-webp-090"]
    assert best["mse"] < found["packed-webp-001"]["mse"]
    assert found["packed-jpeg-090"]["scan_bytes"] < found["packed-jpeg-090"]["bytes"] - 200
    assert "packed-training-all-seed0" not in found
    assert len(markdown_table(study.rows(found)).splitlines()) == 2 + 1 + 3 + 8
    begun = found | {"packed-network-02": packed | {"kind": "network", "num_colors": 2}}
    assert study.draw(begun) != study.draw(found)
    assert [row["K"] for row in study.equal_rows(found)] == ["2", "4", "8", "16"]
    assert study.draw(found).width > 100
    assert study.training_rows(found) == []
    times = {file: file.stat().st_mtime_ns for file in (folder / "records").iterdir()}
    study_of(folder)
    assert times == {file: file.stat().st_mtime_ns for file in (folder / "records").iterdir()}


def test_equal_bytes_are_the_best_quality_that_fits() -> None:
    found: dict[str, Any] = {
        f"packed-own-{k:02d}": {"bytes": 100.0 * k, "top1": 10.0 * k} for k in study.COLORS
    }
    for quality in (10, 50, 90):
        run = {"format": "jpeg", "quality": quality, "bytes": 9.0 * quality, "top1": quality - 5.0}
        found[f"packed-jpeg-{quality:03d}"] = {**run, "scan_bytes": run["bytes"] - 80}  # type: ignore[operator]
    first, second, *_ = study.equal_rows(found)
    assert first == {
        "packed": "a palette for each image",
        "K": "2",
        "bytes per image": "200",
        "top-1 (%)": "20.00",
        "WebP": "none so small",
        "JPEG": "5.00 (quality 10)",
        "JPEG, tables kept once": "5.00 (quality 10)",
    }
    assert second["JPEG"] == "5.00 (quality 10)"  # 50 has 450 bytes
    assert second["JPEG, tables kept once"] == "45.00 (quality 50)"  # 370 bytes


def test_the_palette_network_packs_at_the_fidelity_that_was_chosen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, few in (("COLORS", (4,)), ("QUALITIES", (1,)), ("LOSSLESS", {})):
        monkeypatch.setattr(study, name, few)
    NeuralColorQuantize(width=8).save(folder / "own-seed0.pt")  # k-means before it is trained
    network = f"--network={folder / 'own-seed0.pt'}"
    with pytest.raises(ValueError, match=r"no own-seed0\.json in .*records: the part `own`"):
        study_of(folder, network)
    best = {f"{size} {f:g}": {"top1": 1.0 - f} for size in SIZES for f in FIDELITIES}
    (folder / "records").mkdir()
    (folder / "records" / "own-seed0.json").write_text(json.dumps({"val": best}))
    found = study_of(folder, network)
    run, kmeans = found["packed-network-04"], found["packed-own-04"]
    assert run["packed_bytes"] == kmeans["packed_bytes"]
    assert run["mse"] == pytest.approx(kmeans["mse"], rel=1e-3)
    assert [row["packed"] for row in study.equal_rows(found)] == [
        study.KINDS[kind] for kind in ("own", "network")
    ]


@pytest.mark.slow
def test_the_study_trains_on_packed_images_if_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, few in (("COLORS", (2,)), ("QUALITIES", (1,)), ("TRAINED", (None, 2))):
        monkeypatch.setattr(study, name, few)
    found = study_of(folder, "--train", "--epochs=1")
    first, second = study.training_rows(found)
    assert (first["learnt from"], second["learnt from"]) == ("all colours", "own palettes, K = 2")
    assert (
        found["packed-training-all-seed0"]["top1"]
        == (found["packed-training-all-seed0"]["original_top1"])
    )


def test_a_quality_is_the_highest_with_no_more_bytes() -> None:
    images = some_images(2, 32, 32)
    at_40 = study.mean_bytes(images, "jpeg", 40)
    assert study.equal_quality(images, "jpeg", at_40) == 40
    assert study.equal_quality(images, "jpeg", 10) is None


def test_the_scan_of_a_jpeg_begins_after_its_tables() -> None:
    file = study.lossy("jpeg", 50).encode(study.pictures(some_images(1, 32, 32))[0])
    scan = file[-study.scan_bytes(file) :]
    assert scan[:2] == bytes([0xFF, 0xDA])  # start of scan
    assert scan[-2:] == bytes([0xFF, 0xD9])  # end of image
    assert bytes([0xFF, 0xDB]) not in scan  # a quantization table
