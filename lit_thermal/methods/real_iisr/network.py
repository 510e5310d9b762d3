"""Real-IISR's network: a tokenizer, and a transformer that predicts the tokens of the target from the input."""

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.codebook import Codebook, ConditionAdaptiveCodebook
from lit_thermal.blocks.condition_map_encoder import ConvStackEncoder, MapEncoder
from lit_thermal.blocks.thermal_structure import Structure, ThermalStructuralGuidance
from lit_thermal.errors import InputError, check_choice
from lit_thermal.generative.noise import SeededNoise
from lit_thermal.generative.token_refiner import NoRefiner, Refiner
from lit_thermal.generative.token_sampler import TokenSampler, guided
from lit_thermal.networks.multi_scale_vqvae import MultiScaleVQVAE
from lit_thermal.networks.visual_autoregressor import VisualAutoregressor

POSITIVE, NEGATIVE = 0, 1
"""Class labels of clean targets and of degraded ones, away from which guidance leads."""

Decoding = Literal["straight_through", "soft", "argmax"]


class RealIISRNetwork(nn.Module):
    """Predict the target's token maps scale by scale from the enlarged input, and decode them (Real-IISR).

    The prefix of the transformer's sequence consists of the input's tokens, guided by its thermal structure, and a
    class token. The tokenizer is frozen and always in eval mode.

    The codebook is conditioned on the mean of the prefix, as in the released code, where position embeddings are added
    to the prefix in training only (the codebook's `placed`). In the paper it is conditioned on the guided feature.

    A refiner (VARSR) adds the part of the latent that the tokens leave out. It reads the last block's features and the
    chosen codes of the last scale. The latent is then the sum of the sampling steps, without phi at the last scale, and
    the refiner's residual.

    Args:
        tokenizer: trained tokenizer; the transformer uses its scales and codebook entries.
        depth: number of transformer blocks.
        width: number of channels of a token.
        heads: number of attention heads; each has a multiple of 4 channels.
        drop_path: drop-path rate of the transformer's last block.
        encoder: makes the encoder from the channels of the input and `width`; its factor must be the tokenizer's.
        structure: makes the structure block from `width` and `heads`.
        codebook: makes the codebook from the tokenizer's number of entries, the channels of an entry, and `width`.
        refiner: makes the refiner from the channels of an entry and `width`.
        checkpoint_blocks: recompute the transformer's blocks in the backward pass, which saves memory.

    Raises:
        InputError: the tokenizer's scales do not begin with 1, the maps of encoder and tokenizer differ in size, or a
            number is out of range.
    """

    def __init__(
        self,
        tokenizer: MultiScaleVQVAE,
        depth: int = 24,
        width: int = 1536,
        heads: int = 24,
        drop_path: float = 0.1,
        encoder: Callable[[int, int], MapEncoder] = ConvStackEncoder,
        structure: Callable[[int, int], Structure] = ThermalStructuralGuidance,
        codebook: Callable[[int, int, int], Codebook] = ConditionAdaptiveCodebook,
        refiner: Callable[[int, int], Refiner] = NoRefiner,
        checkpoint_blocks: bool = False,
    ) -> None:
        super().__init__()
        quantizer = tokenizer.quantize
        self.tokenizer = tokenizer.requires_grad_(False).eval()
        self.encoder = encoder(3, width)
        if self.encoder.factor != tokenizer.factor:
            raise InputError(
                f"the encoder of the input makes maps smaller by {self.encoder.factor} where the tokenizer's are "
                f"smaller by {tokenizer.factor}: give both as many levels"
            )
        self.structure = structure(width, heads)
        self.codebook = codebook(quantizer.entries, quantizer.dim, width)
        self.transformer = VisualAutoregressor(
            depth,
            width,
            heads,
            quantizer.entries,
            quantizer.dim,
            quantizer.scales,
            prefix_maps=self.structure.maps,
            drop_path=drop_path,
            checkpoint_blocks=checkpoint_blocks,
        )
        self.refiner = refiner(quantizer.dim, width)
        self.tokens = [side**2 for side in quantizer.scales]
        """Number of tokens of each scale."""

    def train(self, mode: bool = True) -> "RealIISRNetwork":
        """Set the mode of everything except the tokenizer, which stays in eval mode."""
        super().train(mode)
        self.tokenizer.eval()
        return self

    def start_transformer(self) -> None:
        """Initialise an untrained transformer from the codebook entries of the trained tokenizer."""
        self.transformer.start_from(self.tokenizer.quantize.embedding.weight)

    def encode_condition(self, image: Tensor) -> Tensor:
        """Return the condition tokens (B, maps * side^2, width) of enlarged inputs (B, 3, H, W) in [-1, 1]."""
        maps = self.structure(image, self.encoder(image))
        return torch.cat([each.flatten(2).mT for each in maps], 1)

    def logits(self, prefix: Tensor, label: Tensor, ids: Sequence[Tensor]) -> Tensor:
        """Predict all tokens, each from the true tokens of the coarser scales (teacher forcing).

        Args:
            prefix: condition tokens from `encode_condition`.
            label: (B,) int64 class labels.
            ids: true tokens (B, n) of each scale.

        Returns:
            (B, tokens of all scales, entries).
        """
        return self.transformer.predict(self.features(prefix, label, ids), label)

    def features(self, prefix: Tensor, label: Tensor, ids: Sequence[Tensor]) -> Tensor:
        """Return the last block's features (B, tokens of all scales, width), from which `predict` makes the logits."""
        inputs = self.tokenizer.quantize.inputs(
            ids if self.codebook.acts == "decode" else self._adapted(prefix, label, ids)
        )
        return self.transformer.features(prefix, label, inputs)

    def refinement(
        self, prefix: Tensor, label: Tensor, ids: Sequence[Tensor], features: Tensor, image: Tensor
    ) -> Tensor:
        """Return the refiner's loss (), whose gradient flows to `features`.

        Args:
            prefix: condition tokens from `encode_condition`.
            label: (B,) int64 class labels.
            ids: true tokens (B, n) of each scale.
            features: last block's features from `features`.
            image: targets (B, 3, H, W) in [-1, 1] that have these tokens.
        """
        with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
            residual = self.tokenizer.encode(image) - self._sum(self._adapted(prefix, label, ids))
        last = self.tokens[-1]
        condition = self._refined_by(prefix, label, features[:, -last:], ids[-1])
        return self.refiner.loss(condition, residual.flatten(2).mT)

    @torch.no_grad()
    def restore(self, prefix: Tensor, sampler: TokenSampler, noise: SeededNoise, guidance: float = 0.0) -> Tensor:
        """Return clean images (B, 3, H, W) in [-1, 1]: `draw`, then `decode`, with the refiner's residual.

        The refiner reads only the positive branch of guidance.

        Args:
            prefix: condition tokens from `encode_condition`.
            sampler: sampler that chooses entries from their logits.
            noise: noise of the images.
            guidance: strength of the guidance, as in `draw`.
        """
        label = self._wanted(prefix)
        ids, features = self._draw(prefix, sampler, noise, guidance)
        residual = self.refiner.draw(self._refined_by(prefix, label, features, ids[-1]), noise)
        return self.decode(prefix, label, ids, residual)

    def decode(self, prefix: Tensor, label: Tensor, ids: Sequence[Tensor], residual: Tensor | None = None) -> Tensor:
        """Return the images (B, 3, H, W) in [-1, 1] decoded from tokens (B, n) of each scale.

        Args:
            prefix: condition tokens from `encode_condition`.
            label: (B,) int64 class labels.
            ids: tokens (B, n) of each scale.
            residual: (B, n, dim) residual of the last scale, from a refiner.
        """
        codes = self._adapted(prefix, label, ids)
        if residual is None:
            return self.tokenizer.image(codes)
        latent = self._sum(codes)
        return self.tokenizer.decode(latent + residual.mT.unflatten(2, latent.shape[2:]))

    def expected(self, prefix: Tensor, label: Tensor, logits: Tensor, decoding: Decoding) -> Tensor:
        """Return the images (B, 3, H, W) in [-1, 1] decoded from logits, for pixel losses.

        Args:
            prefix: condition tokens from `encode_condition`.
            label: (B,) int64 class labels.
            logits: (B, tokens of all scales, entries).
            decoding: "argmax" decodes the likeliest entries, through which no gradient reaches the logits (released);
                "straight_through" decodes the same with the gradient of the probabilities; "soft" decodes the mean
                entries.

        Raises:
            InputError: the decoding is unknown.
        """
        check_choice(decoding, Decoding, "model.decoding")
        levels = logits.to(torch.promote_types(logits.dtype, torch.float32)).split(self.tokens, 1)
        if decoding == "argmax":
            return self.decode(prefix, label, [level.argmax(-1) for level in levels])
        condition = self._condition(prefix, label)
        entries = self.tokenizer.quantize.embedding.weight.to(torch.promote_types(logits.dtype, torch.float32))
        codes = []
        for level in levels:
            shares = level.softmax(-1)
            if decoding == "straight_through":
                shares = F.one_hot(level.argmax(-1), level.shape[-1]) + (shares - shares.detach())
            with torch.autocast(shares.device.type, enabled=False):
                mean = shares @ entries
            codes.append(self.codebook.soft(shares, mean, condition))
        return self.tokenizer.image(codes)

    def draw(self, prefix: Tensor, sampler: TokenSampler, noise: SeededNoise, guidance: float = 0.0) -> list[Tensor]:
        """Draw the tokens of clean images scale by scale, with a cache of keys and values.

        Args:
            prefix: condition tokens from `encode_condition`.
            sampler: sampler that chooses entries from their logits.
            noise: noise of the images.
            guidance: strength of the guidance away from degraded images, see `token_sampler.guided`; 0 skips the
                negative branch.

        Returns:
            Tokens (B, n) of each scale.
        """
        return self._draw(prefix, sampler, noise, guidance)[0]

    @torch.no_grad()
    def _draw(
        self, prefix: Tensor, sampler: TokenSampler, noise: SeededNoise, guidance: float
    ) -> tuple[list[Tensor], Tensor]:
        """Return the tokens of each scale, and the features (B, n, width) of the last scale."""
        quantizer, scales = self.tokenizer.quantize, len(self.tokens)
        count = len(prefix)
        label = self._wanted(prefix)
        condition = self._condition(prefix, label)
        if guidance:
            both = torch.cat([label, torch.full_like(label, NEGATIVE)])
            cache = self.transformer.begin(prefix.repeat(2, 1, 1), both)
        else:
            cache = self.transformer.begin(prefix, label)
        ids: list[Tensor] = []
        total: Tensor | None = None
        following: Tensor | None = None
        for level in range(scales):
            inputs = following.repeat(2, 1, 1) if guidance and following is not None else following
            logits = self.transformer.step(cache, level, inputs)
            if guidance:
                logits = guided(logits[:count], logits[count:], guidance, level, scales)
            taken = sampler(logits, noise)
            ids.append(taken)
            codes = quantizer.embedding(taken)
            if self.codebook.acts != "decode":
                codes = self.codebook(taken, codes, condition)
            total, following = quantizer.accumulate(total, level, codes)
        return ids, cast("Tensor", cache.features)[:count]

    def _wanted(self, prefix: Tensor) -> Tensor:
        return torch.full((len(prefix),), POSITIVE, device=prefix.device)

    def _adapted(self, prefix: Tensor, label: Tensor, ids: Sequence[Tensor]) -> list[Tensor]:
        """Return the codes (B, n, dim) of the tokens of each scale."""
        condition = self._condition(prefix, label)
        codes = self.tokenizer.quantize.codes(ids)
        return [self.codebook(index, code, condition) for index, code in zip(ids, codes, strict=True)]

    def _condition(self, prefix: Tensor, label: Tensor) -> Tensor:
        """Return the condition of the codebook, (B, width)."""
        return self.transformer.condition(prefix, label, self.training and self.codebook.placed)

    def _sum(self, codes: Sequence[Tensor]) -> Tensor:
        """Return the latent (B, dim, N, N) that the sampling steps add up to, without phi at the last scale."""
        total: Tensor | None = None
        for level, code in enumerate(codes):
            total, _ = self.tokenizer.quantize.accumulate(total, level, code)
        return cast("Tensor", total)

    def _refined_by(self, prefix: Tensor, label: Tensor, features: Tensor, ids: Tensor) -> Tensor:
        """Return the refiner's input: the last scale's features (B, n, width) plus the embedded codes of its tokens."""
        codes = self.tokenizer.quantize.embedding(ids)
        if self.codebook.acts != "decode":
            codes = self.codebook(ids, codes, self._condition(prefix, label))
        with torch.autocast(codes.device.type, enabled=False):
            return features + self.transformer.token_embedding(codes.to(self.transformer.token_embedding.weight.dtype))
