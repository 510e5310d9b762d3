import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.ops.tile import blend_weights, tile_starts, tiled


@pytest.mark.parametrize("length", [1, 7, 16, 17, 31, 64, 100, 257])
@pytest.mark.parametrize(("tile", "overlap"), [(8, 0), (8, 1), (8, 7), (16, 4), (16, 10), (33, 12), (300, 20)])
def test_tiles_cover_an_axis_and_their_weights_sum_to_one(length: int, tile: int, overlap: int) -> None:
    starts = tile_starts(length, tile, overlap)
    tile = min(tile, length)
    assert starts[0] == 0 and starts[-1] + tile == length
    shared = [a + tile - b for a, b in itertools.pairwise(starts)]
    assert all(overlap <= share < tile for share in shared)
    weights = blend_weights(starts, length, tile, overlap)
    assert weights.shape == (len(starts), tile) and weights.min() >= 0
    total = torch.zeros(length, dtype=torch.float64)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + tile] += weight
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


def test_what_is_near_a_cut_is_not_used() -> None:
    starts = tile_starts(40, 16, 8)
    weights = blend_weights(starts, 40, 16, 8)
    assert (weights[1:, :2] == 0).all() and (weights[:-1, -2:] == 0).all()
    assert weights[0, 0] == 1 and weights[-1, -1] == 1


@pytest.mark.parametrize("size", [(37, 53), (24, 24), (23, 90), (90, 23)])
def test_tiles_of_a_local_function_equal_the_whole(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(1, 1, 5, 5, dtype=torch.float64, generator=generator)
    clip = torch.rand(4, 1, *size, dtype=torch.float64, generator=generator)

    def enlarge(x: Tensor) -> Tensor:
        y = F.interpolate(F.conv2d(x, kernel, padding=2), scale_factor=4, mode="bilinear")
        return torch.cat((y, y[:3]))  # the number of frames may change

    whole = enlarge(clip)
    torch.testing.assert_close(tiled(enlarge, clip, tile=24, overlap=12, scale=4), whole, rtol=0, atol=1e-12)
    cut = tiled(enlarge, clip, tile=24, overlap=4, scale=4)  # less than the kernel needs: close, not equal
    if max(size) > 24:
        assert (cut - whole).abs().max() > 1e-9


def test_a_constant_stays_exactly_constant_in_single_precision() -> None:
    x = torch.full((2, 1, 50, 41), 0.7)
    y = tiled(lambda t: F.interpolate(t, scale_factor=2), x, tile=16, overlap=6, scale=2)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, torch.full((2, 1, 100, 82), 0.7), rtol=0, atol=1e-7 * 2)


def test_one_tile_is_not_cut_and_wrong_arguments_fail() -> None:
    seen: list[tuple[int, ...]] = []

    def note(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape))
        return x

    tiled(note, torch.zeros(1, 20, 30), tile=32, overlap=8, scale=1)
    assert seen == [(1, 20, 30)]
    with pytest.raises(ValueError, match="below the tile"):
        tile_starts(100, 8, 8)
    with pytest.raises(ValueError, match="was expected"):
        tiled(note, torch.zeros(1, 20, 30), tile=16, overlap=8, scale=2)
