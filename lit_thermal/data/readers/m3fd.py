"""M3FD: scenes around Dalian, of detection or fusion."""

from lit_thermal.data.readers.folder_reader import spelled
from lit_thermal.data.readers.image_triplets import ImageTriplet
from lit_thermal.data.readers.undivided_pairs import UndividedPairs


class M3FD(UndividedPairs):
    """Scenes around Dalian, mostly 1024x768: M3FD_Detection, 4,200 pairs, or M3FD_Fusion, 300 others.

    There is no published split. Consecutive frames of a sequence are alike, so that shares put near copies on both
    sides: for numbers to publish, use the lists of a paper.

    Args:
        root: folder that contains `Ir` and `Vis`, or `ir` and `vi`.
        split: shares of train, val and test, or the names of each one's images (`GuidedFolder`).
        split_seed: seed of the random division by shares.
        options: arguments of `FolderReader` and `ImageData`.

    Source: Liu et al., "Target-aware Dual Adversarial Learning", CVPR 2022.
    """

    data_name = "m3fd"
    tree = "{Ir,Vis}/*.png (or .tif, .jpg), or {ir,vi} in place of {Ir,Vis}"

    def pairs(self) -> ImageTriplet:
        """Return the folders `Ir` and `Vis`, or `ir` and `vi`."""
        guide = spelled(self.root, "vis")
        return ImageTriplet(spelled(self.root, "ir"), None, guide if guide.is_dir() else spelled(self.root, "vi"))
