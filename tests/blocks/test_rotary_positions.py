import math

import pytest
import torch

from lit_thermal.blocks.rotary_positions import grid_rotations, rotate

CPU = torch.device("cpu")


def rotations(sides, dim, extent, dtype=torch.float64):
    return grid_rotations(sides, dim, extent, dtype, CPU)


@pytest.mark.parametrize(("sides", "dim", "extent"), [((32, 1, 2, 3), 64, 32), ((4, 4, 1, 3), 8, 4)])
def test_turns_complex_pairs(sides, dim, extent):
    angles = [
        [
            (row if pair < dim // 4 else column) / side * extent * 10000 ** (-4 * (pair % (dim // 4)) / dim)
            for pair in range(dim // 2)
        ]
        for side in sides
        for row in range(side)
        for column in range(side)
    ]
    angles = torch.tensor(angles, dtype=torch.float64)
    x = torch.randn(2, 3, len(angles), dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.polar(torch.ones_like(angles), angles)
    got = rotate(x, rotations(sides, dim, extent))
    torch.testing.assert_close(got, torch.view_as_real(expected).flatten(-2), rtol=0, atol=1e-12)


def test_products_depend_on_the_distance_alone():
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, 16, dtype=torch.float64, generator=generator)
    turned = rotations((6,), 16, 6)
    q, k = (rotate(x.expand(36, 16), turned).view(6, 6, 16) for x in (q, k))
    products = torch.einsum("abc,ijc->abij", q, k)
    torch.testing.assert_close(products[0, 0, 2, 1], products[3, 4, 5, 5])
    torch.testing.assert_close(products[4, 0, 1, 3], products[5, 2, 2, 5])
    assert (products[0, 0, 2, 1] - products[0, 0, 1, 2]).abs() > 1e-3


def test_grids_cover_one_square():
    two, four = rotations((2,), 8, 4).view(2, 2, 2, 4), rotations((4,), 8, 4).view(2, 4, 4, 4)
    torch.testing.assert_close(two, four[:, ::2, ::2])
    origin = rotations((1,), 8, 4)
    assert (origin[0] == 1).all() and (origin[1] == 0).all()


def test_lengths_and_types_stay():
    x = torch.randn(1, 2, 9, 12, requires_grad=True)
    turned = rotate(x, rotations((3,), 12, 9, torch.float32))
    assert turned.dtype == torch.float32
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    turned.square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())


def test_precise_in_single_precision():
    single, double = (rotations((32,), 64, 32, dtype) for dtype in (torch.float32, torch.float64))
    assert single.dtype == torch.float32 and (single - double).abs().max() < 1e-7
    assert math.isclose(double[1, 32, 0], math.sin(1.0))


def test_kept_from_inference_mode_serves_training():
    with torch.inference_mode():
        rotations((5,), 4, 5)
    x = torch.randn(25, 4, dtype=torch.float64, requires_grad=True)
    rotate(x, rotations((5,), 4, 5)).sum().backward()
    assert x.grad is not None
