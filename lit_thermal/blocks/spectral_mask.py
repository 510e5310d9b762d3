"""Spectral masks: learnable gains in the spatial Fourier domain of each frame."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SpectralMask(nn.Module, ABC):
    """Base of the family: ``x + scale * filter(norm(x))``, or ``filter(x)`` alone, over channels-last frames.

    The norm makes the branch as large in flat regions as at edges. Without it, the block is a filter and keeps the
    amplitudes, from which a small network learns faster. Subclasses must keep the shape of the input for any height and
    width, including odd ones, and compute the filter in float32 at least, regardless of autocast and the type of the
    weights (half-precision transforms need sizes that are powers of two).

    Args:
        dim: number of channels.
        norm: filter a normalised copy, which is scaled and added; without it, the features themselves are filtered.
    """

    def __init__(self, dim: int, norm: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6) if norm else None
        self.scale = nn.Parameter(torch.ones(dim)) if norm else None

    @abstractmethod
    def gains(self, height: int, width: int) -> Tensor:
        """Return gains (dim, height, width // 2 + 1) for the half spectrum of `torch.fft.rfft2`, real or complex."""

    def filter(self, frames: Tensor) -> Tensor:
        """Multiply the spectrum of frames (N, dim, H, W) by the gains: same shape, float32 at least."""
        size = frames.shape[-2:]
        spectrum = torch.fft.rfft2(_precise(frames))
        # The inverse transform restores odd widths only if the size is given.
        return torch.fft.irfft2(spectrum * self.gains(*size), s=size)

    def forward(self, x: Tensor) -> Tensor:
        """Enhance channels-last frames (N, H, W, dim): same shape and type."""
        with torch.autocast(x.device.type, enabled=False):
            precise = _precise(x)
            if self.norm is None or self.scale is None:
                return self.filter(precise.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).to(x.dtype)
            weight, bias = self.norm.weight.to(precise), self.norm.bias.to(precise)
            normed = F.layer_norm(precise, self.norm.normalized_shape, weight, bias, self.norm.eps)
            filtered = self.filter(normed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            return (precise + self.scale * filtered).to(x.dtype)


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _frequencies(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return |fy| of `fftfreq` (H, 1) and fx of `rfftfreq` (1, W // 2 + 1), in cycles per pixel in [0, 1/2]."""
    fy = torch.fft.fftfreq(height, dtype=torch.float32, device=device).abs()
    fx = torch.fft.rfftfreq(width, dtype=torch.float32, device=device)
    return fy[:, None], fx[None, :]


class ZeroPhaseMask(SpectralMask):
    """A real mask ``1 + tanh(theta(|fy|, |fx|))`` in (0, 2), sampled from a grid at the true frequencies.

    The mask is even in both axes, so that nothing is shifted, and does not depend on the frame size. It starts as the
    identity. The paper (THERIS, TSSM) says only that the mask is learnable; this form is ours.

    Args:
        dim: number of channels.
        norm: filter a normalised copy, which is scaled and added, and not the features themselves.
        grid: number of support points (Rh, Rw) over |fy| and |fx| in [0, 1/2].
        dc_fixed: keep the mean level of each channel (gain 1 at frequency 0).
        padding: width in pixels of a reflected border, which reduces artefacts of the periodic transform.
    """

    def __init__(
        self,
        dim: int,
        norm: bool = True,
        grid: tuple[int, int] = (17, 9),
        dc_fixed: bool = True,
        padding: int = 0,
    ) -> None:
        super().__init__(dim, norm)
        self.theta = nn.Parameter(torch.zeros(dim, *grid))
        self.dc_fixed = dc_fixed
        self.padding = padding

    def gains(self, height: int, width: int) -> Tensor:
        """Sample the grid bilinearly at the frequencies of the transform."""
        fy, fx = _frequencies(height, width, self.theta.device)
        # Map [0, 1/2] cycles per pixel to the [-1, 1] of grid_sample, whose last axis is (x, y).
        points = torch.stack(torch.broadcast_tensors(4 * fx - 1, 4 * fy - 1), dim=-1)[None]
        theta = F.grid_sample(
            self.theta[None].float(), points, mode="bilinear", padding_mode="border", align_corners=True
        )
        return _with_dc(self.gain(theta[0]), self.dc_fixed)

    def gain(self, theta: Tensor) -> Tensor:
        """Map the grid's values to gains in (0, 2), 1 at 0."""
        return 1 + torch.tanh(theta)

    def filter(self, frames: Tensor) -> Tensor:
        """Filter (N, dim, H, W), with a reflected border of up to `padding` pixels."""
        if self.padding == 0:
            return super().filter(frames)
        p = min(self.padding, frames.shape[-2] - 1, frames.shape[-1] - 1)
        padded = F.pad(_precise(frames), (p, p, p, p), mode="reflect")
        return super().filter(padded)[..., p : p + frames.shape[-2], p : p + frames.shape[-1]]


class LogGainMask(ZeroPhaseMask):
    """A real mask ``exp(theta(|fy|, |fx|))``, without the upper bound of `ZeroPhaseMask`.

    To undo the blur of optics, high frequencies need gains beyond 2. Otherwise like `ZeroPhaseMask`; this form is ours.
    """

    def gain(self, theta: Tensor) -> Tensor:
        """Map the grid's values to positive gains, 1 at 0."""
        return torch.exp(theta)


class RadialMask(SpectralMask):
    """An isotropic real mask, which depends only on the radius ``sqrt(fy^2 + fx^2)``.

    Args:
        dim: number of channels.
        norm: filter a normalised copy, which is scaled and added, and not the features themselves.
        knots: number of support points over the radius in [0, sqrt(1/2)].
        dc_fixed: keep the mean level of each channel (gain 1 at frequency 0).
    """

    def __init__(self, dim: int, norm: bool = True, knots: int = 16, dc_fixed: bool = True) -> None:
        super().__init__(dim, norm)
        self.theta = nn.Parameter(torch.zeros(dim, knots))
        self.dc_fixed = dc_fixed

    def gains(self, height: int, width: int) -> Tensor:
        """Interpolate the knots linearly at the radii of the transform."""
        fy, fx = _frequencies(height, width, self.theta.device)
        knots = self.theta.shape[1]
        position = torch.sqrt(fy.square() + fx.square()) / 0.5**0.5 * (knots - 1)
        nodes = torch.arange(knots, dtype=position.dtype, device=position.device)
        hats = (1 - (position[..., None] - nodes).abs()).clamp(min=0)
        return _with_dc(1 + torch.tanh(torch.einsum("yxk,ck->cyx", hats, self.theta.float())), self.dc_fixed)


class ComplexMask(SpectralMask):
    """A complex gain for each frequency of one training size, as in global filter networks.

    The mask is tied to the size it was trained at and is resized bilinearly for other sizes. It may shift content.

    Args:
        dim: number of channels.
        norm: filter a normalised copy, which is scaled and added, and not the features themselves.
        size: size (H, W) of the features in training, at the resolution of the thermal input.
    """

    def __init__(self, dim: int, norm: bool = True, size: tuple[int, int] = (32, 32)) -> None:
        super().__init__(dim, norm)
        self.theta = nn.Parameter(torch.zeros(dim, 2, size[0], size[1] // 2 + 1))

    def gains(self, height: int, width: int) -> Tensor:
        """Return ``1 + theta`` as complex numbers; rows are resized with frequency 0 centred, where they are smooth."""
        rows = torch.fft.fftshift(self.theta.float(), dim=2)
        if rows.shape[2:] != (height, width // 2 + 1):
            rows = F.interpolate(rows, size=(height, width // 2 + 1), mode="bilinear", align_corners=False)
        rows = torch.fft.ifftshift(rows, dim=2)
        return torch.complex(1 + rows[:, 0], rows[:, 1])


class IdentityMask(SpectralMask):
    """The spectral branch without its mask: gains of 1 ("w/o Spectral Mask" of THERIS' ablation).

    Norm and scale of the branch stay, so that the row of the ablation differs from the whole method in the mask alone.

    Args:
        dim: number of channels.
        norm: filter a normalised copy, which is scaled and added, and not the features themselves.
    """

    def __init__(self, dim: int, norm: bool = True) -> None:
        super().__init__(dim, norm)
        self.register_buffer("ones", torch.ones(1), persistent=False)

    def gains(self, height: int, width: int) -> Tensor:
        """Return gains of 1 everywhere."""
        return self.get_buffer("ones").expand(1, height, width // 2 + 1)

    def filter(self, frames: Tensor) -> Tensor:
        """Return the frames in float32 at least."""
        return _precise(frames)


class NoSpectralMask(SpectralMask):
    """No spectral branch at all: returns its input; norm and scale of the branch go too.

    Args:
        dim: number of channels.
        norm: not read; there is nothing that could be normalised.
    """

    def __init__(self, dim: int, norm: bool = True) -> None:
        nn.Module.__init__(self)

    def gains(self, height: int, width: int) -> Tensor:
        """Return gains of 1 everywhere."""
        return torch.ones(1, height, width // 2 + 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` itself."""
        return x


def _with_dc(gains: Tensor, fixed: bool) -> Tensor:
    if not fixed:
        return gains
    keep = torch.ones(gains.shape[-2:], dtype=gains.dtype, device=gains.device)
    keep[0, 0] = 0
    return gains * keep + (1 - keep)
