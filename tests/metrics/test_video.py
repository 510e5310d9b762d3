"""Measures of sequences against direct formulas and analytic sequences."""

import math

import pytest
import torch

from lit_thermal.metrics import heat_misfit, profile_error, temporal_difference, temporal_profile


def cosine_decay(diffusivity: float, frames: int = 5, size: int = 16) -> torch.Tensor:
    """A cosine mode of the half-sample grid that decays exactly as the five-point scheme says, (1, T, 1, H, W)."""
    x = torch.arange(size, dtype=torch.float64) + 0.5
    mode = torch.cos(math.pi * 2 * x / size)[None, :] * torch.cos(math.pi * x / size)[:, None]
    rate = diffusivity * (4 - 2 * math.cos(2 * math.pi / size) - 2 * math.cos(math.pi / size))
    time = torch.arange(frames, dtype=torch.float64)
    return (0.5 + 0.3 * torch.exp(-rate * time)[:, None, None] * mode)[None, :, None]


def test_temporal_difference_ignores_a_constant_error_and_sees_flicker() -> None:
    target = torch.rand(2, 5, 1, 6, 7)
    torch.testing.assert_close(temporal_difference(target + 0.1, target), torch.zeros(2, 4), rtol=0, atol=1e-6)
    flicker = target + 0.01 * torch.tensor([1.0, -1, 1, -1, 1]).view(1, 5, 1, 1, 1)
    torch.testing.assert_close(temporal_difference(flicker, target), torch.full((2, 4), 0.02), rtol=0, atol=1e-6)


def test_heat_misfit_vanishes_for_conduction_with_the_right_diffusivity() -> None:
    video = cosine_decay(0.2)
    right, wrong = (heat_misfit(video, video, d, 100.0, 1.0) for d in (0.2, 0.1))
    assert right.shape == (1, 3)
    # What is left is the error of the central difference in time, of the order rate^3.
    assert right.max() < 1e-4 * wrong.min()


def test_heat_misfit_of_one_pixel_by_hand() -> None:
    video = torch.full((1, 3, 1, 5, 5), 0.5, dtype=torch.float64)
    video[0, 1, 0, 2, 2] = 0.6
    video[0, 2, 0, 2, 2] = 0.8
    flat = torch.full_like(video, 0.5)  # weight 1 everywhere
    residual = torch.zeros(5, 5, dtype=torch.float64)
    residual[2, 2] = 0.3 / 2 + 0.1 * 0.4
    for i, j in ((1, 2), (3, 2), (2, 1), (2, 3)):
        residual[i, j] = -0.1 * 0.1
    found = heat_misfit(video, flat, 0.1, 100.0, 1.0)
    torch.testing.assert_close(found, residual.square().mean().view(1, 1))


def test_temporal_profile_is_the_row_over_time() -> None:
    video = torch.rand(2, 4, 1, 6, 9)
    profile = temporal_profile(video)
    assert profile.shape == (2, 4, 9)
    for b in range(2):
        for t in range(4):
            assert torch.equal(profile[b, t], video[b, t, 0, 3])
    assert torch.equal(temporal_profile(video, row=0)[1, 2], video[1, 2, 0, 0])


def test_profile_error_is_the_mean_absolute_error_of_the_profiles() -> None:
    restored, target = torch.rand(2, 4, 1, 6, 9), torch.rand(2, 4, 1, 6, 9)
    expected = (temporal_profile(restored) - temporal_profile(target)).abs().mean(dim=(-2, -1))
    torch.testing.assert_close(profile_error(restored, target).mean(dim=1), expected)
    assert profile_error(restored, target)[1, 3].item() == pytest.approx(
        (restored[1, 3, 0, 3] - target[1, 3, 0, 3]).abs().mean().item()
    )
