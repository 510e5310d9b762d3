"""Alignment of clips: displacements are those of the scene, and innovations lie where its pixels lie."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from lit_thermal.ops.motion import Alignment, align, around, compared, innovations, taken, warp_between
from lit_thermal.ops.resize import resize
from lit_thermal.ops.warp import translate

TAU = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])


def scene(size=(40, 44), seed=0, coarse=4):
    noise = torch.rand(1, 1, size[0] // coarse, size[1] // coarse, generator=torch.Generator().manual_seed(seed))
    return resize(noise, size).clamp(0, 1)


def moving(right=1.5, down=-0.75, count=4, times=None, seed=0):
    times = range(count) if times is None else times
    return torch.stack([translate(scene(seed=seed), float(t) * right, float(t) * down) for t in times], dim=1)


def inside(x, margin=10):
    return x[..., margin:-margin, margin:-margin]


def given(frames, displacements, tau):
    """An alignment with known displacements (T, X, 2), the same at each pixel."""
    shape = (len(frames), -1, -1, -1, *frames.shape[-2:])
    return compared(frames, displacements[None, ..., None, None].to(frames).expand(shape), tau)


def all_of(found: Alignment):
    return [*found[:4], *found.neighbours, found.share]


@pytest.mark.parametrize("time", [0.0, 0.3, 1.0, 1.5, 2.9, 3.0])
def test_one_time_and_many_give_the_same(time):
    """Times do not influence each other, whether they lie at the ends of the clip or between frames."""
    clip = torch.cat([moving(), moving(-1, 2, seed=1)])
    tau = torch.tensor([0.0, 0.3, 1.0, 1.5, 2.9, 3.0])
    index = tau.tolist().index(torch.tensor(time).item())
    together, alone = align(clip, tau), align(clip, tau[index : index + 1])
    for many, one in zip(all_of(together), all_of(alone), strict=True):
        many = many[index : index + 1] if many.ndim == 1 else many[:, index : index + 1]
        assert torch.allclose(many.float(), one.float(), atol=1e-4)


def test_displacements_from_an_input_frame_are_chains_of_the_flow():
    """From the last frame and from the first one, frame by frame, whatever lies between."""
    clip = moving()
    found = align(clip, torch.tensor([0.0, 3.0]))
    assert torch.equal(found.displacements[:, 0, 0], torch.zeros(1, 2, 40, 44))
    assert torch.equal(found.displacements[:, 1, 3], torch.zeros(1, 2, 40, 44))
    for x in range(4):
        ahead, back = (inside(found.displacements[0, t, x]).mean(dim=(1, 2)) for t in (0, 1))
        assert torch.allclose(ahead, x * torch.tensor([1.5, -0.75]), atol=0.1)
        assert torch.allclose(back, (x - 3) * torch.tensor([1.5, -0.75]), atol=0.1)


def test_a_reversed_clip_has_reversed_displacements():
    clip = moving()
    one, two = align(clip, TAU), align(clip.flip(1), (3 - TAU).flip(0))
    difference = inside(one.displacements - two.displacements.flip((1, 2)))
    assert difference.abs().mean() < 0.02


def test_neighbours_at_the_ends():
    found = align(moving(), TAU)
    assert found.neighbours[0].tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert found.neighbours[1].tolist() == [1, 1, 2, 2, 3, 3, 3]
    assert found.share.tolist() == [0, 0.5, 0, 0.5, 0, 0.5, 1]
    first, second = around(TAU, 4)
    assert first.tolist() == [0, 0, 0, 1, 1, 2, 2] and second.tolist() == [1, 1, 2, 2, 3, 3, 3]


def test_times_that_are_off_by_rounding_are_those_of_frames():
    clip = moving()
    exact, rough = align(clip, torch.tensor([1.0, 2.0, 3.0])), align(clip, torch.tensor([1.00002, 1.99998, 2.99998]))
    assert torch.equal(exact.displacements, rough.displacements) and torch.equal(exact.reference, rough.reference)
    assert (rough.trust == 0).all()


@pytest.mark.parametrize("tau", [[0.0], [0.0, 0.0]])
def test_a_clip_of_a_single_frame(tau):
    clip, tau = moving(count=1), torch.tensor(tau)
    found = align(clip, tau)
    assert found.displacements.shape == (1, len(tau), 1, 2, 40, 44) and (found.displacements == 0).all()
    assert torch.equal(found.reference, clip.expand(-1, len(tau), -1, -1, -1)) and found.errors.abs().max() < 1e-6
    assert torch.equal(warp_between(clip, found), clip.expand(-1, len(tau), -1, -1, -1))
    gained = innovations(clip, found, torch.ones_like(found.errors), 2)
    assert gained[:, :, :4].abs().max() < 1e-6


@pytest.mark.parametrize("count", [2, 3, 5])
def test_constant_scenes_do_not_move(count):
    clip = torch.full((2, count, 1, 13, 17), 0.4)
    tau = torch.arange(2 * count - 1) / 2
    found = align(clip, tau)
    assert (found.displacements == 0).all() and found.errors.abs().max() < 1e-6
    assert torch.allclose(found.reference, torch.tensor(0.4))
    assert torch.allclose(warp_between(resize(clip, (26, 34)), found), torch.tensor(0.4))
    gained = innovations(clip, found, torch.ones_like(found.errors), 4)
    assert gained[:, :, :16].abs().max() < 1e-6


def test_errors_are_local_differences_from_the_reference():
    clip = moving().double()
    displacements = torch.zeros(1, 4, 2)
    found = given(clip, displacements, torch.tensor([1.0]))
    padded = F.pad((clip - clip[:, 1:2]).abs()[:, :, 0], (1, 1, 1, 1), mode="replicate")
    expected = sum(padded[..., y : y + 40, x : x + 44] for y in range(3) for x in range(3)) / 9
    assert torch.allclose(found.errors[:, 0, :, 0], expected, atol=1e-12)
    assert torch.equal(found.reference[:, 0], clip[:, 1])


@pytest.mark.parametrize("scale", [1, 3])
def test_warped_frames_are_those_of_the_moved_scene(scale):
    """Whole displacements of the enlarged frames, so that nothing is lost by interpolation."""
    clip = moving(2, -2, count=2).double()
    size = (40 * scale, 44 * scale)
    found = given(clip, torch.tensor([[[-1.0, 1.0], [1.0, -1.0]]]), torch.tensor([0.5]))
    assert inside(found.trust).mean() > 0.95
    large = F.interpolate(clip.flatten(0, 1), size, mode="nearest").unflatten(0, (1, 2))
    true = translate(large[:, 0], scale, -scale)
    wrong = (inside(warp_between(large, found)[:, 0] - true, 10 * scale)).abs()
    ghost = inside(large.mean(dim=1) - true, 10 * scale).abs()
    assert wrong.mean() < 0.1 * ghost.mean()


def test_base_frames_have_gradients_and_observed_ones_stay():
    clip = moving()
    found = align(clip, TAU)
    large = torch.rand(1, 4, 3, 80, 88, requires_grad=True)
    base = warp_between(large, found)
    assert base.shape == (1, 7, 3, 80, 88) and torch.equal(base[:, ::2], large)
    base.square().sum().backward()
    assert large.grad.isfinite().all() and (large.grad != 0).all()


def reference_innovations(frames, displacements, reference, confidence, phases):
    """The definition, pixel by pixel."""
    batch, times, count = displacements.shape[:3]
    height, width = frames.shape[-2:]
    total = torch.zeros(batch, times, phases**2, height, width, dtype=torch.float64)
    weights = torch.zeros_like(total)

    def between(image, y, x):
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        top, left = min(int(y), height - 2), min(int(x), width - 2)
        fy, fx = y - top, x - left
        rows = [(1 - fx) * image[top + d, left] + fx * image[top + d, left + 1] for d in (0, 1)]
        return (1 - fy) * rows[0] + fy * rows[1]

    for b, t, s, y, x in torch.cartesian_prod(*map(torch.arange, (batch, times, count, height, width))).tolist():
        right, down = displacements[b, t, s, :, y, x].tolist()
        row, column = round(y + down), round(x + right)
        if not (0 <= row < height and 0 <= column < width):
            continue
        up, across = row - y - down, column - x - right
        cell_y, cell_x = (min(math.floor((part + 0.5) * phases), phases - 1) for part in (up, across))
        difference = frames[b, s, 0, row, column] - between(reference[b, t, 0], y + up, x + across)
        trust = confidence[b, t, s, 0, y, x]
        total[b, t, cell_y * phases + cell_x, y, x] += trust * difference
        weights[b, t, cell_y * phases + cell_x, y, x] += trust
    return torch.cat([total / weights.clamp(min=1e-3), weights], dim=2)


@pytest.mark.parametrize("phases", [1, 2, 3])
def test_innovations_equal_the_definition(phases):
    g = torch.Generator().manual_seed(phases)
    frames = torch.rand(2, 3, 1, 5, 6, generator=g, dtype=torch.float64)
    displacements = 3 * torch.randn(2, 2, 3, 2, 5, 6, generator=g, dtype=torch.float64)
    found = compared(frames, displacements, torch.tensor([0.5, 2.0]))
    confidence = torch.rand(2, 2, 3, 1, 5, 6, generator=g, dtype=torch.float64)
    expected = reference_innovations(frames, displacements, found.reference, confidence, phases)
    assert torch.allclose(innovations(frames, found, confidence, phases), expected, atol=1e-12)


def test_innovations_of_an_aliased_scene_are_the_hidden_samples():
    """Each frame samples a fine scene at every fourth point; the others' samples lie between its own."""
    fine = torch.rand(48, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shifts = [(0, 0), (1, 0), (0, -1), (3, 1)]  # to the right, then down, in fine pixels
    frames = torch.stack([fine.roll((down, right), (0, 1))[::4, ::4] for right, down in shifts])[None, :, None]
    displacements = torch.tensor(shifts, dtype=torch.float64)[None] / 4
    found = given(frames, displacements, torch.tensor([0.0]))
    gained, weights = innovations(frames, found, torch.ones_like(found.errors), 4)[0, 0].chunk(2)
    used = set()
    for x, (right, down) in enumerate(shifts):
        # A sample of frame x shows the scene `shift` to the left of its own place, or one pixel further.
        across, up = (-right + 2) % 4 - 2, (-down + 2) % 4 - 2
        cell = (up + 2) * 4 + across + 2
        used.add(cell)
        true = fine.roll((-up, -across), (0, 1))[::4, ::4]
        here = found.reference[0, 0, 0]
        east, south = here.roll(-1 if across > 0 else 1, 1), here.roll(-1 if up > 0 else 1, 0)
        diagonal = south.roll(-1 if across > 0 else 1, 1)
        a, b = abs(across) / 4, abs(up) / 4
        interpolated = (1 - b) * ((1 - a) * here + a * east) + b * ((1 - a) * south + a * diagonal)
        assert torch.allclose(inside(gained[cell] + interpolated, 2), inside(true, 2), atol=1e-9), x
        assert (inside(weights[cell], 2) == 1).all(), x
    assert len(used) == 4, "the frames lie in different cells"
    for cell in set(range(16)) - used:
        assert (gained[cell] == 0).all() and (weights[cell] == 0).all()


def test_copies_add_nothing():
    clip = moving(count=1).expand(-1, 4, -1, -1, -1).contiguous()
    found = align(clip, TAU)
    assert innovations(clip, found, torch.ones_like(found.errors), 4)[:, :, :16].abs().max() < 1e-4


def test_frames_without_confidence_and_places_outside_add_nothing():
    frames = torch.rand(1, 2, 1, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = given(frames, torch.tensor([[[0.0, 0.0], [0.25, 0.0]]]), torch.tensor([0.0]))
    nothing = torch.zeros_like(found.errors)
    assert (innovations(frames, found, nothing, 2) == 0).all()
    far = given(frames, torch.tensor([[[0.0, 0.0], [9.0, 0.0]]]), torch.tensor([0.0]))
    alone = innovations(
        frames[:, :1], given(frames[:, :1], torch.zeros(1, 1, 2), torch.tensor([0.0])), nothing[:, :, :1] + 1, 2
    )
    assert torch.equal(innovations(frames, far, nothing + 1, 2), alone)


def test_confidence_has_a_gradient():
    clip = moving().double()
    found = align(clip, torch.tensor([1.0]))
    confidence = (0.2 + 0.6 * torch.rand(found.errors.shape, dtype=torch.float64)).requires_grad_()
    innovations(clip, found, confidence, 2).square().sum().backward()
    assert confidence.grad.isfinite().all() and (confidence.grad != 0).any()


def test_taken_frames():
    x = torch.arange(2 * 3 * 4).view(2, 3, 4)
    assert taken(x, torch.tensor([3, 0, 1])).tolist() == [[3, 4, 9], [15, 16, 21]]


def test_no_value_is_read():
    """On tensors without values, as for export; a device would be waited for at each value that is read."""
    with FakeTensorMode():
        clip = torch.rand(2, 4, 1, 26, 30)
        found = align(clip, torch.rand(5) * 3)
        gained = innovations(clip, found, torch.ones_like(found.errors), 4)
        assert gained.shape == (2, 5, 32, 26, 30)
        assert warp_between(torch.rand(2, 4, 1, 52, 60), found).shape == (2, 5, 1, 52, 60)
