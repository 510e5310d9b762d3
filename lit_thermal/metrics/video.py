"""Metrics of sequences: flicker, agreement with heat conduction, the temporal profile."""

from torch import Tensor

from lit_thermal.ops.heat_equation import edge_weight, heat_residual


def temporal_difference(restored: Tensor, target: Tensor) -> Tensor:
    """Compute the mean absolute error of the change from each frame to the next.

    It is ``mean |(P_t - P_{t-1}) - (G_t - G_{t-1})|``, which is zero if the restored sequence changes as the true one
    does, whatever its constant error.

    Args:
        restored: (B, T, 1, H, W) results in [0, 1].
        target: targets of the same shape.

    Returns:
        (B, T - 1), for the frames 1 to T - 1.
    """
    return (restored.diff(dim=1) - target.diff(dim=1)).abs().mean(dim=(-3, -2, -1))


def heat_misfit(video: Tensor, target: Tensor, diffusivity: float, alpha: float, dt: float) -> Tensor:
    """Compute the mean of ``w r^2``, the residual of the heat equation away from the edges of the target.

    Compare it with the value of the target itself: a lower value means that the sequence is too smooth.

    Args:
        video: (B, T, 1, H, W) in [0, 1], T >= 3.
        target: targets of the same shape, which give the weight ``w = exp(-alpha |grad|^2)``.
        diffusivity: D in pixel^2 per unit of time.
        alpha: strength of the edge weight.
        dt: time from one frame to the next.

    Returns:
        (B, T - 2), for the frames 1 to T - 2.
    """
    weight = edge_weight(target[:, 1:-1], alpha)
    return (weight * heat_residual(video, diffusivity, dt).square()).mean(dim=(-3, -2, -1))


def temporal_profile(video: Tensor, row: int | None = None) -> Tensor:
    """Return one row of the frames over time, as an image whose vertical axis is time.

    Args:
        video: (..., T, 1, H, W).
        row: index of the row; by default the middle one.

    Returns:
        (..., T, W).
    """
    return video[..., 0, video.shape[-2] // 2 if row is None else row, :]


def profile_error(restored: Tensor, target: Tensor) -> Tensor:
    """Compute the mean absolute error of the middle row of each frame; its mean over time is that of the profile.

    Args:
        restored: (B, T, 1, H, W) results in [0, 1].
        target: targets of the same shape.

    Returns:
        (B, T).
    """
    return (temporal_profile(restored) - temporal_profile(target)).abs().mean(dim=-1)
