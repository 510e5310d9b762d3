"""Baselines that use the guide: tuning, samples without a guide, and registration."""

import torch
from torch import Tensor

from lit_thermal.batch import Batch
from lit_thermal.evaluation.baselines import REFERENCE, TunedBaselines
from lit_thermal.evaluation.guided_baselines import BACK_PROJECTIONS, FILTERS, SHARES, GuidedBaselines
from lit_thermal.metrics.quality import psnr
from lit_thermal.ops.blur import gaussian_blur
from lit_thermal.ops.guided_filter import guided_filter
from lit_thermal.ops.resize import resize
from lit_thermal.ops.warp import translate


def batch(samples: int = 2, shift: int = 0) -> Batch:
    """Targets of 48 x 56 that are linear in their guides, at a scale of 4."""
    noise = torch.rand(samples, 1, 48, 56, generator=torch.Generator().manual_seed(0))
    detail = gaussian_blur(noise, 1.5)
    detail = (detail - detail.min()) / (detail.max() - detail.min())
    hr = 0.8 - 0.6 * detail
    guide = translate(detail.expand(-1, 3, -1, -1), shift, 0).contiguous()
    return {
        "lr": resize(hr, (12, 14)).clamp(0, 1),
        "hr": hr,
        "guide": guide,
        "has_lr": torch.ones(samples, dtype=torch.bool),
        "has_guide": torch.ones(samples, dtype=torch.bool),
        "name": [str(i) for i in range(samples)],
    }


def tuned(given: Batch) -> GuidedBaselines:
    baselines = GuidedBaselines(4)
    baselines.measure(given)
    baselines.choose()
    return baselines


def filtered(given: Batch, setting: dict[str, float]) -> Tensor:
    return guided_filter(given["lr"], given["guide"], **setting)  # type: ignore[arg-type]


def quality(result: Tensor, given: Batch) -> float:
    return float(psnr(result, given["hr"]).mean())


def test_the_chosen_setting_is_the_best_of_all():
    given = batch()
    baselines = tuned(given)
    plain = resize(given["lr"], (48, 56)).clamp(0, 1)
    best = max(
        quality(
            torch.lerp(plain, guided_filter(given["lr"], given["guide"], **setting, back_projections=n), share).clamp(
                0, 1
            ),
            given,
        )
        for setting in FILTERS["guided filter"][1]
        for n in BACK_PROJECTIONS
        for share in SHARES
    )
    found = quality(baselines(given)["guided filter"], given)
    assert abs(found - best) < 1e-3 and found > quality(plain, given) + 2
    assert set(baselines.settings["guided filter"]) == {"radius", "epsilon", "back_projections", "share"}


def test_a_sample_without_a_guide_is_the_bicubic_enlargement_and_its_content_is_not_read():
    given = batch()
    given["guide"][1], given["has_guide"][1] = float("nan"), False
    result = TunedBaselines(4)(given)
    for name in ("guided filter", "joint bilateral filter, registered"):
        torch.testing.assert_close(result[name][1], result[REFERENCE][1])
        assert result[name].isfinite().all() and not torch.equal(result[name][0], result[REFERENCE][0])
    given["has_guide"][:] = False
    torch.testing.assert_close(TunedBaselines(4)(given)["guided filter"], result[REFERENCE])


def test_a_sample_without_an_input_is_left_out():
    given = batch()
    given["lr"][0], given["has_lr"][0] = 0.0, False
    result = TunedBaselines(4)(given)["guided filter"]
    assert result[0].isnan().all() and result[1].isfinite().all()


def test_registration_saves_a_displaced_guide():
    baselines = tuned(batch())
    moved = batch(shift=6)
    result = baselines(moved)
    assert quality(result["guided filter, registered"], moved) > quality(result["guided filter"], moved) + 1


def test_video_and_other_data_have_none():
    given = batch()
    del given["guide"]
    assert GuidedBaselines(4)(given) == {} and tuned(given).settings == {}
