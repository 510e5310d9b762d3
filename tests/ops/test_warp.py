import math

import numpy as np
import pytest
import torch

from lit_thermal.ops.warp import translate, warp


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


def warped(x: np.ndarray, matrix: np.ndarray, size, fill) -> np.ndarray:
    """One pixel after the other, in float64."""
    height, width = x.shape
    inverse = np.linalg.inv(matrix)

    def pixel(i: int, j: int) -> float:
        if fill == "reflect":
            i, j = (abs((k + n - 1) % (2 * n - 2) - n + 1) if n > 1 else 0 for k, n in ((i, height), (j, width)))
        return float(x[i, j]) if 0 <= i < height and 0 <= j < width else float(fill)

    result = np.empty(size)
    for i, j in np.ndindex(*size):
        across, down, depth = inverse @ (j, i, 1.0)
        if depth <= 0:
            result[i, j] = 0 if fill == "reflect" else fill
            continue
        y, z = down / depth, across / depth
        r, c = math.floor(y), math.floor(z)
        result[i, j] = sum(
            weight * pixel(r + k, c + m)
            for k, m, weight in (
                (0, 0, (1 - y + r) * (1 - z + c)),
                (0, 1, (1 - y + r) * (z - c)),
                (1, 0, (y - r) * (1 - z + c)),
                (1, 1, (y - r) * (z - c)),
            )
        )
    return result


def shift(dx: float, dy: float) -> torch.Tensor:
    return torch.tensor([[1, 0, dx], [0, 1, dy], [0, 0, 1.0]], dtype=torch.float64)


MATRICES = {
    "affine": [[0.8, -0.3, 2.0], [0.4, 1.1, -1.5], [0, 0, 1]],
    "perspective": [[1.1, 0.1, -0.7], [-0.2, 0.9, 1.3], [0.03, -0.02, 1]],
    "scaled": [[2.2, 0.2, -1.4], [-0.4, 1.8, 2.6], [0.06, -0.04, 2]],
    "horizon": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -0.2, 1]],
}


@pytest.mark.parametrize("fill", [0.0, 0.7, "reflect"])
@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("size", [(7, 9), (5, 3), (12, 14)])
def test_warp_equals_pixel_after_pixel(name, fill, size):
    x = torch.rand(2, 3, 7, 9, dtype=torch.float64)
    matrix = torch.tensor(MATRICES[name], dtype=torch.float64)
    got = warp(x, matrix, size, fill)
    assert got.shape == (2, 3, *size)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(got[index], warped(x[index].numpy(), matrix.numpy(), size, fill), atol=1e-10)
    assert warp(x.float(), matrix, size, fill).dtype == torch.float32
    torch.testing.assert_close(warp(x.float(), matrix, size, fill).double(), got, atol=1e-5, rtol=0)


@pytest.mark.parametrize("fill", [0.0, 3.0, "reflect"])
@pytest.mark.parametrize("shape", [(3, 6, 7), (1, 1, 1), (2, 480, 641), (0, 4, 4)])
def test_the_identity_is_exact(shape, fill):
    x = torch.rand(*shape)
    assert torch.equal(warp(x, torch.eye(3), fill=fill), x)
    assert torch.equal(warp(x.bfloat16(), 5 * torch.eye(3), fill=fill), x.bfloat16())


@pytest.mark.parametrize(("dx", "dy"), [(1, 0), (0, -2), (3, 2), (-9, 20), (1.25, -0.5), (-0.3, 2.7)])
def test_a_shift_is_that_of_translate(dx, dy):
    x = torch.rand(2, 3, 6, 7)
    if dx == int(dx):
        assert torch.equal(warp(x, shift(dx, dy), fill=-1.5), translate(x, dx, dy, -1.5))
    torch.testing.assert_close(warp(x, shift(dx, dy), fill=-1.5), translate(x, dx, dy, -1.5))


def test_a_part_is_cut_from_the_whole():
    x, matrix = torch.rand(3, 20, 24), torch.tensor(MATRICES["affine"], dtype=torch.float64)
    torch.testing.assert_close(warp(x, shift(-5, -7) @ matrix, (6, 8)), warp(x, matrix)[:, 7:13, 5:13])


def test_there_and_back():
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    plane = (0.2 * x - 0.1 * y)[None]
    matrix = torch.tensor([[0.9, -0.1, 4], [0.1, 0.9, 1], [0, 0, 1]])
    back = warp(warp(plane, matrix, fill="reflect"), torch.linalg.inv(matrix.double()), fill="reflect")
    torch.testing.assert_close(back[:, 12:28, 12:38], plane[:, 12:28, 12:38], atol=1e-4, rtol=0)


def test_warp_gradient_in_image_and_matrix():
    x = torch.rand(2, 5, 4, dtype=torch.float64, requires_grad=True)
    matrix = torch.tensor([[0.9, -0.13, 0.71], [0.17, 1.1, -0.33], [0.01, -0.02, 1]], dtype=torch.float64)
    matrix.requires_grad_(True)
    for fill in (0.5, "reflect"):
        assert torch.autograd.gradcheck(lambda x, m: warp(x, m, fill=fill), (x, matrix))  # noqa: B023


def test_warp_takes():
    with pytest.raises(ValueError, match=r"warp takes a floating point tensor, not torch.uint8"):
        warp(torch.zeros(3, 3, dtype=torch.uint8), torch.eye(3))
    for matrix in (torch.ones(3, 3), torch.full((3, 3), float("nan")), torch.eye(2)):
        with pytest.raises(ValueError, match="warp takes a finite matrix of 3 x 3 that has an inverse, not"):
            warp(torch.zeros(3, 3), matrix)
