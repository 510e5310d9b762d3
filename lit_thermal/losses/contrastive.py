"""Contrastive losses: pull vectors of the same scene together and push vectors of different scenes apart."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError

_LEAST_NORM = 1e-4
"""Vectors shorter than this are not scaled to length 1, because the gradient at a zero vector is unbounded."""


class ContrastiveLoss(nn.Module, ABC):
    """Base of the family: a scalar loss of N pairs of vectors, where row i of one input belongs to row i of the other.

    In subclasses the order of the pairs must not matter. With fewer than two pairs the loss must be a zero that stays
    in the graph of its inputs, so that every process of a distributed run has gradients.
    """

    @abstractmethod
    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Return the scalar loss of vectors (N, D) of one camera and (N, D) of the other."""


class NTXent(ContrastiveLoss):
    """Normalised temperature-scaled cross entropy: the contrastive term C of CoReFusion, from SimCLR.

    Each of the 2N vectors is classified among the other 2N - 1 by cosine similarity divided by the temperature, with
    its partner as the target; the loss is the mean of the 2N cross entropies. It is between 0 and ``2 / temperature +
    log(2N - 1)`` and is computed in float32 at least.

    With `gather`, the pairs of all processes form one batch; processes may have different numbers of pairs, or none.
    Every process must then call the loss, which returns the loss of the whole batch. The gradient of a process's own
    vectors is multiplied by the number of processes, because DDP divides by it. The averaged gradients thereby equal
    those of one process with all pairs, and nothing is exchanged in the backward pass.

    Args:
        temperature: divisor of the similarities, greater than 0; smaller values sharpen the softmax. The released code
            uses 0.5; the paper gives no value.
        gather: contrast with the pairs of all processes of a distributed run instead of only the process's own.

    Source: Chen et al., "A simple framework for contrastive learning of visual representations", 2020.
    """

    def __init__(self, temperature: float = 0.5, gather: bool = False) -> None:
        super().__init__()
        if not temperature > 0:
            raise InputError(f"temperature must be positive, not {temperature}")
        self.temperature = temperature
        self.gather = gather

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Return the scalar loss of vectors (N, D) of one camera and (N, D) of the other, with any norm and any N.

        Raises:
            InputError: the shapes differ or are not (N, D).
        """
        if z1.shape != z2.shape or z1.ndim != 2:
            raise InputError(f"NTXent needs pairs of vectors, not {tuple(z1.shape)} and {tuple(z2.shape)}")
        with torch.autocast(z1.device.type, enabled=False):
            precise = torch.promote_types(z1.dtype, torch.float32)
            pairs = torch.stack([F.normalize(z.to(precise), eps=_LEAST_NORM) for z in (z1, z2)], dim=1)
            processes = distributed.get_world_size() if self.gather and _is_distributed() else 1
            if processes > 1:
                pairs = _with_pairs_of_other_processes(pairs)
            if len(pairs) < 2:
                return (0 * pairs).sum()
            loss = self._cross_entropy(pairs)
            # This has the value of the loss and `processes` times its gradient.
            return loss.detach() + processes * (loss - loss.detach())

    def _cross_entropy(self, pairs: Tensor) -> Tensor:
        """Return the mean cross entropy of N pairs of unit vectors, (N, 2, D)."""
        vectors = torch.cat([pairs[:, 0], pairs[:, 1]])
        count = len(vectors)
        rows = torch.arange(count, device=vectors.device)
        logits = vectors @ vectors.T / self.temperature
        itself = torch.eye(count, dtype=torch.bool, device=vectors.device)
        return F.cross_entropy(logits.masked_fill(itself, -torch.inf), rows.roll(count // 2))


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _with_pairs_of_other_processes(pairs: Tensor) -> Tensor:
    """Return the pairs (N, 2, D) of all processes in rank order; those of this process keep their gradient."""
    counts = [torch.zeros(1, dtype=torch.long, device=pairs.device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, torch.tensor([len(pairs)], device=pairs.device))
    most = int(torch.cat(counts).max())
    # Collectives need the same shape in all processes.
    padded = pairs.new_zeros(most, *pairs.shape[1:])
    padded[: len(pairs)] = pairs.detach()
    gathered = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(gathered, padded)
    parts = [part[: int(count)] for part, count in zip(gathered, counts, strict=True)]
    parts[distributed.get_rank()] = pairs
    return torch.cat(parts)
