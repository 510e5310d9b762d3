import itertools

import pytest
import torch

from lit_thermal.data.degradations import real_esrgan
from lit_thermal.data.degradations.real_esrgan import RealESRGAN
from lit_thermal.errors import InputError
from lit_thermal.ops.jpeg import jpeg

NOTHING = {
    "kernel_size": (1, 1),
    "second_kernel_size": (1, 1),
    "sinc": 0.0,
    "resize": (1.0, 1.0),
    "second_resize": (1.0, 1.0),
    "gaussian": 1.0,
    "noise": (0.0, 0.0),
    "second_noise": (0.0, 0.0),
    "jpeg_quality": (100.0, 100.0),
    "last_sinc": 0.0,
    "bits": 16,
}
"""Everything is switched off but the reduction and the rounding of JPEG's coefficients to whole levels."""


def scene(*shape: int) -> torch.Tensor:
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in shape[-2:]), indexing="ij")
    return (0.5 + 0.3 * torch.sin(x / 5) * torch.cos(y / 7)).expand(shape).clone()


@pytest.mark.parametrize("seed", range(12))
def test_an_image_is_degraded_alike_alone_and_in_any_batch(seed: int) -> None:
    images = torch.stack([scene(1, 32, 40), scene(1, 32, 40).flip(-1), scene(1, 32, 40) ** 2])
    degrade = RealESRGAN()
    seeds = [seed, seed + 100, seed]
    batch = degrade.batch(images, scale=4, seeds=seeds)
    assert batch.shape == (3, 1, 8, 10) and batch.dtype == torch.float32
    for image, lr, own in zip(images, batch, seeds, strict=True):
        assert torch.equal(degrade(image, scale=4, seed=own), lr)
    swapped = degrade.batch(images[[2, 0]], scale=4, seeds=[seed, seed])
    assert torch.equal(swapped[0], batch[2]) and torch.equal(swapped[1], batch[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_devices_agree() -> None:
    images, seeds = torch.rand(8, 1, 64, 64, generator=torch.Generator().manual_seed(0)), list(range(8))
    there = RealESRGAN().batch(images.cuda(), scale=4, seeds=seeds)
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), RealESRGAN().batch(images, scale=4, seeds=seeds), rtol=0, atol=1e-5)


def test_rounding_errors_of_a_device_do_not_show() -> None:
    """Another device adds up in another order; what is rounded, and how many numbers are drawn, must not change."""
    image = (scene(1, 48, 48) * 255).round().double() / 255
    for seed in range(30):
        near = image * (1 + 1e-15 * torch.randn(image.shape, dtype=torch.float64))
        for gaussian in (0.0, 1.0):
            degrade = RealESRGAN(gaussian=gaussian)
            one, other = (degrade(x, scale=4, seed=seed) for x in (image, near))
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_seeds_differ_and_levels_are_whole() -> None:
    image = scene(1, 32, 32)
    results = [RealESRGAN()(image, scale=4, seed=seed) for seed in range(8)]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(results, 2))
    for bits in (8, 16):
        levels = RealESRGAN(bits=bits)(image.double(), scale=4, seed=0) * (2**bits - 1)
        torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-6)
        assert (len(levels.unique()) > 60) == (bits == 16)


def test_in_a_clip_the_noise_alone_differs() -> None:
    clip = scene(3, 1, 32, 32)
    noisy = RealESRGAN()(clip, scale=4, seed=1)
    assert not torch.equal(noisy[0], noisy[1])
    for seed in range(5):
        silent = RealESRGAN(gaussian=1.0, noise=(0, 0), second_noise=(0, 0))(clip, scale=4, seed=seed)
        assert torch.equal(silent, silent[:1].expand_as(silent))


def test_with_everything_off_it_is_a_plain_reduction() -> None:
    image = scene(1, 32, 48)
    cells = image.reshape(8, 4, 12, 4)
    known = [cells.mean((1, 3)), cells[:, 1:3, :, 1:3].mean((1, 3))]  # area and bilinear
    near = [0, 0]
    for seed in range(20):
        lr = RealESRGAN(**NOTHING, second_stage=0.0)(image, scale=4, seed=seed)[0]
        errors = [float((lr - mean).abs().max()) for mean in known]
        assert min(errors) < 0.02
        near[errors.index(min(errors))] += 1
    assert min(near) > 0


@pytest.mark.parametrize("stage", ["first", "second"])
def test_gaussian_noise_has_the_deviation_it_was_asked_for(stage: str) -> None:
    flat = torch.full((1, 256, 256), 0.5)
    noise = {"noise": (9.0, 9.0)} if stage == "first" else {"second_noise": (9.0, 9.0)}
    lr = RealESRGAN(**NOTHING | noise, second_stage=float(stage == "second"))(flat, scale=1, seed=3)
    assert float(lr.std()) * 255 == pytest.approx(9, rel=0.03)
    assert float(lr.mean()) == pytest.approx(0.5, abs=2e-3)


def test_poisson_noise_grows_with_the_root_of_the_signal() -> None:
    # 256 columns of all levels, so that a level stands for one count of 255.
    ramp = torch.arange(256).repeat(256, 1)[None] / 255
    lr = RealESRGAN(**NOTHING | {"gaussian": 0.0, "poisson": (0.5, 0.5)}, second_stage=0.0)(ramp, scale=1, seed=0)
    for low in (40, 100, 180):
        part = slice(low, low + 16)
        expected = 0.5 * ((ramp[0, :, part] / 256).mean() ** 0.5)
        assert float((lr - ramp)[0, :, part].std()) == pytest.approx(float(expected), rel=0.08)
    assert float((lr - ramp)[0, :, 40:200].mean()) == pytest.approx(0, abs=1e-3)


def test_the_ends_of_every_range_are_reached_and_none_is_left() -> None:
    degrade, image = RealESRGAN(), scene(1, 32, 32)
    drawn: dict[str, list[float]] = {}
    names = {getattr(degrade, name): name for name in ("sigma", "second_sigma", "noise", "poisson", "jpeg_quality")}

    between = real_esrgan._Draws.between

    def recorded(self, ends):
        value = between(self, ends)
        drawn.setdefault(names.get(tuple(ends), "other"), []).append(value)
        return value

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real_esrgan._Draws, "between", recorded)
        for seed in range(150):
            degrade(image, scale=4, seed=seed)
    for ends, name in names.items():
        low, high = min(drawn[name]), max(drawn[name])
        assert ends[0] <= low < ends[0] + 0.15 * (ends[1] - ends[0])
        assert ends[1] - 0.15 * (ends[1] - ends[0]) < high <= ends[1]


def test_kernels_come_as_often_as_they_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: dict[str, int] = {}
    for name in ("gaussian_kernel", "plateau_kernel", "sinc_kernel"):
        whole = getattr(real_esrgan, name)

        def counted(size, *rest, name=name, make=whole):
            assert size % 2 == 1 and 3 <= size <= 19
            round_one = name == "sinc_kernel" or rest[0][0] == rest[0][1]
            key = f"{name}{'' if round_one else ' long'}{' beta' if len(rest) > 2 else ''}"
            counts[key] = counts.get(key, 0) + 1
            return make(size, *rest)

        monkeypatch.setattr(real_esrgan, name, counted)
    degrade, total = RealESRGAN(), 4000
    draw = real_esrgan._Draws(torch.Generator().manual_seed(0))
    for _ in range(total):
        degrade._blur(draw, degrade.kernel_size, degrade.sigma)
    expected = {
        "sinc_kernel": 0.1,
        "gaussian_kernel": 0.9 * 0.45,
        "gaussian_kernel long": 0.9 * 0.25,
        "gaussian_kernel beta": 0.9 * 0.12,
        "gaussian_kernel long beta": 0.9 * 0.03,
        "plateau_kernel beta": 0.9 * 0.12,
        "plateau_kernel long beta": 0.9 * 0.03,
    }
    assert counts.keys() == expected.keys()
    for key, share in expected.items():
        assert counts[key] / total == pytest.approx(share, abs=0.03)


def test_compression_blocks_show_where_it_comes_last() -> None:
    """Half of the results are what JPEG leaves: to compress them again with the same steps changes them little."""
    image = scene(1, 64, 64) + 0.1 * torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
    options = NOTHING | {"jpeg_quality": (30.0, 30.0), "noise": (10.0, 10.0), "last_sinc": 1.0}
    options |= {"second_kernel_size": (7, 7), "cutoff": (0.4, 0.4)}
    changes = []
    for seed in range(20):
        lr = RealESRGAN(**options, second_stage=0.0)(image, scale=2, seed=seed)
        changes.append(float((jpeg(lr, 30) - lr).abs().max()))
    last = sum(change < 1e-3 for change in changes)
    assert 4 <= last <= 16


@pytest.mark.parametrize("side", [4, 8, 20])
def test_images_smaller_than_the_kernels(side: int) -> None:
    for seed in range(10):
        lr = RealESRGAN()(scene(1, side, side), scale=4, seed=seed)
        assert lr.shape == (1, side // 4, side // 4) and lr.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kernel_size": (4, 9)}, r"a kernel size of RealESRGAN is \(4, 9\); give two odd numbers"),
        ({"second_kernel_size": (9, 3)}, "a kernel size"),
        ({"kernels": (1.0, 0.1, 0, 0, 0, 0)}, "kernels of RealESRGAN is .*sum to 1"),
        ({"up_down_keep": (0.5, 0.5, float("nan"))}, "up_down_keep of RealESRGAN"),
        ({"second_up_down_keep": (-0.5, 1.5, 0.0)}, "second_up_down_keep"),
        ({"sigma": (0.0, 2.0)}, r"sigma of RealESRGAN is \(0.0, 2.0\)"),
        ({"noise": (5.0, 1.0)}, "noise of RealESRGAN is"),
        ({"poisson": (0.0, float("inf"))}, "poisson of RealESRGAN is"),
        ({"jpeg_quality": (30, 101)}, r"jpeg_quality of RealESRGAN is \(30, 101\); give two numbers, .*<= 100"),
        ({"resize": (0.2, 0.9)}, r"resize of RealESRGAN is \(0.2, 0.9\); give a range with 1 in it"),
        ({"second_resize": (0.0, 1.2)}, "second_resize of RealESRGAN"),
        ({"gaussian": 1.5}, "gaussian of RealESRGAN is 1.5; it must be a probability"),
        ({"last_sinc": -0.1}, "last_sinc of RealESRGAN is -0.1"),
        ({"cutoff": (0.0, 1.0)}, "cutoff of RealESRGAN"),
        ({"bits": 0}, "bits of RealESRGAN is 0"),
    ],
)
def test_bad_arguments(arguments: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        RealESRGAN(**arguments)


def test_bad_calls() -> None:
    images = scene(2, 1, 32, 32)
    with pytest.raises(InputError, match="2 images and 1 seeds; give one seed an image"):
        RealESRGAN().batch(images, scale=4, seeds=[0])
    with pytest.raises(InputError, match="cannot be reduced by 5"):
        RealESRGAN().batch(images, scale=5, seeds=[0, 1])
