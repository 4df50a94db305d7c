"""What a torchvision ResNet makes of 16 colours: the layer goes before `Normalize`.

Run ``python -m experiments.examples.classifier``; ``--pretrained`` downloads ImageNet weights.
"""

import argparse
from collections.abc import Sequence

import torch
import torchvision
from torch import nn
from torchvision.transforms import Normalize

from colorquant_nn import ColorQuantize

IMAGENET = Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


def build(layer: ColorQuantize, pretrained: bool = False) -> nn.Sequential:
    """Palette, normalization, ResNet-18; images (B, 3, H, W) in [0, 1] to logits (B, 1000)."""
    weights = torchvision.models.ResNet18_Weights.DEFAULT if pretrained else None
    network = torchvision.models.resnet18(weights=weights)
    return nn.Sequential(layer, IMAGENET, network)


def main(arguments: Sequence[str] | None = None) -> nn.Sequential:
    """Fit the palette, then take one training step through it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--colors", type=int, default=16)
    parser.add_argument("--pretrained", action="store_true")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    layer = ColorQuantize(options.colors, space="oklab")
    model = build(layer, options.pretrained)
    images, labels = torch.rand(4, 3, 64, 64), torch.tensor([0, 1, 2, 3])
    layer.fit(images)  # full k-means; without it, the first training batches would seed
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        result = layer.eval().quantize(images)
    print(f"loss {loss.item():.3f}, MSE of {options.colors} colours {result.mse.item():.5f}")
    return model


if __name__ == "__main__":
    main()
