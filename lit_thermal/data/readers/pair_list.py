"""Pairs in folders that a JSON file lists, in the format of 3M-TI."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lit_thermal.data.datamodules.image_data import ImageSplit
from lit_thermal.data.datamodules.sample import Sample
from lit_thermal.data.formats.frames import read_header
from lit_thermal.data.formats.guides import read_guide
from lit_thermal.data.formats.image_decoding import raster_header
from lit_thermal.data.formats.normalize import Normalize
from lit_thermal.data.readers.folder_reader import FolderReader
from lit_thermal.data.readers.image_triplets import ImageFiles, ImageTriplet
from lit_thermal.data.readers.splits import fits
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize
from lit_thermal.plain_files import read_json

FOLDERS = {"hr": "target_image", "lr": "image", "guide": "ref_image"}
"""Keys of the JSON file."""


class PairList(FolderReader):
    """Images in the folders that a JSON file names, in the form of 3M-TI's list.

    The file is `{"train": {...}, "test": {...}}`, each with the folders `target_image`, `image` and `ref_image`, whose
    files have equal names. Relative folders start from the folder of the file.

    The input is used unchanged. Target and guide may have any size and are resized to `scale` times the input's width
    and height, bilinear and antialiased, as in the released code. A guide of another aspect ratio is squeezed: cameras
    need not be calibrated. The key `prompt` is ignored, since methods have their own prompt.

    The published lists have no validation images. They are given by a key "val" of the same form; without it, the last
    `val_images` training images in the order of their names are used for validation and not for training. `predict`
    uses the key "predict", else the test images, without targets.

    Args:
        file: the JSON file.
        keep: names of the images to use, with the wildcards ``*``, ``?`` and ``[1-6]``.
        val_images: number of training images used for validation if the file has no key "val".
        name: name of the data set in tables and logs; by default the name of the file.
        options: arguments of `FolderReader` and `ImageData`.
    """

    input_files = True

    def __init__(
        self,
        file: str,
        keep: Sequence[str] = ("*",),
        val_images: int = 50,
        name: str | None = None,
        **options: Any,
    ) -> None:
        if val_images < 1:
            raise InputError(f"data.val_images is {val_images}; it must be at least 1")
        self.file = Path(file)
        super().__init__(str(self.file.parent), **options)
        self.keep, self.val_images = keep, val_images
        self.data_name = name or self.file.stem

    @property
    def expected(self) -> str:
        """Layout that the data should have, for error messages."""
        return f"the folders that {self.file} gives as {', '.join(FOLDERS.values())}, with images of one name"

    def find(self, split: ImageSplit) -> dict[str, ImageTriplet]:
        """Return the files of each scene of a split by name, in order; empty if the file does not have the split.

        Raises:
            InputError: the file cannot be read or has another structure, or a folder does not match its entry.
        """
        content = _read(self.file)
        key = split if split in content else {"val": "train", "predict": "test"}.get(split, split)
        if key not in content:
            return {}
        folders = _folders(self.file, key, content[key], target=split != "predict")
        scenes = self.match(folders, target=split != "predict")
        kept = {name: files for name, files in scenes.items() if any(fits(name, p) for p in self.keep)}
        if split in ("train", "val") and "val" not in content:
            names = list(kept)
            first = max(len(names) - self.val_images, 0)
            return {name: kept[name] for name in (names[:first] if split == "train" else names[first:])}
        return kept

    def _open(self, name: str, files: ImageTriplet, split: ImageSplit) -> ImageFiles:
        if files.lr is None:
            return super()._open(name, files, split)
        return ResizedFiles.open(name, files, scale=self.scale, missing_lr=False, normalize=self.normalize)


class ResizedFiles(ImageFiles):
    """The files of one scene, its target and guide resized to a multiple of its input."""

    @classmethod
    def open(
        cls, name: str, files: ImageTriplet, *, scale: int, missing_lr: bool, normalize: Normalize
    ) -> "ResizedFiles":
        """Check the headers of the files, without decoding them.

        Raises:
            InputError: a file is damaged or empty, or the target is of another depth than the input.
        """
        assert files.lr is not None, "others are not resized"
        height, width, bits = read_header(files.lr)
        if files.hr is not None and (other := read_header(files.hr)[2]) != bits:
            raise InputError(
                f"{files.hr} is of {other} bit and {files.lr} of {bits}: a level must mean the same in both, so give "
                "them one depth"
            )
        if files.guide is not None:
            raster_header(files.guide)
        size = (height * scale, width * scale)
        decoded = (height * width + size[0] * size[1]) * bits // 8 + 3 * size[0] * size[1]
        return cls(name, files, size, bits, decoded, missing_lr, normalize)

    def read(self) -> Sample:
        """Decode the files and resize them.

        Raises:
            InputError: a file is damaged, or a thermal image is in colour.
        """
        plain = replace(self, files=replace(self.files, guide=None))
        sample = ImageFiles.read(plain)
        if sample.hr is not None:
            fitted = resize(torch.from_numpy(sample.hr.astype(np.float64)), self.size, kernel="linear")
            sample = replace(sample, hr=fitted.round().numpy().astype(sample.hr.dtype))
        if self.files.guide is not None:
            sample = replace(sample, guide=read_guide(self.files.guide, self.size, Image.Resampling.BILINEAR))
        return sample


def _read(file: Path) -> dict[str, Any]:
    """Return the content of a list."""
    content = read_json(file, "a list of folders in JSON", "give the list of the pairs")
    if not isinstance(content, dict) or not content:
        raise InputError(f'the list {file} has another form; expected {{"train": {{...}}, "test": {{...}}}}')
    return content


def _folders(file: Path, key: str, entry: Any, target: bool) -> ImageTriplet:
    """Return the folders of one split of a list."""
    needed = [name for kind, name in FOLDERS.items() if target or kind != "hr"]
    lacking = [name for name in needed if not isinstance(entry, dict) or not isinstance(entry.get(name), str)]
    if lacking:
        raise InputError(f"{key!r} in the list {file} does not name the folder of {' and of '.join(lacking)}")
    paths = {kind: file.parent / entry[name] if entry.get(name) else None for kind, name in FOLDERS.items()}
    return ImageTriplet(**paths)
