"""Thermal images with their visible view from the embedded simulator: no download, the same on every machine."""

import math
import mmap
from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from lit_thermal.data.datamodules.image_data import ImageData, ImageSplit
from lit_thermal.data.datamodules.sample import Sample, SampleSource
from lit_thermal.data.datamodules.simulated_video import Split
from lit_thermal.data.degradations.conditions import Complete, Condition
from lit_thermal.data.degradations.degradation import Bicubic, Degradation
from lit_thermal.data.degradations.misalignment import Aligned, Misalignment
from lit_thermal.data.simulator import RIGS, ScenarioName, Scene, SecondCamera, make_scene, render, render_visible
from lit_thermal.data.simulator.rig import FRAMES, margin
from lit_thermal.data.simulator.sensor import radiometry
from lit_thermal.errors import InputError, check_choice

TAG_BYTES = 256
"""Bytes for the tags of a scene, which have about 40 letters."""


class RenderedPairs:
    """The pairs of one split, or single thermal images, each rendered at its first use and kept in shared memory.

    The memory is shared like that of `RenderedClips`: by workers that are forked after this is made.

    Args:
        split: split of the data; each has its own stream of scenes.
        count: number of pairs.
        size: height and width in HR pixels.
        scenario: kind of scene.
        guide_shift: greatest displacement of the visible camera in HR pixels.
        guided: whether to render the visible view, which does not affect the thermal one.
        seed: seed of all scenes.
        second_camera: setup of the visible camera (`RIGS`).
    """

    def __init__(
        self,
        split: Split,
        count: int,
        *,
        size: int,
        scenario: ScenarioName,
        guide_shift: float,
        guided: bool,
        seed: int,
        second_camera: SecondCamera = "coaxial",
    ) -> None:
        self.split, self.count, self.size, self.guide_shift, self.seed = split, count, size, guide_shift, seed
        self.scenario: ScenarioName = scenario
        self.second_camera: SecondCamera = second_camera
        self.guided = guided
        self._allocate()

    def __getitem__(self, index: int) -> Sample:
        """Return pair number `index`."""
        if not self._ranges[index, 1]:
            self._render(index)
        tags = self._tags[index].decode().split("\n")
        low, high = (float(kelvin) for kelvin in self._ranges[index])
        guide = self._guides[index] if self.guided else None
        return Sample(radiometry(low, high), self._counts[index], None, guide, tuple(tags))

    def scene(self, index: int) -> Scene:
        """Return the scene of pair number `index`."""
        beside = self.second_camera != "coaxial"
        return make_scene(
            self.seed,
            index,
            stream=get_args(Split).index(self.split),
            size=self.size,
            frames=FRAMES if beside else 1,
            scenario=self.scenario,
            visible=self.guided,
            margin=math.ceil(self.guide_shift) + (margin(self.size) if beside else 0),
        )

    def _render(self, index: int) -> None:
        stream = get_args(Split).index(self.split)
        scene = self.scene(index)
        clip = render(scene, frames=1)
        self._counts[index] = clip.counts[0]
        if self.guided:
            rng = np.random.default_rng((self.seed, stream, index))
            distance, angle = self.guide_shift * math.sqrt(rng.random()), 2 * math.pi * rng.random()
            shift = distance * math.cos(angle), distance * math.sin(angle)
            camera = RIGS[self.second_camera].draw(rng, self.size, shift)
            self._guides[index] = np.rint(render_visible(scene, camera=camera) * 255).astype(np.uint8)
        self._tags[index] = "\n".join(clip.tags).encode()
        low, step = clip.radiometry.constants
        # The upper end is written last and marks the pair as done.
        self._ranges[index, 0] = low
        self._ranges[index, 1] = low + step * 65535

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the cache; another process renders its samples again."""
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._allocate()

    def _allocate(self) -> None:
        shape = (self.count, self.size, self.size)
        # Memory that nobody writes to, such as that of unused guides, takes no space.
        self._counts: NDArray[np.uint16] = _shared(shape, "u2")
        self._guides: NDArray[np.uint8] = _shared((self.count, 3, *shape[1:]), "u1")
        self._tags: NDArray[np.bytes_] = _shared((self.count,), f"S{TAG_BYTES}")
        self._ranges: NDArray[np.float64] = _shared((self.count, 2), "f8")


class RenderedPair:
    """One of `RenderedPairs`, with the interface of a picture on disk."""

    def __init__(self, pairs: RenderedPairs, index: int) -> None:
        self._pairs, self._index = pairs, index
        self.name = f"{pairs.split}_{pairs.scenario}_{index:04d}"
        self.bytes = (5 if pairs.guided else 2) * pairs.size**2

    def scene(self) -> Scene:
        """Return the scene of the pair, with all details."""
        return self._pairs.scene(self._index)

    def read(self) -> Sample:
        """Return the pair; it is rendered at its first use."""
        return self._pairs[self._index]


class SimulatedPairs(ImageData):
    """Simulated thermal images with their visible view: `lr` at 1 / scale of the size of `hr` and `guide`.

    Training draws random crops of `train_images` scenes, each once per pass. Validation and test use whole images.
    Splits never share a scene: each has its own stream of random numbers. Some content of the visible view is not in
    the thermal one, and vice versa.

    Args:
        scale: factor by which the target is wider and higher than the input.
        size: height and width of an image in HR pixels.
        crop: side of the training crops in LR pixels; 0 uses whole images.
        train_images: number of images to train on.
        val_images: number of validation images.
        test_images: number of test images.
        batch_size: training crops per step.
        eval_batch_size: whole images per step in validation, test and prediction.
        samples_per_epoch: training crops per epoch; 0 means `train_images`.
        scenario: kind of scene in training and validation.
        test_scenario: kind of scene in test and prediction.
        guide_shift: greatest displacement of the visible camera in HR pixels, drawn separately for each scene; the
            scenes then differ from those of 0.
        second_camera: setup of the visible camera: at the position of the thermal one ("coaxial"), or as in a phone
            with a thermal module, with a wider view, from the side, later and sometimes with flare, in three severities
            (`RIGS`). The phones view the same scenes as each other, but not the coaxial ones.
        guided: whether samples have a guide; without it they are the same thermal images only.
        degradation: degradation that makes the input from the target.
        augment: whether to flip training crops.
        misalignment: random misalignment of guides in training crops (`ImageData`).
        num_workers: number of processes that render and crop; 0 does it in the training process.
        seed: seed of all scenes and random draws.
        test_conditions: conditions of the test, with a data loader each; `Complete` is the unchanged data.
    """

    data_name = "simulated"

    def __init__(
        self,
        scale: int = 8,
        size: int = 192,
        crop: int = 16,
        train_images: int = 512,
        val_images: int = 16,
        test_images: int = 64,
        batch_size: int = 8,
        eval_batch_size: int = 4,
        samples_per_epoch: int = 0,
        scenario: ScenarioName = "standard",
        test_scenario: ScenarioName = "standard",
        guide_shift: float = 0.0,
        second_camera: SecondCamera = "coaxial",
        guided: bool = True,
        degradation: Callable[[], Degradation] = Bicubic,
        augment: bool = True,
        misalignment: Callable[[], Misalignment] = Aligned,
        num_workers: int = 1,
        seed: int = 0,
        test_conditions: Sequence[Callable[[], Condition]] = (Complete,),
    ) -> None:
        super().__init__(
            scale=scale,
            guided=guided,
            crop=crop,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            samples_per_epoch=samples_per_epoch,
            degradation=degradation,
            augment=augment,
            misalignment=misalignment,
            num_workers=num_workers,
            seed=seed,
            # `RenderedPairs` keeps rendered pairs itself, and renders none before it is needed.
            cache_gib=0,
            test_conditions=test_conditions,
        )
        for name, count in {"train_images": train_images, "val_images": val_images, "test_images": test_images}.items():
            if count < 1:
                raise InputError(f"data.{name} is {count}; it must be at least 1")
        if size < 16:
            raise InputError(f"data.size is {size}; a scene needs at least 16 pixels a side")
        if size % scale:
            raise InputError(
                f"data.size {size} is not a multiple of data.scale {scale}; take {scale * (size // scale + 1)}"
            )
        if crop * scale > size:
            raise InputError(
                f"data.crop {crop} at scale {scale} needs images of {crop * scale} pixels, but data.size is {size}: "
                f"take a crop of 1 to {size // scale}, or 0 for whole images"
            )
        if not 0 <= guide_shift <= size:
            raise InputError(f"data.guide_shift is {guide_shift}; it must be from 0 to data.size {size}")
        for name, scene in {"scenario": scenario, "test_scenario": test_scenario}.items():
            check_choice(scene, ScenarioName, f"data.{name}")
        check_choice(second_camera, SecondCamera, "data.second_camera")
        self.size, self.guide_shift = size, guide_shift
        self.second_camera: SecondCamera = second_camera
        self.scenario: ScenarioName = scenario
        self.test_scenario: ScenarioName = test_scenario
        self._counts: dict[Split, int] = {"train": train_images, "val": val_images, "test": test_images}

    def sources(self, split: ImageSplit) -> Sequence[SampleSource]:
        """Return the pairs of a split; "predict" gives those of the test."""
        drawn: Split = "test" if split == "predict" else split
        pairs = RenderedPairs(
            drawn,
            self._counts[drawn],
            size=self.size,
            scenario=self.test_scenario if drawn == "test" else self.scenario,
            guide_shift=self.guide_shift,
            guided=self.guided,
            seed=self.seed,
            second_camera=self.second_camera,
        )
        return [RenderedPair(pairs, index) for index in range(pairs.count)]


def _shared(shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Return an array of zeros in memory that is shared with processes forked later."""
    dtype = np.dtype(kind)
    return np.frombuffer(mmap.mmap(-1, dtype.itemsize * math.prod(shape)), dtype).reshape(shape)
