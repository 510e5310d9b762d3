"""Thermal images with their visible view from the embedded simulator: nothing to download, the same everywhere."""

import math
import mmap
from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from lit_thermal.data.conditions import Complete, Condition
from lit_thermal.data.degradations import Bicubic, Degradation
from lit_thermal.data.image_data import ImageData, ImageSplit
from lit_thermal.data.images import Shot, ShotSource
from lit_thermal.data.misalignment import Aligned, Misalignment
from lit_thermal.data.simulated_video import Split
from lit_thermal.data.simulator import RIGS, ScenarioName, Scene, SecondCamera, make_scene, render, render_visible
from lit_thermal.data.simulator.rig import FRAMES, margin
from lit_thermal.data.simulator.sensor import radiometry
from lit_thermal.errors import InputError

TAG_BYTES = 256
"""Room for the tags of a scene, which have about 40 letters."""


class RenderedPairs:
    """The pairs of one split, or single thermal images, each rendered at its first use and kept in shared memory.

    It is shared as that of `RenderedClips` is: by workers that are forked after this is made.

    Args:
        split: each has a stream of scenes of its own.
        count: how many pairs.
        size: height and width in HR pixels.
        scenario: kind of scene.
        guide_shift: greatest displacement of the visible camera, HR pixels.
        guided: render the visible view, on which the thermal one does not depend.
        seed: of all scenes.
        second_camera: where the visible camera stands.
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

    def __getitem__(self, index: int) -> Shot:
        """The pair number `index`."""
        if not self._ranges[index, 1]:
            self._render(index)
        tags = self._tags[index].decode().split("\n")
        low, high = (float(kelvin) for kelvin in self._ranges[index])
        guide = self._guides[index] if self.guided else None
        return Shot(radiometry(low, high), self._counts[index], None, guide, tuple(tags))

    def scene(self, index: int) -> Scene:
        """What the pair number `index` shows."""
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
        # The upper end is written last: it marks the pair as done.
        self._ranges[index, 0] = low
        self._ranges[index, 1] = low + step * 65535

    def __getstate__(self) -> dict[str, Any]:
        """Leave the memory behind: another process renders anew what it needs."""
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._allocate()

    def _allocate(self) -> None:
        shape = (self.count, self.size, self.size)
        # Memory that nobody writes to, such as that of guides nobody wants, takes no room.
        self._counts: NDArray[np.uint16] = _shared(shape, "u2")
        self._guides: NDArray[np.uint8] = _shared((self.count, 3, *shape[1:]), "u1")
        self._tags: NDArray[np.bytes_] = _shared((self.count,), f"S{TAG_BYTES}")
        self._ranges: NDArray[np.float64] = _shared((self.count, 2), "f8")


class RenderedPair:
    """One of `RenderedPairs`, as a picture on disk would look to a data set."""

    def __init__(self, pairs: RenderedPairs, index: int) -> None:
        self._pairs, self._index = pairs, index
        self.name = f"{pairs.split}_{pairs.scenario}_{index:04d}"
        self.bytes = (5 if pairs.guided else 2) * pairs.size**2

    def scene(self) -> Scene:
        """What it shows, for those who want to know all of it."""
        return self._pairs.scene(self._index)

    def read(self) -> Shot:
        """The pair; renders it at its first use."""
        return self._pairs[self._index]


class SimulatedPairs(ImageData):
    """Simulated thermal images with their visible view: `lr` at 1 / scale of the size of `hr` and `guide`.

    Training draws random crops of `train_images` scenes, each once in a pass. Validation and test take whole images.
    Splits never share a scene: each has its own stream of random numbers. Not all that the visible view shows is in
    the thermal one, nor the other way round.

    Args:
        scale: how many times wider and higher the target is.
        size: height and width of an image in HR pixels.
        crop: side of the training crops in LR pixels; 0 takes whole images.
        train_images: number of images to train on.
        val_images: number of validation images.
        test_images: number of test images.
        batch_size: training crops per step.
        eval_batch_size: whole images per step elsewhere.
        samples_per_epoch: training crops per epoch; 0 is `train_images`.
        scenario: kind of scene in training and validation.
        test_scenario: kind of scene to test on and to restore.
        guide_shift: greatest displacement of the visible camera in HR pixels, drawn anew for each scene; it gives
            other scenes than 0 does.
        second_camera: where the visible camera stands: in place of the thermal one ("coaxial"), or as in a phone with
            a thermal module, the picture wider, from aside, later and sometimes with flare, of three severities
            (`RIGS`). The phones look at the same scenes, which are others than the coaxial ones.
        guided: samples have a guide; without it they are the same thermal images alone.
        degradation: makes the input of the target.
        augment: flip training crops.
        misalignment: how the guides of training crops lie beside their targets (`ImageData`).
        num_workers: processes that render and cut; 0 does it in the training process.
        seed: of all scenes and draws.
        test_conditions: each is a test data loader of its own; `Complete` is the data as they are.
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
            # `RenderedPairs` keeps what was rendered, and renders nothing before it is needed.
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
            raise InputError(f"data.guide_shift is {guide_shift}; it must lie from 0 to data.size {size}")
        for name, scene in {"scenario": scenario, "test_scenario": test_scenario}.items():
            if scene not in get_args(ScenarioName):
                known = ", ".join(get_args(ScenarioName))
                raise InputError(f"data.{name} {scene!r} is unknown; choose of {known}")
        if second_camera not in RIGS:
            raise InputError(f"data.second_camera {second_camera!r} is unknown; choose of {', '.join(RIGS)}")
        self.size, self.guide_shift = size, guide_shift
        self.second_camera: SecondCamera = second_camera
        self.scenario: ScenarioName = scenario
        self.test_scenario: ScenarioName = test_scenario
        self._counts: dict[Split, int] = {"train": train_images, "val": val_images, "test": test_images}

    def sources(self, split: ImageSplit) -> Sequence[ShotSource]:
        """The pairs of a split; those to restore are those of the test."""
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
    """An array of zeros in memory that is shared with processes forked from now on."""
    dtype = np.dtype(kind)
    return np.frombuffer(mmap.mmap(-1, dtype.itemsize * math.prod(shape)), dtype).reshape(shape)
