from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_thermal.data.degradations.degradation import (
    Bicubic,
    BlurNoise,
    Degradation,
    MatlabBicubic,
    Noisy,
    OpenCVBilinear,
    PillowBicubic,
)
from lit_thermal.data.formats.frames import read_frame
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize, resize_weights

REAL = Path(__file__).parents[3].parent / "shared" / "data"


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


def counts(*shape: int, bits: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**bits, shape).astype(np.uint16 if bits == 16 else np.uint8)


def reduced(degrade: Degradation, image: np.ndarray, scale: int, levels: int = 255) -> np.ndarray:
    """Counts of an image of counts, after checking that they are whole."""
    lr = degrade(torch.from_numpy(image.astype(np.float32) / np.float32(levels))[None], scale=scale, seed=0) * levels
    assert torch.allclose(lr, lr.round(), atol=0.01)
    return lr.round()[0].numpy().astype(image.dtype)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_pillow_bicubic_is_pillows(scale: int) -> None:
    image = counts(48, 72)
    expected = np.asarray(Image.fromarray(image).resize((72 // scale, 48 // scale), Image.Resampling.BICUBIC))
    assert np.array_equal(reduced(PillowBicubic(), image, scale), expected)
    deep = counts(48, 72, bits=16)
    floats = Image.fromarray(deep.astype(np.float32)).resize((72 // scale, 48 // scale), Image.Resampling.BICUBIC)
    assert np.abs(reduced(PillowBicubic(bits=16), deep, scale, 65535) - np.asarray(floats).clip(0, 65535)).max() <= 0.51


@pytest.mark.parametrize("scale", [2, 4, 6])
def test_opencv_bilinear_is_the_middle_of_each_cell_with_halves_upwards(scale: int) -> None:
    for bits in (8, 16):
        image = counts(24, 36, bits=bits)
        low = scale // 2 - 1
        middle = sum(
            image.astype(int)[y::scale, x::scale] for y in (low, low + 1) for x in (low, low + 1)
        )  # fixed point, as OpenCV adds half a level and cuts
        assert np.array_equal(reduced(OpenCVBilinear(bits), image, scale, 2**bits - 1), (middle + 2) >> 2)
    assert np.array_equal(reduced(OpenCVBilinear(), counts(27, 36), 3), counts(27, 36)[1::3, 1::3])


def test_matlab_bicubic_is_bicubic_in_whole_levels() -> None:
    image = counts(32, 64)
    hr = torch.from_numpy(image.astype(np.float32) / 255)[None]
    whole, plain = MatlabBicubic()(hr, scale=4, seed=0) * 255, Bicubic()(hr, scale=4, seed=0) * 255
    # half a level of the rows passes through weights of the columns that sum to less than 2, and half is added
    assert 0 < (whole - plain).abs().max() < 1.5
    rows = np.floor(resize_weights(32, 8) @ image.astype(np.float64) + 0.5).clip(0, 255)
    expected = np.floor(rows @ resize_weights(64, 16).T + 0.5).clip(0, 255)
    assert np.array_equal(reduced(MatlabBicubic(), image, 4), expected)


def test_noise_on_top_of_another_degradation() -> None:
    flat = torch.full((40, 1, 128, 128), 0.5)
    assert abs(float(Noisy(5)(flat, scale=4, seed=0).std()) * 255 - 5) < 0.1
    hr = clip(3, 1, 32, 32)
    for base in (Bicubic, OpenCVBilinear):
        assert torch.equal(Noisy(0, base)(hr, scale=4, seed=0), base()(hr, scale=4, seed=0))
    # The base draws as it does alone.
    both, alone = Noisy(0.01, BlurNoise)(hr, scale=4, seed=2), BlurNoise()(hr, scale=4, seed=2)
    assert torch.allclose(both, alone, atol=3e-4) and not torch.equal(both, alone)
    with pytest.raises(InputError, match="sigma of Noisy is -1"):
        Noisy(-1)


@pytest.mark.parametrize("member", [OpenCVBilinear, PillowBicubic, MatlabBicubic])
def test_a_depth_out_of_range(member: type) -> None:
    with pytest.raises(InputError, match=f"bits of {member.__name__} is 17"):
        member(bits=17)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images lie beside the repository of the project only")
@pytest.mark.parametrize(
    ("member", "hr", "lr", "scale", "number"),
    [(OpenCVBilinear, "pbvs/val/gt", "pbvs/val/lr_x8", 8, 10), (PillowBicubic, "m3fd/HR", "m3fd/LR_x4", 4, 5)],
)
def test_files_of_published_sets_are_reproduced(member: type, hr: str, lr: str, scale: int, number: int) -> None:
    files = sorted((REAL / hr).glob("*.png"))
    assert len(files) == number
    for file in files:
        assert np.array_equal(reduced(member(), read_frame(file), scale), read_frame(REAL / lr / file.name)), file.name
