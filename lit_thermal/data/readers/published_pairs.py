"""Published data sets of thermal and visible pairs, read from the folders that they are published in."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from lit_thermal.data.datamodules.image_data import ImageSplit
from lit_thermal.data.readers.image_folders import ImageFolders, part_of, spelled
from lit_thermal.data.readers.image_triplets import Trio
from lit_thermal.errors import InputError

IRVI_VALIDATION = 0.05
"""Share of each subset's training frames in IRVI that is used for validation, the last ones in time."""


class PBVS(ImageFolders):
    """The x8 guided track of the PBVS challenge of 2023: `Dataset` of the CoReFusion repository; 160, 30, 10 scenes.

    The inputs are files, stored as three equal channels. The test images have no targets and are only for `predict`; as
    in the paper, tests use the validation images. `root` is that `Dataset`, or the folder that contains it. Validation
    image 062_01 shows the place of training image 061_01: `leave_out` excludes it from the scores.

    Args:
        root: folder of the data.
        options: those of `ImageFolders` and `ImageData`.

    Source: Rivadeneira, Sappa, Vintimilla et al., "Thermal Image Super-Resolution Challenge Results", PBVS 2023.
    """

    data_name = "pbvs"
    expected = (
        "train_val/{training,validation}/{*_VIS_HR,*_input_THER_LR_bicubic/X8,*_output_gt_THER_HR} and "
        "test_THER-LR_VIS-HR/{test_VIS_HR,test_input_THER_LR_bicubic/X8}"
    )
    input_files = True

    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(root, **options)

    def find(self, split: ImageSplit) -> dict[str, Trio]:
        """Return the scenes of a split; "test" gives the validation images, "predict" the test images."""
        base = self.root / "Dataset" if (self.root / "Dataset").is_dir() else self.root
        folder, prefix = {
            "train": ("train_val/training", "train"),
            "predict": ("test_THER-LR_VIS-HR", "test"),
        }.get(split, ("train_val/validation", "valid"))
        return self.match(
            Trio(
                hr=base / folder / f"{prefix}_output_gt_THER_HR",
                lr=base / folder / f"{prefix}_input_THER_LR_bicubic" / "X8",
                guide=base / folder / f"{prefix}_VIS_HR",
            ),
            target=split != "predict",
        )


class LLVIP(ImageFolders):
    """Street scenes at night, 1280x1024: 12,025 pairs for training, 3,463 for testing.

    The first two digits of a name are its camera. The published data have no validation split, and images of one camera
    are nearly alike, so the last of the training cameras is used for validation and not for training.

    Args:
        root: folder `LLVIP`.
        options: those of `ImageFolders` and `ImageData`.

    Source: Jia et al., "LLVIP: A Visible-infrared Paired Dataset for Low-light Vision", ICCV workshops 2021.
    """

    data_name = "llvip"
    expected = "{infrared,visible}/{train,test}/*.jpg"

    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(root, **options)

    def find(self, split: ImageSplit) -> dict[str, Trio]:
        """Return the pairs of a split; "predict" gives the test images."""
        folder = "train" if split in ("train", "val") else "test"
        thermal = self.root / "infrared" / folder
        scenes = self.match(Trio(thermal, None, self.root / "visible" / folder)) if thermal.is_dir() else {}
        if folder == "test":
            return scenes
        last = max((name[:2] for name in scenes), default="")
        return {name: files for name, files in scenes.items() if (name[:2] == last) == (split == "val")}


class IRVI(ImageFolders):
    """Frames of 12 videos of traffic and surveillance: 22,080 pairs for training, 2,272 for testing.

    `trainA` and `testA` hold the infrared frames, `trainB` and `testB` the visible ones. They are searched in the root
    and up to two folders below, so that the root may be the whole data set (`traffic`, and the five parts of
    `monitoring`) or one subset; a name begins with the folders of its subset. There is no published validation split:
    it is the last 5 % of the training frames of each subset.

    Args:
        root: folder of the data.
        options: those of `ImageFolders` and `ImageData`.

    Source: Li et al., "I2V-GAN: Unpaired Infrared-to-Visible Video Translation", ACM MM 2021.
    """

    data_name = "irvi"
    expected = "{trainA,trainB,testA,testB} with frames of one name, in the root or up to two folders below"

    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(root, **options)

    def find(self, split: ImageSplit) -> dict[str, Trio]:
        """Return the frames of a split; "predict" gives the test frames."""
        folder = "train" if split in ("train", "val") else "test"
        thermal = sorted(
            path for depth in ("", "*/", "*/*/") for path in self.root.glob(f"{depth}{folder}A") if path.is_dir()
        )
        scenes: dict[str, Trio] = {}
        for path in thermal:
            subset = self.match(Trio(path, None, path.with_name(f"{folder}B")))
            names = list(subset)
            kept = len(names) - max(1, round(IRVI_VALIDATION * len(names)))
            chosen = {"train": names[:kept], "val": names[kept:]}.get(split, names)
            prefix = path.parent.relative_to(self.root).parts
            for name in chosen:
                long = "_".join((*prefix, name))
                if long in scenes:
                    raise InputError(f"two frames below {self.root} would be named {long}: rename a folder of theirs")
                scenes[long] = subset[name]
        return scenes


class UndividedPairs(ImageFolders):
    """Pairs that are published without a split, so that shares or lists divide them; a data set implements `pairs`.

    Args:
        root: folder of the data.
        split: shares of train, val and test, or the names of each one's images (`GuidedFolder`).
        split_seed: seed of the random division by shares.
        options: those of `ImageFolders` and `ImageData`.
    """

    def __init__(
        self,
        root: str,
        split: dict[str, list[str]] | Sequence[float] = (0.8, 0.1, 0.1),
        split_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        self.split, self.split_seed = split, split_seed

    @abstractmethod
    def pairs(self) -> Trio:
        """Return the folders of the data set."""

    def find(self, split: ImageSplit) -> dict[str, Trio]:
        """Return the pairs of a split; "predict" gives the test images if the lists have no such split."""
        return part_of(self.match(self.pairs()), split, self.split, self.split_seed, self.root)


class M3FD(UndividedPairs):
    """Scenes around Dalian, mostly 1024x768: M3FD_Detection, 4,200 pairs, or M3FD_Fusion, 300 others.

    There is no published split. Consecutive frames of a sequence are alike, so that shares put near copies on both
    sides: for numbers to publish, use the lists of a paper.

    Args:
        root: folder that contains `Ir` and `Vis`, or `ir` and `vi`.
        split: shares of train, val and test, or the names of each one's images (`GuidedFolder`).
        split_seed: seed of the random division by shares.
        options: those of `ImageFolders` and `ImageData`.

    Source: Liu et al., "Target-aware Dual Adversarial Learning", CVPR 2022.
    """

    data_name = "m3fd"
    expected = "{Ir,Vis}/ or {ir,vi}/ with images of one name"

    def pairs(self) -> Trio:
        """Return `Ir` and `Vis`, or `ir` and `vi`."""
        guide = spelled(self.root, "vis")
        return Trio(spelled(self.root, "ir"), None, guide if guide.is_dir() else spelled(self.root, "vi"))


class RoadScene(UndividedPairs):
    """221 street scenes of the FLIR set, aligned and cropped to their common view, of many sizes, JPEG.

    There is no published split.

    Args:
        root: folder that contains `cropinfrared` and `crop_LR_visible`.
        split: shares of train, val and test, or the names of each one's images (`GuidedFolder`).
        split_seed: seed of the random division by shares.
        options: those of `ImageFolders` and `ImageData`.

    Source: Xu et al., "FusionDN: A Unified Densely Connected Network for Image Fusion", AAAI 2020.
    """

    data_name = "road_scene"
    expected = "{cropinfrared,crop_LR_visible}/ with images of one name"

    def pairs(self) -> Trio:
        """Return `cropinfrared` and `crop_LR_visible`."""
        return Trio(self.root / "cropinfrared", None, self.root / "crop_LR_visible")


class TNO(UndividedPairs):
    """Military scenes with a gray guide, in the form used by fusion papers: `ir` and `vi`, 20 to 60 pairs.

    Several pairs show the same scene, and there are few: all are used for testing, unless `split` says otherwise. The
    alignment is approximate, within about 3 pixels.

    Args:
        root: folder that contains `ir` and `vi`, in upper or lower case.
        split: shares of train, val and test, or the names of each one's images (`GuidedFolder`).
        split_seed: seed of the random division by shares.
        options: those of `ImageFolders` and `ImageData`.

    Source: Toet, "The TNO Multiband Image Data Collection", Data in Brief 2017.
    """

    data_name = "tno"
    expected = "{ir,vi}/ with images of one name"

    def __init__(
        self,
        root: str,
        split: dict[str, list[str]] | Sequence[float] = (0.0, 0.0, 1.0),
        split_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(root, split, split_seed, **options)

    def pairs(self) -> Trio:
        """Return `ir` and `vi`."""
        return Trio(spelled(self.root, "ir"), None, spelled(self.root, "vi"))

    def missing(self, split: ImageSplit) -> str:
        """Return the error message for a needed but empty split."""
        hint = "" if self._emptied.get(split) else "; set data.split for images to train and validate on"
        return super().missing(split) + hint
