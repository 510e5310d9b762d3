"""Contract between data and methods: one batch type for all data sets and all methods.

Thermal images have one channel with float32 values in [0, 1]; a method converts them internally if it needs to.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor

from lit_thermal.errors import InputError


class Radiometry(NamedTuple):
    """Mapping from values in [0, 1] to the file's counts and, if known, to Kelvin.

    ``counts = offset + gain * value``. ``unit`` gives the mapping to the temperature:

    - ``"counts"``: unknown; ``constants`` is empty.
    - ``"linear"``: ``kelvin = constants[0] + constants[1] * counts``.
    - ``"planck"``: ``constants = (R1, R2, B, F, O)`` and
      ``kelvin = B / log(R1 / (R2 * (counts + O)) + F)`` (FLIR's camera model).

    ``bits`` is the bit depth of the source file (8 or 16), which a writer keeps.

    ``reading`` names the temperature: ``"apparent"`` is that of a black body of the same radiance (emissivity 1, no
    atmosphere), ``"object"`` is corrected for emissivity, reflection and air by the camera's settings, and an empty
    text means that the file does not say.
    """

    offset: float = 0.0
    gain: float = 255.0
    bits: int = 8
    unit: str = "counts"
    constants: tuple[float, ...] = ()
    reading: str = ""

    def to_counts(self, value: Tensor) -> Tensor:
        """Map values in [0, 1] of any shape to the file's counts."""
        return self.offset + self.gain * value

    def to_kelvin(self, value: Tensor) -> Tensor:
        """Map values in [0, 1] of any shape to Kelvin.

        Raises:
            InputError: the mapping from counts to temperature is unknown.
        """
        counts = self.to_counts(value)
        if self.unit == "linear":
            return self.constants[0] + self.constants[1] * counts
        if self.unit == "planck":
            r1, r2, b, f, o = self.constants
            return b / torch.log(r1 / (r2 * (counts + o)) + f)
        raise InputError(f"the temperature is unknown for radiometry with unit {self.unit!r}; use counts instead")


class Batch(TypedDict, total=False):
    """Batch that a DataModule yields and a method reads; a method reads only the keys that it needs.

    Shapes: only video has the ``T`` axis; ``hr`` and ``hr_time`` have ``T'`` frames.
    """

    lr: Tensor
    """(B, 1, h, w) or (B, T, 1, h, w): low-resolution thermal input."""
    beyond: Tensor
    """Shape of `lr`, for prediction only: part of the values removed by clipping to [0, 1], which writers add back."""
    hr: Tensor
    """(B, 1, H, W) or (B, T', 1, H, W): target; absent for prediction."""
    guide: Tensor
    """(B, 3, Hg, Wg), or (B, M, 3, Hg, Wg) for several views: visible image."""
    has_lr: Tensor
    """(B,) bool: whether the thermal image is present."""
    has_guide: Tensor
    """(B,) bool: whether the visible image is present."""
    radiometry: list[Radiometry]
    lr_time: Tensor
    """(B, T) time stamps of the LR frames, in input frames (0, 1, 2, ...)."""
    hr_time: Tensor
    """(B, T') time stamps of the frames to restore, in the same unit (0, 0.5, 1, ...)."""
    frame: Tensor
    """(B, T') int64: index of each restored frame in its clip, since windows of a clip overlap. For prediction it is -1
    if another window gives the frame."""
    tags: list[list[str]]
    boxes: list[Tensor]
    masks: list[Tensor]
    labels: list[Tensor]
    kelvin: Tensor
    """(B, 1, H, W): true temperatures of the surfaces, which only the simulator knows."""
    name: list[str]
    """Clip or file stem, for outputs and per-image tables."""
    displacement: Tensor
    """(B, 2) int64: displacement (down, right) of each target against its input in target pixels, estimated from these
    two images only; if it is known, a test measures with and without it."""
    groups: list[list[str]]
    """Groups of each image, such as its kind of blur or its scene, for which metrics are also averaged separately."""
    source: list[Path | None]
    """File that each sample was read from, for prediction only; for a clip, its first frame. The output keeps its
    format and tags. None if there is no file."""


LISTS = frozenset({"radiometry", "tags", "boxes", "masks", "labels", "name", "groups", "source"})
"""Keys that stay a list with one entry per sample; all others are stacked."""


def collate(samples: list[dict[str, Any]]) -> Batch:
    """Join samples (the keys of `Batch` without the batch axis) into one batch.

    Raises:
        InputError: samples differ in their keys or in the shape of a tensor.
    """
    if any("beyond" in sample for sample in samples):
        samples = [s if "beyond" in s else {**s, "beyond": torch.zeros_like(s["lr"])} for s in samples]
    keys = samples[0].keys()
    for sample in samples[1:]:
        if sample.keys() != keys:
            raise InputError(
                f"samples {samples[0].get('name')} and {sample.get('name')} differ in their keys: "
                f"{sorted(keys)} and {sorted(sample.keys())}"
            )
    batch: dict[str, Any] = {}
    for key in keys:
        values = [sample[key] for sample in samples]
        if key in LISTS:
            batch[key] = values
            continue
        tensors = [torch.as_tensor(value) for value in values]
        if len({t.shape for t in tensors}) > 1:
            shapes = {str(s.get("name")): tuple(t.shape) for s, t in zip(samples, tensors, strict=True)}
            raise InputError(
                f"{key!r} differs in shape within a batch: {shapes}; crop to one size, or set data.batch_size "
                "(data.eval_batch_size outside training) to 1"
            )
        batch[key] = torch.stack(tensors)
    return batch  # type: ignore[return-value]


def need(batch: Batch, *keys: str, by: str) -> None:
    """Check that the batch has all keys that `by` reads.

    Raises:
        InputError: a key is missing; the message names it and the existing keys. Or the batch is no mapping.
    """
    if not isinstance(batch, Mapping):
        raise InputError(f"{by} needs one batch, a mapping of names to tensors, not a {type(batch).__name__}")
    missing = [key for key in keys if key not in batch]
    if missing:
        raise InputError(f"{by} needs {', '.join(map(repr, missing))} in the batch, which has only {sorted(batch)}")


def output_times(frames: int, temporal_scale: int) -> Tensor:
    """Return times (T',) float64 of the `temporal_scale * (frames - 1) + 1` frames restored from `frames` inputs."""
    if frames < 1 or temporal_scale < 1:
        raise InputError(f"{frames} frames at temporal scale {temporal_scale}: both must be at least 1")
    return torch.arange(temporal_scale * (frames - 1) + 1, dtype=torch.float64) / temporal_scale


def is_observed(hr_time: Tensor) -> Tensor:
    """Return a bool tensor of the same shape, True where an input frame exists at the time of a restored frame."""
    return (hr_time - hr_time.round()).abs() < math.sqrt(torch.finfo(torch.float32).eps)
