"""The base of published pairs that have no published split."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from lit_thermal.data.datamodules.image_data import ImageSplit
from lit_thermal.data.readers.folder_reader import FolderReader, part_of
from lit_thermal.data.readers.image_triplets import ImageTriplet


class UndividedPairs(FolderReader):
    """Pairs that are published without a split, so that users give shares or lists; subclasses implement `pairs`.

    Args:
        root: folder of the data.
        split: shares of train, val and test, or lists of the image names of each (`GuidedFolder`).
        split_seed: seed of the random division by shares.
        options: arguments of `FolderReader` and `ImageData`.
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
    def pairs(self) -> ImageTriplet:
        """Return the folders of the data set."""

    def find(self, split: ImageSplit) -> dict[str, ImageTriplet]:
        """Return the pairs of a split; "predict" gives the test images if the lists do not contain it."""
        return part_of(self.match(self.pairs()), split, self.split, self.split_seed, self.root)
