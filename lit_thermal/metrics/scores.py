"""Collects the measurements of every frame, counts each frame once and averages as the papers do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lit_thermal.metrics import report, tables
from lit_thermal.metrics.gather import gather_objects
from lit_thermal.metrics.protocols import Factories, ProtocolScores
from lit_thermal.metrics.quality import psnr, quantize, ssim
from lit_thermal.metrics.registered import registered_quality
from lit_thermal.metrics.spectrum import spectrum_distance
from lit_thermal.metrics.video import heat_misfit, profile_error, temporal_difference
from lit_thermal.ops.registration import Displacement

Summary = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Data set, method, group of frames, metric: the number."""


@dataclass(frozen=True)
class Protocol:
    """The constants of a measurement that a method's own settings could suggest otherwise.

    Args:
        diffusivity: D of the heat residual in HR pixel^2 per step of a video of doubled frame rate; the same
            for every method, so that the residuals of two runs can be compared.
        alpha: edge weight of the heat residual, for values in [0, 1].
    """

    diffusivity: float = 0.1
    alpha: float = 100.0


class Row(NamedTuple):
    """The measurements of one frame under one method."""

    dataset: str
    clip: str
    frame: int
    method: str
    observed: bool
    window: int
    """First frame of the window that the frame was restored in."""
    size: tuple[int, int]
    bits: int
    values: dict[str, float]
    variant: bool = False
    """The method is a variant of ours."""
    groups: tuple[str, ...] = ()
    """What the image is measured with beside all of its set."""
    displacement: Displacement | None = None
    """Of the target against the input, where it is known."""


class Scores:
    """Accumulates rows over batches, data sets and ranks.

    The first method that is added is ours; what is added as a variant is ours in another way; the others are the
    baselines that it is held against.
    A frame that several windows restore counts once: the earliest window wins, whichever rank saw it.
    Numbers are means over the frames of a clip, then over the clips.

    Args:
        protocol: constants of the measurement.
        others: what makes the protocols that images are measured under besides this one.
    """

    def __init__(self, protocol: Protocol = Protocol(), others: Factories = ()) -> None:
        self.protocol = protocol
        self.others = ProtocolScores(others)
        self._rows: dict[tuple[str, str, int, str], Row] = {}

    @torch.no_grad()
    def add(
        self,
        dataset: str,
        names: Sequence[str],
        frames: Tensor,
        observed: Tensor,
        method: str,
        restored: Tensor,
        target: Tensor,
        bits: Sequence[int],
        steps: Sequence[float] | None = None,
        dt: float = 1.0,
        variant: bool = False,
        groups: Sequence[Sequence[str]] | None = None,
        displacements: Sequence[Displacement] | None = None,
    ) -> None:
        """Measure a batch.

        Args:
            dataset: name of the test set.
            names: B clip or image names.
            frames: (B, T') int, number of each frame in its clip, counted in target frames.
            observed: (B, T') bool, True where the input has a frame at that time.
            method: who restored.
            restored: (B, T', 1, H, W) in [0, 1]; T' is 1 for images.
            target: the same shape.
            bits: B depths of the files, 8 or 16.
            steps: B numbers of counts from value 0 to value 1 (the radiometry's gain), to which values are
                rounded; the whole range of the file unless given.
            dt: time between neighbouring frames, 1 where the frame rate was doubled (2 / temporal scale).
            variant: our method restored in another way than the one that bears its name; no baseline.
            groups: of each sample, what it is measured with beside all of its set.
            displacements: of each target against its input, pixels down and to the right: PSNR and SSIM are then taken
                over what both show as well, with the displacement and without.
        """
        steps = [float(2**depth - 1) for depth in bits] if steps is None else steps
        restored, target = quantize(restored, steps), quantize(target, steps)
        measured = self._measure(restored, target, dt)
        if displacements is not None:
            found = registered_quality(restored, target, displacements)
            measured |= {name: (0, values) for name, values in found.items()}
        columns = {name: (first, values.tolist()) for name, (first, values) in measured.items()}
        size = (target.shape[-2], target.shape[-1])
        flags = observed.tolist()
        for b, numbers in enumerate(frames.tolist()):
            for t, number in enumerate(numbers):
                values = {
                    name: table[b][t - first]
                    for name, (first, table) in columns.items()
                    if 0 <= t - first < len(table[b])
                }
                row = (dataset, names[b], number, method, flags[b][t], numbers[0], size, bits[b], values, variant)
                belongs = tuple(groups[b]) if groups is not None else ()
                self._keep(Row(*row, belongs, displacements[b] if displacements is not None else None))

    def gather(self) -> None:
        """Give every rank the rows of all; nothing happens in a run of one process."""
        everything = gather_objects(list(self._rows.values()))
        self._rows = {}
        for rows in everything:
            for row in rows:
                self._keep(row)

    @property
    def rows(self) -> list[Row]:
        """All rows: data sets and methods as they were added, in them clips by name and frames by number."""
        datasets = list(dict.fromkeys(row.dataset for row in self._rows.values()))
        order = [{name: i for i, name in enumerate(names)} for names in (datasets, self.methods)]
        return sorted(self._rows.values(), key=lambda r: (order[0][r.dataset], order[1][r.method], r.clip, r.frame))

    @property
    def methods(self) -> list[str]:
        """Names of the methods in the order in which they were added, ours first."""
        return list(dict.fromkeys(row.method for row in self._rows.values()))

    @property
    def variants(self) -> list[str]:
        """Names of the variants of ours, in the order in which they were added."""
        return list(dict.fromkeys(row.method for row in self._rows.values() if row.variant))

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines, in the order in which they were added."""
        return [name for name in self.methods[1:] if name not in self.variants]

    def clips(self) -> dict[str, dict[str, dict[str, dict[str, dict[str, float]]]]]:
        """Data set, method, group, clip, metric: the mean over the frames of the clip.

        Groups are ``all``, those that samples were said to belong to, and, in data sets that have both kinds of frames,
        ``observed`` and ``interpolated``.
        """
        result: dict[str, dict[str, dict[str, dict[str, dict[str, float]]]]] = {}
        collected: dict[tuple[str, str, str, str], list[Row]] = {}
        for row in self.rows:
            for group in ("all", *row.groups, "observed" if row.observed else "interpolated"):
                collected.setdefault((row.dataset, row.method, group, row.clip), []).append(row)
        kinds = {(row.dataset, row.observed) for row in self._rows.values()}
        for (dataset, method, group, clip), rows in collected.items():
            if group not in ("observed", "interpolated") or {(dataset, True), (dataset, False)} <= kinds:
                clips = result.setdefault(dataset, {}).setdefault(method, {}).setdefault(group, {})
                clips[clip] = _mean(row.values for row in rows)
        return result

    def summary(self) -> Summary:
        """Data set, method, group, metric: the mean over the clips."""
        return {
            dataset: {
                method: {group: _mean(clips.values()) for group, clips in groups.items()}
                for method, groups in methods.items()
            }
            for dataset, methods in self.clips().items()
        }

    def write(self, folder: Path, *, seconds: float, config: dict[str, Any] | None) -> None:
        """Write `metrics.json` and `metrics.csv`; call it on one rank, after `gather`.

        Args:
            folder: the run's folder; made where missing.
            seconds: what restoring took.
            config: class path and arguments of the model, for the digest.
        """
        report.write(self, folder, seconds, config)

    def print(self) -> None:
        """Print one table for each data set; call it on one rank, after `gather`."""
        tables.show(self)

    def _keep(self, row: Row) -> None:
        key = (row.dataset, row.clip, row.frame, row.method)
        if key not in self._rows or row.window < self._rows[key].window:
            self._rows[key] = row

    def _measure(self, restored: Tensor, target: Tensor, dt: float) -> dict[str, tuple[int, Tensor]]:
        """Name of a metric to the first frame that has it and its values (B, n) from there on."""
        result = {"psnr": (0, psnr(restored, target)), "ssim": (0, ssim(restored, target))}
        if target.shape[1] == 1:
            result["spectrum_distance"] = (0, spectrum_distance(restored, target))
        if target.shape[1] >= 2:
            result["temporal_difference"] = (1, temporal_difference(restored, target))
            result["profile_error"] = (0, profile_error(restored, target))
        if target.shape[1] >= 3:
            constants = (self.protocol.diffusivity, self.protocol.alpha, dt)
            result["heat_residual"] = (1, heat_misfit(restored, target, *constants))
            result["heat_residual_of_target"] = (1, heat_misfit(target, target, *constants))
        return result


def _mean(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    """Mean of each metric over the rows that have it; NaN stays visible."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in columns.items()}
