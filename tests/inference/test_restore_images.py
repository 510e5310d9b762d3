"""Images restored by every method: whole, in tiles and in batches, with guides of any resolution."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "methods"))
from test_every_method import METHODS, built

from lit_thermal.batch import Batch
from lit_thermal.errors import InputError
from lit_thermal.inference.images import restore_images
from lit_thermal.ops.resize import resize


def images(count: int, height: int, width: int, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(height))


class Guided:
    """Adds the guide's mean to the enlarged image, and remembers the sizes of its batches."""

    scale, takes_guide, draws, restores_clips = 2, True, False, False

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def restore(self, batch: Batch) -> Tensor:
        assert torch.is_inference_mode_enabled()
        lr, guide = batch["lr"], batch["guide"]
        self.seen.append((*lr.shape, *guide.shape[-2:]))
        size = (2 * lr.shape[-2], 2 * lr.shape[-1])
        there = batch["has_guide"].view(-1, 1, 1, 1)
        guide = torch.nn.functional.interpolate(guide, size, mode="bilinear", antialias=True)
        return torch.where(there, guide.mean(1, keepdim=True) / 2, 0) + resize(lr, size).clamp(0, 1) / 2


@pytest.mark.parametrize("guide", [(66, 74), (132, 148), (33, 37)])
def test_tiles_with_their_part_of_the_guide_equal_the_whole(guide: tuple[int, int]) -> None:
    model, lr, colours = Guided(), images(2, 33, 37), images(2, *guide, channels=3)
    whole = restore_images(model, lr, colours)
    model.seen.clear()
    cut = restore_images(model, lr, colours, tile=20, overlap=12, batch=3)
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-6)
    assert {shape[0] for shape in model.seen} <= {3, 2, 1} and {shape[2:] for shape in model.seen} == {(20, 20, 40, 40)}
    torch.testing.assert_close(restore_images(model, lr, colours, tile=20, overlap=12, batch=99), cut)


def test_some_images_have_no_guide() -> None:
    lr, colours = images(2, 12, 12), images(2, 24, 24, channels=3)
    mixed = restore_images(Guided(), lr, colours, has_guide=torch.tensor([True, False]), batch=2)
    assert torch.equal(mixed[1], restore_images(Guided(), lr[1:], 0 * colours[1:])[0])
    assert torch.equal(mixed[0], restore_images(Guided(), lr[:1], colours[:1])[0])


def test_tiles_need_a_guide_of_the_same_view() -> None:
    with pytest.raises(InputError, match="a guide of 60x40 and a result of 80x80 differ in their fields of view"):
        restore_images(Guided(), images(1, 40, 40), images(1, 40, 60, channels=3), tile=16, overlap=4)


def test_memory_that_runs_out_names_the_way_out() -> None:
    class Greedy(Guided):
        def restore(self, batch: Batch) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(InputError, match=r"images of 64x40 do not fit.*give --tile 32"):
        restore_images(Greedy(), images(1, 40, 64))
    with pytest.raises(InputError, match=r"2 images of 64x40 do not fit.*give --batch 1"):
        restore_images(Greedy(), images(2, 40, 64), batch=2)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_restores_images_of_any_size(method: str) -> None:
    model = built(method)[0]
    guide = images(2, 80, 96, channels=3) if model.takes_guide else None
    lr = images(2, 20, 24)
    whole = restore_images(model, lr, guide, names=["a", "b"])
    assert whole.shape == (2, 1, 20 * model.scale, 24 * model.scale) and whole.dtype == torch.float32
    assert whole.min() >= 0 and whole.max() <= 1
    assert torch.equal(restore_images(model, lr, guide, names=["a", "b"]), whole)
    together = restore_images(model, lr, guide, batch=2, names=["a", "b"])
    torch.testing.assert_close(together, whole, rtol=0, atol=2e-4)
    cut = restore_images(model, lr, guide, tile=16, overlap=8, batch=4, names=["a", "b"])
    assert cut.shape == whole.shape and cut.isfinite().all()
    other = restore_images(model, lr, guide, names=["c", "d"])
    assert torch.equal(other, whole) != model.draws


@pytest.mark.parametrize("method", [m for m in METHODS if built(m)[0].restores_clips])
def test_a_video_method_enlarges_a_still_image_in_space_only(method: str) -> None:
    model, lr = built(method)[0], images(1, 16, 20)
    clip = {"lr": lr.unsqueeze(1).expand(-1, 5, -1, -1, -1), "lr_time": torch.arange(5.0)[None], "name": ["a"]}
    with torch.inference_mode():
        still = model.restore(clip | {"hr_time": torch.arange(5.0)[None]})
    restored = restore_images(model, lr)
    assert restored.shape == (1, 1, 16 * model.scale, 20 * model.scale)
    # a still clip at any time is the same picture, up to what the place in the clip changes
    assert (still[:, 2] - restored).abs().mean() < 0.02
