"""DifIISR as a LightningModule."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lit_thermal.batch import Batch, need
from lit_thermal.blocks.diffusion_condition import DiffusionCondition, RawLR
from lit_thermal.blocks.guidance import Guidance, LossGradientGuidance, Unguided
from lit_thermal.errors import InputError
from lit_thermal.generative.chain import ChainStep
from lit_thermal.generative.drawing import Drawing
from lit_thermal.generative.noise import SeededNoise
from lit_thermal.generative.sampler import Ancestral, Deterministic, OneStep, Sampler
from lit_thermal.generative.schedule import Prediction, ResidualShift, Schedule
from lit_thermal.methods.base import SchedulerCallable, SuperResolver
from lit_thermal.methods.difiisr.network import DifIISRNetwork, EncodedCondition, steps_of
from lit_thermal.methods.difiisr.objective import Denoising, Example, Objective, move
from lit_thermal.networks.first_stage import FirstStage, VQFirstStage
from lit_thermal.networks.swin_unet import SwinUNet


class DifIISR(SuperResolver):
    """Residual-shift diffusion whose training is guided by gradients of visual and perceptual losses (CVPR 2025).

    The target's latent is diffused towards the latent of the enlarged input; a Swin U-Net estimates the target's latent
    from any state in between. From iteration `guidance.start` on, the gradient of the guided loss shifts the training
    target of the network (paper eqs. 8 and 9). The target is never read at test time.

    The paper and the released code differ. The defaults follow the paper: denoising, guidance from `guidance.start` on,
    and all steps of the chain. Two defaults do not: the condition is the raw input (`RawLR`), as in the released code,
    where the paper's Fig. 2 has an encoder (`ConditionEncoder`); and the gradient of guidance does not pass through the
    network, see `LossGradientGuidance`. The experiment paper/difiisr follows the paper in both. The released recipe, a
    distillation to one step, is `objective: Distillation` with `sampler: OneStep`.

    Args:
        scale: factor by which the restored image is wider and higher than the input.
        unet: makes the denoiser from the channels of the latent and of the condition.
        first_stage: encoder and decoder between images and latents.
        condition: block that prepares the input as a condition for the denoiser, in addition to the noisy latent.
        schedule: noise schedule.
        prediction: quantity that the denoiser outputs: `x0` (the clean latent), `residual`, `noise` or `scaled_noise`.
        sampler: sampler that draws an image.
        samples: number of drawn images that are averaged to the restored one.
        also: further ways to restore, by name; a test measures each in addition to `sampler`.
        guidance: guidance of the training.
        sampling_guidance: guidance of each estimate of the chain at test time; its terms must not need the target.
        objective: training objective of the denoiser.
        seed: seed of the noise that images are drawn from; each image has its own noise, derived from its name.
        optimizer: makes the optimizer.
        lr_scheduler: makes the learning-rate schedule, stepped once per optimizer step.

    Raises:
        InputError: blocks do not fit together.
    """

    def __init__(
        self,
        scale: int = 4,
        unet: Callable[[int, int], SwinUNet] = SwinUNet,
        first_stage: Callable[[], FirstStage] = VQFirstStage,
        condition: Callable[[], DiffusionCondition] = RawLR,
        schedule: Callable[[], Schedule] = ResidualShift,
        prediction: Prediction = "x0",
        sampler: Callable[[], Sampler] = Ancestral,
        samples: int = 1,
        also: dict[str, Callable[[], Drawing]] = {},  # noqa: B006 - never changed; a parser shows it as the default
        guidance: Callable[[], Guidance] = LossGradientGuidance,
        sampling_guidance: Callable[[], Guidance] = Unguided,
        objective: Callable[[], Objective] = Denoising,
        seed: int = 0,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: SchedulerCallable | None = None,
    ) -> None:
        super().__init__(scale, optimizer, lr_scheduler)
        if samples < 1 or seed < 0:
            raise InputError(f"model.samples {samples} must be at least 1 and model.seed {seed} at least 0")
        self.network = DifIISRNetwork(scale, unet, first_stage, condition, schedule(), prediction)
        self.drawing = Drawing(sampler, samples)
        self.also = {name: make() for name, make in also.items()}
        self.guidance, self.sampling_guidance, self.objective = guidance(), sampling_guidance(), objective()
        self.seed = seed
        for drawing in (self.drawing, *self.also.values()):
            drawing.sampler.check(self.network.schedule)
        for block in (self.guidance, self.sampling_guidance):
            block.check(self.network.schedule.steps)
        if self.sampling_guidance.needs_hr or self.sampling_guidance.adds:
            raise InputError(
                "model.sampling_guidance compares with the target or adds to a loss; at test time there is neither: "
                "give it LossGradientGuidance with DataConsistencyTerm alone, and other terms to model.guidance"
            )

    @property
    def draws(self) -> bool:
        """Whether `restore` draws random numbers: always, at least for the start."""
        return True

    def restore(self, batch: Batch) -> Tensor:
        """Restore thermal images: (B, 1, H, W) in [0, 1]."""
        return self._draw(batch, self.drawing)

    def variants(self, batch: Batch) -> dict[str, Tensor]:
        """Restore the batch in each of the other ways in `also`."""
        return {name: self._draw(batch, drawing) for name, drawing in self.also.items()}

    def on_fit_start(self) -> None:
        """Let the objective prepare itself from the weights that training starts from."""
        self.objective.begin(self.network)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the terms of the objective for one batch, guided from `guidance.start` on."""
        need(batch, "hr", by="DifIISR")
        lr, hr = self._images(batch), 2 * batch["hr"] - 1
        guided = self.guidance.active(self.global_step)
        if guided and self.global_step == self.guidance.start:
            rank_zero_info(f"step {self.global_step}: guidance begins")
        encoded = self.network.encode_condition(lr)
        with torch.no_grad():
            z = self.network.first_stage.encode(hr)
        example = Example(encoded, z, hr, torch.randn_like(z))
        terms = self.objective.terms(self.network, example, self.guidance, guided)
        for name, value in terms.items():
            self.log(f"train/{name}", value)
        loss = torch.stack(list(terms.values())).sum()
        self.log("train/loss", loss, prog_bar=True)
        if self.global_step % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            for name, value in self.guided_terms(example).items():
                self.log(f"train/guided_{name}", value)
        return loss

    @torch.no_grad()
    def guided_terms(self, example: Example) -> dict[str, Tensor]:
        """Return each term of the guidance by name, averaged over a batch, for a single step from the last index.

        The terms are unweighted and belong to the estimate before the gradient shifts it, so they show how guidance
        changes the network.
        """
        schedule, encoded = self.network.schedule, example.encoded
        last = steps_of(len(encoded.y), schedule.steps - 1, encoded.y.device)
        if not (self.guidance.injects or self.guidance.adds):
            return {}
        estimate = self.network.estimate(schedule.start(encoded.y, example.noise), last, encoded)
        terms = self.guidance.terms(self.network.image(estimate), example.hr, encoded.lr)
        return {name: value.mean() for name, value in terms.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the objective's state in addition to the model's weights."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["objective"] = self.objective.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the objective's state."""
        super().on_load_checkpoint(checkpoint)
        if state := checkpoint.get("objective"):
            self.objective.load_state_dict(state, self.network)

    def chain(self, batch: Batch, guided: bool) -> list[ChainStep]:
        """Return the estimates of one drawing in the order of the chain, for a figure.

        Args:
            batch: batch with `hr`, from which the guided loss is measured.
            guided: move each estimate by the training's guidance, as in the paper's sampling. It reads the
                target, so this shows the effect of the gradient and is not a restoration.
        """
        with _plain_tensors():
            encoded = self.network.encode_condition(self._images(batch).clone())
            hr = 2 * batch["hr"].clone().clamp(0, 1) - 1
            sampler = Deterministic() if isinstance(self.drawing.sampler, OneStep) else self.drawing.sampler
            steps: list[ChainStep] = []

            def watch(t: int, estimate: Tensor) -> None:
                image = self.network.image(estimate)
                loss = self.guidance.loss(image, hr, encoded.lr)
                steps.append(ChainStep(t, ((image + 1) / 2).clamp(0, 1), loss))

            guidance = self.guidance if guided else Unguided()
            self._sample(encoded, sampler, SeededNoise.of(batch["name"], self.seed), guidance, hr, watch)
        return steps

    def _images(self, batch: Batch) -> Tensor:
        """Return the inputs in [-1, 1].

        Raises:
            InputError: the batch contains clips.
        """
        need(batch, "lr", by="DifIISR")
        if batch["lr"].ndim != 4:
            raise InputError(f"DifIISR takes images, (B, 1, h, w), not clips, {tuple(batch['lr'].shape)}: give images")
        return 2 * batch["lr"] - 1

    def _draw(self, batch: Batch, drawing: Drawing) -> Tensor:
        """Restore a batch with one setting: the average of its samples."""
        need(batch, "lr", "name", by="DifIISR")
        with _plain_tensors():
            encoded = self.network.encode_condition(self._images(batch).clone())
            total = torch.zeros((), device=encoded.lr.device)
            for sample in range(drawing.samples):
                noise = SeededNoise.of(batch["name"], self.seed, sample)
                latent = self._sample(encoded, drawing.sampler, noise, self.sampling_guidance)
                total = total + ((self.network.image(latent).float() + 1) / 2).clamp(0, 1)
        return total / drawing.samples

    def _sample(
        self,
        encoded: EncodedCondition,
        sampler: Sampler,
        noise: SeededNoise,
        guidance: Guidance,
        hr: Tensor | None = None,
        watch: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """Draw a clean latent, with guidance applied to each estimate."""

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            estimate = self.network.estimate(x, t, encoded)
            if guidance.injects:
                estimate = estimate + move(self.network, encoded, guidance, x, estimate, t, hr)
            return estimate

        return sampler(denoise, self.network.schedule, encoded.y, noise, watch)


@contextmanager
def _plain_tensors() -> Iterator[None]:
    """Leave inference mode, since guidance needs gradients of its tensors, without recording a graph."""
    # The order matters: leaving inference mode switches gradients on.
    with torch.inference_mode(False), torch.no_grad():
        yield
