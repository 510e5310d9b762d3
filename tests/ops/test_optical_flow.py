"""Optical flow: known displacements are found, and images are sampled where it says."""

import pytest
import torch
from torch.nn import functional as F

from lit_thermal.ops.flow import optical_flow, sample_at
from lit_thermal.ops.warp import translate


def texture(size=(48, 56), seed=0, smooth=9):
    """A smooth random image (1, 1, H, W) in [0, 1], with a margin for translations."""
    noise = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(seed))
    image = F.avg_pool2d(F.pad(noise, [smooth // 2] * 4, mode="reflect"), smooth, 1)
    return (image - image.min()) / (image.max() - image.min())


@pytest.mark.parametrize(("right", "down"), [(0.0, 0.0), (1.0, 0.0), (-2.0, 1.0), (0.4, -0.7), (3.3, 2.6), (-5.5, 4.0)])
def test_a_translation_is_found_to_a_tenth_of_a_pixel(right, down):
    first = texture()
    flow = optical_flow(first, translate(first, right, down))
    inside = flow[..., 10:-10, 10:-10]
    error = (inside - torch.tensor([right, down]).view(1, 2, 1, 1)).norm(dim=1)
    assert error.median() < 0.07 and error.mean() < 0.1


def test_equal_images_and_flat_images_do_not_move():
    still = texture()
    assert optical_flow(still, still).abs().max() < 1e-3
    flat = torch.full((2, 1, 24, 20), 0.4)
    assert torch.equal(optical_flow(flat, flat), torch.zeros(2, 2, 24, 20))


def test_a_small_fast_object_before_a_still_background():
    background = 0.3 * texture(seed=1)
    first, second = background.clone(), background.clone()
    thing = 0.5 + 0.5 * texture((8, 8), seed=2, smooth=3)
    first[..., 20:28, 20:28] = thing
    second[..., 21:29, 23:31] = thing
    flow = optical_flow(first, second)
    object_flow = flow[0, :, 22:26, 22:26].flatten(1).median(dim=1).values
    assert torch.allclose(object_flow, torch.tensor([3.0, 1.0]), atol=0.3)
    assert flow[..., :10, :].abs().max() < 0.3


def test_offset_and_gain_of_both_images_do_not_matter():
    first = texture()
    second = translate(first, 1.3, -0.6)
    plain = optical_flow(first, second)
    assert torch.allclose(optical_flow(5 + 300 * first, 5 + 300 * second), plain, atol=1e-2)


def test_samples_of_a_batch_do_not_mix():
    one, two = texture(seed=3), texture(seed=4)
    both = optical_flow(torch.cat([one, two]), torch.cat([translate(one, 1, 1), translate(two, -2, 0)]))
    assert torch.allclose(both[:1], optical_flow(one, translate(one, 1, 1)), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (13, 17), (25, 24)])
def test_any_size(size):
    image = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    flow = optical_flow(image, image.flip(0))
    assert flow.shape == (2, 2, *size) and flow.isfinite().all()


def test_sampling_is_the_inverse_of_a_translation():
    image = texture().double()
    flow = torch.zeros(1, 2, *image.shape[-2:], dtype=torch.float64)
    flow[:, 0], flow[:, 1] = 2.25, -1.5
    expected = translate(image, -2.25, 1.5)
    assert torch.allclose(sample_at(image, flow)[..., 3:-3, 3:-3], expected[..., 3:-3, 3:-3], atol=1e-12)


def test_sampling_repeats_the_edge_and_has_gradients():
    image = texture((6, 7)).double().requires_grad_()
    flow = torch.full((1, 2, 6, 7), 100.0, dtype=torch.float64)
    assert torch.equal(sample_at(image, flow), image[..., -1:, -1:].expand(1, 1, 6, 7))
    near = (torch.rand(1, 2, 6, 7, dtype=torch.float64) - 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, f: sample_at(x, f)[..., 1:-1, 1:-1], (image, near))


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="of one size"):
        optical_flow(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))
