"""Guidance: losses of the restored image that steer the training and sampling of a latent diffusion model."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from lit_thermal.blocks.guidance_terms import GuidanceTerm, SpectrumTerm
from lit_thermal.blocks.perceptual_terms import SegmentationTerm, VGGTerm
from lit_thermal.errors import InputError, check_choice

Sign = Literal["descend", "released"]
Map = Callable[[Tensor], Tensor]


class Guidance(nn.Module, ABC):
    """Base of the family: a guidance loss of restored images, used in one or both of two ways.

    Its gradient is injected into the noise that the network predicts (`injects`), or its terms are added to the
    training loss (`adds`). A method reads only these two attributes and does not depend on particular subclasses.

    Subclasses must return losses (B,), one per image, for images (B, 1, H, W) in [-1, 1]. They must be deterministic
    and have no weights that are trained or saved.

    Attributes:
        injects: whether the method must inject `gradient`.
        adds: whether the method must add `added_loss`.
        needs_hr: whether a term whose gradient is injected compares with the high-resolution image, so that the
            guidance cannot be used at test time.
        strength: factor of the injected gradient, the paper's rho.
        through_network: whether the gradient passes through the network's estimate of the clean image, rather than an
            estimate in which the predicted noise is constant.
        direction: +1 or -1, the side of the target to which the injected gradient moves the network in training; see
            `LossGradientGuidance`.
        start: first training iteration with guidance, if there is one.
    """

    injects: bool = False
    adds: bool = False
    needs_hr: bool = False
    strength: float = 0.0
    through_network: bool = False
    direction: float = 1.0
    start: int = 0

    @abstractmethod
    def terms(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> dict[str, Tensor]:
        """Return the unweighted loss (B,) of each term by name, injected and added ones, for the log."""

    def active(self, iteration: int) -> bool:
        """Return whether the guidance is active in a training iteration, counted from 0; never by default."""
        return False

    def active_at(self, t: Tensor) -> Tensor:
        """Return whether the gradient is injected at each diffusion index (B,), as booleans (B,); never by default."""
        return torch.zeros_like(t, dtype=torch.bool)

    def check(self, steps: int) -> None:
        """Check that the configured diffusion indices exist in a schedule of `steps` steps; no check by default.

        Raises:
            InputError: an index is too large.
        """

    @abstractmethod
    def loss(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Return the guidance loss: the weighted sum (B,) of the terms, without those that only `added_loss` has."""

    def added_loss(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Return the weighted sum (B,) of the terms to be added to the training loss; 0 by default."""
        return torch.zeros(len(image), device=image.device)

    def gradient(self, x: Tensor, clean_of: Map, decode: Map, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Return the gradient of each image's `loss` with respect to its state x, in the shape of x; 0 by default.

        Args:
            x: noisy state (B, C, h, w).
            clean_of: function that maps a state to the estimate of the clean latent, through the network or with the
                predicted noise held constant.
            decode: function that decodes a latent to images (B, 1, H, W).
            hr: high-resolution images (B, 1, H, W), if there are any.
            lr: low-resolution images (B, 1, h', w').
        """
        return torch.zeros_like(x)


class Unguided(Guidance):
    """No guidance: the plain diffusion model, the first row of DifIISR's Table 3."""

    def terms(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> dict[str, Tensor]:
        """Return an empty mapping."""
        return {}

    def loss(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Return zeros (B,)."""
        return torch.zeros(len(image), device=image.device)


class LossGradientGuidance(Guidance):
    """Injects the gradient of a loss of the restored image into the predicted noise (DifIISR, eq. 8 and 9).

    The method adds ``strength * s_t * gradient`` to the predicted noise, where s_t is the standard deviation of the
    noise at index t. The estimate of the clean latent becomes ``x0 - c * gradient`` with some c > 0, so that in
    sampling the guidance loss decreases.

    In training the gradient is a constant, and the direction in which it moves the network depends on which estimate
    is compared with the target. With the sign `released`, as in the released code, the corrected estimate is pulled to
    the target, and the raw one is therefore pulled to ``target + c * gradient``. This increases the guidance loss of a
    sampler without guidance, which uses the raw estimate. With `descend` the raw estimate is pulled to
    ``target - c * gradient``, which decreases the guidance loss, as the paper describes. In general the raw estimate is
    pulled to ``target - direction * c * gradient``.

    In the paper the gradient is taken with respect to x_t through the network's estimate (`through_network`). The
    released code treats the predicted noise as constant, which needs no backward pass through the network and is the
    default here. Each image has its own loss here; the released code takes the mean over its batch of 4 instead, which
    makes its gradients 4 times smaller.

    Args:
        terms: terms of the loss whose gradient is injected, each with its own weight; by default those of the paper.
        strength: rho, at least 0. The released code's 1 corresponds to 0.25 here; with 0 nothing is injected.
        start: first training iteration with guidance; 200000 in the paper and in the released code.
        every: interval in iterations, counted from `start`, at which guidance is applied.
        steps: diffusion indices at which the gradient is injected, where 0 is the last step before the clean image;
            empty means all.
        through_network: let the gradient pass through the network.
        sign: `descend` or `released`, see above.
        added: terms that are added to the training loss instead, as in the rows of the paper's Table 4.

    Raises:
        InputError: there are no terms, or a number is out of range.
    """

    def __init__(
        self,
        terms: Sequence[Callable[[], GuidanceTerm]] = (SpectrumTerm, VGGTerm, SegmentationTerm),
        strength: float = 1.0,
        start: int = 0,
        every: int = 1,
        steps: Sequence[int] = (),
        through_network: bool = False,
        sign: Sign = "descend",
        added: Sequence[Callable[[], GuidanceTerm]] = (),
    ) -> None:
        super().__init__()
        if not terms:
            raise InputError("LossGradientGuidance has no terms: give one, or take LossSum or Unguided")
        if not strength >= 0:
            raise InputError(f"LossGradientGuidance's strength is {strength} and must be at least 0")
        if steps and min(steps) < 0:
            raise InputError(f"LossGradientGuidance's steps are {list(steps)} and must be at least 0")
        check_choice(sign, Sign, "LossGradientGuidance's sign")
        _check_iterations(self, start, every)
        self.guiding, self.added = _build(terms), _build(added)
        self.strength, self.through_network = strength, through_network
        self.start, self.every, self.steps = start, every, tuple(steps)
        self.direction = 1.0 if sign == "descend" else -1.0
        self.injects, self.adds = strength > 0, bool(added)
        self.needs_hr = self.injects and any(term.needs_hr for term in self.guiding)

    def terms(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> dict[str, Tensor]:
        """Return the unweighted loss (B,) of each term by name."""
        return _values([*self.guiding, *self.added], image, hr, lr)

    def active(self, iteration: int) -> bool:
        """Return whether the guidance is active in a training iteration, counted from 0."""
        return _due(iteration, self.start, self.every)

    def active_at(self, t: Tensor) -> Tensor:
        """Return whether the gradient is injected at each diffusion index (B,), as booleans (B,)."""
        if not self.steps:
            return torch.full_like(t, self.injects, dtype=torch.bool)
        return torch.isin(t, torch.tensor(self.steps, device=t.device)) & self.injects

    def check(self, steps: int) -> None:
        """Check that the configured diffusion indices exist in a schedule of `steps` steps.

        Raises:
            InputError: an index is too large.
        """
        beyond = [step for step in self.steps if step >= steps]
        if beyond:
            raise InputError(
                f"LossGradientGuidance's steps name {', '.join(map(str, beyond))}, and the schedule of {steps} steps "
                f"has 0 to {steps - 1}"
            )

    def loss(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Return the weighted sum (B,) of the terms whose gradient is injected."""
        return _weighted(self.guiding, image, hr, lr)

    def added_loss(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Return the weighted sum (B,) of the terms to be added to the training loss."""
        return _weighted(self.added, image, hr, lr)

    def gradient(self, x: Tensor, clean_of: Map, decode: Map, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Return the gradient of each image's `loss` with respect to its state x, in the shape of x and detached.

        The gradient is not multiplied by `strength`. It is computed under `torch.no_grad` too, and under
        `torch.inference_mode` if the tensors that `clean_of` uses were created outside it. Weights of the network
        receive no gradient.

        Args:
            x: noisy state (B, C, h, w).
            clean_of: function that maps a state to the estimate of the clean latent, through the network or with the
                predicted noise held constant.
            decode: function that decodes a latent to images (B, 1, H, W).
            hr: high-resolution images (B, 1, H, W), if there are any.
            lr: low-resolution images (B, 1, h', w').
        """
        with torch.inference_mode(False), torch.enable_grad():
            state = x.detach().clone().requires_grad_()
            target = None if hr is None else hr.clone()
            loss = self.loss(decode(clean_of(state)), target, lr.clone())
            return torch.autograd.grad(loss.sum(), state)[0]


class LossSum(Guidance):
    """Adds the terms to the training loss and injects no gradient, as the loss sums in DifIISR's Table 4 do.

    Args:
        terms: terms of the loss, each with its own weight.
        start: first training iteration in which the terms are added.
        every: interval in iterations, counted from `start`, at which the terms are added.

    Raises:
        InputError: there are no terms, or a number is out of range.
    """

    adds = True

    def __init__(self, terms: Sequence[Callable[[], GuidanceTerm]], start: int = 0, every: int = 1) -> None:
        super().__init__()
        if not terms:
            raise InputError("LossSum has no terms: give one, or take Unguided")
        _check_iterations(self, start, every)
        self.added = _build(terms)
        self.start, self.every = start, every

    def terms(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> dict[str, Tensor]:
        """Return the unweighted loss (B,) of each term by name."""
        return _values(self.added, image, hr, lr)

    def active(self, iteration: int) -> bool:
        """Return whether the guidance is active in a training iteration, counted from 0."""
        return _due(iteration, self.start, self.every)

    def loss(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Return the weighted sum (B,) of the terms."""
        return _weighted(self.added, image, hr, lr)

    def added_loss(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Return the weighted sum (B,) of the terms, which equals `loss`."""
        return self.loss(image, hr, lr)


def _build(terms: Sequence[Callable[[], GuidanceTerm]]) -> nn.ModuleList:
    return nn.ModuleList([term() for term in terms])


def _values(terms: Iterable[nn.Module], image: Tensor, hr: Tensor | None, lr: Tensor) -> dict[str, Tensor]:
    """Return the loss (B,) of each term by name; repeated names are numbered: vgg, vgg_2."""
    values: dict[str, Tensor] = {}
    times: Counter[str] = Counter()
    for term in terms:
        name = cast(GuidanceTerm, term).name
        times[name] += 1
        values[name if times[name] == 1 else f"{name}_{times[name]}"] = term(image, hr, lr)
    return values


def _weighted(terms: Iterable[nn.Module], image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
    losses = [cast(GuidanceTerm, term).weight * term(image, hr, lr) for term in terms]
    return torch.stack(losses).sum(dim=0) if losses else torch.zeros(len(image), device=image.device)


def _due(iteration: int, start: int, every: int) -> bool:
    return iteration >= start and (iteration - start) % every == 0


def _check_iterations(guidance: Guidance, start: int, every: int) -> None:
    name = type(guidance).__name__
    if start < 0:
        raise InputError(f"{name}'s start is {start} and must be at least 0")
    if every < 1:
        raise InputError(f"{name}'s every is {every} and must be at least 1")
