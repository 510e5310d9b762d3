"""Refiners: what the tokens of an image leave out of its latent."""

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.generative.noise import SeededNoise

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

STATES = 1000
"""Of the diffusion, from nearly clean to nearly noise."""
SPREAD = 0.6
"""What residuals are divided by."""
FREQUENCIES = 256
"""Sines and cosines that tell the number of a state."""


class Refiner(nn.Module, ABC):
    """Base of the family: draws the residual of a latent at each place, given what the transformer says of it.

    What must hold: places are drawn independently given their conditions; each image's draw depends on its own
    condition and noise alone; state and loss are finite whatever the residual.

    Args:
        dim: channels of the latent.
        width: channels of the condition.

    Attributes:
        weight: of `loss` in a training; 0 where there is none.
    """

    weight: float = 0.0

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()

    @abstractmethod
    def loss(self, condition: Tensor, residual: Tensor) -> Tensor:
        """Return the loss () of residuals (B, n, dim) at conditions (B, n, width), which gets a gradient too."""

    @abstractmethod
    def draw(self, condition: Tensor, noise: SeededNoise) -> Tensor | None:
        """Draw residuals.

        Args:
            condition: (B, n, width).
            noise: of the images of the batch.

        Returns:
            (B, n, dim); None where tokens are decoded alone.
        """


class NoRefiner(Refiner):
    """The image is that of its tokens (Real-IISR).

    Args:
        dim: channels of the latent.
        width: channels of the condition.
    """

    def loss(self, condition: Tensor, residual: Tensor) -> Tensor:
        """Return zero."""
        return residual.new_zeros(())

    def draw(self, condition: Tensor, noise: SeededNoise) -> None:
        """Draw nothing."""


class DiffusionRefiner(Refiner):
    """Draws the residual by a small diffusion model at each place (VARSR, after MAR's diffusion loss).

    An MLP sees one place of a noisy residual, the number of the state, and the layer norm of the condition; it
    predicts the noise and how much is added in a step, between the least and the most of DDPM. It is trained with
    ``mean squared error of the noise + variational bound`` (improved DDPM), where the bound, a thousandth of its sum
    over all states in bits per value, trains the variance alone. At the first state it is the negative log density
    of the continuous residual, where improved DDPM takes that of 8-bit values.

    The 1000 states are those of the cosine schedule. A chain of S steps starts from noise at state 1000 - 1000 / S
    (ours; at the very last state so little of the residual is left, 5e-5, that a chain would enlarge the network's
    error as much).

    At its defaults and 32 and 1536 channels the MLP has 36.6 million parameters, as VARSR's.

    Args:
        dim: channels of the latent.
        width: channels of the condition.
        hidden: channels of the MLP.
        blocks: residual blocks of the MLP.
        steps: of the chain that draws, 2 or more and a divisor of 1000.
        repeats: states that each residual is trained at in one step.
        weight: of the loss.

    Raises:
        InputError: a number is out of range.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        hidden: int = 1024,
        blocks: int = 6,
        steps: int = 10,
        repeats: int = 4,
        weight: float = 2.0,
    ) -> None:
        super().__init__(dim, width)
        for name, value in (("hidden", hidden), ("blocks", blocks), ("repeats", repeats)):
            if value < 1:
                raise InputError(f"{name} {value} of DiffusionRefiner: give 1 or more")
        if steps < 2 or STATES % steps:
            raise InputError(f"steps {steps} of DiffusionRefiner: give 2 or more, a divisor of its {STATES} states")
        if weight < 0:
            raise InputError(f"weight {weight} of DiffusionRefiner: give 0 or more")
        self.steps, self.repeats, self.weight = steps, repeats, weight
        self.norm = nn.LayerNorm(width)
        self.denoiser = ResidualDenoiser(dim, width, hidden, blocks)

    def loss(self, condition: Tensor, residual: Tensor) -> Tensor:
        """Return the loss () of residuals (B, n, dim) at conditions (B, n, width); states and noise are drawn."""
        clean = _wide(residual).repeat(self.repeats, 1, 1) / SPREAD
        # on the CPU, where the tables are
        t = torch.randint(STATES, clean.shape[:2])
        noise = torch.randn_like(clean)
        signal, spread = (table.to(clean)[..., None] for table in amplitudes(t))
        condition = self.norm(condition).repeat(self.repeats, 1, 1)
        output = _wide(self.denoiser(signal * clean + spread * noise, t.to(clean.device), condition))
        predicted, share = output.chunk(2, dim=-1)
        return F.mse_loss(predicted, noise) + variational_bound((predicted - noise).detach(), share, t)

    @torch.no_grad()
    def draw(self, condition: Tensor, noise: SeededNoise) -> Tensor:
        """Draw residuals (B, n, dim) at conditions (B, n, width), by a chain from noise."""
        scheduler = _scheduler()
        scheduler.set_timesteps(self.steps)
        condition = self.norm(condition)
        # one for each image, which the scheduler takes and its type does not tell
        generators = cast("torch.Generator", noise.generators)
        # The scheduler wants channels before places.
        x = noise(_wide(condition).new_empty(len(condition), self.denoiser.dim, condition.shape[1]))
        for t in scheduler.timesteps.tolist():
            output = self.denoiser(x.mT, torch.full((1, 1), t, device=x.device), condition)
            x = scheduler.step(_wide(output).mT, t, x, generators, return_dict=False)[0]
        return SPREAD * x.mT


class ResidualDenoiser(nn.Module):
    """MLP of single places, modulated by the state's number and a condition (adaptive layer norm).

    The output starts at zero, and blocks change nothing at first.

    Args:
        dim: channels of what is denoised.
        width: channels of the condition.
        hidden: channels in between.
        blocks: residual blocks.
    """

    def __init__(self, dim: int, width: int, hidden: int, blocks: int) -> None:
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps

        super().__init__()
        self.dim = dim
        self.embed = nn.Linear(dim, hidden)
        self.condition = nn.Linear(width, hidden)
        self.frequencies = Timesteps(FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(FREQUENCIES, hidden)
        self.blocks = nn.ModuleList(DenoiserBlock(hidden) for _ in range(blocks))
        self.modulation = nn.Linear(hidden, 2 * hidden)
        self.out = nn.Linear(hidden, 2 * dim)
        for layer in (self.modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Denoise.

        Args:
            x: (B, n, dim).
            t: number of the state of each place, (B, n) or (1, 1).
            condition: (B, n, width).

        Returns:
            (B, n, 2 dim): noise, and share of the variance as `variational_bound` takes it.
        """
        weight = self.embed.weight
        time = self.time(self.frequencies(t.flatten()).to(weight.dtype)).unflatten(0, t.shape)
        known = F.silu(time + self.condition(condition.to(weight.dtype)))
        h = self.embed(x.to(weight.dtype))
        for block in self.blocks:
            h = block(h, known)
        scale, shift = self.modulation(known).chunk(2, dim=-1)
        return self.out(_normed(h, scale, shift))


class DenoiserBlock(nn.Module):
    """Modulated norm, linear, SiLU, linear and a gate, added to the input: ``x + gate * mlp(norm(x))``.

    Args:
        hidden: channels.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.modulation = nn.Linear(hidden, 3 * hidden)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """(B, n, hidden) to the same shape; `known` too has it, or one row for all places."""
        scale, shift, gate = self.modulation(known).chunk(3, dim=-1)
        return x + gate * self.mlp(_normed(x, scale, shift))


def amplitudes(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the amplitudes of signal and noise in states t (...) on the CPU, float64."""
    kept = _kept()[t]
    return kept.sqrt(), (1 - kept).sqrt()


def variational_bound(error: Tensor, share: Tensor, t: Tensor) -> Tensor:
    """What a denoiser's variance costs: the mean over places and values of the bound's part at their states, in bits.

    At state t > 0 that is the Kullback-Leibler divergence of DDPM's step with a known residual from the denoiser's;
    at state 0 the negative log density of the residual. The logarithm of a step's variance lies at ``(share + 1) / 2``
    on the way from that of the known residual to that of the noise between the two states; that of state 1 stands
    for the missing first.

    Args:
        error: (B, n, dim) predicted noise less the true one.
        share: (B, n, dim).
        t: (B, n) states, on the CPU.

    Returns:
        Scalar.
    """
    kept = _kept()
    before = torch.cat([kept.new_ones(1), kept[:-1]])
    beta = 1 - kept / before
    least = (beta * (1 - before) / (1 - kept)).log()
    least[0] = least[1]
    # by how much the mean of a step moves with the noise
    moves = beta / ((1 - beta) * (1 - kept)).sqrt()
    low, high, factor = (table[t].to(error)[..., None] for table in (least, beta.log(), moves))
    chosen = low + (share + 1) / 2 * (high - low)
    missed = (factor * error).square() * torch.exp(-chosen)
    divergence = chosen - low - 1 + torch.exp(low - chosen) + missed
    density = math.log(2 * math.pi) + chosen + missed
    first = (t == 0).to(error.device)[..., None]
    return torch.where(first, density, divergence).mean() / (2 * math.log(2))


def _scheduler() -> "DDPMScheduler":
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    return DDPMScheduler(STATES, beta_schedule="squaredcos_cap_v2", variance_type="learned_range", clip_sample=False)


def _kept() -> Tensor:
    """Share of the residual's variance in each state, float64."""
    return (1 - _scheduler().betas.double()).cumprod(0)


def _normed(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
