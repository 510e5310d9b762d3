"""Files of the runs' galleries: the pictures of one scene, read and checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.frames import read_header, read_pixels
from lit_thermal.data.formats.gray_image import reduce_to_gray
from lit_thermal.errors import InputError, reading
from lit_thermal.files import is_plain
from lit_thermal.plain_files import inside
from lit_thermal.report.pictures import measured

MOST_PIXELS = 1 << 25
"""Largest number of pixels of a picture that a page can show."""
MOST_FRAMES = 500
"""Largest number of frames of a clip's window."""
_AGAIN = "run `test` again"


class SceneFrames(NamedTuple):
    """The N frames of a scene that are shown; thermal frames are (N, H, W), measured in the unit of `radiometry`."""

    radiometry: Radiometry
    times: tuple[float, ...]
    """Time of each frame."""
    shown: int
    """Index of the frame that is shown first."""
    target: np.ndarray
    restored: dict[int, np.ndarray]
    """Results by the index of their row."""
    bicubic: np.ndarray | None
    lr: np.ndarray | None
    """Last input frame at or before each of the frames."""
    guide: np.ndarray | None
    """Visible picture, (H, W, 3) uint8."""

    @property
    def simple(self) -> np.ndarray:
        """The bicubic images, or the first row's if there are none."""
        return self.bicubic if self.bicubic is not None else next(iter(self.restored.values()))


def read_scene(
    name: str, entries: Mapping[int, Mapping[str, Any]], folders: Mapping[int, Path], whole: bool
) -> SceneFrames:
    """Read the pictures of one scene.

    Args:
        name: name of the image or clip.
        entries: the scene's entry in the gallery of each row, by index of the row. The first one's target, input,
            bicubic images and radiometry are used.
        folders: folder of each row's run.
        whole: read all frames of a clip instead of one, which is interpolated if any is.

    Raises:
        InputError: a picture is missing, cannot be read, or does not fit the others.
    """
    first = next(iter(entries))
    entry, folder = entries[first], folders[first]
    known: dict[str, Any] = entry["radiometry"]
    radiometry = Radiometry(**known)._replace(constants=tuple(known["constants"]))
    times = entry.get("time") or [0.0]
    if len(times) > MOST_FRAMES:
        raise InputError(f"the gallery of {folder} lists {len(times)} frames of {name}; {_AGAIN}")
    middle = _middle(times)
    picked = list(range(len(times))) if whole else [middle]

    def frames(index: int, kind: str, which: Sequence[int] = picked) -> np.ndarray | None:
        files = entries[index]["files"].get(kind)
        if not files:
            return None
        values = measured(_read_frames(folders[index], name, kind, files, which, len(times)), radiometry)
        if not np.isfinite(values).all():
            raise InputError(f"{folder}: the radiometry of {name} fits no temperature; {_AGAIN}")
        return values

    target = frames(first, "hr")
    restored = {index: values for index in entries if (values := frames(index, "restored")) is not None}
    if target is None or not restored:
        raise InputError(f"the gallery of {folder} has no target or no result of {name}; run `test` again")
    bicubic = frames(first, "bicubic")
    for index, values in [*restored.items(), *([] if bicubic is None else [(first, bicubic)])]:
        if values.shape != target.shape:
            raise InputError(f"the pictures of {name} in the gallery of {folders[index]} differ in size; {_AGAIN}")
    guide = entry["files"].get("guide")
    return SceneFrames(
        radiometry,
        tuple(times[n] for n in picked),
        picked.index(middle),
        target,
        restored,
        bicubic,
        frames(first, "lr", _inputs(entry, picked)),
        _read_guide(folder, guide[0]) if guide else None,
    )


def _read_frames(
    folder: Path, name: str, kind: str, files: Sequence[str], which: Sequence[int], length: int
) -> np.ndarray:
    """Read the pictures of one kind, those with the given numbers: (N, H, W) counts."""
    if len(files) <= max(which):
        raise InputError(
            f"the gallery of {folder} lists {len(files)} pictures of the kind {kind} of {name}, which has {length} "
            f"frames; {_AGAIN}"
        )
    pictures = [_read(folder, files[number]) for number in which]
    if len({picture.shape for picture in pictures}) > 1:
        raise InputError(f"the pictures of {name} in the gallery of {folder} differ in size; {_AGAIN}")
    return np.stack(pictures)


def _middle(times: Sequence[float]) -> int:
    """Return the index of the frame nearest to the middle; an interpolated one if there is any."""
    between = [n for n, time in enumerate(times) if abs(time - round(time)) > 1e-3] or list(range(len(times)))
    return min(between, key=lambda n: (abs(n - (len(times) - 1) / 2), n))


def _inputs(entry: Mapping[str, Any], picked: Sequence[int]) -> list[int]:
    """Return the last input frame at or before each of the frames to show."""
    if not entry.get("time"):
        return [0]
    known = entry.get("lr_time", [])
    return [max(0, sum(t <= entry["time"][n] + 1e-4 for t in known) - 1) for n in picked]


def _read(run: Path, name: str) -> np.ndarray:
    """Read a thermal picture of a run's gallery: (H, W) counts."""
    file = _picture(run, name)
    return reduce_to_gray(read_pixels(file), 0, f"{file}")


def _read_guide(run: Path, name: str) -> np.ndarray:
    """Read a visible picture: (H, W, 3) uint8."""
    file = _picture(run, name)
    pixels = read_pixels(file)
    if pixels.dtype != np.uint8:
        raise InputError(f"{file} has 16 bit, but visible pictures have 8; {_AGAIN}")
    colours = pixels if pixels.ndim == 3 else pixels[..., None]
    return colours[..., :3] if colours.shape[-1] >= 3 else colours[..., :1].repeat(3, axis=-1)


def _picture(run: Path, name: str) -> Path:
    """Return the file of a picture after checking that it is a PNG in its gallery and not too large for a page."""
    file = inside(run / "gallery", name, run / "gallery" / "gallery.json")
    if not is_plain(file):
        raise InputError(f"{file} is listed in gallery.json but does not exist; {_AGAIN}")
    if file.suffix.lower() != ".png":
        raise InputError(f"{file} is listed in gallery.json but is not a PNG; {_AGAIN}")
    with reading(file, "a PNG", _AGAIN):
        with file.open("rb") as start:
            if start.read(8) != b"\x89PNG\r\n\x1a\n":
                raise InputError(f"{file} is listed in gallery.json but is not a PNG; {_AGAIN}")
        height, width, _ = read_header(file)
    if not 0 < height * width <= MOST_PIXELS:
        raise InputError(f"{file} is {width}x{height}, and a page shows at most {MOST_PIXELS:,} pixels; {_AGAIN}")
    return file
