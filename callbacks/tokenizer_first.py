"""Two-phase training of Real-IISR: the tokenizer first, then the transformer."""

import math
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_info

from lit_thermal.errors import InputError
from lit_thermal.methods.real_iisr.module import RealIISR


class TokenizerFirst(Callback):
    """Train the tokenizer of Real-IISR in the first steps, then freeze it; the remaining steps train the transformer.

    The phase is skipped if the tokenizer is trained already: `model.tokenizer_weights` or `--from` gave its weights. A
    resumed training continues in the phase that its checkpoint records.

    Args:
        steps: number of steps that train the tokenizer, part of `trainer.max_steps`.
        lr: learning rate of the tokenizer; it falls to zero along half a cosine.

    Raises:
        InputError: a number is negative.
    """

    def __init__(self, steps: int, lr: float = 1e-3) -> None:
        for name, number in (("steps", steps), ("lr", lr)):
            if number < 0:
                raise InputError(f"TokenizerFirst.{name} is {number} and must be at least 0")
        self.steps, self.lr = steps, lr
        self.until: int | None = None
        """Step at which the tokenizer is frozen; set when a training begins."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the tokenizer to the optimizer, with gradients if it is untrained.

        A multi-process strategy, which is set up next, synchronises only the weights that require a gradient by then.

        Raises:
            InputError: the method is not Real-IISR.
        """
        if stage != "fit" or not self.steps:
            return
        if not isinstance(pl_module, RealIISR):
            raise InputError(
                f"TokenizerFirst trains the tokenizer of RealIISR, and {type(pl_module).__name__} has none; "
                "leave the callback out"
            )
        pl_module.optimizes_tokenizer = True
        pl_module.network.tokenizer.requires_grad_(not pl_module.network.tokenizer.quantize.usage())

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Decide whether the first steps train the tokenizer.

        Raises:
            InputError: all steps of the training would train the tokenizer.
        """
        assert isinstance(pl_module, RealIISR)
        if self.until is None:
            self.until = 0 if pl_module.network.tokenizer.quantize.usage() > 0 else self.steps
        if self.until and 0 < trainer.max_steps <= self.until:
            raise InputError(
                f"trainer.max_steps is {trainer.max_steps} and the tokenizer takes the first {self.until} "
                "(TokenizerFirst.steps): nothing would be left for the transformer; give more"
            )
        pl_module.trains_tokenizer = self.until > 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log which steps train the tokenizer."""
        if self.until and trainer.global_step < self.until:
            rank_zero_info(
                f"no tokenizer was given: steps {trainer.global_step} to {self.until} train one, then it is frozen and "
                "the transformer is trained on its tokens"
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Lower the learning rate of the tokenizer; freeze the tokenizer after its last step."""
        assert isinstance(pl_module, RealIISR)
        step = trainer.global_step
        if self.until and step < self.until:
            pl_module.network.tokenizer.train()  # the network keeps it in eval mode
            for group in trainer.optimizers[0].param_groups:
                if group.get("tokenizer"):
                    group["lr"] = self.lr * (1 + math.cos(math.pi * step / self.until)) / 2
        elif pl_module.trains_tokenizer:
            pl_module.trains_tokenizer = False
            pl_module.network.tokenizer.requires_grad_(False).eval()
            pl_module.start_transformer()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the step at which the tokenizer is frozen."""
        checkpoint["phases"] = {"until": self.until}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Continue in the phase that the training was in."""
        if phases := checkpoint.get("phases"):
            assert isinstance(pl_module, RealIISR)
            self.until = phases["until"]
            pl_module.network.tokenizer.requires_grad_(bool(self.until))
