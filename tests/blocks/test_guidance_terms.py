import pytest
import torch
from torch import Tensor

from lit_thermal.blocks.guidance_terms import DataConsistencyTerm, GuidanceTerm, ReferenceTerm, SpectrumTerm
from lit_thermal.blocks.perceptual_terms import RandomFeatureTerm, ThermalFeatureTerm
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize

TERMS = {
    "spectrum": SpectrumTerm,
    "spectrum of the batch": lambda: SpectrumTerm(normalization="batch"),
    "consistency": DataConsistencyTerm,
    "random features": lambda: RandomFeatureTerm(widths=(4, 8)),
    "thermal features": ThermalFeatureTerm,
}
"""Members that need no file, by what they are called below."""
BY_ITSELF = [name for name in TERMS if "batch" not in name]


def images(batch: int = 2, size: tuple[int, int] = (12, 16), seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Restored images, targets, and inputs that are the targets reduced by 4; float64."""
    generator = torch.Generator().manual_seed(seed)
    image, hr = 2 * torch.rand(2, batch, 1, *size, generator=generator, dtype=torch.float64) - 1
    return image, hr, resize(hr, (size[0] // 4, size[1] // 4))


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("size", [(8, 8), (12, 20), (13, 17)])
def test_any_size_forward_and_backward(name, size):
    image, hr, lr = (x.float() for x in images(size=size))
    image.requires_grad_()
    loss = TERMS[name]()(image, hr, lr)
    assert loss.shape == (2,) and loss.isfinite().all() and (loss > 0).all()
    (gradient,) = torch.autograd.grad(loss.sum(), image)
    assert gradient.isfinite().all() and (gradient.flatten(1).abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("name", TERMS)
def test_an_image_that_equals_its_target_costs_nothing(name):
    _, hr, lr = images()
    hr.requires_grad_()
    loss = TERMS[name]()(hr, hr.detach(), lr)
    assert loss.tolist() == [0, 0]
    assert not torch.autograd.grad(loss.sum(), hr)[0].any()


@pytest.mark.parametrize("name", TERMS)
def test_gradient_against_finite_differences(name):
    image, hr, lr = images(size=(8, 8))
    term = TERMS[name]()
    image.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: term(x, hr, lr), image)


@pytest.mark.parametrize("name", BY_ITSELF)
def test_the_loss_of_an_image_does_not_depend_on_its_batch(name):
    image, hr, lr = images(batch=3)
    term = TERMS[name]()
    alone = torch.cat([term(image[i : i + 1], hr[i : i + 1], lr[i : i + 1]) for i in range(3)])
    assert torch.allclose(term(image, hr, lr), alone, rtol=1e-12)


@pytest.mark.parametrize("name", TERMS)
def test_autocast_changes_nothing(name):
    image, hr, lr = (x.bfloat16() for x in images())
    term = TERMS[name]()
    exact = term(image.float(), hr.float(), lr.float())
    with torch.autocast("cpu", torch.bfloat16):
        rough = term(image, hr, lr)
    assert rough.dtype == torch.float32 and torch.equal(rough, exact)


@pytest.mark.parametrize("name", TERMS)
def test_nothing_is_trained_or_saved(name):
    term = TERMS[name]().train()
    assert not list(term.parameters()) and not term.state_dict()
    term.bfloat16().load_state_dict({}, strict=True)
    image, hr, lr = images()
    assert term(image, hr, lr).dtype == torch.float64


@pytest.mark.parametrize("shift", [(3, 0), (0, 5), (-2, 7)])
@pytest.mark.parametrize("normalization", ["image", "batch"])
def test_the_spectrum_does_not_see_where_things_are(shift, normalization):
    image, hr, lr = images()
    term = SpectrumTerm(normalization=normalization)
    assert term(hr.roll(shift, dims=(-2, -1)), hr, lr).max() < 1e-20
    moved = term(image.roll(shift, dims=(-2, -1)), hr, lr)
    assert torch.allclose(moved, term(image, hr, lr), rtol=1e-10)


def test_the_released_spectrum_is_the_mean_over_the_batch():
    image, hr, lr = images(batch=4)
    pairs = []
    for x in (image, hr):
        # the released code shifts the axes of batch and channels too, alike for both
        spectrum = torch.log(1 + torch.fft.fftshift(torch.fft.fft2(x)).abs())
        pairs.append((spectrum - spectrum.mean()) / (spectrum.std() + 1e-8))
    expected = (pairs[0] - pairs[1]).square().mean()
    assert torch.allclose(SpectrumTerm(normalization="batch")(image, hr, lr).mean(), expected, rtol=1e-12)
    assert not torch.allclose(SpectrumTerm()(image, hr, lr).mean(), expected, rtol=1e-3)


def test_blur_costs_more_spectrum_the_stronger_it_is():
    image, _, lr = images(size=(16, 16))
    costs = [SpectrumTerm()(resize(resize(image, side), (16, 16)), image, lr).mean() for side in (12, 8, 4)]
    assert 0 < costs[0] < costs[1] < costs[2]


def test_consistency_reads_the_input_and_not_the_target():
    image, hr, lr = images()
    term = DataConsistencyTerm()
    assert not term.needs_hr
    assert torch.equal(term(image, None, lr), term(image, torch.full_like(hr, torch.nan), lr))
    expected = (resize(image, lr.shape[-2:]) - lr).square().mean(dim=(1, 2, 3))
    assert torch.allclose(term(image, None, lr), expected, rtol=1e-12)
    assert torch.allclose(term(hr + 0.5, None, lr), torch.full((2,), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("name", [name for name in TERMS if name != "consistency"])
def test_a_missing_target_is_one_sentence(name):
    image, _, lr = images()
    term = TERMS[name]()
    assert term.needs_hr and isinstance(term, ReferenceTerm)
    with pytest.raises(InputError, match=f"{type(term).__name__} compares with the high-resolution image") as caught:
        term(image, None, lr)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("member", [SpectrumTerm, DataConsistencyTerm, RandomFeatureTerm])
def test_weights(member):
    assert member().weight == 0.01 and member(weight=0).weight == 0
    assert isinstance(member(), GuidanceTerm)
    for wrong in (-0.1, float("nan")):
        with pytest.raises(InputError, match=f"{member.__name__}'s weight"):
            member(weight=wrong)


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(InputError, match="must be one of image, batch"):
        SpectrumTerm(normalization="pixel")  # type: ignore[arg-type]
