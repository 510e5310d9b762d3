"""3M-TI: the closed form of its one step, views that may be missing, what is trained and what a checkpoint holds."""

import math
from functools import partial

import pytest
import torch
from diffusers import DDPMScheduler
from torch import nn

from lit_thermal.blocks.cross_modal_attention import (
    CrossAttention,
    CrossModalSelfAttention,
    FeatureConcat,
    PixelAttention,
    SelfAttention,
)
from lit_thermal.blocks.prompt import LearnedPrompt, NoPrompt
from lit_thermal.blocks.registration import AffineRegistration, DisplacementRegistration, SimilarityRegistration
from lit_thermal.blocks.skip_connection import NoSkip, ZeroSkip
from lit_thermal.errors import InputError
from lit_thermal.losses.perceptual import NoPerceptualLoss
from lit_thermal.methods.three_m_ti.module import ThreeMTI
from lit_thermal.networks.latent_diffusion import (
    ConfiguredLatentDiffusion,
    PixelDiffusion,
    SDTurbo,
    SmallLatentDiffusion,
)
from lit_thermal.ops.resize import resize

TINY = partial(SmallLatentDiffusion, unet_widths=(16, 16), vae_widths=(8, 16), text_dim=16, head_dim=8, groups=4)

CONFIGURED = partial(ConfiguredLatentDiffusion, unet={"cross_attention_dim": 16}, vae={})


def method(**changes):
    torch.manual_seed(0)
    given = {
        "scale": 4,
        "base": TINY,
        "prompt": LearnedPrompt,
        "train": "all",
        "perceptual_loss": NoPerceptualLoss,
        "perceptual_weight": 0.0,
    }
    return ThreeMTI(**(given | changes))


def a_batch(count=2, side=8, views=1, scale=4):
    generator = torch.Generator().manual_seed(5)
    hr = torch.rand(count, 1, scale * side, scale * side, generator=generator)
    guide = torch.rand(count, views, 3, scale * side, scale * side, generator=generator)
    return {
        "lr": nn.functional.avg_pool2d(hr, scale),
        "hr": hr,
        "guide": guide if views > 1 else guide[:, 0],
        "has_lr": torch.ones(count, dtype=torch.bool),
        "has_guide": torch.ones(count, dtype=torch.bool),
        "tags": [["car"], ["person", "tree"]][:count],
        "name": [f"scene_{i}" for i in range(count)],
    }


def quietly(model):
    """The model with logging switched off, for a training step without a Trainer."""
    model.log = lambda *args, **kwargs: None
    return model


@pytest.mark.parametrize("timestep", [0, 199, 999])
def test_the_step_is_that_of_the_noise_schedule(timestep):
    scheduler = DDPMScheduler(1000, 0.00085, 0.012, "scaled_linear")
    network = method(timestep=timestep).network
    assert network.alpha == pytest.approx(float(scheduler.alphas_cumprod[timestep]), rel=1e-4)
    if timestep == 199:
        assert math.sqrt(network.alpha) == pytest.approx(0.86904436, abs=1e-6)
        assert math.sqrt(1 - network.alpha) == pytest.approx(0.49473423, abs=1e-6)


def test_the_result_is_the_decoded_closed_form():
    network = method(skip=NoSkip, attention=SelfAttention).network.eval()
    images, present, prompt = torch.rand(1, 2, 3, 32, 32), torch.ones(1, 2, dtype=torch.bool), torch.randn(1, 4, 16)
    z = network.autoencoder.vae.encode(images[0]).latent_dist.mean
    noise = network.unet(z, 199, encoder_hidden_states=prompt.expand(2, -1, -1)).sample
    clean = (z - 0.49473423 * noise) / 0.86904436
    expected = network.autoencoder.vae.decode(clean).sample
    torch.testing.assert_close(network(images, present, prompt)[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("attention", [CrossModalSelfAttention, SelfAttention, FeatureConcat, CrossAttention])
@pytest.mark.parametrize("side", [(8, 8), (5, 7)])
def test_restores_any_size(attention, side):
    model = method(attention=attention).eval()
    batch = {"lr": torch.rand(2, 1, *side), "guide": torch.rand(2, 3, 50, 60), "name": ["a", "b"]}
    restored = model.restore(batch)
    assert restored.shape == (2, 1, 4 * side[0], 4 * side[1]) and restored.isfinite().all()
    assert restored.min() >= 0 and restored.max() <= 1


@pytest.mark.parametrize("views", [1, 3])
def test_a_missing_guide_is_as_no_guide(views):
    model, batch = method().eval(), a_batch(views=views)
    alone = model.restore({key: batch[key] for key in ("lr", "name", "tags")})
    absent = batch | {
        "has_guide": torch.zeros(2, dtype=torch.bool),
        "guide": torch.full_like(batch["guide"], torch.nan),
    }
    torch.testing.assert_close(model.restore(absent), alone, atol=1e-5, rtol=0)
    assert not torch.allclose(model.restore(batch), alone, atol=1e-4)
    mixed = model.restore(batch | {"has_guide": torch.tensor([True, False])})
    torch.testing.assert_close(mixed[0], model.restore(batch)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed[1], alone[1], atol=1e-5, rtol=0)


def test_no_exchange_takes_nothing_from_the_guide():
    model, batch = method(attention=SelfAttention).eval(), a_batch()
    torch.testing.assert_close(
        model.restore(batch), model.restore(batch | {"guide": 1 - batch["guide"]}), atol=1e-6, rtol=0
    )


def test_never_reads_the_target():
    model, batch = method().eval(), a_batch()
    restored = model.restore(batch)
    assert torch.equal(model.restore(batch | {"hr": torch.full_like(batch["hr"], torch.nan)}), restored)


def test_a_sampled_latent_depends_on_the_name_alone():
    model, batch = method(latent="sample").eval(), a_batch()
    together = model.restore(batch)
    assert torch.equal(model.restore(batch), together)
    one = {k: v[1:] for k, v in batch.items()}
    torch.testing.assert_close(model.restore(one)[0], together[1], atol=1e-5, rtol=0)
    assert not torch.allclose(model.restore(batch | {"name": ["x", "y"]}), together, atol=1e-4)


def test_two_steps_of_enlargement_are_not_one():
    batch = a_batch(scale=8)
    direct, two = method(scale=8), method(scale=8, upsampling="two_step")
    one, other = direct._views(batch)[0][:, 0], two._views(batch)[0][:, 0]
    assert one.shape == other.shape == (2, 3, 64, 64)
    expected = nn.functional.interpolate(batch["lr"], (16, 16), mode="bilinear")
    expected = 2 * nn.functional.interpolate(expected, (64, 64), mode="bilinear") - 1
    torch.testing.assert_close(other[:, :1], expected)
    assert (one - other).abs().mean() > 1e-3


@pytest.mark.parametrize("guide_weight", [0.0, 1.0])
@pytest.mark.parametrize("attention", [CrossModalSelfAttention, FeatureConcat, CrossAttention])
def test_training_reaches_every_weight(attention, guide_weight):
    model = quietly(method(attention=attention, guide_weight=guide_weight, skip=partial(ZeroSkip, init=1e-2)))
    model.training_step(a_batch(), 0).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    # The posterior's spread serves sampled latents alone, and stays in the graph.
    assert not without


def test_the_loss_of_both_views_is_their_mean():
    batch = a_batch()
    model = quietly(method(guide_weight=1.0))
    images, present = model._views(batch)
    restored = model.network(images, present, model._text(batch, present))
    thermal = (restored[:, 0].mean(1, keepdim=True) - (2 * batch["hr"] - 1)).square().mean()
    guide = (restored[:, 1] - images[:, 1]).square().mean()
    torch.testing.assert_close(model.training_step(batch, 0), (thermal + guide) / 2)


@pytest.mark.parametrize("prompt", [LearnedPrompt, NoPrompt])
@pytest.mark.parametrize("attention", [CrossModalSelfAttention, FeatureConcat, CrossAttention])
def test_weights_in_half_precision(attention, prompt):
    """As with `--trainer.precision=bf16-true`, which casts weights and images."""
    model, batch = quietly(method(attention=attention, prompt=prompt, latent="sample", guide_weight=1.0)), a_batch()
    batch["has_guide"] = torch.tensor([True, False])
    exact = model.eval().restore(batch)
    rough = {key: value.bfloat16() if key in ("lr", "hr", "guide") else value for key, value in batch.items()}
    model.bfloat16()
    restored = model.restore(rough)
    assert restored.dtype == torch.float32
    torch.testing.assert_close(restored, exact, atol=0.05, rtol=0)
    model.training_step(rough, 0).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_dropped_guides_are_not_seen():
    batch = a_batch()
    model = quietly(method(drop_guide=1.0))
    loss = model.training_step(batch, 0)
    changed = model.training_step(batch | {"guide": torch.full_like(batch["guide"], torch.nan)}, 0)
    torch.testing.assert_close(loss, changed)


@pytest.fixture
def turbo(tmp_path):
    """A small model in the layout of SD-Turbo."""
    torch.manual_seed(7)
    unet, vae = SmallLatentDiffusion(
        unet_widths=(16, 16), vae_widths=(8, 16, 16, 16), text_dim=16, head_dim=8, groups=4
    ).build()
    unet.save_pretrained(tmp_path / "turbo" / "unet")
    vae.save_pretrained(tmp_path / "turbo" / "vae")
    return partial(SDTurbo, str(tmp_path / "turbo"))


@pytest.mark.parametrize("train", ["lora", "lora_and_unet"])
def test_a_checkpoint_holds_what_is_trained(turbo, train):
    model = quietly(method(base=turbo, train=train, scale=8, unet_rank=4, vae_rank=2))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(model.state_dict()) == trained
    assert not any(name.startswith("network.autoencoder.vae.encoder") for name in trained)
    assert any("lora_A" in name for name in trained) and any("skip_conv_1" in name for name in trained)
    assert (train == "lora") == all("lora" in n or "skip" in n or "prompt" in n for n in trained)
    batch = a_batch(scale=8)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        model.training_step(batch, 0).backward()
        optimizer.step()
    state = model.state_dict()
    torch.manual_seed(99)
    other = method(base=turbo, train=train, scale=8, unet_rank=4, vae_rank=2)
    other.load_state_dict(state)
    torch.testing.assert_close(other.eval().restore(batch), model.eval().restore(batch))
    with pytest.raises(RuntimeError, match="lora_A"):
        other.load_state_dict({k: v for k, v in state.items() if "lora_A" not in k})


@pytest.mark.parametrize("attention", [CrossModalSelfAttention, FeatureConcat, CrossAttention])
def test_gradient_checkpointing_changes_no_gradient(turbo, attention):
    """The views of a batch are still known when blocks run again in the backward pass."""
    batch = a_batch(scale=8) | {"has_guide": torch.tensor([True, False])}
    gradients = []
    for checkpointing in (False, True):
        model = quietly(method(base=turbo, train="lora", scale=8, attention=attention, guide_weight=1.0))
        if checkpointing:
            model.network.unet.enable_gradient_checkpointing()
            model.network.autoencoder.vae.enable_gradient_checkpointing()
        calls: list[object] = []
        block = model.network.unet.down_blocks[0].attentions[0].transformer_blocks[0]
        block.attn1.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        model.training_step(batch, 0).backward()
        assert len(calls) == 1 + checkpointing, "run again in the backward pass"
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]))
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)


def test_lora_starts_where_the_base_is(turbo):
    batch = a_batch(scale=8)
    whole = method(base=turbo, train="all", scale=8).eval()
    adapted = method(base=turbo, train="lora", scale=8).eval()
    adapted.prompt.load_state_dict(whole.prompt.state_dict())
    torch.testing.assert_close(adapted.restore(batch), whole.restore(batch), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"timestep": 1000}, "timestep"),
        ({"train": "some"}, "lora_and_unet"),
        ({"latent": "mode"}, "mean, sample"),
        ({"upsampling": "three"}, "two_step"),
        ({"perceptual_weight": -1.0}, "perceptual_weight"),
        ({"drop_guide": 1.5}, "drop_guide"),
        ({"shuffle_guide": -0.1}, "shuffle_guide"),
        ({"prediction": "image"}, "noise, residual"),
        ({"train": "lora"}, "model.train is 'lora'.*random weights of SmallLatentDiffusion.*set model.train to all"),
        ({"train": "lora_and_unet", "base": CONFIGURED}, "'lora_and_unet'.*weights of ConfiguredLatentDiffusion"),
        ({"base": partial(SDTurbo, "nowhere/at/all")}, "stabilityai/sd-turbo"),
    ],
)
def test_what_does_not_go_together(changes, said):
    with pytest.raises(InputError, match=said):
        method(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": torch.rand(2, 3, 1, 8, 8)}, "not clips"),
        ({"has_lr": torch.tensor([True, False])}, "scene_1 has no thermal image"),
        ({"guide": torch.rand(2, 3, 0, 8)}, "has no pixels"),
    ],
)
def test_bad_batches(changes, said):
    with pytest.raises(InputError, match=said):
        method().restore(a_batch() | changes)


def test_without_words_the_prompt_is_empty():
    model, batch = method(prompt=NoPrompt).eval(), a_batch()
    assert torch.equal(model.restore(batch), model.restore(batch | {"tags": [["truck"], ["road"]]}))
    prompted = method().eval()
    assert not torch.allclose(
        prompted.restore(batch), prompted.restore(batch | {"tags": [["truck"], ["road"]]}), atol=1e-6
    )


PIXELS = partial(PixelDiffusion, unet_widths=(16, 16), text_dim=16, head_dim=8)


def pixel_method(**changes):
    given = {"base": PIXELS, "attention": PixelAttention, "prediction": "residual", "upsampling": "bicubic"}
    model = method(**(given | changes))
    with torch.no_grad():
        for name, parameter in model.network.unet.named_parameters():
            if "conv2" in name or "conv_out" in name:
                parameter.normal_(std=0.05)
    return model


def test_the_residual_of_the_enlarged_input_starts_at_zero():
    model, batch = method(base=PIXELS, prediction="residual", upsampling="bicubic").eval(), a_batch()
    torch.testing.assert_close(model.restore(batch), resize(batch["lr"], (32, 32)).clamp(0, 1))


@pytest.mark.parametrize("attention", [PixelAttention, CrossModalSelfAttention])
@pytest.mark.parametrize("registration", [None, DisplacementRegistration, SimilarityRegistration, AffineRegistration])
def test_pixels_and_registration_with_missing_guides(attention, registration):
    changes = {} if registration is None else {"registration": registration}
    model, batch = pixel_method(attention=attention, **changes).eval(), a_batch(views=2)
    alone = model.restore({key: batch[key] for key in ("lr", "name", "tags")})
    batch["guide"][1] = torch.nan
    mixed = model.restore(batch | {"has_guide": torch.tensor([True, False])})
    torch.testing.assert_close(mixed[1], alone[1], atol=1e-5, rtol=0)
    assert not torch.allclose(mixed[0], alone[0], atol=1e-4)


def test_a_rejected_guide_is_as_no_guide():
    batch = a_batch()
    model = pixel_method(registration=partial(SimilarityRegistration, reject=-20.0)).eval()
    alone = model.restore({key: batch[key] for key in ("lr", "name", "tags")})
    torch.testing.assert_close(model.restore(batch), alone)


def test_training_on_pixels_reaches_every_weight_and_logs_the_registration():
    model = pixel_method(registration=SimilarityRegistration, shuffle_guide=0.5)
    logged = {}
    model.log = lambda name, value, **_: logged.update({name: value})
    model.training_step(a_batch(), 0).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert logged["train/guide_moved"] >= 0 and logged["train/guide_unexplained"] <= 0
    other = pixel_method(registration=SimilarityRegistration).eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.restore(a_batch()), model.eval().restore(a_batch()))


def test_shuffled_guides_are_those_of_the_sample_before():
    batch = a_batch() | {"has_guide": torch.tensor([True, False])}
    given = method(shuffle_guide=1.0)._shuffled(batch)
    assert torch.equal(given["guide"], batch["guide"].flip(0)) and given["has_guide"].tolist() == [False, True]
    assert method()._shuffled(batch) is batch


def test_the_visible_view_is_not_processed_where_nobody_reads_it():
    model, batch = pixel_method().eval(), a_batch()
    sizes = []
    model.network.unet.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    model.restore(batch)
    quietly(pixel_method(guide_weight=1.0)).training_step(batch, 0)
    assert sizes == [2]
