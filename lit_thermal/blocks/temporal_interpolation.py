"""Temporal interpolation: computes features at any output time from those of the input frames."""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.ops.dct import cosine_basis


class TemporalInterpolation(nn.Module, ABC):
    """Base of the family: a linear map over the frame axis, given by weights per output time and channel.

    In subclasses the weights of each output must sum to one (a constant sequence stays constant), and times must lie
    in [0, X - 1]. The discrete cosine form needs uniform input times 0, 1, ..., X - 1 and at least three frames: with
    two, the only varying basis function is zero half-way, and so is every gradient of the kernel.

    Args:
        dim: number of channels of the features.
        embedding: width of the time embedding.
    """

    least_frames = 3

    def __init__(self, dim: int, embedding: int) -> None:
        super().__init__()
        self.dim = dim
        self.embedding = embedding

    @abstractmethod
    def weights(self, tau: Tensor, frames: int, embedded: Tensor) -> Tensor:
        """Return interpolation weights (T, frames, 1 or dim) for times (T,), embedded as (T, embedding).

        `tau` is float64 on the CPU, because not every device supports float64 and the bases are tiny.
        """

    def forward(self, features: Tensor, tau: Tensor, embedded: Tensor) -> Tensor:
        """Interpolate features (B, X, C, H, W) at times (T,), in input frames, to (B, T, C, H, W) of the same type.

        Raises:
            InputError: there are too few input frames, or a time lies outside [0, X - 1].
        """
        frames = features.shape[1]
        self.check(frames, tau)
        with torch.autocast(features.device.type, enabled=False):
            weights = self.weights(tau.cpu().double(), frames, embedded).to(features, non_blocking=True)
            if weights.shape[-1] == 1:
                return torch.einsum("ix,bxchw->bichw", weights[..., 0], features)
            return torch.einsum("ixc,bxchw->bichw", weights, features)

    def interpolate(
        self, features: Tensor, frames: Tensor, enlarged: Tensor, tau: Tensor, embedded: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Interpolate features and enlarged frames at the output times; members that follow motion read the frames.

        Args:
            features: features (B, X, C, h, w) of the input frames.
            frames: input frames (B, X, N, h, w), values in [0, 1]; N is 1 for thermal images.
            enlarged: input frames (B, X, N, H, W), enlarged by a fixed kernel.
            tau: output times (T,) in input frames.
            embedded: embedded times (T, embedding).

        Returns:
            Features (B, T, C, h, w), and the base images (B, T, N, H, W) that the network corrects; at the time of an
            input frame, this is the enlarged frame. By default the enlarged frames are blended linearly for these,
            whatever the interpolation of the features is.

        Raises:
            InputError: there are too few input frames, or a time lies outside [0, X - 1].
        """
        return self(features, tau, embedded), blend(enlarged, tau)

    def check(self, frames: int, tau: Tensor) -> None:
        """Check the number of input frames and the range of the output times.

        Times that do not lie on the CPU are not checked, because reading them would wait for their device.

        Raises:
            InputError: there are too few input frames, or a time lies outside [0, X - 1].
        """
        if frames < self.least_frames:
            raise InputError(
                f"{type(self).__name__} needs at least {self.least_frames} input frames and got {frames}; "
                "give longer clips, or use LinearInterpolation"
            )
        known = tau.device.type == "cpu" and not torch.compiler.is_exporting()
        if known and len(tau) and (tau.min() < 0 or tau.max() > frames - 1):
            raise InputError(
                f"output times must lie in [0, {frames - 1}] input frames, not [{tau.min():g}, {tau.max():g}]"
            )


def blend(frames: Tensor, tau: Tensor) -> Tensor:
    """Blend the two neighbouring frames of (B, X, C, h, w) linearly at times (T,): (B, T, C, h, w)."""
    weights = _hats(tau.cpu().double(), frames.shape[1]).to(frames, non_blocking=True)
    with torch.autocast(frames.device.type, enabled=False):  # the base image keeps more than 8 bits
        return torch.einsum("ix,bxchw->bichw", weights, frames)


def _hats(tau: Tensor, frames: int) -> Tensor:
    """Return hat functions (T, frames)."""
    nodes = torch.arange(frames, dtype=torch.float64)
    return (1 - (tau[:, None] - nodes).abs()).clamp(min=0)


class LinearInterpolation(TemporalInterpolation):
    """Blends the two neighbouring frames linearly in time."""

    least_frames = 1

    def weights(self, tau: Tensor, frames: int, embedded: Tensor) -> Tensor:
        """Return hat functions (T, frames, 1)."""
        return _hats(tau, frames).unsqueeze(-1)


class CosineInterpolation(TemporalInterpolation):
    """Evaluates the cosine series of the frames at the output times: thermal diffusion with kappa = 0.

    The result passes through the input frames but rings: with four frames a step overshoots by 15 %.
    """

    def weights(self, tau: Tensor, frames: int, embedded: Tensor) -> Tensor:
        """Return the product of inverse and forward cosine transform (T, frames, 1)."""
        return (cosine_basis(tau, frames) @ cosine_basis(torch.arange(frames), frames).T).unsqueeze(-1)


class ThermalDiffusionInterpolation(TemporalInterpolation):
    """TDIM of THERIS: frames are samples of a 1-D thermal field along time, interpolated by heat diffusion.

    The cosine coefficients of the frames are damped by ``exp(-E_n)`` before the inverse transform is evaluated at
    the output times, with ``E_0 = 0`` so that the mean never decays. The decay kappa(n) >= 0 comes from the time
    embedding through an MLP and Softplus as knots over n / X per channel, so that any number of frames can be given.
    THERIS (CVPR 2026) specifies kernel, embedding and Softplus; the knots, widths and forms below are ours.

    - ``monotone``: ``E_n = sum_{m<=n} kappa_m (w_m^2 - w_{m-1}^2)``, ``w_m = pi m / X``, which grows with frequency.
    - ``free``: ``E_n = kappa_n w_n^2``, the literal formula, which need not grow with frequency.
    - ``shared``: one kappa for all channels and frequencies of an output time.

    Args:
        dim: number of channels of the features.
        embedding: width of the time embedding.
        kappa: form of the decay: ``monotone``, ``free`` or ``shared``.
        knots: number of support points of kappa over frequency, at least 2 and at most the number of input frames in
            training; with more, some knots lie between the frequencies of the clips and are never trained.
        initial_kappa: decay before training, greater than 0; near 0 the cosine series rings (15 % overshoot on a step).
        anchor_observed: multiply the decay by sin^2(pi tau), so that input frames are not damped.
    """

    def __init__(
        self,
        dim: int,
        embedding: int,
        kappa: Literal["monotone", "free", "shared"] = "monotone",
        knots: int = 4,
        initial_kappa: float = 0.05,
        anchor_observed: bool = False,
    ) -> None:
        super().__init__(dim, embedding)
        if initial_kappa <= 0:
            raise InputError(f"initial_kappa must be positive, not {initial_kappa}; for none use CosineInterpolation")
        if knots < 2:
            raise InputError(f"knots must be at least 2, not {knots}")
        self.kappa_form = kappa
        self.knots = knots
        self.anchor_observed = anchor_observed
        outputs = 1 if kappa == "shared" else knots * dim
        self.mlp = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU(), nn.Linear(embedding, outputs))
        last = self.mlp[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        # Inverse Softplus, in the form that does not overflow.
        nn.init.constant_(last.bias, initial_kappa + math.log(-math.expm1(-initial_kappa)))

    def kappa(self, embedded: Tensor, frames: int) -> Tensor:
        """Return the non-negative decay (T, frames, dim), or (T, frames, 1) if shared, per time and frequency."""
        raw = F.softplus(self.mlp(embedded))
        if self.kappa_form == "shared":
            return raw[:, None, :].expand(-1, frames, 1)
        at_knots = raw.reshape(len(raw), self.dim, self.knots)
        position = torch.arange(frames, dtype=torch.float64) / frames * (self.knots - 1)
        nodes = torch.arange(self.knots, dtype=torch.float64)
        hats = (1 - (position[:, None] - nodes).abs()).clamp(min=0).to(raw, non_blocking=True)
        return torch.einsum("nm,icm->inc", hats, at_knots)

    def energy(self, tau: Tensor, frames: int, embedded: Tensor) -> Tensor:
        """Return the exponents E_n >= 0 of the damping, (T, frames, dim or 1), where E_0 = 0."""
        squared = (math.pi * torch.arange(frames, dtype=torch.float64) / frames) ** 2
        kappa = self.kappa(embedded, frames)
        if self.kappa_form == "free":
            energy = kappa * squared.to(kappa, non_blocking=True)[:, None]
        else:
            steps = squared.diff(prepend=squared[:1])
            energy = (kappa * steps.to(kappa, non_blocking=True)[:, None]).cumsum(dim=1)
        if self.anchor_observed:
            energy = energy * torch.sin(math.pi * tau).square().to(energy, non_blocking=True)[:, None, None]
        return energy

    def weights(self, tau: Tensor, frames: int, embedded: Tensor) -> Tensor:
        """Return the product (T, frames, dim or 1) of inverse transform, damping and forward transform."""
        damping = torch.exp(-self.energy(tau, frames, embedded))
        inverse = cosine_basis(tau, frames).to(damping, non_blocking=True)
        forward = cosine_basis(torch.arange(frames), frames).T.to(damping, non_blocking=True)
        return torch.einsum("in,inc,nx->ixc", inverse, damping, forward)
