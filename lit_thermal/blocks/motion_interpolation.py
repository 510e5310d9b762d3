"""Temporal interpolation that follows motion: input frames are aligned to each output time before they are blended."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lit_thermal.blocks.temporal_interpolation import TemporalInterpolation, ThermalDiffusionInterpolation
from lit_thermal.errors import InputError
from lit_thermal.ops.motion import align, around, innovations, sampled, taken, warp_between


class MotionAlignedInterpolation(TemporalInterpolation):
    """Bidirectional alignment along estimated motion, then interpolation in time along the trajectories.

    1. Optical flow between neighbouring input frames is estimated in both directions on the frames themselves. Flow at
       an output time is chosen, pixel by pixel, among the forward flow, the backward flow, their mean and none: the
       candidate by which the two frames agree best. Frames farther away are reached by chaining flows.
    2. Features of all input frames are sampled along the flow. A gate, computed from the local disagreement of the
       aligned frames, replaces what does not fit (occlusions, failed matches) by the features of the reference.
    3. `along` interpolates the aligned features: with `ThermalDiffusionInterpolation`, heat diffuses along
       trajectories, where the prior of the paper holds, instead of across moving edges.
    4. Two convolutions fuse the aligned neighbours, and what the displacements say of their sub-pixel positions, into
       the result, so that observed frames gain from their neighbours too. The last one starts at zero.

    The base image of the network is aligned and gated alike. A sequence without motion gives what `along` gives, plus
    the fusion.

    Args:
        dim: number of channels of the features.
        embedding: width of the time embedding.
        along: interpolation along the trajectories.
        fuse: fuse the aligned neighbours; without it, observed frames see only what `along` mixes in.
        phases: sub-pixel cells along each axis in which the neighbours' pixels are collected.
        fuse_kernel: side in pixels of the kernel that reads the aligned neighbours, odd.

    Raises:
        InputError: `phases` or `fuse_kernel` is no such number.

    Source: this project; THERIS (CVPR 2026) interpolates without alignment. Bilateral flow candidates follow Choi et
    al., "New frame rate up-conversion using bi-directional motion estimation", 2000.
    """

    def __init__(
        self,
        dim: int,
        embedding: int,
        along: Callable[[int, int], TemporalInterpolation] = ThermalDiffusionInterpolation,
        fuse: bool = True,
        phases: int = 4,
        fuse_kernel: int = 1,
    ) -> None:
        super().__init__(dim, embedding)
        if phases < 1 or fuse_kernel < 1 or fuse_kernel % 2 == 0:
            raise InputError(
                f"MotionAlignedInterpolation has phases {phases} and fuse_kernel {fuse_kernel}: phases must be at "
                "least 1, and fuse_kernel an odd number"
            )
        self.along = along(dim, embedding)
        self.least_frames = self.along.least_frames
        self.phases = phases
        self.gate = nn.Parameter(torch.tensor([2.0, 60.0]))
        """Confidence where a frame fits perfectly, and its fall per unit of disagreement, before the sigmoid."""
        self.fuse: nn.Sequential | None = None
        if fuse:
            last = nn.Conv2d(dim, dim, 3, padding=1)
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.zeros_(last.bias)
            inputs = 3 * dim + 6 + 2 * phases**2
            first = nn.Conv2d(inputs, dim, fuse_kernel, padding=fuse_kernel // 2)
            self.fuse = nn.Sequential(first, nn.LeakyReLU(0.1), last)

    def weights(self, tau: Tensor, frames: int, embedded: Tensor) -> Tensor:
        """Return the interpolation weights along trajectories (T, frames, 1 or dim)."""
        return self.along.weights(tau, frames, embedded)

    def interpolate(
        self, features: Tensor, frames: Tensor, enlarged: Tensor, tau: Tensor, embedded: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Align features and enlarged frames along the motion and interpolate them; see the base class."""
        self.check(features.shape[1], tau)
        with torch.autocast(features.device.type, enabled=False):
            gray = frames.float().mean(dim=2, keepdim=True)
            found = align(gray, tau)
        moved = sampled(features, found.displacements)  # (B, T, X, C, h, w)
        confidence = torch.sigmoid(self.gate[0] - self.gate[1] * found.errors).to(moved)
        before, after = (taken(moved, index) for index in found.neighbours)
        own = torch.lerp(before, after, found.share.to(moved).view(1, -1, 1, 1, 1))
        moved = own.unsqueeze(2) + confidence * (moved - own.unsqueeze(2))
        with torch.autocast(features.device.type, enabled=False):
            weights = self.weights(tau.cpu().double(), features.shape[1], embedded).to(moved, non_blocking=True)
            weights = weights.expand(-1, -1, features.shape[2])
            mixed = torch.einsum("ixc,bixchw->bichw", weights, moved)
        base = warp_between(enlarged, found)
        if self.fuse is None:
            return mixed, base
        first, second = around(tau.to(features.device, non_blocking=True), features.shape[1])
        parts = [own, taken(moved, first), taken(moved, second)]
        for index in (first, second):
            parts += [taken(found.displacements, index).to(moved), taken(confidence, index)]
        parts.append(innovations(gray, found, confidence, self.phases).to(moved))
        fused = self.fuse(torch.cat(parts, dim=2).flatten(0, 1)).unflatten(0, mixed.shape[:2])
        return mixed + fused, base
