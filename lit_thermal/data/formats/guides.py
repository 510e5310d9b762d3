"""Reading of guides, the visible images of thermal ones, in colour and resized to the target's size."""

from pathlib import Path

import numpy as np
from PIL import Image

from lit_thermal.data.formats.frames import read_pixels


def read_guide(path: Path, size: tuple[int, int], kernel: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    """Read a guide as (3, H, W) uint8 for a target of `size` (H, W).

    Gray is replicated to three channels, transparency is dropped, and 16-bit values are divided by 257. A guide of
    another size is resized with Pillow, which averages when it shrinks.

    Args:
        path: path of the file.
        size: height and width of the target.
        kernel: interpolation kernel of the resizing.

    Raises:
        InputError: the file is missing or truncated, or does not have 8 or 16 bits.
    """
    pixels = read_pixels(path)
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.ndim == 3:
        pixels = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., 0]
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    if image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), kernel)
    return np.ascontiguousarray(np.moveaxis(np.asarray(image), -1, 0))
