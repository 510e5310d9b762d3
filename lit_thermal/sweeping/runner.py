"""Runs the points of a sweep, each in a process of its own, one after the other or several at once."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from lit_thermal.errors import InputError
from lit_thermal.sweeping.command import program, words_of_point
from lit_thermal.sweeping.points import Point
from lit_thermal.sweeping.record import (
    LOG,
    PROGRESS,
    SWEEP,
    PointRecord,
    SweepRecord,
    read_point,
    read_sweep,
    write_point,
    write_sweep,
)
from lit_thermal.sweeping.sweep_file import SweepFile

POLL = 0.5
"""Seconds between two looks at the running processes."""
GRACE = 30.0
"""Seconds that an interrupted process has to end by itself."""
PROGRESS_FILE = "LIT_THERMAL_PROGRESS"
"""Environment variable that tells a run where to keep note of how far it is."""
SWEEP_PROCESS = "LIT_THERMAL_SWEEP_PROCESS"
"""Environment variable that tells a run the process without which it is to end."""


class Watcher(Protocol):
    """Who is told how a sweep goes."""

    def started(self, point: PointRecord) -> None:
        """A process was started."""

    def running(self, point: PointRecord, progress: dict[str, Any]) -> None:
        """What a run noted of itself: `phase`, `step`, `steps`, and `val/psnr` where it was measured."""

    def ended(self, point: PointRecord) -> None:
        """A process ended, well or not."""


@dataclass
class _Process:
    point: PointRecord
    process: subprocess.Popen[bytes]
    started: float
    place: int
    digests: dict[str, str]


def plan(
    sweep: SweepFile, named: Mapping[str, Point], seeds: int, folder: Path, overrides: Sequence[str]
) -> SweepRecord:
    """Lay out a sweep: every point under the first seed, then every point under the next.

    Args:
        sweep: the file.
        named: its points that are to run, by their names.
        seeds: how often each point runs, under the seeds 0, 1, ...
        folder: of the sweep.
        overrides: words added to the command of every point.
    """
    records = []
    for seed in range(seeds):
        for name, point in named.items():
            own = folder / f"{_file_name(name)}-seed{seed}"
            words = [*words_of_point(sweep, point), *overrides, f"--seed_everything={seed}"]
            words += ["--trainer.logger=true", f"--trainer.default_root_dir={folder}", f"--experiment={own.name}"]
            records.append(PointRecord(name, point, seed, "missing", own, None, None, tuple(words)))
    if len({record.folder for record in records}) < len(records):
        raise InputError(f"{sweep.path} has two points of the same name; give their parameters other values")
    return SweepRecord(sweep.name, folder, str(sweep.path), sweep.text, seeds, tuple(overrides), tuple(records))


def run(
    planned: SweepRecord, watcher: Watcher, places: Sequence[dict[str, str]], files: Callable[[PointRecord], list[Path]]
) -> SweepRecord:
    """Run what is not finished yet; a point that fails is kept note of and the others go on.

    What an earlier, interrupted sweep left of a point that had not ended is removed and the point runs again. Points
    of the same sweep that ran before and are not asked for stay in its record.

    Args:
        planned: the sweep.
        watcher: is told what happens.
        places: what the environment of a process is to have, for each that may run at a time.
        files: the config files that the command of a point names.

    Returns:
        The sweep as it ended.

    Raises:
        InputError: another sweep runs in the folder, it holds points of other settings, or it cannot be made.
        KeyboardInterrupt: the processes were ended before.
    """
    try:
        planned.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {planned.folder} cannot be made: {error.strerror}") from error
    lock = FileLock(planned.folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another sweep runs in {planned.folder}; wait for it, or give another --out") from None
    try:
        earlier = read_sweep(planned.folder) if (planned.folder / SWEEP).is_file() else None
        if earlier is not None:
            _check_same(planned, earlier, files)
        write_sweep(planned if earlier is None else _with_others(planned, earlier))
        todo = [p for p in planned.points if read_point(p.folder).get("state") != "finished"]
        _work(todo, watcher, places, files)
    finally:
        lock.release()
    return read_sweep(planned.folder)


def _work(
    todo: list[PointRecord],
    watcher: Watcher,
    places: Sequence[dict[str, str]],
    files: Callable[[PointRecord], list[Path]],
) -> None:
    waiting, running = list(todo), list[_Process]()
    free = list(range(len(places)))
    try:
        with _terminated_as_interrupt():
            while waiting or running:
                while waiting and free:
                    point, place = waiting.pop(0), free.pop(0)
                    running.append(_start(point, place, places[place], files(point)))
                    watcher.started(point)
                time.sleep(POLL)
                for one in list(running):
                    if one.process.poll() is None:
                        watcher.running(one.point, _progress(one.point))
                        continue
                    running.remove(one)
                    free.append(one.place)
                    watcher.ended(_finish(one))
    finally:
        _stop(running)


def _start(point: PointRecord, place: int, environment: dict[str, str], files: list[Path]) -> _Process:
    digests = {str(file): _digest(file) for file in files}
    shutil.rmtree(point.folder, ignore_errors=True)
    # a process that a killed sweep left may still write there until it notices
    point.folder.mkdir(parents=True, exist_ok=True)
    told = {PROGRESS_FILE: str(point.folder / PROGRESS), SWEEP_PROCESS: str(os.getpid())}
    with (point.folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            program(point.command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | environment | told,
            # Ctrl-C reaches the sweep alone, which then ends its processes one by one
            start_new_session=True,
        )
    return _Process(point, process, time.perf_counter(), place, digests)


def _finish(one: _Process) -> PointRecord:
    seconds = round(time.perf_counter() - one.started, 1)
    code = one.process.returncode
    runs = sorted(path.parent for path in one.point.folder.glob("*/config.yaml"))
    state = "finished" if code == 0 and runs else "failed"
    ended = replace(one.point, state=state, run=runs[-1] if runs else None, seconds=seconds)
    (one.point.folder / PROGRESS).unlink(missing_ok=True)
    write_point(ended, returncode=code, files=one.digests)
    return ended


def _stop(running: list[_Process]) -> None:
    """End processes: by asking, and after some time by force."""
    for one in running:
        with contextlib.suppress(ProcessLookupError):
            one.process.send_signal(signal.SIGINT)
    last = time.perf_counter() + GRACE
    for one in running:
        try:
            one.process.wait(max(0.0, last - time.perf_counter()))
        except subprocess.TimeoutExpired:
            # its group: processes of a distributed run and of its data loaders too
            os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()


@contextlib.contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """Take a request to terminate as Ctrl-C, so that the processes of the points are ended too."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    try:
        earlier = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _check_same(planned: SweepRecord, earlier: SweepRecord, files: Callable[[PointRecord], list[Path]]) -> None:
    """Refuse to mix points of other settings with those that are finished."""
    finished = {point.folder: point for point in earlier.points if point.state == "finished"}
    for point in planned.points:
        if point.folder not in finished:
            continue
        # by their order in the command: a path depends on where the sweep was started
        then = list(read_point(point.folder).get("files", {}).values())
        changed = [file.name for file, digest in zip(files(point), then, strict=False) if _digest(file) != digest]
        if _settings(finished[point.folder]) != _settings(point) or changed:
            why = f"{changed[0]} has changed since" if changed else "its command was another"
            raise InputError(
                f"{point.folder.name} in {planned.folder} finished under other settings ({why}); "
                "remove that folder, or give another --out"
            )
    others = finished.keys() - {point.folder for point in planned.points}
    if others and earlier.overrides != planned.overrides:
        raise InputError(
            f"{min(others).name} in {planned.folder} finished under other settings (added were "
            f"{' '.join(earlier.overrides) or 'none'}); remove that folder, or give another --out"
        )


def _with_others(planned: SweepRecord, earlier: SweepRecord) -> SweepRecord:
    """Add the points that an earlier run of the same sweep had and this one was not asked for, in their places."""
    if (earlier.text, earlier.overrides) != (planned.text, planned.overrides):
        return planned
    points = {point.folder: point for point in (*earlier.points, *planned.points)}
    if points.keys() == {point.folder for point in planned.points}:
        return planned
    return replace(planned, points=tuple(points.values()), seeds=max(planned.seeds, earlier.seeds))


def _settings(point: PointRecord) -> list[str]:
    """The words of a point's command that decide what it measures: not where it lies."""
    return [word for word in point.command if not word.startswith("--trainer.default_root_dir=")]


def _progress(point: PointRecord) -> dict[str, Any]:
    try:
        return json.loads((point.folder / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _file_name(name: str) -> str:
    """A point's name as that of a folder; a long one is cut and told apart by its digest."""
    short = "".join(c if c.isalnum() or c in "=.-_+" else "_" for c in name.replace(", ", "+")) or "point"
    if len(short.encode()) > 200:  # file systems take 255 bytes, and a seed follows
        short = f"{short[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return short
