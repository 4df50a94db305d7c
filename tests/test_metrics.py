"""The torchmetrics classes: values, reductions, masks, batches and devices."""

import pickle

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image import PeakSignalNoiseRatio

from colorquant_nn import functional
from colorquant_nn.metrics import MEASURES, ImageError, PaletteUsage
from tests.helpers import as_bytes, random

REDUCTIONS = ["pixels", "images"]
FUNCTIONS = {
    "mse": functional.mse,
    "psnr": functional.psnr,
    "ciede2000": functional.mean_ciede2000,
    "ssim": functional.ssim,
}


def pair(count=5, seed=0):
    """Images and others, of very different errors."""
    images = random(count, 3, 14, 12, seed=seed)
    scale = torch.logspace(-2, 0, count).view(-1, 1, 1, 1)
    return images, images + scale * (random(count, 3, 14, 12, seed=seed + 100) - images)


def updated(metric, *batches):
    for batch in batches:
        metric.update(*batch)
    return metric


def computed(metric):
    return {name: value.item() for name, value in metric.compute().items()}


def test_pixels_count_alike_over_all_images():
    images, others = pair()
    found = computed(updated(ImageError(), (images, others)))
    assert list(found) == list(MEASURES)
    for name, function in FUNCTIONS.items():
        assert found[name] == pytest.approx(function(images, others).item(), rel=1e-5), name


def test_images_count_alike_by_their_own_values():
    images, others = pair()
    found = computed(updated(ImageError(reduction="images"), (images, others)))
    for name, function in FUNCTIONS.items():
        own = [function(*each).item() for each in zip(images, others, strict=True)]
        assert found[name] == pytest.approx(sum(own) / len(own), rel=1e-5), name
    pooled = computed(updated(ImageError(["psnr"]), (images, others)))
    assert found["psnr"] > pooled["psnr"] + 5


def test_values_are_those_of_torchmetrics_where_definitions_agree():
    images, others = pair()
    for reduction, options in (("pixels", {}), ("images", {"dim": (1, 2, 3)})):
        found = computed(updated(ImageError(reduction=reduction), (images, others)))
        theirs = PeakSignalNoiseRatio(data_range=1.0, **options)
        assert found["psnr"] == pytest.approx(theirs(others, images).item(), rel=1e-5)
    _, similarity = structural_similarity_index_measure(
        others, images, data_range=1.0, return_full_image=True
    )
    inside = similarity[..., 5:-5, 5:-5].mean()  # they make up pixels at the edges
    assert found["ssim"] == pytest.approx(inside.item(), rel=1e-4)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_batches_of_any_size_add_up(reduction):
    images, others = pair()
    metric = ImageError(reduction=reduction)
    whole = computed(updated(metric, (images, others)))
    parts = updated(ImageError(reduction=reduction), (images[:1], others[:1]))
    step = parts(images[1:], others[1:])
    assert step["mse"].item() == pytest.approx(functional.mse(images[1:], others[1:]).item())
    assert computed(parts) == pytest.approx(whole, rel=1e-5)
    metric.reset()
    assert computed(updated(metric, (images[0], others[0]))) == pytest.approx(
        computed(updated(ImageError(), (images[:1], others[:1])))
    )


def test_images_of_other_sizes_count_by_their_pixels_or_once():
    small, large = (torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)), pair(1)
    errors = torch.tensor([1.0, functional.mse(*large).item()])
    pixels = torch.tensor([64.0, 14 * 12])
    found = computed(updated(ImageError(["mse"]), small, large))
    assert found["mse"] == pytest.approx((errors @ pixels / pixels.sum()).item(), rel=1e-5)
    found = computed(updated(ImageError(["mse"], reduction="images"), small, large))
    assert found["mse"] == pytest.approx(errors.mean().item(), rel=1e-5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_masked_pixels_and_images_do_not_count(reduction):
    images, others = pair()
    mask = torch.ones(5, 14, 12, dtype=torch.bool)
    mask[1, 5:, :4] = False
    mask[3] = False
    kept = [0, 1, 2, 4]
    per_image = {
        name: function(images[kept], others[kept], weights=mask[kept], per_image=True)
        for name, function in FUNCTIONS.items()
    }
    share = mask[kept].sum((1, 2)).float() if reduction == "pixels" else torch.ones(4)
    images[3], others[1, :, 5:, :4] = torch.nan, 9
    found = computed(updated(ImageError(reduction=reduction), (images, others, mask)))
    for name in MEASURES:
        if (name, reduction) == ("psnr", "pixels"):
            continue
        expected = (per_image[name] @ share / share.sum()).item()
        assert found[name] == pytest.approx(expected, rel=1e-5), name
    if reduction == "pixels":
        assert found["psnr"] == pytest.approx(-10 * torch.tensor(found["mse"]).log10().item())


def test_bytes_and_colours_beyond_the_cube_count_as_they_are_shown():
    images, others = (as_bytes(x.clamp(0, 1)) for x in pair())
    expected = computed(updated(ImageError(), (images / 255, others / 255)))
    assert computed(updated(ImageError(), (images, others))) == pytest.approx(expected)
    beyond = (torch.ones(1, 3, 4, 4), torch.full((1, 3, 4, 4), 1.5))
    assert computed(updated(ImageError(["mse"]), beyond)) == {"mse": 0}


def test_many_batches_are_not_rounded_off():
    metric = ImageError(["mse"])
    metric.mse += 1e9
    metric.weight += 1e9
    updated(metric, *[(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))] * 10)
    assert metric.weight.item() == 1e9 + 10


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["error", "usage"])
def test_devices_reduce_to_what_one_has(name, reduction):
    indices = (random(5, 6, 7) * 4).long()

    def make(**options):
        if name == "error":
            return ImageError(reduction=reduction, **options)
        return PaletteUsage(4, reduction=reduction, **options)

    def batch(part):
        return tuple(x[part] for x in pair()) if name == "error" else (indices[part],)

    whole = updated(make(), batch(slice(None)))
    other = updated(make(), batch(slice(0, 1)))
    theirs = iter(other.metric_state.values())
    ours = make(
        dist_sync_fn=lambda state, group: [state, next(theirs)],
        distributed_available_fn=lambda: True,
    )
    updated(ours, batch(slice(1, 5)))
    assert computed(ours) == pytest.approx(computed(whole), rel=1e-5)
    assert next(theirs, None) is None


def test_usage_of_all_pixels_and_of_each_image():
    usage = PaletteUsage(5)
    usage.update(torch.tensor([[0, 0], [1, 4]]))
    usage.update(torch.tensor([1, 4, 4, 4]))
    assert usage.counts.tolist() == [2, 2, 0, 0, 4]
    assert computed(usage) == pytest.approx({"colors_used": 3, "perplexity": 2**1.5})
    usage = PaletteUsage(5, reduction="images")
    usage.update(torch.tensor([[[0, 0], [1, 1]], [[3, 3], [3, 3]]]))
    assert computed(usage) == pytest.approx({"colors_used": 1.5, "perplexity": 1.5})


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_masked_indices_are_not_counted(reduction):
    usage = PaletteUsage(5, reduction=reduction)
    indices = torch.tensor([[[0, 255], [1, 1]], [[255, 255], [255, 255]]])
    usage.update(indices, indices < 5)
    entropy = -(torch.tensor([1 / 3, 2 / 3]) * torch.tensor([1 / 3, 2 / 3]).log2()).sum().item()
    assert computed(usage) == pytest.approx({"colors_used": 2, "perplexity": 2**entropy})


def test_metrics_are_pickled_in_the_middle_of_an_epoch():
    for metric in (updated(ImageError(), pair()), updated(PaletteUsage(4), (torch.arange(4),))):
        assert computed(pickle.loads(pickle.dumps(metric))) == computed(metric)


def test_autocast_rounds_nothing():
    images, others = pair()
    expected = computed(updated(ImageError(), (images, others)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert computed(updated(ImageError(), (images, others))) == expected


def test_what_is_wrong_is_said_and_not_added():
    metric = updated(ImageError(), pair())
    before = computed(metric)
    images, others = pair()
    for wrong, error in (
        ((images, others[:2]), ValueError),
        ((images.int(), others.int()), TypeError),
        ((images, others, torch.ones(14, 12)), ValueError),
        ((images, others, torch.full_like(images[:, 0], -1)), ValueError),
        ((images, others, torch.full_like(images[:, 0], torch.nan)), ValueError),
        ((images.numpy(), others), TypeError),
    ):
        with pytest.raises(error, match="expected"):
            metric.update(*wrong)
        assert computed(metric) == before
    for arguments in ({"reduction": "mean"}, {"measures": ["lpips"]}):
        with pytest.raises(ValueError, match="expected a"):
            ImageError(**arguments)
    for measures in ("mse", None):
        with pytest.raises(TypeError, match=r'as names, such as \["mse"\], got '):
            ImageError(measures)
    with pytest.raises(ValueError, match="expected a reduction of pixels, images, got 'none'"):
        PaletteUsage(4, reduction="none")
    with pytest.raises(TypeError, match="num_colors as a whole number"):
        PaletteUsage(4.0)
    with pytest.raises(TypeError, match="integer indices"):
        PaletteUsage(4).update(images)
    for reduction in ("pixels", "images"):
        usage = updated(PaletteUsage(4, reduction=reduction), (torch.tensor([[0, 3]]),))
        before = computed(usage)
        with pytest.raises(IndexError, match="indices from 0 to 3, got from 0 to 4"):
            usage.update(torch.tensor([[0, 4]]))
        with pytest.raises(ValueError, match="finite and at least 0"):
            usage.update(torch.tensor([[0, 3]]), torch.tensor([[-1, 1]]))
        assert computed(usage) == before
