"""Guides of images to restore: files, files of the same stem in a folder, or the photo inside the thermal file."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.data.formats.frames import FRAME_SUFFIXES
from lit_thermal.data.formats.guides import read_guide
from lit_thermal.data.formats.image_decoding import raster_header
from lit_thermal.data.formats.thermogram import Thermogram
from lit_thermal.errors import InputError
from lit_thermal.files import by_stem, same_name
from lit_thermal.ops.guide_registration import find_warp
from lit_thermal.ops.resize import resize

EMBEDDED = "embedded"
"""Value of `--guide` for the photo inside the thermal file."""
WIDTHS = (1.0, 1.15, 1.3, 1.5, 1.75, 2.0)
"""Widths of the photo in widths of the thermal view that are tried if the file does not say it."""
COARSE, FINE = 40, 96
"""Longest sides of the thermal image during the search for the photo's place, and during its refinement."""
REACH = 4.0
"""Largest displacement of the search along an axis, in pixels of the coarse image."""
WEAK = 0.75
"""Unexplained share of the local thermal variance above which a photo does not show the scene of the thermal image."""


class Guide(NamedTuple):
    """Visible image on the grid of the result.

    Attributes:
        image: (3, H, W) in [0, 1].
        remark: sentence for the user about the registration, or an empty text.
        matches: whether the image shows the scene of the thermal image, as far as the registration could find out.
    """

    image: Tensor
    remark: str = ""
    matches: bool = True


def paired_guides(given: Path, sources: list[Path]) -> dict[Path, Path | InputError]:
    """Return the guide of each image, or the reason why it has none.

    Args:
        given: folder whose files have the stems of the images, or one file for the only image.
        sources: images to restore.

    Raises:
        InputError: the path does not exist, or is one file for several images.
    """
    if given.is_dir():
        found = by_stem([f for f in sorted(given.iterdir()) if f.suffix.lower() in FRAME_SUFFIXES], given)
        lacking = "give the guide the name of the image, or leave the image out"
        return {
            source: found.get(same_name(source.stem))
            or InputError(f"--guide {given} has no image named {source.stem} for {source}: {lacking}")
            for source in sources
        }
    if not given.exists():
        raise InputError(f"--guide {given} does not exist: give a file, a folder or the word {EMBEDDED}")
    if len(sources) > 1:
        raise InputError(f"--guide {given} is one file for {len(sources)} images: give a folder with a guide for each")
    return dict.fromkeys(sources, given)


def guide_from_file(path: Path) -> Guide:
    """Read a guide at its own resolution.

    Raises:
        InputError: the file cannot be read.
    """
    header = raster_header(path)
    return Guide(_values(read_guide(path, (header.height, header.width))))


def embedded_guide(thermogram: Thermogram, lr: Tensor, scale: int) -> Guide:
    """Return the photo inside a thermal file, registered to the thermal view.

    The photo of a thermal camera has a larger field of view. The search starts from the placement that the file states
    and from some others, and refines the best by a similarity (displacement, scaling and rotation), after which a
    local regression on the photo explains most of the thermal image.

    Args:
        thermogram: file that was read.
        lr: thermal image (1, h, w) in [0, 1].
        scale: factor of the enlargement.

    Raises:
        InputError: the file embeds no photo, or the thermal image is too small.
    """
    if thermogram.photo is None:
        raise InputError(f"{thermogram.path} embeds no visible photo: leave --guide out, or give the photo as a file")
    photo = _values(np.ascontiguousarray(np.moveaxis(thermogram.photo, -1, 0)))
    small, fine = _shrunk(lr, COARSE), _shrunk(lr, FINE)
    starts = [_refined(small, photo, place, 2, REACH) for place in _places(thermogram)]
    start = min(starts, key=lambda found: found[1])[0]
    place, unexplained = _refined(fine, photo, _refined(small, photo, start, 4, 1.0)[0], 4, 1.0)
    left = math.exp(unexplained)
    across, along = (float(number) * lr.shape[-1] for number in place.matrix[:2, 2])
    wide = place.width / float(place.matrix[:2, :2].det().sqrt())
    remark = (
        f"the embedded photo was registered, {wide:.2f} times as wide as the thermal view and "
        f"{math.hypot(across, along):.0f} thermal pixels off its centre; it leaves {left:.0%} of the local thermal "
        "variance unexplained"
    )
    if left > WEAK:
        remark += ", so that it does not count as a view of the same scene: restored without it"
    return Guide(_view(photo, place, (scale * lr.shape[-2], scale * lr.shape[-1])), remark, left <= WEAK)


class Place(NamedTuple):
    """Placement of a photo.

    Attributes:
        width: width of the photo in widths of the thermal view.
        matrix: (3, 3): maps positions in the thermal view to those in the photo, both from the centre and in widths of
            the thermal view, (x, y).
    """

    width: float
    matrix: Tensor


def _places(thermogram: Thermogram) -> list[Place]:
    """Return placements of the photo to start from: those that the file may state, or centred ones."""
    stated = thermogram.facts.get("photo_placement")
    width = float(stated.get("width_of_photo_over_thermal_view", 0)) if isinstance(stated, dict) else 0.0
    if not isinstance(stated, dict) or not 0.5 <= width <= 4:
        return [Place(width, torch.eye(3)) for width in WIDTHS]
    right, down = (float(stated.get(key, 0)) / thermogram.pixels.shape[-1] for key in ("right", "down"))
    places = []
    for sign in (1, -1, 0):  # cameras differ in the direction that they count
        matrix = torch.eye(3)
        matrix[0, 2], matrix[1, 2] = sign * right, sign * down
        places.append(Place(width, matrix))
    return places


def _refined(lr: Tensor, photo: Tensor, place: Place, freedoms: int, reach: float) -> tuple[Place, float]:
    """Return the placement near another after which a photo explains most, and the logarithm of what it leaves."""
    size = (4 * lr.shape[-2], 4 * lr.shape[-1])
    found = find_warp(lr[None], _view(photo, place, size)[None], freedoms, reach)
    warp = found.matrix[0].clone()
    warp[:2, 2] /= size[1]
    return Place(place.width, place.matrix @ warp), float(found.unexplained)


def _view(photo: Tensor, place: Place, size: tuple[int, int]) -> Tensor:
    """Return the part of a photo (3, h, w) that a thermal view of `size` shows; what is outside of it is black."""
    height, width = photo.shape[-2:]
    across = width / place.width
    shrink = across / size[1]
    if shrink > 1:  # averaged first, since sampling alone would alias
        shrunk = [max(1, round(side / shrink)) for side in (height, width)]
        photo = F.interpolate(photo[None], shrunk, mode="bilinear", antialias=True)[0]
    y = (torch.arange(size[0]) - (size[0] - 1) / 2) / size[1]
    x = (torch.arange(size[1]) - (size[1] - 1) / 2) / size[1]
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    grid = torch.stack([columns, rows, torch.ones_like(rows)], -1) @ place.matrix.T
    grid = grid[..., :2] * torch.tensor([2 * across / width, 2 * across / height])
    return F.grid_sample(photo[None], grid[None], align_corners=False)[0].clamp(0, 1)


def _shrunk(lr: Tensor, longest: int) -> Tensor:
    """Return an image (1, h, w) whose longer side is at most `longest`."""
    share = min(1.0, longest / max(lr.shape[-2:]))
    size = tuple(max(5, round(share * side)) for side in lr.shape[-2:])
    if min(lr.shape[-2:]) < 5:
        raise InputError(f"a thermal image of {lr.shape[-1]}x{lr.shape[-2]} pixels is too small to register a photo")
    return resize(lr[None], size)[0].clamp(0, 1)


def _values(levels: np.ndarray) -> Tensor:
    return torch.from_numpy(levels).float() / 255
