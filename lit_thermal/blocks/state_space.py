"""Mamba layers over video tokens in any scan order, with a prompt added to the read-out matrix."""

import math
from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.scan_order import ScanOrder
from lit_thermal.blocks.thermal_prompt import ReadoutPrompt, ThermalPrompt
from lit_thermal.blocks.token_mixer import TokenMixer
from lit_thermal.ops.selective_scan import selective_scan

PromptFactory = Callable[[int, int, int, int], ReadoutPrompt]


class StateSpace(TokenMixer):
    """One selective state space sub-block of THERIS (SMB, TMB and HMB differ only in the order).

    The mixing is a selective scan forwards and backwards along the order, read out with ``C + T`` (T from the thermal
    prompt). The block follows the visual state space module of MambaIR with one order; A, step size and skip are
    initialised as in Mamba. At this start, what the state adds is about a hundredth of the skip ``D u``.

    Args:
        dim: number of channels.
        embedding: width of the time embedding.
        order: order in which tokens are read.
        prompt: factory that makes the read-out prompt from (embedding, directions, state, content).
        state: state size N.
        expansion: ratio of the inner width to `dim`.
        shared: use the same parameters for both directions.
    """

    directions = 2
    prompt: ReadoutPrompt

    def __init__(
        self,
        dim: int,
        embedding: int,
        order: ScanOrder,
        prompt: PromptFactory = ThermalPrompt,
        state: int = 16,
        expansion: int = 2,
        shared: bool = False,
    ) -> None:
        inner = expansion * dim
        super().__init__(dim, order, expansion, prompt(embedding, self.directions, state, 2 * inner))
        self.state, self.rank = state, math.ceil(dim / 16)
        sets = 1 if shared else self.directions
        self.to_scan = nn.Parameter(torch.empty(sets, self.rank + 2 * state, inner))
        self.to_step = nn.Parameter(torch.empty(sets, inner, self.rank))
        self.step_bias = nn.Parameter(torch.empty(sets, inner))
        self.log_decay = nn.Parameter(torch.empty(sets, inner, state))
        self.skip = nn.Parameter(torch.ones(sets, inner))
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

    def scaled(self, state_matrix: Tensor) -> Tensor:
        """Return B or C, (B c, directions, N, steps), as the scan uses it, before the prompt is added."""
        return state_matrix

    def mix(self, tokens: Tensor, embedded: Tensor, path: Tensor, places: Tensor) -> Tensor:
        """Return the sum (B, L, inner) of both scan directions; see the base class."""
        batch, length, inner = tokens.shape
        chains, steps = path.shape
        per_frame = length // len(embedded)
        d = self.directions

        ordered = rearrange(tokens[:, path.flatten()], "b (c l) i -> (b c) i l", c=chains)
        both = torch.stack([ordered, ordered.flip(-1)], dim=1)  # (B c, d, inner, l)
        scan = torch.einsum("ski,bsil->bskl", self.to_scan.to(both).expand(d, -1, -1), both)
        step, state_in, state_out = scan.split([self.rank, self.state, self.state], dim=2)
        delta = torch.einsum("sir,bsrl->bsil", self.to_step.to(step).expand(d, -1, -1), step)

        prompt = self.prompt(embedded, tokens).to(state_out.dtype)[..., path // per_frame]  # (B or 1, d, N, c, l)
        prompt = torch.stack([prompt[:, 0], prompt[:, 1].flip(-1)], dim=1).expand(batch, -1, -1, -1, -1)
        state_out = self.scaled(state_out) + rearrange(prompt, "b s n c l -> (b c) s n l")

        mixed = selective_scan(
            both.reshape(-1, d * inner, steps),
            delta.reshape(-1, d * inner, steps),
            -torch.exp(self.log_decay.to(both)).expand(d, -1, -1).reshape(d * inner, self.state),
            self.scaled(state_in),
            state_out,
            self.skip.expand(d, -1).reshape(-1),
            delta_bias=self.step_bias.expand(d, -1).reshape(-1),
            delta_softplus=True,
        ).reshape(-1, d, inner, steps)
        total = mixed[:, 0] + mixed[:, 1].flip(-1)
        return rearrange(total, "(b c) i l -> b (c l) i", c=chains)[:, places]


class CarryingStateSpace(StateSpace):
    """A state space sub-block whose output is the state from the first step of training on.

    The skip D starts at zero, and the norm behind the scan brings what the state carries to size one. B and C of each
    token are divided by their root mean square, so that neither fades and the prompt is added to a C of size one. C
    starts as a copy of B: the product of C and an earlier B is then largest for similar tokens, and the state is read
    as a weighted mean of the tokens that resemble the present one.

    Args:
        dim: number of channels.
        embedding: width of the time embedding.
        order: order in which tokens are read.
        prompt: factory that makes the read-out prompt from (embedding, directions, state, content).
        state: state size N.
        expansion: ratio of the inner width to `dim`.
        shared: use the same parameters for both directions.

    Source: this project; the root mean square is that of Jamba (Lieber et al., 2024) and Falcon Mamba (2024).
    """

    def _initialize(self) -> None:
        super()._initialize()
        nn.init.zeros_(self.skip)
        with torch.no_grad():
            self.to_scan[:, self.rank + self.state :] = self.to_scan[:, self.rank : self.rank + self.state]

    def scaled(self, state_matrix: Tensor) -> Tensor:
        """Divide the N numbers of each token by their root mean square."""
        return F.rms_norm(state_matrix.transpose(2, 3), (self.state,), eps=1e-5).transpose(2, 3)


class NoState(TokenMixer):
    """The sub-block without its state: each token passes unchanged, as the skip ``D u`` alone would pass it.

    Convolution, norm, gate and projections remain, so that a comparison shows the worth of the state alone.

    Args:
        dim: number of channels.
        embedding: width of the time embedding, which is not read.
        order: order in which tokens are read, which does not matter here.
        prompt: factory of a read-out prompt, which is not made.
        state: state size, which does not matter here.
        expansion: ratio of the inner width to `dim`.
        shared: whether both directions share parameters, which does not matter here.
    """

    def __init__(
        self,
        dim: int,
        embedding: int,
        order: ScanOrder,
        prompt: PromptFactory = ThermalPrompt,
        state: int = 16,
        expansion: int = 2,
        shared: bool = False,
    ) -> None:
        super().__init__(dim, order, expansion)

    def mix(self, tokens: Tensor, embedded: Tensor, path: Tensor, places: Tensor) -> Tensor:
        """Return the tokens."""
        return tokens
