"""Frames on disk: thermal images of 8 or 16 bit, read and written one at a time, and a folder of them as a clip.

What is read is the file's own counts; `lit_thermal.data.radiometry` maps them to [0, 1] and back.
"""

import logging
import os
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import tifffile
from PIL import Image
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.errors import InputError

LOSSLESS = frozenset({".png", ".tif", ".tiff", ".bmp"})
LOSSY = frozenset({".jpg", ".jpeg"})
FRAME_SUFFIXES = LOSSLESS | LOSSY
GRAY_TOLERANCE = 2
"""By how many levels of 255 the channels of a lossy gray image may differ."""

_PNG_END = b"IEND\xaeB`\x82"
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, av.error.FFmpegError)
# A damaged file gets our sentence; tifffile would log its own before it.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


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

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.files)

    @classmethod
    def open(cls, folder: Path) -> "FolderClip":
        """Look at the headers of all frames of a folder, without decoding them.

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
        return cls(folder, tuple(files), (height, width), bits)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop - 1` as (T, H, W) uint8 or uint16 counts."""
        return np.stack([read_frame(file) for file in self.files[start:stop]])

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield every frame in turn, (H, W) uint8 or uint16."""
        return map(read_frame, self.files)


def natural_order(path: Path) -> list[int | str]:
    """Sort key that puts frame_2 before frame_10."""
    return [int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", path.name)]


def list_frames(folder: Path) -> list[Path]:
    """The frames in a folder, in natural order; hidden files are left out."""
    files = (f for f in folder.iterdir() if f.suffix.lower() in FRAME_SUFFIXES and not f.name.startswith("."))
    return sorted(files, key=natural_order)


def read_header(path: Path) -> tuple[int, int, int]:
    """(height, width, bits) of an image file, without decoding it.

    Raises:
        InputError: the file is missing, truncated or not an image of 8 or 16 bit.
    """
    try:
        if path.suffix.lower() == ".png":
            height, width, bits, _ = _png_header(path)
        elif path.suffix.lower() in (".tif", ".tiff"):
            height, width, bits = _tiff_header(path)
        else:
            with Image.open(path) as image:
                height, width, bits = image.height, image.width, 16 if image.mode.startswith("I") else 8
    except InputError:
        raise
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    return height, width, bits


def read_frame(path: Path) -> np.ndarray:
    """Decode one image to (H, W) uint8 or uint16 counts.

    An image of three channels is reduced to its first after checking that all are equal: exactly, or to
    `GRAY_TOLERANCE` levels where the file is lossy.

    Raises:
        InputError: the file is missing, truncated, in colour, or not of 8 or 16 bit.
    """
    return reduce_to_gray(read_pixels(path), GRAY_TOLERANCE if path.suffix.lower() in LOSSY else 0, str(path))


def read_pixels(path: Path) -> np.ndarray:
    """Decode one image, gray or in colour, to (H, W) or (H, W, C) uint8 or uint16 counts, C being 2 or more.

    Raises:
        InputError: the file is missing, truncated, or not of 8 or 16 bit.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in (".tif", ".tiff"):
            _tiff_header(path)
            pixels = _read_tiff(path)
        elif suffix == ".png" and _png_header(path)[2:] in ((16, 2), (16, 4), (16, 6)):
            # Pillow would reduce colour or alpha of 16 bit to 8 without a word; FFmpeg keeps it.
            with av.open(str(path)) as container:
                frame = next(container.decode(video=0))
                pixels = frame.to_ndarray(format="gray16le" if frame.format.name.startswith("ya") else "rgb48le")
        else:
            with Image.open(path) as image:
                pixels = _to_array(image)
    except InputError:
        raise
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    return pixels


def reduce_to_gray(pixels: np.ndarray, tolerance: int, where: str) -> np.ndarray:
    """Reduce (H, W) or (H, W, 3) counts to (H, W): the first channel of an image whose channels are equal.

    Raises:
        InputError: channels differ by more than `tolerance`; `where` names the file in the sentence.
    """
    if pixels.ndim == 2:
        return pixels
    channels = pixels[..., :3].astype(np.int32)
    worst = int((channels.max(-1) - channels.min(-1)).max())
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


def write_frame(path: Path, values: Tensor, radiometry: Radiometry) -> None:
    """Write values in [0, 1] of shape (H, W) or (1, H, W) as a gray PNG or TIFF of the source's depth.

    The file appears whole or not at all. Reading it back gives the counts that `values` stand for.

    Raises:
        InputError: the suffix is neither .png, .tif nor .tiff, or a value is NaN.
    """
    suffix = path.suffix.lower()
    if suffix not in (".png", ".tif", ".tiff"):
        raise InputError(f"frames are written as .png or .tif, which {path} is not")
    if lost := int(values.isnan().sum()):
        raise InputError(
            f"{path.name} would have {lost} of {values.numel()} pixels that are NaN: the weights that restored it have "
            "diverged, or its precision is too low for them; take another checkpoint or trainer.precision=32"
        )
    counts = to_counts(values.reshape(values.shape[-2:]), radiometry)
    part = path.with_name(f".{path.name}.part")
    try:
        if suffix == ".png":
            # Level 3 is three times as fast as the default on large frames and only some 5 % larger.
            Image.fromarray(counts).save(part, format="PNG", compress_level=3)
        else:
            tifffile.imwrite(part, counts, photometric="minisblack")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _to_array(image: Image.Image) -> np.ndarray:
    """Decode a Pillow image to (H, W) or (H, W, 3), uint8 or uint16."""
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGB"))


def _read_tiff(path: Path) -> np.ndarray:
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        try:
            pixels = page.asarray()
        except ValueError:  # a compression that tifffile alone does not know, such as LZW
            with Image.open(path) as image:
                return _to_array(image)
        planar = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3
    return np.moveaxis(pixels, 0, -1) if planar else pixels


def _png_header(path: Path) -> tuple[int, int, int, int]:
    """(height, width, bits 8 or 16, colour type) of a PNG that is whole."""
    with path.open("rb") as file:
        head = file.read(26)
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 64))
        tail = file.read()
    if head[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("it is not a PNG")
    if _PNG_END not in tail:  # truncated, or something was appended: decoding tells
        with Image.open(path) as image:
            image.load()
    width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
    return height, width, max(depth, 8), colour


def _tiff_header(path: Path) -> tuple[int, int, int]:
    """(height, width, bits) of a TIFF of one page whose data is there."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        if len(file.pages) > 1:
            raise InputError(f"{path} holds {len(file.pages)} pages: write one frame per file")
        if str(page.dtype) not in ("uint8", "uint16"):
            raise InputError(f"{path} holds {_kind(page)}, not counts of 8 or 16 bit: convert it to uint16")
        if max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))) > path.stat().st_size:
            raise ValueError("its end is missing")
        return page.imagelength, page.imagewidth, page.dtype.itemsize * 8


def _kind(page: tifffile.TiffPage | tifffile.TiffFrame) -> str:
    """The type of a page's values, and how many of them no conversion can map to counts."""
    try:
        wrong = int((~np.isfinite(page.asarray())).sum()) if "float" in str(page.dtype) else 0
    except ValueError:  # a compression that tifffile alone does not know, such as LZW
        wrong = 0
    return f"{page.dtype}" + (f" with {wrong} pixels that are NaN or infinite" if wrong else "")


def _damaged(path: Path, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path} does not exist")
    return InputError(f"{path} cannot be read as an image ({error}): it is truncated or damaged, replace or remove it")


def _say(header: Sequence[int]) -> str:
    return f"{header[1]}x{header[0]} of {header[2]} bit"
