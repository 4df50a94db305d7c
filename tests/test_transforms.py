"""The torchvision transforms: what they draw, what they leave alone, and where they run."""

import pickle
import warnings

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from colorquant_nn import apply_palette, load_palette, quantize_frames, quantize_image, save_palette
from colorquant_nn.functional.color import rgb_to_linear
from colorquant_nn.transforms import ApplyPalette, Dither, QuantizeColors, RandomQuantizeColors
from tests.helpers import picture, random

GAMEBOY = load_palette("gameboy")
TRANSFORMS = {
    "quantize": QuantizeColors(5, space="oklab"),
    "random": RandomQuantizeColors((5, 5), p=1.0, space="oklab", effort="balanced"),
    "palette": ApplyPalette("gameboy", dither="ordered"),
    "dither": Dither(3),
}


@pytest.fixture(params=TRANSFORMS)
def transform(request):
    return TRANSFORMS[request.param]


def count_colors(image):
    return len(image.flatten(1).unique(dim=1).T)


@pytest.mark.parametrize("image", [picture(0), picture(0) / 255, picture(0, channels=4)])
def test_quantize_colors_is_quantize_image(image):
    for effort in ("fast", "balanced"):
        options = {"space": "oklab", "dither": "atkinson", "strength": 0.7, "effort": effort}
        found = QuantizeColors(6, **options)(image)
        assert found.dtype == image.dtype
        assert torch.equal(found, quantize_image(image, 6, **options).rgb)


def test_apply_palette_is_apply_palette(tmp_path):
    options = {"space": "lab", "dither": "floyd-steinberg", "strength": 0.5}
    image = picture(1)
    expected = apply_palette(image, GAMEBOY, **options).rgb
    save_palette(tmp_path / "four.gpl", GAMEBOY)
    for palette in ("gameboy", GAMEBOY, (GAMEBOY * 255).to(torch.uint8), tmp_path / "four.gpl"):
        assert torch.equal(ApplyPalette(palette, **options)(image), expected)


def test_alpha_of_a_palette_does_not_make_pictures_transparent():
    hole = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]]).float()
    assert ApplyPalette(hole)(picture(0)).shape == (3, 40, 50)
    drawn = ApplyPalette(GAMEBOY)(picture(0, channels=4))
    assert drawn.shape == (4, 40, 50)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.float64])
def test_type_shape_and_content_are_kept_in_any_container(transform, dtype):
    image = picture(2)
    image = image if dtype == torch.uint8 else (image / 255).to(dtype)
    expected = transform(image)
    before = image.clone()
    assert expected.dtype == dtype
    assert expected.shape == image.shape
    assert not torch.equal(expected, image)
    other = image.flip(-1)
    batch = torch.stack([image, other])
    found = transform(batch)
    assert torch.equal(found[0], expected)
    assert torch.equal(found[1], transform(other))
    assert torch.equal(transform(batch[:, None])[:, 0], found)
    wrapped = transform(tv_tensors.Image(image))
    assert type(wrapped) is tv_tensors.Image
    assert torch.equal(wrapped, expected)
    assert torch.equal(image, before)
    for empty in (batch[:0], image[:, :0]):
        assert transform(empty).shape == empty.shape


def test_frames_of_a_video_share_a_palette():
    frames = torch.stack([picture(seed) for seed in range(3)])
    video = QuantizeColors(5)(tv_tensors.Video(frames))
    assert type(video) is tv_tensors.Video
    assert torch.equal(video, torch.stack([frame.rgb for frame in quantize_frames(frames, 5)]))
    assert count_colors(video.movedim(1, 0)) == 5
    videos = QuantizeColors(5)(tv_tensors.Video(torch.stack([frames, frames.flip(0, -1)])))
    assert torch.equal(videos[0], video)
    assert count_colors(QuantizeColors(5)(frames).movedim(1, 0)) > 5


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_pil_images_come_back_as_such(transform, mode):
    image = to_pil_image(picture(3, channels=4 if mode == "RGBA" else 3)).convert(mode)
    colors = image.convert("RGB") if mode == "P" else image
    found = transform(image)
    expected = transform(pil_to_tensor(colors))
    assert isinstance(found, PIL.Image.Image)
    assert found.size == image.size
    assert torch.equal(pil_to_tensor(found), expected)
    grey_stays = mode == "L" and not isinstance(transform, ApplyPalette)
    assert found.mode == {"P": "RGB", "L": "L" if grey_stays else "RGB"}.get(mode, mode)


def test_transparency_of_indexed_pil_images_is_kept():
    image = PIL.Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) % 4, "P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.info["transparency"] = 0
    found = pil_to_tensor(QuantizeColors(4)(image))
    assert torch.equal(found, pil_to_tensor(image.convert("RGBA")))


def test_pil_images_of_other_modes_are_refused_with_the_remedy(transform):
    for mode in ("CMYK", "F", "LA", "1"):
        image = PIL.Image.new(mode, (8, 8))
        with pytest.raises(ValueError, match=rf'got {mode}; image\.convert\("RGB"\)'):
            transform(image)


def test_grey_pictures_stay_grey_but_in_the_colours_of_a_palette():
    grey = picture(4, channels=1)
    found = QuantizeColors(3)(grey)
    assert found.shape == grey.shape
    assert len(found.unique()) == 3
    drawn = ApplyPalette("gameboy")(grey)
    assert torch.equal(drawn, ApplyPalette("gameboy")(grey.expand(3, -1, -1)))


def test_only_pictures_of_a_sample_change(transform):
    image, other = tv_tensors.Image(picture(5)), to_pil_image(picture(6))
    mask = tv_tensors.Mask(torch.randint(2, (40, 50), dtype=torch.uint8))
    boxes = tv_tensors.BoundingBoxes([[1, 2, 30, 20]], format="XYXY", canvas_size=(40, 50))
    label, scores = 3, torch.rand(3, 40, 50)
    sample = {"image": image, "more": [other, (mask, boxes)], "label": label, "scores": scores}
    found = transform(sample)
    assert torch.equal(found["image"], transform(image))
    assert np.array_equal(found["more"][0], transform(other))
    assert found["more"][1][0] is mask
    assert found["more"][1][1] is boxes
    assert found["label"] == 3
    assert found["scores"] is scores  # a tensor beside an image is none: torchvision's rule
    tensor, target = transform(picture(5), scores)
    assert torch.equal(tensor, transform(picture(5)))
    assert target is scores


def test_they_compose_and_are_pickled(transform):
    pipeline = v2.Compose(
        [v2.ToImage(), v2.Resize((24, 20)), transform, v2.ToDtype(torch.float32, scale=True)]
    )
    image = to_pil_image(picture(7))
    found = pickle.loads(pickle.dumps(pipeline))(image)
    assert type(found) is tv_tensors.Image
    assert torch.equal(found, pipeline(image))
    assert found.shape == (3, 24, 20)


def test_their_arguments_are_in_their_repr():
    assert "num_colors=5, space=oklab, dither=none" in repr(TRANSFORMS["quantize"])
    assert "num_colors=(2, 64)" in repr(RandomQuantizeColors())
    assert "p=0.5" in repr(RandomQuantizeColors())
    assert "num_colors=4" in repr(TRANSFORMS["palette"])
    assert "levels=3, dither=floyd-steinberg" in repr(TRANSFORMS["dither"])


def test_random_colours_are_torchs_and_evenly_spread_on_a_logarithmic_scale():
    augment = RandomQuantizeColors((2, 63), p=0.75)
    torch.manual_seed(0)
    drawn = [augment.make_params([])["num_colors"] for _ in range(4000)]
    torch.manual_seed(0)
    assert drawn == [augment.make_params([])["num_colors"] for _ in range(4000)]
    counts = torch.tensor([count for count in drawn if count is not None])
    assert len(counts) / 4000 == pytest.approx(0.75, abs=0.03)
    assert (counts.min(), counts.max()) == (2, 63)
    for low in (2, 4, 8, 16, 32):  # five octaves
        share = ((counts >= low) & (counts < 2 * low)).double().mean().item()
        assert share == pytest.approx(0.2, abs=0.03), low


def test_random_colours_are_as_many_for_a_whole_sample():
    augment = RandomQuantizeColors((2, 40), p=1.0)
    for seed in range(3):
        torch.manual_seed(seed)
        images = [tv_tensors.Image(picture(number)) for number in range(3)]
        counts = {count_colors(image) for image in augment(*images)}
        torch.manual_seed(seed)
        assert counts == {augment.make_params([])["num_colors"]}
    image = picture(0)
    assert torch.equal(RandomQuantizeColors(p=0.0)(image), image)


@pytest.mark.parametrize("dither", ["floyd-steinberg", "atkinson", "ordered", "none"])
@pytest.mark.parametrize("levels", [2, 4, 7])
def test_dither_has_levels_of_each_channel(dither, levels):
    image = picture(8) / 255
    found = Dither(levels, dither=dither)(image)
    grid = torch.linspace(0, 1, levels)
    assert all(set(channel.unique().tolist()) <= set(grid.tolist()) for channel in found)
    if dither == "none":
        assert torch.equal(found, grid[(image * (levels - 1)).round().long()])
        return
    light = rgb_to_linear(torch.stack([image, found]).movedim(1, -1)).movedim(-1, 1)
    coarse = torch.nn.functional.avg_pool2d(light[..., :40, :48], 8)
    assert (coarse[0] - coarse[1]).abs().mean() < 0.15 / (levels - 1)
    for channel in range(3):  # which know nothing of each other
        alone = Dither(levels, dither=dither)(image[channel : channel + 1])
        assert torch.equal(alone[0], found[channel])


@pytest.mark.parametrize("space", ["rgb", "linear"])
def test_dither_keeps_the_light(space):
    light = ((0.5 + 0.055) / 1.055) ** 2.4
    drawn = Dither(2, space=space)(torch.full((1, 64, 64), 0.5))
    assert drawn.mean().item() == pytest.approx(light, abs=0.01)


def test_dither_leaves_alpha_alone():
    image = picture(9, channels=4)
    found = Dither(2)(image)
    assert torch.equal(found[3], image[3])
    assert torch.equal(found[:3], Dither(2)(image[:3]))


class Pictures(Dataset):
    """As many pictures, each in another number of colours."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.transform(picture(index)), index


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_draw_what_the_main_process_draws(transform, context):
    data = Pictures(v2.Compose([transform]))
    expected = torch.stack([data[index][0] for index in range(4)])
    workers = DataLoader(data, batch_size=2, num_workers=2, multiprocessing_context=context)
    assert torch.equal(torch.cat([images for images, _ in workers]), expected)


def test_workers_augment_by_the_seed():
    data = Pictures(RandomQuantizeColors((2, 30), p=1.0))

    def epoch():
        generator = torch.Generator().manual_seed(1)
        return torch.cat([x for x, _ in DataLoader(data, num_workers=2, generator=generator)])

    first = epoch()
    assert torch.equal(first, epoch())
    assert len({count_colors(image) for image in first}) > 2


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: QuantizeColors(0), ValueError, "num_colors of at least 1, got 0"),
        (lambda: QuantizeColors("8"), TypeError, "num_colors as a whole number, got '8'"),
        (lambda: QuantizeColors(4, space="hsv"), ValueError, "colour space of rgb, .* got 'hsv'"),
        (lambda: QuantizeColors(4, effort="most"), ValueError, "effort of fast, .* got 'most'"),
        (lambda: QuantizeColors(4, strength=2), ValueError, "strength from 0 to 1, got 2"),
        (lambda: RandomQuantizeColors(8), TypeError, "least and the most, got 8"),
        (lambda: RandomQuantizeColors((8, 2)), ValueError, r"the most, got \(8, 2\)"),
        (lambda: RandomQuantizeColors(p=1.5), ValueError, "probability from 0 to 1, got 1.5"),
        (lambda: RandomQuantizeColors(p="x"), TypeError, "probability p as a number, got 'x'"),
        (lambda: ApplyPalette("nes2"), FileNotFoundError, "nes2: no such palette; .*gameboy"),
        (lambda: ApplyPalette(torch.ones(3)), ValueError, r"palette \(K, 3\) or .* got \(3,\)"),
        (lambda: ApplyPalette(GAMEBOY, dither="noise"), ValueError, "dither of none, .* 'noise'"),
        (lambda: Dither(1), ValueError, "levels of at least 2, got 1"),
        (lambda: Dither(2.5), TypeError, "levels as a whole number, got 2.5"),
    ],
)
def test_wrong_arguments_are_refused_at_once(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_no_gradient_passes(transform):
    images = (picture(3) / 255).requires_grad_()
    found = transform(images)
    assert not found.requires_grad
    assert torch.equal(found, transform(images.detach()))


def test_floats_of_0_to_255_are_told_of_once():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for seed in range(2):
            Dither(2)(255 * random(3, 8, 8, seed=seed))
    assert len(told) == 1


def test_what_is_no_picture_is_refused(transform):
    with pytest.raises(ValueError, match=r"images \(\.\.\., C, H, W\) of 1, 3 or 4 .* \(2, 8, 8\)"):
        transform(random(2, 8, 8))
    with pytest.raises(ValueError, match=r"a video \(\.\.\., T, C, H, W\) of 1, 3 or 4 channels"):
        transform(tv_tensors.Video(random(3, 5, 8, 8)))
    with pytest.raises(TypeError, match=r"uint8 or floating point, got torch\.int32"):
        transform(torch.zeros(3, 8, 8, dtype=torch.int32))
