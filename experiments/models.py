"""The networks around the bottleneck: a small U-Net, two classifiers, torchvision's by name.

Letters in the comments: B images, C channels, H rows, W columns.
"""

from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

from colorquant_nn.files import write_atomically


class UNet(nn.Module):
    """A small U-Net that adds a learnt change to an image; before training it changes nothing.

    Args:
        channels: features at the full resolution; each halving of the resolution doubles them.
        depth: how often the resolution is halved.

    Returns:
        Of images (B, 3, H, W) the same shape, for any H and W; colours may leave [0, 1] slightly.

    References:
        Ronneberger et al., U-Net: convolutional networks for biomedical image segmentation (2015).

    Examples:
        >>> import torch
        >>> from experiments.models import UNet
        >>> image = torch.rand(1, 3, 30, 33)
        >>> torch.equal(UNet()(image), image)
        True
    """

    def __init__(self, channels: int = 16, depth: int = 2) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(depth + 1)]
        self.stem = two_convolutions(3, widths[0])
        self.down = nn.ModuleList(
            two_convolutions(fine, coarse) for fine, coarse in pairwise(widths)
        )
        self.up = nn.ModuleList(
            two_convolutions(fine + coarse, fine) for coarse, fine in pairwise(reversed(widths))
        )
        self.head = nn.Conv2d(widths[0], 3, kernel_size=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        return image + self.head(self.features(image))  # type: ignore[no-any-return]

    def features(self, image: Tensor) -> Tensor:
        """What the change is read from: `channels` values at each pixel."""
        features = self.stem(image)
        skipped = []
        for block in self.down:
            skipped.append(features)
            features = block(functional.avg_pool2d(features, 2, ceil_mode=True))
        for block in self.up:
            finer = skipped.pop()
            features = functional.interpolate(features, size=finer.shape[-2:], mode="nearest")
            features = block(torch.cat([finer, features], dim=1))
        return features  # type: ignore[no-any-return]


def two_convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3 x 3 convolutions with GroupNorm, which is the same in training and evaluation."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.GroupNorm(num_groups=4, num_channels=out_channels),
            nn.SiLU(),
        ]
    return nn.Sequential(*layers)


class Shortcut(nn.Module):
    """A block's shortcut without parameters, to twice the channels (option A of the paper)."""

    def forward(self, features: Tensor) -> Tensor:
        # Every second pixel, and zeros for the channels that were not there.
        half = features.shape[1] // 2
        return functional.pad(features[:, :, ::2, ::2], (0, 0, 0, 0, half, half))


class ResNet20(nn.Module):
    """The ResNet-20 for CIFAR: three stages of three blocks with 16, 32 and 64 channels.

    Args:
        num_classes: rows of the output.
        checkpoint: a file with a ``state_dict`` to load, or None for random weights.

    Returns:
        Of normalized images (B, 3, H, W) logits (B, num_classes).

    Raises:
        FileNotFoundError: there is no checkpoint at the path.
        ValueError: the file is no checkpoint of this network.

    References:
        He et al., Deep residual learning for image recognition (2016), section 4.2.

    Examples:
        >>> import torch
        >>> from experiments.models import ResNet20
        >>> ResNet20()(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_classes: int = 10, checkpoint: str | Path | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = three_blocks(16, BasicBlock(16, 16))
        self.layer2 = three_blocks(32, BasicBlock(16, 32, 2, Shortcut()))
        self.layer3 = three_blocks(64, BasicBlock(32, 64, 2, Shortcut()))
        self.linear = nn.Linear(64, num_classes)
        if checkpoint is not None:
            load_weights(self, checkpoint)

    def forward(self, image: Tensor) -> Tensor:
        features = functional.relu(self.bn1(self.conv1(image)))
        features = self.layer3(self.layer2(self.layer1(features)))
        return self.linear(features.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def three_blocks(channels: int, first: BasicBlock) -> nn.Sequential:
    """A stage of the ResNet-20; its first block changes the channels and the resolution."""
    return nn.Sequential(first, BasicBlock(channels, channels), BasicBlock(channels, channels))


class SmallVGG(nn.Module):
    """A small VGG: plain 3 x 3 convolutions in pairs, maxima of 2 x 2 between them, no shortcuts.

    Args:
        num_classes: rows of the output.
        checkpoint: a file with a ``state_dict`` to load, or None for random weights.

    Returns:
        Of normalized images (B, 3, H, W) logits (B, num_classes).

    Raises:
        FileNotFoundError: there is no checkpoint at the path.
        ValueError: the file is no checkpoint of this network.

    References:
        Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition
        (2015); Ioffe and Szegedy, Batch normalization (2015).

    Examples:
        >>> import torch
        >>> from experiments.models import SmallVGG
        >>> SmallVGG()(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_classes: int = 10, checkpoint: str | Path | None = None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for in_channels, out_channels in pairwise((3, 32, 64, 96, 128)):
            for channels in (in_channels, out_channels):
                layers += [
                    nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False),
                    nn.BatchNorm2d(out_channels),
                    nn.ReLU(),
                ]
            layers.append(nn.MaxPool2d(2))
        layers[-1] = nn.AdaptiveMaxPool2d(1)
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(128, num_classes)
        if checkpoint is not None:
            load_weights(self, checkpoint)

    def forward(self, image: Tensor) -> Tensor:
        return self.linear(self.features(image).flatten(1))  # type: ignore[no-any-return]


def torchvision_model(
    name: str = "resnet18",
    weights: str | None = "DEFAULT",
    checkpoint: str | Path | None = None,
    num_classes: int | None = None,
) -> nn.Module:
    """A classifier of torchvision by name, with its published weights or those of a file.

    Args:
        name: as `torchvision.models.get_model` takes it.
        weights: the name of published weights (downloaded on first use), or None for random ones.
        checkpoint: a file with a ``state_dict`` to load instead; then give ``weights=None``.
        num_classes: rows of the output, where they are not those of the published weights.

    Returns:
        The network.

    Raises:
        FileNotFoundError: there is no checkpoint at the path.
        ValueError: torchvision has no such model, both `weights` and `checkpoint` are given, or the
            file is no checkpoint of this network.

    Examples:
        >>> from experiments.models import torchvision_model
        >>> torchvision_model("resnet18", weights=None, num_classes=7).fc.out_features
        7
    """
    if weights is not None and checkpoint is not None:
        raise ValueError(f"expected weights=None beside a checkpoint, got weights={weights!r}")
    options = {} if num_classes is None else {"num_classes": num_classes}
    model = torchvision.models.get_model(name, weights=weights, **options)
    if checkpoint is not None:
        load_weights(model, checkpoint)
    return model  # type: ignore[no-any-return]


def save_weights(content: Any, path: str | Path) -> None:
    """Write a checkpoint: whole, or not at all.

    Args:
        content: what `torch.save` takes, such as a dictionary with a ``state_dict``.
        path: of the file; one that is there is replaced.

    Raises:
        ValueError: it cannot be written.
    """
    buffer = BytesIO()
    torch.save(content, buffer)
    write_atomically({path: buffer.getvalue()})


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load the ``state_dict`` in a checkpoint file, or the file's content if it is one itself."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no classifier checkpoint at {Path(path).absolute()}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(content.get("state_dict", content))
    except Exception as error:  # whatever the unpickler and the network stumble over
        name = type(model).__name__
        raise ValueError(
            f"{path}: expected a state_dict of {name}: {type(error).__name__}: {error}"
        ) from error
