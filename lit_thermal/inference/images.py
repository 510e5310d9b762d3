"""Restoration of images by any method: whole or in overlapping tiles, several at a time, with or without guides."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.batch import Batch
from lit_thermal.errors import InputError
from lit_thermal.inference.memory import memory_advice
from lit_thermal.inference.video import MINIMUM
from lit_thermal.ops.tile import blend_weights, tile_starts

SAME_VIEW = 0.01
"""Largest relative difference of the ratios of sides at which a guide and an image show one field of view."""


@torch.inference_mode()
def restore_images(
    model: Any,
    lr: Tensor,
    guide: Tensor | None = None,
    *,
    tile: int | None = None,
    overlap: int = 16,
    batch: int = 1,
    device: torch.device | str = "cpu",
    has_guide: Tensor | None = None,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Restore images of one size by a method of images, or of video, which then enlarges in space only.

    Only the inputs and the result are in memory as a whole; the model sees `batch` images or tiles at a time. A method
    of video gets each image as a still clip (`still`).

    Args:
        model: method in eval mode on `device`.
        lr: (B, 1, h, w) in [0, 1] on the CPU.
        guide: (B, 3, Hg, Wg) in [0, 1] on the CPU, of any resolution and of the same field of view; None without.
        tile: side of the tiles in input pixels; None restores whole images.
        overlap: number of input pixels that neighbouring tiles share.
        batch: number of images or tiles that are restored at once.
        device: device of the model.
        has_guide: (B,) bool: which images have a guide; None for all.
        names: name of each image, which seeds the random draws of methods that sample; by default numbers.

    Returns:
        (B, 1, scale * h, scale * w) float32 in [0, 1] on the CPU. It does not depend on `batch`, except for rounding.

    Raises:
        InputError: guides cannot be cut into tiles, or a batch does not fit into the memory of the device.
    """
    count, _, height, width = lr.shape
    names = [str(index) for index in range(count)] if names is None else names
    size = (model.scale * height, model.scale * width)
    side = max(height, width) if tile is None else tile
    shared = min(overlap, side - 1)
    rows, columns = (tile_starts(length, side, shared) for length in (height, width))
    whole = len(rows) == len(columns) == 1
    if guide is not None and not whole:
        guide = _enlarged_guide(guide, size)
    weights = [
        blend_weights([model.scale * s for s in starts], large, min(model.scale * side, large), model.scale * shared)
        for starts, large in ((rows, size[0]), (columns, size[1]))
    ]
    places = [(index, y, x) for index in range(count) for y in range(len(rows)) for x in range(len(columns))]
    result = torch.zeros(count, 1, *size)
    for group in (places[start : start + batch] for start in range(0, len(places), batch)):
        parts = [_cut(lr, guide, has_guide, (i, rows[y], columns[x]), side, model.scale, whole) for i, y, x in group]
        named = [names[i] if whole else f"{names[i]}/{rows[y]},{columns[x]}" for i, y, x in group]
        restored = _restored(model, _joined(parts, named), device)
        for (i, y, x), part in zip(group, restored, strict=True):
            weight = (weights[0][y][:, None] * weights[1][x]).float()
            top, left = model.scale * rows[y], model.scale * columns[x]
            result[i, :, top : top + part.shape[-2], left : left + part.shape[-1]] += part * weight
    return result


def restore_frames(
    frames: Iterable[Tensor],
    model: Any,
    *,
    name: str,
    tile: int | None = None,
    overlap: int = 16,
    batch: int = 1,
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """Restore a stream of frames one by one with a method of images; only `batch` frames are in memory.

    Args:
        frames: frames (1, h, w), float32 in [0, 1], all of the same size.
        model: method in eval mode on `device`.
        name: name of the clip; each frame is named after it and its number.
        tile: side of the tiles in input pixels; None restores whole frames.
        overlap: number of input pixels that neighbouring tiles share.
        batch: number of frames or tiles that are restored at once.
        device: device of the model.

    Yields:
        (1, scale * h, scale * w) float32 in [0, 1] on the CPU.
    """
    source, number = iter(frames), 0
    while group := list(itertools.islice(source, batch)):
        names = [f"{name}/{number + index}" for index in range(len(group))]
        yield from restore_images(
            model, torch.stack(group), tile=tile, overlap=overlap, batch=batch, device=device, names=names
        )
        number += len(group)


def still(batch: Batch) -> Batch:
    """Return images (B, 1, h, w) as clips for a method of video: one frame three times, restored at the middle one.

    Interpolation in time needs three frames. Repeats have no motion and no change, so that only the enlargement is
    left. More repeats were no better (THERIS on simulated images: 34.9 dB with 3, 34.8 with 4 or 5), nor was restoring
    the times in between too, which takes three times as long.

    Args:
        batch: batch with `lr`.
    """
    lr = batch["lr"]
    times = torch.arange(MINIMUM, dtype=torch.float32).expand(len(lr), -1)
    clips = lr.unsqueeze(1).expand(-1, MINIMUM, -1, -1, -1)
    return {**batch, "lr": clips, "lr_time": times, "hr_time": times[:, MINIMUM // 2, None]}


def _restored(model: Any, batch: Batch, device: torch.device | str) -> Tensor:
    """Restore one batch on the device to (B, 1, H, W) float32 on the CPU."""
    lr = batch["lr"]
    with memory_advice(device, lr.shape[-2:], len(lr)):
        moved: Any = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
        if model.restores_clips:
            return model.restore(still(moved))[:, 0].float().cpu()
        return model.restore(moved).float().cpu()


def _joined(parts: Sequence[dict[str, Tensor]], names: Sequence[str]) -> Batch:
    joined: Any = {key: torch.stack([part[key] for part in parts]) for key in parts[0]}
    return joined | {"name": list(names)}


def _cut(
    lr: Tensor,
    guide: Tensor | None,
    has_guide: Tensor | None,
    place: tuple[int, int, int],
    side: int,
    scale: int,
    whole: bool,
) -> dict[str, Tensor]:
    """Return one tile, with the same region of the guide if the image is not whole."""
    index, top, left = place
    part = {"lr": lr[index, :, top : top + side, left : left + side]}
    if guide is not None:
        rows, columns = (slice(scale * first, scale * (first + side)) for first in (top, left))
        part["guide"] = guide[index] if whole else guide[index, :, rows, columns]
        part["has_guide"] = torch.tensor(True) if has_guide is None else has_guide[index]
    return part


def _enlarged_guide(guide: Tensor, size: tuple[int, int]) -> Tensor:
    """Return guides at the size of the result, as methods resize them, so that tiles can be cut from them."""
    if guide.shape[-2:] == size:
        return guide
    height, width = guide.shape[-2:]
    if abs(math.log(width * size[0] / (height * size[1]))) > SAME_VIEW:
        raise InputError(
            f"a guide of {width}x{height} and a result of {size[1]}x{size[0]} differ in their fields of view, so that "
            "tiles of both cannot be paired: crop the guide or leave out --tile"
        )
    return F.interpolate(guide, size, mode="bilinear", antialias=True)
