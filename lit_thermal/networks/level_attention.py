"""Attention among tokens of several levels: a token attends to its own and earlier levels, with or without a cache."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.rotary_positions import rotate

SHARPEST = math.log(100)
"""Upper bound of the logarithm of the factor that multiplies the cosine of a query and a key."""
FIRST_SHARPNESS = math.log(4)
"""Initial value of the same logarithm."""


class KeyValues:
    """Cache of the keys and values of all tokens that one block has seen.

    Args:
        tokens: total number of tokens of the complete sequence.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.length = 0
        self._cache: Tensor | None = None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values (B, heads, n, dim) of further tokens, and return those of all tokens so far."""
        if self._cache is None:
            # Allocate the whole cache at once: growing it step by step would hold each block's keys twice.
            self._cache = k.new_empty(2, *k.shape[:2], self.tokens, k.shape[-1])
        before, self.length = self.length, self.length + k.shape[2]
        self._cache[0, :, :, before : self.length] = k
        self._cache[1, :, :, before : self.length] = v
        keys, values = self._cache[:, :, :, : self.length]
        return keys, values


class LevelAttention(nn.Module):
    """Multi-head attention in which a token attends to tokens of its own level and of earlier levels.

    Queries and keys are normalised to length one and then rotated by their positions; a learnt factor per head, at most
    100, multiplies their cosine. Keys have no bias, as in VAR.

    All tokens of a level see the same first keys of the sequence, so that each level is one attention without a mask.

    Args:
        width: number of channels of a token.
        heads: number of attention heads, a divisor of `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.log_scale = nn.Parameter(torch.full((1, heads, 1, 1), FIRST_SHARPNESS))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, levels: Sequence[int], rotations: Tensor, past: KeyValues | None = None) -> Tensor:
        """Attend among the tokens of `x` and of the levels before.

        Args:
            x: tokens (B, n, width).
            levels: number of tokens of each level, the lowest first; they sum to n.
            rotations: rotations (2, n, width / heads / 2) of the tokens; queries and keys are rotated in its precision.
            past: cache with the keys and values of the levels before, to which those of `x` are appended.

        Returns:
            (B, n, width).
        """
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        packed = F.linear(x, self.qkv.weight, bias.to(self.qkv.weight.dtype))
        q, k, v = packed.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scale = self.log_scale.clamp(max=SHARPEST).exp()
        q = rotate(scale * F.normalize(q.to(rotations.dtype), dim=-1), rotations).to(v.dtype)
        k = rotate(F.normalize(k.to(rotations.dtype), dim=-1), rotations).to(v.dtype)
        end = 0
        if past is not None:
            end = past.length
            k, v = past.append(k, v)
        mixed = []
        for part in q.split(list(levels), dim=2):
            end += part.shape[2]
            mixed.append(F.scaled_dot_product_attention(part, k[:, :, :end], v[:, :, :end], scale=1.0))
        return self.out(torch.cat(mixed, dim=2).transpose(1, 2).flatten(2))
