import pytest
import torch

from lit_thermal.data.degradations import Bicubic, BlurNoise, Degradation
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize


def members(base: type = Degradation) -> list[type]:
    return [
        found for child in base.__subclasses__() for found in [child, *members(child)] if "Lazy" not in child.__name__
    ]


def clip(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("member", members(), ids=lambda member: member.__name__)
@pytest.mark.parametrize("shape", [(5, 1, 32, 48), (1, 32, 48)])
def test_every_member_is_deterministic_and_in_range(member: type, shape: tuple[int, ...]) -> None:
    degrade, hr = member(), clip(*shape)
    lr = degrade(hr, scale=4, seed=3)
    assert lr.shape == (*shape[:-2], 8, 12)
    assert lr.dtype == torch.float32
    assert lr.min() >= 0 and lr.max() <= 1
    torch.manual_seed(1)
    assert torch.equal(degrade(hr, scale=4, seed=3), lr)
    with pytest.raises(InputError, match="32x48 cannot be reduced by 5"):
        degrade(hr, scale=5, seed=0)


def test_bicubic_is_the_antialiased_one_clipped() -> None:
    hr = (clip(3, 1, 32, 32) > 0.5).float()
    plain = resize(hr, 8)
    assert torch.equal(Bicubic()(hr, scale=4, seed=0), plain.clamp(0, 1))


def test_blur_noise_has_the_noise_it_was_asked_for() -> None:
    flat = torch.full((40, 1, 128, 128), 0.5)
    noisy = BlurNoise(blur=(1, 1), noise=(5, 5), stripes=(0, 0), bits=16)(flat, scale=4, seed=0)
    assert abs(float(noisy.std()) * 255 - 5) < 0.1
    striped = BlurNoise(blur=(1, 1), noise=(0, 0), stripes=(3, 3), bits=16)(flat, scale=2, seed=0)
    assert torch.equal(striped, striped[:1, :, :1].expand_as(striped))
    assert abs(float(striped[0, 0, 0].std()) * 255 - 3) < 0.8


def test_blur_noise_rounds_and_changes_with_the_seed() -> None:
    hr = clip(3, 1, 32, 32)
    degrade = BlurNoise()
    levels = degrade(hr, scale=4, seed=0) * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert not torch.equal(degrade(hr, scale=4, seed=0), degrade(hr, scale=4, seed=1))
    nothing = BlurNoise(blur=(0, 0), noise=(0, 0), stripes=(0, 0), bits=16)
    assert torch.allclose(nothing(hr, scale=4, seed=0), Bicubic()(hr, scale=4, seed=0), atol=1e-5)


@pytest.mark.parametrize(
    "arguments", [{"blur": (2, 1)}, {"noise": (-1, 1)}, {"stripes": (3, 0)}, {"bits": 0}, {"bits": 17}]
)
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(InputError, match=f"{next(iter(arguments))} of BlurNoise is"):
        BlurNoise(**arguments)
