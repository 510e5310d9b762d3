"""A Mamba layer over video tokens in any scan order, with a prompt added to its read-out matrix."""

import math
from collections.abc import Callable

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.scan_order import ScanOrder
from lit_thermal.blocks.thermal_prompt import ReadoutPrompt, ThermalPrompt
from lit_thermal.errors import InputError
from lit_thermal.ops.selective_scan import selective_scan


class StateSpace(nn.Module):
    """One selective state space sub-block of THERIS (SMB, TMB and HMB differ only in the order).

    The block consists of an input projection, a depthwise 3x3 convolution per frame, a selective scan forwards and
    backwards along the order that is read out with ``C + T`` (T from the thermal prompt), a norm, a gate, and an output
    projection. It follows the visual state space module of MambaIR with one order; A, step size and skip are
    initialised as in Mamba.

    Args:
        dim: number of channels.
        embedding: width of the time embedding.
        order: order in which tokens are read.
        prompt: factory that makes the read-out prompt from (embedding, directions, state).
        state: state size N.
        expansion: ratio of the inner width to `dim`.
        shared: use the same parameters for both directions.
    """

    directions = 2

    def __init__(
        self,
        dim: int,
        embedding: int,
        order: ScanOrder,
        prompt: Callable[[int, int, int], ReadoutPrompt] = ThermalPrompt,
        state: int = 16,
        expansion: int = 2,
        shared: bool = False,
    ) -> None:
        super().__init__()
        inner = expansion * dim
        self.inner, self.state, self.rank = inner, state, math.ceil(dim / 16)
        self.order = order
        self.prompt = prompt(embedding, self.directions, state)
        sets = 1 if shared else self.directions

        self.project_in = nn.Linear(dim, 2 * inner, bias=False)
        self.convolution = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.to_scan = nn.Parameter(torch.empty(sets, self.rank + 2 * state, inner))
        self.to_step = nn.Parameter(torch.empty(sets, inner, self.rank))
        self.step_bias = nn.Parameter(torch.empty(sets, inner))
        self.log_decay = nn.Parameter(torch.empty(sets, inner, state))
        self.skip = nn.Parameter(torch.ones(sets, inner))
        self.norm = nn.LayerNorm(inner)
        self.project_out = nn.Linear(inner, dim, bias=False)
        self._initialize()

    def _initialize(self) -> None:
        for weight in self.to_scan:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        nn.init.uniform_(self.to_step, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():
            self.log_decay.copy_(torch.arange(1, self.state + 1).log().expand_as(self.log_decay))
            # Step sizes are log-uniform in [0.001, 0.1]; the bias is their inverse Softplus.
            step = torch.exp(torch.empty_like(self.step_bias).uniform_(math.log(1e-3), math.log(1e-1)))
            step = step.clamp(min=1e-4)
            self.step_bias.copy_(step + torch.log(-torch.expm1(-step)))

    def undecayed(self) -> list[nn.Parameter]:
        """Return the parameters that are excluded from weight decay."""
        return [self.log_decay, self.skip]

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """Mix channels-last tokens (B, T, H, W, dim) with times embedded as (T, embedding), keeping their shape.

        The scan and its inputs are computed in float32 at least, regardless of autocast and the type of the weights.
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
            mixed = self._scan(tokens, embedded, path, places)
            weight, bias = self.norm.weight.to(mixed), self.norm.bias.to(mixed)
            mixed = F.layer_norm(mixed, (self.inner,), weight, bias, self.norm.eps)
        mixed = rearrange(mixed, "b (t h w) i -> b t h w i", t=frames, h=height)
        return self.project_out(mixed.to(gate.dtype) * F.silu(gate))

    def _scan(self, tokens: Tensor, embedded: Tensor, path: Tensor, places: Tensor) -> Tensor:
        """Return the sum (B, L, inner) of both scan directions of tokens (B, L, inner), in the input's order."""
        batch, length, inner = tokens.shape
        chains, steps = path.shape
        per_frame = length // len(embedded)
        d = self.directions

        ordered = rearrange(tokens[:, path.flatten()], "b (c l) i -> (b c) i l", c=chains)
        both = torch.stack([ordered, ordered.flip(-1)], dim=1)  # (B c, d, inner, l)
        scan = torch.einsum("ski,bsil->bskl", self.to_scan.to(both).expand(d, -1, -1), both)
        step, state_in, state_out = scan.split([self.rank, self.state, self.state], dim=2)
        delta = torch.einsum("sir,bsrl->bsil", self.to_step.to(step).expand(d, -1, -1), step)

        prompt = self.prompt(embedded).to(state_out.dtype)[:, :, path // per_frame]  # (d, N, c, l)
        prompt = torch.stack([prompt[0], prompt[1].flip(-1)])
        state_out = state_out + repeat(prompt, "s n c l -> (b c) s n l", b=batch)

        mixed = selective_scan(
            both.reshape(-1, d * inner, steps),
            delta.reshape(-1, d * inner, steps),
            -torch.exp(self.log_decay.to(both)).expand(d, -1, -1).reshape(d * inner, self.state),
            state_in,
            state_out,
            self.skip.expand(d, -1).reshape(-1),
            delta_bias=self.step_bias.expand(d, -1).reshape(-1),
            delta_softplus=True,
        ).reshape(-1, d, inner, steps)
        total = mixed[:, 0] + mixed[:, 1].flip(-1)
        return rearrange(total, "(b c) i l -> b (c l) i", c=chains)[:, places]
