"""Colour quantization as torchvision transforms (v2), for data sets and pipelines.

They take what torchvision's own take: tensors ``(..., C, H, W)``, `tv_tensors.Image` and `Video`,
and PIL images, alone or anywhere in a sample, whose masks, boxes and labels pass as they are. Type,
dtype and shape stay, and no gradient passes: inside of a network take `ColorQuantize`. They need
torchvision, which the extra ``torchvision`` brings.

Letters: T frames, C channels (3; 4 with alpha; 1 of grey), H rows, W columns, K colours.
"""

import math
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from colorquant_nn.functional.drawing import check_drawing
from colorquant_nn.functional.fitting import EFFORTS
from colorquant_nn.functional.points import check_count, check_palette
from colorquant_nn.image import apply_palette, match_palette, quantize_frames
from colorquant_nn.names import Dither as DitherName
from colorquant_nn.names import Effort, Space, check_name
from colorquant_nn.palettes import load_palette

try:
    from PIL import Image
    from torchvision import tv_tensors
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional
except ImportError as error:
    raise ImportError(
        "colorquant_nn.transforms needs torchvision: pip install 'colorquant_nn[torchvision]'"
    ) from error

__all__ = ["ApplyPalette", "Dither", "QuantizeColors", "RandomQuantizeColors"]


class PictureTransform(v2.Transform):
    """What draws pictures anew, one after the other; a subclass says how in `draw`."""

    def draw(self, frames: Tensor, params: dict[str, Any]) -> Tensor:
        """Draw a picture (1, C, H, W), or the frames (T, C, H, W) of a video."""
        raise NotImplementedError

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Draw what is a picture; torchvision calls it with each part of a sample."""
        if isinstance(inpt, Image.Image):
            drawn = self._draw_each(functional.pil_to_tensor(_with_channels(inpt)), params)
            return functional.to_pil_image(drawn)
        if not isinstance(inpt, tv_tensors.TVTensor):
            return self._draw_each(inpt, params)
        if not isinstance(inpt, (tv_tensors.Image, tv_tensors.Video)):
            return inpt
        picture = inpt.as_subclass(Tensor)
        frames = isinstance(inpt, tv_tensors.Video)
        return tv_tensors.wrap(self._draw_each(picture, params, frames), like=inpt)

    def _draw_each(self, pictures: Tensor, params: dict[str, Any], video: bool = False) -> Tensor:
        if pictures.ndim < 3 + video or pictures.shape[-3] not in (1, 3, 4):
            raise ValueError(
                f"expected {'a video (..., T, C, H, W)' if video else 'images (..., C, H, W)'} "
                f"of 1, 3 or 4 channels, got {tuple(pictures.shape)}"
            )
        if pictures.numel() == 0:
            return pictures
        leads = pictures.shape[:-3]
        clips = pictures.detach().reshape(-1, leads[-1] if video else 1, *pictures.shape[-3:])
        drawn = torch.stack([self.draw(clip, params) for clip in clips])
        return drawn.reshape(*leads, *drawn.shape[2:])


class QuantizeColors(PictureTransform):
    """Draw each picture in its own best colours, as `quantize_image` does.

    The frames of a video share a palette, so that nothing flickers; those of a batch do not.
    Grey pictures, (1, H, W) or of mode "L", stay grey; of PIL images of mode "P" the colours count.

    Args:
        num_colors: K, at least 1.
        space: see `colorquant_nn.fit_palette`.
        dither: see `colorquant_nn.apply_palette`.
        strength: see `colorquant_nn.apply_palette`.
        effort: see `colorquant_nn.fit_palette`.

    Raises:
        ValueError: for a wrong number or name.
        TypeError: for something else than a whole number.

    Examples:
        >>> import torch
        >>> from torchvision.transforms import v2
        >>> from colorquant_nn.transforms import QuantizeColors
        >>> prepare = v2.Compose([v2.CenterCrop(16), QuantizeColors(4), v2.ToDtype(torch.float32)])
        >>> image = prepare(torch.randint(256, (3, 24, 24), dtype=torch.uint8))
        >>> image.dtype, image.shape, len(image.flatten(1).unique(dim=1).T)
        (torch.float32, torch.Size([3, 16, 16]), 4)
    """

    def __init__(
        self,
        num_colors: int,
        *,
        space: Space = "oklab",
        dither: DitherName = "none",
        strength: float = 1.0,
        effort: Effort = "balanced",
    ) -> None:
        super().__init__()
        self.num_colors: int | tuple[int, int] = check_count(num_colors)
        self.space, self.dither, self.strength, self.effort = space, dither, strength, effort
        check_drawing(space, dither, strength)
        check_name("an effort", effort, EFFORTS)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """How many colours the pictures of one sample get."""
        return {"num_colors": self.num_colors}

    def draw(self, frames: Tensor, params: dict[str, Any]) -> Tensor:
        """Quantize the frames together, to one palette."""
        if params["num_colors"] is None:
            return frames
        channels = frames.shape[1]
        quantized = quantize_frames(
            frames.expand(-1, 3, -1, -1) if channels == 1 else frames,
            params["num_colors"],
            space=self.space,
            dither=self.dither,
            strength=self.strength,
            effort=self.effort,
        )
        return torch.stack([frame.rgb[:channels] for frame in quantized])


class RandomQuantizeColors(QuantizeColors):
    """Now and then draw pictures in a random number of colours: an augmentation.

    The number is drawn evenly on a logarithmic scale, for the error falls as a power of it; all
    pictures of one sample get as many. The random numbers are torch's, as torchvision's are.

    Args:
        num_colors: the least K and the most.
        p: the probability that a sample is quantized at all.
        space: see `QuantizeColors`.
        dither: see `QuantizeColors`.
        strength: see `QuantizeColors`.
        effort: see `QuantizeColors`; an augmentation is in a hurry.

    Raises:
        ValueError: for a wrong number or name.
        TypeError: for something else than whole numbers, or a probability.

    References:
        Gray and Neuhoff 1998, "Quantization": MSE falls as a power of K.

    Examples:
        >>> import torch
        >>> from colorquant_nn.transforms import RandomQuantizeColors
        >>> augment = RandomQuantizeColors((2, 8), p=1.0)
        >>> images = torch.rand(2, 3, 16, 16)
        >>> [len(image.flatten(1).unique(dim=1).T) <= 8 for image in augment(images)]
        [True, True]
    """

    def __init__(
        self,
        num_colors: tuple[int, int] = (2, 64),
        p: float = 0.5,
        *,
        space: Space = "oklab",
        dither: DitherName = "none",
        strength: float = 1.0,
        effort: Effort = "fast",
    ) -> None:
        if not isinstance(num_colors, (tuple, list)) or len(num_colors) != 2:
            raise TypeError(f"expected num_colors as the least and the most, got {num_colors!r}")
        least, most = map(check_count, num_colors)
        if least > most:
            raise ValueError(f"expected num_colors as the least and the most, got {num_colors}")
        if not hasattr(p, "__float__"):
            raise TypeError(f"expected a probability p as a number, got {p!r}")
        if not 0 <= p <= 1:
            raise ValueError(f"expected a probability from 0 to 1, got {p}")
        super().__init__(most, space=space, dither=dither, strength=strength, effort=effort)
        self.num_colors = (least, most)
        self.p = p

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """How many colours the pictures of one sample get: None, or a number."""
        least, most = self.num_colors  # type: ignore[misc]
        applied, place = torch.rand(2).tolist()
        drawn = math.floor(least * ((most + 1) / least) ** place)
        return {"num_colors": min(drawn, most) if applied < self.p else None}


class ApplyPalette(PictureTransform):
    """Draw pictures in the colours of a palette, as `colorquant_nn.apply_palette` does.

    Grey pictures come back with three channels. A palette with alpha is taken as `match_palette`
    takes it: what has no alpha stays opaque.

    Args:
        palette: (K, 3) or (K, 4) sRGB, float in [0, 1] or uint8; or a name or a file, as for
            `colorquant_nn.load_palette`.
        space: see `colorquant_nn.apply_palette`.
        dither: see `colorquant_nn.apply_palette`.
        strength: see `colorquant_nn.apply_palette`.

    Raises:
        ValueError: for a wrong shape, range or name.
        TypeError: for something else than a palette.
        FileNotFoundError: there is no such palette.

    Examples:
        >>> import torch
        >>> from colorquant_nn.transforms import ApplyPalette
        >>> drawn = ApplyPalette("gameboy", dither="ordered")(torch.rand(3, 16, 16))
        >>> len(drawn.flatten(1).unique(dim=1).T)
        4
    """

    def __init__(
        self,
        palette: Tensor | str | PathLike[str],
        *,
        space: Space = "oklab",
        dither: DitherName = "none",
        strength: float = 1.0,
    ) -> None:
        super().__init__()
        colors = load_palette(palette) if isinstance(palette, (str, PathLike)) else palette
        self.palette = check_palette(colors, alpha=True).cpu()
        self.num_colors = len(self.palette)
        self.space, self.dither, self.strength = space, dither, strength
        check_drawing(space, dither, strength)

    def draw(self, frames: Tensor, params: dict[str, Any]) -> Tensor:
        """Draw the frames, one by one."""
        frames = frames.expand(-1, 3, -1, -1) if frames.shape[1] == 1 else frames
        drawn = []
        for frame in frames:
            palette = match_palette(self.palette, frame)
            if len(frame) == 3 and palette.shape[1] == 4:  # a batch has one number of channels
                palette = palette[palette[:, 3] > 0, :3]
            result = apply_palette(
                frame, palette, space=self.space, dither=self.dither, strength=self.strength
            )
            drawn.append(result.rgb)
        return torch.stack(drawn)


class Dither(PictureTransform):
    """Reduce each channel to a few levels, and let neighbours mix to what is between them.

    The levels are evenly spaced from 0 to 1: 2 of them give the eight corners of the sRGB cube, or
    black and white for a grey picture. Alpha stays. To dither to the colours of a palette, or to a
    picture's own best ones, take `ApplyPalette` or `QuantizeColors` with their ``dither``.

    Args:
        levels: of each channel, at least 2.
        dither: see `colorquant_nn.apply_palette`; "none" is plain rounding.
        space: where a level is the nearest: "rgb", in which the levels are evenly spaced, so that
            "none" is plain rounding; "linear", "lab" or "oklab".
        strength: of the dither, 0 to 1.

    Raises:
        ValueError: for a wrong number or name.
        TypeError: for something else than a whole number.

    Examples:
        >>> import torch
        >>> from colorquant_nn.transforms import Dither
        >>> grey = Dither(2)(torch.full((1, 64, 64), 0.25))
        >>> grey.unique(), round(grey.mean().item(), 2)  # sRGB of 0.25 has a twentieth of the light
        (tensor([0., 1.]), 0.05)
    """

    def __init__(
        self,
        levels: int = 2,
        *,
        dither: DitherName = "floyd-steinberg",
        space: Space = "rgb",
        strength: float = 1.0,
    ) -> None:
        super().__init__()
        self.levels = check_count(levels, "levels")
        if self.levels < 2:
            raise ValueError(f"expected levels of at least 2, got {levels}")
        self.dither, self.space, self.strength = dither, space, strength
        check_drawing(space, dither, strength)

    def draw(self, frames: Tensor, params: dict[str, Any]) -> Tensor:
        """Dither each channel of each frame as a grey picture."""
        greys = torch.linspace(0, 1, self.levels)[:, None].expand(-1, 3)
        drawn = frames.clone()
        for frame in drawn:
            for plane in frame[:3]:
                result = apply_palette(
                    plane.expand(3, -1, -1),
                    greys,
                    space=self.space,
                    dither=self.dither,
                    strength=self.strength,
                )
                plane.copy_(result.rgb[0])
        return drawn


def _with_channels(image: Image.Image) -> Image.Image:
    """A PIL image whose values are colours; indices become them."""
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode not in ("L", "RGB", "RGBA"):
        raise ValueError(
            f"expected a PIL image of mode RGB, RGBA, L or P, got {image.mode}; "
            'image.convert("RGB") makes one'
        )
    return image
