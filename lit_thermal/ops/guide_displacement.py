"""Registration of a guide to a thermal image of other gray levels, by the residual of local regressions."""

import itertools
import math

import torch
from torch import Tensor

from lit_thermal.ops.guided_filter import local_regression
from lit_thermal.ops.resize import resize
from lit_thermal.ops.warp import translate

REACH = 2.0
"""Largest displacement along each axis that the search covers, in pixels of the input."""
GAIN = 0.05
"""Share of the residual that a displacement must save, so that noise does not move a guide that is in place."""
_RADIUS, _EPSILON = 2, 1e-3


def guide_displacement(lr: Tensor, guide: Tensor, reach: float = REACH) -> Tensor:
    """Return the displacement of each guide relative to its input, in whole pixels of the guide.

    The thermal image is regressed on the displaced and reduced guide in a window around each pixel
    (`local_regression`), which holds for any relation between the gray levels of both cameras that is locally linear.
    The displacement with the smallest mean residual is sought on a grid of half an input pixel, then refined to single
    pixels around the best. It is 0 if it does not save the share `GAIN` of the residual at 0.

    Args:
        lr: input (B, 1, h, w).
        guide: guide (B, C, H, W) whose sides are the same multiple of those of `lr`.
        reach: largest displacement along an axis, in pixels of the input.

    Returns:
        Pixels (B, 2) down and right, int64 on the CPU: the content of the enlarged `lr` at (i, j) is at
        (i + down, j + right) of `guide`.
    """
    scale = guide.shape[-1] // lr.shape[-1]
    limit = math.floor(reach * scale)
    step = max(1, scale // 2)
    lr, guide = lr.detach().float(), guide.detach().float()
    whole = [place * step for place in range(-(limit // step), limit // step + 1)]
    grid = list(itertools.product(whole, whole))
    coarse = torch.stack([_residual(lr, guide, place, reach) for place in grid], 1)
    found = torch.zeros(len(lr), 2, dtype=torch.int64)
    for sample, residuals in enumerate(coarse):
        known = dict(zip(grid, residuals.tolist(), strict=True))
        best = min(known, key=known.__getitem__)
        finer = step
        while finer > 1:
            finer = max(1, finer // 2)
            for moves in itertools.product((-finer, 0, finer), repeat=2):
                place = (best[0] + moves[0], best[1] + moves[1])
                if place not in known and max(map(abs, place)) <= limit:
                    one = slice(sample, sample + 1)
                    known[place] = float(_residual(lr[one], guide[one], place, reach))
            best = min(known, key=known.__getitem__)
        if known[best] < (1 - GAIN) * known[0, 0]:
            found[sample] = torch.tensor(best)
    return found


def registered(lr: Tensor, guide: Tensor, reach: float = REACH) -> Tensor:
    """Move each guide (B, C, H, W) to its place beside `lr` by `guide_displacement`, with repeated edges."""
    places = guide_displacement(lr, guide, reach).tolist()
    return torch.stack([translate(each, -right, -down) for each, (down, right) in zip(guide, places, strict=True)])


def _residual(lr: Tensor, guide: Tensor, place: tuple[int, int], reach: float) -> Tensor:
    """Return the mean residual (B,) at a displacement, without the border that some displacement fills."""
    down, right = place
    small = resize(translate(guide, -right, -down), (lr.shape[-2], lr.shape[-1]))
    residual = local_regression(lr, small, _RADIUS, _EPSILON).residual
    border = math.ceil(reach)
    if min(lr.shape[-2:]) > 4 * border:
        residual = residual[..., border:-border, border:-border]
    return residual.mean((1, 2, 3))
