"""Samplers: draw a clean latent with a denoiser, starting from noise and descending a schedule."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lit_thermal.errors import InputError
from lit_thermal.generative.noise import SeededNoise
from lit_thermal.generative.schedule import Schedule

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Function that maps a chain's unscaled state (B, C, h, w) and its index (B,) to an estimate of the clean latent."""
Watch = Callable[[int, Tensor], None]
"""Callback that receives the index of each step and its estimate of the clean latent."""


class Sampler(ABC):
    """Base of the family: a chain from the start of a schedule down to a clean latent.

    A sampler has no network and no schedule of its own. The noise determines the result: one draw is used for the
    start, and one for each step that adds noise. The caller decides whether gradients are computed.

    Attributes:
        eta: fraction of the posterior's standard deviation that each step adds (`Schedule.step`).
    """

    eta: float = 0.0

    @abstractmethod
    def indices(self, schedule: Schedule) -> list[int]:
        """Return the schedule's indices at which the denoiser is called, ascending; a chain runs from last to first.

        Raises:
            InputError: the schedule has fewer steps than the sampler takes.
        """

    def check(self, schedule: Schedule) -> None:
        """Check that the schedule has as many steps as the sampler takes.

        Raises:
            InputError: the schedule has fewer steps.
        """
        self.indices(schedule)

    def __call__(
        self, denoise: Denoise, schedule: Schedule, y: Tensor, noise: SeededNoise, watch: Watch | None = None
    ) -> Tensor:
        """Draw a clean latent, from `Schedule.start` at the last index of the chain.

        Args:
            denoise: denoiser that returns the estimate of the clean latent.
            schedule: schedule with which the denoiser was trained.
            y: latent (B, C, h, w) of the enlarged input.
            noise: noise of the images of the batch.
            watch: callback for the estimate of each step.

        Returns:
            The last estimate (B, C, h, w).
        """
        start = schedule.start(y, noise(y), self.indices(schedule)[-1])
        return self._descend(denoise, schedule, start, y, noise, watch)

    def _descend(
        self,
        denoise: Denoise,
        schedule: Schedule,
        x: Tensor,
        y: Tensor,
        noise: SeededNoise | None,
        watch: Watch | None,
    ) -> Tensor:
        """Run the chain from a state x at its last index."""
        for t, previous in _downwards(self.indices(schedule)):
            x0 = denoise(x, _index(t, x))
            if watch is not None:
                watch(t, x0)
            # The last step returns the estimate itself for any eta.
            if previous >= 0:
                draw = noise(y) if noise is not None and self.eta else None
                x = schedule.step(x, x0, y, t, previous, draw, self.eta)
        return x0


class Ancestral(Sampler):
    """Draws each state from the posterior given the previous one (DDPM; ResShift's sampler; DifIISR eqs. 3 and 4).

    Args:
        steps: number of steps of the chain; 0 means all steps of the schedule.
        eta: factor of the posterior's standard deviation, from 0 to 1; 1 is the posterior, 0 equals `Deterministic`.

    Raises:
        InputError: `steps` is negative, or `eta` is not in [0, 1].
    """

    def __init__(self, steps: int = 0, eta: float = 1.0) -> None:
        if steps < 0 or not 0 <= eta <= 1:
            raise InputError(f"Ancestral needs steps of at least 0 and an eta from 0 to 1, not {steps} and {eta}")
        self.steps, self.eta = steps, eta

    def indices(self, schedule: Schedule) -> list[int]:
        """Return all indices, or `steps` evenly spaced ones (`Schedule.respaced`)."""
        return schedule.respaced(self.steps or schedule.steps)


class Deterministic(Sampler):
    """Adds no noise during the chain (DDIM with eta 0, as in SinSR), so that the start determines the result.

    `invert` approximately recovers the start from the result.

    Args:
        steps: number of steps of the chain; 0 means all steps of the schedule.

    Raises:
        InputError: `steps` is negative.
    """

    def __init__(self, steps: int = 0) -> None:
        if steps < 0:
            raise InputError(f"Deterministic needs steps of at least 0, not {steps}")
        self.steps = steps

    def indices(self, schedule: Schedule) -> list[int]:
        """Return all indices, or `steps` evenly spaced ones (`Schedule.respaced`)."""
        return schedule.respaced(self.steps or schedule.steps)

    def run(self, denoise: Denoise, schedule: Schedule, x: Tensor, y: Tensor, watch: Watch | None = None) -> Tensor:
        """Return the clean latent (B, C, h, w) at the end of the chain from a state x at its last index."""
        return self._descend(denoise, schedule, x, y, None, watch)

    def invert(self, denoise: Denoise, schedule: Schedule, x0: Tensor, y: Tensor) -> Tensor:
        """Return the state at the last index from which the chain approximately leads to a clean latent.

        The latent is used as the state at the first index, which has the least noise. Each step to a higher index uses
        the denoiser's estimate from the lower state, evaluated with the higher index. Changes of the estimate between
        the two states are not inverted, so that the result is approximate.

        Args:
            denoise: denoiser that returns the estimate of the clean latent.
            schedule: schedule with which the denoiser was trained.
            x0: clean latent (B, C, h, w).
            y: latent (B, C, h, w) of the enlarged input.

        Returns:
            State (B, C, h, w).
        """
        x = x0
        upwards = reversed([jump for jump in _downwards(self.indices(schedule)) if jump[1] >= 0])
        for t, previous in upwards:
            x = schedule.invert(x, denoise(x, _index(t, x)), y, t, previous)
        return x


class OneStep(Sampler):
    """Calls the denoiser once, at the last index of the schedule (SinSR; DifIISR's released inference)."""

    def indices(self, schedule: Schedule) -> list[int]:
        """Return the last index."""
        return [schedule.steps - 1]


def _downwards(indices: list[int]) -> Iterator[tuple[int, int]]:
    """Yield each index with the next lower one (-1 for the first), from the last to the first."""
    return zip(reversed(indices), reversed([-1, *indices[:-1]]), strict=True)


def _index(t: int, x: Tensor) -> Tensor:
    """Return the index repeated for each image."""
    return torch.full((x.shape[0],), t, dtype=torch.int64, device=x.device)
