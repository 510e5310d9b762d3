"""The base of all readers of image folders."""

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lit_thermal.data.datamodules.image_data import ImageData, ImageSplit
from lit_thermal.data.datamodules.sample import SampleSource
from lit_thermal.data.formats.file_checks import check_files, check_gray
from lit_thermal.data.formats.frames import read_header
from lit_thermal.data.formats.image_decoding import raster_header
from lit_thermal.data.formats.normalize import NORMALIZE, Normalize, check_normalize
from lit_thermal.data.readers.image_triplets import ImageFiles, ImageTriplet, match_files
from lit_thermal.data.readers.splits import Split, divide, fits, found_instead, no_root
from lit_thermal.errors import InputError

_log = logging.getLogger(__name__)


class FolderReader(ImageData):
    """Images in folders of one root; a reader adds `find`, `data_name` and `tree`.

    Args:
        root: folder of the data.
        scale: factor by which the target is wider and higher than the input.
        guided: whether samples have a guide, and flags for the presence of each camera.
        normalize: mapping of 16-bit counts to [0, 1], separately for each image. It uses the range of the input file,
            or of the target if the input is made from it: the range without isolated dead and hot pixels ("robust"),
            the whole range ("minmax"), 0.1 % to 99.9 % of it ("percentile"), or division by 65535 ("full"). A fixed
            range of temperatures such as "kelvin 270..330" is the same for all images, whose files must give
            temperatures; their counts become those of 0.01 K. Input values outside of the range are clipped for the
            network and restored in the result. Target values outside are clipped in training and measured unclipped.
            8-bit images are always divided by 255.
        leave_out: names of images to omit, with the wildcards ``*``, ``?`` and ``[1-6]``. Put names that consist of
            digits in quotes, since YAML reads 062_01 as a number.
        incomplete: whether images may lack their guide or their input file; `has_guide` and `has_lr` mark them.
        options: arguments of `ImageData`.
    """

    tree: str
    """Layout below the root, such as "{ir,vi}/*.png (or .tif, .jpg)", for error messages."""
    input_files = False
    """Whether inputs are files; otherwise they are made from the targets."""

    def __init__(
        self,
        root: str,
        scale: int = 8,
        guided: bool = True,
        normalize: Normalize = NORMALIZE,
        leave_out: Sequence[str] = (),
        incomplete: bool = False,
        **options: Any,
    ) -> None:
        check_normalize(normalize, "data.normalize")
        super().__init__(scale=scale, guided=guided, **options)
        # Without guides, a sample with a missing input would have no input at all.
        self.root, self.leave_out, self.incomplete = Path(root), leave_out, incomplete and guided
        self.normalize: Normalize = normalize
        self._emptied: dict[ImageSplit, int] = {}

    @property
    def expected(self) -> str:
        """Layout that the data should have, for error messages."""
        return f"{self.root}/{self.tree}"

    @abstractmethod
    def find(self, split: ImageSplit) -> dict[str, ImageTriplet]:
        """Return the files of each scene of a split by name, in order; empty if the data do not have the split.

        Raises:
            InputError: the root has another layout.
        """

    def match(self, folders: ImageTriplet, target: bool = True) -> dict[str, ImageTriplet]:
        """Return the files in folders by name (`match_files`); guides are searched only if they are used."""
        folders = folders if self.guided else replace(folders, guide=None)
        return match_files(folders, expected=self.expected, incomplete=self.incomplete, target=target)

    def sources(self, split: ImageSplit) -> Sequence[SampleSource]:
        """Return the images of a split without those to leave out, after a check of their headers.

        Raises:
            InputError: the root has another layout, or files do not fit each other.
        """
        if not self.root.is_dir():
            raise InputError(f"{no_root(self.root)}; expected {self.expected}")
        found = self.find(split)
        left_out = [name for name in found if any(fits(name, pattern) for pattern in self.leave_out)]
        if left_out:
            _log.info("left out of the %s images of %s: %s", split, self.data_name, ", ".join(left_out))

        def opened(name: str, files: ImageTriplet) -> ImageFiles:
            image = self._open(name, files, split)
            # readers that omit damaged images read all files themselves
            for path in filter(None, () if self.damaged.skips else (image.files.hr, image.files.lr)):
                check_gray(path)
            return image

        kept = {
            name: files
            for name, files in found.items()
            if name not in left_out and not (self.damaged.skips and self._is_damaged(name, files, split))
        }
        images = check_files(kept, opened, f"{split} images of {self.data_name}")
        self._emptied[split] = 0 if images else len(left_out)
        if split == "test":
            self._check_conditions(images)
        return images

    def missing(self, split: ImageSplit) -> str:
        """Return the error message for a needed but empty split."""
        if count := self._emptied.get(split):
            return f"{super().missing(split)}: data.leave_out {list(self.leave_out)} leaves out all {count} of them"
        return f"no images for {split} found in {self.root}; expected {self.expected}, but {found_instead(self.root)}"

    def _check_conditions(self, images: Sequence[ImageFiles]) -> None:
        """Check, before anything is measured, that each condition of the test leaves a camera of each image.

        Raises:
            InputError: a condition takes away the only camera of an image.
        """
        for condition in self.conditions:
            if condition.takes == "lr":
                other, names = "guide", [image.name for image in images if image.files.guide is None]
            else:
                other, names = "thermal input", [image.name for image in images if image.missing_lr]
            if condition.takes and names:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                raise InputError(
                    f"the test condition {type(condition).__name__} leaves nothing of {names[0]}{more}, for which "
                    f"there is no {other}: take it out of data.test_conditions or leave them out with data.leave_out"
                )

    def _is_damaged(self, name: str, files: ImageTriplet, split: ImageSplit) -> bool:
        """Return whether the header of a file is unreadable; sizes that do not fit are reported elsewhere."""
        wanted = files if split != "predict" or files.lr is None else replace(files, hr=None)
        with self.damaged.leaving_out(split, name):
            for path in filter(None, (wanted.hr, wanted.lr)):
                read_header(path)
            if wanted.guide is not None:
                raster_header(wanted.guide)
            for path in filter(None, (wanted.hr, wanted.lr)):
                check_gray(path)
            return False
        return True

    def _open(self, name: str, files: ImageTriplet, split: ImageSplit) -> ImageFiles:
        missing_lr = files.lr is None and self.input_files
        if split == "predict" and (missing_lr or files.lr is not None):
            files = replace(files, hr=None)
        return ImageFiles.open(name, files, scale=self.scale, missing_lr=missing_lr, normalize=self.normalize)


def part_of(
    scenes: Mapping[str, ImageTriplet], wanted: ImageSplit, split: Split, seed: int, root: Path
) -> dict[str, ImageTriplet]:
    """Return the scenes of a split of an undivided root; "predict" means "test" if `split` does not contain it.

    Raises:
        InputError: `split` does not fit the scenes (`divide`).
    """
    parts = divide(list(scenes), split, seed, root, "image")
    name = wanted if wanted != "predict" or "predict" in parts else "test"
    return {scene: scenes[scene] for scene in parts.get(name, [])}


def spelled(base: Path, name: str) -> Path:
    """Return the path of a subfolder as it is spelled there, in upper or lower case."""
    exact = base / name
    if exact.is_dir() or not base.is_dir():
        return exact
    return next((path for path in sorted(base.iterdir()) if path.name.lower() == name.lower()), exact)
