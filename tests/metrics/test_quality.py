"""PSNR, SSIM and quantization against plain numpy in float64."""

import math

import numpy as np
import pytest
import torch

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.frames import read_frame, write_frame
from lit_thermal.data.formats.radiometry import to_values
from lit_thermal.errors import InputError
from lit_thermal.metrics import psnr, quantize, ssim
from lit_thermal.metrics.quality import as_written


def reference_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """The formula, window by window, over the windows that lie inside the frame."""
    axis = np.arange(11) - 5
    taps = np.exp(-(axis**2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum() ** 2
    c1, c2 = 0.01**2, 0.03**2
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 1, 17, 24, generator=generator)
    target[1] = 0.9 + 0.01 * target[1]  # almost flat and bright: cancellation in float32 would show here
    restored = (target + 0.02 * torch.randn(target.shape, generator=generator)).clamp(0, 1)
    return restored, target


def test_psnr_and_ssim_of_each_frame_equal_the_formulas(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    restored, target = pair
    p, s = psnr(restored, target), ssim(restored, target)
    assert p.shape == s.shape == (2, 3)
    for index in np.ndindex(2, 3):
        x, y = restored[index][0].double().numpy(), target[index][0].double().numpy()
        assert p[index].item() == pytest.approx(10 * math.log10(1 / ((x - y) ** 2).mean()), abs=1e-3)
        assert s[index].item() == pytest.approx(reference_ssim(x, y), abs=2e-4)


def test_ssim_in_parts_equals_ssim_at_once(
    pair: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ssim(*pair)
    monkeypatch.setattr("lit_thermal.metrics.quality._PIXELS_AT_ONCE", 2 * 17 * 24)
    torch.testing.assert_close(ssim(*pair), whole, rtol=0, atol=1e-6)


def test_a_perfect_frame_has_the_cap_and_nan_stays_visible(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    target = pair[1]
    assert (psnr(target, target) == 100).all()
    torch.testing.assert_close(ssim(target, target), torch.ones(2, 3))
    broken = target.clone()
    broken[0, 1, 0, 8, 8] = math.nan
    assert psnr(quantize(broken, 255), target).isnan().tolist() == [[False, True, False], [False] * 3]


def test_quantize_gives_what_the_file_holds() -> None:
    x = torch.tensor([[-0.5, 0.0, 0.5, 0.7501, 1.0, 1.5]])
    assert (quantize(x, 255) * 255).round().tolist() == [[0, 0, 128, 191, 255, 255]]
    wide = torch.rand(3, 50)
    quantized = quantize(wide, [255, 65535, 321.5])
    for row, steps in zip(range(3), (255, 65535, 321.5), strict=True):
        counts = quantized[row].double() * steps
        assert (counts - wide[row].double() * steps).abs().max() <= 0.5 + 1e-3
        inside = quantized[row] < 1
        assert (counts[inside] - counts[inside].round()).abs().max() < 6e-3
    assert quantize(torch.ones(1, 1), 321.5).item() == 1.0
    assert torch.equal(quantize(quantized, [255, 65535, 321.5]), quantized)


def test_bad_steps_and_small_frames_are_refused() -> None:
    with pytest.raises(InputError, match="each of 2 samples"):
        quantize(torch.rand(2, 3), [255])
    with pytest.raises(InputError, match="positive"):
        quantize(torch.rand(1, 3), 0)
    with pytest.raises(InputError, match="10 x 30"):
        ssim(torch.rand(1, 1, 10, 30), torch.rand(1, 1, 10, 30))


@pytest.mark.parametrize("radiometry", [Radiometry(), Radiometry(0.0, 65535.0, 16), Radiometry(20011.35, 1234.3, 16)])
def test_what_is_measured_is_what_is_read_back(tmp_path, radiometry):
    values = torch.rand(1, 1, 40, 50, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    values[0, 0, 0, :40] = (torch.arange(40) + 0.5) / 255  # ties
    write_frame(tmp_path / "x.png", values[0], radiometry)
    read = to_values(read_frame(tmp_path / "x.png"), radiometry, clip=False)
    assert torch.equal(as_written(values, [radiometry])[0, 0], read)
    assert torch.equal(as_written(read[None], [radiometry])[0], read), "what was read stays as it is"


def test_rounding_to_counts_needs_a_mapping_for_each_sample_and_keeps_nan():
    found = as_written(torch.full((2, 1, 4, 4), 0.5), [Radiometry(), Radiometry(0.0, 4.0, 16)])
    assert found[0].unique().tolist() == [pytest.approx(128 / 255)] and found[1].unique().tolist() == [0.5]
    assert as_written(torch.full((1, 2), torch.nan), [Radiometry()]).isnan().all()
    with pytest.raises(InputError, match="a positive gain for each of 2 samples"):
        as_written(torch.zeros(2, 3), [Radiometry()])
