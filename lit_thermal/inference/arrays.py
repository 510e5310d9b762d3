"""Restoration of images in memory: arrays, tensors and PIL images; the result is of the kind of the input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.fixed_range import FINE
from lit_thermal.data.formats.normalize import NORMALIZE, check_normalize, kelvin_range
from lit_thermal.data.formats.radiometry import image_radiometry
from lit_thermal.data.formats.thermogram import CENTIKELVIN, COUNTS, DECIKELVIN, KELVIN, in_steps, to_kelvin
from lit_thermal.errors import InputError
from lit_thermal.inference.images import restore_images
from lit_thermal.inference.kinds import guide_pixels, opened
from lit_thermal.ops.outliers import put_back

Unit = Literal["kelvin", "centikelvin"]
_UNITS = {"kelvin": KELVIN, "centikelvin": CENTIKELVIN}


@dataclass(frozen=True)
class _Prepared:
    """One image as a method takes it, and the way back."""

    values: Tensor
    """(1, h, w), not clipped to [0, 1]."""
    guide: Tensor | None
    """(3, Hg, Wg) in [0, 1]."""
    finish: Callable[[Tensor], Any]
    """Function from restored values (H, W) to an image of the input's kind."""

    @property
    def sizes(self) -> tuple[torch.Size, torch.Size | None]:
        """Sizes, which all images of a batch share."""
        return self.values.shape, None if self.guide is None else self.guide.shape


def upscale_arrays(
    model: Any,
    images: Any,
    *,
    guide: Any = None,
    radiometry: Radiometry | Unit | None = None,
    normalize: str | None = None,
    tile: int | None = None,
    overlap: int = 16,
    batch: int = 1,
) -> Any:
    """Restore an image, or a list of images, to the same kind and dtype.

    Args:
        model: method with trained weights on any device, as `lit_thermal.load` gives it; it is put into eval mode.
        images: thermal image: a numpy array or a torch tensor (h, w), (1, h, w), (h, w, 1) or (h, w, 3) with equal
            channels, or a PIL image. uint8 and uint16 are counts; floats are values in [0, 1], or Kelvin if
            `radiometry` says so. A list, or an array with one more axis in front, is a batch, whose images may differ
            in size.
        guide: visible image of the same field of view, (H, W, 3) or (3, H, W) or a PIL image, 8 or 16 bit or float in
            [0, 1]; for a batch a list, with None for images without a guide.
        radiometry: unit of the pixels, "kelvin" or "centikelvin", or the law of the camera from counts to Kelvin.
        normalize: mapping from counts to [0, 1]; by default the one that the model was trained with.
        tile: side in input pixels of the tiles into which images are cut; None restores whole images.
        overlap: number of input pixels that neighbouring tiles share.
        batch: number of images or tiles that are restored at once.

    Returns:
        Image of the input's kind, `scale` times as wide and high; a list for a list. Tensors stay on their device.

    Raises:
        InputError: an image or a guide is unusable, or its temperatures are needed and not known.
    """
    if not isinstance(images, (list, tuple)):
        if getattr(images, "ndim", 0) == 4:
            many = upscale_arrays(
                model,
                list(images),
                guide=None if guide is None else list(guide),
                radiometry=radiometry,
                normalize=normalize,
                tile=tile,
                overlap=overlap,
                batch=batch,
            )
            return torch.stack(many) if isinstance(images, Tensor) else np.stack(many)
        images, guides, single = [images], [guide], True
    else:
        guides, single = list(_guides(guide, len(images))), False
    if any(g is not None for g in guides) and not model.takes_guide:
        raise InputError(f"{type(model).__name__} takes no guide: leave it out, or load a guided model")
    mapping = normalize or model.normalize or NORMALIZE
    check_normalize(mapping, "normalize" if normalize else "the mapping that the model was trained with")
    scale = _scale(radiometry)
    prepared = [_prepared(image, g, scale, mapping) for image, g in zip(images, guides, strict=True)]
    model.eval()
    results: list[Any] = [None] * len(prepared)
    for sizes in dict.fromkeys(p.sizes for p in prepared):
        places = [index for index, p in enumerate(prepared) if p.sizes == sizes]
        values = torch.stack([prepared[index].values for index in places])
        colours = None if sizes[1] is None else torch.stack([g for i in places if (g := prepared[i].guide) is not None])
        restored = restore_images(
            model,
            values.clamp(0, 1),
            colours,
            tile=tile,
            overlap=overlap,
            batch=batch,
            device=model.device,
            # methods that draw seed their noise by the name, so that a result does not depend on the batch
            names=["image"] * len(places),
        )
        outside = values - values.clamp(0, 1)
        for index, image, lost in zip(places, restored, outside, strict=True):
            results[index] = prepared[index].finish(put_back(image[None], lost[None])[0, 0])
    return results[0] if single else results


def _guides(guide: Any, count: int) -> Sequence[Any]:
    if guide is None:
        return [None] * count
    if not isinstance(guide, (list, tuple)) and getattr(guide, "ndim", 0) != 4:
        raise InputError(f"a batch of {count} images needs a list of as many guides (None for an image without one)")
    if len(guide) != count:
        raise InputError(f"{count} images and {len(guide)} guides: give one guide, or None, for each image")
    return list(guide)


def _scale(radiometry: Radiometry | str | None) -> Radiometry | None:
    """Return the law from pixels to Kelvin, with offset 0 and gain 1; None if nothing is known."""
    if radiometry is None or isinstance(radiometry, Radiometry):
        return None if radiometry is None or radiometry.unit == "counts" else radiometry._replace(offset=0.0, gain=1.0)
    if radiometry not in _UNITS:
        raise InputError(f"radiometry is {radiometry!r}; must be one of {', '.join(_UNITS)}, or a Radiometry")
    return _UNITS[radiometry]


def _prepared(image: Any, guide: Any, scale: Radiometry | None, normalize: str) -> _Prepared:
    pixels, build = opened(image)
    colours = None if guide is None else guide_pixels(guide)
    if pixels.dtype.kind == "f" and scale is None:
        return _Prepared(_unit_values(pixels), colours, lambda restored: build(restored.numpy()))
    if pixels.dtype.kind == "f" and scale != KELVIN:
        raise InputError("float pixels with a radiometry must be Kelvin: give radiometry='kelvin', or integer counts")
    ends = kelvin_range(normalize)
    if ends and scale is None:
        raise InputError(
            f"the mapping is the fixed range {normalize!r}, so that temperatures must be known: give radiometry, or "
            "another normalize such as 'robust'"
        )
    if pixels.dtype.kind == "f" or ends:
        return _by_kelvin(pixels, scale or KELVIN, normalize, colours, build)
    mapping = image_radiometry(pixels, normalize, scale or COUNTS)
    values = (torch.from_numpy(pixels.astype(np.float32)) - mapping.offset) / mapping.gain
    return _Prepared(values[None], colours, lambda restored: build(mapping.to_counts(restored).numpy()))


def _by_kelvin(
    pixels: np.ndarray, scale: Radiometry, normalize: str, guide: Tensor | None, build: Callable[[np.ndarray], Any]
) -> _Prepared:
    """Map pixels by way of their temperatures, in steps of 0.01 K, or 0.1 K for hot ones; they are not rounded."""
    kelvin = to_kelvin(pixels, scale)
    if pixels.dtype.kind == "f" and not (kelvin > 0).all():
        raise InputError(
            f"pixels from {float(kelvin.min()):g} to {float(kelvin.max()):g} are not Kelvin: degrees Celsius need "
            "273.15 added, and missing pixels a value"
        )
    ends = kelvin_range(normalize)
    fine = float(kelvin.max()) <= FINE if ends is None else ends[1] <= FINE
    steps = CENTIKELVIN if fine else DECIKELVIN
    mapping = image_radiometry(in_steps(kelvin, "", fine).counts, normalize, steps)
    values = (torch.from_numpy(kelvin.astype(np.float64)) / steps.constants[1] - mapping.offset) / mapping.gain

    def finish(restored: Tensor) -> Any:
        return build(_from_kelvin(mapping.to_kelvin(restored.double()), scale).numpy())

    return _Prepared(values.float()[None], guide, finish)


def _unit_values(pixels: np.ndarray) -> Tensor:
    """Return float pixels (h, w) as values (1, h, w), after a check that they are in [0, 1]."""
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"float pixels from {low:g} to {high:g} are not in [0, 1]: give radiometry='kelvin' if they are Kelvin, "
            "or divide them by their range"
        )
    return torch.from_numpy(pixels.astype(np.float32))[None]


def _from_kelvin(kelvin: Tensor, scale: Radiometry) -> Tensor:
    """Return the pixels of these temperatures: the inverse of the camera's law."""
    if scale.unit == "linear":
        return (kelvin - scale.constants[0]) / scale.constants[1]
    r1, r2, b, f, o = scale.constants
    return r1 / (r2 * (torch.exp(b / kelvin) - f)) - o
