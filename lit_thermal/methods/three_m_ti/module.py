"""3M-TI as a LightningModule."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.batch import Batch, need
from lit_thermal.blocks.cross_modal_attention import CrossModalAttention, CrossModalSelfAttention
from lit_thermal.blocks.low_rank import Train
from lit_thermal.blocks.prompt import FixedPrompt, Prompt
from lit_thermal.blocks.registration import NoRegistration, Registration
from lit_thermal.blocks.skip_connection import SkipConnection, ZeroSkip
from lit_thermal.errors import InputError, check_choice
from lit_thermal.generative.noise import SeededNoise
from lit_thermal.losses.perceptual import LPIPS, PerceptualLoss
from lit_thermal.losses.pixel import MeanSquaredError, PixelLoss
from lit_thermal.methods.base import SchedulerCallable, SuperResolver
from lit_thermal.methods.three_m_ti.network import Prediction, ThreeMTINetwork
from lit_thermal.networks.latent_diffusion import LatentDiffusion, SDTurbo
from lit_thermal.networks.view_autoencoder import Latent
from lit_thermal.ops.resize import resize

Upsampling = Literal["direct", "two_step", "bicubic"]


class ThreeMTI(SuperResolver):
    """Guided thermal super-resolution without calibration, in one step of a latent diffusion model (3M-TI).

    The enlarged thermal image and any number of visible images are views of one scene, whose tokens attend to each
    other in every block of the UNet, so that no alignment is needed. A view may be missing, in the whole data set or in
    single samples. The thermal image is repeated to three channels, and the three output channels are averaged.

    The paper and the released code differ. The defaults follow the paper: only LoRA is trained, skips start at zero,
    the latent is the posterior mean, and the loss covers the thermal view only. The released code also trains the whole
    UNet (`train: lora_and_unet`), starts skips at 1e-5 (`skip.init`), samples the latent, takes the loss of both views
    (`guide_weight: 1`), and enlarges in two steps by way of twice the size (`upsampling: two_step`).

    Args:
        scale: factor by which the result is wider and higher than the input.
        base: UNet and autoencoder to start from, pretrained by default.
        attention: block that exchanges information between the views in the UNet.
        skip: skip connections of the thermal view from the autoencoder's encoder to its decoder.
        prompt: text prompt that conditions the UNet.
        latent: mean of the autoencoder's posterior, or a sample of it.
        timestep: assumed diffusion timestep of a degraded latent, from 0 to 999.
        train: weights to train: `lora`, `lora_and_unet` or `all`; a checkpoint contains only the trained weights.
        unet_rank: rank of LoRA in the UNet.
        vae_rank: rank of LoRA in the decoder and the skips.
        upsampling: bilinear enlargement to the size of the result, `direct` or in two steps (`two_step`) by way of
            twice the input's size; or `bicubic`.
        pixel_loss: pixel-wise distance to the target.
        perceptual_loss: perceptual distance to the target, added to `pixel_loss`.
        perceptual_weight: weight of `perceptual_loss` (lambda).
        guide_weight: weight of the loss for reproducing the visible views, relative to 1 for the thermal view. The sum
            of both is divided by `1 + guide_weight`.
        drop_guide: share of the training samples whose visible views are removed.
        seed: seed of the noise of sampled latents in restoration; each image has its own noise, derived from its name.
        registration: registration of the visible views to the thermal image before the network reads them.
        shuffle_guide: share of the training samples that get the guide of another sample of the batch, from which the
            network learns to distrust guides.
        prediction: output of the UNet, the `noise` of the published closed form or the `residual` of the enlarged
            input, which suits small networks that are trained from scratch.
        optimizer: makes the optimizer.
        lr_scheduler: makes the learning-rate schedule, stepped once per optimizer step.

    Raises:
        InputError: a number is out of range, blocks do not fit together, or weights cannot be loaded.
    """

    def __init__(
        self,
        scale: int = 8,
        base: Callable[[], LatentDiffusion] = SDTurbo,
        attention: Callable[[], CrossModalAttention] = CrossModalSelfAttention,
        skip: Callable[[Sequence[int], Sequence[int]], SkipConnection] = ZeroSkip,
        prompt: Callable[[int], Prompt] = FixedPrompt,
        latent: Latent = "mean",
        timestep: int = 199,
        train: Train = "lora",
        unet_rank: int = 16,
        vae_rank: int = 4,
        upsampling: Upsampling = "direct",
        pixel_loss: Callable[[], PixelLoss] = MeanSquaredError,
        perceptual_loss: Callable[[], PerceptualLoss] = LPIPS,
        perceptual_weight: float = 1.0,
        guide_weight: float = 0.0,
        drop_guide: float = 0.0,
        seed: int = 0,
        registration: Callable[[], Registration] = NoRegistration,
        shuffle_guide: float = 0.0,
        prediction: Prediction = "noise",
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: SchedulerCallable | None = None,
    ) -> None:
        super().__init__(scale, optimizer, lr_scheduler)
        check_choice(latent, Latent, "model.latent")
        check_choice(train, Train, "model.train")
        check_choice(upsampling, Upsampling, "model.upsampling")
        check_choice(prediction, Prediction, "model.prediction")
        if not 0 <= shuffle_guide <= 1:
            raise InputError(f"model.shuffle_guide is {shuffle_guide}; it must be a share from 0 to 1")
        if min(perceptual_weight, guide_weight, seed) < 0 or not 0 <= drop_guide <= 1:
            raise InputError(
                f"model.perceptual_weight {perceptual_weight}, model.guide_weight {guide_weight} and model.seed {seed} "
                f"must be at least 0, and model.drop_guide {drop_guide} a share from 0 to 1"
            )
        made = base()
        self.network = ThreeMTINetwork(
            made, attention(), skip, latent, timestep, train, unet_rank, vae_rank, prediction
        )  # fmt: skip
        self.prompt = prompt(made.text_dim)
        self.pixel_loss, self.perceptual_loss = pixel_loss(), perceptual_loss()
        self.registration, self.shuffle_guide = registration(), shuffle_guide
        self.upsampling, self.latent, self.seed = upsampling, latent, seed
        self.perceptual_weight, self.guide_weight, self.drop_guide = perceptual_weight, guide_weight, drop_guide
        frozen = {name for name, p in self.named_parameters() if not p.requires_grad}
        if frozen:
            _leave_out(self, frozen)

    def setup(self, stage: str) -> None:
        """Make the checks of all methods, and load the perceptual loss's weights before training begins."""
        super().setup(stage)
        if stage == "fit" and self.perceptual_weight:
            self.perceptual_loss.prepare()

    @property
    def takes_guide(self) -> bool:
        """Whether `restore` reads a visible image: always, if there is one."""
        return True

    @property
    def draws(self) -> bool:
        """Whether `restore` draws random numbers: only for a sampled latent."""
        return self.latent == "sample"

    def restore(self, batch: Batch) -> Tensor:
        """Restore thermal images: (B, 1, H, W) in [0, 1]."""
        images, present = self._views(batch)
        noise = SeededNoise.of(batch["name"], self.seed)

        def drawn(like: Tensor) -> Tensor:
            """Return the noise of all views of each image, from the image's own generator."""
            views = like.unflatten(0, (len(images), -1))
            return noise(views).flatten(0, 1)

        restored = self.network(images, present, self._text(batch, present), drawn, True, batch["lr"])
        return ((_thermal(restored[:, 0]).float() + 1) / 2).clamp(0, 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the pixel and perceptual loss of one batch."""
        need(batch, "hr", by="ThreeMTI")
        images, present = self._views(self._shuffled(batch))
        if self.drop_guide and images.shape[1] > 1:
            kept = torch.rand(len(images), 1).to(present.device) >= self.drop_guide
            present = torch.cat([present[:, :1], present[:, 1:] & kept], 1)
        decodes_guide = self.guide_weight > 0 and bool(present[:, 1:].any())
        text = self._text(batch, present)
        restored = self.network(images, present, text, thermal_only=not decodes_guide, thermal=batch["lr"])
        loss = self._loss(_thermal(restored[:, 0]), 2 * batch["hr"] - 1, "")
        if decodes_guide:
            there = present[:, 1:]
            loss = loss + self.guide_weight * self._loss(restored[:, 1:][there], images[:, 1:][there], "guide_")
        loss = loss / (1 + self.guide_weight)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def _loss(self, restored: Tensor, target: Tensor, prefix: str) -> Tensor:
        loss = self.pixel_loss(restored, target)
        self.log(f"train/{prefix}pixel", loss)
        if self.perceptual_weight:
            perceptual = self.perceptual_loss(restored, target)
            self.log(f"train/{prefix}perceptual", perceptual)
            loss = loss + self.perceptual_weight * perceptual
        return loss

    def _views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return all views (B, V, 3, H, W) in [-1, 1] at the size of the result, and which are present, (B, V).

        Raises:
            InputError: a sample has no thermal image, the batch is of clips, or a guide has no pixels.
        """
        need(batch, "lr", "name", by="ThreeMTI")
        lr = batch["lr"]
        if lr.ndim != 4:
            raise InputError(f"ThreeMTI takes images, (B, 1, h, w), not clips, {tuple(lr.shape)}: give guided data")
        if "has_lr" in batch and not batch["has_lr"].all():
            name = batch["name"][int(batch["has_lr"].int().argmin())]
            raise InputError(f"{name} has no thermal image, which ThreeMTI restores; leave it out of the data")
        size = (lr.shape[-2] * self.scale, lr.shape[-1] * self.scale)
        if self.upsampling == "two_step":
            lr = F.interpolate(lr, scale_factor=2.0, mode="bilinear", align_corners=False)
        if self.upsampling == "bicubic":
            enlarged = resize(lr, size)
        else:
            enlarged = F.interpolate(lr, size, mode="bilinear", align_corners=False)
        views = [enlarged.expand(-1, 3, -1, -1).unsqueeze(1)]
        present = torch.ones(len(lr), 1, dtype=torch.bool, device=lr.device)
        if "guide" in batch:
            guide = batch["guide"] if batch["guide"].ndim == 5 else batch["guide"].unsqueeze(1)
            if not guide.numel():
                raise InputError(f"the guide of {batch['name'][0]} has no pixels, {tuple(guide.shape)}; leave it out")
            if guide.shape[-2:] != size:
                resized = F.interpolate(guide.flatten(0, 1), size, mode="bilinear", antialias=True)
                guide = resized.unflatten(0, guide.shape[:2])
            there = batch.get("has_guide", torch.ones(len(lr), dtype=torch.bool, device=lr.device))
            guide, there = self._registered(batch["lr"], guide, there.unsqueeze(1).expand(-1, guide.shape[1]))
            views.append(guide)
            present = torch.cat([present, there], 1)
        return 2 * torch.cat(views, 1) - 1, present

    def _registered(self, lr: Tensor, guide: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Return guides (B, M, 3, H, W) registered to the thermal image, and which are present and match it, (B, M)."""
        if isinstance(self.registration, NoRegistration):
            return guide, there
        count = guide.shape[1]
        guide = guide.masked_fill(~there[..., None, None, None], 0)
        found = self.registration(lr.repeat_interleave(count, 0), guide.flatten(0, 1))
        if self.training:
            # Means over guides that are there, without waiting for the device.
            weight = there.flatten() / there.sum().clamp(min=1)
            self.log("train/guide_moved", (found.moved * weight).sum())
            self.log("train/guide_unexplained", (found.unexplained * weight).sum())
        return found.guide.unflatten(0, (-1, count)), there & found.matches.view(-1, count)

    def _shuffled(self, batch: Batch) -> Batch:
        """Return the batch with the guides of a share of its samples taken from the samples before them."""
        if not self.shuffle_guide or "guide" not in batch:
            return batch
        wrong = (torch.rand(len(batch["lr"])) < self.shuffle_guide).to(batch["lr"].device)
        shape = [-1] + [1] * (batch["guide"].ndim - 1)
        changed = {"guide": torch.where(wrong.view(shape), batch["guide"].roll(1, 0), batch["guide"])}
        if "has_guide" in batch:
            changed["has_guide"] = torch.where(wrong, batch["has_guide"].roll(1, 0), batch["has_guide"])
        return batch | changed  # type: ignore[return-value]

    def _text(self, batch: Batch, present: Tensor) -> Tensor:
        """Return the text embeddings (B, L, D) of a batch."""
        guides: list[Tensor | None] = [None] * len(present)
        if "guide" in batch:
            first = batch["guide"] if batch["guide"].ndim == 4 else batch["guide"][:, 0]
            guides = [image if there else None for image, there in zip(first, present[:, 1].tolist(), strict=True)]
        return self.prompt(batch["name"], batch.get("tags"), guides, batch["lr"].device)


def _thermal(image: Tensor) -> Tensor:
    """Return one thermal channel (B, 1, H, W): the mean of the three output channels."""
    return image.mean(1, keepdim=True)


def _leave_out(model: nn.Module, frozen: set[str]) -> None:
    """Exclude frozen parameters from a model's state dict, and do not report them as missing when one is loaded."""

    def prune(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
        for name in frozen:
            state.pop(prefix + name, None)

    def forgive(module: nn.Module, incompatible: Any) -> None:
        names = incompatible.missing_keys
        # Changed in place, because the caller reads this list. An averaging wrapper adds a prefix to the names.
        names[:] = [name for name in names if name not in frozen and name.removeprefix("module.") not in frozen]

    model.register_state_dict_post_hook(prune)
    model.register_load_state_dict_post_hook(forgive)
