"""Palettes of pictures: how good, how fast; the error is in sRGB, where all of them measure."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from colorquant_nn import fit_palette, quantize_image, within_cluster_sum_of_squares
from colorquant_nn.names import Effort
from experiments.benchmark.case import Case, Options, Run
from experiments.benchmark.suites.pictures import load, names

ONE_START = "scikit-learn KMeans, 1 start"
TEN_STARTS = "scikit-learn KMeans, best of 10, unique colours"
LIBIMAGEQUANT = "libimagequant"
WARM_UP = 64  # side of the corner that every method sees first
Palette = np.ndarray[Any, np.dtype[np.float64]]
Method = Callable[[Tensor, int], Callable[[], Palette]]  # what it takes in is made beforehand


def cases(options: Options) -> list[Case]:
    """Every picture at several K."""
    methods = dict(METHODS)
    if not options.slow:
        del methods[TEN_STARTS]
    counts = (4,) if options.quick else (16, 64, 256)
    return [
        Case(
            f"{Path(name).stem}, K={colors}",
            {
                method: partial(_prepare, find, name, colors, options)
                for method, find in methods.items()
            },
            ours=tuple(method for method in methods if method.startswith("ours")),
            judge=partial(_error, name, options),
            labels={"picture": Path(name).stem, "colors": colors},
            budget=0.5,
            least=1,
            most=5,
            once=True,
        )
        for name in names(options)
        for colors in counts
    ]


def _prepare(find: Method, name: str, colors: int, options: Options) -> Run:
    image = load(name, options.quick)
    find(image[:, :WARM_UP, :WARM_UP].contiguous(), colors)()
    return find(image, colors)


def mse(images: Tensor, palette: Any) -> float:
    """Squared error summed over the channels per pixel, in 8-bit units, as the literature has it.

    It is the palette that is judged: every pixel counts with its nearest colour.

    Args:
        images: (3, H, W) or (B, 3, H, W) uint8.
        palette: (K, 3) array in 8-bit units.

    Returns:
        The mean over the pixels.
    """
    colors = torch.from_numpy(np.clip(palette / 255, 0, 1)).float()
    pixels = images.numel() / 3
    return float(within_cluster_sum_of_squares(images, colors, space="rgb")) * 255**2 / pixels


def _error(name: str, options: Options, palette: Palette) -> Mapping[str, float]:
    return {"mse": mse(load(name, options.quick), palette)}


def _ours(effort: Effort, image: Tensor, colors: int) -> Callable[[], Palette]:
    return lambda: fit_palette(image, colors, space="rgb", effort=effort).double().numpy() * 255


def ours_quantized(image: Tensor, colors: int) -> Callable[[], Palette]:
    """The palette and the picture."""
    return lambda: quantize_image(image, colors, space="rgb").palette.double().numpy() * 255


def _rows(image: Tensor) -> Any:
    """(N, 3) float32 in 8-bit units."""
    return np.ascontiguousarray(image.flatten(1).T.numpy().astype(np.float32))


def _pillow(refine: int, image: Tensor, colors: int) -> Callable[[], Palette]:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image.movedim(0, -1).numpy()))

    def find() -> Palette:
        found = picture.quantize(colors, Image.Quantize.MEDIANCUT, kmeans=refine).getpalette()
        return np.array(found, np.float64).reshape(-1, 3)[:colors]

    return find


def libimagequant(image: Tensor, colors: int) -> Callable[[], Palette]:
    """Its palette and its picture, without dither."""
    draw = draw_with_libimagequant(image, colors, 0.0)
    return lambda: draw()[1][:colors].astype(np.float64)


def draw_with_libimagequant(
    image: Tensor, colors: int, dither: float
) -> Callable[[], tuple[Any, Any]]:
    """Its indices (H, W) and its palette (K, C), both uint8, of a picture with alpha or without."""
    import imagequant

    channels, height, width = image.shape
    pixels = image if channels == 4 else torch.cat([image, torch.full_like(image[:1], 255)])
    rgba = pixels.movedim(0, -1).numpy().tobytes()

    def draw() -> tuple[Any, Any]:
        indices, found = imagequant.quantize_raw_rgba_bytes(
            rgba, width, height, dithering_level=dither, max_colors=colors
        )
        palette = np.array(found, np.uint8).reshape(-1, 4)[:, :channels]
        return np.frombuffer(indices, np.uint8).reshape(height, width), palette

    return draw


def _opencv(image: Tensor, colors: int) -> Callable[[], Palette]:
    import cv2

    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    points, start = _rows(image), None

    def find() -> Palette:
        cv2.setRNGSeed(0)
        found = cv2.kmeans(points, colors, start, stop, 1, cv2.KMEANS_PP_CENTERS)[2]  # type: ignore
        return np.asarray(found, np.float64)

    return find


def _faiss(image: Tensor, colors: int) -> Callable[[], Palette]:
    import faiss

    points = _rows(image)

    def find() -> Palette:
        kmeans = faiss.Kmeans(3, colors, niter=25, seed=0, max_points_per_centroid=len(points))
        kmeans.train(points)
        return np.asarray(kmeans.centroids, np.float64)

    return find


def _scikit_learn(image: Tensor, colors: int) -> Callable[[], Palette]:
    from sklearn.cluster import KMeans

    points = _rows(image)
    kmeans = KMeans(colors, n_init=1, random_state=0)
    return lambda: np.asarray(kmeans.fit(points).cluster_centers_, np.float64)


def _scikit_learn_ten(image: Tensor, colors: int) -> Callable[[], Palette]:
    from sklearn.cluster import KMeans

    unique, counts = np.unique(_rows(image), axis=0, return_counts=True)
    weights = counts.astype(np.float32)
    kmeans = KMeans(min(colors, len(unique)), n_init=10, random_state=0)
    return lambda: np.asarray(kmeans.fit(unique, None, weights).cluster_centers_, np.float64)


METHODS: dict[str, Method] = {
    "Pillow median cut": partial(_pillow, 0),
    "Pillow median cut, kmeans=1": partial(_pillow, 1),
    LIBIMAGEQUANT: libimagequant,
    "OpenCV kmeans": _opencv,
    "faiss Kmeans": _faiss,
    ONE_START: _scikit_learn,
    TEN_STARTS: _scikit_learn_ten,
    "ours, fast": partial(_ours, "fast"),
    "ours, balanced": partial(_ours, "balanced"),
    "ours, best": partial(_ours, "best"),
    "ours, quantize_image": ours_quantized,
}
