"""Multi-scale residual quantisation: a latent becomes one small map of tokens for each scale, and comes back."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.networks.vq_autoencoder import nearest_entries

PUBLISHED_SCALES = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)
"""Sides of the token maps of VAR, VARSR and Real-IISR at 512 pixels."""
IDLE_STEPS = 25
"""Training steps after which an entry that no vector was nearest to starts anew."""


class ResidualQuantizer(nn.Module):
    """Quantises latents (B, dim, N, N) scale by scale with one codebook (VAR, Tian et al. 2024), N the last scale.

    At each scale what is still missing is reduced by area interpolation, replaced by the nearest entries (Euclidean),
    enlarged bicubically to N x N, passed through phi(x) = x / 2 + conv(x) / 2 and subtracted. A few 3x3 convolutions
    are shared: scale k of S uses the one whose tick is nearest to k / (S - 1), of equals the later; K ticks lie evenly
    from 1 / 3K to 1 - 1 / 3K. For the ten published scales that is 0, 0, 1, 1, 1, 2, 2, 3, 3, 3.

    Token maps are lists over the scales of int64 (B, n) with n = side * side, row by row. The last scale is treated as
    in Real-IISR: `accumulate` adds its codes as they are, and no one decodes that sum; `compose`, whose result is
    decoded and which is what `forward` trains, applies phi at every scale.

    Everything is computed in float32 at least, under autocast too.

    In training, an entry that no vector of the last 25 batches was nearest to, in any process, starts anew as one of
    the vectors that this batch looked up. Until it is loaded or first used an entry counts as one of those, so that the
    first batch makes the codebook.

    Args:
        entries: of the codebook.
        dim: values of an entry, and channels of the latent.
        scales: sides of the token maps, increasing.
        kernels: convolutions that the scales share.

    Attributes:
        scales: sides of the token maps.
        entries: of the codebook.
        dim: values of an entry.
        embedding: the codebook.
        phi: the convolutions.

    Raises:
        InputError: scales are no increasing positive numbers, or a number is less than 1.
    """

    idle: Tensor

    def __init__(
        self, entries: int = 4096, dim: int = 32, scales: Sequence[int] = PUBLISHED_SCALES, kernels: int = 4
    ) -> None:
        super().__init__()
        if not scales or any(side <= before for before, side in zip((0, *scales), scales, strict=False)):
            raise InputError(f"scales {list(scales)} of the tokenizer: give the sides of its token maps, increasing")
        for name, value in (("entries", entries), ("dim", dim), ("kernels", kernels)):
            if value < 1:
                raise InputError(f"{name} {value} of the tokenizer: give 1 or more")
        self.scales, self.entries, self.dim = tuple(scales), entries, dim
        self.embedding = nn.Embedding(entries, dim)
        nn.init.uniform_(self.embedding.weight, -1 / entries, 1 / entries)
        self.phi = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in range(kernels))
        self._kernel = [_nearest_tick(level, len(scales), kernels) for level in range(len(scales))]
        self.register_buffer("idle", torch.full((entries,), IDLE_STEPS))

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Quantise latents (B, dim, N, N) for the training of an autoencoder.

        The loss is that of VQ-VAE on the sum up to each scale, mean over scales: squared distance of the sum to the
        latent, which trains entries and phi, and a quarter of the same, which keeps the encoder near its codes.

        Returns:
            What `compose` gives for the codes, with the gradient passed to the latent unchanged (straight-through);
            the loss (); the token maps.
        """
        latent = _wide(latent)
        total, loss = torch.zeros_like(latent), latent.new_zeros(())
        ids, vectors = [], []
        for query, index, layer in self._layers(latent):
            total = total + layer
            loss = loss + F.mse_loss(total, latent.detach()) + 0.25 * F.mse_loss(latent, total.detach())
            ids.append(index)
            vectors.append(query.flatten(2).mT.flatten(0, 1))
        if self.training:
            self._restart(torch.cat(ids, 1), torch.cat(vectors))
        # the difference is zero in value: what is not finite shows, and the gradient passes
        return total.detach() + (latent - latent.detach()), loss / len(self.scales), ids

    @torch.no_grad()
    def encode(self, latent: Tensor) -> list[Tensor]:
        """Return the token maps of latents (B, dim, N, N)."""
        return [index for _, index, _ in self._layers(_wide(latent))]

    def codes(self, ids: Sequence[Tensor]) -> list[Tensor]:
        """Return the entries (B, n, dim) of the tokens of each scale."""
        return [self.embedding(index) for index in ids]

    def inputs(self, ids: Sequence[Tensor]) -> Tensor:
        """Return what a transformer is fed in training to predict all scales but the first.

        Args:
            ids: of each scale tokens (B, n), or codes (B, n, dim) in their place; the last scale's are not read.

        Returns:
            Reductions of the sum so far to each next scale, (B, sum of n without the first, dim), float32 at least.
        """
        total: Tensor | None = None
        reduced = [_wide(self.embedding.weight.new_zeros(len(ids[0]), 0, self.dim))]
        for level in range(len(self.scales) - 1):
            total, following = self.accumulate(total, level, ids[level])
            if following is not None:
                reduced.append(following)
        return torch.cat(reduced, 1)

    def accumulate(self, total: Tensor | None, level: int, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """Add one scale to the sum: a step of sampling.

        Args:
            total: sum (B, dim, N, N) of the scales before; None at the first.
            level: index of the scale.
            ids: its tokens (B, n), or codes (B, n, dim).

        Returns:
            The sum with this scale, and its reduction (B, n, dim) to the next one; None after the last, whose codes are
            added without phi.
        """
        codes = ids if ids.is_floating_point() else self.embedding(ids)
        with torch.autocast(codes.device.type, enabled=False):
            if level == len(self.scales) - 1:
                layer = self._map(codes, level)
                return (layer if total is None else total + layer), None
            layer = self._layer(codes, level)
            total = layer if total is None else total + layer
            return total, F.interpolate(total, self.scales[level + 1], mode="area").flatten(2).mT

    def compose(self, codes: Sequence[Tensor]) -> Tensor:
        """Return the latent (B, dim, N, N) to decode, of codes (B, n, dim) of each scale; differentiable in them.

        Args:
            codes: entries of the codebook, or what a `lit_thermal.blocks.codebook.Codebook` makes of them.
        """
        with torch.autocast(codes[0].device.type, enabled=False):
            total = self._layer(codes[0], 0)
            for level in range(1, len(self.scales)):
                total = total + self._layer(codes[level], level)
        return total

    def usage(self) -> Tensor:
        """Return the share () of entries that a vector of the last 25 training batches was nearest to."""
        return (self.idle < IDLE_STEPS).float().mean()

    def _layers(self, latent: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield of each scale the vectors (B, dim, side, side) to look up, their tokens and their part of the sum."""
        missing = latent.detach()
        with torch.autocast(latent.device.type, enabled=False):
            for level, side in enumerate(self.scales):
                query = F.interpolate(missing, side, mode="area")
                index = nearest_entries(query, self.embedding.weight).flatten(1)
                layer = self._layer(self.embedding(index), level)
                yield query, index, layer
                missing = missing - layer.detach()

    def _layer(self, codes: Tensor, level: int) -> Tensor:
        """Return the part (B, dim, N, N) of codes (B, n, dim) in the sum, with phi."""
        x = self._map(codes, level)
        if x.shape[-1] != self.scales[-1]:
            x = F.interpolate(x, self.scales[-1], mode="bicubic")
        conv = self.phi[self._kernel[level]]
        return 0.5 * x + 0.5 * conv(x.to(self.embedding.weight.dtype))

    def _map(self, codes: Tensor, level: int) -> Tensor:
        side = self.scales[level]
        return _wide(codes).mT.unflatten(2, (side, side))

    @torch.no_grad()
    def _restart(self, ids: Tensor, vectors: Tensor) -> None:
        """Count who was used, and put vectors (M, dim) of the batch in the place of entries that were not for long."""
        used = torch.zeros_like(self.idle)
        used[ids.flatten()] = 1
        together = distributed.is_available() and distributed.is_initialized()
        if together:
            distributed.all_reduce(used, distributed.ReduceOp.MAX)
        self.idle.add_(1).mul_(1 - used)
        (dead,) = (self.idle >= IDLE_STEPS).nonzero(as_tuple=True)
        if not len(dead):
            return
        # drawn on the CPU, so that devices agree; with more dead entries than vectors, some are taken twice
        order = torch.randperm(len(vectors)).repeat(-(-len(dead) // len(vectors)))[: len(dead)]
        fresh = vectors[order.to(vectors.device)].to(self.embedding.weight.dtype)
        if together:
            distributed.broadcast(fresh, 0)
        self.embedding.weight[dead] = fresh
        self.idle[dead] = 0


def _nearest_tick(level: int, levels: int, kernels: int) -> int:
    """Return which of the ticks is nearest to level / (levels - 1), in whole numbers because two of ten levels tie."""
    last, gaps = max(1, levels - 1), max(1, kernels - 1)
    distances = [
        abs(3 * kernels * level * gaps - last * (gaps + index * (3 * kernels - 2))) for index in range(kernels)
    ]
    return max(range(kernels), key=lambda index: (-distances[index], index))


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
