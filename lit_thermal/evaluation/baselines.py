"""Simple baselines that enlarge thermal images and video, measured in addition to the method in every test run.

A baseline enlarges each input frame, then combines the frames by a matrix over time or by warping along their motion.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.batch import Batch, need
from lit_thermal.errors import InputError
from lit_thermal.evaluation.gather import gather_objects
from lit_thermal.evaluation.guided_baselines import GuidedBaselines
from lit_thermal.metrics.quality import psnr
from lit_thermal.ops.blur import gaussian_blur
from lit_thermal.ops.dct import cosine_basis
from lit_thermal.ops.motion import align, warp_between
from lit_thermal.ops.resize import resize

REFERENCE = "bicubic (a=-0.5)"
"""Enlargement with MATLAB's kernel, the field's reference; figures show it."""

_ENLARGE: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "nearest": lambda x, size: resize(x, size, kernel="nearest"),
    "bilinear": lambda x, size: resize(x, size, kernel="linear", border="replicate"),
    "bicubic (a=-0.75)": lambda x, size: resize(x, size, a=-0.75, border="replicate"),
    REFERENCE: lambda x, size: resize(x, size, a=-0.5),
}

SIGMAS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Standard deviations of the Gaussian blurs that are tried, in HR pixels; 0 is no blur."""

_SLACK = 1e-4
"""Tolerance in input frames between a time stamp computed in float32 and its frame."""


def image_baselines(lr: Tensor, scale: int) -> dict[str, Tensor]:
    """Enlarge images by each kernel.

    Args:
        lr: (..., h, w) in [0, 1].
        scale: factor by which the result is wider and higher than the input.

    Returns:
        Results (..., scale * h, scale * w) by name of the kernel, clipped to [0, 1].
    """
    size = (lr.shape[-2] * scale, lr.shape[-1] * scale)
    return {name: enlarge(lr, size).clamp(0, 1) for name, enlarge in _ENLARGE.items()}


def video_baselines(lr: Tensor, hr_time: Tensor, scale: int) -> dict[str, Tensor]:
    """Enlarge each frame by each kernel (clipped as in a file), then blend the two neighbouring frames in time.

    With MATLAB's kernel there are three more: ``repeat`` (the last input frame is repeated), ``cosine`` (the cosine
    series of the window, evaluated in between: heat-based interpolation without heat), and ``flow warp`` (optical flow
    is estimated on the input frames, and the enlarged neighbours are warped along it where they agree).

    Args:
        lr: (B, X, 1, h, w) in [0, 1], frames at the times 0, 1, ..., X - 1.
        hr_time: (B, T') times of the frames to make, in [0, X - 1].
        scale: factor by which the result is wider and higher than the input.

    Returns:
        Results (B, T', 1, scale * h, scale * w) by name, clipped to [0, 1].

    Raises:
        InputError: a time lies outside the window.
    """
    size = (lr.shape[-2] * scale, lr.shape[-1] * scale)
    frames = lr.shape[1]
    blend = _linear_in_time(hr_time, frames)
    result = {}
    for name, enlarge in _ENLARGE.items():
        large = enlarge(lr, size).clamp(0, 1)
        result[f"{name} + linear blend"] = _mix(blend, large)
        if name == REFERENCE:
            result[f"{name} + repeat"] = _mix(_repeat_in_time(hr_time, frames), large)
            result[f"{name} + cosine"] = _mix(_cosine_in_time(hr_time, frames), large)
            result[f"{name} + flow warp"] = _along_motion(lr, large, hr_time)
    return result


def reference_baseline(batch: Batch, scale: int) -> Tensor:
    """Return the baseline that figures show: bicubic (a=-0.5), with linear blend for video; in [0, 1]."""
    lr = batch["lr"]
    large = _ENLARGE[REFERENCE](lr, (lr.shape[-2] * scale, lr.shape[-1] * scale)).clamp(0, 1)
    if lr.ndim == 4:
        return large
    need(batch, "hr_time", by="the baseline of a video")
    return _mix(_linear_in_time(batch["hr_time"], lr.shape[1]), large)


class TunedBaselines:
    """All baselines of a batch, each also with the Gaussian blur that is best on the validation set.

    Images with a guide also have the filters of `GuidedBaselines`, with the settings that are best there.

    Args:
        scale: factor by which the restored frames are wider and higher than the input.
    """

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.sigmas: dict[str, float] = {}
        """Blur of each baseline in HR pixels; a baseline that is best without a blur has no entry."""
        self.guided = GuidedBaselines(scale)

    @torch.no_grad()
    def tune(self, batches: Iterable[Batch], samples: int = 32) -> None:
        """Choose the blur with the highest mean PSNR for each baseline; all ranks make the same choice.

        Samples without a thermal input are skipped.

        Args:
            batches: batches of the validation set, with `hr`.
            samples: number of clips or images to use; more would not change the choice among six blurs.
        """
        totals: dict[str, list[float]] = {}
        parts = (part for part in map(_with_input, batches) if len(part["lr"]))
        for batch in _first(parts, samples):
            need(batch, "hr", by="tuning the baselines")
            for name, large in self._plain(batch).items():
                found = [float(psnr(gaussian_blur(large, s), batch["hr"]).double().sum()) for s in SIGMAS]
                totals[name] = [a + b for a, b in zip(totals.get(name, [0.0] * len(SIGMAS)), found, strict=True)]
            self.guided.measure(batch)
        self.guided.choose()
        gathered = gather_objects(totals)
        self.sigmas = {}
        for name in next((t for t in gathered if t), {}):
            sums = [sum(column) for column in zip(*(t[name] for t in gathered if name in t), strict=True)]
            best = max(range(len(SIGMAS)), key=sums.__getitem__)
            if SIGMAS[best] > 0:
                self.sigmas[name] = SIGMAS[best]

    @torch.no_grad()
    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return the restored frames by name, (B, T', 1, H, W) for video and (B, 1, H, W) for images, in [0, 1].

        The name of a blurred baseline ends with its Gaussian; each baseline is also returned without a blur. A sample
        without a thermal input is NaN; if no sample has one, there is no baseline.
        """
        part = _with_input(batch)
        if not len(part["lr"]):
            return {}
        result = {}
        for name, large in self._plain(part).items():
            result[name] = _whole(large, batch)
            if name in self.sigmas:
                sigma = self.sigmas[name]
                result[f"{name} + Gaussian {sigma:g}"] = _whole(gaussian_blur(large, sigma), batch)
        return result | {name: _whole(filtered, batch) for name, filtered in self.guided(part).items()}

    @property
    def settings(self) -> dict[str, dict[str, float]]:
        """Return what was chosen on the validation set, by baseline."""
        return {name: {"sigma": sigma} for name, sigma in self.sigmas.items()} | self.guided.settings

    def _plain(self, batch: Batch) -> dict[str, Tensor]:
        if batch["lr"].ndim == 4:
            return image_baselines(batch["lr"], self.scale)
        need(batch, "hr_time", by="the baselines of a video")
        return video_baselines(batch["lr"], batch["hr_time"], self.scale)


def _with_input(batch: Batch) -> Batch:
    """Return the tensors of the samples that have a thermal input."""
    need(batch, "lr", by="the baselines")
    if "has_lr" not in batch:
        return batch
    present = batch["has_lr"]
    return {key: x[present.to(x.device)] for key, x in batch.items() if isinstance(x, Tensor)}  # type: ignore[return-value]


def _whole(part: Tensor, batch: Batch) -> Tensor:
    """Put the samples of `_with_input` back at their places in the batch, with NaN elsewhere."""
    if "has_lr" not in batch or len(part) == len(batch["has_lr"]):
        return part
    whole = part.new_full((len(batch["has_lr"]), *part.shape[1:]), torch.nan)
    whole[batch["has_lr"]] = part
    return whole


def _linear_in_time(time: Tensor, frames: int) -> Tensor:
    """Return the weights (B, T', X) of linear interpolation between neighbouring frames."""
    if time.min() < -_SLACK or time.max() > frames - 1 + _SLACK:
        raise InputError(
            f"the frames to restore lie at {time.min():g} to {time.max():g}, outside the input's 0 to {frames - 1}"
        )
    return (1 - (time[..., None] - torch.arange(frames, device=time.device)).abs()).clamp(min=0)


def _repeat_in_time(time: Tensor, frames: int) -> Tensor:
    """Return the weights (B, T', X) that select the last frame at or before each time."""
    return F.one_hot((time + _SLACK).floor().long(), frames).to(time.dtype)


def _cosine_in_time(time: Tensor, frames: int) -> Tensor:
    """Return the weights (B, T', X) of interpolation by the cosine series through all frames."""
    inverse = cosine_basis(time.flatten().cpu(), frames)
    forward = cosine_basis(torch.arange(frames), frames).T
    return (inverse @ forward).view(*time.shape, frames).to(time)


def _along_motion(lr: Tensor, large: Tensor, time: Tensor) -> Tensor:
    """Warp enlarged frames along the motion of the input frames; clips of a batch may have different times."""
    if torch.equal(time, time[:1].expand_as(time)):
        tau = time[0].cpu()
        return warp_between(large, align(lr.float(), tau))
    return torch.cat([_along_motion(*(x[i : i + 1] for x in (lr, large, time))) for i in range(len(lr))])


def _mix(weights: Tensor, frames: Tensor) -> Tensor:
    """Combine (B, X, 1, H, W) by (B, T', X) to (B, T', 1, H, W), clipped to [0, 1]."""
    return torch.einsum("btx,bxchw->btchw", weights.to(frames), frames).clamp(0, 1)


def _first(batches: Iterable[Batch], samples: int) -> Iterator[Batch]:
    """Yield batches until the given number of samples is reached."""
    count = 0
    for batch in batches:
        yield batch
        count += len(batch["lr"])
        if count >= samples:
            return
