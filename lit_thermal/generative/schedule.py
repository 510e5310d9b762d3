"""Diffusion schedules: how a clean latent becomes noise step by step, and every conversion between the two."""

import math
from abc import ABC, abstractmethod
from typing import Literal, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor

from lit_thermal.errors import InputError

Prediction = Literal["x0", "residual", "noise", "scaled_noise"]
"""What a denoiser gives: the clean latent; y - x0; the unit noise; the noise as it stands in x_t (times s_t)."""
Normalize = Literal["latent", "pixel"]


class _Coefficients(NamedTuple):
    """``x_t = a x0 + b y + s noise``; float64, (B, 1, 1, 1)."""

    a: Tensor
    b: Tensor
    s: Tensor


class _Jump(NamedTuple):
    """``x_previous = k x0 + m x + j y + sigma noise``; float64, (B, 1, 1, 1)."""

    k: Tensor
    m: Tensor
    j: Tensor
    sigma: Tensor


C = TypeVar("C", _Coefficients, _Jump)


class Schedule(ABC):
    """Base of the family: ``x_t = a_t x0 + b_t y + s_t noise`` with unit Gaussian noise, t = 0 .. T - 1.

    x0 is the clean latent and y the latent of the enlarged input. The states form a Markov chain: given an earlier
    state and (x0, y), a later one is Gaussian around ``r`` times the earlier one plus a known shift, where r is the
    member's. From a, b, s and r follows everything else, for jumps over any number of steps.

    The tables are float64 and no buffers, so that casting a module changes nothing of them. Coefficients are worked
    out in float64; sums are taken in float32, also of half-precision tensors and under autocast (in float64 where a
    tensor is). Latents are (B, C, h, w); an index t is (B,) int64 or one number for the batch.

    Args:
        a: (T,) float64, in (0, 1], falling.
        b: (T,) float64.
        s: (T,) float64, positive, rising.

    Attributes:
        steps: T.
    """

    def __init__(self, a: Tensor, b: Tensor, s: Tensor) -> None:
        self.steps = len(a)
        # The entry after the last is the clean latent, so that the index -1 finds it.
        clean = (1.0, 0.0, 0.0)
        tables = [
            torch.cat([x.double(), x.new_tensor([end]).double()]) for x, end in zip((a, b, s), clean, strict=True)
        ]
        self._tables = {torch.device("cpu"): torch.stack(tables)}

    @property
    def a(self) -> Tensor:
        """(T,) float64: the weight of x0."""
        return self._tables[torch.device("cpu")][0, :-1]

    @property
    def b(self) -> Tensor:
        """(T,) float64: the weight of y."""
        return self._tables[torch.device("cpu")][1, :-1]

    @property
    def s(self) -> Tensor:
        """(T,) float64: the standard deviation of the noise."""
        return self._tables[torch.device("cpu")][2, :-1]

    @abstractmethod
    def start(self, y: Tensor, noise: Tensor, index: int | None = None) -> Tensor:
        """The state that a chain starts from, which knows nothing of x0.

        Args:
            y: (B, C, h, w).
            noise: the same shape, unit Gaussian.
            index: of the state, the last one (T - 1) unless given.
        """

    @abstractmethod
    def _retained(self, now: Tensor, before: Tensor) -> Tensor:
        """What is left of an earlier state in a later one (r), from the weights of x0 in both."""

    def scale_input(self, x: Tensor, t: Tensor | int) -> Tensor:
        """The state as the network takes it; unchanged by default, as the family keeps a variance of about one."""
        return x

    def noise_scale(self, t: Tensor) -> Tensor:
        """The standard deviation s_t of the noise in a state, (B, 1, 1, 1) float32."""
        return self._at(t, t.device).s.to(t.device, torch.float32)

    def add_noise(self, x0: Tensor, y: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """The state x_t of a clean latent."""
        a, b, s = _cast(self._at(t, x0.device), x0)
        return a * _wide(x0) + b * _wide(y) + s * _wide(noise)

    def noise_of(self, x: Tensor, x0: Tensor, y: Tensor, t: Tensor | int) -> Tensor:
        """The unit noise in a state whose clean latent is known."""
        a, b, s = _cast(self._at(t, x.device), x)
        return (_wide(x) - a * _wide(x0) - b * _wide(y)) / s

    def clean_of(self, x: Tensor, noise: Tensor, y: Tensor, t: Tensor | int) -> Tensor:
        """The clean latent of a state whose noise is known."""
        a, b, s = _cast(self._at(t, x.device), x)
        return (_wide(x) - s * _wide(noise) - b * _wide(y)) / a

    def clean(self, output: Tensor, x: Tensor, y: Tensor, t: Tensor | int, prediction: Prediction) -> Tensor:
        """The clean latent that a denoiser's output stands for.

        Args:
            output: (B, C, h, w) of the denoiser.
            x: state that it was given, not scaled.
            y: latent of the enlarged input.
            t: index of the state.
            prediction: what the output is.

        Raises:
            InputError: there is no such prediction.
        """
        _check(prediction)
        if prediction == "x0":
            return _wide(output)
        if prediction == "residual":
            return _wide(y) - _wide(output)
        if prediction == "noise":
            return self.clean_of(x, output, y, t)
        a, b, _ = _cast(self._at(t, x.device), x)
        return (_wide(x) - _wide(output) - b * _wide(y)) / a

    def target(self, x0: Tensor, y: Tensor, noise: Tensor, t: Tensor | int, prediction: Prediction) -> Tensor:
        """What a denoiser that gives `prediction` is trained to give for the state of x0 and noise at t.

        Raises:
            InputError: there is no such prediction.
        """
        _check(prediction)
        if prediction == "x0":
            return _wide(x0)
        if prediction == "residual":
            return _wide(y) - _wide(x0)
        if prediction == "noise":
            return _wide(noise)
        return _cast(self._at(t, noise.device), noise).s * _wide(noise)

    def posterior(
        self, x: Tensor, x0: Tensor, y: Tensor, t: Tensor | int, previous: Tensor | int
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of an earlier state given a later one and the clean latent, q(x_previous | x_t, x0, y).

        Args:
            x: (B, C, h, w) state at t.
            x0: its clean latent.
            y: latent of the enlarged input.
            t: index of the state.
            previous: index of the earlier one, below t; -1 for the clean latent itself, of variance 0.

        Returns:
            Mean (B, C, h, w) and variance (B, 1, 1, 1).
        """
        k, m, j, sigma = _cast(self._jump(t, previous, 1.0, x.device), x)
        return k * _wide(x0) + m * _wide(x) + j * _wide(y), sigma.square()

    def step(
        self,
        x: Tensor,
        x0: Tensor,
        y: Tensor,
        t: Tensor | int,
        previous: Tensor | int,
        noise: Tensor | None,
        eta: float = 1.0,
    ) -> Tensor:
        """One step of a chain, from x_t to x_previous (DDIM's family; DifIISR, eq. 4).

        ``a x0 + b y + sqrt(s^2 - sigma^2) noise_of(x) + sigma noise`` with a, b, s of the earlier state and sigma eta
        times the posterior's standard deviation. eta = 1 draws from the posterior, eta = 0 is deterministic. No noise
        is added to the clean latent.

        Args:
            x: (B, C, h, w) state at t.
            x0: estimate of its clean latent.
            y: latent of the enlarged input.
            t: index of the state.
            previous: index of the earlier one, below t; -1 for the clean latent.
            noise: unit Gaussian; none is needed where eta is 0.
            eta: from 0 to 1.
        """
        k, m, j, sigma = _cast(self._jump(t, previous, eta, x.device), x)
        mean = k * _wide(x0) + m * _wide(x) + j * _wide(y)
        return mean if noise is None or eta == 0 else mean + sigma * _wide(noise)

    def invert(self, x: Tensor, x0: Tensor, y: Tensor, t: Tensor | int, previous: Tensor | int) -> Tensor:
        """The deterministic step backwards, from x_previous to x_t: undoes `step` of eta 0 with the same x0.

        Args:
            x: (B, C, h, w) state at `previous`.
            x0: estimate of its clean latent.
            y: latent of the enlarged input.
            t: index of the state that is returned.
            previous: index of the state that is given, below t and not the clean latent, which has no noise to scale.
        """
        k, m, j, _ = _cast(self._jump(t, previous, 0.0, x.device), x)
        return (_wide(x) - k * _wide(x0) - j * _wide(y)) / m

    def respaced(self, count: int) -> list[int]:
        """The indices ``floor(T i / count)``, i = 0 .. count - 1, of a chain of fewer steps, ascending.

        They begin at 0; the last index of the schedule is among them only where `count` is T, and a shorter chain
        starts from less noise.

        Raises:
            InputError: the schedule has not so many steps.
        """
        if not 1 <= count <= self.steps:
            raise InputError(
                f"a chain of {count} steps cannot be taken from a schedule of {self.steps}; give the sampler 1 to "
                f"{self.steps} steps, or 0 for all"
            )
        return [self.steps * i // count for i in range(count)]

    def _at(self, t: Tensor | int, device: torch.device) -> _Coefficients:
        """The coefficients at an index."""
        # Apple's devices have no float64.
        home = device if device.type != "mps" else torch.device("cpu")
        if home not in self._tables:
            # A table of the inference mode could not serve training later.
            with torch.inference_mode(False):
                self._tables[home] = self._tables[torch.device("cpu")].to(home)
        index = torch.as_tensor(t, device=home).view(-1, 1, 1, 1)
        return _Coefficients(*(table[index] for table in self._tables[home]))

    def _jump(self, t: Tensor | int, previous: Tensor | int, eta: float, device: torch.device) -> _Jump:
        """The coefficients of a step from t to `previous`."""
        now, before = self._at(t, device), self._at(previous, device)
        r = self._retained(now.a, before.a)
        variance = (before.s / now.s).square() * (now.s.square() - (r * before.s).square()).clamp(min=0)
        m = (before.s.square() - eta**2 * variance).clamp(min=0).sqrt() / now.s
        return _Jump(before.a - m * now.a, m, before.b - m * now.b, eta * variance.sqrt())


class ResidualShift(Schedule):
    """Shifts the clean latent to that of the enlarged input (ResShift, the schedule of DifIISR's released code).

    ``x_t = x0 + eta_t (y - x0) + kappa sqrt(eta_t) noise``, where sqrt(eta_t) grows as
    ``first (end / first)^((t / (T - 1))^power)`` from ``first = min(minimum / kappa, minimum, sqrt(0.001))``.

    Args:
        steps: T, at least 2.
        kappa: strength of the noise.
        power: how the growth is spread: below 1 it is faster at first.
        minimum: standard deviation of the noise at t = 0, where it is small enough.
        end: the last sqrt(eta), below 1. The released settings call it `etas_end`.
        normalize: what a state is divided by before the network sees it: `latent`, ``sqrt(kappa^2 eta_t + 1)``, the
            standard deviation where that of x0 is one; `pixel`, ``3 kappa sqrt(eta_t) + 1``, the range where that of
            x0 is [-1, 1].

    Raises:
        InputError: a number is out of its range.

    Source: Yue et al., "ResShift: Efficient Diffusion Model for Image Super-resolution by Residual Shifting", 2023.
    """

    def __init__(
        self,
        steps: int = 15,
        kappa: float = 2.0,
        power: float = 0.3,
        minimum: float = 0.04,
        end: float = 0.99,
        normalize: Normalize = "latent",
    ) -> None:
        if steps < 2 or not 0 < end < 1 or not all(0 < x < math.inf for x in (kappa, power, minimum)):
            raise InputError(
                "ResidualShift needs at least 2 steps, a positive kappa, power and minimum and 0 < end < 1, "
                f"not steps {steps}, kappa {kappa}, power {power}, minimum {minimum}, end {end}"
            )
        if normalize not in get_args(Normalize):
            raise InputError(f"normalize of ResidualShift is {normalize!r}; choose of {', '.join(get_args(Normalize))}")
        first = min(minimum / kappa, minimum, math.sqrt(0.001))
        if first >= end:
            raise InputError(
                f"ResidualShift grows from {first:g} to end {end:g}; give a larger end or a smaller minimum"
            )
        growth = (torch.arange(steps, dtype=torch.float64) / (steps - 1)) ** power
        root = first * (end / first) ** growth
        super().__init__(1 - root.square(), root.square(), kappa * root)
        self.normalize = normalize

    def start(self, y: Tensor, noise: Tensor, index: int | None = None) -> Tensor:
        """``y + kappa sqrt(eta) noise``: y stands for the little that the state has of x0."""
        s = _cast(self._at(self.steps - 1 if index is None else index, y.device), y).s
        return _wide(y) + s * _wide(noise)

    def scale_input(self, x: Tensor, t: Tensor | int) -> Tensor:
        """The state divided by what `normalize` says."""
        s = _cast(self._at(t, x.device), x).s
        return _wide(x) / ((s.square() + 1).sqrt() if self.normalize == "latent" else 3 * s + 1)

    def _retained(self, now: Tensor, before: Tensor) -> Tensor:
        # An earlier state stays as it is; shift and noise are added.
        return torch.ones_like(now)


class VariancePreserving(Schedule):
    """Fades the clean latent out while noise takes its place (DDPM and DDIM; DifIISR's equations 1 to 5).

    ``x_t = sqrt(alpha_t) x0 + sqrt(1 - alpha_t) noise`` with ``alpha_t = prod_{i <= t} (1 - beta_i)`` and beta growing
    linearly. y has no part in the states: the network knows the input by its condition alone.

    Args:
        steps: T, at least 2. The betas are those of DDPM's thousand steps; fewer steps need larger ones.
        beta_start: the first beta.
        beta_end: the last beta, below 1.

    Raises:
        InputError: a number is out of its range, or so much of x0 is left at the end that a chain cannot start from
            noise alone.

    Source: Ho et al., "Denoising Diffusion Probabilistic Models", 2020; Song et al., "Denoising Diffusion Implicit
    Models", 2021.
    """

    _LEFT = 0.1
    """Weight of x0 in the last state, above which noise is no substitute for that state."""

    def __init__(self, steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> None:
        if steps < 2 or not 0 < beta_start <= beta_end < 1:
            raise InputError(
                "VariancePreserving needs at least 2 steps and 0 < beta_start <= beta_end < 1, not "
                f"steps {steps}, beta_start {beta_start}, beta_end {beta_end}"
            )
        alpha = (1 - torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)).cumprod(0)
        left = float(alpha[-1].sqrt())
        if left > self._LEFT:
            raise InputError(
                f"VariancePreserving of {steps} steps with betas from {beta_start:g} to {beta_end:g} leaves "
                f"{left:.0%} of the image at its end, where a chain starts from noise alone; give more steps or larger "
                "betas, and take fewer of the steps by the sampler"
            )
        super().__init__(alpha.sqrt(), torch.zeros_like(alpha), (1 - alpha).sqrt())

    def start(self, y: Tensor, noise: Tensor, index: int | None = None) -> Tensor:
        """``s noise``: noise of the state's own variance, which is one but for the little that x0 has."""
        s = _cast(self._at(self.steps - 1 if index is None else index, noise.device), noise).s
        return s * _wide(noise)

    def _retained(self, now: Tensor, before: Tensor) -> Tensor:
        return now / before


def _wide(x: Tensor) -> Tensor:
    """A tensor in float32, or float64 where it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _cast(coefficients: C, like: Tensor) -> C:
    """Coefficients on the device of a tensor, in the type that `_wide` gives it."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return type(coefficients)(*(c.to(like.device, dtype) for c in coefficients))


def _check(prediction: str) -> None:
    if prediction not in get_args(Prediction):
        raise InputError(f"a denoiser does not predict {prediction!r}; choose of {', '.join(get_args(Prediction))}")
