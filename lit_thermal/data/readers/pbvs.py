"""PBVS: the x8 guided track of the challenge of 2023."""

from typing import Any

from lit_thermal.data.datamodules.image_data import ImageSplit
from lit_thermal.data.readers.folder_reader import FolderReader
from lit_thermal.data.readers.image_triplets import ImageTriplet


class PBVS(FolderReader):
    """The x8 guided track of the PBVS challenge of 2023: `Dataset` of the CoReFusion repository; 160, 30, 10 scenes.

    The inputs are files, stored as three equal channels. The test images have no targets and are only for `predict`; as
    in the paper, tests use the validation images. `root` is that `Dataset`, or the folder that contains it. Validation
    image 062_01 shows the place of training image 061_01: `leave_out` excludes it from the scores.

    Args:
        root: folder of the data.
        options: arguments of `FolderReader` and `ImageData`.

    Source: Rivadeneira, Sappa, Vintimilla et al., "Thermal Image Super-Resolution Challenge Results", PBVS 2023.
    """

    data_name = "pbvs"
    tree = (
        "train_val/{training,validation}/{*_VIS_HR,*_input_THER_LR_bicubic/X8,*_output_gt_THER_HR}/*.bmp (or .png) "
        "and test_THER-LR_VIS-HR/{test_VIS_HR,test_input_THER_LR_bicubic/X8}"
    )
    input_files = True

    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(root, **options)

    def find(self, split: ImageSplit) -> dict[str, ImageTriplet]:
        """Return the scenes of a split; "test" gives the validation images, "predict" the test images."""
        base = self.root / "Dataset" if (self.root / "Dataset").is_dir() else self.root
        folder, prefix = {
            "train": ("train_val/training", "train"),
            "predict": ("test_THER-LR_VIS-HR", "test"),
        }.get(split, ("train_val/validation", "valid"))
        return self.match(
            ImageTriplet(
                hr=base / folder / f"{prefix}_output_gt_THER_HR",
                lr=base / folder / f"{prefix}_input_THER_LR_bicubic" / "X8",
                guide=base / folder / f"{prefix}_VIS_HR",
            ),
            target=split != "predict",
        )
