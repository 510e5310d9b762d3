"""Training objectives of DifIISR's denoiser: the paper's denoising, or the released distillation to one step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.blocks.guidance import Guidance
from lit_thermal.blocks.pretrained import read_weights, unwrapped
from lit_thermal.errors import InputError, check_choice
from lit_thermal.files import is_plain
from lit_thermal.generative.sampler import Deterministic
from lit_thermal.methods.difiisr.network import DifIISRNetwork, EncodedCondition, steps_of
from lit_thermal.networks.swin_unet import SwinUNet


class Example(NamedTuple):
    """A training batch."""

    encoded: EncodedCondition
    z: Tensor
    """(B, C, H', W') latent of the target."""
    hr: Tensor
    """(B, 1, H, W) target in [-1, 1]."""
    noise: Tensor
    """(B, C, H', W') unit Gaussian."""


class Objective(ABC):
    """Base of the training objectives, which compute the loss terms of a batch.

    An objective is not an `nn.Module`: its state is needed only in training, and a checkpoint stores it separately from
    the model's weights.
    """

    @abstractmethod
    def terms(self, network: DifIISRNetwork, example: Example, guidance: Guidance, guided: bool) -> dict[str, Tensor]:
        """Return the terms of the loss by name, each a scalar.

        Args:
            network: network that is trained.
            example: training batch.
            guidance: guidance block of the method.
            guided: True if `guidance` is active in this iteration.
        """

    def begin(self, network: DifIISRNetwork) -> None:  # noqa: B027 - most objectives have nothing to prepare
        """Prepare for training with the network's current weights; called once before the first step of a `fit`."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed training needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any], network: DifIISRNetwork) -> None:  # noqa: B027
        """Restore the result of `state_dict`."""


def shift(network: DifIISRNetwork, example: Example, guidance: Guidance, x: Tensor, f: Tensor, t: Tensor) -> Tensor:
    """Return the shift of a clean estimate by guidance: ``x0(eps + rho s_t g) - x0(eps)`` (paper eq. 9), detached.

    Args:
        network: network that made the estimate.
        example: training batch.
        guidance: guidance block with its terms, strength and active steps; images at other steps are not shifted.
        x: (B, C, H', W') noisy latent.
        f: (B, C, H', W') clean estimate of `x`.
        t: (B,) index of the schedule.

    Returns:
        (B, C, H', W'), ``- rho s_t^2 / a_t * dL/dx_t``.
    """
    return move(network, example.encoded, guidance, x.detach(), f.detach(), t, example.hr)


def move(
    network: DifIISRNetwork,
    encoded: EncodedCondition,
    guidance: Guidance,
    x: Tensor,
    f: Tensor,
    t: Tensor,
    hr: Tensor | None,
) -> Tensor:
    """Compute `shift` without an example; `hr` may be None if the guided loss needs no target."""
    schedule = network.schedule
    noise = schedule.noise_of(x, f, encoded.y, t)

    def fixed_noise(x: Tensor) -> Tensor:
        return schedule.clean_of(x, noise, encoded.y, t)

    def through(x: Tensor) -> Tensor:
        return network.estimate(x, t, encoded)

    clean_of = through if guidance.through_network else fixed_noise
    gradient = guidance.gradient(x, clean_of, network.image, hr, encoded.lr)
    # The schedule is linear in the noise, so this is the correction alone. A difference of two estimates loses digits.
    nothing = torch.zeros_like(gradient)
    moved = schedule.clean_of(nothing, guidance.strength * schedule.noise_scale(t) * gradient, nothing, t)
    return torch.where(guidance.active_at(t).view(-1, 1, 1, 1), moved, 0.0)


def added(network: DifIISRNetwork, example: Example, guidance: Guidance, f: Tensor) -> dict[str, Tensor]:
    """Return the terms of guidance that are added to the loss, for a clean estimate that gradients flow to."""
    if not guidance.adds:
        return {}
    return {"added": guidance.added_loss(network.image(f), example.hr, example.encoded.lr).mean()}


class Denoising(Objective):
    """Mean squared error of the estimate at an index drawn uniformly (ResShift; paper section 3).

    A prediction of `scaled_noise` is compared as unit noise, as in the released code. In a guided iteration the target
    of the raw output is ``z + shift`` instead of z, where `shift` descends the guided loss. With the sign `released` it
    is ``z - shift``: the corrected output is then trained to z, so that the raw one climbs the guided loss.
    """

    def terms(self, network: DifIISRNetwork, example: Example, guidance: Guidance, guided: bool) -> dict[str, Tensor]:
        """Return the term `denoising`, and `added` if guidance adds to the loss."""
        schedule, y = network.schedule, example.encoded.y
        t = torch.randint(schedule.steps, (len(y),), device=y.device)
        x = schedule.add_noise(example.z, y, example.noise, t)
        output = network(x, t, example.encoded)
        f = network.clip(network.clean(output, x, t, example.encoded))
        aim, noise = example.z, example.noise
        if guided and guidance.injects:
            aim = example.z + guidance.direction * shift(network, example, guidance, x, f, t)
            noise = schedule.noise_of(x, aim, y, t)
        unit = schedule.noise_scale(t) if network.prediction == "scaled_noise" else 1.0
        target = schedule.target(aim, y, noise, t, network.prediction)
        terms = {"denoising": F.mse_loss(output / unit, target / unit)}
        return terms | (added(network, example, guidance, f) if guided else {})


TeacherNoise = Literal["estimated", "released"]


class Distillation(Objective):
    """Distil a frozen teacher's whole deterministic chain into one step (SinSR; the recipe released for DifIISR).

    The teacher's chain turns a noise into z*. The terms of the student are mean squared errors of unclipped latents:

    - `distilled`: its single step at the last index, compared with z*;
    - `inverse`: its output for z* at index 0, compared with the start of the chain, which it learns to invert;
    - `truth`: its single step from the inverse of the target's latent, compared with that latent.

    All inputs of the student are scaled as at the last index, even if the index is 0. In a guided iteration, z* first
    takes a step at index 0 that decreases the guided loss, regardless of the sign of the guidance. The resulting target
    of the student is then shifted at the last index, in the direction given by the sign.

    Args:
        teacher: file of a denoiser's weights in the released layout (`resshift_realsrx4_s15_v1.pth` of ResShift's
            release v2.0), from which teacher and student start; earlier weights of the student are replaced. Without a
            file, the teacher is a copy of the network at the beginning of training, with weights from `--from`.
        inverse_weight: weight of the term `inverse`.
        truth_weight: weight of the term `truth`.
        teacher_noise: noise that guidance corrects at the end of the teacher's chain: `estimated` converts the estimate
            to noise, which leaves z* unchanged except for the gradient; `released` uses the estimate itself as the
            noise and no factor on the gradient, which shrinks z* by about 4 %.

    Raises:
        InputError: a weight is negative, or `teacher_noise` is unknown.
    """

    def __init__(
        self,
        teacher: str = "",
        inverse_weight: float = 1.0,
        truth_weight: float = 1.0,
        teacher_noise: TeacherNoise = "estimated",
    ) -> None:
        if min(inverse_weight, truth_weight) < 0:
            raise InputError(
                f"inverse_weight {inverse_weight} and truth_weight {truth_weight} of Distillation must be at least 0"
            )
        check_choice(teacher_noise, TeacherNoise, "model.objective.teacher_noise")
        self.file, self.inverse_weight, self.truth_weight = teacher, inverse_weight, truth_weight
        self.teacher_noise = teacher_noise
        self._teacher: DifIISRNetwork | None = None

    def begin(self, network: DifIISRNetwork) -> None:
        """Make the teacher, unless a resumed training has restored it.

        Raises:
            InputError: the file cannot be read or belongs to another network.
        """
        if self._teacher is None:
            if self.file:
                _load(network.unet, Path(self.file))
            self._teacher = _copy(network)

    def state_dict(self) -> dict[str, Any]:
        """Return the teacher's denoiser and condition; the first stage is shared with the network."""
        return {} if self._teacher is None else _trained(self._teacher)

    def load_state_dict(self, state: dict[str, Any], network: DifIISRNetwork) -> None:
        """Restore the teacher.

        Raises:
            InputError: the state belongs to a different network.
        """
        teacher = _copy(network)
        remedy = "build the model that the checkpoint was made by, or give it by --from and the teacher by its file"
        _check_fit(state, _trained(teacher), "of the checkpoint", remedy)
        teacher.load_state_dict(state, strict=False)
        self._teacher = teacher

    def terms(self, network: DifIISRNetwork, example: Example, guidance: Guidance, guided: bool) -> dict[str, Tensor]:
        """Return the loss terms `distilled`, `inverse` and `truth`, and `added` if guidance adds a term to the loss."""
        assert self._teacher is not None, "begin is called before training"
        schedule, encoded = network.schedule, example.encoded
        teacher = self._teacher.to(encoded.y.device)
        last, first = (steps_of(len(encoded.y), i, encoded.y.device) for i in (schedule.steps - 1, 0))
        start = schedule.start(encoded.y, example.noise)
        with torch.no_grad():
            taught = example._replace(encoded=teacher.condition_from_latent(encoded.lr, encoded.y))
            aim, before = _chain(teacher, start, taught.encoded)
        if guided and guidance.injects:
            aim = self._moved(teacher, taught, guidance, before, aim, first)
        raw = network.clean(network(start, last, encoded), start, last, encoded)
        f = network.clip(raw)
        student_aim = aim
        if guided and guidance.injects:
            student_aim = aim + guidance.direction * shift(network, example, guidance, start, f, last)
        terms = {"distilled": F.mse_loss(raw, student_aim)}
        if self.inverse_weight:
            terms["inverse"] = self.inverse_weight * F.mse_loss(_as_last(network, aim, first, last, encoded), start)
        if self.truth_weight:
            with torch.no_grad():
                inverse = _as_last(network, example.z, first, last, encoded)
            raw = network.clean(network(inverse, last, encoded), inverse, last, encoded)
            terms["truth"] = self.truth_weight * F.mse_loss(raw, example.z)
        return terms | (added(network, example, guidance, f) if guided else {})

    def _moved(
        self, teacher: DifIISRNetwork, example: Example, guidance: Guidance, x: Tensor, z: Tensor, first: Tensor
    ) -> Tensor:
        """Move z, the end of the teacher's chain, by guidance at index 0; x is the state before the last step."""
        if self.teacher_noise == "estimated":
            return z + shift(teacher, example, guidance, x, z, first)
        schedule, y = teacher.schedule, example.encoded.y
        estimate_as_noise = schedule.clean_of(x, z, y, first)
        gradient = guidance.gradient(
            z,
            lambda z: schedule.clean_of(z, estimate_as_noise, y, first),
            teacher.image,
            example.hr,
            example.encoded.lr,
        )
        moved = schedule.clean_of(z, estimate_as_noise + guidance.strength * gradient, y, first)
        return torch.where(guidance.active_at(first).view(-1, 1, 1, 1), moved, z)


def _chain(teacher: DifIISRNetwork, start: Tensor, encoded: EncodedCondition) -> tuple[Tensor, Tensor]:
    """Return the end of the teacher's deterministic chain, and the state before its last step."""
    states = [start]

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        states[0] = x
        return teacher.estimate(x, t, encoded)

    return Deterministic().run(denoise, teacher.schedule, start, encoded.y), states[0]


def _as_last(network: DifIISRNetwork, latent: Tensor, first: Tensor, last: Tensor, encoded: EncodedCondition) -> Tensor:
    """Return the denoiser's output at index 0 for a clean latent that is scaled as at the last index."""
    return network.unet(network.schedule.scale_input(latent, last), first, encoded.condition).float()


def _copy(network: DifIISRNetwork) -> DifIISRNetwork:
    """Return a frozen copy of the network that shares its first stage."""
    shared = {id(network.first_stage): network.first_stage}
    return deepcopy(network, shared).requires_grad_(False).eval()


def _trained(network: DifIISRNetwork) -> dict[str, Tensor]:
    """Return the state dict without the first stage."""
    return {name: value for name, value in network.state_dict().items() if not name.startswith("first_stage.")}


def _load(unet: SwinUNet, path: Path) -> None:
    """Load a denoiser's weights from a file in the released layout.

    Raises:
        InputError: the file does not exist, or belongs to a different network.
    """
    if not is_plain(path):
        raise InputError(
            f"there is no file {path} with the teacher's weights: fetch resshift_realsrx4_s15_v1.pth of ResShift's "
            "release v2.0 and give it by model.objective.teacher, or leave it out to distil the network itself"
        )
    state, own = unwrapped(read_weights(path)), unet.state_dict()
    _check_fit(state, own, str(path), "give model.unet its size, or model.objective.teacher another file")
    unet.load_state_dict({name: state[name] for name in own})


def _check_fit(state: Mapping[str, Tensor], own: Mapping[str, Tensor], origin: str, remedy: str) -> None:
    """Check that a teacher's weights have all names and shapes of this network.

    Raises:
        InputError: a name is missing or a shape differs.
    """
    for name, value in own.items():
        if name not in state or state[name].shape != value.shape:
            there = str(tuple(state[name].shape)) if name in state else "absent"
            raise InputError(
                f"the teacher {origin} is of another denoiser: {name} is {there} there and {tuple(value.shape)} here; "
                f"{remedy}"
            )
