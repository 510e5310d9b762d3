"""Token samplers: choose codebook entries from the logits of a network."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lit_thermal.errors import InputError
from lit_thermal.generative.noise import SeededNoise


class TokenSampler(ABC):
    """Base of the family: chooses one entry for each token.

    In subclasses the tokens of an image must depend only on its own logits and random numbers, and adding a constant to
    all logits must not change the entries.
    """

    @abstractmethod
    def __call__(self, logits: Tensor, noise: SeededNoise) -> Tensor:
        """Choose entries.

        Args:
            logits: finite logits (B, n, entries).
            noise: noise of the images of the batch; a sampler may use any number of draws.

        Returns:
            Indices of entries, int64 (B, n).
        """


class Greedy(TokenSampler):
    """Chooses the most likely entry, the first in a tie, without noise (the published test: top-k with k = 1)."""

    def __call__(self, logits: Tensor, noise: SeededNoise) -> Tensor:
        """Choose entries (B, n) from logits (B, n, entries)."""
        return logits.argmax(-1)


class TopKTopP(TokenSampler):
    """Draws from the most likely entries by their probabilities (spec of Real-IISR's inference, step 3).

    First the k most likely entries are kept, including ties with the last of them. Then the least likely of these are
    removed as long as their total probability is at most 1 - p; the most likely entry is always kept.

    One draw of the noise is used. It is made on the CPU, so that all devices draw the same.

    Args:
        k: number of entries that are kept, at least 1; 0 keeps all.
        p: probability mass that is kept, greater than 0 and at most 1.
        temperature: divisor of the logits, greater than 0.

    Raises:
        InputError: an argument is out of range.
    """

    def __init__(self, k: int = 0, p: float = 1.0, temperature: float = 1.0) -> None:
        if k < 0 or not 0 < p <= 1 or not temperature > 0:
            raise InputError(
                f"TopKTopP with k = {k}, p = {p}, temperature = {temperature}: give a k of 0 or more, a p above 0 and "
                "up to 1, and a temperature above 0"
            )
        self.k, self.p, self.temperature = k, p, temperature

    def __call__(self, logits: Tensor, noise: SeededNoise) -> Tensor:
        """Choose entries (B, n) from logits (B, n, entries)."""
        kept = self.probabilities(logits)
        # A random point of the unit interval for each token selects the entry whose share of the interval contains it.
        point = torch.special.ndtr(noise(kept[..., :1]))
        ends = kept.cumsum(-1)
        drawn = torch.searchsorted(ends, point * ends[..., -1:], right=True).squeeze(-1)
        # A point at the very end would select an entry after the last one that is kept.
        last = kept.shape[-1] - 1 - (kept > 0).flip(-1).int().argmax(-1)
        return torch.minimum(drawn, last)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities (B, n, entries) of drawing entries, float32, which are 0 for removed entries."""
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

    The factor t grows from 0 at the first scale to `guidance` at the last, t = guidance * level / (levels - 1) (spec of
    Real-IISR's inference, step 3; its published test uses a guidance of 1, VARSR's of 6).

    Args:
        positive: logits (B, n, entries) under the positive label.
        negative: logits (B, n, entries) of the same tokens under the negative label.
        guidance: strength of the guidance at the last scale; 0 returns `positive`.
        level: index of the scale, from 0.
        levels: number of scales.
    """
    strength = guidance * level / max(1, levels - 1)
    return (1 + strength) * positive - strength * negative
