"""Real-IISR as a method: any size, what is drawn, losses and where their gradients go, groups, tokenizer files."""

from functools import partial

import pytest
import torch

from lit_thermal.blocks.codebook import ConditionAdaptiveCodebook, StaticCodebook
from lit_thermal.blocks.condition_map_encoder import ConvStackEncoder
from lit_thermal.blocks.thermal_structure import ThermalStructuralGuidance
from lit_thermal.errors import InputError
from lit_thermal.generative.token_refiner import DiffusionRefiner, NoRefiner
from lit_thermal.generative.token_sampler import TopKTopP
from lit_thermal.methods.real_iisr.module import RealIISR
from lit_thermal.methods.real_iisr.network import NEGATIVE, POSITIVE
from lit_thermal.methods.real_iisr.tokenizer import (
    RealIISRTokenizer,
    enlarged,
    load_tokenizer,
    reconstruct,
    tokenizer_terms,
)
from lit_thermal.networks.multi_scale_vqvae import MultiScaleVQVAE

ENCODER = partial(ConvStackEncoder, widths=[8, 8, 8])
TOKENIZER = partial(MultiScaleVQVAE, 8, [1, 1, 1, 1], 1, 4, 16, [1, 2, 4], groups=1)
"""Of 32 x 32 pixels and a factor of 8: tiles of 8 x 8 input pixels."""


def make(**options) -> RealIISR:
    torch.manual_seed(0)
    given = {
        "tokenizer": TOKENIZER,
        "depth": 2,
        "width": 16,
        "heads": 2,
        "drop_path": 0.0,
        "encoder": ENCODER,
        "structure": partial(ThermalStructuralGuidance, encoder=ENCODER),
        "overlap": 2,
    }
    model = RealIISR(**given | options).eval()
    # gates and head open, so that what is predicted depends on the image
    transformer = model.network.transformer
    with torch.no_grad():
        transformer.head.weight.mul_(100)
        for block in transformer.blocks:
            block.modulation.bias.fill_(0.5)
    return model


def batch(count=2, height=8, width=8, scale=4):
    lr = torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(1))
    names = [f"{i}" for i in range(count)]
    return {"lr": lr, "hr": enlarged(lr, scale), "name": names}


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 7), (8, 13), (21, 9), (2, 30)])
def test_any_size_is_restored(height, width):
    restored = make().restore(batch(2, height, width))
    assert restored.shape == (2, 1, 4 * height, 4 * width)
    assert restored.min() >= 0 and restored.max() <= 1


def test_a_tile_is_restored_as_it_is_alone():
    model, images = make(overlap=0), batch(1, 16, 16)
    whole = model.restore(images)
    parts = [model.restore({"lr": images["lr"][..., :8, left : left + 8], "name": ["0"]}) for left in (0, 8)]
    assert torch.allclose(whole[..., :32, :], torch.cat(parts, -1), atol=1e-6)


def test_an_image_does_not_depend_on_its_batch_or_on_the_target():
    model, images = make(sampler=TopKTopP, colour_fix="none"), batch(3, 10, 12)
    together = model.restore(images)
    for i, name in enumerate(images["name"]):
        alone = model.restore({"lr": images["lr"][i : i + 1], "name": [name]})
        assert torch.allclose(alone, together[i : i + 1], atol=1e-5)


def test_less_than_a_token_is_refused():
    with pytest.raises(InputError, match="0 has 1 x 9 pixels, less than one token"):
        make().restore(batch(1, 9, 1))


def test_clips_are_refused():
    with pytest.raises(InputError, match="not clips"):
        make().restore({"lr": torch.rand(1, 3, 1, 8, 8), "name": ["a"]})


def test_the_colour_fix_gives_the_moments_of_the_enlarged_input():
    images = batch(2)
    fixed, plain = (make(colour_fix=fix).restore(images) for fix in ("adain", "none"))
    wanted = images["hr"]
    assert torch.allclose(fixed.mean((-2, -1)), wanted.mean((-2, -1)), atol=0.02)
    assert (plain.mean((-2, -1)) - wanted.mean((-2, -1))).abs().max() > 0.02


def test_guidance_needs_no_more_than_the_other_label():
    images = batch(2)
    assert torch.equal(make(guidance=0.0).restore(images), make().restore(images))
    assert not torch.equal(
        make(guidance=50.0, colour_fix="none").restore(images), make(colour_fix="none").restore(images)
    )


def gradients(model, terms, name):
    (total,) = [terms[name]]
    model.zero_grad()
    total.backward(retain_graph=True)
    return {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


@pytest.mark.parametrize("decoding", ["straight_through", "soft", "argmax"])
def test_pixel_error_trains_the_transformer_unless_by_argmax(decoding):
    model, images = make(decoding=decoding), batch(4)
    terms = model._terms(images["hr"], images["hr"].flip(-1))
    reached = gradients(model, terms, "pixel")
    assert not any(name.startswith("network.tokenizer") for name in reached)
    assert ("network.transformer.head.weight" in reached) == (decoding != "argmax")
    assert "network.codebook.U" in reached and "network.encoder.conv_in.weight" in reached


def test_the_cross_entropy_is_of_the_targets_tokens():
    model, images = make(), batch(3)
    terms = model._terms(images["hr"], images["hr"].flip(-1))
    network = model.network
    ids = network.tokenizer.tokens(2 * images["hr"].flip(-1).expand(-1, 3, -1, -1) - 1)
    prefix = network.encode_condition(2 * images["hr"].expand(-1, 3, -1, -1) - 1)
    logits = network.logits(prefix, torch.full((3,), POSITIVE), ids)
    expected = -torch.stack(
        [logits.log_softmax(-1)[i, j, torch.cat(ids, 1)[i, j]] for i in range(3) for j in range(21)]
    )
    assert torch.allclose(terms["cross_entropy"], expected.mean(), atol=1e-5)


def test_negatives_have_the_input_for_their_target():
    images, other = batch(4), torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    seen = []
    model = make(negatives=1.0)
    model.network.features = lambda prefix, label, ids: seen.append((label, ids)) or torch.zeros(4, 21, 16)
    model._terms(images["hr"], other)
    ((label, ids),) = seen
    assert label.tolist() == [NEGATIVE] * 4
    wanted = model.network.tokenizer.tokens(2 * images["hr"].expand(-1, 3, -1, -1) - 1)
    assert all(torch.equal(a, b) for a, b in zip(ids, wanted, strict=True))


def test_a_refiner_is_trained_beside():
    model, images = make(refiner=partial(DiffusionRefiner, hidden=16, blocks=1)), batch(2)
    terms = model._terms(images["hr"], images["hr"].flip(-1))
    assert any("refiner" in name for name in gradients(model, terms, "refinement"))
    assert model.restore(images).shape == (2, 1, 32, 32)
    assert "refinement" not in make()._terms(images["hr"], images["hr"])


def test_recomputed_blocks_have_the_same_gradients():
    images, found = batch(2), []
    for recompute in (False, True):
        model = make(checkpoint_blocks=recompute).train()
        model._terms(images["hr"], images["hr"].flip(-1))["cross_entropy"].backward()
        assert model.network.transformer.checkpoint_blocks == recompute
        found.append([p.grad for p in model.network.transformer.parameters()])
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*found, strict=True))


def test_losses_of_no_weight_are_not_computed():
    model, images = make(order_weight=0.0, pixel_weight=0.0), batch(2)
    assert set(model._terms(images["hr"], images["hr"])) == {"cross_entropy", "token_accuracy"}


def test_weight_decay_spares_what_the_released_code_spares():
    model = make()
    decayed, spared = model.parameter_groups()
    names = {id(p): name for name, p in model.named_parameters()}
    kept = {names[id(p)] for p in spared["params"]}
    assert {"network.transformer.prefix_positions", "network.transformer.level_embedding.weight"} <= kept
    assert "network.transformer.blocks.0.attention.log_scale" in kept and "network.codebook.gate" in kept
    shrunk = {names[id(p)] for p in decayed["params"]}
    assert {"network.transformer.class_embedding.weight", "network.codebook.U", "network.codebook.V"} <= shrunk
    assert spared["weight_decay"] == 0 and not any("tokenizer" in name for name in kept | shrunk)
    assert len(kept) + len(shrunk) == sum(1 for n, _ in model.named_parameters() if "tokenizer" not in n)


def trained(codebook, steps=20):
    model = make(codebook=codebook, order_weight=0.0, pixel_weight=1.0).train()
    images = batch(4)
    optimizer = torch.optim.AdamW(model.parameter_groups(), lr=1e-2)
    for _ in range(steps):
        terms = model._terms(images["hr"], images["hr"].flip(-1))
        optimizer.zero_grad()
        (terms["cross_entropy"] + terms["pixel"]).backward()
        optimizer.step()
    model.eval()
    return model, images


def test_a_few_steps_open_the_adaptive_codebook():
    model, images = trained(partial(ConditionAdaptiveCodebook, acts="decode"))
    network = model.network
    prefix = network.encode_condition(2 * images["hr"].expand(-1, 3, -1, -1) - 1)
    ids = network.tokenizer.tokens(2 * images["hr"].expand(-1, 3, -1, -1) - 1)
    adapted = network.decode(prefix, torch.zeros(4, dtype=torch.long), ids)
    static = network.tokenizer.image(network.tokenizer.quantize.codes(ids))
    assert (adapted - static).abs().max() > 1e-3, "the row without it shows other images"
    plain, _ = trained(StaticCodebook)
    same = plain.network.decode(
        plain.network.encode_condition(images["hr"].expand(-1, 3, -1, -1)), torch.zeros(4).long(), ids
    )
    assert torch.equal(same, static)


def test_a_closed_gate_stays_nearly_closed_as_in_the_released_code():
    model, _ = trained(partial(ConditionAdaptiveCodebook, acts="decode", gate=0.0), steps=1)
    assert 0 < model.network.codebook.gate.abs().item() < 0.02


def test_reconstruction_by_tiles_equals_that_of_each_tile():
    tokenizer = TOKENIZER().eval()
    image = torch.rand(2, 1, 32, 32)
    whole = tokenizer.image(tokenizer.quantize.codes(tokenizer.tokens(2 * image.expand(-1, 3, -1, -1) - 1)))
    assert torch.allclose(reconstruct(tokenizer, image), (whole.mean(1, keepdim=True) + 1) / 2)
    assert reconstruct(tokenizer, torch.rand(2, 1, 50, 20)).shape == (2, 1, 50, 20)
    tokenizer.train()
    reconstruct(tokenizer, image)
    assert tokenizer.training and (tokenizer.quantize.idle == TOKENIZER().quantize.idle).all(), "looking trains nothing"


def test_a_tokenizer_restores_from_the_input_alone():
    model = RealIISRTokenizer(tokenizer=TOKENIZER).eval()
    images = batch(2, 10, 9)
    restored = model.restore({"lr": images["lr"], "name": images["name"]})
    assert restored.shape == images["hr"].shape
    assert torch.equal(model.ceilings(images)["reconstruction"], restored), "here the target is the enlarged input"
    outlier = images | {"hr": images["hr"].clone()}
    outlier["hr"][..., 3, 3] = -16.0
    plain = images | {"hr": outlier["hr"].clamp(0, 1)}
    assert torch.equal(model.ceilings(outlier)["reconstruction"], model.ceilings(plain)["reconstruction"])


def test_the_published_layout_is_read(tmp_path):
    source, target = TOKENIZER(), TOKENIZER()
    state = source.released_state() | {
        "quantize.ema_vocab_hit_SV": torch.zeros(3, 16),
        "quantize.U": torch.zeros(16, 8),
        "quantize.V": torch.zeros(4, 8),
        "quantize.lora_gate": torch.zeros(1),
    }
    for content in (state, {"epoch": 3, "trainer": {"vae_local": state, "config": {"a": 1}}}):
        torch.save(content, tmp_path / "VQVAE.pth")
        load_tokenizer(target, tmp_path / "VQVAE.pth")
        image = torch.rand(1, 3, 32, 32)
        assert all(
            torch.equal(a, b) for a, b in zip(source.eval().tokens(image), target.eval().tokens(image), strict=True)
        )
        assert target.quantize.usage() == 1, "counts as trained"


def test_files_of_other_tokenizers_are_refused(tmp_path):
    torch.save(TOKENIZER().released_state(), tmp_path / "a.pth")
    other = MultiScaleVQVAE(8, [1, 1, 1, 1], 1, 4, 32, [1, 2, 4], groups=1)
    with pytest.raises(InputError, match=r"embedding.weight is \(16, 4\) there and \(32, 4\) here"):
        load_tokenizer(other, tmp_path / "a.pth")
    torch.save({"trainer": {"other": 1}}, tmp_path / "b.pth")
    with pytest.raises(InputError, match="is absent there"):
        load_tokenizer(other, tmp_path / "b.pth")
    (tmp_path / "c.pth").write_bytes(b"none")
    with pytest.raises(InputError, match="cannot be read"):
        load_tokenizer(other, tmp_path / "c.pth")


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="no multiple of"):
        make(scale=3)
    with pytest.raises(InputError, match="tile's 8 input pixels"):
        make(overlap=8)
    with pytest.raises(InputError, match="decoding"):
        make(decoding="none")


def test_what_a_validation_counts_is_no_weight():
    model = make()
    assert not any(buffer is model.frequencies for buffer in model.buffers()), "EMA averages buffers, float or not"
    model.bfloat16()
    model.frequencies += 257
    assert (model.frequencies == 257).all(), "half precision would have made it 256"


@pytest.mark.parametrize("decoding", ["straight_through", "soft", "argmax"])
@pytest.mark.parametrize("refiner", [NoRefiner, partial(DiffusionRefiner, hidden=16, blocks=1)])
def test_half_precision_trains_and_restores(decoding, refiner):
    model = make(decoding=decoding, refiner=refiner).bfloat16()
    images = {key: value.bfloat16() if key != "name" else value for key, value in batch(2).items()}
    terms = model._terms(images["hr"], images["hr"].flip(-1))
    sum(terms[name] for name in terms if name != "token_accuracy").backward()
    assert all(value.isfinite() for value in terms.values())
    assert model.restore(images).isfinite().all()
    tokenizer = model.network.tokenizer.requires_grad_().train()
    assert all(value.isfinite() for value in tokenizer_terms(tokenizer, images["hr"]).values())


def test_straight_through_decodes_what_argmax_decodes_under_autocast():
    model, images = make(codebook=StaticCodebook), batch(2)
    network, label = model.network, torch.zeros(2, dtype=torch.long)
    prefix = network.encode_condition(images["hr"].expand(-1, 3, -1, -1))
    logits = torch.randn(2, 21, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = (network.expected(prefix, label, logits, way) for way in ("straight_through", "argmax"))
    assert torch.equal(ours, theirs)


def test_a_checkpoint_without_a_tokenizer_is_refused(tmp_path):
    content = {"lit_thermal": {"model": {"class_path": "THERIS"}}, "state_dict": {"network.a": torch.zeros(1)}}
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="contains no tokenizer"):
        load_tokenizer(TOKENIZER(), tmp_path / "a.ckpt")
