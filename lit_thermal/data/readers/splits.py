"""Assignment of the clips or images of a data root to training, validation, test and prediction."""

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import numpy as np

from lit_thermal.data.formats.clips import describe, find_clips, is_clip
from lit_thermal.errors import InputError
from lit_thermal.files import same_name

Split = Mapping[str, Sequence[str]] | Sequence[float]
SPLITS = ("train", "val", "test", "predict")


def find_splits(root: Path, split: Split | None, seed: int) -> dict[str, list[Path]]:
    """Return the clips of each split of a data root, in natural order; a split without clips is left out.

    Args:
        root: folder that contains folders `train`, `val`, `test` (and `predict`) of clips, or, with `split`, clips.
        split: shares of train, val and test (drawn by `seed`), or the names of the clips of each split, in which ``*``,
            ``?`` and ``[1-6]`` are wildcards; None uses the folders.
        seed: seed of the random division by shares; the same clips and seed give the same split.

    Raises:
        InputError: the root is missing or has another layout, or the split does not fit its clips.
    """
    expected = expected_clips(root, split)
    if not root.is_dir():
        raise InputError(f"{no_root(root)}; expected {expected}")
    if split is not None:
        clips = find_clips(root)
        if not clips:
            raise InputError(f"no clips found in {root}; expected {expected}, but {found_instead(root)}")
        return {name: [clips[clip] for clip in part] for name, part in divide(list(clips), split, seed, root).items()}
    found = {name: list(find_clips(root / name).values()) for name in SPLITS if (root / name).is_dir()}
    if not any(found.values()):
        inside = " and ".join(found_instead(root / name) for name in found) or found_instead(root)
        hint = "; if the clips are directly in the root, set data.split to shares or lists" if find_clips(root) else ""
        raise InputError(f"no clips found in {root}; expected {expected}, but {inside}{hint}")
    return {name: clips for name, clips in found.items() if clips}


def find_inputs(root: Path, split: Split | None, seed: int) -> list[Path]:
    """Return the clips to restore in `predict`: the split "predict", else the test split, else all clips of the root.

    The root may also be a single clip.

    Raises:
        InputError: there are no clips to restore.
    """
    if root.exists() and is_clip(root):
        return [root if root.name not in ("", "..") else root.resolve()]  # outputs have its name
    flat = split is None and root.is_dir() and not any((root / name).is_dir() for name in SPLITS)
    if flat and (clips := find_clips(root)):
        return list(clips.values())
    splits = find_splits(root, split, seed)
    for name in ("predict", "test"):
        if name in splits:
            return splits[name]
    raise InputError(f"no clips to restore found in {root}: put them into {root / 'predict'}")


def expected_clips(root: Path, split: Split | None) -> str:
    """Return the layout that a root of clips should have, for error messages."""
    base = f"{root}/" if split is not None else f"{root}/{{train,val,test}}/"
    return f"{base}CLIP/*.png (or .tif, .jpg), or one video file per clip"


def no_root(root: Path) -> str:
    """Return the beginning of the error message for a root that is no folder."""
    return f"the data root {root} {'is a file, not a folder' if root.exists() else 'does not exist'}"


def found_instead(path: Path) -> str:
    """Describe the contents of a folder, or of the nearest folder above it that exists, for an error message."""
    if path.is_dir():
        return f"{path} {describe(path).removeprefix('it ')}"
    above = next((parent for parent in path.parents if parent.is_dir()), Path("."))
    return f"there is no folder {path.name} in {above}, which {describe(above).removeprefix('it ')}"


def divide(
    names: Sequence[str], split: Split, seed: int, root: Path, kind: Literal["clip", "image"] = "clip"
) -> dict[str, list[str]]:
    """Return the names of each split, in their own order; a split without names is left out.

    Args:
        names: names of all clips or images of the root, without duplicates.
        split: shares of train, val and test, or the names of each split (`find_splits`).
        seed: seed of the random division by shares.
        root: data root, for error messages.
        kind: kind of the named items, for error messages.

    Raises:
        InputError: the split does not fit the names, or the seed is negative.
    """
    if seed < 0:
        raise InputError(f"data.split_seed is {seed}; it must be at least 0")
    chosen = (
        _by_name(names, split, root, kind) if isinstance(split, Mapping) else _by_share(names, split, seed, root, kind)
    )
    parts = {split: set(part) for split, part in chosen.items()}
    return {split: [name for name in names if name in part] for split, part in parts.items() if part}


def fits(name: str, pattern: str) -> bool:
    """Return whether a name matches a pattern with ``*``, ``?`` and ``[1-6]``, or equals it."""
    pattern = same_name(pattern)
    return name == pattern or fnmatchcase(name, pattern)


def _by_name(names: Sequence[str], split: Mapping[str, Sequence[str]], root: Path, kind: str) -> dict[str, list[str]]:
    taken: dict[str, str] = {}
    for part, patterns in split.items():
        if part not in SPLITS:
            raise InputError(f"data.split has the key {part!r}; it takes {', '.join(SPLITS)}")
        for pattern in patterns:
            matches = [name for name in names if fits(name, pattern)]
            if not matches:
                near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4)
                raise InputError(
                    f"data.split.{part} names {pattern!r}, which is no {kind} of {root}; "
                    + (f"near are {', '.join(near)}" if near else describe(root))
                )
            for name in matches:
                if taken.setdefault(name, part) != part:
                    raise InputError(
                        f"data.split puts the {kind} {name!r} into {taken[name]} and into {part}: keep one"
                    )
    return {part: [name for name in names if taken.get(name) == part] for part in split}


def _by_share(names: Sequence[str], shares: Sequence[float], seed: int, root: Path, kind: str) -> dict[str, list[str]]:
    if len(shares) != 3 or min(shares) < 0 or not abs(sum(shares) - 1) < 1e-6:
        raise InputError(f"data.split {list(shares)} must be three shares of train, val and test that sum to 1")
    # Each requested split gets at least one, even with a small share; training gets the rest.
    val, test = (max(1, round(share * len(names))) if share else 0 for share in shares[1:])
    train = len(names) - val - test
    if train < (1 if shares[0] else 0):
        raise InputError(
            f"{root} has {len(names)} {kind}s, too few for data.split {list(shares)}: add some, or give lists of names"
        )
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    return {"train": order[:train], "val": order[train : train + val], "test": order[train + val :]}
