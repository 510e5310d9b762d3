"""Restoration of image files: reading, restoring several of one size at once, checking and writing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import torch
from torch import Tensor

from lit_thermal.data.formats import camera_files
from lit_thermal.data.formats.frames import write_frame
from lit_thermal.data.formats.normalize import NORMALIZE
from lit_thermal.data.formats.tags import read_tags
from lit_thermal.errors import InputError
from lit_thermal.files import replacing
from lit_thermal.inference.consistency import back_projected, difference, reduction
from lit_thermal.inference.guides import EMBEDDED, Guide, embedded_guide, guide_from_file
from lit_thermal.inference.images import restore_images
from lit_thermal.inference.mapping import Mapped, mapped
from lit_thermal.inference.palette import view_name, write_view
from lit_thermal.inference.plan import Job, spread_name
from lit_thermal.inference.settings import Settings
from lit_thermal.methods.base import SuperResolver


@dataclass(frozen=True)
class Loaded:
    """One image that was read.

    Attributes:
        job: input and output.
        image: its values, with the way back to its pixels.
        guide: visible image; None without one.
        remarks: sentences for the user.
    """

    job: Job
    image: Mapped
    guide: Guide | None
    remarks: tuple[str, ...]

    @property
    def kind(self) -> tuple[object, ...]:
        """Sizes that images which are restored at once must share."""
        return self.image.lr.shape, None if self.guide is None else self.guide.image.shape


def load_image(job: Job, guide: Path | str | None, settings: Settings, scale: int) -> Loaded:
    """Read an image and its guide.

    Args:
        job: input and output.
        guide: file of the guide, `EMBEDDED`, or None.
        settings: settings of the restoration.
        scale: factor of the enlargement.

    Raises:
        InputError: a file cannot be read or holds several frames, or a fixed range needs an unknown temperature.
    """
    thermogram = camera_files.read(job.source, several=False)
    image = mapped(thermogram, settings.normalize or NORMALIZE)
    remarks = [thermogram.message] if thermogram.message else []
    found = None
    if guide == EMBEDDED:
        if thermogram.photo is None:
            remarks.append("it embeds no visible photo: restored from the thermal image alone")
        else:
            found = embedded_guide(thermogram, image.lr, scale)
    elif guide is not None:
        found = guide_from_file(Path(guide))
    if found is not None and found.remark:
        remarks.append(found.remark)
    return Loaded(job, image, found, tuple(remarks))


def restore_loaded(group: Sequence[Loaded], model: SuperResolver, settings: Settings) -> list[list[str]]:
    """Restore images of one size, write their results, and return the sentences about each.

    Args:
        group: images of the same `kind`.
        model: method in eval mode on the device.
        settings: settings of the restoration.

    Raises:
        InputError: the model does not take the images, memory runs out, or a file cannot be written.
    """
    lr = torch.stack([one.image.lr for one in group])
    guides = [one.guide for one in group if one.guide is not None]
    guide = torch.stack([found.image for found in guides]) if guides else None
    there = torch.tensor([found.matches for found in guides]) if guides else None
    if guide is not None and not there.any():  # type: ignore[union-attr]
        guide = there = None
    degradation = reduction(model.degradation)
    total = torch.zeros(0, 1, 1, 1)
    spreads = [_Spread() for _ in group]
    for sample in range(settings.samples):
        # the first sample is that of `predict`
        names = [f"{one.job.source.stem}/sample {sample}" if sample else one.job.source.stem for one in group]
        restored = restore_images(
            model,
            lr,
            guide,
            tile=settings.tile_for(lr.shape[-2], lr.shape[-1]),
            overlap=settings.overlap,
            batch=settings.batch,
            device=settings.device,
            has_guide=there,
            names=names,
        )
        restored = back_projected(restored, lr, degradation, model.scale, settings.fidelity)
        if settings.samples > 1:
            for one, spread, values in zip(group, spreads, restored, strict=True):
                spread.add(one.image.measured(values))
        total = total + restored if sample else restored
    total = total / settings.samples
    sentences = []
    for one, spread, values in zip(group, spreads, total, strict=True):
        said = list(one.remarks)
        write_result(one, values, settings)
        if settings.samples > 1:
            write_spread(spread_name(one.job.target), spread.deviation(), one.image.knows_kelvin)
        if settings.check:
            unit = "K" if one.image.knows_kelvin else "counts"
            apart = difference(values, one.image, degradation, model.scale)
            said.append(
                f"reduced again ({type(degradation).__name__}) it differs from the input by {apart.mean:.3g} {unit} on "
                f"average, {apart.largest:.3g} {unit} at most"
            )
        sentences.append(said)
    return sentences


def write_result(one: Loaded, values: Tensor, settings: Settings) -> None:
    """Write a restored image (1, H, W) in [0, 1] to its target, with its colour view if there is to be one.

    Raises:
        InputError: a value is NaN, or the file cannot be written.
    """
    target, result = one.job.target, one.image.restored(values)
    if settings.palette:
        # the result last: it marks the image as finished
        write_view(view_name(target), result, settings.palette)
    if target.suffix.lower() != ".bmp":
        camera_files.write(target, result)
        return
    if one.image.radiometry.bits == 16:
        raise InputError(f"{target} cannot hold 16 bits: use the suffix .png or .tif")
    size = (values.shape[-2], values.shape[-1])
    write_frame(target, values, one.image.radiometry, read_tags(one.job.source, size, ".bmp"))


def write_spread(path: Path, deviation: Tensor, kelvin: bool) -> None:
    """Write a map of standard deviations (1, H, W) as a float32 TIFF, in Kelvin or counts.

    Raises:
        InputError: the file cannot be written.
    """
    what = f"standard deviation of the samples in {'kelvin' if kelvin else 'counts'}"
    with replacing(path) as aside:
        tifffile.imwrite(aside, deviation[0].numpy().astype(np.float32), photometric="minisblack", description=what)


class _Spread:
    """Mean and sum of squared deviations of samples, one at a time (Welford)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, sample: Tensor) -> None:
        self.count += 1
        apart = sample - self.mean
        self.mean = self.mean + apart / self.count
        self.squares = self.squares + apart * (sample - self.mean)

    def deviation(self) -> Tensor:
        return (self.squares / max(1, self.count - 1)).sqrt()
