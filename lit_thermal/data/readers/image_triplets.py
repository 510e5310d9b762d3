"""Images on disk that belong together by their names: target, thermal input and visible guide."""

from dataclasses import dataclass
from pathlib import Path

from lit_thermal.batch import Radiometry
from lit_thermal.data.datamodules.sample import Sample
from lit_thermal.data.formats.fixed_range import read_counts
from lit_thermal.data.formats.frames import list_frames, read_header
from lit_thermal.data.formats.guides import read_guide
from lit_thermal.data.formats.image_decoding import raster_header
from lit_thermal.data.formats.normalize import Normalize
from lit_thermal.data.formats.radiometry import image_radiometry
from lit_thermal.data.formats.thermogram import COUNTS, Measured
from lit_thermal.data.readers.splits import found_instead
from lit_thermal.errors import InputError
from lit_thermal.files import by_stem, check_partners, natural_order

GUIDE_ASPECT_TOLERANCE = 0.01
"""Largest relative difference between the aspect ratios of guide and target; a larger one is another field of view."""


@dataclass(frozen=True)
class ImageTriplet:
    """The files of one scene, or the folders of many scenes; None for a kind of file that is absent.

    Attributes:
        hr: target.
        lr: thermal input; if None, a degradation makes it from the target.
        guide: visible view.
    """

    hr: Path | None
    lr: Path | None
    guide: Path | None


@dataclass(frozen=True)
class ImageFiles:
    """The files of one scene as a `SampleSource`, whose headers are checked at construction.

    Attributes:
        name: stem of the files.
        files: paths of the files.
        size: height and width of the target.
        bits: depth of the thermal files, 8 or 16.
        bytes: size of the decoded files.
        missing_lr: whether the thermal input is missing and must not be made from the target.
        normalize: mapping of 16 bit to [0, 1].
    """

    name: str
    files: ImageTriplet
    size: tuple[int, int]
    bits: int
    bytes: int
    missing_lr: bool
    normalize: Normalize

    @property
    def file(self) -> Path | None:
        """The thermal file that is restored: the input, or the target that the input is made from."""
        return self.files.lr or self.files.hr

    @classmethod
    def open(
        cls, name: str, files: ImageTriplet, *, scale: int, missing_lr: bool, normalize: Normalize
    ) -> "ImageFiles":
        """Check the headers of the files, without decoding them.

        Raises:
            InputError: a file is damaged, or sizes, depths or fields of view do not go together.
        """
        hr, lr = (None if path is None else read_header(path) for path in (files.hr, files.lr))
        guide = None if files.guide is None else raster_header(files.guide)[:3]
        if hr and lr:
            if hr[2] != lr[2]:
                raise InputError(
                    f"{files.hr} is of {hr[2]} bit and {files.lr} of {lr[2]}: a level must mean the same in both, so "
                    "give them one depth"
                )
            if hr[:2] != (lr[0] * scale, lr[1] * scale):
                raise InputError(
                    f"{files.hr} is {hr[1]}x{hr[0]} and {files.lr} is {lr[1]}x{lr[0]}, which is not 1/{scale} of it "
                    "each way: set data.scale to their ratio, or crop them"
                )
        header = hr or (lr and (lr[0] * scale, lr[1] * scale, lr[2])) or guide
        assert header is not None, "one of the three is there"
        size, bits = header[:2], header[2] if hr or lr else 8
        if guide and (hr or lr):
            check_view(files, guide[:2], size)
        thermal = sum(height * width for height, width, _ in filter(None, (hr, lr))) * bits // 8
        decoded = thermal + (3 * size[0] * size[1] if guide else 0)
        return cls(name, files, size, bits, decoded, missing_lr, normalize)

    def read(self) -> Sample:
        """Decode the files.

        Counts of 16 bit are mapped by the range of the input file, or of the target if the input is made from it. A
        target that goes beyond the range is clipped in training and measured unclipped.

        Raises:
            InputError: a file is damaged, or a thermal one is in colour.
        """
        hr, lr = (
            None if path is None else read_counts(path, self.normalize) for path in (self.files.hr, self.files.lr)
        )
        given = lr or hr
        radiometry = Radiometry()
        if given is not None:
            radiometry = image_radiometry(given.counts, self.normalize, self._scale(hr, lr))
        guide = None if self.files.guide is None else read_guide(self.files.guide, self.size)
        return Sample(radiometry, hr=hr and hr.counts, lr=lr and lr.counts, guide=guide, missing_lr=self.missing_lr)

    def _scale(self, hr: Measured | None, lr: Measured | None) -> Radiometry:
        """Return the one temperature scale of target and input; one of them may lack it."""
        known = {found.scale for found in (hr, lr) if found is not None and found.scale.unit != "counts"}
        if len(known) > 1:
            raise InputError(
                f"{self.files.hr} and {self.files.lr} have different temperature scales: a level must mean the same in "
                "both, so set data.normalize to a fixed range such as 'kelvin 270..330', or convert one"
            )
        return known.pop() if known else COUNTS


def match_files(
    folders: ImageTriplet, *, expected: str, incomplete: bool = False, target: bool = True
) -> dict[str, ImageTriplet]:
    """Return the files of each scene by name, in natural order; files with the same stem belong together.

    Args:
        folders: folders to search.
        expected: layout that the data should have, for error messages.
        incomplete: whether scenes may lack the input or the guide.
        target: whether scenes need a target; False ignores targets if there is a folder of inputs.

    Raises:
        InputError: a folder is missing or empty, or files have no partner.
    """
    kinds = {kind: folder for kind, folder in vars(folders).items() if folder is not None}
    if not target and folders.lr is not None and (incomplete or folders.lr.is_dir()):
        kinds.pop("hr", None)
    optional = {"lr", "guide"} if incomplete else set()
    listed = {
        kind: {} if kind in optional and not folder.is_dir() else _list_images(folder, expected)
        for kind, folder in kinds.items()
    }
    names = sorted({name for files in listed.values() for name in files}, key=lambda name: natural_order(Path(name)))
    needed = {str(kinds[kind]): files for kind, files in listed.items() if kind not in optional}
    may_lack = "guide" in kinds and not incomplete
    way_out = ", or set data.incomplete if inputs or guides may be missing" if may_lack else ""
    check_partners(names, needed, f"add or remove files{way_out}")
    scenes = {name: ImageTriplet(**{kind: listed.get(kind, {}).get(name) for kind in vars(folders)}) for name in names}
    unseen = [name for name, files in scenes.items() if folders.lr and not files.lr and not files.guide]
    if unseen:
        first = ", ".join(unseen[:5]) + (f" and {len(unseen) - 5} more" if len(unseen) > 5 else "")
        raise InputError(f"there is neither an input in {folders.lr} nor a guide of {first}: add one or leave them out")
    return scenes


def check_view(files: ImageTriplet, guide: tuple[int, int], size: tuple[int, int]) -> None:
    """Check that guide and target can show the same field of view, judged by their aspect ratios.

    Args:
        files: paths of the files, for the error message.
        guide: height and width of the guide.
        size: height and width of the target.

    Raises:
        InputError: the aspect ratios differ by more than `GUIDE_ASPECT_TOLERANCE`.
    """
    if abs(guide[1] * size[0] / (guide[0] * size[1]) - 1) > GUIDE_ASPECT_TOLERANCE:
        raise InputError(
            f"{files.guide} is {guide[1]}x{guide[0]}, but the target of {files.hr or files.lr} is {size[1]}x{size[0]}: "
            "these are different fields of view, so crop the guide to the field of view of the thermal camera"
        )


def _list_images(folder: Path, expected: str) -> dict[str, Path]:
    """Return the images of a folder by their stems."""
    paths = list_frames(folder) if folder.is_dir() else []
    if not paths:
        raise InputError(f"no images found in {folder}; expected {expected}, but {found_instead(folder)}")
    return by_stem(paths, folder)
