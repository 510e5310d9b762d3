"""Registration of a guide to a small thermal image: the warp after which a local regression explains most of it."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.ops.blur import gaussian_blur
from lit_thermal.ops.local_regression import NOISE, unexplained
from lit_thermal.ops.resize import resize

FINE = 4
"""Samples of the guide per pixel of the thermal image during the search."""
BLUR = 0.3
"""Blur of the guide in pixels of the thermal image, so that it is as sharp as the thermal image."""
PENALTY = 0.04
"""Cost of a warp that moves edges by one pixel more or less than the centre.

Without it, the search takes a little scaling and rotation for a mere displacement.
"""
STARTS, HALVINGS = 3, 14
"""Candidates that are refined, and rounds of the refinement; a round improves or halves the step."""


class Found(NamedTuple):
    """Warps of a batch of guides."""

    matrix: Tensor
    """(B, 3, 3): maps positions in the thermal image to those in the guide, in guide pixels from the centre, (x, y)."""
    unexplained: Tensor
    """(B,): mean logarithm of the share of the thermal variance that is not explained, at most 0."""


@torch.no_grad()
def find_warp(thermal: Tensor, guide: Tensor, freedoms: int, reach: float = 2.0, noise: float = NOISE) -> Found:
    """Find the warps of guides that let a local regression explain most of the thermal images.

    A grid of displacements, scalings and rotations is searched first; the best candidates are then refined by a pattern
    search over all freedoms. Windows that show anything outside the guide, or an area that is black in it, count for
    nothing. Nothing waits for the device.

    Args:
        thermal: (B, 1, h, w) in [0, 1], with at least 5 pixels a side.
        guide: (B, 3, H, W) in [0, 1], whose sides are the same multiple of those of `thermal`.
        freedoms: 2 for a displacement, 4 for a similarity (scaling and rotation too), 6 for an affine warp.
        reach: largest displacement along an axis in the grid, in pixels of the thermal image.
        noise: standard deviation of values that counts as unexplained.

    Raises:
        ValueError: `freedoms` is none of the three, or the thermal image is too small.
    """
    height, width = thermal.shape[-2:]
    if freedoms not in (2, 4, 6) or min(height, width) < 5:
        raise ValueError(
            f"find_warp takes 2, 4 or 6 freedoms, not {freedoms}, and 5 pixels a side, not {height, width}"
        )
    with torch.autocast(thermal.device.type, enabled=False):
        search = _Search(thermal.float(), guide.float(), freedoms, noise)
        number = math.ceil(reach)
        steps = [torch.arange(-number, number + 1.0) * (reach / max(1, number))] * 2
        edges = [torch.tensor([-1.25, 0.0, 1.25])] * min(2, freedoms - 2)
        grid = torch.cartesian_prod(*steps, *edges).to(thermal.device)
        grid = F.pad(grid, (0, freedoms - grid.shape[1])).expand(len(thermal), -1, -1)
        cost, first = search.cost(grid).topk(min(STARTS, grid.shape[1]), largest=False)
        places = grid.gather(1, first.unsqueeze(-1).expand(-1, -1, freedoms))
        cost, places = _refined(search, cost, places)
        matrix = search.matrix(places)
        scale = guide.shape[-1] / width
        units = torch.tensor([[1.0, 1.0, scale], [1.0, 1.0, scale], [1 / scale, 1 / scale, 1.0]], device=matrix.device)
        return Found(matrix * units, search.left(places.unsqueeze(1)).squeeze(1))


def warp_each(x: Tensor, matrix: Tensor) -> Tensor:
    """Warp each image (B, C, H, W) by its own matrix (B, 3, 3), as `Found.matrix`; edges are repeated."""
    height, width = x.shape[-2:]
    with torch.autocast(x.device.type, enabled=False):
        grid = _positions(height, width, matrix) @ matrix.mT
        grid = grid[..., :2] / grid[..., 2:] * torch.tensor([2 / width, 2 / height], device=x.device)
        wide = torch.promote_types(x.dtype, torch.float32)
        warped = F.grid_sample(
            x.to(wide), grid.to(wide).unflatten(1, (height, width)), padding_mode="border", align_corners=False
        )
    return warped.to(x.dtype)


class _Search:
    """The cost of warps, which are given as displacements of the centre and of the edges in thermal pixels."""

    def __init__(self, thermal: Tensor, guide: Tensor, freedoms: int, noise: float) -> None:
        self.thermal, self.noise = thermal, noise
        self.height, self.width = thermal.shape[-2:]
        size = (FINE * self.height, FINE * self.width)
        seen = (guide.amax(1, keepdim=True) > 0).float()
        layers = torch.cat([resize(guide.mean(1, keepdim=True), size), resize(seen, size, kernel="linear")], 1)
        self.layers = gaussian_blur(layers, BLUR * FINE)
        edge = 2 / min(self.height, self.width)
        basis = torch.zeros(6, 3, 3)
        basis[0, 0, 2] = basis[1, 1, 2] = 1.0
        basis[2, 0, 0] = basis[2, 1, 1] = edge
        basis[3, 0, 1], basis[3, 1, 0] = -edge, edge
        basis[4, 0, 0], basis[4, 1, 1] = edge, -edge
        basis[5, 0, 1] = basis[5, 1, 0] = edge
        self.basis = basis[:freedoms].to(thermal.device)
        self.points = _positions(self.height, self.width, thermal)
        self.half = torch.tensor([self.width / 2, self.height / 2], device=thermal.device)

    def matrix(self, places: Tensor) -> Tensor:
        """Return the matrices (..., 3, 3) of `places` (..., freedoms)."""
        return torch.eye(3, device=places.device) + torch.einsum("...n,nij->...ij", places, self.basis)

    def cost(self, places: Tensor) -> Tensor:
        """Return the costs (B, K) of `places` (B, K, freedoms)."""
        return self.left(places) + PENALTY * places[..., 2:].abs().sum(-1)

    def left(self, places: Tensor) -> Tensor:
        """Return the mean unexplained share (B, K), as a logarithm."""
        samples, count = places.shape[:2]
        grid = (self.points @ self.matrix(places).mT)[..., :2] / self.half
        inside = (grid.abs() <= 1).all(-1).view(samples, count, self.height, self.width)
        taken = F.grid_sample(
            self.layers, grid.view(samples, count * self.height, self.width, 2), padding_mode="border",
            align_corners=False,
        )  # fmt: skip
        guide, seen = taken.unflatten(2, (count, self.height)).unbind(1)
        share = unexplained(self.thermal, guide, self.noise)
        valid = (F.avg_pool2d(seen * inside, 3, stride=1) > 0.99).to(share)
        return (share * valid).sum((-1, -2)) / valid.sum((-1, -2)).clamp(min=1)


def _refined(search: _Search, cost: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lowest cost (B,) and its place (B, freedoms) near `places` (B, S, freedoms) of the costs (B, S)."""
    samples, starts, freedoms = places.shape
    unit = torch.eye(freedoms, device=places.device)
    ways = torch.cat([unit, -unit])
    step = torch.full((samples, starts, 1), 0.5, device=places.device)
    for _ in range(HALVINGS):
        tried = places.unsqueeze(2) + step.unsqueeze(-1) * ways
        least, which = search.cost(tried.flatten(1, 2)).unflatten(1, (starts, len(ways))).min(-1)
        better = (least < cost).unsqueeze(-1)
        moved = tried.gather(2, which[..., None, None].expand(-1, -1, 1, freedoms)).squeeze(2)
        places, cost = torch.where(better, moved, places), torch.minimum(least, cost)
        step = torch.where(better, step, step / 2)
    cost, which = cost.min(1)
    return cost, places.gather(1, which[:, None, None].expand(-1, 1, freedoms)).squeeze(1)


def _positions(height: int, width: int, like: Tensor) -> Tensor:
    """Return the homogeneous positions (H * W, 3) of pixels from the centre of an image, (x, y, 1)."""
    y = torch.arange(height, device=like.device).to(like.dtype) - (height - 1) / 2
    x = torch.arange(width, device=like.device).to(like.dtype) - (width - 1) / 2
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows, torch.ones_like(rows)], -1).flatten(0, 1)
