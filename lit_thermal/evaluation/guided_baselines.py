"""Baselines that use the guide without training: guided filter and joint bilateral filter, as given and registered."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.batch import Batch
from lit_thermal.evaluation.gather import gather_objects
from lit_thermal.metrics.quality import psnr
from lit_thermal.ops.guide_registration import find_warp, warp_each
from lit_thermal.ops.guided_filter import back_projected, guided_filter, joint_bilateral_filter
from lit_thermal.ops.resize import resize

Setting = dict[str, float]
Filter = Callable[..., Tensor]

FILTERS: dict[str, tuple[Filter, list[Setting]]] = {
    "guided filter": (
        guided_filter,
        [{"radius": r, "epsilon": e} for r, e in product((1, 2), (1e-5, 1e-4, 1e-3, 1e-2))],
    ),
    "joint bilateral filter": (
        joint_bilateral_filter,
        [{"distance": d, "difference": v} for d, v in product((0.5, 1.0), (0.025, 0.05, 0.1, 0.2))],
    ),
}
"""Filters by name, with the settings that are tried."""
BACK_PROJECTIONS = (0, 3)
"""Numbers of corrections by the input that are tried; an input that was not reduced bicubically may want none."""
SHARES = (0.25, 0.5, 1.0)
"""Shares of the filter's change to the bicubic enlargement that are tried."""
SAMPLES = 16
"""Images of the validation set that settings are compared on."""
SIMILARITY = 4
"""Freedoms of the warp by which guides are registered: displacement, scaling and rotation."""
REGISTERED = ", registered"
"""End of the name of a baseline whose guide is registered to the input first."""


class GuidedBaselines:
    """Filters along the guide, each with the settings that are best on the validation set.

    A sample without a guide has the bicubic enlargement as its result. Clips and samples with several guide views have
    no such baselines.

    Args:
        scale: factor by which results are wider and higher than their inputs.
    """

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.settings: dict[str, Setting] = {}
        """Chosen settings of each baseline; without a validation set the defaults are used."""
        self._totals: dict[str, dict[int, float]] = {}
        self._count = 0

    @torch.no_grad()
    def measure(self, batch: Batch) -> None:
        """Measure all settings on a batch of the validation set, for `choose`; after `SAMPLES` images it does nothing.

        Args:
            batch: batch with `hr` and `lr`; samples without a guide are skipped.
        """
        guide = self._guide(batch)
        if guide is None or self._count >= SAMPLES:
            return
        present = self._present(batch)
        lr, guide, hr = batch["lr"][present], guide[present], batch["hr"][present]
        if not len(lr):
            return
        self._count += len(lr)
        plain = self._enlarged(lr)
        for name, place in self._places(lr, guide).items():
            sums = self._totals.setdefault(name, {})
            for number, result in enumerate(_results(name, lr, place, plain, None)):
                sums[number] = sums.get(number, 0.0) + float(psnr(result, hr).double().sum())

    def choose(self) -> None:
        """Choose the setting with the highest mean PSNR for each baseline; all ranks make the same choice."""
        gathered = [totals for totals in gather_objects(self._totals) if totals]
        self.settings, self._totals, self._count = {}, {}, 0
        for name in gathered[0] if gathered else ():
            sums = {number: sum(t[name][number] for t in gathered) for number in gathered[0][name]}
            self.settings[name] = _settings(name)[max(sums, key=sums.__getitem__)]

    @torch.no_grad()
    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return the results (B, 1, H, W) in [0, 1] by name; there are none for a batch without guides."""
        lr, guide = batch["lr"], self._guide(batch)
        if guide is None:
            return {}
        plain = self._enlarged(lr)
        present = self._present(batch)
        if not present.any():
            return dict.fromkeys(_names(), plain)
        result = {}
        for name, place in self._places(lr[present], guide[present]).items():
            setting = self.settings.get(name, {})
            (found,) = _results(name, lr[present], place, plain[present], setting)
            result[name] = plain.clone()
            result[name][present] = found
        return result

    def _present(self, batch: Batch) -> Tensor:
        """Return which samples have a guide, (B,) on the device of the input."""
        lr = batch["lr"]
        return batch.get("has_guide", torch.ones(len(lr), dtype=torch.bool)).to(lr.device)

    def _guide(self, batch: Batch) -> Tensor | None:
        """Return the guides at the size of the result, if they are of a known kind."""
        guide = batch.get("guide")
        if guide is None or guide.ndim != 4 or batch["lr"].ndim != 4:
            return None
        size = (batch["lr"].shape[-2] * self.scale, batch["lr"].shape[-1] * self.scale)
        same = tuple(guide.shape[-2:]) == size
        return guide if same else F.interpolate(guide, size, mode="bilinear", antialias=True)

    def _enlarged(self, lr: Tensor) -> Tensor:
        return resize(lr, (lr.shape[-2] * self.scale, lr.shape[-1] * self.scale)).clamp(0, 1)

    def _places(self, lr: Tensor, guide: Tensor) -> dict[str, Tensor]:
        """Return the guide of each baseline by its name."""
        # Smaller images are too small to register.
        moved = warp_each(guide, find_warp(lr, guide, SIMILARITY).matrix) if min(lr.shape[-2:]) >= 5 else guide
        return {name: moved if name.endswith(REGISTERED) else guide for name in _names()}


def _names() -> list[str]:
    return [f"{name}{end}" for name in FILTERS for end in ("", REGISTERED)]


def _settings(name: str) -> list[Setting]:
    """Return the settings that are tried, in the order of `_results`."""
    _, settings = FILTERS[name.removesuffix(REGISTERED)]
    return [
        setting | {"back_projections": times, "share": share}
        for setting in settings
        for times in BACK_PROJECTIONS
        for share in SHARES
    ]


def _results(name: str, lr: Tensor, guide: Tensor, plain: Tensor, only: dict[str, Any] | None) -> Iterator[Tensor]:
    """Yield the results (B, 1, H, W) in [0, 1] of one setting (an empty one is the default), or of all if None."""
    function, settings = FILTERS[name.removesuffix(REGISTERED)]
    if only is not None:
        setting = {"share": 1.0} | only
        share = setting.pop("share")
        yield torch.lerp(plain, function(lr, guide, **setting).to(plain.dtype), share).clamp(0, 1)
        return
    for setting in settings:
        first = function(lr, guide, back_projections=0, **setting)
        for times in BACK_PROJECTIONS:
            corrected = back_projected(first, lr.to(first.dtype), times).to(plain.dtype)
            for share in SHARES:
                yield torch.lerp(plain, corrected, share).clamp(0, 1)
