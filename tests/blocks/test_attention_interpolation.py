"""Alignment by local attention: equal to the definition, and it finds what moved."""

import math
from functools import partial

import pytest
import torch

from lit_thermal.blocks.attention_interpolation import LocalAttentionInterpolation
from lit_thermal.blocks.temporal_interpolation import LinearInterpolation, blend
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize
from lit_thermal.ops.warp import translate


def block(dim=3, seed=0, **options):
    torch.manual_seed(seed)
    return LocalAttentionInterpolation(dim, 6, **options)


def moving(right, down, times, seed=0):
    """Features (1, X, 1, 24, 28) of a rough scene that moves by so many pixels per frame."""
    noise = torch.rand(1, 1, 12, 14, generator=torch.Generator().manual_seed(seed))
    scene = resize(noise, (24, 28))
    return torch.stack([translate(scene, float(t) * right, float(t) * down) for t in times], dim=1)


def sharp(along=LinearInterpolation, **options):
    """A block that compares raw 3x3 patches, sharply and without a prior."""
    made = block(1, along=along, match=9, **options)
    with torch.no_grad():
        made.match.weight.copy_(torch.eye(9).view(9, 1, 3, 3))
        made.log_sharpness.fill_(math.log(1e5))
        made.falloff.fill_(1e-3)
    return made


def reference(made, features, tau):
    """The definition, pixel by pixel: aligned features, shares and displacements."""
    batch, count, dim, height, width = features.shape
    query = made.match(blend(features, tau).flatten(0, 1)).unflatten(0, (batch, len(tau)))
    key = made.match(features.flatten(0, 1)).unflatten(0, (batch, count))
    half, sharpness = made.window // 2, made.log_sharpness.exp() / query.shape[2]
    aligned = torch.zeros(batch, len(tau), count, dim, height, width, dtype=features.dtype)
    shares, displaced = aligned[:, :, :, :1].clone(), aligned[:, :, :, :2].clone()
    for b, t, y, x in torch.cartesian_prod(*map(torch.arange, (batch, len(tau), height, width))).tolist():
        sums = []
        for s in range(count):
            scores, values, places = [], [], []
            for down in range(-half, half + 1):
                for right in range(-half, half + 1):
                    row, column = min(max(y + down, 0), height - 1), min(max(x + right, 0), width - 1)
                    distance = (query[b, t, :, y, x] - key[b, s, :, row, column]).square().sum()
                    time = s - float(tau[t])
                    bias = made.bias(torch.tensor([right, down, time], dtype=features.dtype))[0]
                    prior = made.falloff[0] * (right**2 + down**2) + made.falloff[1] * abs(time)
                    scores.append(bias - prior - sharpness * distance)
                    values.append(features[b, s, :, row, column])
                    places.append(torch.tensor([right, down], dtype=features.dtype))
            attention = torch.stack(scores).exp()
            sums.append(attention.sum())
            attention = attention / attention.sum()
            aligned[b, t, s, :, y, x] = (attention[:, None] * torch.stack(values)).sum(dim=0)
            displaced[b, t, s, :, y, x] = (attention[:, None] * torch.stack(places)).sum(dim=0)
        shares[b, t, :, 0, y, x] = torch.stack(sums) / sum(sums)
    return aligned, shares, displaced


@pytest.mark.parametrize("window", [1, 3, 5])
def test_equals_the_definition(window):
    made = block(2, window=window, match=3).double()
    torch.nn.init.normal_(made.bias[-1].weight, std=0.5)
    torch.nn.init.constant_(made.log_sharpness, 1.0)
    g = torch.Generator().manual_seed(window)
    features = torch.randn(2, 3, 2, 4, 5, generator=g, dtype=torch.float64)
    tau = torch.tensor([0.0, 0.5, 1.75])
    with torch.no_grad():
        for found, expected in zip(made.align(features, tau), reference(made, features, tau), strict=True):
            assert torch.allclose(found, expected, atol=1e-6 if found.shape[3] == 2 else 1e-7)


def test_gradients_are_those_of_the_definition():
    made = block(2, window=3, match=2, along=LinearInterpolation).double()
    torch.nn.init.normal_(made.fuse[-1].weight, std=0.3)
    features = torch.randn(1, 3, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    frames = torch.rand(1, 3, 1, 3, 4)
    tau, embedded = torch.tensor([0.5, 1.0]), torch.zeros(2, 6)
    assert torch.autograd.gradcheck(
        lambda x: made.interpolate(x, frames, frames.double(), tau, embedded)[0], (features,), fast_mode=True
    )


@pytest.mark.parametrize("speed", [(1, 0), (-1, 1), (2, -2)])
def test_whole_displacements_are_found(speed):
    features = moving(*speed, range(4))
    aligned, shares, displaced = sharp().align(features, torch.tensor([1.0]))
    for x in (0, 1, 2):  # the last frame is out of reach of the fastest
        expected = torch.tensor(speed, dtype=torch.float32) * (x - 1)
        middle = displaced[0, 0, x, :, 6:-6, 6:-6].flatten(1).median(dim=1).values
        assert torch.allclose(middle, expected, atol=0.05), x
        error = (aligned[0, 0, x] - features[0, 1])[:, 6:-6, 6:-6].abs().mean()
        assert error < 0.1 * (features[0, x] - features[0, 1])[:, 6:-6, 6:-6].abs().mean() + 1e-3, x
    assert torch.allclose(shares.sum(dim=2), torch.ones(1, 1, 1, 24, 28))


def test_a_frame_that_does_not_fit_has_no_share():
    features = moving(1, 0, range(4))
    features[:, 2] = 5
    _, shares, _ = sharp().align(features, torch.tensor([1.0]))
    assert shares[0, 0, 2].max() < 1e-4


def test_the_base_image_follows_the_attention():
    """Between two frames of a slow scene, a blend is blurred and the warped base less so."""
    tau = torch.tensor([1.5])
    clip, true = moving(2, 0, range(4)), moving(2, 0, [1.5])
    made, left = sharp(), sharp(warp_base=False)
    arguments = (clip, clip, clip, tau, torch.zeros(1, 6))
    blended = blend(clip, tau)
    assert torch.equal(left.interpolate(*arguments)[1], blended)
    error, ghost = ((x - true)[..., 6:-6, 6:-6].square().mean() for x in (made.interpolate(*arguments)[1], blended))
    assert error < ghost


def test_attention_learns_from_the_base_image():
    made, clip = block(1), moving(1, 1, range(4))
    _, base = made.interpolate(clip, clip, clip, torch.tensor([0.5]), torch.zeros(1, 6))
    base.square().sum().backward()
    assert made.match.weight.grad.abs().sum() > 0


def test_the_given_interpolation_acts_on_what_is_aligned():
    clip = moving(1, 0, range(4))
    with_fusion, without = sharp(), sharp(fuse=False)
    tau = torch.tensor([1.0])
    results = [m.interpolate(clip, clip, clip, tau, torch.zeros(1, 6))[0] for m in (with_fusion, without)]
    assert torch.equal(*results), "the fusion starts at zero"
    aligned, _, _ = without.align(clip, tau)
    assert torch.allclose(results[1][:, 0], aligned[:, 0, 1], atol=1e-4), "a linear blend takes the frame at its time"


@pytest.mark.parametrize("options", [{"window": 4}, {"window": 0}, {"match": 0}])
def test_wrong_sizes_are_told(options):
    with pytest.raises(InputError, match="not "):
        block(**options)


def test_along_gives_the_least_number_of_frames():
    assert block(along=LinearInterpolation).least_frames == 1 and block().least_frames == 3
    clip = moving(1, 0, range(2))
    made = partial(block, 1, along=LinearInterpolation)()
    assert made.interpolate(clip, clip, clip, torch.tensor([0.5]), torch.zeros(1, 6))[0].isfinite().all()
