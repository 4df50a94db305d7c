import numpy as np
import pytest
import scipy.ndimage
import skimage.color
import skimage.metrics
import torch

from colorquant_nn.functional import metrics
from tests import oracles
from tests.helpers import random

# Table 1 of Sharma, Wu, Dalal 2005: two L*a*b* colours and their difference.
SHARMA = [
    (50.0000, 2.6772, -79.7751, 50.0000, 0.0000, -82.7485, 2.0425),
    (50.0000, 3.1571, -77.2803, 50.0000, 0.0000, -82.7485, 2.8615),
    (50.0000, 2.8361, -74.0200, 50.0000, 0.0000, -82.7485, 3.4412),
    (50.0000, -1.3802, -84.2814, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, -1.1848, -84.8006, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, -0.9009, -85.5211, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, 0.0000, 0.0000, 50.0000, -1.0000, 2.0000, 2.3669),
    (50.0000, -1.0000, 2.0000, 50.0000, 0.0000, 0.0000, 2.3669),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0009, 7.1792),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0010, 7.1792),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0011, 7.2195),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0012, 7.2195),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0009, -2.4900, 4.8045),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0010, -2.4900, 4.8045),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0011, -2.4900, 4.7461),
    (50.0000, 2.5000, 0.0000, 50.0000, 0.0000, -2.5000, 4.3065),
    (50.0000, 2.5000, 0.0000, 73.0000, 25.0000, -18.0000, 27.1492),
    (50.0000, 2.5000, 0.0000, 61.0000, -5.0000, 29.0000, 22.8977),
    (50.0000, 2.5000, 0.0000, 56.0000, -27.0000, -3.0000, 31.9030),
    (50.0000, 2.5000, 0.0000, 58.0000, 24.0000, 15.0000, 19.4535),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.1736, 0.5854, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.2972, 0.0000, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 1.8634, 0.5757, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.2592, 0.3350, 1.0000),
    (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
    (63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630),
    (61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731),
    (35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645),
    (22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373),
    (36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146),
    (90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441),
    (90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381),
    (6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377),
    (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
]


def pictures(*shape):
    """A smooth picture and a noisy one."""
    image = random(*shape[:-2], 4, 4)
    image = torch.nn.functional.interpolate(
        image.reshape(-1, 3, 4, 4), shape[-2:], mode="bicubic"
    ).clamp(0, 1)
    noisy = (image + 0.2 * (random(*image.shape, seed=1) - 0.5)).clamp(0, 1)
    return image.reshape(shape), noisy.reshape(shape)


MEASURES = [
    metrics.mse,
    metrics.psnr,
    metrics.squared_error_8bit,
    metrics.mean_ciede2000,
    metrics.ssim,
]


def test_mse_is_that_of_torch():
    image, other = random(2, 3, 5, 7), random(2, 3, 5, 7, seed=1)
    expected = torch.nn.functional.mse_loss(image, other)
    torch.testing.assert_close(metrics.mse(image, other), expected)
    image.requires_grad_()
    (grad,) = torch.autograd.grad(metrics.mse(image, other), image)
    torch.testing.assert_close(grad, 2 * (image.detach() - other) / image.numel())


def test_psnr():
    image, other = pictures(3, 20, 30)
    expected = skimage.metrics.peak_signal_noise_ratio(
        image.double().numpy(), other.double().numpy(), data_range=1
    )
    assert metrics.psnr(image, other).item() == pytest.approx(expected, abs=1e-4)
    assert metrics.psnr(image, image).item() == torch.inf
    assert metrics.mse_to_psnr(metrics.mse(image, other)) == metrics.psnr(image, other)


def test_the_weighted_error_is_that_of_the_repeated_pixels():
    colors, other = random(20, 4), random(20, 4, seed=1)
    weights = torch.arange(20)
    repeated = [part.repeat_interleave(weights, 0) for part in (colors, other)]
    expected = metrics.mse(*(part.double() for part in repeated))
    torch.testing.assert_close(
        metrics.weighted_mse(colors, other, weights), expected, rtol=1e-6, atol=0
    )


def test_squared_error_8bit():
    image = torch.tensor([10, 20, 30], dtype=torch.uint8).reshape(3, 1, 1).expand(3, 4, 5)
    other = torch.tensor([11, 18, 33], dtype=torch.uint8).reshape(3, 1, 1).expand(3, 4, 5)
    assert metrics.squared_error_8bit(image, other).item() == pytest.approx(1 + 4 + 9, rel=1e-5)


@pytest.mark.parametrize("chunk", [1 << 18, 100])
@pytest.mark.parametrize("metric", MEASURES)
def test_each_image_has_a_value_of_its_own(monkeypatch, metric, chunk):
    monkeypatch.setattr(metrics, "CHUNK_PIXELS", chunk)
    images, others = pictures(2, 3, 3, 14, 17)
    found = metric(images, others, per_image=True)
    assert found.shape == (2, 3)
    expected = [metric(*pair) for pair in zip(images[1], others[1], strict=True)]
    torch.testing.assert_close(found[1], torch.stack(expected))
    weights = random(2, 3, 14, 17, seed=2)
    found = metric(images, others, weights=weights, per_image=True)
    torch.testing.assert_close(
        found[0, 2], metric(images[0, 2], others[0, 2], weights=weights[0, 2])
    )
    assert metric(images[:0], others[:0], per_image=True).shape == (0, 3)


@pytest.mark.parametrize("chunk", [1 << 18, 100])
@pytest.mark.parametrize("metric", MEASURES)
def test_equal_weights_change_nothing(monkeypatch, metric, chunk):
    monkeypatch.setattr(metrics, "CHUNK_PIXELS", chunk)
    image, other = pictures(2, 3, 14, 17)
    expected = metric(image, other)
    for weights in (torch.ones(2, 14, 17, dtype=torch.bool), torch.full((2, 14, 17), 0.3)):
        torch.testing.assert_close(metric(image, other, weights=weights), expected)


@pytest.mark.parametrize("metric", MEASURES)
def test_masked_pixels_do_not_count_whatever_is_in_them(metric):
    image, other = pictures(2, 3, 20, 24)
    mask = random(2, 20, 24, seed=3) < 0.6
    expected = metric(image, other, weights=mask)
    hidden = ~mask[:, None].expand_as(image)
    image, other = image.masked_fill(hidden, torch.nan), other.masked_fill(hidden, 17)
    assert expected.isfinite()
    nothing = metric(image, other, weights=torch.zeros(2, 20, 24), per_image=True)
    assert nothing.isnan().all()
    image.requires_grad_()
    found = metric(image, other, weights=mask)
    assert torch.equal(found, expected)
    if metric is metrics.mean_ciede2000:  # for judging alone: it has a corner at equal colours
        return
    (grad,) = torch.autograd.grad(found, image)
    assert grad.isfinite().all()
    assert (grad[hidden] == 0).all()


@pytest.mark.parametrize("metric", [m for m in MEASURES if m is not metrics.ssim])
def test_a_weight_is_that_many_pixels(metric):
    image, other = pictures(3, 12, 15)
    weights = torch.arange(12 * 15).reshape(12, 15) % 4
    found = metric(image, other, weights=weights)
    repeated = [
        x.flatten(1).repeat_interleave(weights.flatten(), 1)[:, None] for x in (image, other)
    ]
    torch.testing.assert_close(found, metric(*repeated))


def test_weighted_ssim_is_that_of_weighted_windows():
    image, other = (x.double() for x in pictures(3, 13, 14))
    weights = random(13, 14, seed=4).double() * (random(13, 14, seed=5) < 0.5)
    window = torch.exp(-(torch.arange(-5, 6).double() ** 2) / (2 * 1.5**2))
    window = window[:, None] * window
    total = 0.0
    for channel in range(3):
        for row in range(13 - 10):
            for column in range(14 - 10):
                place = (slice(row, row + 11), slice(column, column + 11))
                share = window * weights[place]
                share = share / share.sum()
                x, y = image[channel][place], other[channel][place]
                mean_x, mean_y = (share * x).sum(), (share * y).sum()
                variance = (share * (x - mean_x) ** 2).sum() + (share * (y - mean_y) ** 2).sum()
                covariance = (share * (x - mean_x) * (y - mean_y)).sum()
                similarity = (2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)
                similarity /= (mean_x**2 + mean_y**2 + 1e-4) * (variance + 9e-4)
                total += similarity.item() * weights[row + 5, column + 5].item()
    expected = total / (3 * weights[5:8, 5:9].sum().item())
    assert metrics.ssim(image, other, weights=weights).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", MEASURES)
def test_weights_are_of_the_images_size(metric):
    image = random(2, 3, 12, 12)
    with pytest.raises(ValueError, match=r"size \(2, 12, 12\), got \(12, 12\)"):
        metric(image, image, weights=torch.ones(12, 12))
    with pytest.raises(TypeError, match=r"weights as a tensor \(2, 12, 12\), got ndarray"):
        metric(image, image, weights=np.ones((2, 12, 12)))
    with pytest.raises(ValueError, match=r"\(\.\.\., 3, H, W\), got \(12, 12\)"):
        metric(image[0, 0], image[0, 0], per_image=True)


@pytest.mark.parametrize("metric", MEASURES)
def test_pictures_of_any_kind(metric):
    image, other = ((p * 255).round().to(torch.uint8) for p in pictures(2, 3, 16, 18))
    expected = metric(image / 255, other / 255)
    assert expected.shape == ()
    assert expected.dtype == torch.float32
    torch.testing.assert_close(metric(image, other), expected)
    torch.testing.assert_close(metric(image, other / 255), expected)
    exact = metric(image.double() / 255, other.double() / 255)
    torch.testing.assert_close(exact.float(), expected, rtol=1e-4, atol=1e-5)
    half = metric((image / 255).half(), (other / 255).half())
    torch.testing.assert_close(half, expected, rtol=0.02, atol=0.01)
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3, 16, 18\) and \(3, 16, 18\)"):
        metric(image, other[0])
    with pytest.raises(TypeError, match=r"uint8 or floating point, got torch\.int32"):
        metric(image.int(), other.int())
    with pytest.raises(TypeError, match=r"got ndarray; torch\.from_numpy"):
        metric(image, other.numpy())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 6e-5), (torch.float32, 5e-4)])
def test_ciede2000_of_the_published_pairs(dtype, tolerance):
    table = torch.tensor(SHARMA, dtype=torch.float64)
    assert len(table) == 34
    colors, other = table[:, :3].to(dtype), table[:, 3:6].to(dtype)
    difference = metrics.ciede2000(colors, other)
    assert difference.dtype == dtype
    torch.testing.assert_close(difference.double(), table[:, 6], rtol=0, atol=tolerance)
    torch.testing.assert_close(
        metrics.ciede2000(other, colors).double(), table[:, 6], rtol=0, atol=tolerance
    )


def test_ciede2000_agrees_with_scikit_image():
    scale = torch.tensor([100.0, 200.0, 200.0], dtype=torch.float64)
    shift = torch.tensor([0.0, 100.0, 100.0], dtype=torch.float64)
    colors = random(20_000, 3).double() * scale - shift
    other = random(20_000, 3, seed=1).double() * scale - shift
    other[:5000] = colors[:5000] + other[:5000] / 50
    colors[:100, 1:] = 0
    expected = skimage.color.deltaE_ciede2000(colors.numpy(), other.numpy())
    np.testing.assert_allclose(metrics.ciede2000(colors, other).numpy(), expected, atol=1e-9)


def test_ciede2000_shapes():
    colors = random(4, 1, 3) * 50
    palette = random(5, 3, seed=1) * 50
    difference = metrics.ciede2000(colors, palette)
    assert difference.shape == (4, 5)
    torch.testing.assert_close(difference[1, 2], metrics.ciede2000(colors[1, 0], palette[2]))
    assert torch.equal(metrics.ciede2000(palette, palette), torch.zeros(5))
    with pytest.raises(ValueError, match=r"\(\.\.\., 3\), got \(3, 4\)"):
        metrics.ciede2000(torch.zeros(3, 4), torch.zeros(3, 4))


@pytest.mark.parametrize("chunk", [1 << 18, 1000, 97])
@pytest.mark.parametrize("shape", [(3, 20, 31), (5, 3, 8, 9), (2, 2, 3, 6, 5)])
def test_mean_ciede2000_agrees_with_scikit_image(monkeypatch, chunk, shape):
    monkeypatch.setattr(metrics, "CHUNK_PIXELS", chunk)
    image, other = pictures(*shape)
    labs = (skimage.color.rgb2lab(p.double().numpy(), channel_axis=-3) for p in (image, other))
    expected = skimage.color.deltaE_ciede2000(*labs, channel_axis=-3).mean()
    assert metrics.mean_ciede2000(image, other).item() == pytest.approx(expected, abs=1e-4)


def test_mean_ciede2000_of_nothing():
    assert metrics.mean_ciede2000(torch.zeros(0, 3, 4, 4), torch.zeros(0, 3, 4, 4)).isnan()
    with pytest.raises(ValueError, match=r"\(\.\.\., 3, H, W\), got \(4, 8, 8\)"):
        metrics.mean_ciede2000(torch.zeros(4, 8, 8), torch.zeros(4, 8, 8))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_palette_usage(dtype):
    indices = torch.randint(0, 13, (2, 30, 40), generator=torch.Generator().manual_seed(0))
    counts = metrics.palette_usage(indices.to(dtype), 16)
    assert torch.equal(counts, torch.bincount(indices.flatten(), minlength=16))
    assert metrics.colors_in_use(counts).item() == 13
    empty = metrics.palette_usage(torch.zeros(0, 4, 4, dtype=dtype), 5)
    assert torch.equal(empty, torch.zeros(5, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"integer indices, got torch\.float32"):
        metrics.palette_usage(indices.float(), 16)


def test_usage_of_each_image_and_of_weighted_pixels():
    indices = (random(2, 3, 4, 5) * 6).long()
    counts = metrics.palette_usage(indices, 6, per_image=True)
    assert counts.shape == (2, 3, 6)
    assert counts[1, 2].tolist() == metrics.palette_usage(indices[1, 2], 6).tolist()
    assert metrics.perplexity(counts).shape == (2, 3)
    weights = (random(2, 3, 4, 5, seed=1) * 4).long()
    expected = metrics.palette_usage(indices.flatten().repeat_interleave(weights.flatten()), 6)
    assert metrics.palette_usage(indices, 6, weights=weights).tolist() == expected.tolist()
    ignored = indices.masked_fill(weights == 0, 255)
    assert metrics.palette_usage(ignored, 6, weights=weights).tolist() == expected.tolist()
    with pytest.raises(ValueError, match=r"indices' size \(2, 3, 4, 5\), got \(4, 5\)"):
        metrics.palette_usage(indices, 6, weights=weights[0, 0])
    with pytest.raises(ValueError, match=r"indices \(\.\.\., H, W\), got \(4,\)"):
        metrics.palette_usage(torch.arange(4), 6, per_image=True)
    with pytest.raises(IndexError, match="indices from 0 to 3, got from 0 to 4"):
        metrics.palette_usage(torch.tensor([[[0, 4]], [[0, 0]]]), 4, per_image=True)


@pytest.mark.parametrize("measure", [metrics.perplexity, metrics.entropy, metrics.colors_in_use])
def test_indices_are_not_taken_for_counts(measure):
    with pytest.raises(
        ValueError, match=r"int64 \(2, 8, 8\); palette_usage\(indices, num_colors\)"
    ):
        measure(torch.zeros(2, 8, 8, dtype=torch.int64))
    with pytest.raises(TypeError, match="counts as a tensor"):
        measure([1, 2, 3])


def test_palette_usage_refuses_indices_outside():
    with pytest.raises(IndexError, match="indices from 0 to 3, got from 0 to 4"):
        metrics.palette_usage(torch.tensor([0, 4]), 4)


def test_entropy_and_perplexity():
    indices = (random(1000) ** 3 * 20).long()
    counts = metrics.palette_usage(indices, 32)
    expected = oracles.entropy(indices.numpy())
    assert metrics.entropy(counts).item() == pytest.approx(expected, rel=1e-5)
    assert metrics.perplexity(counts).item() == pytest.approx(2**expected, rel=1e-5)
    both = torch.stack([counts, torch.ones_like(counts)]).float()
    assert metrics.entropy(both).tolist() == pytest.approx([expected, 5], rel=1e-5)
    assert metrics.perplexity(both.double())[1].item() == pytest.approx(32)
    assert metrics.colors_in_use(both).tolist() == [len(indices.unique()), 32]
    for lonely in (torch.tensor([0, 7, 0]), torch.zeros(3), torch.tensor([0.0, 0.3])):
        assert metrics.entropy(lonely).item() == 0
        assert metrics.perplexity(lonely).item() == 1


@pytest.mark.parametrize("chunk", [1 << 18, 200])
@pytest.mark.parametrize("size", [(11, 11), (24, 40), (31, 17)])
def test_ssim_agrees_with_scikit_image(monkeypatch, chunk, size):
    monkeypatch.setattr(metrics, "CHUNK_PIXELS", chunk)
    image, other = pictures(2, 3, *size)
    expected = [
        skimage.metrics.structural_similarity(
            first.double().numpy(),
            second.double().numpy(),
            gaussian_weights=True,
            use_sample_covariance=False,
            data_range=1,
            channel_axis=0,
        )
        for first, second in zip(image, other, strict=True)
    ]
    assert metrics.ssim(image, other).item() == pytest.approx(np.mean(expected), abs=1e-6)
    assert metrics.ssim(image[1], other[1]).item() == pytest.approx(expected[1], abs=1e-6)
    assert metrics.ssim(image, image).item() == pytest.approx(1)


def windowed(picture, side):
    """The means of a Gaussian window of a side where it fits; scipy's, and float64."""
    radius = side // 2
    blurred = scipy.ndimage.gaussian_filter(
        picture, 1.5, radius=(0, *[radius] * 2), axes=None, mode="constant"
    )
    return blurred[:, radius : picture.shape[1] - radius, radius : picture.shape[2] - radius]


@pytest.mark.parametrize(
    ("size", "side"), [((10, 40), 9), ((8, 8), 7), ((3, 5), 3), ((2, 9), 1), ((1, 1), 1)]
)
def test_ssim_of_small_pictures_takes_the_largest_window_that_fits(size, side):
    image, other = (p.double() for p in pictures(3, *size))
    x, y = image.numpy(), other.numpy()
    mean_x, mean_y = windowed(x, side), windowed(y, side)
    variances = windowed(x * x, side) - mean_x**2 + windowed(y * y, side) - mean_y**2
    covariance = windowed(x * y, side) - mean_x * mean_y
    expected = (2 * mean_x * mean_y + 0.01**2) * (2 * covariance + 0.03**2)
    expected /= (mean_x**2 + mean_y**2 + 0.01**2) * (variances + 0.03**2)
    assert metrics.ssim(image, other).item() == pytest.approx(expected.mean(), abs=1e-9)
    assert metrics.ssim(image, image).item() == pytest.approx(1)


def test_ssim_of_nothing():
    with pytest.raises(ValueError, match=r"at least 1 pixel, got \(3, 0, 40\)"):
        metrics.ssim(torch.zeros(3, 0, 40), torch.zeros(3, 0, 40))
