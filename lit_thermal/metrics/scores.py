"""Collects the measurements of every frame, counts each frame once and averages as the papers do."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.metrics import report, tables
from lit_thermal.metrics.catalogue import STANDARD
from lit_thermal.metrics.gather import gather_objects
from lit_thermal.metrics.metric import CONSTANTS, Metric, Protocol, Seen, Unavailable
from lit_thermal.metrics.protocols import Factories, ProtocolScores
from lit_thermal.metrics.quality import as_written
from lit_thermal.metrics.registered import registered_quality
from lit_thermal.ops.registration import Displacement

Summary = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Data set, method, group of frames, metric: the number."""


Columns = dict[str, tuple[int, list[list[float]], list[bool]]]
"""Metric to the first frame that has a value, a list for each sample, and which samples have one."""
TARGET = "HR"
"""Heading of what metrics without a target say of the target itself."""


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
    reference: bool = False
    """The target itself, under the metrics that need none."""


class Scores:
    """Accumulates rows over batches, data sets and ranks.

    The first method that is added is ours; what is added as a variant is ours in another way; the others are the
    baselines that it is held against.
    A frame that several windows restore counts once: the earliest window wins, whichever rank saw it.
    Numbers are means over the frames of a clip, then over the clips.

    Args:
        protocol: constants of the measurement.
        others: what makes the protocols that images are measured under besides this one.
        metrics: what is measured, each where it applies.
    """

    def __init__(
        self, protocol: Protocol = CONSTANTS, others: Factories = (), metrics: Sequence[Metric] = STANDARD
    ) -> None:
        self.protocol = protocol
        self.others = ProtocolScores(others)
        self.metrics = tuple(metrics)
        self.skipped: dict[str, str] = {}
        """Metric to one sentence why it was not measured, or not on every frame."""
        self.cost: dict[str, Any] | None = None
        """What the numbers cost, where a model was run for them."""
        self._gone: set[str] = set()
        self._rows: dict[tuple[str, str, int, str, bool], Row] = {}

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
        radiometry: Sequence[Radiometry],
        dt: float = 1.0,
        variant: bool = False,
        groups: Sequence[Sequence[str]] | None = None,
        displacements: Sequence[Displacement] | None = None,
    ) -> None:
        """Measure a batch.

        Args:
            dataset: name of the test set.
            names: B clip or image names.
            frames: (B, T') int, number of each frame in its clip, counted in target frames; a frame below 0 is looked
                at for the sake of its neighbours and does not count.
            observed: (B, T') bool, True where the input has a frame at that time.
            method: who restored.
            restored: (B, T', 1, H, W) in [0, 1]; T' is 1 for images.
            target: the same shape.
            radiometry: B mappings of values to the counts of the file, to which both are rounded.
            dt: time between neighbouring frames, 1 where the frame rate was doubled (2 / temporal scale).
            variant: our method restored in another way than the one that bears its name; no baseline.
            groups: of each sample, what it is measured with beside all of its set.
            displacements: of each target against its input, pixels down and to the right: PSNR and SSIM are then taken
                over what both show as well, with the displacement and without.
        """
        seen = Seen(as_written(restored, radiometry), as_written(target, radiometry), radiometry, dt, self.protocol)
        columns = self._columns(self.metrics, seen, names)
        if displacements is not None:
            found = registered_quality(seen.restored, seen.target, displacements)
            columns |= {name: (0, values.tolist(), [True] * len(names)) for name, values in found.items()}
        blind = [metric for metric in self.metrics if metric.blind]
        first = method in (self.methods or [method])[:1]
        own = self._columns(blind, seen._replace(restored=seen.target), names) if first else {}
        size, flags = (target.shape[-2], target.shape[-1]), observed.tolist()
        for b, numbers in enumerate(frames.tolist()):
            belongs = tuple(groups[b]) if groups is not None else ()
            moved = displacements[b] if displacements is not None else None
            for t, number in enumerate(numbers):
                if number < 0:
                    continue
                place = (flags[b][t], numbers[0], size, radiometry[b].bits)
                values = _at(columns, b, t)
                self._keep(Row(dataset, names[b], number, method, *place, values, variant, belongs, moved))
                if alone := _at(own, b, t):
                    self._keep(Row(dataset, names[b], number, TARGET, *place, alone, reference=True))

    def gather(self) -> None:
        """Give every rank the rows of all; nothing happens in a run of one process."""
        everything = gather_objects((list(self._rows.values()), self.skipped))
        self._rows, self.skipped = {}, {}
        for rows, skipped in everything:
            self.skipped = skipped | self.skipped
            for row in rows:
                self._keep(row)

    @property
    def rows(self) -> list[Row]:
        """All rows of methods: data sets and methods as they were added, clips by name and frames by number."""
        datasets = list(dict.fromkeys(row.dataset for row in self._rows.values()))
        order = [{name: i for i, name in enumerate(names)} for names in (datasets, self.methods)]
        rows = (row for row in self._rows.values() if not row.reference)
        return sorted(rows, key=lambda r: (order[0][r.dataset], order[1][r.method], r.clip, r.frame))

    @property
    def methods(self) -> list[str]:
        """Names of the methods in the order in which they were added, ours first."""
        return list(dict.fromkeys(row.method for row in self._rows.values() if not row.reference))

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

    def references(self) -> dict[str, dict[str, dict[str, float]]]:
        """Data set, `TARGET`, metric: the mean over the clips of what metrics without a target say of the target."""
        clips: dict[str, dict[str, list[dict[str, float]]]] = {}
        for row in self._rows.values():
            if row.reference:
                clips.setdefault(row.dataset, {}).setdefault(row.clip, []).append(row.values)
        return {name: {TARGET: _mean(map(_mean, found.values()))} for name, found in clips.items()}

    def write(
        self,
        folder: Path,
        *,
        seconds: float,
        config: dict[str, Any] | None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Write `metrics.json` and `metrics.csv`, or `metrics.parquet`; call it on one rank, after `gather`.

        Args:
            folder: the run's folder; made where missing.
            seconds: what restoring took.
            config: class path and arguments of the model, for the digest.
            more: further keys of `metrics.json`.
        """
        report.write(self, folder, seconds, config, more)

    def print(self) -> None:
        """Print one table for each data set; call it on one rank, after `gather`."""
        tables.show(self)

    def _keep(self, row: Row) -> None:
        key = (row.dataset, row.clip, row.frame, row.method, row.reference)
        if key not in self._rows or row.window < self._rows[key].window:
            self._rows[key] = row

    def _columns(self, metrics: Sequence[Metric], seen: Seen, names: Sequence[str]) -> Columns:
        """Measure what can be; why something cannot is remembered."""
        height, width = seen.target.shape[-2:]
        columns = {}
        for metric in metrics:
            if metric.name in self._gone or not metric.applies(seen):
                continue
            if min(height, width) < metric.side:
                least = f"{metric.side} x {metric.side}"
                self.skipped.setdefault(
                    metric.name, f"{metric.name} needs frames of at least {least}, and {names[0]} is {width} x {height}"
                )
                continue
            try:
                values = metric.measure(seen).tolist()
            except Unavailable as reason:
                self.skipped[metric.name] = str(reason)
                self._gone.add(metric.name)
                continue
            columns[metric.name] = (metric.first, values, [metric.known(r) for r in seen.radiometry])
        return columns


def _at(columns: Columns, b: int, t: int) -> dict[str, float]:
    """The values of one frame of one sample."""
    return {
        name: table[b][t - first]
        for name, (first, table, known) in columns.items()
        if known[b] and 0 <= t - first < len(table[b])
    }


def _mean(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    """Mean of each metric over the rows that have it; NaN stays visible."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in columns.items()}
