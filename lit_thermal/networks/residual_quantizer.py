"""Multi-scale residual quantisation: maps a latent to one small map of tokens for each scale, and back."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.networks.vq_autoencoder import nearest_entries

PUBLISHED_SCALES = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)
"""Sides of the token maps of VAR, VARSR and Real-IISR at 512 pixels."""
IDLE_STEPS = 25
"""Number of training steps without use after which a codebook entry is replaced."""


class ResidualQuantizer(nn.Module):
    """Quantises latents (B, dim, N, N) scale by scale with one codebook (VAR, Tian et al. 2024); N is the last scale.

    At each scale the current residual is reduced by area interpolation, replaced by the nearest entries (Euclidean),
    enlarged bicubically to N x N, passed through phi(x) = x / 2 + conv(x) / 2 and subtracted. The scales share a few
    3x3 convolutions: scale k of S uses the one whose tick is nearest to k / (S - 1), and the later one of a tie; the K
    ticks are evenly spaced from 1 / 3K to 1 - 1 / 3K. The ten published scales use 0, 0, 1, 1, 1, 2, 2, 3, 3, 3.

    Token maps are lists over the scales of int64 (B, n) with n = side * side, in row-major order. The last scale is
    treated as in Real-IISR: `accumulate` adds its codes without phi, but that sum is never decoded; `compose`, whose
    result is decoded and which `forward` trains, applies phi at every scale.

    Everything is computed in float32 at least, under autocast too.

    In training, an entry that was not the nearest to any vector of the last 25 batches, in any process, is replaced by
    one of the vectors of the current batch. New entries count as unused until they are loaded or first used, so that
    the first batch initialises the codebook.

    Args:
        entries: number of entries of the codebook.
        dim: number of values of an entry and of channels of the latent.
        scales: sides of the token maps, increasing.
        kernels: number of convolutions that the scales share.

    Attributes:
        scales: sides of the token maps.
        entries: number of entries of the codebook.
        dim: number of values of an entry.
        embedding: codebook.
        phi: convolutions that the scales share.

    Raises:
        InputError: scales are not increasing positive numbers, or a number is less than 1.
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

        The loss is that of VQ-VAE on the sum up to each scale, averaged over scales: the squared distance of the sum to
        the latent, which trains entries and phi, plus a quarter of it that keeps the encoder close to its codes.

        Returns:
            The result of `compose` for the codes, with a straight-through gradient to the latent; the loss (); the
            token maps.
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
        # The difference is zero but passes the gradient, and propagates values that are not finite.
        return total.detach() + (latent - latent.detach()), loss / len(self.scales), ids

    @torch.no_grad()
    def encode(self, latent: Tensor) -> list[Tensor]:
        """Return the token maps of latents (B, dim, N, N)."""
        return [index for _, index, _ in self._layers(_wide(latent))]

    def codes(self, ids: Sequence[Tensor]) -> list[Tensor]:
        """Return the entries (B, n, dim) of the tokens of each scale."""
        return [self.embedding(index) for index in ids]

    def inputs(self, ids: Sequence[Tensor]) -> Tensor:
        """Return the inputs of a transformer in training, from which it predicts all scales except the first.

        Args:
            ids: tokens (B, n) or codes (B, n, dim) of each scale; those of the last scale are ignored.

        Returns:
            The accumulated sum, reduced to each next scale: (B, sum of n without the first, dim), at least float32.
        """
        total: Tensor | None = None
        reduced = [_wide(self.embedding.weight.new_zeros(len(ids[0]), 0, self.dim))]
        for level in range(len(self.scales) - 1):
            total, following = self.accumulate(total, level, ids[level])
            if following is not None:
                reduced.append(following)
        return torch.cat(reduced, 1)

    def accumulate(self, total: Tensor | None, level: int, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """Add one scale to the sum, as in a step of sampling.

        Args:
            total: sum (B, dim, N, N) of the scales before; None at the first scale.
            level: index of the scale.
            ids: tokens (B, n) or codes (B, n, dim) of the scale.

        Returns:
            The sum with this scale, and its reduction (B, n, dim) to the next scale, which is None after the last
            scale. The codes of the last scale are added without phi.
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
        """Return the latent (B, dim, N, N) to decode from codes (B, n, dim) of each scale; differentiable in the codes.

        Args:
            codes: entries of the codebook, or these entries after a `lit_thermal.blocks.codebook.Codebook`.
        """
        with torch.autocast(codes[0].device.type, enabled=False):
            total = self._layer(codes[0], 0)
            for level in range(1, len(self.scales)):
                total = total + self._layer(codes[level], level)
        return total

    def usage(self) -> Tensor:
        """Return the fraction () of entries that were nearest to any vector of the last 25 training batches."""
        return (self.idle < IDLE_STEPS).float().mean()

    def _layers(self, latent: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield for each scale the vectors (B, dim, side, side) to look up, their tokens and their part of the sum."""
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
        """Count the uses of the entries, and replace entries unused for long by vectors (M, dim) of the batch."""
        used = torch.zeros_like(self.idle)
        used[ids.flatten()] = 1
        together = distributed.is_available() and distributed.is_initialized()
        if together:
            distributed.all_reduce(used, distributed.ReduceOp.MAX)
        self.idle.add_(1).mul_(1 - used)
        (dead,) = (self.idle >= IDLE_STEPS).nonzero(as_tuple=True)
        if not len(dead):
            return
        # Drawn on the CPU, so that devices agree; with more unused entries than vectors, vectors are repeated.
        order = torch.randperm(len(vectors)).repeat(-(-len(dead) // len(vectors)))[: len(dead)]
        fresh = vectors[order.to(vectors.device)].to(self.embedding.weight.dtype)
        if together:
            distributed.broadcast(fresh, 0)
        self.embedding.weight[dead] = fresh
        self.idle[dead] = 0


def _nearest_tick(level: int, levels: int, kernels: int) -> int:
    """Return the index of the tick nearest to level / (levels - 1), in integers because two of ten levels tie."""
    last, gaps = max(1, levels - 1), max(1, kernels - 1)
    distances = [
        abs(3 * kernels * level * gaps - last * (gaps + index * (3 * kernels - 2))) for index in range(kernels)
    ]
    return max(range(kernels), key=lambda index: (-distances[index], index))


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
