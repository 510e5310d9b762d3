import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from lit_thermal.blocks.guidance import Guidance, LossGradientGuidance, LossSum, Unguided
from lit_thermal.blocks.guidance_terms import DataConsistencyTerm, GuidanceTerm, SpectrumTerm
from lit_thermal.blocks.perceptual_terms import RandomFeatureTerm
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize

GUIDED = {
    "spectrum": (SpectrumTerm,),
    "consistency": (DataConsistencyTerm,),
    "random features": (lambda: RandomFeatureTerm(widths=(4,)),),
    "all": (SpectrumTerm, DataConsistencyTerm, lambda: RandomFeatureTerm(0.5, widths=(4,))),
}
ETA, KAPPA = 0.6, 2.0


class Network(nn.Module):
    """A denoiser from a state to its estimate of the clean latent."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 2, 3, padding=1)).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Scene:
    """One step of a residual-shift diffusion with a latent of two channels, each pixel of it 2 x 1 of the image."""

    def __init__(self, batch: int = 2) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x, self.y = torch.randn(2, batch, 2, 4, 8, generator=generator, dtype=torch.float64)
        self.hr = 2 * torch.rand(batch, 1, 8, 8, generator=generator, dtype=torch.float64) - 1
        self.lr = resize(self.hr, 4)
        self.network = Network()
        deviation = KAPPA * ETA**0.5
        with torch.no_grad():
            clean = self.network(self.x)
            self.noise = (self.x - (1 - ETA) * clean - ETA * self.y) / deviation
        self.constant: Callable[[Tensor], Tensor] = lambda x: (x - deviation * self.noise - ETA * self.y) / (1 - ETA)

    @staticmethod
    def decode(latent: Tensor) -> Tensor:
        """A decoder that is not linear."""
        return torch.tanh(latent.transpose(1, 2).flatten(1, 2)[:, None])


def made(terms: Sequence[Callable[[], GuidanceTerm]], **options: object) -> LossGradientGuidance:
    return LossGradientGuidance(terms, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", GUIDED)
@pytest.mark.parametrize("through_network", [False, True])
def test_gradient_against_finite_differences(name, through_network):
    scene, guidance = Scene(), made(GUIDED[name], through_network=through_network)
    clean_of = scene.network if through_network else scene.constant
    gradient = guidance.gradient(scene.x, clean_of, scene.decode, scene.hr, scene.lr)
    assert gradient.shape == scene.x.shape and not gradient.requires_grad
    step = 1e-6
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(3):
            direction = torch.randn(scene.x.shape, generator=generator, dtype=torch.float64)
            ahead, behind = (
                guidance.loss(scene.decode(clean_of(scene.x + s * step * direction)), scene.hr, scene.lr).sum()
                for s in (1, -1)
            )
            expected = (ahead - behind).item() / (2 * step)
            assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-4)


def test_both_gradients_are_those_of_autograd_and_differ():
    scene, guidance = Scene(), made(GUIDED["all"])
    plain = guidance.gradient(scene.x, scene.constant, scene.decode, scene.hr, scene.lr)
    through = guidance.gradient(scene.x, scene.network, scene.decode, scene.hr, scene.lr)

    clean = scene.network(scene.x).detach().requires_grad_()
    image = scene.decode(clean)
    loss = sum(term.weight * term(image, scene.hr, scene.lr) for term in guidance.guiding)
    (of_clean,) = torch.autograd.grad(loss.sum(), clean)
    assert torch.allclose(plain, of_clean / (1 - ETA), rtol=1e-9), "spec: g = (dL/dx0) / (1 - eta)"

    state = scene.x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(scene.network(state), state, of_clean)
    assert torch.allclose(through, expected, rtol=1e-9)
    assert not torch.allclose(through, plain, rtol=0.1)
    assert all(p.grad is None for p in scene.network.parameters())


@pytest.mark.parametrize("name", GUIDED)
def test_the_injected_gradient_lowers_the_loss_of_each_image(name):
    scene, guidance = Scene(), made(GUIDED[name])
    gradient = guidance.gradient(scene.x, scene.constant, scene.decode, scene.hr, scene.lr)
    deviation = KAPPA * ETA**0.5
    clean = scene.constant(scene.x)
    before = guidance.loss(scene.decode(clean), scene.hr, scene.lr)
    # eq. 9 with a strength that is small beside the curvature
    rho = 1e-3 / gradient.abs().max()
    noise = scene.noise + rho * deviation * gradient
    corrected = (scene.x - deviation * noise - ETA * scene.y) / (1 - ETA)
    assert torch.allclose(corrected, clean - rho * deviation**2 / (1 - ETA) * gradient)
    assert (guidance.loss(scene.decode(corrected), scene.hr, scene.lr) < before).all()


def test_direction_says_where_training_takes_the_raw_estimate():
    """A free estimate, pulled to a target as the two signs have it, ends below and above the target's guidance loss."""
    scene = Scene()
    start = scene.constant(scene.x)
    ends = {}
    for sign in ("descend", "released"):
        guidance = made((SpectrumTerm,), sign=sign)
        raw = start.clone()
        factor = 1.0
        for _ in range(50):
            gradient = guidance.gradient(raw, lambda x: x, scene.decode, scene.hr, scene.lr)
            raw = raw - 0.3 * (raw - (start - guidance.direction * factor * gradient))
        ends[sign] = guidance.loss(scene.decode(raw), scene.hr, scene.lr)
    at_target = made((SpectrumTerm,)).loss(scene.decode(start), scene.hr, scene.lr)
    assert (ends["descend"] < at_target).all() and (ends["released"] > at_target).all()


def test_each_image_has_the_gradient_that_it_has_alone():
    scene, guidance = Scene(batch=3), made(GUIDED["all"])
    together = guidance.gradient(scene.x, scene.network, scene.decode, scene.hr, scene.lr)
    for i in range(3):
        one = slice(i, i + 1)
        alone = guidance.gradient(scene.x[one], scene.network, scene.decode, scene.hr[one], scene.lr[one])
        assert torch.allclose(together[one], alone, rtol=1e-9)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradient_where_gradients_are_off(mode):
    scene, guidance = Scene(), made(GUIDED["all"])
    expected = guidance.gradient(scene.x, scene.network, scene.decode, scene.hr, scene.lr)
    with mode():
        fresh = [x.clone() for x in (scene.x, scene.hr, scene.lr)]
        ours = guidance.gradient(fresh[0], scene.network, scene.decode, *fresh[1:])
    assert torch.equal(ours, expected)


def test_weights_scale_the_loss_and_its_gradient():
    scene = Scene()
    arguments = scene.constant, scene.decode, scene.hr, scene.lr
    single = [made((lambda m=member: m(1.0),)) for member in (SpectrumTerm, DataConsistencyTerm)]
    both = made((lambda: SpectrumTerm(3.0), lambda: DataConsistencyTerm(0.5)))
    parts = [guidance.gradient(scene.x, *arguments) for guidance in single]
    assert torch.allclose(both.gradient(scene.x, *arguments), 3 * parts[0] + 0.5 * parts[1], rtol=1e-9)
    image = scene.decode(scene.constant(scene.x))
    losses = [guidance.loss(image, scene.hr, scene.lr) for guidance in single]
    assert torch.allclose(both.loss(image, scene.hr, scene.lr), 3 * losses[0] + 0.5 * losses[1], rtol=1e-12)
    terms = both.terms(image, scene.hr, scene.lr)
    assert list(terms) == ["spectrum", "consistency"]
    assert all(torch.equal(*pair) for pair in zip(terms.values(), losses, strict=True))


def test_strength_does_not_change_the_gradient():
    scene = Scene()
    arguments = scene.x, scene.constant, scene.decode, scene.hr, scene.lr
    assert torch.equal(
        made((SpectrumTerm,), strength=7).gradient(*arguments), made((SpectrumTerm,)).gradient(*arguments)
    )


def test_unguided_and_strength_zero():
    scene = Scene()
    image = scene.decode(scene.x)
    for guidance in (Unguided(), made((SpectrumTerm,), strength=0.0)):
        assert not guidance.injects and not guidance.adds and not guidance.needs_hr
        assert not guidance.active_at(torch.tensor([0, 14])).any()
        assert guidance.strength == 0 and guidance.direction == 1
        guidance.check(1)
        assert not guidance.added_loss(image, None, scene.lr).any()
    plain = Unguided()
    assert not plain.active(0) and plain.terms(image, None, scene.lr) == {}
    assert plain.loss(image, None, scene.lr).tolist() == [0, 0]
    gradient = plain.gradient(scene.x, scene.constant, scene.decode, None, scene.lr)
    assert gradient.shape == scene.x.shape and not gradient.any()


def test_added_terms_are_not_injected():
    scene = Scene()
    guidance = made((SpectrumTerm,), added=(DataConsistencyTerm, lambda: DataConsistencyTerm(0.03)))
    assert guidance.injects and guidance.adds and guidance.needs_hr
    image = scene.decode(scene.x)
    term = DataConsistencyTerm()(image, None, scene.lr)
    assert torch.allclose(guidance.added_loss(image, scene.hr, scene.lr), 0.04 * term, rtol=1e-12)
    alone = made((SpectrumTerm,))
    assert torch.equal(guidance.loss(image, scene.hr, scene.lr), alone.loss(image, scene.hr, scene.lr))
    assert list(guidance.terms(image, scene.hr, scene.lr)) == ["spectrum", "consistency", "consistency_2"]
    assert not made((DataConsistencyTerm,), added=(SpectrumTerm,)).needs_hr, "only what is injected guides at test time"


def test_sum_of_losses():
    scene, guidance = Scene(), LossSum((SpectrumTerm, lambda: DataConsistencyTerm(2.0)), start=3)
    assert guidance.adds and not guidance.injects and not guidance.needs_hr
    assert [guidance.active(i) for i in (2, 3, 4)] == [False, True, True]
    image = scene.decode(scene.x).requires_grad_()
    terms = guidance.terms(image, scene.hr, scene.lr)
    added = guidance.added_loss(image, scene.hr, scene.lr)
    assert torch.allclose(added, 0.01 * terms["spectrum"] + 2 * terms["consistency"], rtol=1e-12)
    assert torch.equal(added, guidance.loss(image, scene.hr, scene.lr))
    assert torch.autograd.grad(added.sum(), image)[0].any()
    assert not guidance.gradient(scene.x, scene.constant, scene.decode, scene.hr, scene.lr).any()


def test_when_and_where_it_is_active():
    guidance = made((SpectrumTerm,), start=10, every=3, steps=(14, 0))
    assert [i for i in range(20) if guidance.active(i)] == [10, 13, 16, 19]
    assert guidance.active_at(torch.tensor([0, 1, 14, 13])).tolist() == [True, False, True, False]
    assert made((SpectrumTerm,)).active_at(torch.tensor([0, 5])).tolist() == [True, True]
    guidance.check(15)
    with pytest.raises(InputError, match="steps name 14, and the schedule of 14 steps has 0 to 13"):
        guidance.check(14)
    for sign, direction in (("descend", 1), ("released", -1)):
        assert made((SpectrumTerm,), sign=sign).direction == direction


def test_a_term_that_needs_hr_says_so_where_there_is_none():
    scene, guidance = Scene(), made((SpectrumTerm,))
    with pytest.raises(InputError, match="SpectrumTerm compares with the high-resolution image"):
        guidance.gradient(scene.x, scene.constant, scene.decode, None, scene.lr)
    free = made((DataConsistencyTerm,))
    assert not free.needs_hr and free.gradient(scene.x, scene.constant, scene.decode, None, scene.lr).any()


@pytest.mark.parametrize("guidance", [Unguided(), made(GUIDED["all"], added=(SpectrumTerm,)), LossSum((SpectrumTerm,))])
def test_nothing_is_trained_or_saved(guidance):
    assert not list(guidance.parameters()) and not guidance.state_dict()
    copy.deepcopy(guidance).load_state_dict({}, strict=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"terms": ()}, "LossGradientGuidance has no terms: give one"),
        ({"strength": -1.0}, "strength is -1.0"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"start": -1}, "start is -1"),
        ({"every": 0}, "every is 0"),
        ({"steps": (3, -1)}, r"steps are \[3, -1\]"),
        ({"sign": "ascend"}, "must be one of descend, released"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(InputError, match=message) as caught:
        LossGradientGuidance(**{"terms": (SpectrumTerm,), **options})
    assert "\n" not in str(caught.value)


def test_bad_arguments_of_the_sum():
    with pytest.raises(InputError, match="LossSum has no terms"):
        LossSum(())
    with pytest.raises(InputError, match="LossSum's every is 0"):
        LossSum((SpectrumTerm,), every=0)


def test_members_are_chosen_by_name_in_a_config():
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--guidance", type=Callable[[], Guidance], default=Unguided)
    features = {"class_path": "RandomFeatureTerm", "init_args": {"weight": 0.5, "widths": [4]}}
    guided = {"terms": ["SpectrumTerm", features], "steps": [0, 14], "sign": "released", "added": ["SpectrumTerm"]}
    for config, expected in [
        ({"class_path": "LossGradientGuidance", "init_args": guided}, LossGradientGuidance),
        ({"class_path": "LossSum", "init_args": {"terms": ["SpectrumTerm"]}}, LossSum),
        ("Unguided", Unguided),
    ]:
        parsed = parser.parse_object({"guidance": config})
        guidance = parser.instantiate_classes(parsed).guidance()
        assert type(guidance) is expected
    guidance = parser.instantiate_classes(
        parser.parse_object({"guidance": {"class_path": "LossGradientGuidance", "init_args": guided}})
    ).guidance()
    assert [term.weight for term in guidance.guiding] == [0.01, 0.5]
    assert guidance.steps == (0, 14) and guidance.direction == -1 and guidance.adds
