"""DifIISR: what it is trained to, that guidance goes downhill, and that a restored image depends on its own input."""

from functools import partial

import pytest
import torch
from small_difiisr import Exact, a_batch, example, loss_of, method

from lit_thermal.blocks.diffusion_condition import ConditionEncoder
from lit_thermal.blocks.guidance import LossGradientGuidance, LossSum, Unguided
from lit_thermal.blocks.guidance_terms import DataConsistencyTerm, SpectrumTerm
from lit_thermal.blocks.perceptual_terms import RandomFeatureTerm
from lit_thermal.errors import InputError
from lit_thermal.generative.drawing import Drawing
from lit_thermal.generative.noise import SeededNoise
from lit_thermal.generative.sampler import Ancestral, Deterministic, OneStep
from lit_thermal.generative.schedule import ResidualShift, VariancePreserving
from lit_thermal.methods.difiisr.network import steps_of
from lit_thermal.methods.difiisr.objective import Denoising, Distillation, shift

PREDICTIONS = ("x0", "residual", "noise", "scaled_noise")


@pytest.mark.parametrize("sampler", [OneStep, partial(Ancestral, steps=4), partial(Deterministic, steps=3)])
@pytest.mark.parametrize("side", [(8, 8), (5, 7)])
def test_restores_any_size_within_the_range(sampler, side):
    model = method(sampler=sampler).eval()
    lr = torch.rand(2, 1, *side)
    restored = model.restore({"lr": lr, "name": ["a", "b"]})
    assert restored.shape == (2, 1, 4 * side[0], 4 * side[1]) and restored.dtype == torch.float32
    assert restored.min() >= 0 and restored.max() <= 1 and restored.std() > 0


def test_never_reads_the_target():
    model, batch = method(sampler=partial(Ancestral, steps=3)).eval(), a_batch()
    with_target = model.restore(batch)
    assert torch.equal(model.restore(batch | {"hr": torch.full_like(batch["hr"], torch.nan)}), with_target)
    assert torch.equal(model.restore({k: v for k, v in batch.items() if k != "hr"}), with_target)


def test_an_image_depends_on_its_name_and_input_alone():
    model, batch = method(sampler=partial(Ancestral, steps=3), samples=2).eval(), a_batch(3)
    together = model.restore(batch)
    for i in range(3):
        alone = model.restore({"lr": batch["lr"][i : i + 1], "name": batch["name"][i : i + 1]})
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        model.restore({"lr": batch["lr"].flip(0), "name": batch["name"][::-1]}), together.flip(0), atol=1e-5, rtol=0
    )
    renamed = model.restore({"lr": batch["lr"], "name": ["x", "y", "z"]})
    assert not torch.allclose(renamed, together, atol=1e-3)
    assert torch.equal(model.restore(batch), together), "the same seed draws the same image"
    model.seed = 1
    assert not torch.allclose(model.restore(batch), together, atol=1e-3)


def test_other_ways_to_restore_and_their_mean():
    ways = {
        "mean of 3": partial(Drawing, sampler=OneStep, samples=3),
        "five steps": partial(Drawing, partial(Ancestral, 5)),
    }
    model, batch = method(also=ways).eval(), a_batch()
    variants = model.variants(batch)
    assert list(variants) == ["mean of 3", "five steps"]
    assert all(v.shape == (2, 1, 32, 32) for v in variants.values())
    three = []
    given = model.network.encode_condition(2 * batch["lr"] - 1)
    for k in range(3):
        latent = OneStep()(
            lambda x, t: model.network.estimate(x, t, given),
            model.network.schedule,
            given.y,
            SeededNoise.of(batch["name"], 0, k),
        )
        three.append(((model.network.image(latent) + 1) / 2).clamp(0, 1))
    torch.testing.assert_close(variants["mean of 3"], torch.stack(three).mean(0))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(
    "schedule", [ResidualShift, partial(VariancePreserving, steps=20, beta_start=0.01, beta_end=0.5)]
)
def test_the_right_output_has_no_loss(prediction, schedule):
    model, batch = method(prediction=prediction, schedule=schedule), a_batch(1)
    given = example(model, batch)
    torch.manual_seed(3)
    t = torch.randint(model.network.schedule.steps, (1,))
    right = model.network.schedule.target(given.z, given.encoded.y, given.noise, t, prediction)
    model.network.unet = Exact(right)
    terms = loss_of(model, batch)
    assert list(terms) == ["denoising"] and terms["denoising"].item() < 1e-10
    model.network.unet = Exact(right + 1)
    # Noise as it stands in the state weighs as the unit noise that it is a multiple of.
    error = float(model.network.schedule.noise_scale(t)) ** -2 if prediction == "scaled_noise" else 1.0
    assert loss_of(model, batch)["denoising"].item() == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("terms", [[SpectrumTerm], [SpectrumTerm, RandomFeatureTerm]])
@pytest.mark.parametrize("t", [0, 3, 9])
def test_the_shift_goes_down_the_guided_loss(terms, t):
    model, batch = method(guidance=partial(LossGradientGuidance, terms=terms)), a_batch()
    given = example(model, batch)
    index = steps_of(2, t, given.z.device)
    x = model.network.schedule.add_noise(given.z, given.encoded.y, given.noise, index)
    f = (given.z + 0.2 * given.noise).clamp(-1, 1)
    moved = shift(model.network, given, model.guidance, x, f, index)
    assert not moved.requires_grad and moved.any()
    # A short way is asked for, since a gradient says nothing of a long one.
    moved = 1e-3 * moved / moved.abs().max()

    def loss(f):
        return model.guidance.loss(model.network.image(f), given.hr, given.encoded.lr)

    assert (loss(f + moved) < loss(f)).all() and (loss(f - moved) > loss(f)).all()


def test_the_shift_is_that_of_the_paper():
    """Equation 9 with the estimate as a function of the state: by autograd through the conversions alone."""
    model, batch = method(guidance=partial(LossGradientGuidance, terms=[SpectrumTerm], strength=0.7)), a_batch(1)
    given, schedule = example(model, batch), model.network.schedule
    index = steps_of(1, 4, given.z.device)
    x = schedule.add_noise(given.z, given.encoded.y, given.noise, index)
    f = given.z + 0.1
    state = x.clone().requires_grad_()
    a, b, s = (float(table[4]) for table in (schedule.a, schedule.b, schedule.s))
    noise = (x - a * f - b * given.encoded.y) / s
    estimate = (state - s * noise - b * given.encoded.y) / a
    loss = 0.01 * SpectrumTerm()(model.network.image(estimate), given.hr, given.encoded.lr).sum()
    (gradient,) = torch.autograd.grad(loss, state)
    torch.testing.assert_close(
        shift(model.network, given, model.guidance, x, f, index), -0.7 * s**2 / a * gradient, rtol=1e-3, atol=1e-7
    )


def test_the_sign_says_on_which_side_of_the_target_the_raw_output_is_pulled():
    batch, aims = a_batch(1), {}
    for sign in ("descend", "released"):
        guide = partial(LossGradientGuidance, terms=[SpectrumTerm], strength=1e3, sign=sign)
        model = method(guidance=guide)
        given = example(model, batch)
        model.network.unet = Exact(given.z + 0.1)
        (gradient,) = torch.autograd.grad(loss_of(model, batch)["denoising"], model.network.unet.output)
        # of the mean square of (output - aim)
        aims[sign] = model.network.unet.output.detach() - gradient * gradient.numel() / 2 - given.z
    torch.testing.assert_close(aims["descend"], -aims["released"], atol=1e-4, rtol=1e-3)
    assert aims["descend"].abs().max() > 1e-4


@pytest.mark.parametrize("objective", [Denoising, Distillation])
def test_without_strength_it_is_unguided_bit_for_bit(objective):
    losses = []
    for guidance in (Unguided, partial(LossGradientGuidance, terms=[SpectrumTerm, RandomFeatureTerm], strength=0.0)):
        model = method(guidance=guidance, objective=objective)
        model.objective.begin(model.network)
        optimizer = torch.optim.AdamW(model.network.unet.parameters(), 1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            loss = sum(loss_of(model, a_batch()).values())
            loss.backward()
            optimizer.step()
        losses.append((loss.detach(), model.state_dict()))
    assert torch.equal(losses[0][0], losses[1][0])
    assert all(torch.equal(value, losses[1][1][name]) for name, value in losses[0][1].items())


def test_guided_terms_are_of_what_one_step_gives():
    guide = partial(LossGradientGuidance, terms=[SpectrumTerm], added=[RandomFeatureTerm])
    model, batch = method(guidance=guide), a_batch()
    given = example(model, batch)
    terms = model.guided_terms(given)
    start = model.network.schedule.start(given.encoded.y, given.noise)
    image = model.network.image(model.network.estimate(start, steps_of(2, 14, start.device), given.encoded))
    torch.testing.assert_close(terms["spectrum"], SpectrumTerm()(image, given.hr, given.encoded.lr).mean())
    assert terms.keys() == {"spectrum", "random_features"} and not terms["spectrum"].requires_grad
    assert method().guided_terms(given) == {}


def test_sums_of_losses_are_added_and_inject_nothing():
    batch = a_batch()
    plain, summed = method(), method(guidance=partial(LossSum, terms=[SpectrumTerm]))
    gradient = method(guidance=partial(LossGradientGuidance, terms=[RandomFeatureTerm], added=[SpectrumTerm]))
    assert loss_of(plain, batch).keys() == {"denoising"}
    terms = loss_of(summed, batch)
    assert terms["denoising"] == loss_of(plain, batch)["denoising"] and terms["added"] > 0
    both = loss_of(gradient, batch)
    assert both["added"] == terms["added"] and both["denoising"] != terms["denoising"]
    assert loss_of(summed, batch, guided=False).keys() == {"denoising"}


@pytest.mark.parametrize("through_network", [False, True])
def test_training_by_guidance_reaches_every_parameter(through_network):
    guide = partial(LossGradientGuidance, terms=[SpectrumTerm], through_network=through_network)
    model = method(guidance=guide, condition=partial(ConditionEncoder, channels=4, width=8, depth=1))
    sum(loss_of(model, a_batch()).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_data_consistency_guides_at_test_time():
    batch = a_batch()
    guide = partial(LossGradientGuidance, terms=[partial(DataConsistencyTerm, weight=1.0)], strength=1e5, steps=[0])
    plain = method(sampler=partial(Deterministic, steps=6)).eval()
    guided = method(sampler=partial(Deterministic, steps=6), sampling_guidance=guide).eval()
    term = DataConsistencyTerm()

    def misfit(restored):
        return term(2 * restored - 1, None, 2 * batch["lr"] - 1)

    assert (misfit(guided.restore(batch)) < misfit(plain.restore(batch))).all()
    with torch.inference_mode():
        torch.testing.assert_close(guided.restore(batch), guided.restore(batch))


def test_the_chain_with_guidance_has_the_lower_loss():
    guide = partial(LossGradientGuidance, terms=[SpectrumTerm], strength=0.3)
    model, batch = method(guidance=guide, sampler=partial(Deterministic, steps=8)).eval(), a_batch()
    plain, guided = model.chain(batch, guided=False), model.chain(batch, guided=True)
    assert [step.t for step in plain] == [step.t for step in guided] == [13, 11, 9, 7, 5, 3, 1, 0]
    assert all(s.image.shape == (2, 1, 32, 32) and s.loss.shape == (2,) for s in plain + guided)
    assert (guided[-1].loss < plain[-1].loss).all()
    assert torch.equal(plain[-1].image, model.restore(batch)), "it is the drawing that a test measures"
    assert len(method(guidance=guide).eval().chain(batch, guided=False)) == 15, "one step makes no chain"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampler": partial(Ancestral, steps=16)}, "16 steps cannot be taken from a schedule of 15"),
        ({"also": {"more": partial(Drawing, partial(Deterministic, 20))}}, "20 steps cannot be taken"),
        ({"sampling_guidance": partial(LossGradientGuidance, terms=[SpectrumTerm])}, "at test time"),
        ({"sampling_guidance": partial(LossSum, terms=[SpectrumTerm])}, "at test time"),
        ({"guidance": partial(LossGradientGuidance, terms=[SpectrumTerm], steps=[15])}, "0 to 14"),
        ({"prediction": "x1"}, "must be one of x0"),
        ({"samples": 0}, "samples"),
        ({"seed": -1}, "seed"),
        ({"objective": partial(Distillation, inverse_weight=-1)}, "inverse_weight"),
        ({"objective": partial(Distillation, teacher_noise="none")}, "must be one of estimated, released"),
    ],
)
def test_blocks_that_do_not_go_together(changes, said):
    with pytest.raises(InputError, match=said):
        method(**changes)


def test_what_the_batch_must_have():
    model = method()
    with pytest.raises(InputError, match="'lr'"):
        model.restore({"name": ["a"]})
    with pytest.raises(InputError, match="not clips"):
        model.restore({"lr": torch.rand(1, 3, 1, 8, 8), "name": ["a"]})


def test_bfloat16_is_near_float32():
    model, batch = method(sampler=partial(Deterministic, steps=4)).eval(), a_batch()
    full = model.restore(batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.restore(batch)
    assert half.dtype == torch.float32
    assert (half - full).abs().mean() < 0.02


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_restoring_keeps_no_graph(mode):
    model, batch = method(guidance=partial(LossGradientGuidance, terms=[SpectrumTerm])).eval(), a_batch()
    seen = []
    model.network.unet.register_forward_hook(lambda module, given, output: seen.append(output.requires_grad))
    with mode():
        restored, chain = model.restore(batch), model.chain(batch, guided=True)
    assert seen and not any(seen)
    assert not restored.requires_grad and not any(s.image.requires_grad or s.loss.requires_grad for s in chain)
