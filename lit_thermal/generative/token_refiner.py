"""Refiners: draw the residual between an image's latent and the latent of its tokens."""

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
"""Number of states of the diffusion, from nearly clean to nearly noise."""
SPREAD = 0.6
"""Divisor of the residuals."""
FREQUENCIES = 256
"""Number of sines and cosines that encode the index of a state."""


class Refiner(nn.Module, ABC):
    """Base of the family: draws the residual of a latent at each position, given features of the transformer.

    In subclasses positions must be drawn independently given their conditions, the draw of an image must depend only on
    its own condition and noise, and state and loss must be finite for any residual.

    Args:
        dim: number of channels of the latent.
        width: number of channels of the condition.

    Attributes:
        weight: weight of `loss` in training; 0 if there is no loss.
    """

    weight: float = 0.0

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()

    @abstractmethod
    def loss(self, condition: Tensor, residual: Tensor) -> Tensor:
        """Return the loss () of residuals (B, n, dim) at conditions (B, n, width); conditions get a gradient too."""

    @abstractmethod
    def draw(self, condition: Tensor, noise: SeededNoise) -> Tensor | None:
        """Draw residuals.

        Args:
            condition: features of the transformer (B, n, width).
            noise: noise of the images of the batch.

        Returns:
            Residuals (B, n, dim), or None if only the tokens are decoded.
        """


class NoRefiner(Refiner):
    """No refinement: the image is decoded from its tokens only (Real-IISR).

    Args:
        dim: number of channels of the latent.
        width: number of channels of the condition.
    """

    def loss(self, condition: Tensor, residual: Tensor) -> Tensor:
        """Return zero."""
        return residual.new_zeros(())

    def draw(self, condition: Tensor, noise: SeededNoise) -> None:
        """Return None."""


class DiffusionRefiner(Refiner):
    """Draws the residual with a small diffusion model at each position (VARSR, after MAR's diffusion loss).

    An MLP takes one position of a noisy residual, the index of the state, and the layer norm of the condition. It
    predicts the noise and the variance of a step, between DDPM's smallest and largest. It is trained with
    ``mean squared error of the noise + variational bound`` (improved DDPM), where the bound, a thousandth of its sum
    over all states in bits per value, trains only the variance. At the first state the bound is the negative log
    density of the continuous residual, where improved DDPM uses that of 8-bit values.

    The 1000 states are those of the cosine schedule. A chain of S steps starts from noise at state 1000 - 1000 / S.
    This is our choice: at the very last state only 5e-5 of the residual's variance is left, so a chain from there would
    strongly amplify the network's error.

    With the defaults and 32 and 1536 channels the MLP has 36.6 million parameters, as in VARSR.

    Args:
        dim: number of channels of the latent.
        width: number of channels of the condition.
        hidden: number of channels of the MLP.
        blocks: number of residual blocks of the MLP.
        steps: number of steps of the chain, at least 2 and a divisor of 1000.
        repeats: number of states at which each residual is trained in one step.
        weight: weight of the loss, at least 0.

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
        # Indices are drawn on the CPU, where the tables are.
        t = torch.randint(STATES, clean.shape[:2])
        noise = torch.randn_like(clean)
        signal, spread = (table.to(clean)[..., None] for table in amplitudes(t))
        condition = self.norm(condition).repeat(self.repeats, 1, 1)
        output = _wide(self.denoiser(signal * clean + spread * noise, t.to(clean.device), condition))
        predicted, share = output.chunk(2, dim=-1)
        return F.mse_loss(predicted, noise) + variational_bound((predicted - noise).detach(), share, t)

    @torch.no_grad()
    def draw(self, condition: Tensor, noise: SeededNoise) -> Tensor:
        """Draw residuals (B, n, dim) at conditions (B, n, width) by a chain that starts from noise."""
        scheduler = _scheduler()
        scheduler.set_timesteps(self.steps)
        condition = self.norm(condition)
        # The scheduler accepts one generator per image, although its type annotation does not say so.
        generators = cast("torch.Generator", noise.generators)
        # The scheduler needs channels before positions.
        x = noise(_wide(condition).new_empty(len(condition), self.denoiser.dim, condition.shape[1]))
        for t in scheduler.timesteps.tolist():
            output = self.denoiser(x.mT, torch.full((1, 1), t, device=x.device), condition)
            x = scheduler.step(_wide(output).mT, t, x, generators, return_dict=False)[0]
        return SPREAD * x.mT


class ResidualDenoiser(nn.Module):
    """MLP on single positions, modulated by the state's index and a condition (adaptive layer norm).

    At initialisation the output is zero and blocks are the identity.

    Args:
        dim: number of channels of the denoised residual.
        width: number of channels of the condition.
        hidden: number of channels inside the MLP.
        blocks: number of residual blocks.
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
        """Predict the noise and the variance of noisy residuals.

        Args:
            x: noisy residuals (B, n, dim).
            t: index of the state of each position, (B, n) or (1, 1).
            condition: normalised condition (B, n, width).

        Returns:
            (B, n, 2 dim): the noise, and the share of the variance as in `variational_bound`.
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
    """Residual block of modulated norm, linear, SiLU, linear and a gate: ``x + gate * mlp(norm(x))``.

    Args:
        hidden: number of channels.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.modulation = nn.Linear(hidden, 3 * hidden)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """Map (B, n, hidden) to the same shape; `known` has that shape too, or one row for all positions."""
        scale, shift, gate = self.modulation(known).chunk(3, dim=-1)
        return x + gate * self.mlp(_normed(x, scale, shift))


def amplitudes(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the amplitudes of signal and noise at states t (...), float64 on the CPU."""
    kept = _kept()[t]
    return kept.sqrt(), (1 - kept).sqrt()


def variational_bound(error: Tensor, share: Tensor, t: Tensor) -> Tensor:
    """Return the variational bound that trains the variance, in bits: the mean over positions and values.

    At state t > 0 the bound is the Kullback-Leibler divergence between DDPM's step with a known residual and the
    denoiser's step; at state 0 it is the negative log density of the residual. The log variance of a step is
    interpolated by ``(share + 1) / 2`` from that of the posterior with a known residual to that of the noise added
    between the two states. State 0 has no posterior variance and uses that of state 1.

    Args:
        error: predicted minus true noise (B, n, dim).
        share: position between the two log variances (B, n, dim), nominally in [-1, 1].
        t: states (B, n), on the CPU.

    Returns:
        Scalar loss.
    """
    kept = _kept()
    before = torch.cat([kept.new_ones(1), kept[:-1]])
    beta = 1 - kept / before
    least = (beta * (1 - before) / (1 - kept)).log()
    least[0] = least[1]
    # Derivative of a step's mean with respect to the noise.
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
    """Return the remaining share of the residual's variance at each state, float64."""
    return (1 - _scheduler().betas.double()).cumprod(0)


def _normed(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
