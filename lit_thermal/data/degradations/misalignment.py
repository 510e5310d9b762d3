"""Misalignments of an uncalibrated visible camera relative to the thermal one: one family, with a class per kind.

Published descriptions name the operations but give no ranges: all ranges here are this project's.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from lit_thermal.errors import InputError, check_choice
from lit_thermal.ops.warp import warp

Matrix = NDArray[np.float64]
Window = tuple[slice, slice]
Fill = Literal["black", "reflect"]
Severity = Literal["light", "medium", "strong"]

SHARES: dict[Severity, float] = {"light": 0.25, "medium": 0.5, "strong": 1.0}
"""Part of its range that a misalignment of each severity uses."""
SHIFT, SMALLEST, LARGEST, DEGREES, CORNERS = 0.1, 0.8, 1.25, 10.0, 0.1
"""Default ranges, for deviations of a hand-held pair of cameras."""


class Misalignment(ABC):
    """Base of the misalignments, which warp the guide of a sample at random; the thermal images are unchanged.

    The whole image is warped about its centre, by shares of its shorter side, even if only a crop is needed. Thus a
    crop shows content from its surroundings, and only areas outside of the image are filled. Displacements in training
    crops are as large in pixels as those of whole images in a test.

    Args:
        fill: content outside of the image: "black", or "reflect" for its mirror image.
    """

    def __init__(self, fill: Fill = "black") -> None:
        check_choice(fill, Fill, f"fill of {type(self).__name__}")
        self.fill = fill

    @abstractmethod
    def matrix(self, size: tuple[int, int], rng: Generator, share: float | None = None) -> Matrix:
        """Draw the homography (3, 3), float64, that maps positions in the aligned guide to the misaligned guide.

        Args:
            size: height and width of the image; coordinates are pixels from its centre, x to the right, y down.
            rng: random generator of the draw.
            share: fixed amount of each operation as a share of its range, 0 to 1, so that only directions are drawn; by
                default amounts are drawn from the whole range. One `rng` gives the same directions at every share.
        """

    def __call__(
        self, guide: Tensor, rng: Generator, share: float | None = None, window: Window | None = None
    ) -> Tensor:
        """Misalign a guide (3, H, W) and crop a window from it; the result is (3, *window).

        Args:
            guide: whole image (3, H, W), values in [0, 1].
            rng: random generator of the draw.
            share: fixed amount of each operation, as in `matrix`.
            window: rows and columns of the window; by default the whole image.
        """
        height, width = guide.shape[-2:]
        rows, columns = window or (slice(0, height), slice(0, width))
        matrix = self.matrix((height, width), rng, share)
        if np.array_equal(matrix, np.eye(3)):
            return guide[..., rows, columns]
        x, y = (width - 1) / 2, (height - 1) / 2
        moved = _shift(x - columns.start, y - rows.start) @ matrix @ _shift(-x, -y)
        size = (rows.stop - rows.start, columns.stop - columns.start)
        return warp(guide, torch.from_numpy(moved), size, "reflect" if self.fill == "reflect" else 0.0)


class Aligned(Misalignment):
    """Calibrated cameras: the guide is unchanged."""

    def __init__(self) -> None:
        super().__init__()

    def matrix(self, size: tuple[int, int], rng: Generator, share: float | None = None) -> Matrix:
        """Return the identity, without random draws."""
        return np.eye(3)


class Shift(Misalignment):
    """The camera is shifted.

    Args:
        greatest: greatest displacement as a share of the shorter side, in any direction; uniform over the disc.
        fill: content outside of the image, as in `Misalignment`.
    """

    def __init__(self, greatest: float = SHIFT, fill: Fill = "black") -> None:
        super().__init__(fill)
        self.greatest = _within(0, greatest, 1, "greatest of Shift")

    def matrix(self, size: tuple[int, int], rng: Generator, share: float | None = None) -> Matrix:
        """Draw a displacement."""
        return _shift(*_in_disc(rng, share) * self.greatest * min(size))


class Scaling(Misalignment):
    """Scaling of the guide, as if its camera were nearer or farther or its lens had another focal length.

    Args:
        smallest: smallest scaling factor of the image, at most 1.
        largest: largest scaling factor, at least 1. Factors are drawn uniformly by their logarithm.
        fill: content outside of the image, as in `Misalignment`.
    """

    def __init__(self, smallest: float = SMALLEST, largest: float = LARGEST, fill: Fill = "black") -> None:
        super().__init__(fill)
        self.smallest = _within(0.25, smallest, 1, "smallest of Scaling")
        self.largest = _within(1, largest, 4, "largest of Scaling")

    def matrix(self, size: tuple[int, int], rng: Generator, share: float | None = None) -> Matrix:
        """Draw a scaling about the centre."""
        way = _signed(rng, share)
        factor = self.largest**way if way > 0 else self.smallest**-way
        return np.diag([factor, factor, 1.0])


class Rotation(Misalignment):
    """The camera is tilted sideways.

    Args:
        degrees: greatest angle in either direction, in degrees.
        fill: content outside of the image, as in `Misalignment`.
    """

    def __init__(self, degrees: float = DEGREES, fill: Fill = "black") -> None:
        super().__init__(fill)
        self.degrees = _within(0, degrees, 180, "degrees of Rotation")

    def matrix(self, size: tuple[int, int], rng: Generator, share: float | None = None) -> Matrix:
        """Draw a rotation about the centre."""
        angle = math.radians(self.degrees * _signed(rng, share))
        sin, cos = math.sin(angle), math.cos(angle)
        return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])


class Perspective(Misalignment):
    """Perspective distortion of the guide, as if its camera were turned: each corner moves independently.

    Args:
        corners: greatest displacement of a corner as a share of the shorter side, in any direction; uniform over the
            disc.
        fill: content outside of the image, as in `Misalignment`.
    """

    def __init__(self, corners: float = CORNERS, fill: Fill = "black") -> None:
        super().__init__(fill)
        # With larger values, combined with another operation, the horizon may enter the image.
        self.corners = _within(0, corners, 0.25, "corners of Perspective")

    def matrix(self, size: tuple[int, int], rng: Generator, share: float | None = None) -> Matrix:
        """Return the homography that moves the corners to their drawn positions."""
        height, width = size
        corners = np.array([[x * width, y * height] for y in (-0.5, 0.5) for x in (-0.5, 0.5)])
        moves = np.stack([_in_disc(rng, share) for _ in corners]) * self.corners * min(size)
        return homography(corners, corners + moves)


class Combined(Misalignment):
    """Several of the four operations, each at most once, drawn for each sample and applied in sequence.

    Args:
        number: number of operations, 1 to 4; two in the figure of 3M-TI.
        shift: greatest displacement, `Shift.greatest`.
        smallest: smallest factor, `Scaling.smallest`.
        largest: largest factor, `Scaling.largest`.
        degrees: greatest angle, `Rotation.degrees`.
        corners: greatest displacement of a corner, `Perspective.corners`.
        fill: content outside of the image, as in `Misalignment`; "black" in the figure of 3M-TI.
    """

    def __init__(
        self,
        number: int = 2,
        shift: float = SHIFT,
        smallest: float = SMALLEST,
        largest: float = LARGEST,
        degrees: float = DEGREES,
        corners: float = CORNERS,
        fill: Fill = "black",
    ) -> None:
        super().__init__(fill)
        self.number = int(_within(1, number, 4, "number of Combined"))
        self.operations = [Shift(shift), Scaling(smallest, largest), Rotation(degrees), Perspective(corners)]

    def matrix(self, size: tuple[int, int], rng: Generator, share: float | None = None) -> Matrix:
        """Return the product of the operations, in the order in which they are drawn."""
        result = np.eye(3)
        for place in rng.permutation(len(self.operations))[: self.number]:
            result = self.operations[place].matrix(size, rng, share) @ result
        return result


def homography(points: Matrix, targets: Matrix) -> Matrix:
    """Return the homography (3, 3) that maps four points (4, 2), no three of them collinear, to four targets (4, 2)."""
    rows = []
    for (x, y), (u, v) in zip(points, targets, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    entries = np.linalg.solve(np.array(rows), targets.reshape(-1))
    return np.append(entries, 1.0).reshape(3, 3)


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def _signed(rng: Generator, share: float | None) -> float:
    """Draw a number from -1 to 1, or return `share` with a random sign."""
    drawn = rng.uniform(-1, 1)
    return float(drawn if share is None else math.copysign(share, drawn))


def _in_disc(rng: Generator, share: float | None) -> Matrix:
    """Draw a point (x, y) of the unit disc, or of the circle of radius `share`."""
    radius, angle = math.sqrt(rng.random()), 2 * math.pi * rng.random()
    return np.array([math.cos(angle), math.sin(angle)]) * (radius if share is None else share)


def _within(least: float, value: float, greatest: float, what: str) -> float:
    if not least <= value <= greatest:
        raise InputError(f"{what} is {value}; it must be from {least} to {greatest}")
    return value
