"""Runs the points of a sweep, each in its own process, one after another or several at once."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from lit_thermal.errors import InputError, short
from lit_thermal.files import check_folder, locked
from lit_thermal.plain_files import read_bytes, read_json
from lit_thermal.shapes import COUNT, Number, check
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
"""Seconds between two checks of the running processes."""
GRACE = 30.0
"""Time in seconds in which an interrupted process can end by itself."""
PROGRESS_FILE = "LIT_THERMAL_PROGRESS"
"""Environment variable with the file in which a run records its progress."""
SWEEP_PROCESS = "LIT_THERMAL_SWEEP_PROCESS"
"""Environment variable with the process id of the sweep; a run ends when that process is gone."""


_PROGRESS = {"phase": str, "step": COUNT, "steps?": (None, Number()), "val/psnr?": (None, float)}
"""Structure of the progress file of a run."""


class Watcher(Protocol):
    """Observer of the progress of a sweep."""

    def started(self, point: PointRecord) -> None:
        """Handle the start of a process."""

    def running(self, point: PointRecord, progress: dict[str, Any]) -> None:
        """Handle the progress that a run recorded: `phase`, `step`, `steps`, and `val/psnr` if it was measured."""

    def ended(self, point: PointRecord) -> None:
        """Handle the end of a process, whether it succeeded or not."""


@dataclass
class _Process:
    point: PointRecord
    process: subprocess.Popen[bytes]
    started: float
    place: int
    digests: dict[str, str]


def plan(
    sweep: SweepFile,
    named: Mapping[str, Point],
    seeds: int,
    folder: Path,
    overrides: Sequence[str],
    overlays: Sequence[str] = (),
) -> SweepRecord:
    """Plan a sweep: all points with the first seed, then all points with the next one.

    Args:
        sweep: sweep file.
        named: points to run, by name.
        seeds: number of runs of each point, under the seeds 0, 1, ...
        folder: folder of the sweep.
        overrides: arguments added to the command of every point.
        overlays: config files that apply to all points.
    """
    records = []
    for seed in range(seeds):
        for name, point in named.items():
            own = folder / f"{_file_name(name)}-seed{seed}"
            words = [*words_of_point(sweep, point, overlays), *overrides, f"--seed_everything={seed}"]
            words += ["--trainer.logger=true", f"--trainer.default_root_dir={folder}", f"--experiment={own.name}"]
            if (odd := next((word for word in words if "\0" in word or not _is_whole(word)), None)) is not None:
                raise InputError(f"{sweep.path}: {odd[:80]!r} cannot be an argument of a command; give other values")
            records.append(PointRecord(name, point, seed, "missing", own, None, None, tuple(words)))
    if len({record.folder for record in records}) < len(records):
        raise InputError(f"{sweep.path} has two points of the same name; give their parameters other values")
    return SweepRecord(
        sweep.name,
        folder,
        str(sweep.path),
        sweep.text,
        seeds,
        (*(f"--config={name}" for name in overlays), *overrides),
        tuple(records),
    )


def run(
    planned: SweepRecord, watcher: Watcher, places: Sequence[dict[str, str]], files: Callable[[PointRecord], list[Path]]
) -> SweepRecord:
    """Run the points that are not finished yet; a point that fails is recorded, and the others continue.

    A point that an earlier, interrupted sweep left unfinished is removed and run again. Points of the same sweep that
    ran before but are not requested now stay in its record.

    Args:
        planned: planned sweep.
        watcher: observer that is notified of the progress.
        places: environment variables for a process, such as its GPU; one mapping for each process that may run at the
            same time.
        files: function that returns the config files named by the command of a point.

    Returns:
        The sweep with the results of its points.

    Raises:
        InputError: another sweep runs in the folder, it contains points with other settings, or it cannot be created.
        KeyboardInterrupt: the sweep was interrupted; its processes are ended first.
    """
    check_folder(planned.folder, "--out")
    with locked(planned.folder / ".lock", f"the sweep {planned.folder}"):
        earlier = read_sweep(planned.folder) if os.path.lexists(planned.folder / SWEEP) else None
        if earlier is not None:
            _check_same(planned, earlier, files)
        write_sweep(planned if earlier is None else _with_others(planned, earlier))
        todo = [p for p in planned.points if read_point(p.folder).get("state") != "finished"]
        _work(todo, watcher, places, files)
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
    if point.folder.is_symlink():
        point.folder.unlink()  # the target of the link is kept
    shutil.rmtree(point.folder, ignore_errors=True)
    variables = {PROGRESS_FILE: str(point.folder / PROGRESS), SWEEP_PROCESS: str(os.getpid())}
    try:
        # A process of a killed sweep may still write there until it notices.
        point.folder.mkdir(parents=True, exist_ok=True)
        with (point.folder / LOG).open("wb") as log:
            process = subprocess.Popen(
                program(point.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | environment | variables,
                # Ctrl-C reaches only the sweep, which then ends its processes one by one.
                start_new_session=True,
            )
    except (OSError, ValueError) as error:
        raise InputError(f"the run in {point.folder} cannot be started ({short(error)}): make room") from error
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
    """End processes: first by an interrupt, and after `GRACE` seconds by force."""
    for one in running:
        with contextlib.suppress(ProcessLookupError):
            one.process.send_signal(signal.SIGINT)
    last = time.perf_counter() + GRACE
    for one in running:
        try:
            one.process.wait(max(0.0, last - time.perf_counter()))
        except subprocess.TimeoutExpired:
            # The whole process group, including processes of a distributed run and of its data loaders.
            os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()


@contextlib.contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """Handle a request to terminate like Ctrl-C, so that the processes of the points are ended too."""

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
    """Check that finished points of an earlier sweep have the same settings as the planned ones."""
    finished = {point.folder: point for point in earlier.points if point.state == "finished"}
    for point in planned.points:
        if point.folder not in finished:
            continue
        # Compared by their order in the command, because a path depends on where the sweep was started.
        then = list(read_point(point.folder).get("files", {}).values())
        changed = [file.name for file, digest in zip(files(point), then, strict=False) if _digest(file) != digest]
        if _settings(finished[point.folder]) != _settings(point) or changed:
            why = f"{changed[0]} has changed since" if changed else "its command was different"
            raise InputError(
                f"{point.folder.name} in {planned.folder} finished under other settings ({why}); "
                "remove that folder, or give another --out"
            )
    others = finished.keys() - {point.folder for point in planned.points}
    if others and earlier.overrides != planned.overrides:
        raise InputError(
            f"{min(others).name} in {planned.folder} finished under other settings (added options: "
            f"{' '.join(earlier.overrides) or 'none'}); remove that folder, or give another --out"
        )


def _with_others(planned: SweepRecord, earlier: SweepRecord) -> SweepRecord:
    """Add points of an earlier run of the same sweep that were not requested now, in their original order."""
    if (earlier.text, earlier.overrides) != (planned.text, planned.overrides):
        return planned
    points = {point.folder: point for point in (*earlier.points, *planned.points)}
    if points.keys() == {point.folder for point in planned.points}:
        return planned
    return replace(planned, points=tuple(points.values()), seeds=max(planned.seeds, earlier.seeds))


def _settings(point: PointRecord) -> list[str]:
    """Return the arguments of a point's command that affect its result; paths of outputs do not."""
    return [word for word in point.command if not word.startswith("--trainer.default_root_dir=")]


def _progress(point: PointRecord) -> dict[str, Any]:
    try:
        content: dict[str, Any] = check(
            read_json(point.folder / PROGRESS, "progress", nan=True), _PROGRESS, PROGRESS, ""
        )
    except InputError:  # not written yet
        return {}
    return content


def _digest(path: Path) -> str:
    return hashlib.sha256(read_bytes(path, "a configuration")).hexdigest()


def _is_whole(word: str) -> bool:
    """Return whether a word can be passed to a process: it has no lone surrogates."""
    try:
        os.fsencode(word)
    except UnicodeEncodeError:
        return False
    return True


def _file_name(name: str) -> str:
    """Turn a point's name into a folder name; a long one is cut and made unique by its digest."""
    short = "".join(c if c.isalnum() or c in "=.-_+" else "_" for c in name.replace(", ", "+")) or "point"
    if len(short.encode()) > 200:  # file systems allow 255 bytes, and the seed is appended
        short = f"{short[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return short
