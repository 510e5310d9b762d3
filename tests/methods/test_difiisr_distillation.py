"""DifIISR's distillation: what a student learns, what its teacher gives, and how the teacher is kept."""

from functools import partial

import pytest
import torch
from small_difiisr import TINY, Exact, a_batch, example, loss_of, method
from torch import nn

from lit_thermal.blocks.diffusion_condition import ConditionEncoder
from lit_thermal.blocks.guidance import LossGradientGuidance
from lit_thermal.blocks.guidance_terms import SpectrumTerm
from lit_thermal.errors import InputError
from lit_thermal.generative.sampler import Deterministic
from lit_thermal.methods.difiisr.network import steps_of
from lit_thermal.methods.difiisr.objective import Distillation, shift


def test_a_student_learns_its_teacher_alone():
    model, batch = method(objective=Distillation), a_batch()
    names = set(model.state_dict())
    model.objective.begin(model.network)
    assert set(model.state_dict()) == names, "the teacher is no part of the model"
    before = {name: value.clone() for name, value in model.objective.state_dict().items()}
    optimizer = torch.optim.AdamW(model.network.unet.parameters(), 1e-3)
    for _ in range(2):
        terms = loss_of(model, batch)
        assert set(terms) == {"distilled", "inverse", "truth"} and all(t.isfinite() for t in terms.values())
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    after = model.objective.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(v, before[k]) for k, v in model.network.state_dict().items() if k in before)


def test_the_distilled_term_is_the_distance_to_the_teachers_chain():
    model, batch = method(objective=partial(Distillation, inverse_weight=0, truth_weight=0)), a_batch()
    model.objective.begin(model.network)
    given, network = example(model, batch), model.network
    start = network.schedule.start(given.encoded.y, given.noise)

    def denoise(x, t):
        return network.estimate(x, t, given.encoded)

    aim = Deterministic().run(denoise, network.schedule, start, given.encoded.y)
    last = steps_of(2, 14, start.device)
    once = network.clean(network(start, last, given.encoded), start, last, given.encoded)
    torch.testing.assert_close(loss_of(model, batch)["distilled"], (once - aim).square().mean())


def test_the_terms_of_distillation_by_hand():
    """Every input of the student scaled as at the last index, the teacher's as at its own; the inverse is held."""
    model, batch = method(objective=Distillation), a_batch()
    model.objective.begin(model.network)
    given, unet = example(model, batch), model.network.unet
    y, z, condition = given.encoded.y, given.z, given.encoded.condition
    root, kappa = model.network.schedule.b.sqrt().tolist(), 2.0
    scales = [3 * kappa * r + 1 for r in root]

    def output(x, t, scaled_as):
        return unet(x / scales[scaled_as], torch.full((2,), t), condition)

    start = x = y + kappa * root[14] * given.noise
    with torch.no_grad():
        for t in range(14, -1, -1):
            f = output(x, t, t).clamp(-1, 1)
            e, e1 = root[t] ** 2, root[t - 1] ** 2 if t else 0.0
            m, j = (e1 / e) ** 0.5, e1 - (e1 * e) ** 0.5
            x = (1 - e1 + (e1 * e) ** 0.5 - m) * f + m * x + j * y
    once, inverse = output(start, 14, 14), output(z, 0, 14).detach()
    by_hand = {
        "distilled": (once - x).square().mean(),
        "inverse": (output(x, 0, 14) - start).square().mean(),
        "truth": (output(inverse, 14, 14) - z).square().mean(),
    }
    terms = loss_of(model, batch)
    for name, value in by_hand.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-4, atol=1e-6)
    ours, theirs = (
        torch.autograd.grad(sum(t.values()), list(unet.parameters()), retain_graph=True) for t in (terms, by_hand)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_a_student_out_of_range_is_pulled_back():
    """Estimates of pixels are clipped in a chain; a clipped loss would have no gradient there."""
    model, batch = method(objective=Distillation), a_batch()
    model.objective.begin(model.network)
    given = example(model, batch)
    model.network.unet = Exact(torch.full_like(given.z, 3.0))
    terms = loss_of(model, batch)
    for name in ("distilled", "truth"):
        (gradient,) = torch.autograd.grad(terms[name], model.network.unet.output, retain_graph=True)
        assert (gradient > 0).all(), name


def test_a_teacher_looks_with_its_own_condition():
    encoder = partial(ConditionEncoder, channels=2, width=4, depth=1)
    model, batch = method(objective=Distillation, condition=encoder), a_batch()
    model.objective.begin(model.network)
    given = example(model, batch)
    start = model.network.schedule.start(given.encoded.y, given.noise)

    def denoise(x, t):
        return model.network.estimate(x, t, given.encoded)

    aim = Deterministic().run(denoise, model.network.schedule, start, given.encoded.y)
    student = 3 * torch.ones_like(aim)
    model.network.unet = Exact(student)
    with torch.no_grad():
        for parameter in model.network.condition.parameters():
            parameter.add_(1.0)
    torch.testing.assert_close(loss_of(model, batch)["distilled"], (student - aim).square().mean())


def test_the_released_noise_shrinks_the_teachers_aim():
    """Where the estimate stands for the noise, a state near it is scaled by (1 - 0.04 / 0.9996) / 0.9996 or so."""
    batch, aims = a_batch(), {}
    for noise in ("estimated", "released"):
        guide = partial(LossGradientGuidance, terms=[SpectrumTerm], strength=1e-9)
        model = method(guidance=guide, objective=partial(Distillation, teacher_noise=noise))
        model.objective.begin(model.network)
        given = example(model, batch)
        first = steps_of(2, 0, given.z.device)
        x = model.network.schedule.add_noise(given.z, given.encoded.y, given.noise, first)
        aims[noise] = model.objective._moved(model.network, given, model.guidance, x, given.z, first)
    torch.testing.assert_close(aims["estimated"], given.z, atol=1e-5, rtol=0)
    slope = (aims["released"] * given.z).sum() / given.z.square().sum()
    assert 0.95 < float(slope) < 0.97
    guide = partial(LossGradientGuidance, terms=[SpectrumTerm], steps=[14])
    model = method(guidance=guide, objective=partial(Distillation, teacher_noise="released"))
    moved = model.objective._moved(model.network, given, model.guidance, x, given.z, first)
    assert torch.equal(moved, given.z), "index 0 is none that guidance acts at"


def test_the_released_guidance_by_hand():
    """Both aims of a guided iteration, by the formulas of the released training code."""
    guide = partial(LossGradientGuidance, terms=[SpectrumTerm], strength=50.0, sign="released")
    model, batch = method(guidance=guide, objective=partial(Distillation, teacher_noise="released")), a_batch()
    given, schedule = example(model, batch), model.network.schedule
    y, eta = given.encoded.y, schedule.b.tolist()
    x = schedule.add_noise(given.z, y, given.noise, steps_of(2, 0, y.device))
    f = given.z + 0.1

    def gradient(state, noise, t, factor):
        state = state.clone().requires_grad_()
        clean = (state - factor * noise - eta[t] * y) / (1 - eta[t])
        loss = 0.01 * SpectrumTerm()(model.network.image(clean), given.hr, given.encoded.lr)
        return torch.autograd.grad(loss.sum(), state)[0]

    noise = (x - 0.04 * f - 0.0004 * y) / 0.9996
    teacher = (f - 0.04 * (noise + 50 * gradient(f, noise, 0, 0.04)) - 0.0004 * y) / 0.9996
    moved = model.objective._moved(model.network, given, model.guidance, x, f, steps_of(2, 0, y.device))
    torch.testing.assert_close(moved, teacher, rtol=1e-4, atol=1e-5)
    last = steps_of(2, 14, y.device)
    start = schedule.start(y, given.noise)
    noise = (start - (1 - eta[14]) * f - eta[14] * y) / 1.98
    student = -197.005 * 50 * gradient(start, noise, 14, 1.98)
    torch.testing.assert_close(
        shift(model.network, given, model.guidance, start, f, last), student, rtol=1e-3, atol=1e-4
    )
    assert model.guidance.direction == -1


def test_the_teacher_travels_in_the_checkpoint_and_not_among_the_weights():
    model = method(objective=Distillation)
    model.objective.begin(model.network)
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    other = method(objective=Distillation)
    for p in other.parameters():
        nn.init.zeros_(p)
    other.on_load_checkpoint(checkpoint)
    teacher = other.objective.state_dict()
    assert teacher and all(torch.equal(value, model.objective.state_dict()[name]) for name, value in teacher.items())
    other.objective.begin(other.network)
    assert all(torch.equal(v, teacher[k]) for k, v in other.objective.state_dict().items()), "kept, not made anew"
    del checkpoint["objective"]["unet.out.2.bias"]
    with pytest.raises(InputError, match=r"teacher .* unet\.out\.2\.bias is absent there"):
        other.on_load_checkpoint(checkpoint)


def test_a_teacher_of_a_file(tmp_path):
    donor = method()
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in donor.network.unet.state_dict().items()}}, tmp_path / "t.pth"
    )
    model = method(objective=partial(Distillation, teacher=str(tmp_path / "t.pth")))
    for p in model.network.unet.parameters():
        nn.init.zeros_(p)
    model.objective.begin(model.network)
    assert all(torch.equal(v, model.network.unet.state_dict()[k]) for k, v in donor.network.unet.state_dict().items())
    wide = method(unet=partial(TINY, width=32), objective=partial(Distillation, teacher=str(tmp_path / "t.pth")))
    with pytest.raises(InputError, match=r"t\.pth is of another denoiser: time_embed\.0\.weight is \(64, 16\) there"):
        wide.objective.begin(wide.network)
    absent = method(objective=partial(Distillation, teacher=str(tmp_path / "no.pth")))
    with pytest.raises(InputError, match=r"resshift_realsrx4_s15_v1\.pth"):
        absent.objective.begin(absent.network)
