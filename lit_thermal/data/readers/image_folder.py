"""User-provided thermal images: folders of targets and inputs, or only inputs to restore."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from lit_thermal.data.degradations.misalignment import Aligned
from lit_thermal.data.formats.frames import list_frames
from lit_thermal.data.readers.guided_folder import GuidedFolder
from lit_thermal.data.readers.image_triplets import ImageTriplet

_log = logging.getLogger(__name__)


class ImageFolder(GuidedFolder):
    """Thermal images on disk: `root/{train,val,test}/hr/*.png`, .tif, .jpg or .bmp, 8 or 16 bit, with inputs in `lr`.

    The target `hr` is gray, or has three equal channels; the input `lr` has the same name and 1/`scale` of its width
    and height. Without `lr`, a degradation makes the input, and targets of odd sizes are cropped to multiples of
    `scale`.

    `predict` uses the images of `root/predict`, else those of the test split, else all images of a root that contains
    the folders itself. It needs no targets: images in a folder of inputs, or directly in a root without a folder of
    targets, are restored unchanged.

    Args:
        root: folder of the data.
        hr: name of the folder of targets, in upper or lower case; "." if they are directly in the root or in the folder
            of the split.
        lr: name of the folder of inputs; "auto" uses `lr` if it exists; if empty, `degradation` makes the inputs from
            the targets.
        scale: factor by which the target is wider and higher than the input.
        options: arguments of `GuidedFolder`, `FolderReader` and `ImageData` that do not concern the guide.
    """

    def __init__(self, root: str, hr: str = "hr", lr: str = "auto", scale: int = 4, **options: Any) -> None:
        self.auto = lr == "auto"
        super().__init__(
            root,
            hr=hr,
            lr="lr" if self.auto else lr,
            guide="",
            scale=scale,
            guided=False,
            incomplete=False,
            misalignment=Aligned,
            **options,
        )
        # Each split may have its own inputs; the degradation makes missing ones.
        self.input_files = False
        folders = f"{{{hr},{lr}}}/" if lr and not self.auto else "" if hr == "." else f"{hr}/"
        base = "" if self.split is not None else "{train,val,test}/"
        self.tree = f"{base}{folders}*.png (or .tif, .jpg; data.hr names the folder of targets, '.' for none)"

    def match(self, folders: ImageTriplet, target: bool = True) -> dict[str, ImageTriplet]:
        """Return the files in folders by name; if a degradation makes the inputs, its name is logged."""
        if folders.lr is None:
            _log.info("%s makes the inputs of the images in %s", type(self.degradation).__name__, folders.hr)
        return super().match(folders, target)

    def _folders(self, base: Path) -> ImageTriplet:
        folders = super()._folders(base)
        if not self.auto or folders.lr is None or folders.lr.is_dir():
            return folders
        targets = folders.hr is not None and folders.hr.is_dir()
        return replace(folders, lr=base if not targets and base.is_dir() and list_frames(base) else None)
