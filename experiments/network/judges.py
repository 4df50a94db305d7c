"""The data and the classifiers that judge what is left of images in few colours.

Letters: B images, H rows, W columns.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torchvision.transforms.v2 import Normalize

from colorquant_nn.functional import eye_error
from experiments.data import ImageData
from experiments.models import ResNet20

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # what the ResNet-20 was trained with
NUM_CLASSES = 10


class FrozenClassifier(nn.Module):
    """A trained classifier that stays as it is: images (B, 3, H, W) in [0, 1] to logits.

    Its normalizations are folded into the convolutions. `forward` is exact; `fast`, for the
    gradients of a training, computes in bfloat16 (on a CPU with such units in a third of the time).

    Args:
        classifier: normalized images to logits.
        compiled: whether `fast` is compiled, which takes half a minute and saves a third.

    Examples:
        >>> import torch
        >>> from experiments.models import ResNet20
        >>> from experiments.network.judges import FrozenClassifier
        >>> FrozenClassifier(ResNet20())(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, classifier: nn.Module, compiled: bool = False) -> None:
        super().__init__()
        folded = fuse(classifier.eval()).requires_grad_(False)
        self.network = folded.to(memory_format=torch.channels_last)  # almost twice as fast
        self.normalize = Normalize(MEAN, STD)
        forward = self.network.forward  # not the module, which would be in the state twice
        self._fast = torch.compile(forward) if compiled else forward

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self._prepare(images))  # type: ignore[no-any-return]

    def fast(self, images: Tensor) -> Tensor:
        """The logits to three digits, for the gradient."""
        with torch.autocast(images.device.type, torch.bfloat16):
            return self._fast(self._prepare(images)).float()  # type: ignore[no-any-return]

    def _prepare(self, images: Tensor) -> Tensor:
        normalized: Tensor = self.normalize(images)
        return normalized.contiguous(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "FrozenClassifier":
        return super().train(False)


def load_judge(checkpoint: str | Path, compiled: bool = False) -> FrozenClassifier:
    """The ResNet-20 of a checkpoint, frozen.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not of a ResNet-20.
    """
    return FrozenClassifier(ResNet20(checkpoint=checkpoint), compiled)


def load_images(root: str | Path, seed: int = 0, batch_size: int = 128) -> ImageData:
    """CIFAR-10 in memory: training without a tenth for validation, mirrored half the time.

    Args:
        root: a folder with ``train/`` and ``test/``, each with a folder per class.
        seed: of the order of the training images.
        batch_size: images in a batch.

    Raises:
        FileNotFoundError: as `experiments.datasets.image_folder`.
        MissingSplit: there are no test images.
    """
    data = ImageData("LoadedFolder", root, batch_size=batch_size, mirror=True, seed=seed)
    data.setup("fit")
    data.source("test")  # what is missing is missed now, not after a training
    return data


def reorder(data: ImageData, seed: int) -> None:
    """The same images, in memory as they are, in the order and mirrored as another seed has it."""
    data.seed = seed
    data.crops.clear()  # they know the seed


@torch.no_grad()
def top1(batches: Iterable[tuple[Tensor, Tensor]], judge: Callable[[Tensor], Tensor]) -> float:
    """Percent of the images, in few colours or not, that a classifier knows.

    Args:
        batches: images (B, 3, H, W) in [0, 1], and labels (B,).
        judge: images to logits.
    """
    hits = [judge(images).argmax(1) == labels for images, labels in batches]
    return 100 * torch.cat(hits).float().mean().item()


@torch.no_grad()
def accuracy(
    batches: Iterable[tuple[Tensor, Tensor]],
    judge: Callable[[Tensor], Tensor],
    quantize: Callable[[Tensor], Tensor],
) -> dict[str, float]:
    """What is left: top-1 in percent, MSE and eye error of images in few colours.

    Args:
        batches: images (B, 3, H, W) in [0, 1], and labels (B,).
        judge: images to logits.
        quantize: images to images of few colours.

    Returns:
        ``top1``, ``mse`` (in [0, 1] units) and ``eye_error`` (mean distance in OKLab x 100).
    """
    correct, count = 0, 0
    mse, eye = 0.0, 0.0
    for images, labels in batches:
        few = quantize(images)
        correct += int((judge(few).argmax(1) == labels).sum())
        mse += nn.functional.mse_loss(few, images).item() * len(images)
        eye += eye_error(few, images, per_image=True).sum().item()
        count += len(images)
    return {"top1": 100 * correct / count, "mse": mse / count, "eye_error": eye / count}
