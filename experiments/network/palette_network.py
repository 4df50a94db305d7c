"""A small network that chooses the colours of each image for whoever looks at it.

Letters: B images, H rows, W columns, N = H W pixels, K colours, C channels of features.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from colorquant_nn import PerImageColorQuantize
from experiments.models import save_weights

SIZES = (2, 4, 8, 16, 32)  # the palettes that it is trained for
SOFTNESS = 2 / 3  # of the assignment behind the gradient, in the image's own mean squared distance


class FewColors(NamedTuple):
    """Images in few colours."""

    values: Tensor
    """(B, 3, H, W), each pixel one of the image's K colours, bit for bit."""
    indices: Tensor
    """(B, H, W) int64."""
    palette: Tensor
    """(B, K, 3), the means of the pixels that have the colour."""


class NeuralColorQuantize(nn.Module):
    """Quantizes every image with K colours of its own, as a network groups its pixels.

    k-means of each image, on pixels that a small U-Net has moved: those are one colour that are
    near each other *there*, and the colour is the mean of what they were. Before training nothing
    is moved, so it begins as `PerImageColorQuantize`; K and the fidelity are said at the call.

    Colours are hard in training and evaluation. The gradient is that of a soft assignment, that of
    a mixture of Gaussians whose variance is that of the image's own clusters, to where pixels are
    moved and to the means.

    Args:
        width: features at half the resolution; twice as many at a quarter.

    Attributes:
        num_features: of the coarse ones that `move` gives beside.

    Shapes:
        (B, 3, H, W) sRGB in [0, 1]; the output is the same.

    Examples:
        >>> import torch
        >>> from experiments.network.palette_network import NeuralColorQuantize
        >>> network = NeuralColorQuantize(width=8)
        >>> few = network(torch.rand(2, 3, 16, 16), num_colors=4).values
        >>> [len(image.flatten(1).T.unique(dim=0)) for image in few]
        [4, 4]
    """

    def __init__(self, width: int = 26) -> None:
        super().__init__()
        self.width = width
        self.num_features = 2 * width
        self.fine = Block(12, width)
        self.coarse = Block(width, 2 * width)
        self.deep = Block(2 * width, 2 * width)
        self.up = Block(3 * width, width, asked=2 + 2 * width)
        self.head = nn.Conv2d(width, 12, kernel_size=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor, num_colors: int, fidelity: float | Tensor = 0.0) -> FewColors:
        """The images in K colours.

        Args:
            images: (B, 3, H, W) in [0, 1].
            num_colors: K, one of `SIZES`.
            fidelity: what counts, 0 for whoever looks to 1 for the squared error; one number, or
                (B,) for each image its own.

        Raises:
            ValueError: for a K that the network is not made for, or images of another shape.
        """
        check(images, num_colors)
        moved, _ = self.move(images, num_colors, fidelity)
        return assign(images, moved, num_colors)

    def quantizer(self, num_colors: int, fidelity: float = 0.0) -> Callable[[Tensor], Tensor]:
        """What gives images (B, 3, H, W) in so many colours, and nothing beside them."""
        return lambda images: self(images, num_colors, fidelity).values

    def move(
        self, images: Tensor, num_colors: int, fidelity: float | Tensor = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Where the pixels are moved to be grouped, (B, 3, H, W), and the coarse features."""
        height, width = images.shape[-2:]
        condition = self._condition(images, num_colors, fidelity)
        fine, coarse = self._features(images, condition)
        both = torch.cat([fine, functional.interpolate(coarse, scale_factor=2.0)], dim=1)
        whole = torch.cat([condition, coarse.mean((2, 3))], dim=1)  # what the image is of
        change = functional.pixel_shuffle(self.head(self.up(both, whole)), 2)
        return images + change[..., :height, :width].float(), coarse

    def coarse_features(
        self, images: Tensor, num_colors: int, fidelity: float | Tensor = 0.0
    ) -> Tensor:
        """What `move` gives beside, alone: (B, `num_features`, H / 4, W / 4), rounded up."""
        return self._features(images, self._condition(images, num_colors, fidelity))[1]

    def _features(self, images: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        padded = functional.pad(images, (0, -width % 4, 0, -height % 4), mode="replicate")
        fine = self.fine(functional.pixel_unshuffle(2 * padded - 1, 2), condition)
        coarse = self.coarse(functional.avg_pool2d(fine, 2), condition)
        return fine, coarse + self.deep(coarse, condition)

    def save(self, path: str | Path) -> None:
        """Write the weights in half precision, two bytes each."""
        half = {name: value.half() for name, value in self.state_dict().items()}
        save_weights({"width": self.width, "state_dict": half}, path)

    @classmethod
    def load(cls, path: str | Path) -> "NeuralColorQuantize":
        """The network of a file that `save` has written, in evaluation mode.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds something else.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no weights of a palette network at {Path(path).absolute()}")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            network = cls(content["width"])
            network.load_state_dict(content["state_dict"])
        except Exception as error:  # whatever the unpickler and the network stumble over
            raise ValueError(
                f"{path}: expected the weights of a palette network, as `save` writes them: "
                f"{type(error).__name__}: {error}"
            ) from error
        return network.eval()

    @staticmethod
    def _condition(images: Tensor, num_colors: int, fidelity: float | Tensor) -> Tensor:
        """(B, 2): the bits of an index around their middle, and the fidelity."""
        bits = images.new_full((len(images),), math.log2(num_colors) - 3)
        return torch.stack([bits, torch.as_tensor(fidelity).to(images).expand(len(images))], dim=1)


class Block(nn.Module):
    """Two 3 x 3 convolutions with GroupNorm, scaled and shifted by what is asked for.

    References:
        Perez et al., FiLM: visual reasoning with a general conditioning layer (2018).
    """

    def __init__(self, in_channels: int, channels: int, asked: int = 2) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.GroupNorm(2, channels) for _ in range(2))
        self.ask = nn.Linear(asked, 2 * channels)
        nn.init.zeros_(self.ask.weight)
        nn.init.zeros_(self.ask.bias)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.ask(condition)[..., None, None].chunk(2, dim=1)
        features = functional.silu(self.norms[0](self.first(features)) * (1 + scale) + shift)
        return functional.silu(self.norms[1](self.second(features)))


def check(images: Tensor, num_colors: int) -> None:
    """Refuse what the network was not made for.

    Raises:
        ValueError: for another K, or images that are not floating point (B, 3, H, W).
    """
    if num_colors not in SIZES:
        raise ValueError(
            f"expected one of {SIZES} colours, which it is trained for, got {num_colors}"
        )
    shape = tuple(images.shape)
    if images.dim() != 4 or shape[1] != 3 or 0 in shape or not images.is_floating_point():
        raise ValueError(f"expected floating point images (B, 3, H, W), got {images.dtype} {shape}")


def assign(images: Tensor, moved: Tensor, num_colors: int) -> FewColors:
    """k-means of where the pixels are, colours that are means of what they were.

    Args:
        images: (B, 3, H, W) in [0, 1].
        moved: the same shape, where pixels are near each other that belong together.
        num_colors: K.

    Returns:
        Hard colours; the gradient, to `moved`, is that of the soft assignment.
    """
    with torch.no_grad():
        limited = moved.clamp(0, 1)
        indices = PerImageColorQuantize(num_colors).quantize(limited).indices
    colors = images.flatten(2).transpose(1, 2)  # (B, N, 3)
    hard = functional.one_hot(indices.flatten(1), num_colors).to(images.dtype)  # (B, N, K)
    counts = hard.sum(1).clamp_min(1)[..., None]  # (B, K, 1)
    if not moved.requires_grad:
        palette = hard.transpose(1, 2) @ colors / counts
        chosen = palette.gather(1, indices.flatten(1)[..., None].expand(-1, -1, 3))
        return FewColors(chosen.transpose(1, 2).view_as(images), indices, palette)
    places = (moved + (limited - moved).detach()).flatten(2).transpose(1, 2)
    centers = hard.transpose(1, 2) @ places / counts
    distances = (
        places.square().sum(-1, keepdim=True)
        - 2 * places @ centers.transpose(1, 2)
        + centers.square().sum(-1)[:, None]
    )
    distances = distances.masked_fill(hard.sum(1)[:, None] == 0, torch.inf)
    spread = (hard * distances.detach().nan_to_num(0, 0, 0)).sum((1, 2)) / colors.shape[1]
    soft = distances.div(-SOFTNESS * spread[:, None, None].clamp_min(1e-5)).softmax(-1)
    shares = hard + soft - soft.detach()
    palette = shares.transpose(1, 2) @ colors / shares.sum(1).clamp_min(1)[..., None]
    values = shares @ palette
    exact = palette.detach().gather(1, indices.flatten(1)[..., None].expand(-1, -1, 3))
    values = exact + (values - values.detach())
    return FewColors(values.transpose(1, 2).reshape(images.shape), indices, palette)
