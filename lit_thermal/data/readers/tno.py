"""TNO: military scenes with a gray guide."""

from collections.abc import Sequence
from typing import Any

from lit_thermal.data.datamodules.image_data import ImageSplit
from lit_thermal.data.readers.folder_reader import spelled
from lit_thermal.data.readers.image_triplets import ImageTriplet
from lit_thermal.data.readers.undivided_pairs import UndividedPairs


class TNO(UndividedPairs):
    """Military scenes with a gray guide, in the form used by fusion papers: `ir` and `vi`, 20 to 60 pairs.

    Several pairs show the same scene, and there are few: all are used for testing, unless `split` says otherwise. The
    alignment is approximate, within about 3 pixels.

    Args:
        root: folder that contains `ir` and `vi`, in upper or lower case.
        split: shares of train, val and test, or the names of each one's images (`GuidedFolder`).
        split_seed: seed of the random division by shares.
        options: arguments of `FolderReader` and `ImageData`.

    Source: Toet, "The TNO Multiband Image Data Collection", Data in Brief 2017.
    """

    data_name = "tno"
    tree = "{ir,vi}/*.png (or .tif, .jpg)"

    def __init__(
        self,
        root: str,
        split: dict[str, list[str]] | Sequence[float] = (0.0, 0.0, 1.0),
        split_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(root, split, split_seed, **options)

    def pairs(self) -> ImageTriplet:
        """Return `ir` and `vi`."""
        return ImageTriplet(spelled(self.root, "ir"), None, spelled(self.root, "vi"))

    def missing(self, split: ImageSplit) -> str:
        """Return the error message for a needed but empty split."""
        hint = "" if self._emptied.get(split) else "; set data.split for images to train and validate on"
        return super().missing(split) + hint
