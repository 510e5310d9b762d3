"""The visual autoregressor: a transformer that predicts an image's tokens scale by scale from all scales before."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lit_thermal.blocks.rotary_positions import grid_rotations
from lit_thermal.errors import InputError
from lit_thermal.networks.level_attention import FIRST_SHARPNESS, KeyValues, LevelAttention

EPSILON = 1e-6
"""Constant added to the variance in every norm."""
GAMMA, MODULATION, HEAD = 1e-4, 0.5, 0.02
"""Factors of the initial weights of a block's gates, of all other modulations and of the head."""

PLACES = (
    ("prefix_positions", "pos_start"),
    ("class_embedding.", "class_emb."),
    ("level_embedding.", "lvl_embed."),
    ("token_embedding.", "word_embed."),
    (".attention.log_scale", ".attn.scale_mul_1H11"),
    (".attention.qkv.", ".attn.mat_qkv."),
    (".attention.out.", ".attn.proj."),
    (".attention.", ".attn."),
    (".mlp.0.", ".ffn.fc1."),
    (".mlp.2.", ".ffn.fc2."),
    ("head_modulation.", "head_nm.ada_lin.1."),
    (".modulation.", ".ada_lin.1."),
)
"""Parts of parameter names here, and their counterparts in the published layout."""


class AutoregressorBlock(nn.Module):
    """Residual attention and MLP, each between a modulated norm and a gate (adaptive layer norm).

    With gamma, scale and shift computed from the class, the block applies
    ``x += gamma1 * attention(norm(x) * (1 + scale1) + shift1)`` and then
    ``x += gamma2 * mlp(norm(x) * (1 + scale2) + shift2)``.

    Args:
        width: number of channels of a token.
        heads: number of attention heads, a divisor of `width`.
        mlp_ratio: ratio of the MLP's hidden channels to `width`.
        drop_path: probability with which a residual of an image is dropped in training.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.modulation = nn.Linear(width, 6 * width)
        self.attention = LevelAttention(width, heads)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU("tanh"), nn.Linear(hidden, width))

    def forward(
        self, x: Tensor, modulation: Tensor, levels: Sequence[int], rotations: Tensor, past: KeyValues | None = None
    ) -> Tensor:
        """Map (B, n, width) to the same shape; `modulation` is (B, 6 width), the rest as for `LevelAttention`."""
        gamma1, gamma2, scale1, scale2, shift1, shift2 = modulation[:, None].chunk(6, dim=-1)
        mixed = self.attention(_modulated(x, scale1, shift1), levels, rotations, past)
        x = x + self._dropped(gamma1 * mixed)
        return x + self._dropped(gamma2 * self.mlp(_modulated(x, scale2, shift2)))

    def _dropped(self, residual: Tensor) -> Tensor:
        if not self.training or not self.drop_path:
            return residual
        stays = 1 - self.drop_path
        return residual * residual.new_empty(len(residual), 1, 1).bernoulli_(stays).div_(stays)


@dataclass
class Cache:
    """State that `VisualAutoregressor.step` keeps between the scales of a batch.

    Attributes:
        prefix: embedded prefix (B, tokens, width), which is dropped after the first scale.
        modulations: modulation (B, 6 width) of each block.
        head_modulation: modulation (B, 2 width) of the head.
        past: keys and values of each block.
        level: index of the next scale.
        features: features (B, side^2, width) of the last block at the previous scale.
    """

    prefix: Tensor | None
    modulations: list[Tensor]
    head_modulation: Tensor
    past: list[KeyValues]
    level: int = 0
    features: Tensor | None = None


class VisualAutoregressor(nn.Module):
    """The next-scale transformer of VARSR and Real-IISR, after VAR; the defaults are Real-IISR's published size.

    The sequence consists of a prefix (one or more maps of condition tokens and a class token) and the inputs of all
    scales except the first. The class token predicts the first scale; each token of a later scale predicts the entry at
    its own position. The prefix is level 0 together with the first scale, scale k is level k, and a token sees all
    tokens of its own and lower levels. Positions are encoded by rotation (`blocks.rotary_positions`) and levels by an
    embedding; tokens of the prefix also have a learnt position embedding.

    Under autocast, embeddings, modulations, the rotation of queries and keys, and the head keep the precision of the
    weights, and the rotation is in float32 at least.

    Weights are initialised with a truncated normal distribution of deviation sqrt(1 / (3 width)), biases with zero. The
    layers that end a residual are divided by sqrt(2 depth), the head is multiplied by 0.02, modulations by 0.5, and the
    gates of the blocks by 1e-4 (as in the training of VARSR), so that blocks change little at first. Prefix maps are
    used without further embedding and must have `width` channels.

    Args:
        depth: number of blocks.
        width: number of channels of a token.
        heads: number of attention heads; each must have a multiple of 4 channels.
        entries: number of entries of the codebook.
        token_dim: number of values of an entry.
        scales: side of each scale's grid of tokens, increasing from 1.
        prefix_maps: number of maps of condition tokens in the prefix, each with the side of the last scale: 1 (the
            image) or 2 (also its thermal structure, as released).
        labels: number of image classes; the published ones are 0 (wanted) and 1 (unwanted).
        drop_path: probability with which the last block's residuals of an image are dropped in training; it increases
            linearly from 0 in the first block. The published value is 0.1 with 24 blocks.
        mlp_ratio: ratio of the hidden channels of a block's MLP to `width`.
        checkpoint_blocks: recompute each block in the backward pass to save memory.

    Raises:
        InputError: the arguments do not fit each other.
    """

    def __init__(
        self,
        depth: int = 24,
        width: int = 1536,
        heads: int = 24,
        entries: int = 4096,
        token_dim: int = 32,
        scales: Sequence[int] = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32),
        prefix_maps: int = 2,
        labels: int = 2,
        drop_path: float = 0.1,
        mlp_ratio: float = 4.0,
        checkpoint_blocks: bool = False,
    ) -> None:
        super().__init__()
        _check(depth=depth, entries=entries, token_dim=token_dim, prefix_maps=prefix_maps, labels=labels)
        if heads < 1 or width < 1 or width % (4 * heads):
            raise InputError(
                f"width = {width} with heads = {heads} of the visual autoregressor: give a width that is a multiple "
                "of four times the heads"
            )
        if not scales or scales[0] != 1 or any(b <= a for a, b in pairwise(scales)):
            raise InputError(
                f"scales = {list(scales)} of the visual autoregressor: give sides that rise from 1, those of the "
                "tokenizer"
            )
        if not 0 <= drop_path < 1 or int(width * mlp_ratio) < 1:
            raise InputError(
                f"drop_path = {drop_path} and mlp_ratio = {mlp_ratio} of the visual autoregressor: give a share from "
                "0 to below 1, and a positive ratio"
            )
        self.scales = tuple(scales)
        self.width, self.head_width, self.token_dim = width, width // heads, token_dim
        self.prefix_maps = prefix_maps
        self.checkpoint_blocks = checkpoint_blocks
        self.prefix_tokens = prefix_maps * scales[-1] ** 2 + 1
        self.levels = (self.prefix_tokens, *(side**2 for side in scales[1:]))
        self.class_embedding = nn.Embedding(labels, width)
        self.prefix_positions = nn.Parameter(torch.empty(1, self.prefix_tokens, width))
        self.level_embedding = nn.Embedding(len(scales), width)
        self.token_embedding = nn.Linear(token_dim, width)
        shares = [drop_path * index / max(1, depth - 1) for index in range(depth)]
        self.blocks = nn.ModuleList([AutoregressorBlock(width, heads, mlp_ratio, share) for share in shares])
        self.head_modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, entries)
        self._start()

    def forward(self, prefix: Tensor, label: Tensor, inputs: Tensor) -> Tensor:
        """Predict the tokens of all scales at once, each scale from the true tokens before (teacher forcing).

        Args:
            prefix: condition tokens (B, prefix_maps * side^2, width), map by map in row-major order.
            label: class of each image (B,), int64.
            inputs: sum of the quantiser so far, reduced to each scale, (B, tokens of all scales but the first,
                token_dim).

        Returns:
            Logits (B, tokens of all scales, entries).

        Raises:
            InputError: prefix or inputs have other scales or another width.
        """
        return self.predict(self.features(prefix, label, inputs), label)

    def features(self, prefix: Tensor, label: Tensor, inputs: Tensor) -> Tensor:
        """Return the last block's features of all scales, (B, tokens of all scales, width); see `forward`."""
        self._fits("inputs", inputs, sum(self.levels[1:]), self.token_dim)
        x = torch.cat([self._prefix(prefix, label), self._tokens(inputs, range(1, len(self.scales)))], dim=1)
        rotations = self._rotations(x)
        for block, layer in zip(self.blocks, self._modulations(self._conditions(label)), strict=True):
            if self.checkpoint_blocks and torch.is_grad_enabled():
                x = cast("Tensor", checkpoint(block, x, layer, self.levels, rotations, use_reentrant=False))
            else:
                x = block(x, layer, self.levels, rotations)
        return x[:, self.prefix_tokens - 1 :]

    def predict(self, features: Tensor, label: Tensor) -> Tensor:
        """Return the logits (B, n, entries) for features (B, n, width) of the last block."""
        return self._logits(features, self._modulated_by(self.head_modulation, self._conditions(label)))

    def condition(self, prefix: Tensor, label: Tensor, trained: bool = False) -> Tensor:
        """Return the mean (B, width) over the tokens of the prefix, including the class token.

        Args:
            prefix: condition tokens as in `forward`.
            label: class of each image (B,), int64.
            trained: add the learnt position embeddings, as the released code does in training but not at inference.
        """
        tokens = self._prefix_tokens(prefix, label)
        return (tokens + self.prefix_positions if trained else tokens).mean(1)

    @torch.no_grad()
    def begin(self, prefix: Tensor, label: Tensor) -> Cache:
        """Return a cache for prediction scale by scale; both branches of guidance need a batch of twice the size.

        Args:
            prefix: condition tokens as in `forward`.
            label: class of each image (B,), int64.
        """
        conditions = self._conditions(label)
        return Cache(
            self._prefix(prefix, label),
            self._modulations(conditions),
            self._modulated_by(self.head_modulation, conditions),
            [KeyValues(sum(self.levels)) for _ in self.blocks],
        )

    @torch.no_grad()
    def step(self, cache: Cache, level: int, inputs: Tensor | None = None) -> Tensor:
        """Predict the tokens of the next scale, with the same results as `forward` up to rounding.

        Args:
            cache: cache from `begin`, which is updated with the keys, values and features of this scale.
            level: index of the scale; scales must be predicted in order.
            inputs: inputs (B, side^2, token_dim) of this scale; None for the first.

        Returns:
            Logits (B, side^2, entries).

        Raises:
            InputError: the inputs have another scale or width.
            ValueError: `level` is not the next scale, or inputs are missing or given for the first scale.
        """
        if level != cache.level or level >= len(self.scales):
            raise ValueError(f"scale {level} was asked for where {cache.level} of {len(self.scales)} is next")
        if (inputs is None) != (level == 0):
            raise ValueError(f"scale {level} needs {'no inputs' if level == 0 else 'inputs'}")
        if inputs is None:
            x = cast("Tensor", cache.prefix)
            cache.prefix = None
        else:
            self._fits("inputs", inputs, self.levels[level], self.token_dim)
            x = self._tokens(inputs, range(level, level + 1))
        before = sum(self.levels[:level])
        rotations = self._rotations(x)[:, before : before + x.shape[1]]
        for block, layer, past in zip(self.blocks, cache.modulations, cache.past, strict=True):
            x = block(x, layer, self.levels[level : level + 1], rotations, past)
        cache.level += 1
        cache.features = x[:, -(self.scales[level] ** 2) :]
        return self._logits(cache.features, cache.head_modulation)

    @torch.no_grad()
    def start_from(self, entries: Tensor) -> None:
        """Initialise an untrained transformer from the entries (entries, token_dim) of a trained codebook (ours).

        Each logit starts as the inner product of its entry with a random projection of the features, so that similar
        entries are learnt together. Attention starts close to each token's own position, because queries and keys share
        their projection and a common part that is rotated by position; gates start half open. A small transformer
        learns many times faster this way: after 100 steps of eight images it restored 26 dB, compared with 20 dB for
        either half alone and for VARSR's initialisation.
        """
        # A fixed seed gives the same weights in all processes of a distributed training.
        same = torch.Generator().manual_seed(0)
        spread = entries.std()
        projection = torch.randn(self.token_dim, self.width, generator=same).to(entries) / math.sqrt(self.width)
        self.head.weight.copy_(0.5 * entries / spread @ projection)
        self.token_embedding.weight.div_(spread)
        for module in self.blocks:
            block = cast("AutoregressorBlock", module)
            _, _, shift, _ = block.modulation.bias[2 * self.width :].chunk(4)
            shift.copy_(torch.randn(self.width, generator=same))
            block.modulation.bias[: 2 * self.width] = 0.5
            queries, keys, _ = block.attention.qkv.weight.chunk(3)
            keys.copy_(queries)
            block.attention.log_scale.fill_(math.log(20))

    def untrained(self) -> bool:
        """Return whether this transformer is untrained: its attention factors still have their initial value."""
        scales = [cast("AutoregressorBlock", block).attention.log_scale for block in self.blocks]
        # The tolerance allows for the rounding in a half-precision checkpoint.
        return all(bool((scale.float() - FIRST_SHARPNESS).abs().max() < 0.005) for scale in scales)

    def released_names(self) -> dict[str, str]:
        """Return the published name of every parameter by our name; shapes are the same.

        The published layout also has entries that are not parameters: `blocks.N.attn.zero_k_bias` (zeros of the width),
        `lvl_1L` and `attn_bias_for_masking`.
        """
        names = {}
        for name, _ in self.named_parameters():
            released = name
            for ours, theirs in PLACES:
                released = released.replace(ours, theirs)
            names[name] = released
        return names

    def _prefix_tokens(self, prefix: Tensor, label: Tensor) -> Tensor:
        """Return condition tokens and class token, (B, prefix_tokens, width)."""
        self._fits("condition tokens", prefix, self.prefix_tokens - 1, self.width)
        token = self.class_embedding(label)[:, None]
        return torch.cat([prefix.to(token.dtype), token], dim=1)

    def _prefix(self, prefix: Tensor, label: Tensor) -> Tensor:
        return self._prefix_tokens(prefix, label) + self.prefix_positions + self.level_embedding.weight[0]

    def _tokens(self, inputs: Tensor, levels: range) -> Tensor:
        """Embed the inputs (B, n, token_dim) of some levels as (B, n, width)."""
        with torch.autocast(inputs.device.type, enabled=False):
            x = self.token_embedding(inputs.to(self.token_embedding.weight.dtype))
        of_level = [self.level_embedding.weight[level].expand(self.levels[level], -1) for level in levels]
        return x + torch.cat(of_level) if of_level else x

    def _rotations(self, x: Tensor) -> Tensor:
        """Return the rotations of all tokens of the sequence, in float32 at least."""
        last = self.scales[-1]
        sides = (last,) * self.prefix_maps + self.scales
        dtype = torch.promote_types(x.dtype, torch.float32)
        return grid_rotations(sides, self.head_width, last, dtype, x.device)

    def _conditions(self, label: Tensor) -> Tensor:
        return F.silu(self.class_embedding(label))

    def _modulations(self, conditions: Tensor) -> list[Tensor]:
        layers = [cast("AutoregressorBlock", block).modulation for block in self.blocks]
        return [self._modulated_by(layer, conditions) for layer in layers]

    @staticmethod
    def _modulated_by(layer: nn.Linear, conditions: Tensor) -> Tensor:
        with torch.autocast(conditions.device.type, enabled=False):
            return layer(conditions)

    def _logits(self, x: Tensor, modulation: Tensor) -> Tensor:
        scale, shift = modulation[:, None].chunk(2, dim=-1)
        with torch.autocast(x.device.type, enabled=False):
            return self.head(_modulated(x, scale, shift))

    def _fits(self, what: str, tokens: Tensor, count: int, width: int) -> None:
        if tokens.shape[1:] != (count, width):
            raise InputError(
                f"the visual autoregressor was given {what} of shape {tuple(tokens.shape[1:])} and takes "
                f"{(count, width)}: give it images, a tokenizer and a structure that fit its scales {list(self.scales)}"
            )

    def _start(self) -> None:
        deviation = math.sqrt(1 / (3 * self.width))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=deviation)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.prefix_positions, std=deviation)
        with torch.no_grad():
            self.head.weight.mul_(HEAD)
            self.head_modulation.weight.mul_(MODULATION)
            for module in self.blocks:
                block = cast("AutoregressorBlock", module)
                block.modulation.weight[: 2 * self.width].mul_(GAMMA)
                block.modulation.weight[2 * self.width :].mul_(MODULATION)
                for layer in (block.attention.out, block.mlp[2]):
                    cast("nn.Linear", layer).weight.div_(math.sqrt(2 * len(self.blocks)))


def _modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=EPSILON) * (1 + scale) + shift


def _check(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"{name} = {number} of the visual autoregressor: give 1 or more")
