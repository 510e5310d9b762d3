"""The verb `sweep`: runs the points of a W&B sweep file without W&B."""

import importlib.util
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from lit_thermal.cli.arguments import CONFIG, find_experiment, sources
from lit_thermal.cli.parser import Parser, did_you_mean
from lit_thermal.cli.run_folder import short_path
from lit_thermal.errors import InputError
from lit_thermal.sweeping.points import Point, named_points
from lit_thermal.sweeping.record import LOG, PointRecord, SweepRecord, read_point
from lit_thermal.sweeping.runner import plan, run
from lit_thermal.sweeping.sweep_file import SweepFile, read_sweep_file

ROOT = Path("runs") / "sweeps"
_TAIL = 1 << 16
"""Number of bytes at the end of a log that are searched for its last line."""


def main(argv: Sequence[str]) -> int:
    """Run a sweep; return 0 if all points finished, 1 if one failed."""
    parser = _parser()
    own, overrides = _split(parser, list(argv))
    arguments = parser.parse_args(own)
    for name in ("seeds", "jobs", "count"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise InputError(f"--{name} is {getattr(arguments, name)} and must be at least 1")
    sweep = read_sweep_file(_find(arguments.file))
    stems = [find_experiment(name).stem for name in arguments.config]
    folder = Path(arguments.out or ROOT / "-".join([sweep.name, *stems])).absolute()
    named = _chosen(sweep, named_points(sweep, arguments.count), arguments.points)
    planned = plan(sweep, named, arguments.seeds, folder, overrides, arguments.config)
    for sentence in sweep.left_out:
        print(sentence)
    if arguments.dry_run:
        for point in planned.points:
            print(f"{point.folder.name}: python -m lit_thermal {shlex.join(point.command)}")
        return 0
    return _run(sweep, planned, _places(arguments.jobs))


def _run(sweep: SweepFile, planned: SweepRecord, places: list[dict[str, str]]) -> int:
    done = sum(read_point(point.folder).get("state") == "finished" for point in planned.points)
    total = len(planned.points)
    print(
        f"{sweep.name}: {total} points ({planned.seeds} seed{'s' if planned.seeds > 1 else ''} each), {done} finished "
        f"before, {len(places)} at a time, in {short_path(planned.folder)}",
        flush=True,
    )
    started = time.perf_counter()
    watcher = Lines(total, done)
    try:
        with watcher:
            ended = run(planned, watcher, places, _files)
    except KeyboardInterrupt:
        left = total - watcher.finished
        print(f"{watcher.finished} of {total} points are finished; the same command again runs the {left} others")
        raise
    asked = {point.folder for point in planned.points}
    failed = [point for point in ended.points if point.folder in asked and point.state != "finished"]
    for point in failed:
        print(
            f"failed: {point.folder.name} ({_last_words(point)}); see {short_path(point.folder / LOG)}", file=sys.stderr
        )
    print(f"{total - len(failed)} of {total} points are finished, after {time.perf_counter() - started:.0f} s")
    print(f"report: python -m lit_thermal report {short_path(planned.folder)}")
    return 1 if failed else 0


class Lines:
    """Progress display of a sweep: one line per running point on a terminal, else one line at each start and end.

    Args:
        total: number of points of the sweep.
        finished: number of points that finished before.
    """

    def __init__(self, total: int, finished: int) -> None:
        self.total, self.finished, self._ended = total, finished, finished
        self._tasks: dict[Path, TaskID] = {}
        self._console = Console()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> "Lines":
        self._progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.stop()

    def started(self, point: PointRecord) -> None:
        """Show a line for a point."""
        self._tasks[point.folder] = self._progress.add_task(point.folder.name, total=None, note="starts")
        if not self._console.is_terminal:
            print(f"started {point.folder.name}", flush=True)

    def running(self, point: PointRecord, progress: dict[str, Any]) -> None:
        """Update the line of a point."""
        if not progress:
            return
        score = f", val {progress['val/psnr']:.2f} dB" if progress.get("val/psnr") is not None else ""
        of = f"/{progress['steps']}" if progress.get("steps") else ""
        note = f"{progress['phase']} {progress['step']}{of}{score}"
        changes = {"total": progress["steps"]} if progress.get("steps") else {}
        self._progress.update(self._tasks[point.folder], completed=progress["step"], note=note, **changes)

    def ended(self, point: PointRecord) -> None:
        """Print how a point ended."""
        self._progress.remove_task(self._tasks.pop(point.folder))
        self._ended += 1
        self.finished += point.state == "finished"
        self._console.print(
            f"[{self._ended}/{self.total}] {point.state} {point.folder.name} in {point.seconds:.0f} s",
            markup=False,
            highlight=False,
        )


def _split(parser: Parser, words: list[str]) -> tuple[list[str], list[str]]:
    """Separate the options of this verb from those of `fit`, which contain a dot and are passed to all points."""
    own, overrides = [], []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--") and "." in word.split("=")[0]:
            if "=" not in word:
                raise InputError(f"{word} needs its value in the same word: {word}=VALUE")
            overrides.append(word)
        else:
            own.append(word)
    return own, overrides


def _find(name: str) -> Path:
    """Return the path of a sweep file, given as a path or as the name of a packaged sweep.

    Raises:
        InputError: the file does not exist.
    """
    if Path(name).exists() and not Path(name).is_dir():
        return Path(name)
    spec = importlib.util.find_spec("lit_thermal.sweeps")
    stem = name.removeprefix("sweeps/").removesuffix(".yaml")
    known = []
    for place in map(Path, spec.submodule_search_locations or () if spec else ()):
        if (place / f"{stem}.yaml").is_file():
            return place / f"{stem}.yaml"
        known += [path.stem for path in sorted(place.glob("*.yaml"))]
    raise InputError(f"there is no sweep file {name!r}{did_you_mean(stem, known)} (packaged: {', '.join(known)})")


def _chosen(sweep: SweepFile, named: dict[str, Point], wanted: Sequence[str] | None) -> dict[str, Point]:
    """Return the points with the requested names, or all points if no name was given."""
    for name in wanted or ():
        if name not in named:
            raise InputError(
                f"{sweep.path} has no point {name!r}{did_you_mean(name, named)} (points: {', '.join(named)})"
            )
    return {name: point for name, point in named.items() if not wanted or name in wanted}


def _files(point: PointRecord) -> list[Path]:
    """Return the config files in the command of a point."""
    return [find_experiment(str(value)) for name, value in sources(list(point.command[1:])) if name in CONFIG]


def _places(jobs: int | None) -> list[dict[str, str]]:
    """Return the additional environment variables of each parallel process.

    There are `jobs` processes, by default one for each GPU, or one. They use the GPUs in turn, and share the cores
    evenly unless the user set the number of threads.
    """
    import torch

    gpus = torch.cuda.device_count()
    count = jobs or max(1, gpus)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(gpus)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = {} if "OMP_NUM_THREADS" in os.environ or count == 1 else {"OMP_NUM_THREADS": str(max(1, cores // count))}
    return [threads | ({"CUDA_VISIBLE_DEVICES": names[place % gpus]} if gpus else {}) for place in range(count)]


def _last_words(point: PointRecord) -> str:
    """Return the last line of a failed point's output."""
    try:
        with (point.folder / LOG).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL))
            lines = log.read().decode("utf-8", errors="replace").replace("\r", "\n").splitlines()
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def _parser() -> Parser:
    parser = Parser(
        "lit_thermal sweep",
        "Run the points of a W&B sweep file (grid or random) without W&B. Options with a dot, such as "
        "--trainer.max_steps=400, are passed to all points.",
    )
    parser.add_argument("file", metavar="FILE", help="sweep file, or the name of a packaged one")
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        default=[],
        metavar="OVERLAY",
        help="overlay that is applied to all points after their own settings, such as data/aliased.yaml; several may "
        "be given",
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="run each point under N seeds (default: 1)")
    parser.add_argument("--jobs", type=int, metavar="N", help="points run at a time (default: one for each GPU, or 1)")
    parser.add_argument("--count", type=int, metavar="N", help="number of points (default: all of a grid)")
    parser.add_argument(
        "--points", metavar="NAME", nargs="+", help="run only these points (names as printed by --dry_run)"
    )
    parser.add_argument(
        "--out", metavar="DIR", help=f"folder of the sweep (default: {ROOT}/NAME, with the names of overlays)"
    )
    parser.add_argument("--dry_run", action="store_true", help="print the commands of the points without running them")
    return parser
