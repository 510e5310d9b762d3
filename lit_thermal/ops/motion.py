"""Alignment of the frames of a clip along their motion, at any time."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.ops.flow import optical_flow, sample_at

MATCHED = 3
"""Side in pixels of the window over which aligned frames are compared."""
AT_A_FRAME = 1e-3
"""Times nearer than this to an input frame, in input frames, are its own."""


class Alignment(NamedTuple):
    """Displacements that align the input frames to each output time, and how well they fit; all on one device."""

    displacements: Tensor
    """(B, T, X, 2, h, w) in pixels: where the content of an output pixel lies in each input frame."""
    errors: Tensor
    """(B, T, X, 1, h, w): local difference of each aligned frame from the reference at the output time."""
    reference: Tensor
    """(B, T, 1, h, w): the frame at each output time, which aligned frames are compared with."""
    trust: Tensor
    """(B, T, 1, h, w): share of the warped neighbours in the base image; the rest is their blend as they lie."""
    neighbours: tuple[Tensor, Tensor]
    """Indices (T,) of the frames before and after each time."""
    share: Tensor
    """(T,): part of the way from the frame before to the frame after."""


@torch.no_grad()
def align(frames: Tensor, tau: Tensor) -> Alignment:
    """Find where the content of each output time lies in each input frame.

    No value of `tau` is read, so a device is not waited for.

    Args:
        frames: input frames (B, X, 1, h, w) at the times 0, 1, ..., X - 1.
        tau: output times (T,) in [0, X - 1].
    """
    count = frames.shape[1]
    tau = tau.to(frames.device, non_blocking=True)
    before, after, share = neighbours_of(tau, count)
    if count == 1:
        still = frames.new_zeros(frames.shape[0], len(tau), 1, 2, *frames.shape[-2:])
        return compared(frames, still, tau)
    forward, backward = _flows(frames)
    velocity = _velocity(frames[:, before], frames[:, after], forward[:, before], backward[:, before], share.to(frames))
    part = share.to(frames).view(1, -1, 1, 1, 1)
    to_before, to_after = -part * velocity, (1 - part) * velocity
    # At a frame's own time the flow from this frame is exact and nothing is to be chosen.
    at_before, at_after = (close.view(1, -1, 1, 1, 1) for close in (share < AT_A_FRAME, share > 1 - AT_A_FRAME))
    still = torch.zeros_like(velocity)
    to_after = torch.where(at_before, _followed(still, forward[:, before]), to_after.where(~at_after, still))
    to_before = torch.where(at_after, _followed(still, backward[:, before]), to_before.where(~at_before, still))
    return compared(frames, _chained(before, to_before, to_after, forward, backward), tau)


def neighbours_of(tau: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the frames before and after each time and the part of the way between them, (T,) each."""
    before = (tau + 1e-4).floor().long().clamp(max=max(count - 2, 0))
    return before, (before + 1).clamp(max=count - 1), tau - before


def around(tau: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the nearest frame strictly before each time and the nearest strictly after it, within the clip."""
    before, after = (tau - AT_A_FRAME).floor().long(), (tau + AT_A_FRAME).ceil().long()
    return before.clamp(0, count - 1), after.clamp(0, count - 1)


def compared(frames: Tensor, displacements: Tensor, tau: Tensor) -> Alignment:
    """Compare the frames at displacements with a reference at each output time.

    The reference at an input frame's time is that frame. In between it is the mean of the two warped neighbours where
    these agree better than the neighbours as they lie, and their blend elsewhere; trust is the share of the former.

    Args:
        frames: input frames (B, X, 1, h, w) at the times 0, 1, ..., X - 1.
        displacements: displacements (B, T, X, 2, h, w) in pixels.
        tau: output times (T,) in [0, X - 1], on the device of the frames.
    """
    count = frames.shape[1]
    before, after, share = neighbours_of(tau, count)
    moved = sampled(frames, displacements)
    part = share.to(frames).view(1, -1, 1, 1, 1)
    still_one, still_two = frames[:, before], frames[:, after]
    one, two = taken(moved, before), taken(moved, after)
    aligned, still = _locally(one - two), _locally(still_one - still_two)
    observed = (share < AT_A_FRAME) | (share > 1 - AT_A_FRAME) | (count == 1)
    observed = observed.view(1, -1, 1, 1, 1)
    trust = (still / (aligned + still + 1e-4)).masked_fill(observed, 0.0)
    between = torch.lerp(torch.lerp(still_one, still_two, part), torch.lerp(one, two, part), trust)
    reference = torch.where(observed, frames[:, tau.round().long()], between)
    errors = _locally(moved - reference.unsqueeze(2))
    return Alignment(displacements, errors, reference, trust, (before, after), share)


def _flows(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return flow from each frame to the next and from each next frame back, both (B, X - 1, 2, h, w)."""
    one, two = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
    flow = optical_flow(torch.cat([one, two]), torch.cat([two, one]), radius=1)
    forward, backward = flow.chunk(2)
    shape = (frames.shape[0], frames.shape[1] - 1)
    return forward.unflatten(0, shape), backward.unflatten(0, shape)


def _velocity(one: Tensor, two: Tensor, forward: Tensor, backward: Tensor, share: Tensor) -> Tensor:
    """Return the flow per frame (B, T, 2, h, w) at times between two frames, for the pixels of these times.

    Candidates are read where a pixel would come from; the one by which the frames agree best over a window is taken.
    """
    part = share.view(1, -1, 1, 1, 1)
    mean = (forward - backward) / 2
    ahead = _sampled_each(forward, -part * mean)
    back = -_sampled_each(backward, (1 - part) * mean)
    best = (ahead + back) / 2
    lowest = _mismatch(one, two, best, part)
    for candidate in (ahead, back, torch.zeros_like(mean)):
        cost = _mismatch(one, two, candidate, part)
        best, lowest = torch.where(cost < lowest, candidate, best), torch.minimum(cost, lowest)
    return best


def _mismatch(one: Tensor, two: Tensor, velocity: Tensor, part: Tensor) -> Tensor:
    """Return the local difference (B, T, 1, h, w) of two frames that are warped to the times between them."""
    return _locally(_sampled_each(one, -part * velocity) - _sampled_each(two, (1 - part) * velocity))


def _followed(place: Tensor, flow: Tensor) -> Tensor:
    """Follow a flow (B, T, 2, h, w), or (B, 2, h, w) for all times, from displacements (B, T, 2, h, w) one frame on."""
    if flow.ndim == 4:
        flow = flow.unsqueeze(1).expand(-1, place.shape[1], -1, -1, -1)
    return place + _sampled_each(flow, place)


def _chained(before: Tensor, to_before: Tensor, to_after: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
    """Return the displacements (B, T, X, 2, h, w) to all frames from those to the frames before and after each time."""
    count = forward.shape[1] + 1
    index = before.view(1, -1, 1, 1, 1)
    places = [torch.where(index < x, to_after, to_before) for x in range(count)]
    for x in range(2, count):
        places[x] = torch.where(index < x - 1, _followed(places[x - 1], forward[:, x - 1]), places[x])
    for x in range(count - 2, -1, -1):
        places[x] = torch.where(index > x, _followed(places[x + 1], backward[:, x]), places[x])
    return torch.stack(places, dim=2)


def warp_between(enlarged: Tensor, found: Alignment) -> Tensor:
    """Warp the enlarged neighbours to each output time where they agree; blend them as they lie elsewhere.

    Args:
        enlarged: frames (B, X, C, H, W), enlarged or not.
        found: alignment of the frames, at any resolution of the same shape.

    Returns:
        Frames (B, T, C, H, W); at an input frame's time, that frame.
    """
    size, factor = enlarged.shape[-2:], enlarged.shape[-1] / found.trust.shape[-1]
    share = found.share.to(enlarged).view(1, -1, 1, 1, 1)
    still, warped = [], []
    for index in found.neighbours:
        places = taken(found.displacements, index).flatten(0, 1).to(enlarged)
        places = factor * F.interpolate(places, size, mode="bilinear", align_corners=False)
        frames = enlarged[:, index]
        still.append(frames)
        warped.append(sample_at(frames.flatten(0, 1), places).unflatten(0, frames.shape[:2]))
    trust = F.interpolate(found.trust.flatten(0, 1).to(enlarged), size, mode="bilinear", align_corners=False)
    plain = torch.lerp(still[0], still[1], share)
    return torch.lerp(plain, torch.lerp(warped[0], warped[1], share), trust.unflatten(0, plain.shape[:2]))


def innovations(frames: Tensor, found: Alignment, confidence: Tensor, phases: int) -> Tensor:
    """Collect what the other frames add to the reference, at the sub-pixel positions where their pixels lie.

    Each output pixel is divided into `phases` x `phases` cells. The pixel of another frame that is nearest to the
    pixel's displaced position lies in one of the cells; its difference from the reference, which is interpolated at
    that place, goes into this cell. Frames that share a cell are averaged by their confidence; a frame that does not
    show the place, because it lies outside the image, is left out. This is shift-and-add super-resolution, on
    differences: cells are zero where frames agree, and carry what aliasing hides from one frame.

    Args:
        frames: input frames (B, X, 1, h, w).
        found: their alignment at the output times.
        confidence: weight of each aligned frame (B, T, X, 1, h, w) in [0, 1].
        phases: cells of a pixel along each axis.

    Returns:
        Differences, then weights of the cells: (B, T, 2 * phases**2, h, w). Cells are in row-major order.

    Source: Elad and Hel-Or, "A fast super-resolution reconstruction algorithm for pure translational motion", 2001.
    """
    batch, times, count = found.displacements.shape[:3]
    height, width = frames.shape[-2:]
    columns = torch.arange(width, device=frames.device, dtype=frames.dtype)
    rows = torch.arange(height, device=frames.device, dtype=frames.dtype)[:, None]
    reference = found.reference.flatten(0, 1)
    cells = frames.new_zeros(batch * times, phases**2, height, width)
    weights = torch.zeros_like(cells)
    for x in range(count):
        right, down = found.displacements[:, :, x].flatten(0, 1).to(frames).unbind(1)
        place = torch.stack([columns + right, rows + down], dim=1)
        nearest = place.round()
        offset = nearest - place  # in [-0.5, 0.5]
        column, row = nearest[:, 0].clamp(0, width - 1), nearest[:, 1].clamp(0, height - 1)
        shown = ((column == nearest[:, 0]) & (row == nearest[:, 1])).unsqueeze(1)
        pixel = row.long() * width + column.long()
        source = frames[:, x].repeat_interleave(times, 0).flatten(1)
        value = source.gather(1, pixel.flatten(1)).view(-1, 1, height, width)
        difference = value - sample_at(reference, offset)
        cell = ((offset + 0.5) * phases).floor().clamp(0, phases - 1).long()
        index = (cell[:, 1] * phases + cell[:, 0]).unsqueeze(1)
        trust = confidence[:, :, x].flatten(0, 1).to(frames) * shown
        cells = cells.scatter_add(1, index, trust * difference)
        weights = weights.scatter_add(1, index, trust)
    return torch.cat([cells / weights.clamp(min=1e-3), weights], dim=1).unflatten(0, (batch, times))


def taken(x: Tensor, index: Tensor) -> Tensor:
    """Take frame `index[t]` at each time t of (B, T, X, ...): (B, T, ...). The index lies on the device of `x`."""
    times, count = x.shape[1:3]
    # The gradient of index_select is several times faster than that of x[:, range(times), index].
    return x.flatten(1, 2).index_select(1, torch.arange(times, device=x.device) * count + index)


def sampled(x: Tensor, displacements: Tensor) -> Tensor:
    """Sample frames (B, X, C, h, w) at displacements (B, T, X, 2, h, w) of each time: (B, T, X, C, h, w)."""
    repeated = x.unsqueeze(1).expand(-1, displacements.shape[1], -1, -1, -1, -1)
    return sample_at(repeated.flatten(0, 2), displacements.flatten(0, 2)).unflatten(0, displacements.shape[:3])


def _sampled_each(x: Tensor, displacements: Tensor) -> Tensor:
    """Sample images (B, T, C, h, w) at displacements (B, T, 2, h, w): (B, T, C, h, w)."""
    return sample_at(x.flatten(0, 1), displacements.flatten(0, 1)).unflatten(0, x.shape[:2])


def _locally(difference: Tensor) -> Tensor:
    """Return the mean absolute value over a window around each pixel of (..., 1, h, w), with repeated edges."""
    half = MATCHED // 2
    flat = difference.abs().reshape(-1, 1, *difference.shape[-2:])
    return F.avg_pool2d(F.pad(flat, (half, half, half, half), mode="replicate"), MATCHED, stride=1).view_as(difference)
