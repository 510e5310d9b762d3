"""Frames on disk: thermal images of 8 or 16 bit, read and written one at a time, and a folder of them as a clip.

What is read is the file's own counts; `lit_thermal.data.formats.radiometry` maps them to [0, 1] and back.
"""

import logging
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import tifffile
from PIL import Image
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.image_decoding import raster_header, read_raster
from lit_thermal.data.formats.tags import Tags, encode_png, encode_tiff
from lit_thermal.errors import InputError
from lit_thermal.files import natural_order, replacing

LOSSLESS = frozenset({".png", ".tif", ".tiff", ".bmp"})
LOSSY = frozenset({".jpg", ".jpeg"})
FRAME_SUFFIXES = LOSSLESS | LOSSY
GRAY_TOLERANCE = 2
"""By how many levels of 255 the channels of a lossy gray image may differ."""
RESTORED_TOLERANCE = 3
"""By how many levels of 255 the channels of a restored image may differ: networks of three channels round each."""

_log = logging.getLogger(__name__)
_warned: set[tuple[Path, str]] = set()
"""Folders and what was said of images in them."""


class Clip(Protocol):
    """A sequence of gray frames of one size and depth that stays on disk: `FolderClip` or `VideoClip`."""

    @property
    def path(self) -> Path:
        """Folder or file that it is read from."""

    @property
    def name(self) -> str:
        """The folder's name, or the file's without its suffix."""

    @property
    def length(self) -> int:
        """Number of frames."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""

    @property
    def bits(self) -> int:
        """8 or 16, the depth of the counts."""

    @property
    def fps(self) -> float | None:
        """Frames per second, where the file says so."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop - 1` as (T, H, W) uint8 or uint16 counts."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield every frame in turn, (H, W) uint8 or uint16, holding no more than a few."""


@dataclass(frozen=True)
class FolderClip:
    """A folder of frames in the natural order of their names (2 before 10)."""

    path: Path
    files: tuple[Path, ...]
    size: tuple[int, int]
    bits: int
    fps: None = None
    tolerance: int = 0
    """As in `read_frame`."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.files)

    @classmethod
    def open(cls, folder: Path, tolerance: int = 0) -> "FolderClip":
        """Look at the headers of all frames of a folder, without decoding them.

        Args:
            folder: of the frames.
            tolerance: by how many levels of 255 the channels of a frame may differ.

        Raises:
            InputError: there is no frame, or frames differ in kind, size or depth, or one is truncated.
        """
        files = list_frames(folder)
        if not files:
            raise InputError(f"{folder} holds no frames ({', '.join(sorted(FRAME_SUFFIXES))})")
        suffixes = {file.suffix.lower() for file in files}
        if len(suffixes) > 1:
            raise InputError(f"{folder} mixes frames of {' and '.join(sorted(suffixes))}: keep one kind in a clip")
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
        return np.stack([read_frame(file, self.tolerance) for file in self.files[start:stop]])

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield every frame in turn, (H, W) uint8 or uint16."""
        return (read_frame(file, self.tolerance) for file in self.files)


def list_frames(folder: Path) -> list[Path]:
    """The frames in a folder, in natural order; hidden files are left out."""
    files = (f for f in folder.iterdir() if f.suffix.lower() in FRAME_SUFFIXES and not f.name.startswith("."))
    return sorted(files, key=natural_order)


def read_header(path: Path) -> tuple[int, int, int]:
    """(height, width, bits) of an image file as it is upright, without decoding it.

    Raises:
        InputError: the file is missing, truncated, larger than `LIT_THERMAL_MAX_PIXELS` allows, or not an image of 8
            or 16 bit.
    """
    header = raster_header(path)
    return header.height, header.width, header.bits


def read_frame(path: Path, tolerance: int = 0) -> np.ndarray:
    """Decode one image to (H, W) uint8 or uint16 counts, upright as a viewer shows it.

    An image of three channels is reduced to one after checking that all are equal: exactly, or to `tolerance` levels
    of 255 where they are then averaged; where the file is lossy, `GRAY_TOLERANCE` levels are allowed and the first
    channel is taken. The log gets a warning where pixels are not opaque, where channels were averaged, and where a
    camera put its measurements into a JPEG beside the picture, once for each folder.

    Args:
        path: of the file.
        tolerance: by how many levels of 255 channels may differ, such as `RESTORED_TOLERANCE` for what a network of
            three channels restored.

    Raises:
        InputError: the file is missing, truncated, in colour, or not of 8 or 16 bit.
    """
    raster = read_raster(path)
    pixels = raster.pixels
    step = 257 if pixels.dtype == np.uint16 else 1
    allowed = max(tolerance, GRAY_TOLERANCE if raster.lossy else 0) * step
    if raster.transparent:
        _warn(path, "transparent", "has transparent pixels: the gray levels behind them are used")
    try:
        gray = reduce_to_gray(pixels, allowed, str(path))
    except InputError as error:
        raise InputError(f"{error}{_measured(path, raster.radiometric)}") from error
    if raster.radiometric:
        _warn(path, "radiometric", f"is taken by its 8-bit picture alone{_measured(path, raster.radiometric)}")
    if pixels.ndim == 3 and not raster.lossy and (worst := _spread(pixels)):
        _warn(
            path, "averaged", f"has channels that differ by up to {worst / step:.2g} levels of 255: they are averaged"
        )
        gray = np.rint(pixels.mean(-1)).astype(pixels.dtype)
    return gray


def read_pixels(path: Path) -> np.ndarray:
    """Decode one image, gray or in colour, upright, to (H, W) or (H, W, 3) uint8 or uint16; transparency is left out.

    Raises:
        InputError: the file is missing, truncated, or not of 8 or 16 bit.
    """
    return read_raster(path).pixels


def reduce_to_gray(pixels: np.ndarray, tolerance: int, where: str) -> np.ndarray:
    """Reduce (H, W) or (H, W, 3) counts to (H, W): the first channel of an image whose channels are equal.

    Raises:
        InputError: channels differ by more than `tolerance`; `where` names the file in the sentence.
    """
    if pixels.ndim == 2:
        return pixels
    worst = _spread(pixels)
    if worst > tolerance:
        raise InputError(
            f"{where} is in colour (channels differ by up to {worst} levels, {tolerance} allowed): "
            "thermal frames are gray, so undo the colour map or convert them"
        )
    return np.ascontiguousarray(pixels[..., 0])


def to_counts(values: Tensor, radiometry: Radiometry) -> np.ndarray:
    """Map values in [0, 1] of any shape to whole counts of the file's depth, uint8 or uint16, same shape."""
    # float64: a count of 16 bit plus its fraction does not fit into half, and is tight in single precision.
    counts = radiometry.to_counts(values.detach().cpu().double()).round()
    return counts.clamp(0, 2**radiometry.bits - 1).numpy().astype(np.uint16 if radiometry.bits == 16 else np.uint8)


def write_frame(path: Path, values: Tensor, radiometry: Radiometry, tags: Tags | None = None) -> None:
    """Write values in [0, 1] of shape (H, W) or (1, H, W) as a gray PNG, TIFF or BMP of the source's depth.

    The file appears whole or not at all. Reading it back gives the counts that `values` stand for.

    Args:
        path: of the file; its suffix tells the format.
        values: to write.
        radiometry: maps them to counts.
        tags: what the file says besides (`read_tags`).

    Raises:
        InputError: the suffix is none of these, BMP would have to hold 16 bit, a value is NaN, or the file cannot be
            written.
    """
    suffix = path.suffix.lower()
    if suffix not in LOSSLESS or (suffix == ".bmp" and radiometry.bits == 16):
        raise InputError(f"frames of {radiometry.bits} bit are written as .png or .tif, which {path} is not")
    if lost := int(values.isnan().sum()):
        raise InputError(
            f"{path.name} would have {lost} of {values.numel()} pixels that are NaN: the weights that restored it have "
            "diverged, or its precision is too low for them; take another checkpoint or trainer.precision=32"
        )
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


def _spread(pixels: np.ndarray) -> int:
    """By how much the channels of (H, W, 3) counts differ at most."""
    red, green, blue = (pixels[..., channel] for channel in range(3))
    highest = np.maximum(np.maximum(red, green), blue)
    return int((highest - np.minimum(np.minimum(red, green), blue)).max())


def _measured(path: Path, maker: str) -> str:
    """What to say of measurements that are in a JPEG beside the picture; nothing where there are none."""
    if not maker:
        return ""
    way = f", as by: exiftool -b -RawThermalImage {shlex.quote(path.name)} > OUT.tif" if maker == "FLIR" else ""
    return f"; it holds radiometric data ({maker}), which are not read yet: extract them before{way}"


def _warn(path: Path, reason: str, text: str) -> None:
    """Log what was done to an image, once in a process for each folder and reason."""
    if (path.parent, reason) not in _warned:
        _warned.add((path.parent, reason))
        _log.warning("%s %s (other images in this folder may be alike)", path, text)


def _say(header: Sequence[int]) -> str:
    return f"{header[1]}x{header[0]} of {header[2]} bit"
