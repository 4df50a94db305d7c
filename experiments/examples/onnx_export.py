"""Export a fitted layer to ONNX, for images of any size, and run it with onnxruntime.

Run ``python -m experiments.examples.onnx_export palette.onnx``; it needs
``pip install -e ".[experiments,export]"``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from colorquant_nn import ColorQuantize


class Quantizer(nn.Module):
    """What is exported: image in; image in palette colours, and the indices, out."""

    def __init__(self, layer: ColorQuantize) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        result = self.layer.quantize(x)
        return result.values, result.indices


def export(layer: ColorQuantize, path: Path) -> None:
    """Write a layer to an .onnx file; batch, height and width stay free."""
    program = torch.onnx.export(
        Quantizer(layer).eval(),
        (torch.rand(2, 3, 16, 24),),
        input_names=["image"],
        output_names=["values", "indices"],
        dynamic_shapes={"x": {0: Dim("batch"), 2: Dim("height"), 3: Dim("width")}},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(path)


def main(arguments: Sequence[str] | None = None) -> bool:
    """Whether onnxruntime gives the indices that torch gives, at another size."""
    import onnxruntime

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    layer = ColorQuantize(16).fit(torch.rand(8, 3, 32, 32)).eval()
    export(layer, options.path)
    session = onnxruntime.InferenceSession(options.path, providers=["CPUExecutionProvider"])
    image = torch.rand(1, 3, 50, 31)
    _, indices = session.run(None, {"image": image.numpy()})
    same = np.array_equal(indices, layer.encode(image).numpy())
    print(f"{options.path}: onnxruntime gives {'the same' if same else 'OTHER'} indices as torch")
    return same


if __name__ == "__main__":
    main()
