"""The layers: a training step of theirs, first and settled, and of a network with one in front."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from colorquant_nn import ColorQuantize, PerImageColorQuantize
from experiments.benchmark.case import COPY, OURS, Case, Options, Run
from experiments.benchmark.suites.assign import copying_of

VQ = "vector-quantize-pytorch"
VQ_KMEANS = f"{VQ}, kmeans_init"
WARM_UP = 40  # batches: ours seeds its palette from the first 32
STARTS = (1, 32)  # steps: those that ours is not settled in
ITERATIONS = 10
SPEEDUPS = {(224, 256): 60.0, (224, 16): 10.0, (32, 64): 25.0}


def cases(options: Options) -> list[Case]:
    """Training steps of the layer, of a ResNet-18 with it, and k-means of each image."""
    if options.quick:
        starts = [_start(2, 16, 4, steps) for steps in STARTS]
        return [_training_step(2, 16, 4), *starts, _per_image(2, 8, 4), _network(2, 32, 4)]
    return [
        _training_step(8, 224, 256),
        _training_step(8, 224, 16),
        _training_step(128, 32, 64),
        *(_start(128, 32, 64, steps) for steps in STARTS),
        _per_image(128, 32, 16),
        _network(32, 224, 64),
    ]


def _images(batch: int, size: int) -> Tensor:
    """Uniform colours: of all images, those that the shortcuts of our kernels help least."""
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def _step(layer: Callable[[Tensor], Tensor], images: Tensor, gradient: Tensor) -> None:
    images.grad = None
    layer(images).backward(gradient)


def _peer(colors: int, kmeans_init: bool = False) -> Callable[[Tensor], Tensor]:
    from vector_quantize_pytorch import VectorQuantize

    layer = VectorQuantize(
        3,
        colors,
        decay=0.99,
        kmeans_init=kmeans_init,
        accept_image_fmap=True,
        commitment_weight=0.0,
    ).train()
    return lambda images: layer(images)[0]  # type: ignore[no-any-return]


def _training_step(batch: int, size: int, colors: int) -> Case:
    def settled(layer: Callable[[Tensor], Tensor], warm_up: int) -> Run:
        images = _images(batch, size).requires_grad_()
        run = partial(_step, layer, images, torch.ones_like(images))
        for _ in range(warm_up):
            run()
        return run

    return Case(
        f"training step, steady state, {batch} x 3 x {size} x {size}, K={colors}",
        {
            OURS: lambda: settled(ColorQuantize(colors), WARM_UP),
            VQ: lambda: settled(_peer(colors), 0),  # all its steps are alike
            COPY: lambda: copying_of(_images(batch, size)),
        },
        points=batch * size * size,
        targets={VQ: SPEEDUPS[size, colors]} if (size, colors) in SPEEDUPS else {},
    )


def _start(batch: int, size: int, colors: int, steps: int) -> Case:
    """What a new layer's first steps cost, each with a batch of its own."""

    def begin(make: Callable[[], Callable[[Tensor], Tensor]]) -> Run:
        images = _images(batch * steps, size)
        batches = [chunk.clone().requires_grad_() for chunk in images.split(batch)]
        gradient = torch.ones_like(batches[0])

        def run() -> None:
            layer = make()
            for chunk in batches:
                _step(layer, chunk, gradient)

        return run

    first = "first training step" if steps == 1 else f"first {steps} training steps"
    return Case(
        f"{first} of a new layer, {batch} x 3 x {size} x {size}, K={colors}",
        {
            OURS: lambda: begin(lambda: ColorQuantize(colors)),
            VQ: lambda: begin(lambda: _peer(colors)),
            VQ_KMEANS: lambda: begin(lambda: _peer(colors, kmeans_init=True)),
        },
        points=steps * batch * size * size,
    )


def _per_image(batch: int, size: int, colors: int) -> Case:
    def ours() -> Run:
        images, layer = _images(batch, size), PerImageColorQuantize(colors, num_iters=ITERATIONS)
        return lambda: layer(images)

    def one_by_one(fit: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Run:
        images = _images(batch, size)

        def run() -> Tensor:
            values = torch.empty_like(images)
            for image, out in zip(images, values, strict=True):
                centers, indices = fit(image.flatten(1).T.contiguous())
                out.copy_(centers[indices].T.reshape(out.shape))
            return values

        return run

    def kornia() -> Run:
        from kornia.contrib import KMeans

        def fit(points: Tensor) -> tuple[Tensor, Tensor]:
            kmeans = KMeans(colors, None, tolerance=1e-12, max_iterations=ITERATIONS, seed=0)
            kmeans.fit(points)
            return kmeans.cluster_centers, kmeans.cluster_assignments

        return one_by_one(fit)

    def fast_pytorch_kmeans() -> Run:
        from fast_pytorch_kmeans import KMeans

        def fit(points: Tensor) -> tuple[Tensor, Tensor]:
            kmeans = KMeans(colors, max_iter=ITERATIONS, tol=0.0)
            indices = kmeans.fit_predict(points)
            return kmeans.centroids, indices

        return one_by_one(fit)

    def copy() -> Run:
        return copying_of(_images(batch, size))

    return Case(
        f"k-means of each image, {batch} x 3 x {size} x {size}, K={colors}",
        {
            OURS: ours,
            "kornia, image by image": kornia,
            "fast-pytorch-kmeans, image by image": fast_pytorch_kmeans,
            COPY: copy,
        },
        points=batch * size * size,
        targets={"kornia, image by image": 50},
    )


def _network(batch: int, size: int, colors: int) -> Case:
    def step(front: nn.Module) -> Run:
        from torchvision.models import resnet18

        torch.manual_seed(0)
        images, labels = _images(batch, size), torch.arange(batch)
        network = nn.Sequential(front, resnet18()).train()
        optimizer = torch.optim.SGD(network.parameters(), 0.01)

        def run() -> None:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()

        for _ in range(WARM_UP):
            front(images)
        return run

    def alone() -> Run:
        images, layer = _images(batch, size), ColorQuantize(colors)
        for _ in range(WARM_UP):
            layer(images)
        return lambda: layer(images)

    with_layer, alone_layer = "ResNet-18 with ColorQuantize", "ColorQuantize alone, forward"
    return Case(
        f"training step of a network, {batch} x 3 x {size} x {size}, K={colors}",
        {
            with_layer: lambda: step(ColorQuantize(colors)),
            "ResNet-18 alone": lambda: step(nn.Identity()),
            alone_layer: alone,
            COPY: lambda: copying_of(_images(batch, size)),
        },
        ours=(with_layer, alone_layer),
        points=batch * size * size,
        targets={"ResNet-18 alone": 1 / 1.03},
        budget=40.0,  # a step varies by more than the target
        least=5,
        together=True,
    )
