"""Frames on disk: thermal images of any format, read and written one at a time, and folders of them as clips.

Readers return the counts of the file; `lit_thermal.data.formats.radiometry` maps them to [0, 1] and back.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import tifffile
from PIL import Image
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats import camera_files, irg_file
from lit_thermal.data.formats.image_decoding import read_raster
from lit_thermal.data.formats.tags import Tags, encode_png, encode_tiff
from lit_thermal.data.formats.thermogram import COUNTS, Measured
from lit_thermal.errors import InputError
from lit_thermal.files import natural_order, replacing

LOSSLESS = frozenset({".png", ".tif", ".tiff", ".bmp"})
LOSSY = frozenset({".jpg", ".jpeg"})
FRAME_SUFFIXES = LOSSLESS | LOSSY | {irg_file.SUFFIX}
RESTORED_TOLERANCE = 3
"""Largest allowed difference between the channels of a restored image, in 8-bit levels: a three-channel network rounds
each channel."""


class Clip(Protocol):
    """A sequence of gray frames of one size and depth that stays on disk: `FolderClip` or `VideoClip`."""

    @property
    def path(self) -> Path:
        """Folder or file of the clip."""

    @property
    def name(self) -> str:
        """Name of the folder, or of the file without its suffix."""

    @property
    def length(self) -> int:
        """Number of frames."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""

    @property
    def bits(self) -> int:
        """Bit depth of the counts, 8 or 16."""

    @property
    def fps(self) -> float | None:
        """Frames per second, if the file states it."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop - 1` as (T, H, W) uint8 or uint16 counts."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield every frame, (H, W) uint8 or uint16, with only a few in memory at a time."""


@dataclass(frozen=True)
class FolderClip:
    """A folder of frames in the natural order of their names (2 before 10)."""

    path: Path
    files: tuple[Path, ...]
    size: tuple[int, int]
    bits: int
    fps: None = None
    tolerance: int = 0
    """Largest allowed difference between channels, as in `read_frame`."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.files)

    @cached_property
    def scale(self) -> Radiometry:
        """Mapping from the counts to Kelvin of the first frame, which all frames must have."""
        return read_measured(self.files[0], self.tolerance).scale if self.bits == 16 else COUNTS

    @classmethod
    def open(cls, folder: Path, tolerance: int = 0) -> "FolderClip":
        """Open a folder of frames: read the headers of all frames without decoding them.

        Args:
            folder: folder of the frames.
            tolerance: largest allowed difference between the channels of a frame, in 8-bit levels.

        Raises:
            InputError: there is no frame, frames differ in format, size or depth, or a frame is truncated.
        """
        files = list_frames(folder)
        if not files:
            raise InputError(f"no frames found in {folder}; expected {', '.join(sorted(FRAME_SUFFIXES))}")
        suffixes = {file.suffix.lower() for file in files}
        if len(suffixes) > 1:
            raise InputError(f"{folder} mixes {' and '.join(sorted(suffixes))} frames: use one format per clip")
        first = read_header(files[0])
        for file in files[1:]:
            if (header := read_header(file)) != first:
                raise InputError(
                    f"frames of a clip must have one size and depth, but {files[0]} is {_say(first)} "
                    f"and {file.name} is {_say(header)}: crop them or split the clip"
                )
        height, width, bits = first
        return cls(folder, tuple(files), (height, width), bits, tolerance=tolerance)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop - 1` as (T, H, W) uint8 or uint16 counts."""
        return np.stack([self._frame(file) for file in self.files[start:stop]])

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield every frame in turn, (H, W) uint8 or uint16."""
        return (self._frame(file) for file in self.files)

    def _frame(self, file: Path) -> np.ndarray:
        counts, scale = read_measured(file, self.tolerance)
        if self.bits == 16 and scale != self.scale:
            raise InputError(
                f"frames of a clip must have one temperature scale, but {file} has another than {self.files[0].name}: "
                "give both the same JSON file beside, or split the clip"
            )
        return counts


def list_frames(folder: Path) -> list[Path]:
    """Return the frames in a folder in natural order, without hidden files."""
    files = (f for f in folder.iterdir() if f.suffix.lower() in FRAME_SUFFIXES and not f.name.startswith("."))
    return sorted(files, key=natural_order)


def read_header(path: Path) -> tuple[int, int, int]:
    """Return height, width and bit depth of the counts of a thermal image, without decoding most formats.

    Raises:
        InputError: the file is missing, truncated, larger than `LIT_THERMAL_MAX_PIXELS` allows, or of another format.
    """
    return camera_files.header(path)


def read_frame(path: Path, tolerance: int = 0) -> np.ndarray:
    """Decode one thermal image to (H, W) uint8 or uint16 counts; `read_measured` also gives their temperature.

    Args:
        path: path of the file.
        tolerance: largest allowed difference between channels in 8-bit levels, such as `RESTORED_TOLERANCE` for images
            restored by a three-channel network.

    Raises:
        InputError: same as in `lit_thermal.data.formats.camera_files.read`.
    """
    return read_measured(path, tolerance).counts


def read_measured(path: Path, tolerance: int = 0) -> Measured:
    """Decode one thermal image of any format to counts and their scale.

    Args:
        path: path of the file.
        tolerance: largest allowed difference between channels, as in `read_frame`.

    Raises:
        InputError: same as in `lit_thermal.data.formats.camera_files.read`.
    """
    return camera_files.read(path, tolerance, several=False).measured()


def read_pixels(path: Path) -> np.ndarray:
    """Decode one image, gray or in colour, to upright (H, W) or (H, W, 3) uint8 or uint16, without transparency.

    Raises:
        InputError: the file is missing or truncated, or does not have 8 or 16 bits.
    """
    return read_raster(path).pixels


def to_counts(values: Tensor, radiometry: Radiometry) -> np.ndarray:
    """Map values in [0, 1] of any shape to whole counts of the file's depth, uint8 or uint16, same shape."""
    # float64, because half precision cannot represent 16-bit counts with fractions, and single precision barely can.
    counts = radiometry.to_counts(values.detach().cpu().double()).round()
    return counts.clamp(0, 2**radiometry.bits - 1).numpy().astype(np.uint16 if radiometry.bits == 16 else np.uint8)


def check_no_nan(values: Tensor, where: object) -> None:
    """Check that restored values are numbers.

    Raises:
        InputError: a value is NaN.
    """
    if lost := int(values.isnan().sum()):
        raise InputError(
            f"{where}: {lost} of {values.numel()} restored pixels are NaN because the weights have diverged or the "
            "precision is too low for them; use another checkpoint or trainer.precision=32 (upscale: --precision 32)"
        )


def write_frame(path: Path, values: Tensor, radiometry: Radiometry, tags: Tags | None = None) -> None:
    """Write values in [0, 1] of shape (H, W) or (1, H, W) as a gray PNG, TIFF or BMP of the source's depth.

    The file appears complete or not at all. Reading it gives the counts of `values`.

    Args:
        path: path of the file, whose suffix gives the format.
        values: values to write.
        radiometry: mapping from values to counts.
        tags: metadata of the file from `read_tags`, if any.

    Raises:
        InputError: the suffix is not one of these formats, a BMP would need 16 bits, a value is NaN, or the file cannot
            be written.
    """
    suffix = path.suffix.lower()
    if suffix not in LOSSLESS or (suffix == ".bmp" and radiometry.bits == 16):
        raise InputError(f"{path} cannot hold a {radiometry.bits}-bit frame: use the suffix .png or .tif")
    check_no_nan(values, path.name)
    counts = to_counts(values.reshape(values.shape[-2:]), radiometry)
    with replacing(path) as aside:
        if suffix == ".png":
            aside.write_bytes(encode_png(counts, tags or Tags()))
        elif suffix == ".bmp":
            Image.fromarray(counts).save(aside, format="BMP")
        elif tags is None:
            tifffile.imwrite(aside, counts, photometric="minisblack")
        else:
            aside.write_bytes(encode_tiff(counts, tags))


def _say(header: Sequence[int]) -> str:
    return f"{header[1]}x{header[0]} with {header[2]} bits"
