"""CoReFusion as a LightningModule."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.batch import Batch, need
from lit_thermal.blocks.base_image import BaseImage, EnlargedInput
from lit_thermal.blocks.fusion import Fusion, MaxFusion
from lit_thermal.blocks.image_encoder import ImageEncoder, TimmEncoder
from lit_thermal.blocks.projection_head import MLPProjection, ProjectionHead
from lit_thermal.blocks.pyramid_decoder import PyramidDecoder, UNetDecoder
from lit_thermal.blocks.registration import NoRegistration, Registration
from lit_thermal.errors import InputError, check_choice
from lit_thermal.evaluation.protocols import CoReFusionNotebook, CoReFusionTrainer, EvaluationProtocol
from lit_thermal.losses.contrastive import ContrastiveLoss, NTXent, found_share
from lit_thermal.losses.gradient_ratio import Weighting, gradient_ratio
from lit_thermal.losses.pixel import MeanSquaredError, PixelLoss
from lit_thermal.losses.psnr import ImagePSNR, PSNRLoss
from lit_thermal.losses.similarity import SimilarityLoss, StructuralSimilarity
from lit_thermal.methods.base import SchedulerCallable, SuperResolver
from lit_thermal.methods.corefusion.network import Activation, CoReFusionNetwork, Head, Restored

Upsampling = Literal["nearest", "bilinear", "bicubic"]


class CoReFusion(SuperResolver):
    """Guided thermal super-resolution that survives a missing camera (CoReFusion, PBVS workshop at CVPR 2023).

    The thermal image is enlarged to the size of the result, encoded, fused with the encoded visible image at every
    level, and decoded. Training minimises ``pixel + 0.1 (1 - SSIM) + 0.1 (1 - PSNR / 40) + beta C`` (paper eq. 8) on
    values in [-1, 1]; C is the contrastive loss between the embeddings of both cameras for the same scene (eqs. 6 and
    7). A batch may mix samples that have both cameras, only the thermal one, or only the visible one; `has_lr` and
    `has_guide` mark which are present.

    The paper and the released code differ. The defaults follow the paper: bilinear enlargement (released: nearest),
    SSIM and PSNR of each image (released: `PooledStructuralSimilarity` and `PooledPSNR` over the batch). The
    temperature, the sizes of the heads and the batch normalisation follow the released code, since the paper does not
    state them.

    Args:
        scale: factor by which the result is wider and higher than the input.
        guide_encoder: encoder of the visible image.
        thermal_encoder: encoder of the enlarged thermal image.
        fusion: block that fuses guide and thermal features at each level.
        projection: contrastive head, one per camera.
        decoder_channels: channels of the decoder's stages, the deepest first.
        head: output head: `direct` as in the paper, or `residual`, which adds the output to the enlarged input.
        activation: output activation of the direct head.
        upsampling: interpolation that enlarges the thermal input.
        decoder: decoder of the fused features.
        base: image that the residual head adds its output to, made from the thermal input and the guide; the thermal
            encoder sees it too.
        registration: block that moves a guide to its place before an image is restored, and drops a guide of another
            scene. Training crops are too small for it, so that they are given as they are.
        pixel_loss: distance to the target.
        ssim_loss: one minus structural similarity.
        psnr_loss: one minus PSNR divided by its ceiling.
        contrastive_loss: contrastive loss between the embeddings of both cameras.
        pixel_weight: weight of `pixel_loss`.
        ssim_weight: weight of `ssim_loss`.
        psnr_weight: weight of `psnr_loss`.
        beta: weight of `contrastive_loss`. If the three weights above are 0, only the encoders are trained, by the
            contrastive loss, and nothing is decoded.
        beta_weighting: meaning of `beta`: "constant" multiplies the contrastive loss by it (paper). "gradient_ratio"
            makes the gradient of the contrastive loss at the deepest features of both encoders this share of the
            restoration's in each step, so that it can neither vanish nor take over.
        beta_ramp: share of the training over which the weight of the contrastive loss rises linearly from 0.
        drop_guide: share of the complete training samples whose visible image is removed.
        drop_thermal: share of the complete training samples whose thermal image is removed; no sample loses both.
        protocols: evaluation protocols of a test in addition to the standard one; by default both of the paper's
            tables.
        optimizer: makes the optimizer.
        lr_scheduler: makes the learning-rate schedule, stepped once per optimizer step.
    """

    def __init__(
        self,
        scale: int = 8,
        guide_encoder: Callable[[], ImageEncoder] = TimmEncoder,
        thermal_encoder: Callable[[], ImageEncoder] = TimmEncoder,
        fusion: Callable[[int], Fusion] = MaxFusion,
        projection: Callable[[int], ProjectionHead] = MLPProjection,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        head: Head = "direct",
        activation: Activation = "Tanh",
        upsampling: Upsampling = "bilinear",
        decoder: Callable[[Mapping[int, int], Sequence[int]], PyramidDecoder] = UNetDecoder,
        base: Callable[[], BaseImage] = EnlargedInput,
        registration: Callable[[], Registration] = NoRegistration,
        pixel_loss: Callable[[], PixelLoss] = MeanSquaredError,
        ssim_loss: Callable[[], SimilarityLoss] = StructuralSimilarity,
        psnr_loss: Callable[[], PSNRLoss] = ImagePSNR,
        contrastive_loss: Callable[[], ContrastiveLoss] = NTXent,
        pixel_weight: float = 1.0,
        ssim_weight: float = 0.1,
        psnr_weight: float = 0.1,
        beta: float = 1.0,
        beta_weighting: Weighting = "constant",
        beta_ramp: float = 0.0,
        drop_guide: float = 0.0,
        drop_thermal: float = 0.0,
        protocols: Sequence[Callable[[], EvaluationProtocol]] = (CoReFusionTrainer, CoReFusionNotebook),
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: SchedulerCallable | None = None,
    ) -> None:
        super().__init__(scale, optimizer, lr_scheduler)
        weights = {"pixel_weight": pixel_weight, "ssim_weight": ssim_weight, "psnr_weight": psnr_weight, "beta": beta}
        for name, value in weights.items():
            if not value >= 0:
                raise InputError(f"model.{name} is {value} and must be at least 0")
        if not any(weights.values()):
            raise InputError(f"all weights of the loss are 0 (model.{', model.'.join(weights)}): give one")
        check_choice(beta_weighting, Weighting, "model.beta_weighting")
        if not 0 <= beta_ramp <= 1:
            raise InputError(f"model.beta_ramp is {beta_ramp}; it must be a share of the training, from 0 to 1")
        if beta_weighting == "gradient_ratio" and not any((pixel_weight, ssim_weight, psnr_weight)):
            raise InputError(
                "model.beta_weighting gradient_ratio compares with the restoration, whose weights are all 0: take "
                "constant"
            )
        if min(drop_guide, drop_thermal) < 0 or drop_guide + drop_thermal > 1:
            raise InputError(
                f"model.drop_guide {drop_guide} and model.drop_thermal {drop_thermal} are shares of the samples: give "
                "numbers from 0 on whose sum is at most 1"
            )
        check_choice(upsampling, Upsampling, "model.upsampling")
        self.network = CoReFusionNetwork(
            guide_encoder, thermal_encoder, fusion, projection, decoder_channels, head, activation, decoder
        )
        self.upsampling = upsampling
        self.base = base()
        self.registration = registration()
        self.pixel_loss, self.ssim_loss, self.psnr_loss = pixel_loss(), ssim_loss(), psnr_loss()
        self.contrastive_loss = contrastive_loss()
        self.weights = weights
        self.beta_weighting: Weighting = beta_weighting
        self.beta_ramp = beta_ramp
        self.decodes = any((pixel_weight, ssim_weight, psnr_weight))
        self.drop_guide, self.drop_thermal = drop_guide, drop_thermal
        self.protocols = protocols
        heads = (self.network.guide_head, self.network.thermal_head)
        decoding = (self.network.adapters, self.network.fusions, self.network.decoder, self.network.output)
        for part in (heads if beta == 0 else ()) + (() if self.decodes else decoding):
            part.requires_grad_(False)

    @property
    def takes_guide(self) -> bool:
        """Whether `restore` reads a visible image: always, if there is one."""
        return True

    def restore(self, batch: Batch) -> Tensor:
        """Restore thermal images from `lr`, `guide` or both: (B, 1, H, W) in [0, 1]."""
        guide, thermal, has_guide, has_thermal = self._inputs(batch)
        guide, has_guide = self._registered(guide, batch["lr"], has_guide, has_thermal)
        base = self.base(thermal, batch["lr"], guide, has_guide & has_thermal)
        image = self.network(guide, thermal, has_guide, has_thermal, base=base).image
        return ((image + 1) / 2).clamp(0, 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the weighted sum of the losses of the paper's eq. 8 for one batch."""
        need(batch, "hr", by="CoReFusion")
        guide, thermal, has_guide, has_thermal = self._inputs(batch)
        has_guide, has_thermal = self._drop(has_guide, has_thermal)
        base = self.base(thermal, batch["lr"], guide, has_guide & has_thermal)
        restored = self.network(guide, thermal, has_guide, has_thermal, decode=self.decodes, base=base)
        terms: dict[str, Tensor] = {}
        if self.decodes:
            image, target = restored.image, 2 * batch["hr"] - 1
            terms["pixel"] = self.pixel_loss(image, target)
            terms["ssim"] = self.ssim_loss(image, target)
            terms["psnr"] = self.psnr_loss(image, target)
            self.log("train/ssim", 1 - terms["ssim"])
            self.log("train/psnr", (1 - terms["psnr"]) * self.psnr_loss.ceiling, prog_bar=True)
        factor: dict[str, Tensor | float] = {name: self.weights[f"{name}_weight"] for name in terms}
        if self.weights["beta"] > 0:
            contrastive = self.contrastive_loss(restored.guide_embedding, restored.thermal_embedding)
            factor["contrastive"] = self._contrastive_weight(_weighted(terms, factor), contrastive, restored)
            terms["contrastive"] = contrastive
        for name, value in terms.items():
            self.log(f"train/{name}_loss", value)
        loss = _weighted(terms, factor)
        self.log("train/loss", loss, prog_bar=True)
        if self.network.deepest > self.network.stride or not (has_guide & has_thermal).any():
            # DDP waits for a gradient of every parameter, also of an encoder, levels or a fusion that are unused here.
            loss = loss + 0 * sum(p.sum() for p in self.parameters() if p.requires_grad)
        return loss

    def _contrastive_weight(self, restoration: Tensor, contrastive: Tensor, restored: Restored) -> Tensor | float:
        """Return the weight of the contrastive loss in this step, and log how well it finds partners."""
        z1, z2 = restored.guide_embedding, restored.thermal_embedding
        if z1 is not None and z2 is not None and len(z1):
            self.log("train/contrastive_top1", found_share(z1, z2))
        weight: Tensor | float = self.weights["beta"] * (self.warm_up(self.beta_ramp) if self.beta_ramp else 1.0)
        if self.beta_weighting == "gradient_ratio":
            ratio = gradient_ratio(restoration, contrastive, restored.deepest)
            # The gradient of the contrastive loss as a multiple of the restoration's, before it is weighted.
            self.log("train/contrastive_log_ratio", -ratio.clamp(min=1e-12).log10())
            weight = weight * ratio
            self.log("train/contrastive_weight", weight)
        return weight

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the visible image and the enlarged thermal image at one size, and which samples have each.

        Raises:
            InputError: a sample has neither image, the two show different fields of view, or the batch holds clips or
                several guide views.
        """
        need(batch, "lr", by="CoReFusion")
        lr = batch["lr"]
        if lr.ndim != 4:
            raise InputError(f"CoReFusion takes images, (B, 1, h, w), not clips, {tuple(lr.shape)}: give guided data")
        size = (lr.shape[-2] * self.scale, lr.shape[-1] * self.scale)
        guide = batch.get("guide")
        everywhere = torch.ones(lr.shape[0], dtype=torch.bool, device=lr.device)
        has_thermal = batch.get("has_lr", everywhere)
        has_guide = batch.get("has_guide", everywhere) if guide is not None else ~everywhere
        nothing = ~(has_guide | has_thermal)
        if not torch.compiler.is_exporting() and nothing.any():
            names = batch.get("name", [f"number {i}" for i in range(len(lr))])
            missing = [str(name) for name, empty in zip(names, nothing.tolist(), strict=True) if empty]
            raise InputError(
                f"sample {', '.join(missing)} has neither a thermal image nor a visible one; leave it out, or give one"
            )
        if guide is None:
            guide = lr.new_zeros(lr.shape[0], 3, *size)
        if guide.ndim != 4:
            raise InputError(f"CoReFusion takes one visible image a sample, (B, 3, H, W), not {tuple(guide.shape)}")
        if guide.shape[-2:] != size:
            ratio = guide.shape[-1] * size[0] / (guide.shape[-2] * size[1])
            if abs(ratio - 1) > 0.01:
                raise InputError(
                    f"a guide of {guide.shape[-1]}x{guide.shape[-2]} and a thermal image of {size[1]}x{size[0]} "
                    f"({lr.shape[-1]}x{lr.shape[-2]} at scale {self.scale}) differ in their fields of view: crop them"
                )
            guide = F.interpolate(guide, size, mode="bilinear", antialias=True)
        corners = {} if self.upsampling == "nearest" else {"align_corners": False}
        return guide, F.interpolate(lr, size, mode=self.upsampling, **corners), has_guide, has_thermal

    def _registered(self, guide: Tensor, lr: Tensor, has_guide: Tensor, has_thermal: Tensor) -> tuple[Tensor, Tensor]:
        """Return the guides in their places, and which of them there are and match their thermal image."""
        complete = has_guide & has_thermal
        if isinstance(self.registration, NoRegistration) or not complete.any():
            return guide, has_guide
        found = self.registration(lr[complete], guide[complete])
        guide, has_guide = guide.clone(), has_guide.clone()
        guide[complete] = found.guide.to(guide.dtype)
        has_guide[complete] = found.matches
        return guide, has_guide

    def _drop(self, has_guide: Tensor, has_thermal: Tensor) -> tuple[Tensor, Tensor]:
        """Remove one camera from some of the complete samples."""
        if self.drop_guide + self.drop_thermal == 0:
            return has_guide, has_thermal
        complete = has_guide & has_thermal
        draw = torch.rand(len(complete)).to(complete.device)
        no_guide = complete & (draw < self.drop_guide)
        no_thermal = complete & (draw >= self.drop_guide) & (draw < self.drop_guide + self.drop_thermal)
        return has_guide & ~no_guide, has_thermal & ~no_thermal


def _weighted(terms: Mapping[str, Tensor], factor: Mapping[str, Tensor | float]) -> Tensor:
    """Return the weighted sum of losses; a zero if there are none."""
    return torch.stack([factor[name] * value for name, value in terms.items()]).sum() if terms else torch.zeros(())
