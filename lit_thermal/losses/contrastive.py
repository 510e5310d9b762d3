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
        return self._contrast(torch.cat([pairs[:, 0], pairs[:, 1]]))

    def _contrast(self, vectors: Tensor, others: Tensor | None = None) -> Tensor:
        """Return the mean cross entropy of 2N unit vectors (2N, D), the second half the partners of the first.

        Args:
            vectors: unit vectors of one camera, then those of the other.
            others: similarities (2N, M) to vectors that are no partners, divided by the temperature.
        """
        count = len(vectors)
        rows = torch.arange(count, device=vectors.device)
        logits = vectors @ vectors.T / self.temperature
        itself = torch.eye(count, dtype=torch.bool, device=vectors.device)
        logits = logits.masked_fill(itself, -torch.inf)
        return F.cross_entropy(logits if others is None else torch.cat([logits, others], 1), rows.roll(count // 2))


class QueueNTXent(NTXent):
    """NT-Xent that also contrasts with the pairs of earlier steps (ours, for batches too small to be a task).

    Each of the 2N vectors is classified among the other 2N - 1 and the `size` latest pairs of both cameras, which have
    no gradient. Until the queue is full, fewer are used. It is part of the state, so that a resumed training continues
    with the same queue; with several processes, all use that of the first one.

    Args:
        temperature: divisor of the similarities, as in `NTXent`.
        size: number of pairs that are kept.
        width: length of the vectors, that of the projection head.

    Source: He et al., "Momentum contrast for unsupervised visual representation learning", 2020 (the queue; the encoder
    that fills it is the trained one itself).
    """

    queue: Tensor
    used: Tensor

    def __init__(self, temperature: float = 0.5, size: int = 256, width: int = 64) -> None:
        super().__init__(temperature)
        if min(size, width) < 1:
            raise InputError(f"QueueNTXent has size {size} and width {width}; both must be at least 1")
        self.register_buffer("queue", torch.zeros(size, 2, width))
        self.register_buffer("used", torch.zeros(size, dtype=torch.bool))

    def _cross_entropy(self, pairs: Tensor) -> Tensor:
        """Return the mean cross entropy of N pairs of unit vectors, (N, 2, D), and put them into the queue."""
        if pairs.shape[-1] != self.queue.shape[-1]:
            raise InputError(
                f"QueueNTXent has width {self.queue.shape[-1]} and gets vectors of {pairs.shape[-1]}; give the width "
                "of the projection head"
            )
        vectors = torch.cat([pairs[:, 0], pairs[:, 1]])
        earlier = self.queue.to(vectors).flatten(0, 1)
        others = (vectors @ earlier.T / self.temperature).masked_fill(~self.used.repeat_interleave(2), -torch.inf)
        loss = self._contrast(vectors, others)
        size = len(self.queue)
        self.queue = torch.cat([pairs.detach().to(self.queue), self.queue])[:size]
        self.used = torch.cat([torch.ones(len(pairs), dtype=torch.bool, device=self.used.device), self.used])[:size]
        return loss


def found_share(z1: Tensor, z2: Tensor) -> Tensor:
    """Return the share of vectors (N, D) whose own partner is the most similar of the other camera's; NaN if N is 0.

    Chance is 1 / N. It is counted in both directions, and has no gradient.
    """
    with torch.no_grad():
        alike = F.normalize(z1.float(), dim=1) @ F.normalize(z2.float(), dim=1).T
        own = torch.arange(len(alike), device=alike.device)
        hits = [similarity.argmax(1) == own for similarity in (alike, alike.T)] if len(alike) else [own.bool()]
        return torch.cat(hits).float().mean()


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
