"""How the cost grows with the pixels and with the colours, in the steady state."""

import torch

from colorquant_nn import ColorQuantize
from experiments.benchmark.case import COPY, Case, Options, Run
from experiments.benchmark.suites.assign import MATMUL, copying, matmul, ours
from experiments.benchmark.suites.layer import WARM_UP

LAYER = "training forward + backward"
ASSIGN = "assign"
PIXELS = [128, 256, 512, 1024, 2048]  # side of the square
COLORS = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]


def cases(options: Options) -> list[Case]:
    """Squares of several sizes at K = 256, and a megapixel at several K."""
    if options.quick:
        return [_case("pixels", 16, 4), _case("pixels", 32, 4), _case("colours", 16, 8)]
    pixels = [_case("pixels", side, 256) for side in PIXELS]
    return pixels + [_case("colours", 1024, colors) for colors in COLORS]


def _case(over: str, side: int, colors: int) -> Case:
    def layer() -> Run:
        images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        images.requires_grad_()
        quantizer, gradient = ColorQuantize(colors), torch.ones_like(images)

        def run() -> None:
            images.grad = None
            quantizer(images).backward(gradient)

        for _ in range(WARM_UP):
            run()
        return run

    return Case(
        f"over {over}: {side} x {side}, K={colors}",
        {
            LAYER: layer,
            ASSIGN: lambda: ours(side * side, colors),
            MATMUL: lambda: matmul(side * side, colors),
            COPY: lambda: copying(side * side),
        },
        ours=(LAYER, ASSIGN),
        points=side * side,
        labels={"over": over, "colors": colors},
        budget=1.0,
    )
