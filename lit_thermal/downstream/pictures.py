"""The rows of a downstream table: enlarged inputs, restored images, visible images and targets of the same scenes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.fixed_range import read_counts
from lit_thermal.data.formats.frames import FRAME_SUFFIXES, RESTORED_TOLERANCE, list_frames, read_header
from lit_thermal.data.formats.guides import read_guide
from lit_thermal.data.formats.normalize import NORMALIZE, Normalize
from lit_thermal.data.formats.radiometry import image_radiometry, to_values
from lit_thermal.errors import InputError
from lit_thermal.files import by_stem, check_partners
from lit_thermal.ops.resize import resize


class Pictures(Mapping[str, Tensor]):
    """Images (3, H, W) in [0, 1] by name, read on access; a thermal one has three equal channels.

    Args:
        read: function of a name that returns the image.
        names: names of all images.
        keep: number of images to keep in memory once they were read.
        header: optional function that takes a name and returns height and width without decoding the file.
    """

    def __init__(
        self,
        read: Callable[[str], Tensor],
        names: Sequence[str],
        keep: int = 0,
        header: Callable[[str], tuple[int, ...]] | None = None,
    ) -> None:
        self.names = tuple(names)
        self._header = header
        self._read, self._keep = read, keep
        self._kept: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name in self._kept:
            return self._kept[name].expand(3, -1, -1)
        picture = self._read(name)
        if len(self._kept) < self._keep:
            self._kept[name] = picture
        return picture.expand(3, -1, -1)

    def size(self, name: str) -> tuple[int, int]:
        """Return height and width of an image."""
        height, width = self._header(name)[:2] if self._header else self[name].shape[-2:]
        return height, width

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def targets(folder: Path, normalize: Normalize = NORMALIZE, keep: int = 0) -> Pictures:
    """Return the targets in a folder.

    Raises:
        InputError: the folder has none.
    """
    files = find_images(folder)

    def read(name: str) -> Tensor:
        counts, scale = read_counts(files[name], normalize)
        return to_values(counts, image_radiometry(counts, normalize, scale))[None]

    return Pictures(read, list(files), keep, header=lambda name: read_header(files[name]))


def rows(
    hr: Path,
    restored: Mapping[str, Path],
    lr: Path | None = None,
    guide: Path | None = None,
    normalize: Normalize = NORMALIZE,
) -> dict[str, Pictures]:
    """Return the rows of a table in the papers' order: enlarged LR, restored images, visible images, HR.

    All thermal images of a scene are mapped to [0, 1] by the range of its target, so that rows do not differ in
    contrast alone. LR is enlarged by bicubic interpolation (a = -0.5) and rounded to the depth of its file.

    Args:
        hr: folder of the targets; files with the same stem belong together.
        restored: folder of the restored images by name of the row.
        lr: folder of the inputs.
        guide: folder of the visible images.
        normalize: mapping of 16-bit counts to [0, 1].

    Raises:
        InputError: a folder lacks an image, or one has another size or depth than its target.
    """
    files = find_images(hr)
    names = list(files)
    if clash := {"LR", "RGB", "HR"} & restored.keys():
        raise InputError(f"{clash.pop()} is the name of another row: give --pred another name")
    sizes = {name: read_header(path) for name, path in files.items()}

    def mapping(name: str) -> Radiometry:
        counts, scale = read_counts(files[name], normalize)
        return image_radiometry(counts, normalize, scale)

    def same(folder: Path, row: str) -> Pictures:
        own = _matching(folder, names, row)
        for name, path in own.items():
            if read_header(path) != sizes[name]:
                raise InputError(
                    f"{path} is {_say(read_header(path))} and its target {files[name]} is {_say(sizes[name])}: give "
                    "images of the target's size and depth"
                )
        tolerance = 0 if row == "HR" else RESTORED_TOLERANCE
        return Pictures(
            lambda name: to_values(read_counts(own[name], normalize, tolerance).counts, mapping(name))[None],
            names,
            header=sizes.__getitem__,
        )

    def enlarged(folder: Path) -> Pictures:
        own = _matching(folder, names, "LR")
        for name, path in own.items():
            height, width, bits = read_header(path)
            (target_height, target_width, target_bits) = sizes[name]
            if bits != target_bits or abs(width * target_height / (height * target_width) - 1) > INPUT_ASPECT_TOLERANCE:
                raise InputError(
                    f"{path} is {_say((height, width, bits))} and its target {files[name]} is {_say(sizes[name])}: "
                    "give inputs of the target's depth and proportions"
                )

        def read(name: str) -> Tensor:
            counts = torch.from_numpy(read_counts(own[name], normalize).counts.astype(np.float64))[None]
            larger = resize(counts, sizes[name][:2]).round().clamp(0, 2 ** sizes[name][2] - 1)
            return to_values(larger.numpy(), mapping(name))

        return Pictures(read, names)

    result = {"LR": enlarged(lr)} if lr else {}
    result |= {row: same(folder, row) for row, folder in restored.items()}
    if guide:
        colour = _matching(guide, names, "RGB")
        result["RGB"] = Pictures(
            lambda name: torch.from_numpy(read_guide(colour[name], sizes[name][:2])).float() / 255, names
        )
    result["HR"] = same(hr, "HR")
    return result


INPUT_ASPECT_TOLERANCE = 0.05
"""Largest relative difference between the aspect ratios of an input and its target; the rounding of an input's few rows
and columns changes its ratio more than that of a guide or an annotated image."""


def find_images(folder: Path) -> dict[str, Path]:
    """Return the images in a folder by their stems, in natural order.

    Raises:
        InputError: the folder is missing or has no image, or two images have the same stem.
    """
    paths = list_frames(folder) if folder.is_dir() else []
    if not paths:
        raise InputError(
            f"{folder} {'holds no images' if folder.is_dir() else 'is no folder'} ({', '.join(sorted(FRAME_SUFFIXES))})"
        )
    return by_stem(paths, folder)


def _matching(folder: Path, names: Sequence[str], row: str) -> dict[str, Path]:
    found = find_images(folder)
    check_partners(names, {f"{folder} ({row})": found}, "every row needs all images of --hr")
    return {name: found[name] for name in names}


def _say(header: Sequence[int]) -> str:
    return f"{header[1]}x{header[0]} of {header[2]} bit"
