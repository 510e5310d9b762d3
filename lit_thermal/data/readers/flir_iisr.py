"""FLIR-IISR: real thermal pairs with a second exposure, out of focus or in motion, as the input."""

import csv
import io
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lit_thermal.batch import Batch
from lit_thermal.data.datamodules.image_data import ImageSplit
from lit_thermal.data.datamodules.image_samples import WholeImages
from lit_thermal.data.datamodules.sample import Sample
from lit_thermal.data.degradations.degradation import PillowBicubic
from lit_thermal.data.degradations.misalignment import Aligned
from lit_thermal.data.formats.frames import read_header
from lit_thermal.data.readers.folder_reader import FolderReader, part_of, spelled
from lit_thermal.data.readers.image_triplets import ImageFiles, ImageTriplet, match_files
from lit_thermal.errors import InputError, reading
from lit_thermal.files import same_name
from lit_thermal.ops.registration import register
from lit_thermal.plain_files import read_text

_log = logging.getLogger(__name__)

LABELS = "labels.csv"
"""File in the root with labels of images, such as their content and the blur of their inputs."""
_RESERVED = frozenset({"all", "observed", "interpolated"})
"""Groups that every table has."""


class FLIRIISR(FolderReader):
    """Real pairs of a 1024x768 camera: `HR` in focus, `LR` of equal names out of focus or with motion; 1,457 pairs.

    The inputs are files at 1/`scale` of the target, as in the authors' test set of 512x512, or at its full size, as in
    their training code. This is detected for each pair by its sizes, and full-size inputs are reduced by Pillow's
    bicubic, as the authors do. Inputs without a target are only for `predict`; they are treated like the pairs.

    There is no published split. The part of a name before its last underscore is treated as one scene, which shares
    keep in one split.

    A test measures both registered and unregistered: camera and focus move the second exposure by up to 14 pixels, and
    one displacement for each pair is estimated from its input and target only (`register`). If the root has a
    `labels.csv`, the test also measures by group: its column `name` has the names of images without suffix, and every
    other column has labels of one kind, such as `blur` and `scene`; several are separated by semicolons.

    Args:
        root: folder that contains `HR` and `LR`.
        scale: factor by which the target is wider and higher than the input.
        split: shares of train, val and test, or the names of each one's images (`GuidedFolder`); [0, 0, 1] tests on all
            images, which suits the authors' test set.
        split_seed: seed of the random division by shares.
        registration: whether a test also measures registered results.
        options: arguments of `FolderReader` and `ImageData` that do not concern the guide.

    Source: Zou et al., "Toward Real-world Infrared Image Super-Resolution: A Unified Autoregressive Framework and
    Benchmark Dataset", CVPR 2026.
    """

    data_name = "flir_iisr"
    tree = "{HR,LR}/*.png (or .tif, .jpg), LR at the size of HR or at 1/scale of it"
    input_files = True

    def __init__(
        self,
        root: str,
        scale: int = 4,
        split: dict[str, list[str]] | Sequence[float] = (0.72, 0.1, 0.18),
        split_seed: int = 0,
        registration: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(root, scale=scale, guided=False, misalignment=Aligned, **options)
        self.split, self.split_seed, self.registration = split, split_seed, registration
        self._full = False
        """Whether all pairs have inputs of full size, so that an input without a target is treated as one too."""

    def find(self, split: ImageSplit) -> dict[str, ImageTriplet]:
        """Return the pairs of a split; "predict" gives the test images if the lists lack it, and unpaired inputs."""
        inputs = self._listed("LR")
        folder = spelled(self.root, "HR")
        targets = self._listed("HR") if folder.is_dir() or split != "predict" else {}
        if lacking := [name for name in targets if name not in inputs]:
            more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
            raise InputError(
                f"images of {folder} and {spelled(self.root, 'LR')} that belong together must have the same name, "
                f"but there is no input of {', '.join(lacking[:5])}{more}: add or rename files"
            )
        pairs = {name: ImageTriplet(targets[name], inputs[name], None) for name in targets}
        lone = {name: ImageTriplet(None, path, None) for name, path in inputs.items() if name not in targets}
        if split == "predict":
            self._full = bool(pairs) and all(self._of_full_size(files) for files in pairs.values())
            return (self._divided(pairs, split) if pairs else {}) | lone
        if lone:
            _log.info("inputs of %s without a target: %d (%s)", self.data_name, len(lone), ", ".join(list(lone)[:5]))
        return self._divided(pairs, split)

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Return loaders of whole test images under each condition, with groups and, if requested, displacements."""
        images = LabelledPairs(self._images("test"), self._labels(), self.registration)
        return self._test_loaders(images)

    def _listed(self, kind: str) -> dict[str, Path]:
        """Return the images of `HR` or `LR` by name."""
        folder = spelled(self.root, kind)
        found = match_files(ImageTriplet(folder, None, None), expected=self.expected)
        return {name: files.hr for name, files in found.items() if files.hr is not None}

    def _divided(self, pairs: dict[str, ImageTriplet], split: ImageSplit) -> dict[str, ImageTriplet]:
        """Return the pairs of a split; if the splits are given as shares, whole scenes are assigned to them."""
        if isinstance(self.split, Mapping):
            return part_of(pairs, split, self.split, self.split_seed, self.root)
        scenes: dict[str, dict[str, ImageTriplet]] = {}
        for name, files in pairs.items():
            scenes.setdefault(name.rsplit("_", 1)[0], {})[name] = files
        firsts = {scene: next(iter(found.values())) for scene, found in scenes.items()}
        chosen = part_of(firsts, split, self.split, self.split_seed, self.root)
        return {name: files for scene in chosen for name, files in scenes[scene].items()}

    def _open(self, name: str, files: ImageTriplet, split: ImageSplit) -> ImageFiles:
        if not self._of_full_size(files):
            return super()._open(name, files, split)
        if split == "predict":
            files = replace(files, hr=None)
        whole = ImageFiles.open(name, files, scale=1, missing_lr=False, normalize=self.normalize)
        return FullSizeInput(**vars(whole), scale=self.scale)

    def _of_full_size(self, files: ImageTriplet) -> bool:
        """Return whether the input of a pair is as large as its target."""
        if files.hr is None or files.lr is None:
            return self._full
        return self.scale > 1 and read_header(files.hr)[:2] == read_header(files.lr)[:2]

    def _labels(self) -> dict[str, list[str]]:
        """Return the groups of each image that `labels.csv` names.

        Raises:
            InputError: the file cannot be read, has no column `name`, names none of the images, or has a label that is
                a group of every table.
        """
        path = self.root / LABELS
        if not os.path.lexists(path):
            return {}
        advice = "remove it"
        text = read_text(path, "a table of labels", advice)
        with reading(path, "a table of labels", advice):
            reader = csv.DictReader(io.StringIO(text), restkey="", restval="")
            head, rows = reader.fieldnames or [], list(reader)
        if "name" not in head:
            raise InputError(f"{path} has no column 'name': its first line must be such as name,blur,scene")
        if len(set(head)) < len(head):
            raise InputError(f"{path} has two columns of the same name: rename one")
        found: dict[str, list[str]] = {}
        for row in rows:
            cells = [cell for column, cell in row.items() if column and column != "name"]
            labels = [label.strip() for cell in cells for label in cell.split(";") if label.strip()]
            if taken := _RESERVED.intersection(labels):
                raise InputError(f"{path} has the label {min(taken)!r}, which tables use themselves: rename it")
            known = found.setdefault(same_name(row["name"].strip()), [])
            known += [label for label in dict.fromkeys(labels) if label not in known]
        images = self._listed("HR")
        if found and not found.keys() & set(map(same_name, images)):
            raise InputError(
                f"{path} names {next(iter(found))} and none of the images, such as {next(iter(images))}: give the "
                "names of files without suffix"
            )
        return found


@dataclass(frozen=True)
class FullSizeInput(ImageFiles):
    """A pair with an input file of the target's size; the input is reduced to 1/`scale` of its size when it is read.

    Attributes:
        scale: factor by which the input is reduced.
    """

    scale: int

    def read(self) -> Sample:
        """Decode the files and reduce the input by Pillow's bicubic, in the depth of the file."""
        sample = super().read()
        assert sample.lr is not None
        rows, columns = (slice(length - length % self.scale) for length in sample.lr.shape)
        levels = np.iinfo(sample.lr.dtype).max
        values = torch.from_numpy(sample.lr[rows, columns].astype(np.float64) / levels)[None]
        small = PillowBicubic(self.bits)(values, scale=self.scale, seed=0)[0]
        counts = (small * levels).round().numpy().astype(sample.lr.dtype)
        return replace(sample, lr=counts, hr=None if sample.hr is None else sample.hr[rows, columns])


class LabelledPairs(Dataset[dict[str, Any]]):
    """Whole images with their groups and, if requested, the displacements of their targets."""

    def __init__(self, images: WholeImages, labels: Mapping[str, Sequence[str]], registration: bool) -> None:
        self.images, self.labels, self.registration = images, labels, registration

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample of `WholeImages` with `groups` and `displacement`."""
        sample = self.images[index]
        if self.labels:
            sample["groups"] = list(self.labels.get(same_name(sample["name"]), ()))
        if self.registration:
            sample["displacement"] = torch.tensor(register(sample["lr"], sample["hr"]))
        return sample
