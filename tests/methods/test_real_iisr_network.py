"""The network of Real-IISR: drawing, decoding and what is trained by what."""

import pytest
import torch
from torch import Tensor

from lit_thermal.blocks.codebook import Codebook, ConditionAdaptiveCodebook, StaticCodebook
from lit_thermal.blocks.condition_map_encoder import ConvStackEncoder, MapEncoder
from lit_thermal.blocks.thermal_structure import NoStructure, Structure, ThermalStructuralGuidance
from lit_thermal.errors import InputError
from lit_thermal.generative.noise import SeededNoise
from lit_thermal.generative.token_refiner import DiffusionRefiner, NoRefiner, Refiner
from lit_thermal.generative.token_sampler import Greedy, TokenSampler, TopKTopP, guided
from lit_thermal.methods.real_iisr.network import NEGATIVE, POSITIVE, RealIISRNetwork
from lit_thermal.networks.multi_scale_vqvae import MultiScaleVQVAE

SCALES = (1, 2, 3, 4)
SIDE = 16


def appended(width: int, heads: int) -> Structure:
    return ThermalStructuralGuidance(width, heads, encoder, joins="append")


def encoder(channels: int, width: int) -> MapEncoder:
    return ConvStackEncoder(channels, width, widths=(8, 8))


def adaptive(entries: int, dim: int, width: int) -> Codebook:
    return ConditionAdaptiveCodebook(entries, dim, width, rank=4, gate=1.0)


class RecordingRefiner(Refiner):
    """Keeps what it was trained with, and draws that."""

    def loss(self, condition: Tensor, residual: Tensor) -> Tensor:
        self.condition, self.residual = condition, residual
        return condition.sum()

    def draw(self, condition: Tensor, noise: SeededNoise) -> Tensor:
        self.drawn_at = condition
        return self.residual


def network(structure=NoStructure, codebook=adaptive, refiner=NoRefiner) -> RealIISRNetwork:
    torch.manual_seed(0)
    tokenizer = MultiScaleVQVAE(width=8, multipliers=(1, 1, 2), layers=1, dim=4, entries=16, scales=SCALES, groups=2)
    torch.nn.init.normal_(tokenizer.quantize.embedding.weight)
    made = RealIISRNetwork(tokenizer, 2, 16, 2, 0.0, encoder, structure, codebook, refiner)
    for name, weight in made.transformer.named_parameters():  # the first weights of gates and head hide everything
        if weight.ndim == 2 or name == "prefix_positions":
            torch.nn.init.normal_(weight, std=0.5)
    torch.nn.init.normal_(made.encoder.conv_out.weight)
    return made.double().eval()


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double() * 2 - 1


def noise(count: int = 2) -> SeededNoise:
    return SeededNoise.of([f"image {index}" for index in range(count)], 0)


def labels(value: int, count: int = 2) -> Tensor:
    return torch.full((count,), value)


def without_cache(net: RealIISRNetwork, prefix: Tensor, sampler: TokenSampler, guidance: float) -> list[Tensor]:
    """Tokens by the teacher-forced pass alone: each scale from a whole pass in which later tokens are anything."""
    draws, ids = noise(len(prefix)), []
    for level, count in enumerate(net.tokens):
        filled = ids + [torch.zeros(len(prefix), n, dtype=torch.long) for n in net.tokens[level:]]
        start = sum(net.tokens[:level])
        wanted = net.logits(prefix, labels(POSITIVE), filled)[:, start : start + count]
        if guidance:
            # The adapted codes that are fed belong to the wanted branch in both.
            condition = net.transformer.condition(prefix, labels(POSITIVE))
            codes = net.tokenizer.quantize.codes(filled)
            fed = [net.codebook(index, code, condition) for index, code in zip(filled, codes, strict=True)]
            inputs = net.tokenizer.quantize.inputs(filled if net.codebook.acts == "decode" else fed)
            unwanted = net.transformer(prefix, labels(NEGATIVE), inputs)[:, start : start + count]
            wanted = guided(wanted, unwanted, guidance, level, len(net.tokens))
        ids.append(sampler(wanted, draws))
    return ids


@pytest.mark.parametrize("codebook", [StaticCodebook, adaptive])
@pytest.mark.parametrize("structure", [NoStructure, appended])
@pytest.mark.parametrize("guidance", [0.0, 1.5])
@pytest.mark.parametrize("sampler", [Greedy(), TopKTopP(k=6, p=0.9)])
def test_drawing_with_a_cache_takes_the_tokens_of_whole_passes(structure, codebook, guidance, sampler) -> None:
    net = network(structure, codebook)
    with torch.no_grad():
        prefix = net.encode_condition(images())
        drawn = net.draw(prefix, sampler, noise(), guidance)
        expected = without_cache(net, prefix, sampler, guidance)
    assert len(torch.cat(drawn, 1).unique()) > 1
    for ours, theirs in zip(drawn, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_guidance_changes_what_is_drawn_and_the_input_does() -> None:
    net = network()
    prefix = net.encode_condition(images())
    plain, led = net.draw(prefix, Greedy(), noise()), net.draw(prefix, Greedy(), noise(), 6.0)
    assert any(not torch.equal(a, b) for a, b in zip(plain, led, strict=True))
    other = net.draw(net.encode_condition(-images()), Greedy(), noise())
    assert any(not torch.equal(a, b) for a, b in zip(plain, other, strict=True))


def test_images_of_a_batch_do_not_matter_to_each_other() -> None:
    net = network()
    together = net.draw(net.encode_condition(images()), TopKTopP(), noise())
    alone = net.draw(net.encode_condition(images()[:1]), TopKTopP(), noise(1))
    for both, one in zip(together, alone, strict=True):
        assert torch.equal(both[:1], one)


@pytest.mark.parametrize("codebook", [StaticCodebook, adaptive])
def test_certain_logits_stand_for_their_tokens_image(codebook) -> None:
    net = network(codebook=codebook)
    prefix, label = net.encode_condition(images()), labels(POSITIVE)
    ids = [torch.randint(16, (2, n), generator=torch.Generator().manual_seed(n)) for n in net.tokens]
    certain = 1e4 * torch.nn.functional.one_hot(torch.cat(ids, 1), 16).double()
    expected = net.decode(prefix, label, ids)
    for decoding in ("argmax", "straight_through", "soft"):
        torch.testing.assert_close(net.expected(prefix, label, certain, decoding), expected, atol=1e-6, rtol=0)


def test_straight_through_shows_the_likeliest_and_trains_the_transformer() -> None:
    net = network()
    prefix, label = net.encode_condition(images()), labels(POSITIVE)
    ids = net.tokenizer.tokens(images())
    shown = {}
    for decoding, trains in (("argmax", False), ("straight_through", True), ("soft", True)):
        net.zero_grad()
        shown[decoding] = net.expected(prefix, label, net.logits(prefix, label, ids), decoding)
        shown[decoding].square().mean().backward(retain_graph=True)
        grad = net.transformer.head.weight.grad
        assert (grad is not None and bool(grad.abs().sum() > 0)) == trains
        assert net.codebook.V.grad.abs().sum() > 0
    torch.testing.assert_close(shown["straight_through"], shown["argmax"], atol=1e-6, rtol=0)
    assert not torch.allclose(shown["soft"], shown["argmax"], atol=1e-3)


def test_tokenizer_stays_frozen_and_in_eval_mode() -> None:
    net = network().train()
    assert not net.tokenizer.training and net.transformer.training
    assert not any(parameter.requires_grad for parameter in net.tokenizer.parameters())


def test_parts_of_other_sizes_are_refused() -> None:
    tokenizer = MultiScaleVQVAE(width=8, multipliers=(1, 1), layers=1, dim=4, entries=16, scales=SCALES, groups=2)
    with pytest.raises(InputError, match=r"smaller by 4 where the tokenizer's are smaller by 2"):
        RealIISRNetwork(tokenizer, 1, 16, 2, 0.0, encoder, NoStructure)
    net = network()
    with pytest.raises(InputError, match="must be one of straight_through, soft, argmax"):
        net.expected(net.encode_condition(images()), labels(POSITIVE), torch.zeros(2, sum(net.tokens), 16), "hard")
    with pytest.raises(InputError, match="give it images"):
        net.logits(
            net.encode_condition(torch.zeros(2, 3, 32, 32).double()), labels(POSITIVE), net.tokenizer.tokens(images())
        )


@pytest.mark.parametrize("codebook", [StaticCodebook, adaptive])
def test_the_true_residual_gives_the_latent_that_was_not_quantised(codebook) -> None:
    net = network(codebook=codebook, refiner=RecordingRefiner)
    image, prefix, label = images(), net.encode_condition(images()), labels(POSITIVE)
    ids = net.tokenizer.tokens(image)
    features = net.features(prefix, label, ids)
    net.refinement(prefix, label, ids, features, image).backward()
    assert net.transformer.blocks[0].attention.qkv.weight.grad.abs().sum() > 0
    whole = net.tokenizer.decode(net.tokenizer.encode(image))
    assert not torch.allclose(net.decode(prefix, label, ids), whole, atol=1e-3)
    torch.testing.assert_close(net.decode(prefix, label, ids, net.refiner.residual), whole, atol=1e-9, rtol=0)


@pytest.mark.parametrize("codebook", [StaticCodebook, adaptive])
@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_what_a_refiner_gets_for_drawn_tokens_is_what_it_is_trained_with(codebook, guidance) -> None:
    net = network(codebook=codebook, refiner=RecordingRefiner)
    prefix, label = net.encode_condition(images()), labels(POSITIVE)
    ids = net.draw(prefix, Greedy(), noise(), guidance)
    net.refinement(prefix, label, ids, net.features(prefix, label, ids), images())
    restored = net.restore(prefix, Greedy(), noise(), guidance)
    torch.testing.assert_close(net.refiner.drawn_at, net.refiner.condition, atol=1e-9, rtol=0)
    torch.testing.assert_close(restored, net.decode(prefix, label, ids, net.refiner.residual), atol=1e-9, rtol=0)


def test_without_a_refiner_tokens_are_decoded_and_nothing_is_kept_for_it() -> None:
    net = network()
    prefix = net.encode_condition(images())
    ids = net.draw(prefix, TopKTopP(), noise(), 1.0)
    assert torch.equal(net.restore(prefix, TopKTopP(), noise(), 1.0), net.decode(prefix, labels(POSITIVE), ids))
    assert not [name for name in net.state_dict() if name.startswith("refiner")]


def test_diffusion_refines_each_image_by_its_own_noise() -> None:
    net = network(refiner=lambda dim, width: DiffusionRefiner(dim, width, hidden=8, blocks=1, steps=2))
    prefix = net.encode_condition(images())
    both = net.restore(prefix, Greedy(), noise())
    alone = net.restore(prefix[:1], Greedy(), noise(1))
    torch.testing.assert_close(both[:1], alone, atol=1e-6, rtol=0)
    again = net.restore(prefix[:1], Greedy(), SeededNoise.of(["image 0"], 1))
    assert not torch.allclose(alone, again, atol=1e-3)


def test_a_placed_codebook_sees_the_places_in_training_alone():
    torch.manual_seed(0)
    placed = network(codebook=lambda *sizes: ConditionAdaptiveCodebook(*sizes, gate=1.0, placed=True))
    plain = network(codebook=lambda *sizes: ConditionAdaptiveCodebook(*sizes, gate=1.0))
    plain.load_state_dict(placed.state_dict())
    for made in (placed, plain):
        torch.nn.init.normal_(made.codebook.U)
        torch.nn.init.normal_(made.codebook.V)
        made.codebook.load_state_dict(placed.codebook.state_dict())
    label = torch.zeros(2, dtype=torch.long)
    prefix, ids = placed.encode_condition(images()), placed.tokenizer.tokens(images())
    assert torch.equal(placed.decode(prefix, label, ids), plain.decode(prefix, label, ids))
    seen, unseen = (made.train().decode(prefix, label, ids) for made in (placed, plain))
    assert (seen - unseen).abs().max() > 1e-4
