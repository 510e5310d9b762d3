"""Guidance: how losses that know the image, not its latent, take part in training and sampling a diffusion model."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from lit_thermal.blocks.guidance_terms import GuidanceTerm, SpectrumTerm
from lit_thermal.blocks.perceptual_terms import SegmentationTerm, VGGTerm
from lit_thermal.errors import InputError

Sign = Literal["descend", "released"]
Map = Callable[[Tensor], Tensor]


class Guidance(nn.Module, ABC):
    """Base of the family: a guidance loss of restored images, and the two ways in which it can take part.

    Its gradient is injected into the noise that the network predicts (`injects`), or its terms are added to the
    training loss (`adds`). A method needs to know no more than these two, so that it asks for no member by name.

    What must hold: losses are (B,), one per image, of images (B, 1, H, W) in [-1, 1]; the guidance has no weights that
    are trained or saved, and draws nothing at random.

    Attributes:
        injects: `gradient` is to be injected.
        adds: `added_loss` is to be added.
        needs_hr: a term whose gradient is injected compares with the high-resolution image: it cannot guide at test
            time.
        strength: the paper's rho, by which the injected gradient is multiplied.
        through_network: the estimate of the clean image that the gradient passes through is that of the network, and
            not the one with the predicted noise held constant.
        direction: +1 or -1: to which side of the target the injected gradient moves the network in training, see
            `LossGradientGuidance`.
        start: first training iteration that it takes part in, where there is one.
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
        """Name of each term to its loss (B,), not weighted, for the log: those of the gradient and the added ones."""

    def active(self, iteration: int) -> bool:
        """Whether it takes part in a training iteration, counted from 0; never by default."""
        return False

    def active_at(self, t: Tensor) -> Tensor:
        """Which diffusion indices (B,) the gradient is injected at, as booleans (B,); none by default."""
        return torch.zeros_like(t, dtype=torch.bool)

    def check(self, steps: int) -> None:
        """Check that the diffusion indices that were given are those of a schedule of so many steps; none by default.

        Raises:
            InputError: one is not.
        """

    @abstractmethod
    def loss(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """The guidance loss: the weighted sum (B,) of the terms, without those of `added_loss` beside it."""

    def added_loss(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """The weighted sum (B,) of the terms to be added to the training loss; 0 by default."""
        return torch.zeros(len(image), device=image.device)

    def gradient(self, x: Tensor, clean_of: Map, decode: Map, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Gradient of each image's `loss` with respect to its state x, of the shape of x; 0 by default.

        Args:
            x: noisy state (B, C, h, w).
            clean_of: state to the estimate of the clean latent, with the predicted noise held constant or by the
                network.
            decode: latent to image (B, 1, H, W).
            hr: high-resolution images (B, 1, H, W), where there are any.
            lr: low-resolution images (B, 1, h', w').
        """
        return torch.zeros_like(x)


class Unguided(Guidance):
    """No guidance: the plain diffusion model, the first row of DifIISR's Table 3."""

    def terms(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def loss(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Zeros (B,)."""
        return torch.zeros(len(image), device=image.device)


class LossGradientGuidance(Guidance):
    """The gradient of a loss of the restored image, injected into the predicted noise (DifIISR, eq. 8 and 9).

    The method adds ``strength * s_t * gradient`` to the predicted noise, s_t being the standard deviation of the noise
    at index t, so that the estimate of the clean latent becomes ``x0 - c * gradient`` with some c > 0: in sampling
    that estimate has the lower guidance loss.

    In training the gradient is a constant, and what the target is compared with decides where the network goes. With
    the sign `released`, as in the released code, the corrected estimate is pulled to the target, and with it the raw
    one to ``target + c * gradient``: up the guidance loss, though a sampler without guidance uses the raw one. With
    `descend` the raw estimate is pulled to ``target - c * gradient``, down the guidance loss, which is what the paper
    says of its method. `direction` is the factor of the gradient: the raw estimate is pulled to
    ``target - direction * c * gradient``.

    The paper's gradient is with respect to x_t of an estimate that the network gives (`through_network`); the released
    code holds the predicted noise constant, which costs no pass back through the network and is the default here. The
    loss is that of each image by itself. The released code takes the mean over its batch of 4 instead, which makes
    its gradients 4 times smaller.

    Args:
        terms: of the loss whose gradient is injected, each with its own weight; by default those of the paper.
        strength: rho, from 0 on; 1 in the released code, which is 0.25 here, and with 0 nothing is injected.
        start: first training iteration with guidance; 200000 in the paper and in the released code.
        every: guidance in each so-many-th iteration from `start` on.
        steps: indices of the diffusion, 0 the last before the clean image, at which the gradient is injected; none
            given: all of them.
        through_network: let the gradient pass through the network.
        sign: `descend` or `released`.
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
        if sign not in get_args(Sign):
            raise InputError(f"LossGradientGuidance's sign is {sign!r}; choose of {', '.join(get_args(Sign))}")
        _check_iterations(self, start, every)
        self.guiding, self.added = _build(terms), _build(added)
        self.strength, self.through_network = strength, through_network
        self.start, self.every, self.steps = start, every, tuple(steps)
        self.direction = 1.0 if sign == "descend" else -1.0
        self.injects, self.adds = strength > 0, bool(added)
        self.needs_hr = self.injects and any(term.needs_hr for term in self.guiding)

    def terms(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> dict[str, Tensor]:
        """Name of each term to its loss (B,), not weighted."""
        return _values([*self.guiding, *self.added], image, hr, lr)

    def active(self, iteration: int) -> bool:
        """Whether it takes part in a training iteration, counted from 0."""
        return _due(iteration, self.start, self.every)

    def active_at(self, t: Tensor) -> Tensor:
        """Which diffusion indices (B,) the gradient is injected at, as booleans (B,)."""
        if not self.steps:
            return torch.full_like(t, self.injects, dtype=torch.bool)
        return torch.isin(t, torch.tensor(self.steps, device=t.device)) & self.injects

    def check(self, steps: int) -> None:
        """Check that the diffusion indices that were given are those of a schedule of so many steps.

        Raises:
            InputError: one is not.
        """
        beyond = [step for step in self.steps if step >= steps]
        if beyond:
            raise InputError(
                f"LossGradientGuidance's steps name {', '.join(map(str, beyond))}, and the schedule of {steps} steps "
                f"has 0 to {steps - 1}"
            )

    def loss(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """The weighted sum (B,) of the terms whose gradient is injected."""
        return _weighted(self.guiding, image, hr, lr)

    def added_loss(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """The weighted sum (B,) of the terms to be added to the training loss."""
        return _weighted(self.added, image, hr, lr)

    def gradient(self, x: Tensor, clean_of: Map, decode: Map, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Gradient of each image's `loss` with respect to its state x, of the shape of x, a constant.

        It is not multiplied by `strength`. It is there under `torch.no_grad` too, and under `torch.inference_mode`
        where what `clean_of` holds was not made in it. Weights of the network get no gradient by it.

        Args:
            x: noisy state (B, C, h, w).
            clean_of: state to the estimate of the clean latent, with the predicted noise held constant or by the
                network.
            decode: latent to image (B, 1, H, W).
            hr: high-resolution images (B, 1, H, W), where there are any.
            lr: low-resolution images (B, 1, h', w').
        """
        with torch.inference_mode(False), torch.enable_grad():
            state = x.detach().clone().requires_grad_()
            target = None if hr is None else hr.clone()
            loss = self.loss(decode(clean_of(state)), target, lr.clone())
            return torch.autograd.grad(loss.sum(), state)[0]


class LossSum(Guidance):
    """The terms added to the training loss, nothing injected: the sums of losses of DifIISR's Table 4.

    Args:
        terms: each with its own weight.
        start: first training iteration with the terms.
        every: in each so-many-th iteration from `start` on.

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
        """Name of each term to its loss (B,), not weighted."""
        return _values(self.added, image, hr, lr)

    def active(self, iteration: int) -> bool:
        """Whether it takes part in a training iteration, counted from 0."""
        return _due(iteration, self.start, self.every)

    def loss(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """The weighted sum (B,) of the terms."""
        return _weighted(self.added, image, hr, lr)

    def added_loss(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """The weighted sum (B,) of the terms, which is `loss`."""
        return self.loss(image, hr, lr)


def _build(terms: Sequence[Callable[[], GuidanceTerm]]) -> nn.ModuleList:
    return nn.ModuleList([term() for term in terms])


def _values(terms: Iterable[nn.Module], image: Tensor, hr: Tensor | None, lr: Tensor) -> dict[str, Tensor]:
    """Name of each term to its loss (B,); names that come again are counted: vgg, vgg_2."""
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
