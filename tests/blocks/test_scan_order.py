import pytest
import torch

from lit_thermal.blocks.scan_order import Hilbert, ScanOrder, TemporalFirst
from lit_thermal.ops.hilbert import hilbert_path

ORDERS = [*[member() for member in ScanOrder.__subclasses__()], TemporalFirst("per_pixel")]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 4, 5), (7, 5, 4), (2, 1, 6)])
def test_every_token_once(order, size):
    path = order.path(*size)
    assert path.dtype == torch.int64
    assert torch.equal(path.flatten().sort().values, torch.arange(size[0] * size[1] * size[2]))


def test_temporal_first_reads_all_times_of_a_pixel():
    path = TemporalFirst().path(3, 2, 2)[0]
    assert path.tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    chains = TemporalFirst("per_pixel").path(3, 2, 2)
    assert chains.shape == (4, 3) and chains[1].tolist() == [1, 5, 9]


def test_hilbert_neighbours_for_all_small_sizes():
    for height in range(1, 21):
        for width in range(1, 21):
            path = hilbert_path(height, width)
            assert torch.equal(path.sort().values, torch.arange(height * width))
            assert path[0] == 0, "starts in a corner"
            dy, dx = (path // width).diff().abs(), (path % width).diff().abs()
            assert (torch.maximum(dy, dx) == 1).all()
            diagonal = int((dy + dx == 2).sum())
            longer, shorter = max(height, width), min(height, width)
            assert diagonal <= int(longer % 2 == 1 and shorter % 2 == 0), (height, width)


def test_hilbert_is_local():
    """Half of a Hilbert path covers a compact half of the square: its spread is far below that of a raster path."""
    path = hilbert_path(32, 32)
    quarter = path[:256]
    y, x = (quarter // 32).float(), (quarter % 32).float()
    assert float(y.max() - y.min()) <= 16 and float(x.max() - x.min()) <= 16


def test_hilbert_video_goes_on_where_the_frame_before_ended():
    path = Hilbert().path(4, 6, 8)[0]
    pixel = path % 48
    for t in range(1, 4):
        assert pixel[t * 48] == pixel[t * 48 - 1]
    assert torch.equal(path // 48, torch.arange(4).repeat_interleave(48))


@pytest.mark.parametrize("order", ORDERS)
def test_indices_are_found_once_for_each_size(order, monkeypatch):
    calls = []
    path = type(order).path
    monkeypatch.setattr(type(order), "path", lambda *a: calls.append(1) or path(*a))
    for _ in range(3):
        found, places = order.indices(3, 7, 11, torch.device("cpu"))
    assert len(calls) == 1
    assert torch.equal(found.flatten()[places], torch.arange(3 * 7 * 11))
