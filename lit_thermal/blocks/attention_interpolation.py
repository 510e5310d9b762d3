"""Temporal interpolation by local attention: input frames are aligned to each output time by what they look like."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.temporal_interpolation import TemporalInterpolation, ThermalDiffusionInterpolation, blend
from lit_thermal.errors import InputError
from lit_thermal.ops.motion import around, compared, taken, warp_between


class LocalAttentionInterpolation(TemporalInterpolation):
    """Alignment of the input frames by attention over a local window, then interpolation in time of what is aligned.

    1. A query is computed for each pixel of each output time from the linear blend of the features. It is compared with
       the keys of all input frames in a window around the pixel. The score is the negative squared distance of query
       and key, plus a bias from the relative position in space and time.
    2. The softmax over the positions of one frame aligns this frame. The softmax over positions and frames gives the
       reference at the output time and the share of each frame in it; the smaller the share of a frame, the more of its
       aligned features are replaced by the reference.
    3. `along` interpolates the aligned features.
    4. Two convolutions fuse the reference and the two nearest aligned frames into the result. The last one starts at
       zero.

    The base image is warped by the mean displacement under the attention of each frame where the two neighbours agree
    after the warp, and is their blend elsewhere. Outside training, memory holds the windows of one frame at a time.

    Args:
        dim: number of channels of the features.
        embedding: width of the time embedding.
        along: interpolation of the aligned features.
        window: odd side in pixels of the window around each pixel.
        match: number of channels of queries and keys.
        fuse: fuse the aligned neighbours; without it, observed frames see only what `along` mixes in.
        warp_base: warp the base image; without it, the base image is a linear blend.

    Raises:
        InputError: the window is not odd and positive, or there are no channels to match.

    Source: this project; local attention between frames follows Liang et al., "VRT: a video restoration transformer",
    2022, and the bias Liu et al., "Swin Transformer V2", 2022.
    """

    def __init__(
        self,
        dim: int,
        embedding: int,
        along: Callable[[int, int], TemporalInterpolation] = ThermalDiffusionInterpolation,
        window: int = 5,
        match: int = 16,
        fuse: bool = True,
        warp_base: bool = True,
    ) -> None:
        super().__init__(dim, embedding)
        if window < 1 or window % 2 == 0:
            raise InputError(f"window must be an odd number of pixels, not {window}")
        if match < 1:
            raise InputError(f"match must be at least 1 channel, not {match}")
        self.along = along(dim, embedding)
        self.least_frames = self.along.least_frames
        self.window, self.warp_base = window, warp_base
        self.match = nn.Conv2d(dim, match, 3, padding=1, bias=False)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(100.0)))
        """Logarithm of the weight of the mean squared distance of query and key."""
        self.falloff = nn.Parameter(torch.tensor([1.0, 1.0]))
        """Fall of the score per squared pixel and per input frame of distance."""
        self.bias = nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Linear(16, 1))
        self.fuse: nn.Sequential | None = None
        zero = [self.bias[-1]]
        if fuse:
            self.fuse = nn.Sequential(
                nn.Conv2d(3 * dim, 2 * dim, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(2 * dim, dim, 3, padding=1)
            )
            zero.append(self.fuse[-1])
        for layer in zero:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def weights(self, tau: Tensor, frames: int, embedded: Tensor) -> Tensor:
        """Return the interpolation weights of aligned features (T, frames, 1 or dim)."""
        return self.along.weights(tau, frames, embedded)

    def interpolate(
        self, features: Tensor, frames: Tensor, enlarged: Tensor, tau: Tensor, embedded: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Align features and enlarged frames by attention and interpolate them; see the base class."""
        count = features.shape[1]
        self.check(count, tau)
        aligned, shares, displacements = self.align(features, tau)
        reference = (shares * aligned).sum(dim=2)
        confidence = shares / shares.amax(dim=2, keepdim=True)
        aligned = reference.unsqueeze(2) + confidence * (aligned - reference.unsqueeze(2))
        with torch.autocast(features.device.type, enabled=False):
            weights = self.weights(tau.cpu().double(), count, embedded).to(aligned, non_blocking=True)
            mixed = torch.einsum("ixc,bixchw->bichw", weights.expand(-1, -1, self.dim), aligned)
        times = tau.to(features.device, non_blocking=True)
        if self.fuse is not None:
            near = [reference, *(taken(aligned, index) for index in around(times, count))]
            mixed = mixed + self.fuse(torch.cat(near, dim=2).flatten(0, 1)).unflatten(0, mixed.shape[:2])
        if not self.warp_base:
            return mixed, blend(enlarged, tau)
        with torch.autocast(features.device.type, enabled=False):
            gray = frames.float().mean(dim=2, keepdim=True)
            return mixed, warp_between(enlarged, compared(gray, displacements, times))

    def align(self, features: Tensor, tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attend to each frame of features (B, X, C, h, w) at times (T,).

        Returns:
            Aligned features (B, T, X, C, h, w), the share of each frame in the attention over all frames
            (B, T, X, 1, h, w), and the mean displacement (B, T, X, 2, h, w) in pixels, to the right, then down.
        """
        height, width = features.shape[-2:]
        size = (height, width)
        query = self.match(blend(features, tau).flatten(0, 1)).unflatten(0, (len(features), len(tau)))
        key = self.match(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        with torch.autocast(features.device.type, enabled=False):
            precise = torch.promote_types(features.dtype, torch.float32)
            sharpness = self.log_sharpness.to(precise).exp() / query.shape[2]
            query, key, values = (x.to(precise).flatten(3) for x in (query, key, features))
            places, bias = self._positions(tau, features.shape[1])
            aligned, scores, displacements = [], [], []
            for x in range(features.shape[1]):
                keys = self._windows(key[:, x], size)
                products = torch.einsum("btdp,bdop->btop", query, keys)
                score = sharpness * (2 * products - keys.square().sum(dim=1).unsqueeze(1)) + bias[:, x, :, None]
                attention = score.softmax(dim=2)
                aligned.append(torch.einsum("btop,bcop->btcp", attention, self._windows(values[:, x], size)))
                displacements.append(torch.einsum("btop,oc->btcp", attention, places))
                scores.append(score.logsumexp(dim=2, keepdim=True))
            shares = torch.stack(scores, dim=2).softmax(dim=2)
        stacked = (torch.stack(aligned, dim=2), shares, torch.stack(displacements, dim=2))
        moved, shares, displaced = (x.unflatten(-1, size) for x in stacked)
        return moved.to(features.dtype), shares.to(features.dtype), displaced

    def _positions(self, tau: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Return the positions (window**2, 2) of a window, to the right, then down, and their bias (T, frames, -1)."""
        weight = self.falloff
        half = self.window // 2
        steps = torch.arange(-half, half + 1, device=weight.device, dtype=torch.float32)
        down, right = torch.meshgrid(steps, steps, indexing="ij")
        places = torch.stack([right.flatten(), down.flatten()], dim=1)
        tau = tau.to(weight.device, torch.float32, non_blocking=True)
        times = torch.arange(frames, device=weight.device) - tau[:, None]
        shape = (len(tau), frames, len(places), -1)
        relative = torch.cat([places.expand(shape), times[:, :, None, None].expand(shape)], dim=-1)
        learned = self.bias(relative.to(weight)).squeeze(-1)
        space, time = self.falloff.unbind()
        bias = learned - space * places.square().sum(dim=1) - time * times.abs()[..., None]
        precise = torch.promote_types(weight.dtype, torch.float32)
        return places.to(precise), bias.to(precise)

    def _windows(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the windows (B, C, window**2, P) around the P pixels of (B, C, P), with repeated edges."""
        half = self.window // 2
        padded = F.pad(x.unflatten(-1, size), (half, half, half, half), mode="replicate")
        return F.unfold(padded, self.window).unflatten(1, (x.shape[1], -1))
