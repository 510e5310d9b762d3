"""Measures restored batches; both a method's test and the verb `evaluate` use only this."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_thermal.batch import Batch, Radiometry, is_observed, need
from lit_thermal.errors import InputError
from lit_thermal.evaluation import records, tables
from lit_thermal.evaluation.baselines import TunedBaselines
from lit_thermal.evaluation.protocols import Factories, RestoredImage
from lit_thermal.evaluation.scores import Scores, Summary, Targets
from lit_thermal.metrics.metric import Metric
from lit_thermal.metrics.quality import SSIM_WINDOW, as_written
from lit_thermal.ops.outliers import completed


class Evaluator:
    """Measure results batch by batch, together with the simple baselines of the same inputs.

    The first result of an update is the one under test; the others are its variants. All of them are measured as a file
    would store them: clamped and rounded to its counts.

    Args:
        scale: factor by which results are wider and higher than their inputs.
        metrics: metrics to measure, each where it applies; by default the standard ones of the catalogue.
        protocols: factories of the additional protocols that images are measured under.
        baselines: whether to measure the simple baselines too, for batches that have inputs.
    """

    def __init__(
        self,
        scale: int,
        metrics: Sequence[Metric] | None = None,
        protocols: Factories = (),
        baselines: bool = True,
    ) -> None:
        self.scores = Scores(others=protocols, metrics=metrics)
        self.baselines = TunedBaselines(scale) if baselines else None
        self.scale = scale
        self._black = False

    def tune(self, batches: Iterable[Batch]) -> None:
        """Choose the settings of each baseline on batches of the validation set, which have `hr`."""
        if self.baselines is not None:
            self.baselines.tune(batches)
            self.scores.tuned = self.baselines.settings

    @torch.no_grad()
    def update(
        self,
        batch: Batch,
        results: Mapping[str, Tensor],
        dataset: str = "test",
        others: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Measure one batch.

        Args:
            batch: batch with `hr` and `name`; `lr`, `hr_time`, `frame`, `radiometry`, `groups`, `displacement` and
                `has_lr` are read if present.
            results: results (B, 1, H, W) or (B, T', 1, H, W) by name, in [0, 1], not rounded; the method under test
                comes first.
            dataset: name of the test set.
            others: results of other trained methods by name, in the same shape, which are reported as baselines.

        Returns:
            Results of `others` and of the baselines by name, in the same shape; baselines are NaN for samples without a
            thermal input.

        Raises:
            InputError: a target is smaller than the window of SSIM, or a result differs from its target in size.
        """
        need(batch, "hr", "name", by=f"measuring {next(iter(results))}")
        self._check(batch, results)
        simple = self.baselines(batch) if self.baselines is not None and "lr" in batch else {}
        baselines = dict(others or {}) | {name: completed(result, batch) for name, result in simple.items()}
        self._score(batch, dataset, results, baselines)
        self._warn_of_black(batch, dataset)
        if batch["hr"].ndim == 4:
            self._score_by_protocols(batch, dataset, results, baselines)
        return baselines

    def gather(self) -> None:
        """Share the measurements of all processes; call it on each process, before `compute`."""
        self.scores.gather()

    def compute(self) -> Summary:
        """Return the mean over clips or images by data set, method, group of frames and metric."""
        return self.scores.summary()

    def write(
        self, folder: Path, *, seconds: float, config: dict[str, Any] | None, more: Mapping[str, Any] | None = None
    ) -> None:
        """Write `metrics.json` and `metrics.csv` (or `metrics.parquet`); call it on one process, after `gather`.

        Args:
            folder: folder of the run, created if missing.
            seconds: time that restoring took.
            config: class path and arguments of the model, for the digest.
            more: additional keys of `metrics.json`.
        """
        records.write(self.scores, folder, seconds, config, more)

    def print(self) -> None:
        """Print the tables of each data set; call it on one process, after `gather`."""
        tables.show(self.scores)

    def _check(self, batch: Batch, results: Mapping[str, Tensor]) -> None:
        hr, name = batch["hr"], batch["name"][0]
        if min(hr.shape[-2:]) < SSIM_WINDOW:
            raise InputError(
                f"the target of {name} is {hr.shape[-1]} x {hr.shape[-2]}, and SSIM needs {SSIM_WINDOW} x "
                f"{SSIM_WINDOW} or more: leave it out or give a larger one"
            )
        for method, result in results.items():
            if result.shape != hr.shape:
                raise InputError(
                    f"{method} restores {name} to {_size(result)} and its target is {_size(hr)}; give a target of "
                    f"{self.scale} times the input's size"
                )

    def _score(
        self, batch: Batch, dataset: str, results: Mapping[str, Tensor], baselines: Mapping[str, Tensor]
    ) -> None:
        hr, names = batch["hr"], batch["name"]
        video = hr.ndim == 5
        target = hr if video else hr.unsqueeze(1)
        count = target.shape[:2]
        radiometry = batch.get("radiometry", [Radiometry()] * count[0])
        groups, moved = batch.get("groups"), batch.get("displacement")
        everything = Targets(
            dataset=dataset,
            names=names,
            frames=batch.get("frame", torch.arange(count[1], device=hr.device).expand(count)),
            observed=is_observed(batch["hr_time"]) if video else torch.ones(count, dtype=torch.bool, device=hr.device),
            target=target,
            radiometry=radiometry,
            # The scores measure time in steps of a doubled frame rate.
            dt=2 * float(batch["hr_time"][0].diff().min()) if video and count[1] > 1 else 1.0,
            groups=groups,
            displacements=None if moved is None else [(int(down), int(right)) for down, right in moved.tolist()],
        )
        present = everything.only(_with_input(batch)) if baselines else everything
        first = next(iter(results))
        for method, result in (dict(results) | dict(baselines)).items():
            restored = result if video else result.unsqueeze(1)
            if method in results:
                self.scores.add(everything, method, restored, variant=method != first)
            else:
                self.scores.add(present, method, restored[_with_input(batch)])

    def _score_by_protocols(
        self, batch: Batch, dataset: str, results: Mapping[str, Tensor], baselines: Mapping[str, Tensor]
    ) -> None:
        images = []
        with_input = _with_input(batch)
        radiometry = batch.get("radiometry", [Radiometry()] * len(batch["hr"]))
        for index, name in enumerate(batch["name"] if self.scores.others.texts else ()):
            # The papers' protocols know nothing beyond black and white.
            restored = {method: result[index].float().clamp(0, 1).cpu() for method, result in results.items()}
            if index in with_input:
                # In the papers the baselines are separate image files, which OpenCV enlarged in integer counts.
                own = [radiometry[index]]
                restored |= {m: as_written(r[index][None].cpu(), own)[0].clamp(0, 1) for m, r in baselines.items()}
            images.append(RestoredImage(name, batch["hr"][index].clamp(0, 1).cpu(), restored))
        self.scores.others.add(dataset, images, batch["hr"].device)

    def _warn_of_black(self, batch: Batch, dataset: str) -> None:
        """Warn once that a target is black: any black result has a perfect score there."""
        black = batch["hr"].flatten(1).amax(dim=1) <= 0
        if self._black or not black.any():
            return
        self._black = True
        name = batch["name"][int(black.int().argmax())]
        warnings.warn(f"the target {name} of {dataset} is all black; its scores say little", stacklevel=2)


def _with_input(batch: Batch) -> list[int]:
    """Return the indices of the samples with a thermal input, on which baselines are measured."""
    return [i for i in range(len(batch["hr"])) if "has_lr" not in batch or batch["has_lr"][i]]


def _size(x: Tensor) -> str:
    frames = f"{x.shape[1]} frames of " if x.ndim == 5 else ""
    return f"{frames}{x.shape[-1]} x {x.shape[-2]}"
