"""IRVI: frames of infrared and visible videos of traffic and surveillance."""

from typing import Any

from lit_thermal.data.datamodules.image_data import ImageSplit
from lit_thermal.data.readers.folder_reader import FolderReader
from lit_thermal.data.readers.image_triplets import ImageTriplet
from lit_thermal.errors import InputError

VALIDATION_SHARE = 0.05
"""Share of each subset's training frames that is used for validation, the last ones in time."""


class IRVI(FolderReader):
    """Frames of 12 videos of traffic and surveillance: 22,080 pairs for training, 2,272 for testing.

    `trainA` and `testA` hold the infrared frames, `trainB` and `testB` the visible ones. They are searched in the root
    and up to two folders below, so that the root may be the whole data set (`traffic`, and the five parts of
    `monitoring`) or one subset; a name begins with the folders of its subset. There is no published validation split:
    it is the last 5 % of the training frames of each subset.

    Args:
        root: folder of the data.
        options: arguments of `FolderReader` and `ImageData`.

    Source: Li et al., "I2V-GAN: Unpaired Infrared-to-Visible Video Translation", ACM MM 2021.
    """

    data_name = "irvi"
    tree = "{trainA,trainB,testA,testB}/*.png (or .tif, .jpg), or these folders up to two levels below"

    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(root, **options)

    def find(self, split: ImageSplit) -> dict[str, ImageTriplet]:
        """Return the frames of a split; "predict" gives the test frames."""
        folder = "train" if split in ("train", "val") else "test"
        thermal = sorted(
            path for depth in ("", "*/", "*/*/") for path in self.root.glob(f"{depth}{folder}A") if path.is_dir()
        )
        scenes: dict[str, ImageTriplet] = {}
        for path in thermal:
            subset = self.match(ImageTriplet(path, None, path.with_name(f"{folder}B")))
            names = list(subset)
            kept = len(names) - max(1, round(VALIDATION_SHARE * len(names)))
            chosen = {"train": names[:kept], "val": names[kept:]}.get(split, names)
            prefix = path.parent.relative_to(self.root).parts
            for name in chosen:
                long = "_".join((*prefix, name))
                if long in scenes:
                    raise InputError(f"two frames below {self.root} would be named {long}: rename a folder of theirs")
                scenes[long] = subset[name]
        return scenes
