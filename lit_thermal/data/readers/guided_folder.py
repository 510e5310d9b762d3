"""User-provided pairs: folders of thermal targets, thermal inputs and visible guides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lit_thermal.data.datamodules.image_data import ImageSplit
from lit_thermal.data.readers.folder_reader import FolderReader, part_of, spelled
from lit_thermal.data.readers.image_triplets import ImageTriplet
from lit_thermal.data.readers.splits import SPLITS


class GuidedFolder(FolderReader):
    """Images on disk: `root/{train,val,test}/{hr,lr,guide}/*.png`, .tif, .jpg or .bmp, of 8 or 16 bit.

    Files with the same stem belong together. The target `hr` is gray, or has three equal channels; the input `lr` has
    1/`scale` of its width and height; a guide is gray or in colour and may have any size with the same aspect ratio.

    `predict` uses the images of `root/predict`, else those of the test split, else all images of a root that contains
    the folders itself. If there is a folder of inputs, it needs no targets.

    Args:
        root: folder of the data.
        hr: name of the folder of targets, in upper or lower case.
        lr: name of the folder of inputs, in upper or lower case; if empty, `degradation` makes them from the targets.
        guide: name of the folder of guides, in upper or lower case; if empty, there are none.
        split: division of a root that contains these folders itself: shares of train, val and test such as
            [0.8, 0.1, 0.1], or the names of each one's images without suffix, as in {train: ["00*"], val: ["01[0-4]"]}.
        split_seed: seed of the random division by shares.
        test_split: split to test on; "val" is for data without a test split.
        name: name of the data set in tables and logs; by default that of the root folder.
        options: arguments of `FolderReader` and `ImageData`.
    """

    def __init__(
        self,
        root: str,
        hr: str = "hr",
        lr: str = "lr",
        guide: str = "guide",
        split: dict[str, list[str]] | Sequence[float] | None = None,
        split_seed: int = 0,
        test_split: Literal["test", "val"] = "test",
        name: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        self.names = (hr, lr, guide)
        self.split, self.split_seed, self.test_split = split, split_seed, test_split
        self.data_name = name or self.root.resolve().name
        self.input_files = bool(lr)
        inside = ",".join(folder for folder in self.names if folder)
        self.tree = f"{'' if split is not None else '{train,val,test}/'}{{{inside}}}/*.png (or .tif, .jpg)"

    def find(self, split: ImageSplit) -> dict[str, ImageTriplet]:
        """Return the files of a split's scenes by name, in order; an empty mapping if the split does not exist."""
        if self.split is not None:
            return part_of(self.match(self._folders(self.root)), split, self.split, self.split_seed, self.root)
        there = [name for name in SPLITS if (self.root / name).is_dir()]
        flat = not there and any(folder.is_dir() for folder in vars(self._folders(self.root)).values() if folder)
        if split == "predict" and flat:
            return self.match(self._folders(self.root), target=False)
        wanted = split if split != "predict" or "predict" in there else "test"
        wanted = self.test_split if wanted == "test" else wanted
        folders = self._folders(self.root / wanted)
        return self.match(folders, target=split != "predict") if wanted in there else {}

    def missing(self, split: ImageSplit) -> str:
        """Return the error message for a needed but empty split, with the settings that may help."""
        there = [name for name in SPLITS if (self.root / name).is_dir()]
        hint = ""
        if self._emptied.get(split):
            return super().missing(split)
        if self.split is None and not there:
            hint = "; if the folders are directly in the root, set data.split to shares or lists"
        elif split in ("test", "predict") and "val" in there:
            hint = "; data.test_split=val tests on the validation images"
        return super().missing(split) + hint

    def _folders(self, base: Path) -> ImageTriplet:
        return ImageTriplet(*(spelled(base, name) if name else None for name in self.names))
