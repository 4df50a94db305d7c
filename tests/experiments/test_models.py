"""The networks around the bottleneck."""

import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.transforms.v2 import Normalize

from experiments import SHARED_DATA
from experiments.data import ImageData
from experiments.models import ResNet20, Shortcut, UNet, torchvision_model

CHECKPOINT = SHARED_DATA / "resnet20-cifar10-jpeg.pt"
needs_checkpoint = pytest.mark.skipif(not CHECKPOINT.exists(), reason=f"needs {CHECKPOINT}")


def test_unet_starts_as_identity_and_learns() -> None:
    unet = UNet(channels=4)
    images = torch.rand(2, 3, 9, 14)
    assert torch.equal(unet(images), images)
    optimizer = torch.optim.SGD(unet.parameters(), lr=0.1)
    for _ in range(2):  # the first step moves the head alone, which starts at zero
        optimizer.zero_grad()
        unet(images).square().sum().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in unet.parameters())
    assert not torch.equal(unet(images), images)


def test_unet_sees_beyond_its_neighbours() -> None:
    unet = UNet(channels=4)
    nn.init.ones_(unet.head.weight)
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    unet(images)[0, 0, 16, 16].backward()
    assert images.grad is not None
    rows = images.grad[0].abs().sum(dim=(0, 2)).nonzero()
    assert rows.max() - rows.min() >= 16


def test_resnet20_has_the_layers_of_the_paper() -> None:
    model = ResNet20()
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) + 1 == 20
    weights = sum(p.numel() for m in (*convolutions, model.linear) for p in m.parameters())
    assert weights == 268_346  # 0.27 M in table 6 of He et al.


def test_shortcut_is_every_second_pixel_and_zeros() -> None:
    features = torch.rand(2, 16, 8, 8)
    out = Shortcut()(features)
    assert out.shape == (2, 32, 4, 4)
    assert torch.equal(out[:, 8:24], features[:, :, ::2, ::2])
    assert out[:, :8].abs().sum() == out[:, 24:].abs().sum() == 0


@needs_checkpoint
def test_resnet20_loads_the_shared_checkpoint() -> None:
    model = ResNet20(checkpoint=CHECKPOINT).eval()
    stored = torch.load(CHECKPOINT, weights_only=True)["state_dict"]
    assert set(model.state_dict()) == set(stored)
    assert torch.equal(
        model.state_dict()["layer3.2.bn2.running_var"], stored["layer3.2.bn2.running_var"]
    )
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.slow
@needs_checkpoint
def test_resnet20_has_its_accuracy_on_the_jpeg_images(tmp_path: Path) -> None:
    with zipfile.ZipFile(SHARED_DATA / "cifar10-jpeg.zip") as archive:
        names = [name for name in archive.namelist() if "/test/" in name]
        archive.extractall(tmp_path, names)
    data = ImageData(name="ImageFolder", root=tmp_path / "cifar10-jpeg", batch_size=500)
    data.setup("test")
    normalize = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    model = nn.Sequential(normalize, ResNet20(checkpoint=CHECKPOINT)).eval()
    with torch.no_grad():
        right = sum(
            (model(images).argmax(1) == labels).sum().item()
            for images, labels in data.test_dataloader()
        )
    expected = torch.load(CHECKPOINT, weights_only=True)["test_top1"]
    assert 100 * right / 10_000 == pytest.approx(expected, abs=0.05)  # rounding of other machines


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "none.pt")):
        ResNet20(checkpoint=tmp_path / "none.pt")


@pytest.mark.parametrize("content", [{"state_dict": {"a": torch.ones(1)}}, [1], b"no checkpoint"])
def test_a_file_that_is_no_checkpoint_of_the_network_is_named(
    content: object, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=f"{file}: expected a state_dict of ResNet20"):
        ResNet20(checkpoint=file)


def test_torchvision_model_by_name_and_from_a_file(tmp_path: Path) -> None:
    stored = resnet18(num_classes=3).state_dict()
    for name, content in (("plain", stored), ("wrapped", {"state_dict": stored, "epoch": 1})):
        torch.save(content, tmp_path / f"{name}.pt")
        model = torchvision_model(
            "resnet18", weights=None, checkpoint=tmp_path / f"{name}.pt", num_classes=3
        )
        assert torch.equal(model.state_dict()["fc.weight"], stored["fc.weight"])


def test_weights_and_checkpoint_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="weights=None beside a checkpoint"):
        torchvision_model("resnet18", weights="DEFAULT", checkpoint=tmp_path / "a.pt")
