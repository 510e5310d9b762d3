"""Samplers: how a clean latent is drawn by a denoiser, from noise down a schedule."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lit_thermal.errors import InputError
from lit_thermal.generative.noise import SeededNoise
from lit_thermal.generative.schedule import Schedule

Denoise = Callable[[Tensor, Tensor], Tensor]
"""State (B, C, h, w) of a chain, not scaled, and its index (B,) to the estimate of the clean latent."""
Watch = Callable[[int, Tensor], None]
"""Is shown the index of each step and its estimate of the clean latent."""


class Sampler(ABC):
    """Base of the family: a chain from the start of a schedule down to a clean latent.

    A sampler holds no network and no schedule. Noise decides alone what is drawn: one draw of it makes the start, and
    one more is taken for each step that adds noise. Gradients are the caller's business.

    Attributes:
        eta: share of the posterior's standard deviation that each step adds (`Schedule.step`).
    """

    eta: float = 0.0

    @abstractmethod
    def indices(self, schedule: Schedule) -> list[int]:
        """The indices of the schedule at which the denoiser is asked, ascending; a chain goes from last to first.

        Raises:
            InputError: the schedule has fewer steps than the sampler takes.
        """

    def check(self, schedule: Schedule) -> None:
        """Check that the schedule has as many steps as the sampler takes.

        Raises:
            InputError: it has fewer.
        """
        self.indices(schedule)

    def __call__(
        self, denoise: Denoise, schedule: Schedule, y: Tensor, noise: SeededNoise, watch: Watch | None = None
    ) -> Tensor:
        """Draw a clean latent, from `Schedule.start` at the last index of the chain.

        Args:
            denoise: gives the estimate of the clean latent.
            schedule: that the denoiser was trained with.
            y: (B, C, h, w) latent of the enlarged input.
            noise: of the images of the batch.
            watch: is called at each step, before the next.

        Returns:
            (B, C, h, w), the last estimate.
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
        """The chain from a state x at its last index."""
        for t, previous in _downwards(self.indices(schedule)):
            x0 = denoise(x, _index(t, x))
            if watch is not None:
                watch(t, x0)
            # The last step gives the estimate itself, whatever eta is.
            if previous >= 0:
                draw = noise(y) if noise is not None and self.eta else None
                x = schedule.step(x, x0, y, t, previous, draw, self.eta)
        return x0


class Ancestral(Sampler):
    """Draws each state from the posterior of the one before (DDPM; ResShift's sampler; DifIISR eqs. 3 and 4).

    Args:
        steps: of the chain; 0 takes all of the schedule.
        eta: times the posterior's standard deviation; 1 is the posterior, 0 equals `Deterministic`.

    Raises:
        InputError: steps is negative, or eta not from 0 to 1.
    """

    def __init__(self, steps: int = 0, eta: float = 1.0) -> None:
        if steps < 0 or not 0 <= eta <= 1:
            raise InputError(f"Ancestral needs steps of at least 0 and an eta from 0 to 1, not {steps} and {eta}")
        self.steps, self.eta = steps, eta

    def indices(self, schedule: Schedule) -> list[int]:
        """All indices, or as many as `steps` says, evenly spaced (`Schedule.respaced`)."""
        return schedule.respaced(self.steps or schedule.steps)


class Deterministic(Sampler):
    """Adds no noise on the way (DDIM with eta 0, as SinSR takes it): the start alone decides, and can be found again.

    Args:
        steps: of the chain; 0 takes all of the schedule.

    Raises:
        InputError: steps is negative.
    """

    def __init__(self, steps: int = 0) -> None:
        if steps < 0:
            raise InputError(f"Deterministic needs steps of at least 0, not {steps}")
        self.steps = steps

    def indices(self, schedule: Schedule) -> list[int]:
        """All indices, or as many as `steps` says, evenly spaced (`Schedule.respaced`)."""
        return schedule.respaced(self.steps or schedule.steps)

    def run(self, denoise: Denoise, schedule: Schedule, x: Tensor, y: Tensor, watch: Watch | None = None) -> Tensor:
        """The clean latent (B, C, h, w) that the chain gives for a state x at its last index."""
        return self._descend(denoise, schedule, x, y, None, watch)

    def invert(self, denoise: Denoise, schedule: Schedule, x0: Tensor, y: Tensor) -> Tensor:
        """The state at the last index of the chain that leads to a clean latent, nearly.

        The latent is taken for the state at the first index, whose noise is least. Each step to an index asks the
        denoiser for its estimate from the state before it, with that index. What the estimate changes from one state
        to the next is therefore not undone.

        Args:
            denoise: gives the estimate of the clean latent.
            schedule: that the denoiser was trained with.
            x0: (B, C, h, w) clean latent.
            y: latent of the enlarged input.

        Returns:
            (B, C, h, w).
        """
        x = x0
        upwards = reversed([jump for jump in _downwards(self.indices(schedule)) if jump[1] >= 0])
        for t, previous in upwards:
            x = schedule.invert(x, denoise(x, _index(t, x)), y, t, previous)
        return x


class OneStep(Sampler):
    """Asks the denoiser once, at the last index of the schedule (SinSR; DifIISR's released inference)."""

    def indices(self, schedule: Schedule) -> list[int]:
        """The last index."""
        return [schedule.steps - 1]


def _downwards(indices: list[int]) -> Iterator[tuple[int, int]]:
    """Each index with the one below it, -1 below the first, from the last on."""
    return zip(reversed(indices), reversed([-1, *indices[:-1]]), strict=True)


def _index(t: int, x: Tensor) -> Tensor:
    """The same index for each image."""
    return torch.full((len(x),), t, dtype=torch.int64, device=x.device)
