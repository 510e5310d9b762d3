"""Token mixers of THERIS: sub-blocks of which each reads the tokens of a video in one order."""

from abc import ABC, abstractmethod

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.scan_order import ScanOrder
from lit_thermal.errors import InputError


class TokenMixer(nn.Module, ABC):
    """Base of the family: input projection, depthwise 3x3 convolution per frame, mixing, norm, gate, output projection.

    Subclasses mix the tokens of the whole clip in `mix`. Their constructors take the same seven arguments as that of
    `StateSpace`, so that each member can replace another.

    Args:
        dim: number of channels.
        order: order in which tokens are read.
        expansion: ratio of the inner width to `dim`.
        prompt: read-out prompt, which comes first among the parameters; None for members without one.
    """

    def __init__(self, dim: int, order: ScanOrder, expansion: int, prompt: nn.Module | None = None) -> None:
        super().__init__()
        self.inner = expansion * dim
        self.order = order
        if prompt is not None:
            self.prompt = prompt
        self.project_in = nn.Linear(dim, 2 * self.inner, bias=False)
        self.convolution = nn.Conv2d(self.inner, self.inner, 3, padding=1, groups=self.inner)
        self.norm = nn.LayerNorm(self.inner)
        self.project_out = nn.Linear(self.inner, dim, bias=False)

    @abstractmethod
    def mix(self, tokens: Tensor, embedded: Tensor, path: Tensor, places: Tensor) -> Tensor:
        """Return mixed tokens (B, L, inner) for tokens (B, L, inner), both in the order ``(t h w)``, at least float32.

        Args:
            tokens: tokens after projection and convolution.
            embedded: embedded times (T, embedding).
            path: token indices (chains, steps) of the scan order.
            places: position (L,) of each token in the flattened path.
        """

    def undecayed(self) -> list[nn.Parameter]:
        """Return the parameters that are excluded from weight decay."""
        return []

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """Mix channels-last tokens (B, T, H, W, dim) with times embedded as (T, embedding), keeping their shape.

        The mixing and its inputs are computed in float32 at least, regardless of autocast and the type of the weights.
        """
        batch, frames, height, width, _ = x.shape
        if len(embedded) != frames:
            raise InputError(f"{frames} frames came with {len(embedded)} embedded times; give one time per frame")
        content, gate = self.project_in(x).chunk(2, dim=-1)
        content = rearrange(content, "b t h w i -> (b t) i h w")
        content = F.silu(self.convolution(content))
        path, places = self.order.indices(frames, height, width, x.device)
        with torch.autocast(x.device.type, enabled=False):
            tokens = rearrange(content.to(gate.dtype), "(b t) i h w -> b (t h w) i", b=batch)
            tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
            mixed = self.mix(tokens, embedded, path, places)
            weight, bias = self.norm.weight.to(mixed), self.norm.bias.to(mixed)
            mixed = F.layer_norm(mixed, (self.inner,), weight, bias, self.norm.eps)
        mixed = rearrange(mixed, "b (t h w) i -> b t h w i", t=frames, h=height)
        return self.project_out(mixed.to(gate.dtype) * F.silu(gate))
