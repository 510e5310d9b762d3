import io

import numpy as np
import pytest
import torch
from PIL import Image

from lit_thermal.ops.jpeg import jpeg, luminance_steps


def scene(height: int, width: int) -> np.ndarray:
    """Smooth shapes, edges and a little noise, uint8."""
    y, x = np.mgrid[:height, :width]
    values = 110 + 60 * np.sin(x / 9.0) * np.cos(y / 13.0) + 50 * ((x // 23 + y // 17) % 2)
    return np.clip(values + np.random.default_rng(0).normal(0, 4, values.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("quality", [1, 10, 30, 49, 50, 75, 95, 100])
@pytest.mark.parametrize("size", [(64, 96), (45, 61)])
def test_it_is_what_pillow_writes_and_reads(quality: int, size: tuple[int, int]) -> None:
    image = scene(*size)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as read:
        steps = np.array(read.quantization[0]).reshape(8, 8)
        theirs = np.asarray(read).astype(np.float64)
    assert np.array_equal(luminance_steps(quality).numpy(), steps)
    ours = jpeg(torch.from_numpy(image).double() / 255, quality).numpy() * 255
    off = np.abs(ours.round() - theirs)
    # Its transform is in whole numbers, so that a coefficient near half a step may go the other way.
    assert off.mean() < 0.4 and (off == 0).mean() > 0.7
    assert (off**2).mean() < 0.2 * ((image - theirs) ** 2).mean() or quality == 100


def test_shape_type_and_range_are_kept() -> None:
    x = torch.rand(2, 3, 1, 9, 20, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    y = jpeg(x, 42.5)
    assert y.shape == x.shape and y.dtype == torch.float32
    assert y.min() >= 0 and y.max() <= 1
    torch.testing.assert_close(jpeg(x[1, 2], 42.5), y[1, 2])
    torch.testing.assert_close(jpeg(x.double(), 42.5).float(), y, rtol=0, atol=1e-6)


def test_it_loses_less_at_higher_quality() -> None:
    x = torch.from_numpy(scene(64, 64)).double() / 255
    errors = [float((jpeg(x, quality) - x).abs().mean()) for quality in (10.0, 30.0, 60.5, 95.0)]
    assert errors == sorted(errors, reverse=True) and errors[-1] > 0


def test_half_a_step_goes_one_way_whatever_the_rounding_error() -> None:
    # At quality 50 the step of the mean is 16, so that 63.5 steps are a block of level 255.
    for error in (-1e-13, 0.0, 1e-13):
        assert torch.equal(jpeg(torch.full((8, 8), 1.0 + error, dtype=torch.float64), 50), torch.ones(8, 8).double())
        values = jpeg(torch.full((8, 8), 1 / 255 + error, dtype=torch.float64), 50)
        torch.testing.assert_close(values, torch.zeros(8, 8, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("quality", [0, 101, float("nan")])
def test_a_quality_out_of_range(quality: float) -> None:
    with pytest.raises(ValueError, match="it must be from 1 to 100"):
        jpeg(torch.zeros(8, 8), quality)
