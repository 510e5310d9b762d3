"""LLVIP: street scenes at night."""

from typing import Any

from lit_thermal.data.datamodules.image_data import ImageSplit
from lit_thermal.data.readers.folder_reader import FolderReader
from lit_thermal.data.readers.image_triplets import ImageTriplet


class LLVIP(FolderReader):
    """Street scenes at night, 1280x1024: 12,025 pairs for training, 3,463 for testing.

    The first two digits of a name are its camera. The published data have no validation split, and images of one camera
    are nearly alike, so the last of the training cameras is used for validation and not for training.

    Args:
        root: folder `LLVIP`.
        options: arguments of `FolderReader` and `ImageData`.

    Source: Jia et al., "LLVIP: A Visible-infrared Paired Dataset for Low-light Vision", ICCV workshops 2021.
    """

    data_name = "llvip"
    tree = "{infrared,visible}/{train,test}/*.jpg (or .png, .tif)"

    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(root, **options)

    def find(self, split: ImageSplit) -> dict[str, ImageTriplet]:
        """Return the pairs of a split; "predict" gives the test images."""
        folder = "train" if split in ("train", "val") else "test"
        thermal = self.root / "infrared" / folder
        scenes = self.match(ImageTriplet(thermal, None, self.root / "visible" / folder)) if thermal.is_dir() else {}
        if folder == "test":
            return scenes
        last = max((name[:2] for name in scenes), default="")
        return {name: files for name, files in scenes.items() if (name[:2] == last) == (split == "val")}
