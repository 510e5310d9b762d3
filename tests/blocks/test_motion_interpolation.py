"""Interpolation along motion: what moves is followed, what does not is left alone."""

import functools

import pytest
import torch

from lit_thermal.blocks.motion_interpolation import MotionAlignedInterpolation
from lit_thermal.blocks.temporal_interpolation import (
    LinearInterpolation,
    ThermalDiffusionInterpolation,
    blend,
)
from lit_thermal.errors import InputError
from lit_thermal.ops.motion import align
from lit_thermal.ops.resize import resize
from lit_thermal.ops.warp import translate

TAU = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])


def scene(size=(40, 44), seed=0):
    noise = torch.rand(1, 1, size[0] // 4, size[1] // 4, generator=torch.Generator().manual_seed(seed))
    return resize(noise, size).clamp(0, 1)


def moving(right=2.0, down=1.0, count=4, times=None):
    """A clip (1, X, 1, h, w) of a scene that moves by so many pixels per frame."""
    times = range(count) if times is None else times
    return torch.stack([translate(scene(), float(t) * right, float(t) * down) for t in times], dim=1)


def block(dim=3, **options):
    torch.manual_seed(0)
    return MotionAlignedInterpolation(dim, 6, **options)


def embedded(count):
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(1))


def run(member, clip, tau=TAU, features=None, scale=1):
    frames = clip.shape[-2:]
    enlarged = resize(clip, (frames[0] * scale, frames[1] * scale))
    features = clip.expand(-1, -1, member.dim, -1, -1) if features is None else features
    return member.interpolate(features, clip, enlarged, tau, embedded(len(tau)))


def inside(x, margin=10):
    return x[..., margin:-margin, margin:-margin]


@pytest.mark.parametrize("speed", [(2.0, 1.0), (-1.5, 0.5), (0.6, -0.3)])
def test_displacements_follow_the_motion(speed):
    found = align(moving(*speed), TAU)
    for t, time in enumerate(TAU.tolist()):
        for x in range(4):
            expected = torch.tensor(speed) * (x - time)
            got = inside(found.displacements[0, t, x]).flatten(1).median(dim=1).values
            assert torch.allclose(got, expected, atol=0.12), (time, x)


@pytest.mark.parametrize("scale", [1, 2])
def test_the_base_image_is_the_moved_scene_where_a_blend_shows_it_twice(scale):
    clip = moving()
    true = moving(times=TAU.tolist())
    size = tuple(scale * side for side in clip.shape[-2:])
    _, base = run(block(along=LinearInterpolation), clip, scale=scale)
    ghost = blend(resize(clip, size), TAU)
    target = resize(true, size)
    error, before = (inside(x - target, 10 * scale)[:, 1::2].square().mean() for x in (base, ghost))
    assert error < before / 5
    assert torch.equal(base[:, 0::2], resize(clip, size)), "observed frames are given back as they are"


def test_features_are_carried_along():
    clip = moving()
    mixed, _ = run(block(along=LinearInterpolation, fuse=False), clip)
    true = moving(times=TAU.tolist()).expand(-1, -1, 3, -1, -1)
    ghost = blend(clip, TAU)
    assert inside(mixed - true).square().mean() < inside(ghost - true).square().mean() / 10


@pytest.mark.parametrize("along", [LinearInterpolation, ThermalDiffusionInterpolation])
def test_a_still_sequence_gives_what_the_interpolation_along_gives(along):
    clip = scene().unsqueeze(1).expand(-1, 4, -1, -1, -1).contiguous()
    features = torch.randn(1, 1, 3, *clip.shape[-2:]).expand(-1, 4, -1, -1, -1).contiguous()
    member = block(along=along)
    mixed, base = run(member, clip, features=features)
    expected = member.along(features, TAU, embedded(len(TAU)))
    assert torch.allclose(mixed, expected, atol=1e-3)
    assert torch.allclose(base, blend(clip, TAU), atol=1e-3)


def test_what_appears_from_nowhere_does_not_leave_a_ghost():
    clip = scene().unsqueeze(1).expand(-1, 4, -1, -1, -1).clone()
    clip[:, 2, :, 12:20, 12:20] = 1.0
    mixed, _ = run(block(along=LinearInterpolation, fuse=False), clip, tau=torch.tensor([1.0]))
    assert inside(mixed[:, 0] - clip[:, 1]).abs().max() < 0.02


def test_observed_frames_can_gain_from_their_neighbours():
    member = block()
    torch.nn.init.normal_(member.fuse[-1].weight, std=0.1)
    clip = moving()
    alone = clip[:, 1:2].expand(-1, 4, -1, -1, -1).contiguous()
    tau = torch.tensor([1.0])
    assert (run(member, clip, tau)[0] - run(member, alone, tau)[0]).abs().max() > 1e-3


def test_every_parameter_has_a_gradient():
    member = block(along=functools.partial(ThermalDiffusionInterpolation, knots=4))
    torch.nn.init.normal_(member.fuse[-1].weight, std=0.1)
    torch.nn.init.normal_(member.along.mlp[-1].weight, std=0.1)
    features = torch.randn(1, 4, 3, 40, 44, requires_grad=True)
    mixed, _ = run(member, moving(), features=features)
    mixed.square().sum().backward()
    assert features.grad.abs().sum() > 0
    for name, parameter in member.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("size", [(17, 23), (8, 9), (5, 31)])
@pytest.mark.parametrize("frames", [3, 4, 6])
def test_any_size_and_length(size, frames):
    clip = torch.rand(2, frames, 1, *size, generator=torch.Generator().manual_seed(0))
    tau = torch.arange(2 * frames - 1) / 2
    mixed, base = run(block(), clip, tau, scale=2)
    assert mixed.shape == (2, len(tau), 3, *size) and base.shape == (2, len(tau), 1, 2 * size[0], 2 * size[1])
    assert mixed.isfinite().all() and base.isfinite().all()


def test_samples_do_not_mix():
    clips = torch.cat([moving(), moving(-1.0, 2.0)])
    both = run(block(), clips)
    for x, alone in zip(both, run(block(), clips[:1]), strict=True):
        assert torch.allclose(x[:1], alone, atol=1e-5)


def test_half_precision_is_close():
    exact, base = run(block(), moving())
    with torch.autocast("cpu", torch.bfloat16):
        rough, rough_base = run(block(), moving())
    assert (rough - exact).abs().max() < 0.05 and (rough_base - base).abs().max() < 0.02


def test_state_dict_round_trip():
    one, two = block(), MotionAlignedInterpolation(3, 6)
    torch.nn.init.normal_(one.fuse[-1].weight)
    two.load_state_dict(one.state_dict(), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(run(one, moving()), run(two, moving()), strict=True))


def test_too_few_frames_and_times_outside_are_told():
    with pytest.raises(InputError, match="at least 3 input frames"):
        run(block(), moving(count=2), torch.tensor([0.5]))
    with pytest.raises(InputError, match="output times must lie in"):
        run(block(), moving(), torch.tensor([3.5]))


@pytest.mark.parametrize("options", [{"fuse_kernel": 2}, {"fuse_kernel": 0}, {"phases": 0}])
def test_sizes_that_cannot_be_are_refused(options):
    with pytest.raises(InputError, match="fuse_kernel an odd number"):
        MotionAlignedInterpolation(4, 6, **options)
