"""Finite differences of the heat equation on image sequences."""

import torch
from torch import Tensor
from torch.nn import functional as F


def laplacian(image: Tensor) -> Tensor:
    """Return the five-point Laplacian of (..., H, W), with zero flux through the border and a grid step of 1 pixel."""
    flat = image.reshape(-1, 1, *image.shape[-2:])
    p = F.pad(flat, (1, 1, 1, 1), mode="replicate")
    lap = p[..., :-2, 1:-1] + p[..., 2:, 1:-1] + p[..., 1:-1, :-2] + p[..., 1:-1, 2:] - 4 * flat
    return lap.reshape(image.shape)


def heat_residual(video: Tensor, diffusivity: Tensor | float, dt: float) -> Tensor:
    """Return the residual ``du/dt - D lap(u)`` of the heat equation in the interior frames.

    The time derivative is the central difference over two frame steps; the Laplacian is taken in the middle frame with
    a zero-flux (Neumann) border.

    Args:
        video: frames (B, T, C, H, W) with T >= 3.
        diffusivity: diffusivity D >= 0 in pixel^2 per unit of time.
        dt: time between neighbouring frames.

    Returns:
        (B, T - 2, C, H, W).

    Raises:
        ValueError: there are fewer than three frames.
    """
    if video.shape[1] < 3:
        raise ValueError(f"the heat residual needs at least 3 frames, not {video.shape[1]}")
    change = (video[:, 2:] - video[:, :-2]) / (2 * dt)
    return change - diffusivity * laplacian(video[:, 1:-1])


def edge_weight(video: Tensor, alpha: float) -> Tensor:
    """Return the weight ``exp(-alpha |grad u|^2)``, (..., H, W) in (0, 1]: small on edges, 1 in flat regions.

    The gradient is the central difference with a replicated border.
    """
    flat = video.reshape(-1, 1, *video.shape[-2:])
    p = F.pad(flat, (1, 1, 1, 1), mode="replicate")
    dy = (p[..., 2:, 1:-1] - p[..., :-2, 1:-1]) / 2
    dx = (p[..., 1:-1, 2:] - p[..., 1:-1, :-2]) / 2
    return torch.exp(-alpha * (dx.square() + dy.square())).reshape(video.shape)
