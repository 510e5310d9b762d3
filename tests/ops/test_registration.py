import math

import pytest
import torch
from torch import Tensor

from lit_thermal.ops.blur import gaussian_blur
from lit_thermal.ops.kernels import disc_kernel, filter2d
from lit_thermal.ops.registration import LIMIT, STEPS, common_view, phase_correlation, register
from lit_thermal.ops.resize import resize


def scene(height: int, width: int, seed: int = 0) -> Tensor:
    """Detail of all sizes, (1, H, W) float64 in [0, 1]."""
    noise = torch.rand(1, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    mixed = sum(gaussian_blur(noise, sigma) * sigma for sigma in (1, 3, 8))
    assert isinstance(mixed, Tensor)
    return (mixed - mixed.min()) / (mixed.max() - mixed.min())


def pair(
    down: int, right: int, scale: int, blur: float = 0.0, size: tuple[int, int] = (192, 256)
) -> tuple[Tensor, ...]:
    """An input and a target that is displaced against it, cut from one scene; the input out of focus."""
    margin = 64
    whole = scene(size[0] + 2 * margin, size[1] + 2 * margin)
    seen = filter2d(whole, disc_kernel(blur))
    lr = resize(seen[:, margin:-margin, margin:-margin], (size[0] // scale, size[1] // scale))
    hr = whole[:, margin - down : margin - down + size[0], margin - right : margin - right + size[1]]
    return lr, hr


@pytest.mark.parametrize("place", [(0.0, 0.0), (2.25, -3.5), (-1.0625, 4.0)])
def test_a_cyclic_shift_is_found_at_a_sixteenth_of_a_pixel(place):
    image = gaussian_blur(torch.rand(64, 80, dtype=torch.float64, generator=torch.Generator().manual_seed(1))[None], 2)[
        0
    ]
    # faded out, so that what moves around the border is nothing
    image = (image - image.mean()) * torch.hann_window(64, dtype=torch.float64)[:, None] ** 2
    image = image * torch.hann_window(80, dtype=torch.float64) ** 2
    down, right = (torch.fft.fftfreq(n, dtype=torch.float64) for n in image.shape)
    turn = torch.exp(-2j * math.pi * (place[0] * down[:, None] + place[1] * right))
    moved = torch.fft.ifft2(torch.fft.fft2(image) * turn).real
    found = phase_correlation(image, 0.3 * moved + 7)
    assert found == pytest.approx(place, abs=2 / STEPS)


def test_the_peak_is_that_of_the_formula():
    """A slow evaluation of the weighted inverse transform at every position."""
    x, y = scene(20, 24, 1)[0], scene(20, 24, 2)[0]

    def taper(n: int) -> Tensor:
        edge = [min((i + 0.5) / n, 1 - (i + 0.5) / n, 0.1) for i in range(n)]
        return torch.tensor([0.5 - 0.5 * math.cos(math.pi * e / 0.1) for e in edge], dtype=torch.float64)

    window = taper(20)[:, None] * taper(24)
    f, g = (torch.fft.fft2((z - (z * window).sum() / window.sum()) * window) for z in (x, y))
    power = g * f.conj() / (g * f.conj()).abs()
    v, u = torch.meshgrid(*(torch.fft.fftfreq(n, dtype=torch.float64) for n in (20, 24)), indexing="ij")
    power = power * torch.exp(-2 * (2 * math.pi) ** 2 * (v**2 + u**2))
    best, where = -math.inf, (0.0, 0.0)
    for i in range(-2 * STEPS, 2 * STEPS + 1):
        for j in range(-2 * STEPS, 2 * STEPS + 1):
            value = float((power * torch.exp(2j * math.pi * (v * i + u * j) / STEPS)).sum().real)
            if value > best:
                best, where = value, (i / STEPS, j / STEPS)
    assert phase_correlation(x, y, limit=2) == where


@pytest.mark.parametrize("place", [(0, 0), (1, -14), (-7, 9), (20, 3), (-30, -26)])
@pytest.mark.parametrize("blur", [0.0, 4.0, 10.0])
def test_displaced_targets_are_found_through_defocus_gain_and_offset(place, blur):
    lr, hr = pair(*place, scale=4, blur=blur)
    assert register(0.8 * lr + 0.1, hr) == pytest.approx(place, abs=1)


@pytest.mark.parametrize("scale", [1, 2, 3, 8])
def test_other_scales(scale):
    lr, hr = pair(-3, 5, scale, size=(240, 240))
    assert register(lr, hr) == pytest.approx((-3, 5), abs=1)


def test_what_shows_nothing_or_something_else_is_not_moved_for_less():
    lr, hr = pair(0, 0, 4)
    assert register(torch.zeros_like(lr), hr) == (0, 0)
    assert register(lr, torch.ones_like(hr)) == (0, 0)
    for seed in range(4):
        down, right = register(scene(48, 64, seed + 5), hr)
        assert max(abs(down), abs(right)) <= 4 * LIMIT
    assert max(map(abs, register(scene(4, 6), scene(16, 24)))) <= 4


def test_precision_and_range_of_the_images_do_not_matter():
    lr, hr = pair(6, -5, 4)
    assert register(lr.float(), hr.float()) == register(lr, hr) == register(255 * lr, 255 * hr)


def test_common_view_brings_one_place_together():
    image = torch.arange(42.0).view(1, 6, 7)
    for down in range(-3, 4):
        for right in range(-3, 4):
            x, y = common_view(image, image, (down, right))
            assert x.shape == y.shape == (1, 6 - abs(down), 7 - abs(right))
            assert torch.equal(y - x, torch.full_like(x, 7.0 * down + right))


def test_images_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="two images of one size"):
        phase_correlation(torch.zeros(4, 4), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="not a multiple"):
        register(torch.zeros(1, 4, 4), torch.zeros(1, 16, 12))
