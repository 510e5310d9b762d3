"""Collects the measurements of every frame, counts each frame once, and averages as the papers do."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.evaluation.gather import gather_objects
from lit_thermal.evaluation.protocols import Factories, ProtocolScores
from lit_thermal.metrics.catalogue import standard
from lit_thermal.metrics.metric import CONSTANTS, Metric, MetricInput, Protocol, Unavailable
from lit_thermal.metrics.quality import as_written
from lit_thermal.metrics.registered import registered_quality
from lit_thermal.ops.registration import Displacement

Summary = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Values by data set, method, group of frames and metric."""


Columns = dict[str, tuple[int, list[list[float]], list[bool]]]
"""Results by metric: the first frame with a value, values by sample, and which samples have values."""
TARGET = "HR"
"""Name under which metrics without a target report the target itself."""


class Targets(NamedTuple):
    """The targets of a batch that several methods are measured against."""

    dataset: str
    """Name of the test set."""
    names: Sequence[str]
    """B names of clips or images."""
    frames: Tensor
    """(B, T') int, number of each frame in its clip, counted in target frames; a frame below 0 is only context for its
    neighbours and does not count."""
    observed: Tensor
    """(B, T') bool, True where the input has a frame at that time."""
    target: Tensor
    """(B, T', 1, H, W) in [0, 1]; T' is 1 for images."""
    radiometry: Sequence[Radiometry]
    """B mappings of values to the counts of the file, to which targets and results are rounded."""
    dt: float = 1.0
    """Time between neighbouring frames; 1 if the frame rate was doubled (2 / temporal scale)."""
    groups: Sequence[Sequence[str]] | None = None
    """Groups of each sample that it is measured in, in addition to all samples."""
    displacements: Sequence[Displacement] | None = None
    """Displacement of each target relative to its input, in pixels down and to the right. PSNR and SSIM are then also
    measured over the common view of both, with the displacement and without."""

    def only(self, samples: Sequence[int]) -> "Targets":
        """Return the given samples, in the given order."""
        kept = list(samples)
        return self._replace(
            names=[self.names[i] for i in kept],
            frames=self.frames[kept],
            observed=self.observed[kept],
            target=self.target[kept],
            radiometry=[self.radiometry[i] for i in kept],
            groups=None if self.groups is None else [self.groups[i] for i in kept],
            displacements=None if self.displacements is None else [self.displacements[i] for i in kept],
        )


class Row(NamedTuple):
    """Measurements of one frame under one method."""

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
    """Whether the method is a variant of the one under test."""
    groups: tuple[str, ...] = ()
    """Groups that the image is measured in, in addition to its whole set."""
    displacement: Displacement | None = None
    """Displacement of the target relative to the input, if known."""
    reference: bool = False
    """Whether the row contains values of the target itself, for metrics that need no target."""


class Scores:
    """Accumulate rows over batches, data sets and ranks.

    The first method added is the one under test. Variants are its alternative outputs; all others are baselines. A
    frame that several windows restore counts once: the earliest window is used, regardless of the rank that processed
    it. Values are means over the frames of a clip, then over the clips.

    Args:
        protocol: constants of the measurement.
        others: factories of additional evaluation protocols for images.
        metrics: metrics to measure, each on the data to which it applies; by default the standard ones of the
            catalogue.
    """

    def __init__(
        self, protocol: Protocol = CONSTANTS, others: Factories = (), metrics: Sequence[Metric] | None = None
    ) -> None:
        self.protocol = protocol
        self.others = ProtocolScores(others)
        self.metrics = tuple(standard() if metrics is None else metrics)
        self.skipped: dict[str, str] = {}
        """One sentence per metric that was not measured, or not on every frame, with the reason."""
        self.cost: dict[str, Any] | None = None
        """Cost of the results, if a model was run for them."""
        self.tuned: dict[str, dict[str, float]] = {}
        """Settings of the baselines that were chosen on the validation set."""
        self._gone: set[str] = set()
        self._rows: dict[tuple[str, str, int, str, bool], Row] = {}

    @torch.no_grad()
    def add(self, targets: Targets, method: str, restored: Tensor, variant: bool = False) -> None:
        """Measure the results of one method on a batch.

        Args:
            targets: targets of the batch.
            method: name of the method.
            restored: (B, T', 1, H, W) results in [0, 1].
            variant: whether the result is an alternative of the method under test, not a baseline.
        """
        dataset, names, frames, observed, target, radiometry, dt, groups, displacements = targets
        inputs = MetricInput(
            as_written(restored, radiometry), as_written(target, radiometry), radiometry, dt, self.protocol
        )
        columns = self._columns(self.metrics, inputs, names)
        if displacements is not None:
            found = registered_quality(inputs.restored, inputs.target, displacements)
            columns |= {name: (0, values.tolist(), [True] * len(names)) for name, values in found.items()}
        no_reference = [metric for metric in self.metrics if metric.no_reference]
        first = method in (self.methods or [method])[:1]
        own = self._columns(no_reference, inputs._replace(restored=inputs.target), names) if first else {}
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
                if of_target := _at(own, b, t):
                    self._keep(Row(dataset, names[b], number, TARGET, *place, of_target, reference=True))

    def gather(self) -> None:
        """Share the rows of all ranks; does nothing in a run of one process."""
        everything = gather_objects((list(self._rows.values()), self.skipped))
        self._rows, self.skipped = {}, {}
        for rows, skipped in everything:
            self.skipped = skipped | self.skipped
            for row in rows:
                self._keep(row)

    @property
    def rows(self) -> list[Row]:
        """Return all rows of methods: data sets and methods in the order added, clips by name and frames by number."""
        datasets = list(dict.fromkeys(row.dataset for row in self._rows.values()))
        order = [{name: i for i, name in enumerate(names)} for names in (datasets, self.methods)]
        rows = (row for row in self._rows.values() if not row.reference)
        return sorted(rows, key=lambda r: (order[0][r.dataset], order[1][r.method], r.clip, r.frame))

    @property
    def methods(self) -> list[str]:
        """Names of the methods in the order added, the one under test first."""
        return list(dict.fromkeys(row.method for row in self._rows.values() if not row.reference))

    @property
    def variants(self) -> list[str]:
        """Names of the variants of the method under test, in the order added."""
        return list(dict.fromkeys(row.method for row in self._rows.values() if row.variant))

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines, in the order added."""
        return [name for name in self.methods[1:] if name not in self.variants]

    def clips(self) -> dict[str, dict[str, dict[str, dict[str, dict[str, float]]]]]:
        """Return the mean over the frames of each clip by data set, method, group, clip and metric.

        The groups are ``all``, the groups of the samples, and, in data sets that have both kinds of frames,
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
        """Return the mean over the clips by data set, method, group and metric."""
        return {
            dataset: {
                method: {group: _mean(clips.values()) for group, clips in groups.items()}
                for method, groups in methods.items()
            }
            for dataset, methods in self.clips().items()
        }

    def references(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return the clip means of no-reference metrics on the target, nested by data set, `TARGET` and metric."""
        clips: dict[str, dict[str, list[dict[str, float]]]] = {}
        for row in self._rows.values():
            if row.reference:
                clips.setdefault(row.dataset, {}).setdefault(row.clip, []).append(row.values)
        return {name: {TARGET: _mean(map(_mean, found.values()))} for name, found in clips.items()}

    def _keep(self, row: Row) -> None:
        key = (row.dataset, row.clip, row.frame, row.method, row.reference)
        if key not in self._rows or row.window < self._rows[key].window:
            self._rows[key] = row

    def _columns(self, metrics: Sequence[Metric], inputs: MetricInput, names: Sequence[str]) -> Columns:
        """Compute all metrics that can be measured, and record the reasons for the others."""
        height, width = inputs.target.shape[-2:]
        columns = {}
        for metric in metrics:
            if metric.name in self._gone or not metric.applies(inputs):
                continue
            if min(height, width) < metric.side:
                least = f"{metric.side} x {metric.side}"
                self.skipped.setdefault(
                    metric.name, f"{metric.name} needs frames of at least {least}, and {names[0]} is {width} x {height}"
                )
                continue
            try:
                assert metric.measure is not None, metric.name
                values = metric.measure(inputs).tolist()
            except Unavailable as reason:
                self.skipped[metric.name] = str(reason)
                self._gone.add(metric.name)
                continue
            columns[metric.name] = (metric.first, values, [metric.known(r) for r in inputs.radiometry])
        return columns


def _at(columns: Columns, b: int, t: int) -> dict[str, float]:
    """Return the values of one frame of one sample."""
    return {
        name: table[b][t - first]
        for name, (first, table, known) in columns.items()
        if known[b] and 0 <= t - first < len(table[b])
    }


def _mean(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the rows that have it; NaN is propagated."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in columns.items()}
