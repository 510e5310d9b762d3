"""Restoration of files of any kind, one after another: a file that cannot be restored does not stop the others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lit_thermal.data.formats import camera_files
from lit_thermal.data.formats.normalize import NORMALIZE
from lit_thermal.errors import InputError
from lit_thermal.inference.guides import EMBEDDED
from lit_thermal.inference.image_job import Loaded, load_image, restore_loaded
from lit_thermal.inference.plan import Job, Plan
from lit_thermal.inference.settings import Settings
from lit_thermal.inference.upscale import Progress, open_input, temporal_scale_of, upscale
from lit_thermal.inference.video import MINIMUM
from lit_thermal.methods.base import SuperResolver


@dataclass(frozen=True)
class ClipSettings:
    """Settings that only clips have.

    Attributes:
        temporal_scale: number of output frames per input frame; None means the smallest that the model was trained for.
        allow_untrained: accept a scale that the model was not trained for.
        fps: constant frame rate of the video; None keeps the times of the input.
        overwrite: replace the output of an earlier run.
    """

    temporal_scale: int | None = None
    allow_untrained: bool = False
    fps: float | None = None
    overwrite: bool = False


@dataclass
class Outcome:
    """What became of the inputs of a plan.

    Attributes:
        done: results that were written, each with sentences about it.
        failed: inputs that were not restored, each with the reason.
    """

    done: dict[Path, list[str]] = field(default_factory=dict)
    failed: dict[Path, InputError] = field(default_factory=dict)


def restore_files(
    plan: Plan,
    load: Callable[[], tuple[SuperResolver, Settings]],
    settings: Settings,
    clip_settings: ClipSettings,
    guides: Mapping[Path, Any],
    *,
    clips: bool,
    show: "Callable[[Path, Sequence[str] | InputError], None]",
    progress: Progress | None = None,
) -> Outcome:
    """Restore all inputs of a plan.

    A single input is checked before the model is loaded, so that a wrong one is refused at once.

    Args:
        plan: results to make, and inputs that are refused already.
        load: function that returns the model in eval mode on the device, and the settings with the range of its
            training; called once.
        settings: settings of the restoration.
        clip_settings: settings of clips.
        guides: guide of each image by its path: a file, `EMBEDDED`, or the reason why there is none.
        clips: whether the method restores clips.
        show: function that shows the user what became of an input.
        progress: function that shows the progress of a clip.

    Raises:
        InputError: the model cannot be loaded, or cannot do what the settings ask for.
    """
    outcome = Outcome()

    def report(source: Path, what: Sequence[str] | InputError) -> None:
        if isinstance(what, InputError):
            outcome.failed[source] = what
        else:
            outcome.done[source] = list(what)
        show(source, what)

    for source, error in plan.refused.items():
        report(source, error)
    if not plan.jobs:
        return outcome
    work = _Work(load, settings, clip_settings, guides, clips, progress)
    if len(plan.jobs) == 1 and not plan.jobs[0].clip:
        try:
            camera_files.header(plan.jobs[0].source)
        except InputError as error:
            report(plan.jobs[0].source, error)
            return outcome
    if not (len(plan.jobs) == 1 and plan.jobs[0].clip):
        work.load()
    for group in work.groups(plan.jobs, report):
        try:
            sentences = work.restore(group)
        except InputError as error:
            if len(group) == 1 or "do not fit into the memory" in str(error):
                for one in group:
                    report(_job(one).source, error)
                continue
            for one in group:  # one of them is wrong: the others are still restored
                try:
                    report(_job(one).source, work.restore([one])[0])
                except InputError as own:
                    report(_job(one).source, own)
            continue
        for one, said in zip(group, sentences, strict=True):
            report(_job(one).source, said)
    return outcome


class _Work:
    """The model, which is loaded when the first input is known to be readable, and what it does to inputs."""

    def __init__(
        self,
        load: Callable[[], tuple[SuperResolver, Settings]],
        settings: Settings,
        clip_settings: ClipSettings,
        guides: Mapping[Path, Any],
        clips: bool,
        progress: Progress | None,
    ) -> None:
        self._load, self.settings, self.clip_settings = load, settings, clip_settings
        self.guides, self.clips, self.progress = guides, clips, progress
        self.model: SuperResolver | None = None

    def load(self) -> SuperResolver:
        """Return the model, which is loaded at the first call."""
        if self.model is None:
            self.model, self.settings = self._load()
            if (scale := self.clip_settings.temporal_scale) is not None:
                temporal_scale_of(self.model, scale, self.clip_settings.allow_untrained)
        return self.model

    def groups(
        self, jobs: Sequence[Job], report: Callable[[Path, InputError], None]
    ) -> Iterator[list[Loaded] | list[Job]]:
        """Yield images of one size that are restored at once, and single clips, in the order of the jobs."""
        group: list[Loaded] = []
        for job in jobs:
            if job.clip:
                if group:
                    yield group
                group = []
                yield [job]
                continue
            try:
                loaded = self._loaded(job)
            except InputError as error:
                report(job.source, error)
                continue
            if group and (len(group) == self.settings.batch or loaded.kind != group[0].kind):
                yield group
                group = []
            group.append(loaded)
        if group:
            yield group

    def restore(self, group: Sequence[Loaded] | Sequence[Job]) -> list[list[str]]:
        """Restore one group."""
        first = group[0]
        if isinstance(first, Job):
            return [self._clip(first)]
        with self._precision():
            return restore_loaded(group, self.load(), self.settings)  # type: ignore[arg-type]

    def _loaded(self, job: Job) -> Loaded:
        guide = self.guides.get(job.source)
        if isinstance(guide, InputError):
            raise guide
        return load_image(job, guide, self.settings, self.load().scale)

    def _clip(self, job: Job) -> list[str]:
        given = self.clip_settings
        if self.guides.get(job.source, EMBEDDED) != EMBEDDED:  # a clip embeds no photo
            raise InputError(f"--guide is for images, not for the clip {job.source}: leave one of them out")
        with open_input(
            job.source,
            job.target,
            given.overwrite,
            temporal_scale=given.temporal_scale,
            fps=given.fps,
            fewest=MINIMUM if self.clips else 1,
        ) as clip:
            model = self.load()
            scale = temporal_scale_of(model, given.temporal_scale, given.allow_untrained)
            with self._precision():
                written = upscale(
                    clip,
                    job.target,
                    model,
                    temporal_scale=scale,
                    tile=self.settings.tile,
                    overlap=self.settings.overlap,
                    batch=self.settings.batch,
                    device=self.settings.device,
                    fps=given.fps,
                    normalize=self.settings.normalize or NORMALIZE,
                    progress=self.progress,
                )
        height, width = clip.size
        large = f"{model.scale * width}x{model.scale * height}"
        return [f"{clip.length} frames of {width}x{height} -> {written} of {large} in {job.target}"]

    def _precision(self) -> Any:
        if self.settings.precision == "32":
            return nullcontext()
        return torch.autocast(torch.device(self.settings.device).type, dtype=torch.bfloat16)


def _job(one: Loaded | Job) -> Job:
    return one if isinstance(one, Job) else one.job
