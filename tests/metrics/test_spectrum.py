"""The distance of spectra against a slow reference, and what it does and does not see."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_thermal.metrics import spectrum
from lit_thermal.metrics.spectrum import spectrum_distance
from lit_thermal.ops.blur import gaussian_blur


def frames(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(5, 7), (8, 8), (1, 6)])
def test_equals_the_sums_of_the_definition(size: tuple[int, int]) -> None:
    restored, target = frames(2, 3, 1, *size), frames(2, 3, 1, *size, seed=1)
    height, width = size
    rows = np.exp(-2j * np.pi * np.outer(np.arange(height), np.arange(height)) / height) / math.sqrt(height)
    columns = np.exp(-2j * np.pi * np.outer(np.arange(width), np.arange(width)) / width) / math.sqrt(width)
    logs = [np.log(1 + np.abs(rows @ x.double().numpy()[:, :, 0] @ columns)) for x in (restored, target)]
    expected = np.abs(logs[0] - logs[1]).mean(axis=(-2, -1))
    found = spectrum_distance(restored, target)
    assert found.shape == (2, 3) and found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_sees_amplitudes_and_not_places() -> None:
    target = frames(1, 1, 24, 32)
    assert float(spectrum_distance(target, target)) == 0
    for same in (target.roll((3, 5), dims=(-2, -1)), target.flip(-2, -1)):
        assert float(spectrum_distance(same, target)) < 1e-6
    blurred = [float(spectrum_distance(gaussian_blur(target, sigma), target)) for sigma in (0.5, 1.0, 2.0)]
    assert 0 < blurred[0] < blurred[1] < blurred[2]
    half = float(spectrum_distance(0.5 * target, target))
    assert half > 0.01, "contrast counts"


def test_does_not_depend_on_the_size_of_the_frame() -> None:
    noise = [float(spectrum_distance(frames(1, 1, s, s), torch.full((1, 1, s, s), 0.5))) for s in (64, 256)]
    assert noise[0] == pytest.approx(noise[1], rel=0.03)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    restored, target = frames(7, 1, 9, 11), frames(7, 1, 9, 11, seed=1)
    whole = spectrum_distance(restored, target)
    for pixels in (1, 2 * 99, 3 * 99 + 5):
        monkeypatch.setattr(spectrum, "_PIXELS_AT_ONCE", pixels)
        torch.testing.assert_close(spectrum_distance(restored, target), whole, atol=1e-7, rtol=0)


def test_full_precision_under_autocast_and_of_halves() -> None:
    restored, target = frames(2, 1, 9, 11), frames(2, 1, 9, 11, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(spectrum_distance(restored, target), spectrum_distance(restored, target).float())
        assert spectrum_distance(restored.bfloat16(), target.half()).dtype == torch.float32
        inside = spectrum_distance(restored, target)
    assert torch.equal(inside, spectrum_distance(restored, target))


def test_a_broken_frame_is_nan_and_no_other() -> None:
    restored = frames(3, 1, 9, 11)
    restored[1, 0, 0, 0] = math.nan
    assert spectrum_distance(restored, frames(3, 1, 9, 11)).isnan().tolist() == [False, True, False]
