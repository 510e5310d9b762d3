"""Kinds of images in memory (numpy, torch, PIL): pixels out of them, and an image of the same kind from new pixels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lit_thermal.errors import InputError

Build = Callable[[np.ndarray], Any]
"""Function from pixels (H, W), unrounded, to an image of the input's kind and dtype."""
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
"""Modes of PIL for 16-bit gray images."""
ALIKE = 2
"""Largest difference between the channels of a gray image that is stored in colour, in 8-bit levels."""


def opened(image: Any) -> tuple[np.ndarray, Build]:
    """Return the pixels (h, w) of a thermal image, uint8, uint16 or float, and the way back to its kind.

    Args:
        image: numpy array, torch tensor or PIL image.

    Raises:
        InputError: the image is of another type, dtype or shape, empty, in colour, or has pixels that are no numbers.
    """
    if isinstance(image, Image.Image):
        return _of_pil(image)
    if isinstance(image, Tensor):
        pixels, build = _of_array(_numpy(image))
        # bfloat16 has no numpy form, so that the dtype is restored here
        return pixels, lambda new: torch.from_numpy(np.ascontiguousarray(build(new))).to(image.device, image.dtype)
    if isinstance(image, np.ndarray):
        return _of_array(image)
    raise InputError(f"a thermal image must be a numpy array, a torch tensor or a PIL image, not {_name(image)}")


def guide_pixels(guide: Any) -> Tensor:
    """Return a visible image as (3, H, W) float32 in [0, 1]; gray is repeated, and transparency is dropped.

    Args:
        guide: (H, W, 3), (3, H, W) or (H, W), uint8, uint16 or float in [0, 1], or a PIL image.

    Raises:
        InputError: the guide is of another type, dtype or shape, or a float out of range.
    """
    if isinstance(guide, Image.Image):
        guide = np.asarray(guide if guide.mode in SIXTEEN_BIT else guide.convert("RGB"))
    pixels = _numpy(guide) if isinstance(guide, Tensor) else guide
    if not isinstance(pixels, np.ndarray):
        raise InputError(f"a guide must be a numpy array, a torch tensor or a PIL image, not {_name(guide)}")
    _check_pixels(pixels, "a guide")
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[-1] not in (3, 4):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3, 4):
        raise InputError(f"a guide must be (H, W, 3), (3, H, W) or (H, W), not {tuple(pixels.shape)}")
    largest = 1.0 if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)
    values = np.broadcast_to(pixels[..., :3], (*pixels.shape[:2], 3)).astype(np.float32) / np.float32(largest)
    if not (values.min() >= 0 and values.max() <= 1):
        raise InputError(f"a float guide must be in [0, 1], not from {values.min():g} to {values.max():g}")
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 0)))


def _of_pil(image: Image.Image) -> tuple[np.ndarray, Build]:
    if image.mode == "I":
        pixels = np.asarray(image)
        if not (pixels.min() >= 0 and pixels.max() <= 65535):
            raise InputError("a PIL image of mode I must have values from 0 to 65535: give an array of floats instead")
        plane, build = _of_array(pixels.astype(np.uint16))
        return plane, lambda new: Image.fromarray(build(new).astype(np.int32))
    if image.mode not in ("L", "RGB", "F", *SIXTEEN_BIT):
        raise InputError(f"a PIL image of mode {image.mode} is no thermal image: convert it to L, I;16 or F")
    plane, build = _of_array(np.asarray(image))
    return plane, lambda new: Image.fromarray(build(new))


def _of_array(pixels: np.ndarray) -> tuple[np.ndarray, Build]:
    """Return the plane (h, w) of an array in any of the layouts, and the function that builds the same layout."""
    _check_pixels(pixels, "a thermal image")
    dtype, shape = pixels.dtype, pixels.shape
    if len(shape) == 3 and shape[-1] == 3:
        spread = pixels.max(-1).astype(np.float64) - pixels.min(-1)
        levels = 1 / 255 if dtype.kind == "f" else np.iinfo(dtype).max / 255
        if float(spread.max()) > ALIKE * levels:
            raise InputError("the thermal image is in colour: give the gray image or the counts, not a palette picture")
        plane = pixels[..., 1]
    elif len(shape) == 3 and 1 in (shape[0], shape[-1]):
        plane = pixels[0] if shape[0] == 1 else pixels[..., 0]
    elif len(shape) == 2:
        plane = pixels
    else:
        raise InputError(f"a thermal image must be (h, w), (1, h, w), (h, w, 1) or (h, w, 3), not {tuple(shape)}")

    def build(new: np.ndarray) -> np.ndarray:
        if dtype.kind != "f":
            new = new.round().clip(0, np.iinfo(dtype).max)
        new = new.astype(dtype)
        if len(shape) == 2:
            return new
        if shape[-1] == 3:
            return np.repeat(new[..., None], 3, -1)
        return new[None] if shape[0] == 1 else new[..., None]

    return plane.astype(dtype.newbyteorder("="), copy=False), build


def _check_pixels(pixels: np.ndarray, what: str) -> None:
    if pixels.dtype.kind != "f" and pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{what} must be uint8, uint16 or float, not {pixels.dtype}: convert it")
    if not pixels.size:
        raise InputError(f"{what} of shape {tuple(pixels.shape)} has no pixels")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InputError(f"{what} has pixels that are NaN or infinite: replace them first")


def _numpy(image: Tensor) -> np.ndarray:
    image = image.detach().cpu()
    return (image.float() if image.dtype == torch.bfloat16 else image).numpy()


def _name(value: Any) -> str:
    return type(value).__name__
