from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_thermal.blocks.fusion import ConcatFusion, GatedFusion
from lit_thermal.blocks.image_encoder import TimmEncoder
from lit_thermal.errors import InputError
from lit_thermal.losses.contrastive import NTXent
from lit_thermal.losses.psnr import PooledPSNR
from lit_thermal.losses.similarity import PooledStructuralSimilarity
from lit_thermal.methods.corefusion.module import CoReFusion

SMALL = partial(TimmEncoder, "test_resnet")


def model(seed=0, **options) -> CoReFusion:
    torch.manual_seed(seed)
    given = {"guide_encoder": SMALL, "thermal_encoder": SMALL, "decoder_channels": (16, 16, 8, 8, 8)} | options
    made = CoReFusion(**given)
    made.log = lambda *args, **kwargs: None
    return made


def trained(**options) -> CoReFusion:
    """A model whose output really differs from its base."""
    made = model(**options)
    nn.init.normal_(made.network.output.weight, std=0.1)
    return made.eval()


def batch(samples=4, size=(8, 10), scale=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    large = (scale * size[0], scale * size[1])
    return {
        "lr": torch.rand(samples, 1, *size, generator=g),
        "hr": torch.rand(samples, 1, *large, generator=g),
        "guide": torch.rand(samples, 3, *large, generator=g),
        "has_lr": torch.ones(samples, dtype=torch.bool),
        "has_guide": torch.ones(samples, dtype=torch.bool),
        "name": [f"image{i}" for i in range(samples)],
    }


def mixed():
    """Complete, thermal only, visible only, complete; what is absent is NaN."""
    given = batch()
    given["has_guide"][1] = given["has_lr"][2] = False
    given["guide"][1] = given["lr"][2] = float("nan")
    return given


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_an_untrained_residual_model_returns_the_enlarged_input(mode):
    given = batch()
    corners = {} if mode == "nearest" else {"align_corners": False}
    enlarged = F.interpolate(given["lr"], scale_factor=8.0, mode=mode, **corners).clamp(0, 1)
    restored = model(head="residual", upsampling=mode).eval().restore(given)
    assert torch.allclose(restored, enlarged, atol=1e-6)


def test_restoring_never_reads_the_target():
    made, given = trained(), batch()
    expected = made.restore(given)
    given["hr"] = torch.full_like(given["hr"], float("nan"))
    assert torch.equal(made.restore(given), expected)


@pytest.mark.parametrize("head", ["direct", "residual"])
def test_samples_of_a_mixed_batch_are_restored_as_alone_and_what_is_absent_is_not_read(head):
    made, given = trained(head=head), mixed()
    together = made.restore(given)
    assert together.isfinite().all() and together.shape == given["hr"].shape
    for i in range(4):
        alone = {k: v[i : i + 1] for k, v in given.items()}
        assert torch.allclose(made.restore(alone), together[i : i + 1], atol=1e-5)


def test_data_without_guides_are_thermal_only():
    made, given = trained(), batch()
    without = made.restore({"lr": given["lr"]})
    given["has_guide"][:] = False
    assert torch.equal(without, made.restore(given))


def test_a_sample_without_any_picture_is_named():
    given = mixed()
    given["has_lr"][1] = False
    with pytest.raises(InputError, match="image1 has neither"):
        trained().restore(given)


def test_a_guide_of_another_resolution_is_resized_and_of_another_field_of_view_refused():
    made, given = trained(), batch()
    larger = F.interpolate(given["guide"], scale_factor=3.0, mode="bicubic")
    smaller = F.interpolate(larger, given["guide"].shape[-2:], mode="bilinear", antialias=True)
    assert torch.equal(made.restore(given | {"guide": larger}), made.restore(given | {"guide": smaller}))
    with pytest.raises(InputError, match="fields of view"):
        made.restore(given | {"guide": given["guide"][..., :60]})
    with pytest.raises(InputError, match="one visible image"):
        made.restore(given | {"guide": given["guide"][:, None]})


def test_video_is_refused():
    given = batch()
    with pytest.raises(InputError, match=r"CoReFusion takes images, .* not clips"):
        trained().restore({"lr": given["lr"][:, None]})


def gradients(made: CoReFusion) -> set[str]:
    return {n.split(".")[0] for n, p in made.network.named_parameters() if p.grad is not None and p.grad.any()}


def test_all_parts_learn_and_each_weight_of_the_loss_counts():
    made, given = model().train(), batch()
    made.training_step(given, 0).backward()
    whole = {"guide_encoder", "thermal_encoder", "guide_head", "thermal_head", "decoder", "output"}
    assert gradients(made) == whole
    plain = float(model(beta=0.0).train().training_step(given, 0).detach())
    for name in ("pixel_weight", "ssim_weight", "psnr_weight"):
        assert model(beta=0.0, **{name: 5.0}).train().training_step(given, 0) > plain


def test_the_loss_is_the_papers_sum():
    seen = {}
    made, given = model().train(), batch()
    made.log = lambda name, value, **_: seen.__setitem__(name, float(value.detach()))
    loss = float(made.training_step(given, 0).detach())
    terms = [seen[f"train/{name}_loss"] for name in ("pixel", "ssim", "psnr", "contrastive")]
    assert loss == pytest.approx(terms[0] + 0.1 * terms[1] + 0.1 * terms[2] + terms[3], rel=1e-5)
    assert seen["train/psnr"] == pytest.approx(40 * (1 - terms[2]), rel=1e-5)
    assert seen["train/ssim"] == pytest.approx(1 - terms[1], rel=1e-5)
    assert seen["train/loss"] == pytest.approx(loss)


def test_beta_zero_leaves_the_heads_out():
    made = model(beta=0.0).train()
    made.training_step(batch(), 0).backward()
    optimized = {id(p) for group in made.parameter_groups() for p in group["params"]}
    assert not any("_head." in n for n, p in made.named_parameters() if id(p) in optimized)
    assert not gradients(made) & {"guide_head", "thermal_head"}


def test_contrastive_pretraining_trains_the_encoders_and_heads_alone():
    made = model(pixel_weight=0.0, ssim_weight=0.0, psnr_weight=0.0).train()
    made.training_step(batch(), 0).backward()
    assert gradients(made) == {"guide_encoder", "thermal_encoder", "guide_head", "thermal_head"}
    assert not any(p.requires_grad for p in made.network.decoder.parameters())


@pytest.mark.parametrize("fusion", [ConcatFusion, GatedFusion])
@pytest.mark.parametrize("missing", ["guide", "lr", "mixed"])
def test_every_parameter_gets_a_gradient_whatever_is_missing(missing, fusion):
    """Or DDP would wait for one that never comes."""
    made, given = model(fusion=fusion).train(), mixed()
    if missing != "mixed":
        given = batch()
        given[f"has_{missing}"][:] = False
        given[missing][:] = float("nan")
    loss = made.training_step(given, 0)
    loss.backward()
    assert loss.isfinite()
    assert {n for n, p in made.named_parameters() if p.requires_grad and p.grad is None} == set()


def test_one_complete_sample_has_no_contrast():
    seen = {}
    made, given = model().train(), batch()
    given["has_guide"][1:] = False
    made.log = lambda name, value, **_: seen.__setitem__(name, float(value))
    assert made.training_step(given, 0).isfinite() and seen["train/contrastive_loss"] == 0


def test_dropping_cameras_leaves_each_sample_one():
    made = model(drop_guide=0.3, drop_thermal=0.4)
    present = torch.ones(4000, dtype=torch.bool)
    torch.manual_seed(0)
    has_guide, has_thermal = made._drop(present, present)
    assert (has_guide | has_thermal).all()
    assert 0.27 < float((~has_guide).float().mean()) < 0.33 and 0.37 < float((~has_thermal).float().mean()) < 0.43
    alone = torch.zeros(4000, dtype=torch.bool)
    assert made._drop(alone, present)[1].all() and made._drop(present, alone)[0].all(), "never the last one"


def test_released_forms_and_other_losses_train():
    made = model(
        ssim_loss=PooledStructuralSimilarity, psnr_loss=PooledPSNR, contrastive_loss=partial(NTXent, 0.1), scale=4
    ).train()
    assert made.training_step(batch(scale=4, size=(12, 12)), 0).isfinite()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"beta": -1.0}, "model.beta is -1"),
        ({"pixel_weight": 0.0, "ssim_weight": 0.0, "psnr_weight": 0.0, "beta": 0.0}, "all weights"),
        ({"drop_guide": 0.7, "drop_thermal": 0.4}, "sum is at most 1"),
        ({"upsampling": "lanczos"}, "upsampling"),
        ({"head": "none"}, "model.head is"),
        ({"activation": "GELU"}, "model.activation is"),
        ({"decoder_channels": (8, 8)}, "decoder_channels"),
    ],
)
def test_wrong_arguments(options, sentence):
    with pytest.raises(InputError, match=sentence):
        model(**options)
