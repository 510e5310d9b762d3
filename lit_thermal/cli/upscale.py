"""The verb `upscale`: restore images, files of thermal cameras, videos and folders with a trained model."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_thermal.cli.device import choose_device
from lit_thermal.cli.upscale_options import SUFFIXES, check, output_path, parser, part
from lit_thermal.errors import InputError
from lit_thermal.plain_files import printable

if TYPE_CHECKING:
    from torch import Tensor

    from lit_thermal.inference.plan import Plan
    from lit_thermal.inference.settings import Settings
    from lit_thermal.methods.base import SuperResolver


def main(argv: Sequence[str]) -> int:
    """Restore all inputs; return the exit code, 2 if one of several could not be restored."""
    given = parser().parse_args(argv)
    check(given)
    which, target = part(given.shard), output_path(given)
    # nothing above and in `find_model` imports torch
    from lit_thermal import weights

    path = weights.find_model(given.model) if given.model else _fitting(given)
    kind = weights.recorded_class(path)
    from lit_thermal.inference import files, plan
    from lit_thermal.inference.settings import Settings

    _check_kind(kind, given)
    inputs = list(plan.find_inputs(given.input, kind.restores_clips))
    found = plan.shard(plan.plan(inputs, target, SUFFIXES.get(given.format or ""), given.overwrite), which)
    if given.palette:
        from lit_thermal.inference.palette import check_palette

        check_palette(given.palette)
    device = choose_device(given.device)
    settings = Settings(
        tile=given.tile,
        overlap=given.overlap,
        batch=given.batch,
        device=device,
        precision=given.precision,
        normalize=given.normalize,
        palette=given.palette,
        samples=given.samples,
        check=given.check,
        fidelity=given.fidelity,
    )

    def load() -> "tuple[SuperResolver, Settings]":
        model = weights.load_model(path)
        _check_model(model, given)
        known = settings.with_range_of(model, given.model)
        model.eval().to(device)
        return model, known

    single = len(inputs) == 1
    with _Shown(len(found.jobs), single) as shown:
        outcome = files.restore_files(
            found,
            load,
            settings,
            files.ClipSettings(given.temporal_scale, given.allow_untrained_scale, given.fps, given.overwrite),
            _guides(given.guide, found),
            clips=kind.restores_clips,
            show=shown.result,
            progress=shown.frames,
        )
    if single and outcome.failed:
        raise next(iter(outcome.failed.values()))
    _summary(found, outcome, given, device)
    return 2 if outcome.failed else 0


def _fitting(given: argparse.Namespace) -> Path:
    """Choose the model that comes with this package and fits the inputs, and say which it is."""
    from lit_thermal.inference.plan import find_inputs
    from lit_thermal.weights import model_for

    clips = [clip for _, clip in find_inputs(given.input, False)]
    path = model_for(clips=all(clips), guided=given.guide is not None)
    given.model = path.name
    print(f"model: {path.name}, which comes with this package (--model takes another)")
    return path


def _check_kind(kind: type, given: argparse.Namespace) -> None:
    """Refuse methods that restore no files."""
    if kind.__name__ == "RealIISRTokenizer":
        raise InputError(
            f"{given.model} holds RealIISRTokenizer, which reproduces images from their tokens and restores none: use "
            "a checkpoint of RealIISR"
        )


def _check_model(model: "SuperResolver", given: argparse.Namespace) -> None:
    """Check that a model can do what the options ask for."""
    name = type(model).__name__
    if given.guide and not model.takes_guide:
        raise InputError(f"{given.model} holds {name}, which reads no guide: leave --guide out")
    if given.samples > 1 and not model.draws:
        raise InputError(f"{given.model} holds {name}, which draws nothing at random: leave --samples out")


def _guides(given: str | None, found: "Plan") -> dict[Path, Any]:
    """Return the guide of each image: a file, the word for the embedded photo, or the reason why there is none."""
    from lit_thermal.inference.guides import EMBEDDED, paired_guides

    sources = [job.source for job in found.jobs]
    if given is None:
        return {}
    if given == EMBEDDED:
        return dict.fromkeys(sources, EMBEDDED)
    return dict(paired_guides(Path(given), sources))


def _summary(found: "Plan", outcome: Any, given: argparse.Namespace, device: Any) -> None:
    from lit_thermal.inference.memory import peak_memory

    if found.finished:
        print(f"{len(found.finished)} finished by an earlier run and left as they are (--overwrite replaces them)")
    if outcome.done:
        peak = peak_memory(device)
        used = f"; peak memory {peak / 2**20:,.0f} MiB" if peak else ""
        print(f"{len(outcome.done)} restored to {given.output}{used}")
    if outcome.failed:
        names = ", ".join(str(path) for path in outcome.failed)
        total = len(outcome.failed) + len(outcome.done)
        print(printable(f"error: {len(outcome.failed)} of {total} were not restored: {names}"), file=sys.stderr)


class _Shown:
    """Progress with the time left, on a terminal, and a line for each input."""

    def __init__(self, total: int, single: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.total, self.single = total, single

    def __enter__(self) -> "_Shown":
        self.bar.start()
        self.task = self.bar.add_task("Restoring", total=self.total, visible=self.total > 1)
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def result(self, source: Path, what: "Sequence[str] | InputError") -> None:
        """Print what became of an input; a single one that failed is reported by the caller."""
        self.bar.advance(self.task)
        if isinstance(what, InputError):
            if not self.single:
                print(printable(f"error: {' '.join(str(what).split())}"), file=sys.stderr)
            return
        for sentence in what:
            print(printable(sentence if self.single else f"{source.name}: {sentence}"))

    def frames(self, frames: "Iterable[Tensor]", total: int) -> "Iterable[Tensor]":
        """Yield the frames of a clip and show how many there are left."""
        task = self.bar.add_task("Frames", total=total)
        try:
            yield from self.bar.track(frames, task_id=task)
        finally:
            self.bar.remove_task(task)
