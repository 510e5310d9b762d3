"""Baselines against direct interpolation, and the tuning of their blur."""

import pytest
import torch
from torch.nn import functional as F

from lit_thermal.batch import Batch, output_times
from lit_thermal.errors import InputError
from lit_thermal.evaluation.baselines import TunedBaselines, image_baselines, reference_baseline, video_baselines
from lit_thermal.ops.resize import resize

SCALE = 4


@pytest.fixture
def batch() -> Batch:
    """Smooth moving clips: 4 frames of 10 x 12 in, 7 of 40 x 48 out."""
    generator = torch.Generator().manual_seed(0)
    coarse = F.pad(torch.rand(3, 1, 8, 9, generator=generator), (2, 2, 2, 2), mode="replicate")
    large = resize(coarse, (60, 65), border="replicate").clamp(0.05, 0.95)
    hr = torch.stack([large[..., 5 + t : 45 + t, 8:56] for t in range(7)], dim=1)
    lr = resize(hr[:, ::2], (10, 12)).clamp(0, 1)
    time = output_times(4, 2).expand(3, 7)
    return {"lr": lr, "hr": hr, "hr_time": time, "lr_time": torch.arange(4.0).expand(3, 4), "name": ["a", "b", "c"]}


def by_torch(lr: torch.Tensor, mode: str, **options: bool) -> torch.Tensor:
    flat = F.interpolate(lr.flatten(0, 1), scale_factor=SCALE, mode=mode, **options)
    return flat.view(*lr.shape[:2], *flat.shape[1:])


@pytest.mark.parametrize(
    ("name", "mode"), [("nearest", "nearest"), ("bilinear", "bilinear"), ("bicubic (a=-0.75)", "bicubic")]
)
def test_enlarging_and_blending_equal_torch(batch: Batch, name: str, mode: str) -> None:
    large = by_torch(batch["lr"], mode, **({} if mode == "nearest" else {"align_corners": False})).clamp(0, 1)
    video = video_baselines(batch["lr"], batch["hr_time"], SCALE)[f"{name} + linear blend"]
    torch.testing.assert_close(video[:, ::2], large, rtol=0, atol=2e-6)
    torch.testing.assert_close(video[:, 1::2], (large[:, :-1] + large[:, 1:]) / 2, rtol=0, atol=2e-6)
    image = image_baselines(batch["lr"][:, 0], SCALE)[name]
    torch.testing.assert_close(image, large[:, 0], rtol=0, atol=2e-6)


def test_both_bicubics_differ_and_the_matlab_one_is_the_reference(batch: Batch) -> None:
    result = video_baselines(batch["lr"], batch["hr_time"], SCALE)
    matlab = result["bicubic (a=-0.5) + linear blend"]
    assert (matlab - result["bicubic (a=-0.75) + linear blend"]).abs().max() > 1e-3
    torch.testing.assert_close(reference_baseline(batch, SCALE), matlab)
    torch.testing.assert_close(matlab[:, ::2], resize(batch["lr"], (40, 48)).clamp(0, 1), rtol=0, atol=1e-6)


def test_repeat_keeps_the_last_frame_and_cosine_passes_through_all(batch: Batch) -> None:
    result = video_baselines(batch["lr"], batch["hr_time"], SCALE)
    blend = result["bicubic (a=-0.5) + linear blend"]
    repeat = result["bicubic (a=-0.5) + repeat"]
    torch.testing.assert_close(repeat[:, 1::2], blend[:, :-1:2])
    torch.testing.assert_close(repeat[:, ::2], blend[:, ::2])
    cosine = result["bicubic (a=-0.5) + cosine"]
    torch.testing.assert_close(cosine[:, ::2], blend[:, ::2], rtol=0, atol=1e-5)
    # The weights at the first midpoint for four frames, by the formula.
    weights = torch.tensor([0.4408, 0.7120, -0.2116, 0.0588]).view(1, 4, 1, 1, 1)
    expected = (weights * resize(batch["lr"], (40, 48)).clamp(0, 1)).sum(1).clamp(0, 1)
    torch.testing.assert_close(cosine[:, 1], expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_any_temporal_scale(scale: int) -> None:
    lr = torch.rand(1, 4, 1, 5, 6)
    time = output_times(4, scale).float()[None]
    plain = video_baselines(lr, time, 2)
    for name, video in TunedBaselines(2)({"lr": lr, "hr_time": time}).items():
        assert video.shape == (1, 3 * scale + 1, 1, 10, 12)
        torch.testing.assert_close(video, plain[name], rtol=0, atol=1e-5)


def test_times_outside_the_window_are_refused() -> None:
    with pytest.raises(InputError, match="outside the input's 0 to 3"):
        video_baselines(torch.rand(1, 4, 1, 5, 5), torch.tensor([[0.0, 3.5]]), 4)


def test_tuning_leaves_clean_input_alone_and_blurs_noisy_input(batch: Batch) -> None:
    smooth = "bicubic (a=-0.5) + linear blend"
    clean = TunedBaselines(SCALE)
    clean.tune([batch])
    assert smooth not in clean.sigmas
    noise = 0.2 * torch.randn(batch["lr"].shape, generator=torch.Generator().manual_seed(1))
    noisy: Batch = {**batch, "lr": (batch["lr"] + noise).clamp(0, 1)}
    tuned = TunedBaselines(SCALE)
    tuned.tune([noisy, noisy])
    assert tuned.sigmas[smooth] > 0
    result = tuned(noisy)
    name = f"{smooth} + Gaussian {tuned.sigmas[smooth]:g}"
    before, after = ((result[key] - batch["hr"]).square().mean() for key in (smooth, name))
    assert after < 0.9 * before
    # A second tuning starts anew.
    tuned.tune([batch])
    assert tuned.sigmas == clean.sigmas


def test_tuning_looks_at_no_more_samples_than_it_says(batch: Batch) -> None:
    seen = []

    def batches() -> object:
        for _ in range(100):
            seen.append(1)
            yield batch

    TunedBaselines(SCALE).tune(batches(), samples=7)
    assert len(seen) == 3


def test_images_have_no_time(batch: Batch) -> None:
    images: Batch = {"lr": batch["lr"][:, 0], "hr": batch["hr"][:, 0]}
    tuned = TunedBaselines(SCALE)
    tuned.tune([images])
    result = tuned(images)
    assert {"nearest", "bilinear", "bicubic (a=-0.75)", "bicubic (a=-0.5)"} <= result.keys()
    assert all(image.shape == (3, 1, 40, 48) for image in result.values())
    assert all(image.min() >= 0 and image.max() <= 1 for image in result.values())
