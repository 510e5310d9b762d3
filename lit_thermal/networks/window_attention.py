"""Swin layers over feature maps: attention inside square windows, shifted in every other block."""

from collections import OrderedDict
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.networks.group_norm import WideGroupNorm

SwinMask = Literal["standard", "released"]
"""Mask between tokens of a shifted window; see `shift_mask`."""

APART = -100.0
"""Used instead of minus infinity for masked logits: the softmax is zero in float32, and it fits into half precision."""


class WindowAttention(nn.Module):
    """Multi-head attention among the tokens of a square window, with a learnt bias for each relative position.

    Args:
        dim: number of channels of a token.
        head_width: number of channels of a head, a divisor of `dim`.
        window: side of a window.

    Raises:
        InputError: `head_width` is not a divisor of `dim`.
    """

    def __init__(self, dim: int, head_width: int, window: int) -> None:
        super().__init__()
        if dim % head_width:
            raise InputError(
                f"{dim} channels of attention are not a whole number of heads of width {head_width}: change one of them"
            )
        self.head_width = head_width
        self.window = window
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, dim // head_width))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def bias(self) -> Tensor:
        """Return the bias of the logits, (heads, window^2, window^2) of (query, key)."""
        index = torch.from_numpy(relative_positions(self.window))
        index = index.to(self.relative_position_bias_table.device, non_blocking=True)
        return self.relative_position_bias_table[index].permute(2, 0, 1)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend within each window.

        Args:
            tokens: tokens (B, windows, window^2, dim), each window in row-major order.
            mask: mask (windows, window^2, window^2), added to the logits of (query, key) of all heads.

        Returns:
            (B, windows, window^2, dim).
        """
        qkv = rearrange(self.qkv(tokens), "b n t (three h d) -> three b n h t d", three=3, d=self.head_width)
        bias = self.bias().to(qkv.dtype)
        if mask is None:
            q, k, v = qkv.flatten(1, 2)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
        else:
            # Windows are merged with heads, so that all images of a batch share one mask without copies.
            q, k, v = qkv.flatten(2, 3)
            shared = (bias + mask[:, None].to(bias.dtype)).flatten(0, 1)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=shared[None])
        return self.proj(rearrange(mixed.reshape(qkv.shape[1:]), "b n h t d -> b n t (h d)"))


class SwinBlock(nn.Module):
    """``x += attention(norm(x)); x += mlp(norm(x))`` with group normalisation and 1x1 convolutions.

    Args:
        dim: number of channels.
        size: side of the feature map that the network is configured for. If it is at most one window, the partition is
            never shifted, regardless of the size of the actual map.
        shifted: shift the partition by half a window.
        head_width: number of channels of an attention head.
        window: side of a window.
        mlp_ratio: ratio of the MLP's hidden channels to `dim`.
        swin_mask: mask of a shifted partition, `standard` or `released`.
    """

    def __init__(
        self,
        dim: int,
        size: int,
        shifted: bool,
        head_width: int,
        window: int,
        mlp_ratio: float,
        swin_mask: SwinMask,
    ) -> None:
        super().__init__()
        self.size = size
        self.window = window
        self.shift = window // 2 if shifted and size > window else 0
        self.swin_mask: SwinMask = swin_mask
        self.norm1 = WideGroupNorm(dim)
        self.attn = WindowAttention(dim, head_width, window)
        self.norm2 = WideGroupNorm(dim)
        hidden = int(dim * mlp_ratio)
        layers = OrderedDict(fc1=nn.Conv2d(dim, hidden, 1), gelu=nn.GELU(), fc2=nn.Conv2d(hidden, dim, 1))
        self.mlp = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape; H and W are multiples of the window."""
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def attend(self, x: Tensor) -> Tensor:
        """Attend within the windows of this block's partition of (B, dim, H, W)."""
        rows, columns = (side // self.window for side in x.shape[-2:])
        mask = None
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (-2, -1))
            mask = shift_mask(self.swin_mask, rows, columns, self.window, x.device)
        tokens = rearrange(x, "b c (i y) (j x) -> b (i j) (y x) c", i=rows, j=columns)
        mixed = self.attn(tokens, mask)
        x = rearrange(mixed, "b (i j) (y x) c -> b c (i y) (j x)", i=rows, y=self.window)
        return x.roll((self.shift, self.shift), (-2, -1)) if self.shift else x


class SwinLayer(nn.Module):
    """1x1 convolution to the attention's width, Swin blocks (every second one shifted), and 1x1 convolution back.

    There is no residual connection around the layer.

    Args:
        dim: number of input and output channels.
        size: side of the feature map that the network is configured for.
        depth: number of blocks.
        swin_width: number of channels inside the layer.
        head_width: number of channels of an attention head.
        window: side of a window.
        mlp_ratio: ratio of the hidden channels of a block's MLP to `swin_width`.
        swin_mask: mask of a shifted partition, `standard` or `released`.
    """

    def __init__(
        self,
        dim: int,
        size: int,
        depth: int = 2,
        swin_width: int = 192,
        head_width: int = 32,
        window: int = 8,
        mlp_ratio: float = 4.0,
        swin_mask: SwinMask = "standard",
    ) -> None:
        super().__init__()
        # Containers of one layer give the names of the published weights.
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(dim, swin_width, 1)))
        self.blocks = nn.Sequential(
            *[
                SwinBlock(swin_width, size, index % 2 == 1, head_width, window, mlp_ratio, swin_mask)
                for index in range(depth)
            ]
        )
        self.patch_unembed = nn.Sequential(OrderedDict(proj=nn.Conv2d(swin_width, dim, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape; H and W are multiples of the window."""
        return self.patch_unembed(self.blocks(self.patch_embed(x)))


@lru_cache(maxsize=8)
def relative_positions(window: int) -> np.ndarray:
    """Return the row of the bias table for each (query, key) of a window, (window^2, window^2) int64.

    With offsets dy, dx from key to query it is ``(dy + window - 1) * (2 window - 1) + dx + window - 1``.
    """
    # The cache holds an array, because a tensor would keep the mode (inference, export) of the first call.
    side = np.arange(window, dtype=np.int64)
    y, x = side.repeat(window), np.tile(side, window)
    dy, dx = y[:, None] - y, x[:, None] - x
    return (dy + window - 1) * (2 * window - 1) + dx + window - 1


def shift_mask(kind: SwinMask, rows: int, columns: int, window: int, device: torch.device) -> Tensor:
    """Return the mask of a partition that is shifted by half a window, by rolling the map up and to the left.

    Rolling joins opposite borders of the map in the last row and the last column of windows. `standard` separates them,
    so that tokens attend as in a shifted partition that is cut off at the borders. `released` is the mask with which
    the published weights were trained: it splits all windows of the last row into a left and a right part instead of an
    upper and a lower one, and does not split any other windows, including those of the last column.

    Args:
        kind: mask, `standard` or `released`.
        rows: number of rows of windows.
        columns: number of columns of windows.
        window: side of a window.
        device: device of the result.

    Returns:
        (rows * columns, window^2, window^2) float32 of (query, key), 0 or `APART`.
    """
    side = torch.arange(window, device=device) >= window - window // 2
    lower, right = side.repeat_interleave(window), side.repeat(window)
    across_x, across_y = right[:, None] != right, lower[:, None] != lower
    last_row, last_column = (
        torch.arange(count, device=device).view(shape) == count - 1
        for count, shape in ((rows, (-1, 1, 1, 1)), (columns, (1, -1, 1, 1)))
    )
    if kind == "released":
        apart = (last_row & across_x).expand(-1, columns, -1, -1)
    else:
        apart = last_row & across_y | last_column & across_x
    return apart.flatten(0, 1) * APART
