"""Real-IISR as a LightningModule."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.batch import Batch
from lit_thermal.blocks.codebook import Codebook, ConditionAdaptiveCodebook
from lit_thermal.blocks.condition_map_encoder import ConvStackEncoder, MapEncoder
from lit_thermal.blocks.pretrained import pretrained_wanted
from lit_thermal.blocks.thermal_structure import Structure, ThermalStructuralGuidance
from lit_thermal.errors import InputError, check_choice
from lit_thermal.generative.noise import SeededNoise
from lit_thermal.generative.token_refiner import NoRefiner, Refiner
from lit_thermal.generative.token_sampler import Greedy, TokenSampler
from lit_thermal.losses.thermal_order import ThermalOrderLoss
from lit_thermal.methods.base import SchedulerCallable, SuperResolver
from lit_thermal.methods.real_iisr.network import NEGATIVE, POSITIVE, Decoding, RealIISRNetwork
from lit_thermal.methods.real_iisr.tokenizer import (
    RECONSTRUCTION,
    check_crop,
    check_scales,
    check_side,
    enlarged,
    images_of,
    load_tokenizer,
    padded,
    reconstruct,
    three,
    tokenizer_terms,
)
from lit_thermal.networks.multi_scale_vqvae import MultiScaleVQVAE
from lit_thermal.ops.colour import adain
from lit_thermal.ops.tile import tiled

ColourFix = Literal["adain", "none"]

UNDECAYED = ("prefix_positions", "level_embedding.weight", "log_scale")
"""Name endings of parameters with two or more dimensions that weight decay skips, as in the released code."""


class RealIISR(SuperResolver):
    """Visual autoregression for real degradations of thermal images (Real-IISR, CVPR 2026).

    A frozen tokenizer turns the target into token maps at several scales; a transformer predicts them scale by scale
    from the enlarged input and its thermal structure. The loss is the cross entropy of the tokens, plus the order loss
    and the mean squared error of the image decoded from the predicted tokens.

    The tokenizer comes from `tokenizer_weights` or from a checkpoint. If neither is given, the callback
    `TokenizerFirst` trains it in the first steps of a training; the remaining steps train the transformer.

    The paper and the released code differ. The defaults follow the paper wherever it gives details. The released code
    decodes the likeliest tokens (`decoding: argmax`), through which no gradient reaches the transformer, so that the
    order loss and the pixel error train only the encoders, the guidance and the codebook. The paper intends them to
    train the prediction, and by default they do, with a straight-through gradient through the likeliest tokens
    (`straight_through`: the loss measures the decoded image, whereas the mean entries of `soft` are blurred). Half of
    the released samples belong to the negative class (`negatives: 0.5`), away from which sampling is guided at test
    time (`guidance: 1`); the paper mentions neither. Structure, codebook and order loss have options of their own for
    such differences.

    Images of any size are restored in overlapping tiles of the tokenizer's size; the released code accepts only 128 x
    128 pixels. The thermal image is repeated to three channels, and the three output channels are averaged.

    Args:
        scale: factor by which the restored image is wider and higher than the input.
        tokenizer: multi-scale VQ autoencoder; the transformer uses its scales and codebook entries.
        tokenizer_weights: file of a trained tokenizer, from this package or published; empty for none.
        depth: number of transformer blocks.
        width: number of channels of a token.
        heads: number of attention heads; each has a multiple of 4 channels.
        drop_path: drop-path rate of the transformer's last block.
        checkpoint_blocks: recompute transformer blocks in the backward pass, which saves memory, as in the
            released training.
        encoder: encoder of the enlarged input; its downsampling factor must be the tokenizer's.
        structure: block that extracts heat and edge structure for the transformer.
        codebook: codebook that maps predicted tokens to codes.
        refiner: block that predicts the residual that the tokens leave out (VARSR).
        decoding: decoding of logits for the order loss and pixel error: "straight_through", "soft" or "argmax".
        order_loss: thermal order loss of the decoded image, in [0, 1].
        order_weight: weight of `order_loss` (paper: 0.8).
        pixel_weight: weight of the mean squared error of the decoded image, in [0, 1] (paper: 0.2).
        negatives: share of the training samples whose target is the enlarged input itself, under the negative label.
            The released code degrades the input of such a sample once more, from a full-size file of low quality.
        sampler: sampler that chooses tokens from their logits.
        guidance: strength of the guidance away from the negative class, see `token_sampler.guided`; it needs a training
            with `negatives`.
        colour_fix: "adain" matches the mean and contrast of each tile to the enlarged input; "none" leaves it
            unchanged.
        overlap: minimum overlap of neighbouring tiles in input pixels.
        seed: seed of random draws in restoration; each image has its own, derived from its name.
        optimizer: makes the optimizer.
        lr_scheduler: makes the learning-rate schedule, stepped once per optimizer step from the first on.

    Raises:
        InputError: a number is out of range, blocks do not fit together, or weights cannot be loaded.
    """

    def __init__(
        self,
        scale: int = 4,
        tokenizer: Callable[[], MultiScaleVQVAE] = MultiScaleVQVAE,
        tokenizer_weights: str = "",
        depth: int = 24,
        width: int = 1536,
        heads: int = 24,
        drop_path: float = 0.1,
        checkpoint_blocks: bool = False,
        encoder: Callable[[int, int], MapEncoder] = ConvStackEncoder,
        structure: Callable[[int, int], Structure] = ThermalStructuralGuidance,
        codebook: Callable[[int, int, int], Codebook] = ConditionAdaptiveCodebook,
        refiner: Callable[[int, int], Refiner] = NoRefiner,
        decoding: Decoding = "straight_through",
        order_loss: Callable[[], ThermalOrderLoss] = ThermalOrderLoss,
        order_weight: float = 0.8,
        pixel_weight: float = 0.2,
        negatives: float = 0.0,
        sampler: Callable[[], TokenSampler] = Greedy,
        guidance: float = 0.0,
        colour_fix: ColourFix = "adain",
        overlap: int = 16,
        seed: int = 0,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: SchedulerCallable | None = None,
    ) -> None:
        super().__init__(scale, optimizer, lr_scheduler)
        check_choice(decoding, Decoding, "model.decoding")
        check_choice(colour_fix, ColourFix, "model.colour_fix")
        numbers = {"order_weight": order_weight, "pixel_weight": pixel_weight, "guidance": guidance, "seed": seed}
        for name, number in numbers.items():
            if number < 0:
                raise InputError(f"model.{name} is {number} and must be at least 0")
        if not 0 <= negatives <= 1:
            raise InputError(f"model.negatives is {negatives}; give a share of the samples from 0 to 1")
        made = tokenizer()
        check_side(made, scale)
        self.tile = made.side // scale
        """Side of a tile in input pixels."""
        if not 0 <= overlap < self.tile:
            raise InputError(
                f"model.overlap is {overlap}; give 0 or more, and less than a tile's {self.tile} input pixels"
            )
        if tokenizer_weights and pretrained_wanted():
            load_tokenizer(made, Path(tokenizer_weights))
        self.network = RealIISRNetwork(
            made, depth, width, heads, drop_path, encoder, structure, codebook, refiner, checkpoint_blocks
        )
        if tokenizer_weights:
            self.network.start_transformer()
        self.trains_tokenizer = False
        """Whether a step trains the tokenizer, not the transformer; `TokenizerFirst` sets it."""
        self.optimizes_tokenizer = False
        """Whether the optimizer has a group of parameters for the tokenizer; `TokenizerFirst` sets it."""
        self.order_loss, self.order_weight, self.pixel_weight = order_loss(), order_weight, pixel_weight
        self.decoding, self.negatives = decoding, negatives
        self.sampler, self.guidance, self.colour_fix, self.overlap = sampler(), guidance, colour_fix, overlap
        self.seed = seed
        # Not buffers: a moving average of the weights would average them, and half precision cannot count.
        self.frequencies = torch.zeros(len(made.quantize.scales), made.quantize.entries, dtype=torch.int64)
        self.entropies = torch.zeros(2)
        """Sum of the cross entropies of a validation, and the number of images."""

    @property
    def draws(self) -> bool:
        """Whether `restore` draws random numbers: unless the likeliest tokens are decoded alone."""
        return not (isinstance(self.sampler, Greedy) and isinstance(self.network.refiner, NoRefiner))

    def restore(self, batch: Batch) -> Tensor:
        """Restore thermal images: (B, 1, H, W) in [0, 1]."""
        lr = images_of(batch, "lr", "RealIISR")
        smallest = -(-self.network.tokenizer.factor // self.scale)
        if min(lr.shape[-2:]) < smallest:
            raise InputError(
                f"{batch['name'][0]} has {lr.shape[-1]} x {lr.shape[-2]} pixels, less than one token of RealIISR, "
                f"which needs {smallest} x {smallest}; leave it out or give a larger image"
            )
        noise = SeededNoise.of(batch["name"], self.seed)
        with torch.no_grad():
            restored = tiled(
                lambda part: self._restored(part, noise), lr, tile=self.tile, overlap=self.overlap, scale=self.scale
            )
        return restored.clamp(0, 1)

    def ceilings(self, batch: Batch) -> dict[str, Tensor]:
        """Return the targets reconstructed from their own tokens: the result of a perfect prediction."""
        return {
            "tokenizer ceiling": reconstruct(self.network.tokenizer, images_of(batch, "hr", "RealIISR").clamp(0, 1))
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Group the parameters: with weight decay, without it, and the tokenizer if a callback trains it."""
        decayed, spared, tokenizer = [], [], []
        for name, parameter in self.named_parameters():
            if name.startswith("network.tokenizer."):
                tokenizer.append(parameter)
            elif parameter.ndim < 2 or name.endswith(UNDECAYED):
                spared.append(parameter)
            else:
                decayed.append(parameter)
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
        if self.optimizes_tokenizer:
            groups.append({"params": tokenizer, "weight_decay": 0.0, "tokenizer": True})
        return groups

    def on_fit_start(self) -> None:
        """Refuse to train a transformer on tokens of an untrained tokenizer.

        Raises:
            InputError: the tokenizer has random weights, and no callback trains it first.
        """
        if not self.trains_tokenizer and not self.network.tokenizer.quantize.usage():
            raise InputError(
                "the tokenizer has random weights: give its file by model.tokenizer_weights, a checkpoint by --from, "
                "or train it first by the callback TokenizerFirst"
            )

    def on_train_start(self) -> None:
        """Initialise the transformer, unless a callback trains the tokenizer first."""
        super().on_train_start()
        if not self.trains_tokenizer:
            self.start_transformer()

    def start_transformer(self) -> None:
        """Initialise an untrained transformer from the entries of the trained tokenizer; a trained one is unchanged."""
        if self.network.transformer.untrained():
            self.network.start_transformer()
            used = float(self.network.tokenizer.quantize.usage())
            rank_zero_info(f"step {self.global_step}: the tokenizer is frozen, {used:.0%} of its codebook in use")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute cross entropy, order loss and pixel error of one batch, or the tokenizer's loss in its steps."""
        lr, hr = (images_of(batch, key, "RealIISR") for key in ("lr", "hr"))
        check_crop(self.network.tokenizer, hr, self.scale)
        if self.trains_tokenizer:
            terms = tokenizer_terms(self.network.tokenizer, hr)
            self.log("train/usage", self.network.tokenizer.quantize.usage())
            loss = RECONSTRUCTION * terms["reconstruction"] + terms["quantization"]
        else:
            terms = self._terms(enlarged(lr, self.scale), hr)
            loss = terms["cross_entropy"]
            for name, weight in self._weights().items():
                if weight:
                    loss = loss + weight * terms[name]
        for name, value in terms.items():
            self.log(f"train/{name}", value)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Clear the token statistics of the last validation."""
        super().on_validation_epoch_start()
        self.frequencies = torch.zeros_like(self.frequencies, device=self.device)
        self.entropies = torch.zeros_like(self.entropies, device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score the restored batch, and compute the cross entropy of the tokens of one central tile of each target."""
        super().validation_step(batch, batch_idx)
        lr, hr = (images_of(batch, key, "RealIISR") for key in ("lr", "hr"))
        if min(lr.shape[-2:]) < self.tile:
            return
        top, left = ((side - self.tile) // 2 for side in lr.shape[-2:])
        low = lr[..., top : top + self.tile, left : left + self.tile]
        scale = self.scale
        high = hr[..., scale * top :, scale * left :][..., : scale * self.tile, : scale * self.tile]
        ids = self.network.tokenizer.tokens(three(high))
        prefix = self.network.encode_condition(three(enlarged(low, scale)))
        logits = self.network.logits(prefix, self._labels(len(lr), POSITIVE), ids)
        entropy = F.cross_entropy(logits.flatten(0, 1).float(), torch.cat(ids, 1).flatten())
        self.entropies += len(lr) * torch.stack([entropy, torch.ones_like(entropy)])
        for level, index in enumerate(ids):
            self.frequencies[level] += torch.bincount(index.flatten(), minlength=self.frequencies.shape[1])

    def on_validation_epoch_end(self) -> None:
        """Log the quality, `val/cross_entropy` and `val/unigram_entropy`; both are in nats and over the same tokens.

        `val/unigram_entropy` is the entropy of the entries' frequencies at each scale: the lowest cross entropy of a
        prediction that does not depend on the image.
        """
        super().on_validation_epoch_end()
        # Summed here across processes, as a process may have had no image of a tile's size.
        counts, entropies = (
            self.trainer.strategy.reduce(tensor.clone(), reduce_op="sum")
            for tensor in (self.frequencies, self.entropies)
        )
        assert isinstance(counts, Tensor) and isinstance(entropies, Tensor)
        if counts.any():
            shares = counts / counts.sum(1, keepdim=True)
            nats = -(counts * shares.clamp(min=torch.finfo(shares.dtype).tiny).log()).sum() / counts.sum()
            self.log("val/cross_entropy", entropies[0] / entropies[1], sync_dist=False)
            self.log("val/unigram_entropy", nats, sync_dist=False)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the tokenizer of the checkpoint has the scales of this one.

        Raises:
            InputError: the transformer was trained on token maps of other sides.
        """
        super().on_load_checkpoint(checkpoint)
        check_scales(self.network.tokenizer, checkpoint.get("lit_thermal", {}).get("model"), "the checkpoint")

    def _weights(self) -> dict[str, float]:
        return {"order": self.order_weight, "pixel": self.pixel_weight, "refinement": self.network.refiner.weight}

    def _terms(self, image: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """Return cross entropy, token accuracy, and the enabled terms of order loss, pixel error and refinement.

        Args:
            image: enlarged inputs (B, 1, H, W) in [0, 1].
            hr: targets (B, 1, H, W) in [0, 1].
        """
        negative = torch.rand(len(hr)).to(hr.device) < self.negatives
        target = torch.where(negative[:, None, None, None], image, hr)
        ids = self.network.tokenizer.tokens(three(target))
        label = torch.where(negative, NEGATIVE, POSITIVE)
        prefix = self.network.encode_condition(three(image))
        features = self.network.features(prefix, label, ids)
        logits = self.network.transformer.predict(features, label)
        flat, true = logits.flatten(0, 1), torch.cat(ids, 1).flatten()
        terms = {
            "cross_entropy": F.cross_entropy(flat.to(torch.promote_types(flat.dtype, torch.float32)), true),
            "token_accuracy": (flat.detach().argmax(-1) == true).float().mean(),
        }
        if self.network.refiner.weight:
            terms["refinement"] = self.network.refinement(prefix, label, ids, features, three(target))
        if self.order_weight or self.pixel_weight:
            restored = (self.network.expected(prefix, label, logits, self.decoding) + 1) / 2
            if self.order_weight:
                terms["order"] = self.order_loss(restored, target.expand_as(restored))
            if self.pixel_weight:
                terms["pixel"] = F.mse_loss(restored, target.expand_as(restored))
        return terms

    def _labels(self, count: int, label: int) -> Tensor:
        return torch.full((count,), label, device=self.device)

    def _restored(self, lr: Tensor, noise: SeededNoise) -> Tensor:
        """Restore inputs (B, 1, h, w) that fit one tile to (B, 1, scale * h, scale * w)."""
        height, width = (self.scale * side for side in lr.shape[-2:])
        whole = enlarged(padded(lr, self.tile), self.scale)
        prefix = self.network.encode_condition(three(whole))
        image = (self.network.restore(prefix, self.sampler, noise, self.guidance).float() + 1) / 2
        image = image[..., :height, :width]
        if self.colour_fix == "adain":
            image = adain(image, whole[..., :height, :width].expand_as(image)).clamp(0, 1)
        return image.mean(1, keepdim=True)
