"""User-provided thermal video: folders of frames or video files."""

from collections.abc import Callable, Sequence
from pathlib import Path

from torch.utils.data import DataLoader

from lit_thermal.batch import Batch
from lit_thermal.data.datamodules.base import NEEDED
from lit_thermal.data.datamodules.damaged import OnDamage
from lit_thermal.data.datamodules.video_data import VideoData
from lit_thermal.data.datamodules.windows import InputWindows, Source
from lit_thermal.data.degradations.conditions import Complete, Condition
from lit_thermal.data.degradations.degradation import Bicubic, Degradation
from lit_thermal.data.formats.clips import open_clip
from lit_thermal.data.formats.file_checks import check_files, check_gray
from lit_thermal.data.formats.fixed_range import clip_in_common_counts
from lit_thermal.data.formats.frames import FolderClip
from lit_thermal.data.formats.normalize import NORMALIZE, Normalize, check_normalize
from lit_thermal.data.formats.radiometry import clip_radiometry
from lit_thermal.data.readers.splits import expected_clips, find_inputs, find_splits
from lit_thermal.errors import InputError


class VideoFolder(VideoData):
    """Clips on disk: `root/{train,val,test}/CLIP/*.png` or `.tif` of 8 or 16 bit, or one video file per clip.

    The clips are the targets, at the high frame rate; the input is made from them by `degradation` and by omitting
    frames. `predict` uses the clips as input, unchanged: those of `root/predict`, else the test clips, else all clips
    of the root, or the root if it is a clip itself.

    Args:
        root: folder of the data.
        scale: spatial scale.
        temporal_scale: number of target frames per input frame.
        frames: number of target frames in a window, `temporal_scale * k + 1` with k >= 2.
        crop: side of the training crops in input pixels.
        batch_size: training windows per step; validation, test and prediction use 1, since clips may differ in size.
        num_workers: number of processes that read; 0 reads in the training process.
        split: division of a root that contains the clips itself: shares of train, val and test such as [0.8, 0.1, 0.1],
            or the names of the clips of each, as in {train: ["seq0[1-6]"], val: [seq07], test: [seq08]}.
        split_seed: seed of the random division by shares.
        degradation: degradation that makes input frames from target frames.
        normalize: mapping of a 16-bit clip's counts to [0, 1]: the range of all but isolated dead and hot pixels
            ("robust"), its whole range ("minmax"), 0.1 % to 99.9 % of it ("percentile") or division by 65535 ("full"),
            or a fixed range of temperatures such as "kelvin 270..330" for clips that give temperatures. Values outside
            of the range are clipped for the network and restored in the output of `predict`. 8-bit clips are always
            divided by 255.
        augment: whether to flip, rotate and reverse training windows.
        samples_per_epoch: training windows per epoch, drawn from all clips.
        cache_gib: memory in GiB for decoded training clips; the rest is read at each use, which is much faster for
            folders of frames than for videos.
        seed: seed of all random draws.
        name: name of the data set in tables and logs; by default that of the root folder.
        test_conditions: conditions of the test, with one data loader each; `Complete` is the unchanged data. Conditions
            that change a guide are refused.
        damaged: policy for unreadable clips: "stop" ends the run at the first one; "skip" first reads all frames, then
            omits those clips and lists them in the log and in `damaged.json`.
    """

    def __init__(
        self,
        root: str,
        scale: int = 4,
        temporal_scale: int = 2,
        frames: int = 7,
        crop: int = 16,
        batch_size: int = 8,
        num_workers: int = 2,
        split: dict[str, list[str]] | list[float] | None = None,
        split_seed: int = 0,
        degradation: Callable[[], Degradation] = Bicubic,
        normalize: Normalize = NORMALIZE,
        augment: bool = True,
        samples_per_epoch: int = 800,
        cache_gib: float = 2.0,
        seed: int = 0,
        name: str | None = None,
        test_conditions: Sequence[Callable[[], Condition]] = (Complete,),
        damaged: OnDamage = "stop",
    ) -> None:
        check_normalize(normalize, "data.normalize")
        super().__init__(
            scale=scale,
            temporal_scale=temporal_scale,
            frames=frames,
            crop=crop,
            batch_size=batch_size,
            eval_batch_size=1,
            samples_per_epoch=samples_per_epoch,
            degradation=degradation,
            augment=augment,
            num_workers=num_workers,
            seed=seed,
            test_conditions=test_conditions,
            damaged=damaged,
        )
        self.root, self.split, self.split_seed, self.cache_gib = Path(root), split, split_seed, cache_gib
        self.normalize: Normalize = normalize
        self.data_name = name or self.root.resolve().name

    @property
    def test_sets(self) -> list[str]:
        """Names of the data sets that a test measures separately: this one."""
        return [self.data_name]

    def sources(self, split: str) -> list[Source]:
        """Return the clips of a split that was set up."""
        return self._sources[split]

    def setup(self, stage: str) -> None:
        """Open the clips that a stage needs and measure the range of 16-bit ones.

        Raises:
            InputError: the root has another layout, a split is empty, or a clip is damaged or too short.
        """
        if stage == "predict":
            shortest = (3, "restoring needs at least 3")
            self._open("predict", find_inputs(self.root, self.split, self.split_seed), *shortest)
            self.damaged.report(self.trainer)
            return
        splits = find_splits(self.root, self.split, self.split_seed)
        for split in NEEDED[stage]:
            if split not in splits and not self._may_be_empty(stage):
                there = ", ".join(splits) or "none"
                raise InputError(
                    f"no clips for {split} found in {self.root} (it has some for {there}); expected "
                    f"{expected_clips(self.root, self.split)}"
                )
            inputs = (self.frames - 1) // self.temporal_scale + 1
            needed = f"a window takes {self.frames} ({inputs} inputs at temporal scale {self.temporal_scale})"
            self._open(split, splits.get(split, []), self.frames, needed)
        self.damaged.report(self.trainer)
        if stage == "fit":
            self._cache(self._sources["train"])

    def outputs(self) -> list[tuple[str, Path | None]]:
        """Return the name of the folder that `predict` writes for each clip, and its first frame if that is a file."""
        return [(source.name, source.file) for source in self._sources["predict"]]

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Return loaders of whole test clips under each condition."""
        return self._test_loaders(self._targets(self.sources("test")))

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of all clips to restore."""
        inputs = (self.frames - 1) // self.temporal_scale + 1
        windows = InputWindows(self.sources("predict"), inputs=inputs, temporal_scale=self.temporal_scale)
        return self._loader(windows, self.eval_batch_size)

    def _open(self, split: str, paths: list[Path], shortest: int, needed: str) -> None:
        if split in self._sources:
            return

        def opened(_: str, path: Path) -> Source | None:
            with self.damaged.leaving_out(split, path.name):
                clip = open_clip(path)
                counted = clip_in_common_counts(clip, self.normalize)
                radiometry = clip_radiometry(counted, self.normalize)
                if self.damaged.skips:
                    for _frame in clip:
                        pass
            if path.name in self.damaged.why.get(split, ()):
                return None
            if clip.length < shortest:
                raise InputError(f"the clip {path} has {clip.length} frames, but {needed}: leave it out")
            if split != "predict" and min(clip.size) < self.scale:
                raise InputError(
                    f"the frames of {path} are {clip.size[1]}x{clip.size[0]}, smaller than data.scale {self.scale}: "
                    "leave it out"
                )
            side = self.crop * self.scale
            if split == "train" and min(clip.size) < side:
                raise InputError(
                    f"data.crop {self.crop} at scale {self.scale} needs frames of at least {side}x{side}, but those of "
                    f"{path} are {clip.size[1]}x{clip.size[0]}"
                )
            if isinstance(clip, FolderClip):
                for file in clip.files:
                    check_gray(file)
            else:
                clip.read(0, 1)  # raises an error if the clip is in colour
            return Source(counted, radiometry)

        found = check_files({path.name: path for path in paths}, opened, f"{split} clips of {self.root.name}")
        sources = [source for source in found if source is not None]
        self.damaged.check_some_left(split, sources, f"clips of {self.root}")
        self._sources[split] = sources

    def _cache(self, sources: list[Source]) -> None:
        left = self.cache_gib * 2**30
        for source in sources:
            clip = source.clip
            size = clip.length * clip.size[0] * clip.size[1] * clip.bits // 8
            if source.counts is None and size <= left:
                source.counts = clip.read(0, clip.length)
                left -= size
