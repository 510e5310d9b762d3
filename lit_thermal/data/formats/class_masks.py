"""Class masks of semantic segmentation, stored as images with one gray level per class."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lit_thermal.data.formats.frames import list_frames
from lit_thermal.data.formats.image_decoding import read_raster
from lit_thermal.data.formats.objects import RESIZED_ASPECT_TOLERANCE, Change
from lit_thermal.errors import InputError
from lit_thermal.files import by_stem, check_partners, same_name

FMB_CLASSES = (
    *("road", "sidewalk", "building", "lamp", "sign", "vegetation", "sky"),
    *("person", "car", "truck", "bus", "motorcycle", "bicycle", "pole"),
)
"""The 14 classes of FMB, levels 1 to 14 of its `Label` files in this order; level 0 is unlabelled.

Liu et al., "Multi-interactive Feature Learning and a Full-time Multi-modality Benchmark for Image Fusion and
Segmentation", ICCV 2023. The names are from the paper; the order of the levels is from public loaders of the data set.
"""
IGNORED = 255
"""Level of pixels that are used neither in training nor in scoring."""
MaskFormat = Literal["index", "fmb"]
"""`index`: level k is class k and 255 is ignored. `fmb`: level 0 is ignored and level k is class k - 1."""


def read_mask(file: Path, classes: int, form: MaskFormat = "index") -> Tensor:
    """Read the mask of one image.

    Args:
        file: 8-bit gray image, or an image with a palette, whose indices are used.
        classes: number of classes.
        form: meaning of the levels.

    Returns:
        Mask (H, W) int64 with values 0 to classes - 1, or `IGNORED`.

    Raises:
        InputError: the file is missing, in colour or has 16 bits, or a level is not a class.
    """
    levels = _levels(file)
    if form == "fmb":
        # 0 - 1 wraps around to 255.
        levels = levels - np.uint8(1)
    wrong = sorted(set(np.unique(levels).tolist()) - {*range(classes), IGNORED})
    if wrong:
        level = wrong[0] + (form == "fmb")
        raise InputError(f"{file} has the level {level}, but form {form} has {classes} classes: list all classes")
    return torch.from_numpy(levels.astype(np.int64))


def place_mask(mask: Tensor, size: tuple[int, int], change: Change | None, name: str) -> Tensor:
    """Fit a mask (h, w) to an image of `size` (H, W), by cropping or nearest-neighbour resizing.

    Raises:
        InputError: the sizes differ without a given `change`, or in a way that `change` does not explain.
    """
    height, width = mask.shape
    if (height, width) == size:
        return mask
    sizes = f"{name} is {size[1]}x{size[0]} and its mask {width}x{height}"
    if change is None:
        raise InputError(f"{sizes}: use --change to state whether the images were resized or cropped")
    if change == "cropped":
        if size[0] > height or size[1] > width:
            raise InputError(f"{sizes}, so it was not cropped: give images of the masked scenes")
        return mask[: size[0], : size[1]]
    if abs(size[1] * height / (width * size[0]) - 1) > RESIZED_ASPECT_TOLERANCE:
        raise InputError(f"{sizes}, which changes the aspect ratio: give images of the masked scenes")
    resized = torch.nn.functional.interpolate(mask[None, None].float(), size, mode="nearest-exact")
    return resized[0, 0].long()


def find_masks(folder: Path, names: list[str]) -> dict[str, Path]:
    """Return the mask file of each image by the image's name.

    Raises:
        InputError: the folder does not exist, or an image has no mask.
    """
    if not folder.is_dir():
        raise InputError(f"mask folder {folder} does not exist")
    found = by_stem(list_frames(folder), folder)
    check_partners(map(same_name, names), {str(folder): found}, "leave these images out or add their masks")
    return {name: found[same_name(name)] for name in names}


def _levels(file: Path) -> np.ndarray:
    # The palette is only for display; the classes are its indices.
    pixels = read_raster(file, palette=False).pixels
    if pixels.dtype != np.uint8:
        raise InputError(f"{file} has 16 bits, but a class mask has 8: convert it")
    if pixels.ndim == 3:
        if not (pixels == pixels[..., :1]).all():
            raise InputError(f"{file} is in colour, but a class mask is gray: give the index files")
        pixels = pixels[..., 0]
    return np.ascontiguousarray(pixels)
