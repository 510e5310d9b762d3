"""Video from the embedded simulator: no download, and the same clips on every machine."""

import mmap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from lit_thermal.batch import Batch, Radiometry
from lit_thermal.data.datamodules.video_data import VideoData
from lit_thermal.data.datamodules.windows import Source, TargetWindows
from lit_thermal.data.degradations.conditions import Complete, Condition
from lit_thermal.data.degradations.degradation import Bicubic, Degradation
from lit_thermal.data.simulator import ScenarioName, make_scene, render
from lit_thermal.data.simulator.sensor import radiometry
from lit_thermal.errors import InputError, check_choice

Split = Literal["train", "val", "test"]

TESTED: tuple[ScenarioName, ...] = ("standard", "fast_motion", "switching_sources", "hot_boundaries")
"""Kinds of scene that a test has by default; others have their own overlays, such as `data/conduction.yaml`."""


class RenderedClips:
    """The clips of one split and scenario, each rendered at its first use and kept in memory shared with workers.

    The memory is anonymous, so that workers forked after this is made fill and read one copy (it is not taken from
    /dev/shm, which containers keep small). If processes are spawned, each has its own copy. Two workers may render the
    same clip at the same time: they write the same bytes.

    Args:
        split: split of the data; each has its own stream of scenes.
        count: number of clips.
        frames: number of frames of each clip, at the high frame rate.
        size: height and width in HR pixels.
        scenario: kind of scene.
        max_speed: greatest speed over the image, in HR pixels per HR frame.
        seed: seed of all scenes.
    """

    def __init__(
        self, split: Split, count: int, *, frames: int, size: int, scenario: ScenarioName, max_speed: float, seed: int
    ) -> None:
        self.split, self.count, self.frames, self.size = split, count, frames, size
        self.scenario: ScenarioName = scenario
        self.max_speed, self.seed = max_speed, seed
        self._allocate()

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint16], tuple[float, float]]:
        """Return the counts (T, H, W) of a clip and the temperatures (K) of its counts 0 and 65535."""
        if not self._ranges[index, 1]:
            scene = make_scene(
                self.seed,
                index,
                stream=get_args(Split).index(self.split),
                size=self.size,
                frames=self.frames,
                scenario=self.scenario,
                max_speed=self.max_speed,
            )
            clip = render(scene, frames=self.frames)
            self._counts[index] = clip.counts
            low, step = clip.radiometry.constants
            # The upper end is written last and marks the clip as done.
            self._ranges[index, 0] = low
            self._ranges[index, 1] = low + step * 65535
        low, high = self._ranges[index]
        return self._counts[index], (float(low), float(high))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the cache; another process renders its samples again."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_counts", "_ranges")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._allocate()

    def _allocate(self) -> None:
        shape = (self.count, self.frames, self.size, self.size)
        self._counts = np.frombuffer(mmap.mmap(-1, 2 * int(np.prod(shape))), np.uint16).reshape(shape)
        self._ranges = np.frombuffer(mmap.mmap(-1, 16 * self.count), np.float64).reshape(self.count, 2)


class RenderedClip:
    """One of `RenderedClips`, with the interface of a clip on disk."""

    bits = 16
    fps = None

    def __init__(self, clips: RenderedClips, index: int) -> None:
        self._clips, self._index = clips, index
        self.name = f"{clips.split}_{clips.scenario}_{index:04d}"
        self.path = Path(self.name)
        self.length = clips.frames
        self.size = (clips.size, clips.size)

    @property
    def radiometry(self) -> Radiometry:
        """Mapping between values and Kelvin; reading it renders the clip."""
        return radiometry(*self._clips[self._index][1])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the counts (T, H, W) of frames `start` to `stop - 1`."""
        return self._clips[self._index][0][start:stop]

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.read(0, self.length))


class _RenderedSource(Source):
    """A source with a radiometry that is known only after its clip is rendered."""

    def __init__(self, clip: RenderedClip) -> None:
        self.clip, self.counts = clip, None
        self._rendered = clip

    @property
    def radiometry(self) -> Radiometry:  # type: ignore[override]
        return self._rendered.radiometry


class _WithoutTarget(Dataset[dict[str, Any]]):
    """Samples without targets, as a camera would give them."""

    def __init__(self, windows: TargetWindows) -> None:
        self._windows = windows

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {key: value for key, value in self._windows[index].items() if key != "hr"}


class SimulatedVideo(VideoData):
    """Simulated thermal clips: `lr` at 1 / scale of the size and 1 / temporal_scale of the frame rate of `hr`.

    Training draws random crops of `train_clips` clips; a sample depends only on the seed and on its number since the
    start of training, so it does not change with the number of workers or when a run is resumed at the end of an epoch.
    Validation and test use whole clips. Splits never share a scene: each has its own stream of random numbers.

    Args:
        scale: spatial scale.
        temporal_scale: number of HR frames per LR frame.
        frames: number of HR frames of a clip and of a sample, `temporal_scale * k + 1` with k >= 2.
        size: height and width of a clip in HR pixels.
        crop: side of the training crops in LR pixels.
        train_clips: number of clips to train on.
        val_clips: number of validation clips.
        test_clips: number of test clips of each scenario.
        batch_size: training crops per step.
        eval_batch_size: whole clips per step in validation, test and prediction.
        samples_per_epoch: training crops per epoch.
        scenario: kind of scene in training and validation.
        test_scenarios: kinds of scene to test on, with a data loader each.
        max_speed: greatest speed over the image in HR pixels per HR frame (`fast_motion` goes up to a third more).
        degradation: degradation that makes LR frames from HR frames.
        augment: whether to flip, rotate and reverse training crops in time.
        num_workers: number of processes that render and crop; 0 does it in the training process.
        seed: seed of all scenes and random draws.
        test_conditions: conditions of the test, with a data loader each for every kind of scene; `Complete` is the
            unchanged data. Conditions of a guide are refused.
    """

    def __init__(
        self,
        scale: int = 4,
        temporal_scale: int = 2,
        frames: int = 7,
        size: int = 128,
        crop: int = 16,
        train_clips: int = 512,
        val_clips: int = 16,
        test_clips: int = 16,
        batch_size: int = 8,
        eval_batch_size: int = 4,
        samples_per_epoch: int = 800,
        scenario: ScenarioName = "standard",
        test_scenarios: Sequence[ScenarioName] = TESTED,
        max_speed: float = 3.0,
        degradation: Callable[[], Degradation] = Bicubic,
        augment: bool = True,
        num_workers: int = 1,
        seed: int = 0,
        test_conditions: Sequence[Callable[[], Condition]] = (Complete,),
    ) -> None:
        super().__init__(
            scale=scale,
            temporal_scale=temporal_scale,
            frames=frames,
            crop=crop,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            samples_per_epoch=samples_per_epoch,
            degradation=degradation,
            augment=augment,
            num_workers=num_workers,
            seed=seed,
            test_conditions=test_conditions,
        )
        if size % scale:
            raise InputError(
                f"data.size {size} is not a multiple of data.scale {scale}; take {scale * (size // scale + 1)}"
            )
        if crop * scale > size:
            raise InputError(
                f"data.crop {crop} at scale {scale} needs clips of {crop * scale} pixels, but data.size is {size}: "
                f"take a crop of 1 to {size // scale}"
            )
        for name, value in {"train_clips": train_clips, "val_clips": val_clips, "test_clips": test_clips}.items():
            if value < 1:
                raise InputError(f"data.{name} is {value}; it must be at least 1")
        check_choice(scenario, ScenarioName, "data.scenario")
        for name in test_scenarios:
            check_choice(name, ScenarioName, "data.test_scenarios")
        if not test_scenarios or len(set(test_scenarios)) < len(test_scenarios):
            raise InputError("data.test_scenarios is empty or names one twice; give at least one, each once")
        self.size, self.max_speed = size, max_speed
        self.scenario: ScenarioName = scenario
        self.test_scenarios = list(test_scenarios)
        self._counts: dict[Split, int] = {"train": train_clips, "val": val_clips, "test": test_clips}
        self._clips: dict[tuple[str, str], list[Source]] = {}

    @property
    def test_sets(self) -> Sequence[str]:
        """Names of the kinds of scene that a test measures separately."""
        return self.test_scenarios

    def sources(self, split: Split) -> list[Source]:  # type: ignore[override]
        """Return the clips to train on ("train") or to validate on ("val")."""
        return self._clips_of(split, self.scenario)

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Return loaders of whole test clips, one for each of `test_names`."""
        windows = [self._targets(self._clips_of("test", scenario)) for scenario in self.test_scenarios]
        return [loader for one in windows for loader in self._test_loaders(one)]

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """Return loaders of the test clips without their targets."""
        return [
            self._loader(_WithoutTarget(self._targets(self._clips_of("test", scenario))), self.eval_batch_size)
            for scenario in self.test_scenarios
        ]

    def _clips_of(self, split: Split, scenario: str) -> list[Source]:
        """Return the clips of a split, made once, so that all loaders of the split reuse rendered clips."""
        key = (split, scenario)
        if key not in self._clips:
            clips = RenderedClips(
                split,
                self._counts[split],
                frames=self.frames,
                size=self.size,
                scenario=scenario,  # type: ignore[arg-type]
                max_speed=self.max_speed,
                seed=self.seed,
            )
            self._clips[key] = [_RenderedSource(RenderedClip(clips, index)) for index in range(clips.count)]
        return self._clips[key]
