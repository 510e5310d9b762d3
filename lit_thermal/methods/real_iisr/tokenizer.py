"""The tokenizer of Real-IISR as a separate LightningModule, and the loading of its weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.batch import Batch, need
from lit_thermal.blocks.pretrained import check_shapes, unwrapped
from lit_thermal.errors import InputError
from lit_thermal.files import is_plain
from lit_thermal.methods.base import SchedulerCallable, SuperResolver
from lit_thermal.networks.multi_scale_vqvae import MultiScaleVQVAE
from lit_thermal.networks.residual_quantizer import PUBLISHED_SCALES
from lit_thermal.ops.resize import resize
from lit_thermal.ops.tile import tiled
from lit_thermal.weights_file import check_tensors, read_file

RECONSTRUCTION = 10.0
"""Weight of the reconstruction. At a weight of 1 the quantiser's loss, which pulls the latent towards the sums of the
coarse scales, suppresses detail: a small tokenizer reaches 21.4 dB after 300 steps, and 28.6 dB at a weight of 10."""
NOT_OURS = ("quantize.ema_vocab_hit_SV", "quantize.U", "quantize.V", "quantize.lora_gate")
"""Entries of published files that do not belong to the tokenizer: a statistic and the condition-adaptive codebook."""


class RealIISRTokenizer(SuperResolver):
    """Train the tokenizer of Real-IISR to reproduce targets; the visual autoregressor then predicts its tokens.

    The loss is ten times the mean squared error of the reconstruction, in [-1, 1], plus the quantiser's loss. The part
    of the latter that keeps the encoder near its codes is logged as the commitment. VAR's authors trained the published
    tokenizer, with an additional perceptual and adversarial loss; Real-IISR does not train it.

    This is not a super-resolution method: it restores the enlarged input as reconstructed from its tokens. A validation
    measures how well targets are reproduced, and so does the row "reconstruction" of a test, which is the ceiling of
    the method that uses the tokenizer.

    Args:
        scale: factor by which the target is wider and higher than the input.
        tokenizer: multi-scale VQ autoencoder to train.
        optimizer: makes the optimizer.
        lr_scheduler: makes the learning-rate schedule, stepped once per optimizer step.

    Raises:
        InputError: the side of the tokenizer's images is not a multiple of the scale.
    """

    def __init__(
        self,
        scale: int = 4,
        tokenizer: Callable[[], MultiScaleVQVAE] = MultiScaleVQVAE,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: SchedulerCallable | None = None,
    ) -> None:
        super().__init__(scale, optimizer, lr_scheduler)
        self.tokenizer = tokenizer()
        check_side(self.tokenizer, scale)

    @torch.no_grad()
    def restore(self, batch: Batch) -> Tensor:
        """Return the bicubically enlarged inputs (B, 1, H, W) in [0, 1], reconstructed from their tokens."""
        lr = images_of(batch, "lr", "RealIISRTokenizer")
        return reconstruct(self.tokenizer, enlarged(lr, self.scale))

    def ceilings(self, batch: Batch) -> dict[str, Tensor]:
        """Return the targets reconstructed from their tokens."""
        hr = images_of(batch, "hr", "RealIISRTokenizer").clamp(0, 1)
        return {"reconstruction": reconstruct(self.tokenizer, hr)}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the reconstruction and quantisation loss of one batch of targets."""
        hr = images_of(batch, "hr", "RealIISRTokenizer")
        check_crop(self.tokenizer, hr, self.scale)
        terms = tokenizer_terms(self.tokenizer, hr)
        for name, value in terms.items():
            self.log(f"train/{name}", value)
        self.log("train/usage", self.tokenizer.quantize.usage())
        loss = RECONSTRUCTION * terms["reconstruction"] + terms["quantization"]
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score the reconstructed targets."""
        (reconstruction,) = self.ceilings(batch).values()
        with torch.autocast(self.device.type, enabled=False):
            self.evaluator.update(batch, {type(self).__name__: reconstruction}, "val")


def tokenizer_terms(tokenizer: MultiScaleVQVAE, hr: Tensor) -> dict[str, Tensor]:
    """Return the training terms of a tokenizer: `reconstruction` (weighted by 10), `quantization` and `commitment`.

    Args:
        tokenizer: tokenizer in training mode.
        hr: targets (B, 1, H, W) in [0, 1], of the tokenizer's size.

    Returns:
        Scalars by name; the commitment is a fifth of the quantisation, whose other four fifths train the codebook.
    """
    image = three(hr)
    made = tokenizer(image)
    return {
        "reconstruction": F.mse_loss(made.image, image),
        "quantization": made.loss,
        "commitment": made.loss.detach() / 5,
    }


@torch.no_grad()
def reconstruct(tokenizer: MultiScaleVQVAE, images: Tensor) -> Tensor:
    """Reconstruct images (B, 1, H, W) in [0, 1] from their tokens, in tiles of the tokenizer's size."""

    def tile(x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        codes = tokenizer.quantize.codes(tokenizer.tokens(three(padded(x, tokenizer.side))))
        return grey(tokenizer.image(codes))[..., :height, :width]

    training = tokenizer.training
    tokenizer.eval()
    try:
        return tiled(tile, images, tile=tokenizer.side, overlap=tokenizer.side // 8, scale=1).clamp(0, 1)
    finally:
        tokenizer.train(training)


def load_tokenizer(tokenizer: MultiScaleVQVAE, path: Path) -> None:
    """Load the weights of a file: a checkpoint of `RealIISRTokenizer` or `RealIISR`, or a published file.

    Published files are VQVAE.pth of VARSR, with the tokenizer under `trainer` and `vae_local`, and the file of VAR, a
    plain state dict.

    Raises:
        InputError: the file does not exist or cannot be read, or its tokenizer has other scales or layers.
    """
    if not is_plain(path):
        raise InputError(
            f"there is no tokenizer {path}: train one by `lit_thermal fit -c real_iisr_tokenizer`, or fetch VQVAE.pth, "
            "which the README of github.com/qyp2000/VARSR links, and give its path by model.tokenizer_weights"
        )
    values = read_file(path)
    if isinstance(values, dict) and "lit_thermal" in values and isinstance(values.get("state_dict"), dict):
        weights = unwrapped(values["state_dict"])
        whole = any(name.startswith("network.") for name in weights)
        prefix = "network.tokenizer." if whole else "tokenizer."
        if not any(name.startswith(f"{prefix}quantize.") for name in weights):
            raise InputError(
                f"{path} contains no tokenizer: give a checkpoint of RealIISRTokenizer or RealIISR, or VQVAE.pth"
            )
        record = values["lit_thermal"]
        check_scales(tokenizer, record.get("model") if isinstance(record, dict) else None, str(path))
        state = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        own = tokenizer.state_dict()
    else:
        for key in ("trainer", "vae_local", "state_dict"):
            values = values.get(key, values) if isinstance(values, dict) else values
        state = {
            name: value
            for name, value in unwrapped(values if isinstance(values, dict) else {}).items()
            if name not in NOT_OURS and isinstance(value, Tensor)
        }
        own = tokenizer.released_state()
    check_tensors(state, path)
    check_shapes(
        state,
        own,
        path,
        of="tokenizer",
        advice="give model.tokenizer the width, multipliers, layers, dim and entries that it was trained with",
        first="quantize.embedding.weight",
    )
    if own.keys() == tokenizer.state_dict().keys():
        tokenizer.load_state_dict(state)
    else:
        tokenizer.load_released(state)


def check_scales(tokenizer: MultiScaleVQVAE, made: dict[str, Any] | None, source: str) -> None:
    """Refuse a checkpoint with token maps of other sizes, since the shapes of its weights do not show them.

    Args:
        tokenizer: tokenizer that will receive the weights.
        made: class path and arguments of the model that the checkpoint records, if any.
        source: name of the checkpoint in the error message.

    Raises:
        InputError: the sides differ.
    """
    if not made:
        return
    given = made.get("init_args", {}).get("tokenizer")
    arguments = given.get("init_args", {}) if isinstance(given, dict) else {}
    scales = tuple(arguments.get("scales", PUBLISHED_SCALES))
    if scales != tokenizer.quantize.scales:
        raise InputError(
            f"the tokenizer of {source} was trained with token maps of {list(scales)}, and model.tokenizer has "
            f"{list(tokenizer.quantize.scales)}, which the transformer would predict; give model.tokenizer.scales as "
            "it was trained"
        )


def images_of(batch: Batch, key: str, method: str) -> Tensor:
    """Return the inputs or targets (B, 1, h, w) of a batch.

    Raises:
        InputError: there are none, they are clips, or a sample has no thermal input.
    """
    need(batch, key, by=method)
    images: Tensor = batch[key]  # type: ignore[literal-required]
    if images.ndim != 4:
        raise InputError(f"{method} takes images, (B, 1, h, w), not clips, {tuple(images.shape)}: give images")
    if key == "lr" and "has_lr" in batch and not batch["has_lr"].all():
        name = batch["name"][int(batch["has_lr"].int().argmin())]
        raise InputError(f"{name} has no thermal image, which {method} restores; leave it out of the data")
    return images


def enlarged(lr: Tensor, scale: int) -> Tensor:
    """Enlarge inputs (B, 1, h, w) in [0, 1] bicubically (a = -0.5) and clamp them to [0, 1]."""
    height, width = lr.shape[-2:]
    return resize(lr, (scale * height, scale * width)).clamp(0, 1)


def padded(x: Tensor, side: int) -> Tensor:
    """Pad images (..., h, w) smaller than a tile to `side` by repeating their last rows and columns."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, side - width, 0, side - height), mode="replicate")


def three(x: Tensor) -> Tensor:
    """Convert thermal images (B, 1, H, W) in [0, 1] to the colour images (B, 3, H, W) in [-1, 1] of tokenizers."""
    return (2 * x - 1).expand(-1, 3, -1, -1)


def grey(image: Tensor) -> Tensor:
    """Average the channels of images (B, 3, H, W) in [-1, 1] to (B, 1, H, W) in [0, 1]."""
    return (image.mean(1, keepdim=True) + 1) / 2


def check_side(tokenizer: MultiScaleVQVAE, scale: int) -> None:
    """Refuse a tokenizer whose image side is not a multiple of the scale.

    Raises:
        InputError: the side is not a multiple of the scale.
    """
    if tokenizer.side % scale:
        raise InputError(
            f"model.tokenizer makes tokens of {tokenizer.side} x {tokenizer.side} pixels, no multiple of model.scale "
            f"{scale}; choose its last scale and its levels so that it is"
        )


def check_crop(tokenizer: MultiScaleVQVAE, hr: Tensor, scale: int) -> None:
    """Refuse training crops (B, 1, H, W) that are not of the tokenizer's size.

    Raises:
        InputError: their size differs.
    """
    if hr.shape[-2:] != (tokenizer.side, tokenizer.side):
        raise InputError(
            f"the training crops are of {hr.shape[-1]} x {hr.shape[-2]} pixels and the tokenizer takes "
            f"{tokenizer.side} x {tokenizer.side}: give data.crop {tokenizer.side // scale}, or model.tokenizer other "
            "scales"
        )
