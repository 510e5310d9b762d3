"""Diffusion schedules: the steps that turn a clean latent into noise, and conversions between their quantities."""

import math
from abc import ABC, abstractmethod
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from lit_thermal.errors import InputError, check_choice

Prediction = Literal["x0", "residual", "noise", "scaled_noise"]
"""Quantity that a denoiser predicts: the clean latent x0; the residual y - x0; the unit noise; or s_t times the noise,
as contained in x_t."""
Normalize = Literal["latent", "pixel"]


class _Coefficients(NamedTuple):
    """Coefficients of ``x_t = a x0 + b y + s noise``, float64 (B, 1, 1, 1)."""

    a: Tensor
    b: Tensor
    s: Tensor


class _Jump(NamedTuple):
    """Coefficients of ``x_previous = k x0 + m x + j y + sigma noise``, float64 (B, 1, 1, 1)."""

    k: Tensor
    m: Tensor
    j: Tensor
    sigma: Tensor


C = TypeVar("C", _Coefficients, _Jump)


class Schedule(ABC):
    """Base of the family: ``x_t = a_t x0 + b_t y + s_t noise`` with unit Gaussian noise, t = 0 .. T - 1.

    Here x0 is the clean latent and y the latent of the enlarged input. The states form a Markov chain: given an earlier
    state and (x0, y), a later state is Gaussian around ``r`` times the earlier one plus a known shift, where r depends
    on the subclass. All other quantities, for jumps over any number of steps, follow from a, b, s and r.

    The tables are float64 and are not buffers, so that casting a module does not change them. Coefficients are computed
    in float64. Sums are computed in float32, for half-precision tensors and under autocast too, and in float64 for
    float64 tensors. Latents are (B, C, h, w); an index t is int64 (B,) or one number for the batch.

    Args:
        a: weights (T,) of x0, float64, in (0, 1] and decreasing.
        b: weights (T,) of y, float64.
        s: standard deviations (T,) of the noise, float64, positive and increasing.

    Attributes:
        steps: number T of steps.
    """

    def __init__(self, a: Tensor, b: Tensor, s: Tensor) -> None:
        self.steps = len(a)
        # The clean latent is the entry after the last one, so that the index -1 selects it.
        clean = (1.0, 0.0, 0.0)
        tables = [
            torch.cat([x.double(), x.new_tensor([end]).double()]) for x, end in zip((a, b, s), clean, strict=True)
        ]
        self._tables = {torch.device("cpu"): torch.stack(tables)}

    @property
    def a(self) -> Tensor:
        """Weights (T,) of x0 in the states, float64."""
        return self._tables[torch.device("cpu")][0, :-1]

    @property
    def b(self) -> Tensor:
        """Weights (T,) of y, float64."""
        return self._tables[torch.device("cpu")][1, :-1]

    @property
    def s(self) -> Tensor:
        """Standard deviations (T,) of the noise, float64."""
        return self._tables[torch.device("cpu")][2, :-1]

    @abstractmethod
    def start(self, y: Tensor, noise: Tensor, index: int | None = None) -> Tensor:
        """Return the first state of a chain, which does not depend on x0.

        Args:
            y: latent (B, C, h, w) of the enlarged input.
            noise: unit Gaussian noise of the same shape.
            index: index of the state; by default the last one, T - 1.
        """

    @abstractmethod
    def _retained(self, now: Tensor, before: Tensor) -> Tensor:
        """Return the weight r of an earlier state in a later one, given the weights of x0 in both."""

    def scale_input(self, x: Tensor, t: Tensor | int) -> Tensor:
        """Return the state scaled for the network; unchanged by default, for states of about unit variance."""
        return x

    def noise_scale(self, t: Tensor) -> Tensor:
        """Return the standard deviation s_t of the noise in a state, float32 (B, 1, 1, 1)."""
        return self._at(t, t.device).s.to(t.device, torch.float32)

    def add_noise(self, x0: Tensor, y: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """Return the state x_t of a clean latent."""
        a, b, s = _cast(self._at(t, x0.device), x0)
        return a * _wide(x0) + b * _wide(y) + s * _wide(noise)

    def noise_of(self, x: Tensor, x0: Tensor, y: Tensor, t: Tensor | int) -> Tensor:
        """Return the unit noise in a state, given its clean latent."""
        a, b, s = _cast(self._at(t, x.device), x)
        return (_wide(x) - a * _wide(x0) - b * _wide(y)) / s

    def clean_of(self, x: Tensor, noise: Tensor, y: Tensor, t: Tensor | int) -> Tensor:
        """Return the clean latent of a state, given its noise."""
        a, b, s = _cast(self._at(t, x.device), x)
        return (_wide(x) - s * _wide(noise) - b * _wide(y)) / a

    def clean(self, output: Tensor, x: Tensor, y: Tensor, t: Tensor | int, prediction: Prediction) -> Tensor:
        """Convert a denoiser's output to the clean latent.

        Args:
            output: output (B, C, h, w) of the denoiser.
            x: unscaled state that was given to the denoiser.
            y: latent of the enlarged input.
            t: index of the state.
            prediction: quantity that the denoiser predicts.

        Raises:
            InputError: the prediction is unknown.
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
        """Return the training target of a denoiser that predicts `prediction`, for the state of x0 and noise at t.

        Raises:
            InputError: the prediction is unknown.
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
        """Return mean and variance of q(x_previous | x_t, x0, y), an earlier state given a later one and x0.

        Args:
            x: state (B, C, h, w) at t.
            x0: clean latent of the state.
            y: latent of the enlarged input.
            t: index of the state.
            previous: index of the earlier state, less than t; -1 for the clean latent itself, with variance 0.

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
        """Take one step of a chain from x_t to x_previous (DDIM's family; DifIISR, eq. 4).

        The result is ``a x0 + b y + sqrt(s^2 - sigma^2) noise_of(x) + sigma noise``, with a, b, s of the earlier state
        and sigma = eta times the posterior's standard deviation. With eta = 1 it is drawn from the posterior, with
        eta = 0 it is deterministic. No noise is added to the clean latent.

        Args:
            x: state (B, C, h, w) at t.
            x0: estimate of the clean latent.
            y: latent of the enlarged input.
            t: index of the state.
            previous: index of the earlier state, less than t; -1 for the clean latent.
            noise: unit Gaussian noise; not needed if eta is 0.
            eta: factor of the posterior's standard deviation, from 0 to 1.
        """
        k, m, j, sigma = _cast(self._jump(t, previous, eta, x.device), x)
        mean = k * _wide(x0) + m * _wide(x) + j * _wide(y)
        return mean if noise is None or eta == 0 else mean + sigma * _wide(noise)

    def invert(self, x: Tensor, x0: Tensor, y: Tensor, t: Tensor | int, previous: Tensor | int) -> Tensor:
        """Invert the deterministic step (`step` with eta 0) with the same x0, from x_previous to x_t.

        Args:
            x: state (B, C, h, w) at `previous`.
            x0: estimate of the clean latent.
            y: latent of the enlarged input.
            t: index of the state that is returned.
            previous: index of the given state, less than t; it must not be -1, as the clean latent has no noise.
        """
        k, m, j, _ = _cast(self._jump(t, previous, 0.0, x.device), x)
        return (_wide(x) - k * _wide(x0) - j * _wide(y)) / m

    def respaced(self, count: int) -> list[int]:
        """Return the indices ``floor(T i / count)``, i = 0 .. count - 1, of a chain of fewer steps, ascending.

        The first index is 0. The last index of the schedule is included only if `count` is T; a shorter chain starts
        from less noise.

        Raises:
            InputError: `count` is not between 1 and the number of steps.
        """
        if not 1 <= count <= self.steps:
            raise InputError(
                f"a chain of {count} steps cannot be taken from a schedule of {self.steps}; give the sampler 1 to "
                f"{self.steps} steps, or 0 for all"
            )
        return [self.steps * i // count for i in range(count)]

    def _at(self, t: Tensor | int, device: torch.device) -> _Coefficients:
        """Return the coefficients at an index."""
        # Apple's devices do not support float64.
        home = device if device.type != "mps" else torch.device("cpu")
        if home not in self._tables:
            # A table created in inference mode could not be used for training later.
            with torch.inference_mode(False):
                self._tables[home] = self._tables[torch.device("cpu")].to(home)
        index = torch.as_tensor(t, device=home).view(-1, 1, 1, 1)
        return _Coefficients(*(table[index] for table in self._tables[home]))

    def _jump(self, t: Tensor | int, previous: Tensor | int, eta: float, device: torch.device) -> _Jump:
        """Return the coefficients of a step from t to `previous`."""
        now, before = self._at(t, device), self._at(previous, device)
        r = self._retained(now.a, before.a)
        variance = (before.s / now.s).square() * (now.s.square() - (r * before.s).square()).clamp(min=0)
        m = (before.s.square() - eta**2 * variance).clamp(min=0).sqrt() / now.s
        return _Jump(before.a - m * now.a, m, before.b - m * now.b, eta * variance.sqrt())


class ResidualShift(Schedule):
    """Shifts the clean latent to that of the enlarged input (ResShift, the schedule of DifIISR's released code).

    States are ``x_t = x0 + eta_t (y - x0) + kappa sqrt(eta_t) noise``, where sqrt(eta_t) grows as
    ``first (end / first)^((t / (T - 1))^power)`` from ``first = min(minimum / kappa, minimum, sqrt(0.001))``.

    Args:
        steps: number T of steps, at least 2.
        kappa: strength of the noise, greater than 0.
        power: exponent of the growth of sqrt(eta), greater than 0; with less than 1 it grows faster at first.
        minimum: standard deviation of the noise at t = 0, if it is small enough; see `first` above.
        end: last value of sqrt(eta), less than 1; `etas_end` in the released settings.
        normalize: scaling of a state before the network: `latent` divides by ``sqrt(kappa^2 eta_t + 1)``, the standard
            deviation if that of x0 is one; `pixel` divides by ``3 kappa sqrt(eta_t) + 1``, the range if x0 is in
            [-1, 1].

    Raises:
        InputError: a number is out of range, or `normalize` is unknown.

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
        check_choice(normalize, Normalize, "normalize of ResidualShift")
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
        """Return ``y + kappa sqrt(eta) noise``, where y replaces the small part of x0 in the state."""
        s = _cast(self._at(self.steps - 1 if index is None else index, y.device), y).s
        return _wide(y) + s * _wide(noise)

    def scale_input(self, x: Tensor, t: Tensor | int) -> Tensor:
        """Return the state scaled according to `normalize`."""
        s = _cast(self._at(t, x.device), x).s
        return _wide(x) / ((s.square() + 1).sqrt() if self.normalize == "latent" else 3 * s + 1)

    def _retained(self, now: Tensor, before: Tensor) -> Tensor:
        # The earlier state is unchanged; shift and noise are added.
        return torch.ones_like(now)


class VariancePreserving(Schedule):
    """Fades the clean latent out while noise replaces it (DDPM and DDIM; DifIISR's equations 1 to 5).

    States are ``x_t = sqrt(alpha_t) x0 + sqrt(1 - alpha_t) noise`` with ``alpha_t = prod_{i <= t} (1 - beta_i)`` and
    linearly increasing beta. States do not contain y: the network sees the input only through its condition.

    Args:
        steps: number T of steps, at least 2. The default betas are for DDPM's thousand steps; fewer steps need larger
            ones.
        beta_start: first beta, greater than 0.
        beta_end: last beta, less than 1 and at least `beta_start`.

    Raises:
        InputError: a number is out of range, or so much of x0 is left at the end that a chain cannot start from
            noise alone.

    Source: Ho et al., "Denoising Diffusion Probabilistic Models", 2020; Song et al., "Denoising Diffusion Implicit
    Models", 2021.
    """

    _LEFT = 0.1
    """Largest weight of x0 in the last state for which a chain may start from noise alone."""

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
        """Return ``s noise``, which has the variance of the state except for the small part of x0."""
        s = _cast(self._at(self.steps - 1 if index is None else index, noise.device), noise).s
        return s * _wide(noise)

    def _retained(self, now: Tensor, before: Tensor) -> Tensor:
        return now / before


def _wide(x: Tensor) -> Tensor:
    """Return a tensor in float32, or in float64 if it is float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _cast(coefficients: C, like: Tensor) -> C:
    """Return coefficients on the device of a tensor, in the type that `_wide` would give it."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return type(coefficients)(*(c.to(like.device, dtype) for c in coefficients))


def _check(prediction: str) -> None:
    check_choice(prediction, Prediction, "prediction of a denoiser")
