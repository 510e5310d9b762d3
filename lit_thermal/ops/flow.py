"""Optical flow between two images: block matching on a pyramid, refined by Lucas and Kanade's least squares."""

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST = 12
"""Least side in pixels of the coarsest level of the pyramid."""


@torch.no_grad()
def optical_flow(
    first: Tensor, second: Tensor, radius: int = 2, window: int = 5, refinements: int = 3, smoothness: float = 2e-4
) -> Tensor:
    """Estimate the displacement of each pixel of `first` in `second`: ``first(p) = second(p + flow(p))``.

    On each level of a pyramid, from coarse to fine, the displacements within `radius` pixels of the coarser level's
    are compared by the mean absolute difference over a window (block matching), which finds small fast objects. Each
    level ends with steps of least squares over the same window (Lucas and Kanade), which find fractions of a pixel; a
    median and a mean over 3x3 pixels follow each step, without which neighbours drift apart. Among displacements that
    explain the images equally well, the smallest deviation is taken.

    Args:
        first: images (N, 1, H, W), any range; flow is estimated for their pixels.
        second: images (N, 1, H, W) of the same range.
        radius: displacements in pixels that are tried on each level around the coarser level's estimate.
        window: odd side in pixels of the windows that are compared.
        refinements: number of least-squares steps on each level.
        smoothness: cost of one pixel of deviation from the coarser level's estimate, as a share of the images' range.

    Returns:
        Flow (N, 2, H, W) in pixels: to the right, then down. Gradients do not pass through it.

    Raises:
        ValueError: the two are not single-channel images of one size.

    Source: Lucas and Kanade, "An iterative image registration technique", 1981; Bouguet, "Pyramidal implementation of
    the Lucas Kanade feature tracker", 2001.
    """
    if first.shape != second.shape or first.ndim != 4 or first.shape[1] != 1:
        raise ValueError(f"optical_flow takes images (N, 1, H, W) of one size, not {first.shape} and {second.shape}")
    first, second = first.float(), second.float()
    low = torch.minimum(first, second).amin((1, 2, 3), keepdim=True)
    span = (torch.maximum(first, second).amax((1, 2, 3), keepdim=True) - low).clamp(min=1e-6)
    pyramid = [((first - low) / span, (second - low) / span)]
    while min(pyramid[-1][0].shape[-2:]) >= 2 * SMALLEST:
        pyramid.append(tuple(_halved(image) for image in pyramid[-1]))  # type: ignore[arg-type]
    flow = first.new_zeros(len(first), 2, *pyramid[-1][0].shape[-2:])
    for one, two in reversed(pyramid):
        size = one.shape[-2:]
        if flow.shape[-2:] != size:
            right, down = F.interpolate(flow, size=size, mode="bilinear", align_corners=False).unbind(1)
            flow = torch.stack([right * (size[1] / flow.shape[-1]), down * (size[0] / flow.shape[-2])], dim=1)
        flow = _matched(one, two, flow, radius, window, smoothness)
        for _ in range(refinements):
            flow = _smoothed(_least_squares(one, two, flow, window))
    return flow


def sample_at(x: Tensor, flow: Tensor) -> Tensor:
    """Sample images at displaced positions: ``result(p) = x(p + flow(p))``, bilinearly, with repeated edges.

    Args:
        x: images (N, C, H, W).
        flow: displacements (N, 2, H, W) in pixels: to the right, then down.

    Returns:
        Images (N, C, H, W), differentiable in both arguments.
    """
    height, width = x.shape[-2:]
    column = torch.arange(width, device=x.device, dtype=flow.dtype) + flow[:, 0]
    row = torch.arange(height, device=x.device, dtype=flow.dtype)[:, None] + flow[:, 1]
    # pixel centres to [-1, 1], where -1 and 1 are the outer edges of the image
    grid = torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], dim=-1)
    return F.grid_sample(x, grid.to(x.dtype), mode="bilinear", padding_mode="border", align_corners=False)


def _halved(image: Tensor) -> Tensor:
    """Reduce to half the size, rounded up, each pixel the mean of four."""
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, width % 2, 0, height % 2), mode="replicate")
    return F.avg_pool2d(padded, 2)


def _over_window(x: Tensor, window: int) -> Tensor:
    """Return the mean over a window around each pixel, with repeated edges."""
    half = window // 2
    return F.avg_pool2d(F.pad(x, (half, half, half, half), mode="replicate"), window, stride=1)


def _matched(one: Tensor, two: Tensor, flow: Tensor, radius: int, window: int, smoothness: float) -> Tensor:
    """Return, for each pixel, the displacement around `flow` whose windows differ least."""
    best = best_cost = None
    for down in range(-radius, radius + 1):
        for right in range(-radius, radius + 1):
            moved = torch.stack([flow[:, 0] + right, flow[:, 1] + down], dim=1)
            cost = _over_window((one - sample_at(two, moved)).abs(), window)
            cost = cost + smoothness * (abs(right) + abs(down))
            if best is None or best_cost is None:
                best, best_cost = moved, cost
            else:
                better = cost < best_cost
                best, best_cost = torch.where(better, moved, best), torch.where(better, cost, best_cost)
    assert best is not None
    return best


def _least_squares(one: Tensor, two: Tensor, flow: Tensor, window: int) -> Tensor:
    """Take one step of Lucas and Kanade, at most one pixel long, where it lowers the difference of the windows."""
    moved = sample_at(two, flow)
    across, down = _gradient((moved + one) / 2)
    error = one - moved
    xx, xy, yy, xe, ye = _over_window(
        torch.cat([across * across, across * down, down * down, across * error, down * error], dim=1), window
    ).unbind(1)
    ridge = 1e-5  # keeps the step small where the window has no texture
    xx, yy = xx + ridge, yy + ridge
    determinant = xx * yy - xy * xy
    step = torch.stack([(yy * xe - xy * ye) / determinant, (xx * ye - xy * xe) / determinant], dim=1).clamp(-1, 1)
    stepped = flow + step
    before = _over_window(error.abs(), window)
    after = _over_window((one - sample_at(two, stepped)).abs(), window)
    return torch.where(after < before, stepped, flow)


def _gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return central differences to the right and down, per pixel."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return across, down


def _smoothed(flow: Tensor) -> Tensor:
    """Filter each component by the median over 3x3 pixels, which removes outliers, then by their mean."""
    padded = F.pad(flow, (1, 1, 1, 1), mode="replicate")
    low, middle, high = _sorted(padded[..., :-2, :], padded[..., 1:-1, :], padded[..., 2:, :])
    # The median of nine lies in the middle of: largest of the lows, median of the middles, smallest of the highs.
    lows, middles, highs = (_sorted(x[..., :-2], x[..., 1:-1], x[..., 2:]) for x in (low, middle, high))
    return _over_window(_sorted(lows[2], middles[1], highs[0])[1], 3)


def _sorted(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sort three tensors element by element."""
    less, more = torch.minimum(a, b), torch.maximum(a, b)
    return torch.minimum(less, c), torch.maximum(less, torch.minimum(more, c)), torch.maximum(more, c)
