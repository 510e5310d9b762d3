"""The visible image beside a thermal one: read in colour and brought to the size of the target."""

from pathlib import Path

import numpy as np
from PIL import Image

from lit_thermal.data.formats.frames import read_pixels


def read_guide(path: Path, size: tuple[int, int], kernel: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    """A guide as (3, H, W) uint8 for a target of `size`, which is (H, W).

    Gray is replicated, transparency dropped, 16 bit divided by 257. Another size is brought to the target's by
    Pillow, which averages where it shrinks.

    Args:
        path: of the file.
        size: height and width of the target.
        kernel: of the resizing.

    Raises:
        InputError: the file is missing, truncated, or not of 8 or 16 bit.
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
