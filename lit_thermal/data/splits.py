"""Which clips of a data root are for training, validation, test and prediction."""

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from lit_thermal.data.clips import describe, find_clips, is_clip
from lit_thermal.errors import InputError

Split = Mapping[str, Sequence[str]] | Sequence[float]
SPLITS = ("train", "val", "test", "predict")


def find_splits(root: Path, split: Split | None, seed: int) -> dict[str, list[Path]]:
    """The clips of each split of a data root, in natural order; a split without clips is left out.

    Args:
        root: holds folders `train`, `val`, `test` (and `predict`) of clips, or with `split`, clips.
        split: shares of train, val and test (drawn by `seed`), or for each split the names of its clips,
            in which ``*``, ``?`` and ``[1-6]`` stand for several; none looks for the folders.
        seed: draws the shares; the same clips and seed give the same split.

    Raises:
        InputError: the root is missing or does not look so, or the split does not fit its clips.
    """
    expected = "expected {train,val,test}/CLIP/*.png or .tif, or one video file per clip"
    if split is not None:
        expected = "expected CLIP/*.png or .tif, or one video file per clip"
    if not root.is_dir():
        raise InputError(f"the data root {root} {'is a file' if root.exists() else 'does not exist'}; {expected}")
    if split is not None:
        clips = find_clips(root)
        if not clips:
            raise InputError(f"the data root {root} holds no clips: {expected}, but {describe(root)}")
        if isinstance(split, Mapping):
            return _by_name(root, clips, split)
        return _by_share(root, clips, split, seed)
    found = {name: list(find_clips(root / name).values()) for name in SPLITS if (root / name).is_dir()}
    if not any(found.values()):
        inside = "; ".join(f"in {name}/, {describe(root / name)}" for name in found) or describe(root)
        hint = "; for clips that lie in the root, set data.split to shares or lists" if find_clips(root) else ""
        raise InputError(f"the data root {root} is laid out otherwise: {expected}, but {inside}{hint}")
    return {name: clips for name, clips in found.items() if clips}


def find_inputs(root: Path, split: Split | None, seed: int) -> list[Path]:
    """The clips to restore in `predict`: the split of that name, else the test split, else all of the root.

    The root may also be one clip.

    Raises:
        InputError: there is nothing to restore.
    """
    if root.exists() and is_clip(root):
        return [root]
    flat = split is None and root.is_dir() and not any((root / name).is_dir() for name in SPLITS)
    if flat and (clips := find_clips(root)):
        return list(clips.values())
    splits = find_splits(root, split, seed)
    for name in ("predict", "test"):
        if name in splits:
            return splits[name]
    raise InputError(f"the data root {root} has no clips to restore: put them into {root / 'predict'}")


def _by_name(root: Path, clips: dict[str, Path], split: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
    taken: dict[str, str] = {}
    for name, patterns in split.items():
        if name not in SPLITS:
            raise InputError(f"data.split has the key {name!r}; it takes {', '.join(SPLITS)}")
        for pattern in patterns:
            matches = [clip for clip in clips if fnmatchcase(clip, pattern)]
            if not matches:
                near = difflib.get_close_matches(pattern, clips, n=3, cutoff=0.4)
                raise InputError(
                    f"data.split.{name} names {pattern!r}, which is no clip of {root}; "
                    + (f"near are {', '.join(near)}" if near else describe(root))
                )
            for clip in matches:
                if taken.setdefault(clip, name) != name:
                    raise InputError(f"data.split puts the clip {clip!r} into {taken[clip]} and into {name}: keep one")
    return {name: chosen for name in split if (chosen := [clips[clip] for clip in clips if taken.get(clip) == name])}


def _by_share(root: Path, clips: dict[str, Path], shares: Sequence[float], seed: int) -> dict[str, list[Path]]:
    if len(shares) != 3 or min(shares) < 0 or not abs(sum(shares) - 1) < 1e-6:
        raise InputError(f"data.split {list(shares)} must be three shares of train, val and test that sum to 1")
    # Each split that is asked for gets a clip, whatever its share; training gets what is left.
    val, test = (max(1, round(share * len(clips))) if share else 0 for share in shares[1:])
    train = len(clips) - val - test
    if train < (1 if shares[0] else 0):
        raise InputError(f"the {len(clips)} clips of {root} do not suffice for data.split {list(shares)}: use lists")
    names = list(clips)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    parts = {"train": order[:train], "val": order[train : train + val], "test": order[train + val :]}
    return {name: [clips[clip] for clip in names if clip in part] for name, part in parts.items() if part}
