"""Token samplers: which codebook entries are taken, by what a network says of each."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lit_thermal.errors import InputError
from lit_thermal.generative.noise import SeededNoise


class TokenSampler(ABC):
    """Base of the family: takes one entry for each token.

    What must hold: an image's tokens depend on its own logits and its own random numbers alone; logits that are all
    the same number higher give the same entries.
    """

    @abstractmethod
    def __call__(self, logits: Tensor, noise: SeededNoise) -> Tensor:
        """Take entries.

        Args:
            logits: (B, n, entries), finite.
            noise: of the images of the batch; how many draws are taken is the sampler's choice.

        Returns:
            int64 (B, n).
        """


class Greedy(TokenSampler):
    """The likeliest entry, the first of equals; nothing is drawn (the published test: top-k with k = 1)."""

    def __call__(self, logits: Tensor, noise: SeededNoise) -> Tensor:
        """Take entries (B, n) of logits (B, n, entries)."""
        return logits.argmax(-1)


class TopKTopP(TokenSampler):
    """Draws from the likeliest entries, by their probabilities (spec of Real-IISR's inference, step 3).

    First the k likeliest stay, and what equals the last of them. Then the unlikeliest of these go, as many as have
    a probability of at most 1 - p together; the likeliest always stays.

    One draw of the noise is taken, on the CPU, so that every device draws the same.

    Args:
        k: how many entries stay, 1 or more; 0: all.
        p: probability that stays, above 0 and up to 1.
        temperature: divides the logits first.

    Raises:
        InputError: one of these is out of its range.
    """

    def __init__(self, k: int = 0, p: float = 1.0, temperature: float = 1.0) -> None:
        if k < 0 or not 0 < p <= 1 or not temperature > 0:
            raise InputError(
                f"TopKTopP with k = {k}, p = {p}, temperature = {temperature}: give a k of 0 or more, a p above 0 and "
                "up to 1, and a temperature above 0"
            )
        self.k, self.p, self.temperature = k, p, temperature

    def __call__(self, logits: Tensor, noise: SeededNoise) -> Tensor:
        """Take entries (B, n) of logits (B, n, entries)."""
        kept = self.probabilities(logits)
        # A point of the unit interval for each token; the entry whose share of the interval holds it.
        point = torch.special.ndtr(noise(kept[..., :1]))
        ends = kept.cumsum(-1)
        drawn = torch.searchsorted(ends, point * ends[..., -1:], right=True).squeeze(-1)
        # A point at the very end would name what follows the last entry that stays.
        last = kept.shape[-1] - 1 - (kept > 0).flip(-1).int().argmax(-1)
        return torch.minimum(drawn, last)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return what entries are drawn by, (B, n, entries) float32 that sums to 1 over the entries that stay."""
        scaled = logits.float() / self.temperature
        if 0 < self.k < scaled.shape[-1]:
            least = scaled.topk(self.k, dim=-1).values[..., -1:]
            scaled = scaled.masked_fill(scaled < least, -torch.inf)
        if self.p < 1:
            ascending, order = scaled.sort(dim=-1)
            goes = ascending.softmax(-1).cumsum(-1) <= 1 - self.p
            goes[..., -1] = False
            scaled = scaled.masked_fill(goes.scatter(-1, order, goes), -torch.inf)
        return scaled.softmax(-1)


def guided(positive: Tensor, negative: Tensor, guidance: float, level: int, levels: int) -> Tensor:
    """Push logits away from those of the negative class, more at finer scales: ``(1 + t) positive - t negative``.

    t grows from 0 at the first scale to `guidance` at the last, t = guidance * level / (levels - 1) (spec of
    Real-IISR's inference, step 3; its published test has a guidance of 1, VARSR's of 6).

    Args:
        positive: (B, n, entries) logits.
        negative: logits as above, of the same tokens under the negative label.
        guidance: 0 gives `positive`.
        level: index of the scale, from 0.
        levels: number of scales.
    """
    strength = guidance * level / max(1, levels - 1)
    return (1 + strength) * positive - strength * negative
