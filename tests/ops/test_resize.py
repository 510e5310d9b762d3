import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from lit_thermal.ops.resize import resize, resize_weights


def image(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(36, 52), (9, 13), (31, 20), (7, 40)])
def test_equals_torch_bicubic(size: tuple[int, int]) -> None:
    x = image(2, 1, 18, 26)
    ours = resize(x, size, a=-0.75, antialias=False, border="replicate")
    torch.testing.assert_close(ours, F.interpolate(x, size, mode="bicubic", align_corners=False))


@pytest.mark.parametrize("size", [(36, 52), (9, 13), (31, 20)])
def test_equals_torch_bilinear_and_nearest(size: tuple[int, int]) -> None:
    x = image(1, 3, 18, 26)
    ours = resize(x, size, kernel="linear", antialias=False, border="replicate")
    torch.testing.assert_close(ours, F.interpolate(x, size, mode="bilinear", align_corners=False))
    torch.testing.assert_close(resize(x, size, kernel="nearest"), F.interpolate(x, size, mode="nearest-exact"))


@pytest.mark.parametrize("size", [(16, 20), (128, 160), (45, 57)])
def test_equals_antialiased_bicubic_inside(size: tuple[int, int]) -> None:
    x = image(1, 1, 64, 80)
    ours = resize(x, size)
    reference = F.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False)
    margin = max(2, int(np.ceil(2 * size[0] / 64)) + 1)
    inside = (..., slice(margin, -margin), slice(margin, -margin))
    torch.testing.assert_close(ours[inside], reference[inside])
    pil = Image.fromarray(x[0, 0].float().numpy()).resize(size[::-1], Image.Resampling.BICUBIC)
    # Pillow rounds its own weights to float32 sums.
    np.testing.assert_allclose(np.asarray(pil)[inside[1:]], ours[0, 0].float().numpy()[inside[1:]], atol=2e-5)


def test_equals_matlab_imresize() -> None:
    # Octave's and MATLAB's imresize((1:8).^2, [1 2]) reduces to this sum over the mirrored row, written out.
    row = np.arange(1, 9, dtype=float) ** 2
    mirrored = np.concatenate([row[::-1], row, row[::-1]])
    expected = []
    for i in range(2):
        centre = 4 * i + 1.5 + 8
        distance = np.abs(np.arange(24) - centre) / 4
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        weight = np.where(distance <= 1, near, np.where(distance <= 2, far, 0))
        expected.append((weight * mirrored).sum() / weight.sum())
    ours = resize(torch.from_numpy(row)[None], (1, 2))
    np.testing.assert_allclose(ours.numpy()[0], expected, rtol=1e-13)


def test_same_size_is_the_input_and_a_constant_stays() -> None:
    x = image(1, 12, 10)
    assert resize(x, (12, 10)) is x
    for kernel in ("cubic", "linear", "nearest"):
        for size in [(3, 5), (24, 40), (12, 7)]:
            y = resize(torch.full((12, 10), 0.3, dtype=torch.float64), size, kernel=kernel)
            torch.testing.assert_close(y, torch.full(size, 0.3, dtype=torch.float64))


def test_gradient() -> None:
    x = image(2, 8, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: resize(t, (4, 12)), x)


def test_weights_of_inference_mode_serve_training() -> None:
    with torch.inference_mode():
        resize(torch.rand(1, 11, 13), (22, 26))
    x = torch.rand(1, 11, 13, requires_grad=True)
    resize(x, (22, 26)).square().sum().backward()
    assert x.grad is not None


def test_weights_are_cached_and_half_precision_is_computed_in_float32() -> None:
    assert resize_weights(16, 64) is resize_weights(16, 64)
    assert resize_weights(16, 64).dtype == np.float64
    x = image(1, 16, 16, dtype=torch.float32).bfloat16()
    y = resize(x, 64)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, resize(x.float(), 64).bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(resize(x.float(), 64), resize(x.float(), 64).float(), rtol=0, atol=0)
        assert resize(x.float(), 64).dtype == torch.float32


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=">= 1"):
        resize(torch.rand(4, 4), (0, 4))
    with pytest.raises(ValueError, match=r"the kernel of resize is .*must be one of"):
        resize(torch.rand(4, 4), 8, kernel="lanczos")
    with pytest.raises(ValueError, match="floating point"):
        resize(torch.zeros(4, 4, dtype=torch.uint8), 8)
