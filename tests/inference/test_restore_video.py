import pytest
import torch
from standin import Blend, Centrality

from lit_thermal.errors import InputError
from lit_thermal.inference.video import restore_video
from lit_thermal.ops.resize import resize


def frames(count: int, height: int = 9, width: int = 7) -> torch.Tensor:
    return torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("temporal_scale", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [3, 4, 5, 6, 7, 8, 23])
def test_every_frame_is_restored_once_and_in_order(count: int, temporal_scale: int) -> None:
    clip, model = frames(count), Blend()
    restored = torch.stack(list(restore_video(iter(clip), model, temporal_scale=temporal_scale)))
    assert len(restored) == temporal_scale * (count - 1) + 1
    # The stand-in blends the two frames around a time, so windows must not show at all.
    times = torch.arange(len(restored)) / temporal_scale
    first = times.floor().long().clamp(max=count - 2)
    share = (times - first).view(-1, 1, 1, 1)
    blend = clip[first] * (1 - share) + clip[first + 1] * share
    expected = resize(blend, (36, 28), a=-0.75, antialias=False, border="replicate").clamp(0, 1)
    torch.testing.assert_close(restored, expected, rtol=0, atol=1e-6)
    assert set(model.lengths) == {min(4, count)}


@pytest.mark.parametrize("count", [6, 7, 12, 13])
def test_of_two_windows_the_more_central_output_is_kept(count: int) -> None:
    depth = torch.stack(list(restore_video(frames(count), Centrality(), temporal_scale=2)))[:, 0, 0, 0] * 10
    assert depth[0] == 0 and depth[-1] == 0
    # Two windows overlap by one input frame step, so no frame inside lies nearer than half of it to an end.
    assert depth[2:-2].min() >= 0.5 and depth[1] == 0.5


def test_few_frames_are_read_ahead() -> None:
    read = []

    def source():
        for index, frame in enumerate(frames(50)):
            read.append(index)
            yield frame

    for index, _ in enumerate(restore_video(source(), Blend(), temporal_scale=2)):
        assert len(read) <= index // 2 + 7


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_frames(count: int) -> None:
    with pytest.raises(InputError, match=f"at least 3 frames.*has {count}"):
        list(restore_video(frames(count), Blend(), temporal_scale=2))


def test_tiles_equal_the_whole() -> None:
    clip = frames(5, 45, 38)
    whole = torch.stack(list(restore_video(clip, Blend(), temporal_scale=2)))
    cut = torch.stack(list(restore_video(clip, Blend(), temporal_scale=2, tile=24, overlap=16)))
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-6)


def test_memory_that_runs_out_names_the_way_out() -> None:
    class Greedy(Blend):
        def restore(self, batch):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(InputError, match=r"40x64.*--tile 32"):
        list(restore_video(frames(4, 64, 40), Greedy(), temporal_scale=2))
