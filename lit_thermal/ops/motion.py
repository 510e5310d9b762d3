"""Alignment of the frames of a clip along their motion, at any time."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.ops.flow import optical_flow, sample_at

MATCHED = 3
"""Side in pixels of the window over which aligned frames are compared."""


class Alignment(NamedTuple):
    """Displacements that align the input frames to each output time, and how well they fit."""

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


@torch.no_grad()
def align(frames: Tensor, tau: Tensor) -> Alignment:
    """Find where the content of each output time lies in each input frame.

    Args:
        frames: input frames (B, X, 1, h, w) at the times 0, 1, ..., X - 1.
        tau: output times (T,) in [0, X - 1].
    """
    batch, count = frames.shape[:2]
    forward, backward = _flows(frames)
    before = (tau + 1e-4).floor().long().clamp(max=max(count - 2, 0)).tolist()
    displacements, references, errors, trusted = [], [], [], []
    for index, time in zip(before, tau.tolist(), strict=True):
        share = time - index
        if count == 1:
            places = [frames.new_zeros(batch, 2, *frames.shape[-2:])]
        elif share < 1e-3 or share > 1 - 1e-3:
            places = _from_frame(round(time), forward, backward, count)
        else:
            velocity = _velocity(frames[:, index], frames[:, index + 1], forward[:, index], backward[:, index], share)
            places = _chained(index, -share * velocity, (1 - share) * velocity, forward, backward, count)
        stacked = torch.stack(places, dim=1)  # (B, X, 2, h, w)
        moved = _warped(frames, stacked)
        displacements.append(stacked)
        reference, error, trust = _agreement(frames, moved, index, time)
        references.append(reference)
        errors.append(error)
        trusted.append(trust)
    after = [min(i + 1, count - 1) for i in before]
    device = frames.device
    return Alignment(
        torch.stack(displacements, 1),
        torch.stack(errors, 1),
        torch.stack(references, 1),
        torch.stack(trusted, 1),
        (torch.tensor(before, device=device), torch.tensor(after, device=device)),
    )


def _flows(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return flow from each frame to the next and from each next frame back, both (B, X - 1, 2, h, w)."""
    one, two = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
    if not len(one):
        empty = frames.new_zeros(len(frames), 0, 2, *frames.shape[-2:])
        return empty, empty
    flow = optical_flow(torch.cat([one, two]), torch.cat([two, one]), radius=1)
    forward, backward = flow.chunk(2)
    shape = (len(frames), frames.shape[1] - 1)
    return forward.unflatten(0, shape), backward.unflatten(0, shape)


def _velocity(one: Tensor, two: Tensor, forward: Tensor, backward: Tensor, share: float) -> Tensor:
    """Return the flow per frame at a time between two frames, for the pixels of that time.

    Candidates are read where a pixel would come from; the one by which the frames agree best over a window is taken.
    """
    mean = (forward - backward) / 2
    ahead = sample_at(forward, -share * mean)
    back = -sample_at(backward, (1 - share) * mean)
    candidates = torch.stack([(ahead + back) / 2, ahead, back, torch.zeros_like(mean)])
    costs = []
    for candidate in candidates:
        difference = sample_at(one, -share * candidate) - sample_at(two, (1 - share) * candidate)
        costs.append(_locally(difference.abs()))
    best = torch.stack(costs).argmin(dim=0, keepdim=True).expand(-1, -1, 2, -1, -1)
    return candidates.gather(0, best)[0]


def _from_frame(index: int, forward: Tensor, backward: Tensor, count: int) -> list[Tensor]:
    """Return the displacements from an input frame to all of them."""
    still = torch.zeros_like(forward[:, 0])
    places: list[Tensor] = [still] * count
    for x in range(index + 1, count):
        places[x] = places[x - 1] + sample_at(forward[:, x - 1], places[x - 1])
    for x in range(index - 1, -1, -1):
        places[x] = places[x + 1] + sample_at(backward[:, x], places[x + 1])
    return places


def _chained(
    index: int, to_before: Tensor, to_after: Tensor, forward: Tensor, backward: Tensor, count: int
) -> list[Tensor]:
    """Return the displacements from a time between frames `index` and `index + 1` to all frames."""
    places: list[Tensor] = [to_before] * count
    places[index + 1] = to_after
    for x in range(index + 2, count):
        places[x] = places[x - 1] + sample_at(forward[:, x - 1], places[x - 1])
    for x in range(index - 1, -1, -1):
        places[x] = places[x + 1] + sample_at(backward[:, x], places[x + 1])
    return places


def _agreement(frames: Tensor, moved: Tensor, index: int, time: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the reference, the local disagreement of each aligned frame with it (B, X, 1, h, w), and the trust.

    The reference at an input frame's time is that frame. In between it is the mean of the two warped neighbours where
    these agree better than the neighbours as they lie, and their blend elsewhere; trust is the share of the former.
    """
    share = time - index
    if share < 1e-3 or share > 1 - 1e-3 or frames.shape[1] == 1:
        base = frames[:, round(time)]
        trust = torch.zeros_like(base)
    else:
        one, two = moved[:, index], moved[:, index + 1]
        still_one, still_two = frames[:, index], frames[:, index + 1]
        aligned, still = _locally((one - two).abs()), _locally((still_one - still_two).abs())
        trust = still / (aligned + still + 1e-4)
        base = torch.lerp(torch.lerp(still_one, still_two, share), torch.lerp(one, two, share), trust)
    errors = _locally((moved - base.unsqueeze(1)).abs().flatten(0, 1)).unflatten(0, moved.shape[:2])
    return base, errors, trust


def warp_between(enlarged: Tensor, tau: Tensor, found: Alignment) -> Tensor:
    """Warp the enlarged neighbours to each output time where they agree; blend them as they lie elsewhere.

    Args:
        enlarged: frames (B, X, C, H, W), enlarged or not.
        tau: output times (T,) in input frames.
        found: alignment of the frames, at any resolution of the same shape.

    Returns:
        Frames (B, T, C, H, W); at an input frame's time, that frame.
    """
    size, factor = enlarged.shape[-2:], enlarged.shape[-1] / found.trust.shape[-1]
    share = (tau - found.neighbours[0].to(tau)).to(enlarged).view(1, -1, 1, 1, 1)
    still, warped = [], []
    for index in found.neighbours:
        places = taken(found.displacements, index).flatten(0, 1).to(enlarged)
        places = factor * F.interpolate(places, size, mode="bilinear", align_corners=False)
        frames = enlarged[:, index.to(enlarged.device)]
        still.append(frames)
        warped.append(sample_at(frames.flatten(0, 1), places).unflatten(0, frames.shape[:2]))
    trust = F.interpolate(found.trust.flatten(0, 1).to(enlarged), size, mode="bilinear", align_corners=False)
    plain = torch.lerp(still[0], still[1], share)
    return torch.lerp(plain, torch.lerp(warped[0], warped[1], share), trust.unflatten(0, plain.shape[:2]))


def innovations(frames: Tensor, found: Alignment, confidence: Tensor, phases: int) -> Tensor:
    """Collect what the other frames add to the reference, at the sub-pixel positions where their pixels lie.

    Each output pixel is divided into `phases` x `phases` cells. The pixel of another frame that is nearest to the
    pixel's displaced position lies in one of the cells; its difference from the reference, which is interpolated at
    that place, goes into this cell. Frames that share a cell are averaged by their confidence. This is shift-and-add
    super-resolution, on differences: cells are zero where frames agree, and carry what aliasing hides from one frame.

    Args:
        frames: input frames (B, X, 1, h, w).
        found: their alignment at the output times.
        confidence: weight of each aligned frame (B, T, X, 1, h, w) in [0, 1].
        phases: cells of a pixel along each axis.

    Returns:
        Differences, then weights of the cells: (B, T, 2 * phases**2, h, w).

    Source: Elad and Hel-Or, "A fast super-resolution reconstruction algorithm for pure translational motion", 2001.
    """
    batch, times, count = found.displacements.shape[:3]
    height, width = frames.shape[-2:]
    grid = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), dim=0).to(
        frames
    )  # to the right, down
    reference = found.reference.flatten(0, 1)
    cells = frames.new_zeros(batch * times, phases**2, height, width)
    weights = torch.zeros_like(cells)
    for x in range(count):
        place = grid + found.displacements[:, :, x].flatten(0, 1)
        nearest = place.round()
        offset = nearest - place  # in [-0.5, 0.5]
        column = nearest[:, 0].clamp(0, width - 1).long()
        row = nearest[:, 1].clamp(0, height - 1).long()
        source = frames[:, x].repeat_interleave(times, 0).flatten(1)
        value = source.gather(1, (row * width + column).flatten(1)).view(-1, 1, height, width)
        difference = value - sample_at(reference, offset)
        cell = ((offset + 0.5) * phases).floor().clamp(0, phases - 1).long()
        index = (cell[:, 1] * phases + cell[:, 0]).unsqueeze(1)
        trust = confidence[:, :, x].flatten(0, 1).to(frames)
        cells = cells.scatter_add(1, index, trust * difference)
        weights = weights.scatter_add(1, index, trust)
    return torch.cat([cells / weights.clamp(min=1e-3), weights], dim=1).unflatten(0, (batch, times))


def taken(x: Tensor, index: Tensor) -> Tensor:
    """Take frame `index[t]` at each time t of (B, T, X, ...): (B, T, ...)."""
    return x[:, torch.arange(x.shape[1], device=x.device), index.to(x.device)]


def _locally(x: Tensor) -> Tensor:
    """Return the mean over a window around each pixel of (N, 1, h, w), with repeated edges."""
    half = MATCHED // 2
    return F.avg_pool2d(F.pad(x, (half, half, half, half), mode="replicate"), MATCHED, stride=1)


def _warped(frames: Tensor, places: Tensor) -> Tensor:
    """Sample frames (B, X, C, h, w) at displacements (B, X, 2, h, w)."""
    return sample_at(frames.flatten(0, 1), places.flatten(0, 1)).unflatten(0, frames.shape[:2])
