"""What DifIISR's denoiser is trained to: the paper's denoising, or the released distillation to one step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.blocks.guidance import Guidance
from lit_thermal.blocks.pretrained import read_weights, unwrapped
from lit_thermal.errors import InputError
from lit_thermal.generative.sampler import Deterministic
from lit_thermal.methods.difiisr.network import DifIISRNetwork, Given, steps_of
from lit_thermal.networks.swin_unet import SwinUNet


class Example(NamedTuple):
    """A training batch."""

    given: Given
    z: Tensor
    """(B, C, H', W') latent of the target."""
    hr: Tensor
    """(B, 1, H, W) target in [-1, 1]."""
    noise: Tensor
    """(B, C, H', W') unit Gaussian."""


class Objective(ABC):
    """Terms of the training loss of a batch.

    An objective is no module: what it holds besides the network serves training alone, and is kept in a checkpoint
    beside the model's weights, not among them.
    """

    @abstractmethod
    def terms(self, network: DifIISRNetwork, example: Example, guidance: Guidance, guided: bool) -> dict[str, Tensor]:
        """Name to a term of the loss, each a scalar.

        Args:
            network: that is trained.
            example: the batch.
            guidance: block of the method.
            guided: the iteration is one of those that `guidance` acts in.
        """

    def begin(self, network: DifIISRNetwork) -> None:  # noqa: B027 - most objectives have nothing to prepare
        """Prepare for training from the network's present weights; called once before the first step of a `fit`."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any], network: DifIISRNetwork) -> None:  # noqa: B027
        """Take back what `state_dict` gave."""


def shift(network: DifIISRNetwork, example: Example, guidance: Guidance, x: Tensor, f: Tensor, t: Tensor) -> Tensor:
    """How far guidance moves a clean estimate: ``x0(eps + rho s_t g) - x0(eps)`` (paper eq. 9), constant.

    Args:
        network: that made the estimate.
        example: the batch.
        guidance: with its terms, strength and steps; images at other steps are not moved.
        x: (B, C, H', W') noisy latent.
        f: clean estimate of it.
        t: (B,) index of the schedule.

    Returns:
        (B, C, H', W'), ``- rho s_t^2 / a_t * dL/dx_t``.
    """
    return move(network, example.given, guidance, x.detach(), f.detach(), t, example.hr)


def move(
    network: DifIISRNetwork, given: Given, guidance: Guidance, x: Tensor, f: Tensor, t: Tensor, hr: Tensor | None
) -> Tensor:
    """`shift` without an example; `hr` is None where the guided loss needs no target."""
    schedule = network.schedule
    noise = schedule.noise_of(x, f, given.y, t)

    def held(x: Tensor) -> Tensor:
        return schedule.clean_of(x, noise, given.y, t)

    def through(x: Tensor) -> Tensor:
        return network.estimate(x, t, given)

    clean_of = through if guidance.through_network else held
    gradient = guidance.gradient(x, clean_of, network.image, hr, given.lr)
    # Linear in the noise: what the correction alone makes of nothing. A difference of two estimates would lose digits.
    nothing = torch.zeros_like(gradient)
    moved = schedule.clean_of(nothing, guidance.strength * schedule.noise_scale(t) * gradient, nothing, t)
    return torch.where(guidance.active_at(t).view(-1, 1, 1, 1), moved, 0.0)


def added(network: DifIISRNetwork, example: Example, guidance: Guidance, f: Tensor) -> dict[str, Tensor]:
    """The terms of guidance that are added to the loss, of a clean estimate that gradients flow to."""
    if not guidance.adds:
        return {}
    return {"added": guidance.added_loss(network.image(f), example.hr, example.given.lr).mean()}


class Denoising(Objective):
    """Mean squared error of the estimate at an index drawn evenly (ResShift; paper section 3).

    Noise as it stands in the state (`scaled_noise`) is compared as the unit noise that it is made of, as released.
    In a guided iteration the raw output is drawn to ``z + shift`` instead of z, `shift` descending the guided loss;
    with the sign `released` to ``z - shift`` (the corrected output is drawn to z then, and the raw one climbs).
    """

    def terms(self, network: DifIISRNetwork, example: Example, guidance: Guidance, guided: bool) -> dict[str, Tensor]:
        """One term, `denoising`, and `added` where guidance adds to the loss."""
        schedule, y = network.schedule, example.given.y
        t = torch.randint(schedule.steps, (len(y),), device=y.device)
        x = schedule.add_noise(example.z, y, example.noise, t)
        output = network(x, t, example.given)
        f = network.clip(network.clean(output, x, t, example.given))
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
    """A frozen teacher's whole deterministic chain, learned in one step (SinSR; the recipe released for DifIISR).

    From one noise, the teacher's chain gives z*. The student's terms, all mean squared errors of latents, which are not
    clipped:

    - `distilled`: its single step at the last index against z*;
    - `inverse`: its output for z* at index 0 against the start of the chain, which it learns to invert;
    - `truth`: its single step from the inverse of the target's latent against that latent.

    All inputs of the student are scaled as at the last index, also where the index is 0. In a guided iteration z* is
    moved at index 0, down the guided loss whatever the guidance's sign; from there the student's aim is moved at the
    last index, to the side that the sign says.

    Args:
        teacher: file of a denoiser's weights in the released layout (`resshift_realsrx4_s15_v1.pth`
            of ResShift's release v2.0), from which teacher and student start, whatever weights the student had; without
            one the teacher is a copy of the network as training begins, which `--from` gives its weights.
        inverse_weight: of `inverse`.
        truth_weight: of `truth`.
        teacher_noise: the noise that guidance corrects at the end of the teacher's chain: `estimated`, the true
            conversion of its estimate, which leaves z* where it is but for the gradient; or `released`, the estimate
            itself in the place of noise and no factor on the gradient, which shrinks z* by about 4 %.

    Raises:
        InputError: a weight is negative, or there is no such noise.
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
        if teacher_noise not in get_args(TeacherNoise):
            raise InputError(
                f"teacher_noise of Distillation is {teacher_noise!r}; choose of {', '.join(get_args(TeacherNoise))}"
            )
        self.file, self.inverse_weight, self.truth_weight = teacher, inverse_weight, truth_weight
        self.teacher_noise = teacher_noise
        self._teacher: DifIISRNetwork | None = None

    def begin(self, network: DifIISRNetwork) -> None:
        """Make the teacher, where a resumed training has not brought it.

        Raises:
            InputError: the file cannot be read or holds another network.
        """
        if self._teacher is None:
            if self.file:
                _load(network.unet, Path(self.file))
            self._teacher = _copy(network)

    def state_dict(self) -> dict[str, Any]:
        """The teacher's denoiser and condition; the first stage is the network's own."""
        return {} if self._teacher is None else _trained(self._teacher)

    def load_state_dict(self, state: dict[str, Any], network: DifIISRNetwork) -> None:
        """Take back the teacher.

        Raises:
            InputError: it is another network.
        """
        teacher = _copy(network)
        remedy = "build the model that the checkpoint was made by, or give it by --from and the teacher by its file"
        _check_fit(state, _trained(teacher), "of the checkpoint", remedy)
        teacher.load_state_dict(state, strict=False)
        self._teacher = teacher

    def terms(self, network: DifIISRNetwork, example: Example, guidance: Guidance, guided: bool) -> dict[str, Tensor]:
        """`distilled`, `inverse`, `truth`, and `added` where guidance adds to the loss."""
        assert self._teacher is not None, "begin is called before training"
        schedule, given = network.schedule, example.given
        teacher = self._teacher.to(given.y.device)
        last, first = (steps_of(len(given.y), i, given.y.device) for i in (schedule.steps - 1, 0))
        start = schedule.start(given.y, example.noise)
        with torch.no_grad():
            taught = example._replace(given=teacher.look_again(given.lr, given.y))
            aim, before = _chain(teacher, start, taught.given)
        if guided and guidance.injects:
            aim = self._moved(teacher, taught, guidance, before, aim, first)
        raw = network.clean(network(start, last, given), start, last, given)
        f = network.clip(raw)
        student_aim = aim
        if guided and guidance.injects:
            student_aim = aim + guidance.direction * shift(network, example, guidance, start, f, last)
        terms = {"distilled": F.mse_loss(raw, student_aim)}
        if self.inverse_weight:
            terms["inverse"] = self.inverse_weight * F.mse_loss(_as_last(network, aim, first, last, given), start)
        if self.truth_weight:
            with torch.no_grad():
                inverse = _as_last(network, example.z, first, last, given)
            raw = network.clean(network(inverse, last, given), inverse, last, given)
            terms["truth"] = self.truth_weight * F.mse_loss(raw, example.z)
        return terms | (added(network, example, guidance, f) if guided else {})

    def _moved(
        self, teacher: DifIISRNetwork, example: Example, guidance: Guidance, x: Tensor, z: Tensor, first: Tensor
    ) -> Tensor:
        """The end z of the teacher's chain as guidance moves it at index 0; x is the state before the last step."""
        if self.teacher_noise == "estimated":
            return z + shift(teacher, example, guidance, x, z, first)
        schedule, y = teacher.schedule, example.given.y
        estimate_as_noise = schedule.clean_of(x, z, y, first)
        gradient = guidance.gradient(
            z, lambda z: schedule.clean_of(z, estimate_as_noise, y, first), teacher.image, example.hr, example.given.lr
        )
        moved = schedule.clean_of(z, estimate_as_noise + guidance.strength * gradient, y, first)
        return torch.where(guidance.active_at(first).view(-1, 1, 1, 1), moved, z)


def _chain(teacher: DifIISRNetwork, start: Tensor, given: Given) -> tuple[Tensor, Tensor]:
    """End of the teacher's deterministic chain, and the state before its last step."""
    states = [start]

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        states[0] = x
        return teacher.estimate(x, t, given)

    return Deterministic().run(denoise, teacher.schedule, start, given.y), states[0]


def _as_last(network: DifIISRNetwork, latent: Tensor, first: Tensor, last: Tensor, given: Given) -> Tensor:
    """The denoiser's output at index 0 for a clean latent that is scaled as at the last index."""
    return network.unet(network.schedule.scale_input(latent, last), first, given.condition).float()


def _copy(network: DifIISRNetwork) -> DifIISRNetwork:
    """A frozen copy that shares the first stage."""
    shared = {id(network.first_stage): network.first_stage}
    return deepcopy(network, shared).requires_grad_(False).eval()


def _trained(network: DifIISRNetwork) -> dict[str, Tensor]:
    """State dict without the first stage."""
    return {name: value for name, value in network.state_dict().items() if not name.startswith("first_stage.")}


def _load(unet: SwinUNet, path: Path) -> None:
    """Give a denoiser the weights of a file in the released layout.

    Raises:
        InputError: there is no such file, or it holds another network.
    """
    if not path.is_file():
        raise InputError(
            f"there is no file {path} with the teacher's weights: fetch resshift_realsrx4_s15_v1.pth of ResShift's "
            "release v2.0 and give it by model.objective.teacher, or leave it out to distil the network itself"
        )
    state, own = unwrapped(read_weights(path)), unet.state_dict()
    _check_fit(state, own, str(path), "give model.unet its size, or model.objective.teacher another file")
    unet.load_state_dict({name: state[name] for name in own})


def _check_fit(state: Mapping[str, Tensor], own: Mapping[str, Tensor], origin: str, remedy: str) -> None:
    """Check that a teacher's weights have all names and shapes of ours.

    Raises:
        InputError: they have not.
    """
    for name, value in own.items():
        if name not in state or state[name].shape != value.shape:
            there = str(tuple(state[name].shape)) if name in state else "absent"
            raise InputError(
                f"the teacher {origin} is of another denoiser: {name} is {there} there and {tuple(value.shape)} here; "
                f"{remedy}"
            )
