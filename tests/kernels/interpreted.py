"""The Triton kernels against float64, in Triton's interpreter: run with TRITON_INTERPRET=1."""

import itertools

import torch

from colorquant_nn.kernels import cuda, reference
from tests.kernels.oracle import assert_nearest, images, palette


def check(points, centroids, colors=None, weights=None, clamp=False):
    assert_nearest(points, centroids, cuda.assign(points, centroids, clamp), clamp)
    indices, moments, values = cuda.cluster(points, centroids, colors, weights, clamp)
    assert_nearest(points, centroids, indices, clamp)
    expected = moments(points, centroids, indices, weights, clamp)
    torch.testing.assert_close(moments, expected, rtol=1e-5, atol=1e-5)
    empty = reference.allocate(points, centroids, colors)[2]
    assert values.stride() == empty.stride()
    assert values.dtype == empty.dtype
    if colors is not None:
        group = torch.arange(colors.shape[0])[:, None]
        assert torch.equal(values, colors[group, indices].to(values.dtype))


def main():
    for channels, num_clusters in itertools.product((3, 4), (1, 3, 8, 17)):
        points = images("noise", 530, channels) * 1.4 - 0.2
        centroids = palette("noise", num_clusters, channels)
        check(points, centroids, centroids, torch.rand(1, 530), clamp=num_clusters > 3)
    for count in (0, 1, 511, 512, 513):
        check(images("lattice", count, 3), palette("lattice", 9, 3))
    check(images("noise", 600, 3), palette("noise", 70, 3), torch.rand(1, 70, 2))
    for dtype, groups in itertools.product((torch.float16, torch.bfloat16, torch.uint8), (1, 3)):
        batch = torch.randint(0, 256, (3, 3, 11, 20), dtype=torch.uint8)
        batch = batch if dtype == torch.uint8 else (batch / 255).to(dtype)
        colors = torch.rand(groups, 5, 3)
        first = batch.flatten(2).transpose(1, 2)
        check(first, torch.rand(groups, 5, 3), colors, torch.rand(220, 3).T)
        check(first.contiguous(), torch.rand(groups, 5, 3), colors)
        check(first[:1].expand(3, -1, -1)[:, ::3], torch.rand(groups, 5, 3), colors)
    points = images("noise", 600, 3).clone()
    points[0, 5, 0], points[0, 6, 1], points[0, 7] = float("nan"), float("inf"), float("-inf")
    for clamp in (False, True):
        check(points, palette("noise", 6, 3), None, torch.rand(1, 600), clamp)
        check(points, palette("noise", 6, 3), None, None, clamp)
    cuda.MAX_PROGRAMS = 2  # as with many points, a program has several tiles
    points, centroids = images("noise", 3200, 3).view(2, 1600, 3), torch.rand(2, 3, 3)
    check(points, centroids, centroids)
    first = cuda.cluster(points, centroids, None, None, False)[1]
    assert torch.equal(first, cuda.cluster(points, centroids, None, None, False)[1])
    print("all agree")


if __name__ == "__main__":
    main()
