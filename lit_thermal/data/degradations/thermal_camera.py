"""Degradation of the clips of a real thermal camera: turbulent air, blur, noise, fixed pattern, jumping levels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lit_thermal.data.degradations.degradation import Bicubic, Degradation, Range
from lit_thermal.data.degradations.real_degradations import Stripes
from lit_thermal.errors import InputError
from lit_thermal.ops.blur import gaussian_blur
from lit_thermal.ops.flow import sample_at
from lit_thermal.ops.resize import resize

_INTERPOLATED = 57 / 70
"""Root mean square of unit noise on a grid, after bicubic interpolation along both axes (integral of the kernel)."""


class ThermalCamera(Degradation):
    """Clips of an uncooled thermal camera: the training input of models that restore real video.

    The steps are: turbulence, blur, antialiased bicubic reduction, fixed pattern of pixels and of columns or rows,
    jumps of the level between frames, temporal noise, dead pixels, and rounding. Each strength is drawn uniformly from
    its range, once per clip; that of the noise by the square of a uniform number, since most cameras have little noise.
    The fixed pattern and the dead pixels stay through the clip; turbulence, level and noise are drawn anew for each
    frame.

    The ranges cover what was measured on real clips, in 8-bit levels of their range (noise and pattern by the median
    absolute deviation of diagonal differences; level by the mean of frames):

    - FLIR-IVSR inputs, turbulent: noise 7.3; blur of the mean frame, turbulence included, 2.7 HR pixels; displacement
      by turbulence at most 1.5 (vertical) to 2.1 (horizontal) HR pixels, half correlated over about 30 HR pixels and
      hardly between frames (0.03 to 0.13).
    - FLIR Lepton 3 at night, full contrast: noise 0.4 to 0.6, pattern 2.3 to 3.5, up to 370 dead pixels per million,
      level changing between frames by 0.3 to 0.6 (at most 2.9). With low contrast: noise 2.2, pattern 13, level 1.1.
    - Lynred microbolometer on a car, uncorrected: stripes of columns 0.7 in a range of only 59 levels, so about 2
      after stretching; corrected: pattern below 0.1, 26 dead pixels per million, level 0.4 to 1.0 (at most 2.5).
    - FLIR Boson: noise 0 to 0.5; 1.1, with pattern 33, where an empty sky is stretched over the whole range.

    Args:
        clean: probability that a clip is reduced and rounded only.
        turbulent: probability that the air is turbulent, in clips that are not clean.
        turbulence: root mean square of the displacement along each axis by turbulence, in HR pixels.
        eddy: distance in HR pixels over which the displacement changes; it is smooth in between.
        blur: standard deviation of a Gaussian before the reduction, in HR pixels.
        noise: standard deviation of the noise of each LR pixel in each frame, in 8-bit levels.
        pattern: standard deviation of the fixed offset of each LR pixel, in 8-bit levels.
        stripes: standard deviation of the fixed offset of each LR column or row, in 8-bit levels, `Stripes.sigma`.
        jumps: standard deviation of the offset of each frame, in 8-bit levels.
        dead: share of LR pixels that show a constant random value.
        bits: bit depth that the frames are rounded to.

    Raises:
        InputError: a number is out of range.
    """

    def __init__(
        self,
        clean: float = 0.25,
        turbulent: float = 0.5,
        turbulence: Range = (0.5, 2.5),
        eddy: Range = (16.0, 64.0),
        blur: Range = (0.0, 3.0),
        noise: Range = (0.0, 10.0),
        pattern: Range = (0.0, 3.5),
        stripes: Range = (0.0, 2.0),
        jumps: Range = (0.0, 1.0),
        dead: Range = (0.0, 4e-4),
        bits: int = 8,
    ) -> None:
        for name, share in {"clean": clean, "turbulent": turbulent}.items():
            if not 0 <= share <= 1:
                raise InputError(f"{name} of ThermalCamera is {share}; give a probability from 0 to 1")
        if not 1 <= bits <= 16:
            raise InputError(f"bits of ThermalCamera is {bits}; give a depth from 1 to 16")
        self.clean, self.turbulent, self.levels = clean, turbulent, 2**bits - 1
        self.turbulence, self.eddy = _checked("turbulence", turbulence), _checked("eddy", eddy, least=1)
        self.blur, self.noise, self.pattern = (
            _checked(name, ends) for name, ends in (("blur", blur), ("noise", noise), ("pattern", pattern))
        )
        self.stripes = Stripes(_checked("stripes", stripes))
        self.jumps, self.dead = _checked("jumps", jumps), _checked("dead", dead, most=1)

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Degrade with one draw of the strengths per clip, and new turbulence, level and noise for each frame."""

        def drawn(ends: Range = (0.0, 1.0)) -> float:
            return ends[0] + (ends[1] - ends[0]) * float(torch.rand((), generator=generator))

        if drawn() < self.clean:
            return self._rounded(Bicubic().degrade(hr, scale, generator))
        turbulence = drawn(self.turbulence) if drawn() < self.turbulent else 0.0
        eddy, blur = drawn(self.eddy), drawn(self.blur)
        low, high = self.noise
        noise = (low + (high - low) * drawn() ** 2) / 255
        pattern, jumps, dead = drawn(self.pattern) / 255, drawn(self.jumps) / 255, drawn(self.dead)
        # float64, so that the rounded result does not depend on the number of threads
        frames = hr.double().reshape(-1, 1, *hr.shape[-2:])
        if turbulence:
            frames = sample_at(frames, turbulence * displacements(frames, round(eddy), generator))
        lr = Bicubic().degrade(gaussian_blur(frames, blur), scale, generator)
        size = lr.shape[-2:]
        lr = self.stripes.add(lr + pattern * torch.randn(size, generator=generator), generator)
        is_dead = torch.rand(size, generator=generator) < dead
        stuck = torch.rand(size, generator=generator).double()
        lr = lr + jumps * torch.randn((len(lr), 1, 1, 1), generator=generator)
        lr = lr + noise * torch.randn(lr.shape, generator=generator)
        lr = torch.where(is_dead, stuck, lr)
        return self._rounded(lr.reshape(*hr.shape[:-2], *size).to(hr.dtype))

    def _rounded(self, lr: Tensor) -> Tensor:
        return (lr.clamp(0, 1) * self.levels).round() / self.levels


def displacements(frames: Tensor, spacing: int, generator: torch.Generator) -> Tensor:
    """Draw smooth random displacements for frames (N, 1, H, W), independent of each other: (N, 2, H, W) float64.

    They are Gaussian at points `spacing` pixels apart and bicubically interpolated in between; their root mean square
    is 1 along each axis.
    """
    height, width = frames.shape[-2:]
    points = [math.ceil(side / spacing) + 1 for side in (height, width)]
    drawn = torch.randn((len(frames), 2, *points), generator=generator, dtype=torch.float64)
    smooth = resize(drawn, (points[0] * spacing, points[1] * spacing), border="replicate")
    return smooth[..., :height, :width] / _INTERPOLATED


def _checked(name: str, ends: Sequence[float], least: float = 0.0, most: float = math.inf) -> Range:
    if len(ends) != 2 or not least <= ends[0] <= ends[1] <= most or ends[1] == math.inf:
        limits = f"{least:g} <= low <= high" + (f" <= {most:g}" if most < math.inf else "")
        raise InputError(f"{name} of ThermalCamera is {tuple(ends)}; give two numbers, {limits}")
    return ends[0], ends[1]
