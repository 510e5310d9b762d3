import numpy as np
import pytest
import torch

from lit_thermal.ops.warp import translate


def reference(x: np.ndarray, dx: int, dy: int, fill) -> np.ndarray:
    height, width = x.shape
    result = np.empty_like(x)
    for i in range(height):
        for j in range(width):
            y, z = i - dy, j - dx
            inside = 0 <= y < height and 0 <= z < width
            result[i, j] = x[np.clip(y, 0, height - 1), np.clip(z, 0, width - 1)] if inside or fill == "edge" else fill
    return result


@pytest.mark.parametrize("fill", ["edge", 0.0, -2.5])
@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (1, 0), (0, -2), (3, 2), (-4, 1), (-9, 20)])
def test_whole_pixels_are_exact(dx, dy, fill):
    x = torch.rand(2, 3, 6, 7)
    moved = translate(x, dx, dy, fill)
    assert moved.shape == x.shape
    for index in np.ndindex(2, 3):
        assert np.array_equal(moved[index], reference(x[index].numpy(), dx, dy, fill))


def test_between_pixels_a_plane_stays_a_plane():
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(10.0), indexing="ij")
    moved = translate((2 * x - 3 * y)[None], 1.25, -0.5)
    # the edge that is repeated is left out
    assert torch.allclose(moved[0, :-1, 2:], (2 * (x - 1.25) - 3 * (y + 0.5))[:-1, 2:], atol=1e-5)


def test_gradient():
    x = torch.rand(1, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: translate(x, -1.3, 0.6, 0.5), x)


def test_types():
    mask = torch.tensor([[True, False, False]])
    assert translate(mask, 1, 0, False).tolist() == [[False, True, False]]
    assert translate(torch.rand(2, 2).bfloat16(), 0.5, 0).dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"translate by 0\.5 pixels takes a floating point tensor, not torch.bool"):
        translate(mask, 0.5, 0)
    with pytest.raises(ValueError, match="not by nan"):
        translate(mask, float("nan"), 0)
