"""RoadScene: street scenes of the FLIR set, aligned and cropped."""

from lit_thermal.data.readers.image_triplets import ImageTriplet
from lit_thermal.data.readers.undivided_pairs import UndividedPairs


class RoadScene(UndividedPairs):
    """221 street scenes of the FLIR set as JPEG files of many sizes, aligned and cropped to their common view.

    There is no published split.

    Args:
        root: folder that contains `cropinfrared` and `crop_LR_visible`.
        split: shares of train, val and test, or lists of the image names of each (`GuidedFolder`).
        split_seed: seed of the random division by shares.
        options: arguments of `FolderReader` and `ImageData`.

    Source: Xu et al., "FusionDN: A Unified Densely Connected Network for Image Fusion", AAAI 2020.
    """

    data_name = "road_scene"
    tree = "{cropinfrared,crop_LR_visible}/*.jpg (or .png, .tif)"

    def pairs(self) -> ImageTriplet:
        """Return the folders `cropinfrared` and `crop_LR_visible`."""
        return ImageTriplet(self.root / "cropinfrared", None, self.root / "crop_LR_visible")
