"""Masks of classes, one level of gray a class, as files for semantic segmentation hold them."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lit_thermal.data.formats.frames import list_frames
from lit_thermal.data.formats.image_decoding import read_raster
from lit_thermal.data.formats.objects import ASPECT_TOLERANCE, Change
from lit_thermal.errors import InputError
from lit_thermal.files import by_stem, same_name

FMB_CLASSES = (
    *("road", "sidewalk", "building", "lamp", "sign", "vegetation", "sky"),
    *("person", "car", "truck", "bus", "motorcycle", "bicycle", "pole"),
)
"""The 14 classes of FMB, levels 1 to 14 of its `Label` files in this order; 0 is what nobody labelled.

Liu et al., "Multi-interactive Feature Learning and a Full-time Multi-modality Benchmark for Image Fusion and
Segmentation", ICCV 2023. The paper has the words; the order of the levels is that of public loaders of the data set.
"""
IGNORED = 255
"""The level of pixels that are neither trained on nor scored."""
MaskFormat = Literal["index", "fmb"]
"""`index`: level k is class k and 255 is ignored. `fmb`: level 0 is ignored and level k is class k - 1."""


def read_mask(file: Path, classes: int, form: MaskFormat = "index") -> Tensor:
    """Read the mask of one image.

    Args:
        file: gray picture of 8 bit, or one with a palette, whose indices count.
        classes: how many there are.
        form: what its levels mean.

    Returns:
        (H, W) int64: 0 to classes - 1, or `IGNORED`.

    Raises:
        InputError: the file is missing, in colour or of 16 bit, or has a level that is no class.
    """
    levels = _levels(file)
    if form == "fmb":
        # 0 - 1 wraps round to 255.
        levels = levels - np.uint8(1)
    wrong = sorted(set(np.unique(levels).tolist()) - {*range(classes), IGNORED})
    if wrong:
        level = wrong[0] + (form == "fmb")
        raise InputError(f"{file} has the level {level}, and there are {classes} classes in the form {form}: name all")
    return torch.from_numpy(levels.astype(np.int64))


def place_mask(mask: Tensor, size: tuple[int, int], change: Change | None, name: str) -> Tensor:
    """Bring a mask (h, w) to an image of `size` (H, W): cut, or resized to the nearest pixel.

    Raises:
        InputError: the sizes differ and nobody said why, or in a way that `change` does not explain.
    """
    height, width = mask.shape
    if (height, width) == size:
        return mask
    told = f"{name} is {size[1]}x{size[0]} and its mask {width}x{height}"
    if change is None:
        raise InputError(f"{told}: say by --change whether the images were resized or cropped")
    if change == "cropped":
        if size[0] > height or size[1] > width:
            raise InputError(f"{told}, so that it was not cropped: give images of the masked scenes")
        return mask[: size[0], : size[1]]
    if abs(size[1] * height / (width * size[0]) - 1) > ASPECT_TOLERANCE:
        raise InputError(f"{told}, which is no plain resizing: give images of the masked scenes")
    resized = torch.nn.functional.interpolate(mask[None, None].float(), size, mode="nearest-exact")
    return resized[0, 0].long()


def find_masks(folder: Path, names: list[str]) -> dict[str, Path]:
    """The mask files of images by their names.

    Raises:
        InputError: there is no such folder, or no mask of an image.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder} with masks")
    found = by_stem(list_frames(folder), folder)
    lacking = [name for name in names if same_name(name) not in found]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise InputError(f"{folder} has no mask of {lacking[0]}{more}: leave out or mask these images")
    return {name: found[same_name(name)] for name in names}


def _levels(file: Path) -> np.ndarray:
    # Palettes are for the eye; what counts is the index behind the colour.
    pixels = read_raster(file, palette=False).pixels
    if pixels.dtype != np.uint8:
        raise InputError(f"{file} is of 16 bit, and a mask of classes has 8: convert it")
    if pixels.ndim == 3:
        if not (pixels == pixels[..., :1]).all():
            raise InputError(f"{file} is in colour, and a mask of classes is gray: give the files of indices")
        pixels = pixels[..., 0]
    return np.ascontiguousarray(pixels)
