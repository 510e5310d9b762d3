"""Restored images and frames of `predict` as files with the name, format and bit depth of their inputs."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from lit_thermal.batch import Batch, Radiometry, need
from lit_thermal.data.formats.frames import LOSSY, write_frame
from lit_thermal.data.formats.sidecar import write_scale
from lit_thermal.data.formats.tags import read_tags, restored_name
from lit_thermal.errors import InputError
from lit_thermal.files import check_name

_log = logging.getLogger(__name__)


class PredictionWriter(BasePredictionWriter):
    """Writes each restored image or frame under the name of its input, with values mapped back to the source's counts.

    Images go to `predictions/<name>` in the run's folder, with the tags of their input. TIFF, PNG and BMP keep their
    format; other formats, such as JPEG, become PNG, which is lossless. If the temperatures of 16-bit images are known,
    a JSON file of the same name says how counts become Kelvin (`lit_thermal.data.formats.sidecar`). Video frames go to
    `predictions/<clip>/<frame>.png`, or .tif if the input frames are TIFF, numbered in target frames from 0. A frame
    that several windows restore is written once, from the first window that gives it a number other than -1.

    Each frame is written at once and not kept in memory. All file names are checked before the first frame is restored.

    Args:
        folder: folder of the results in place of `predictions`; empty for that one.
    """

    def __init__(self, folder: str = "") -> None:
        super().__init__(write_interval="batch")
        self.folder = folder
        self._written: set[str] = set()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that all output names are valid file names and differ.

        Raises:
            InputError: a name is not a valid file name, or two inputs would be written to one file.
        """
        self._written.clear()
        data = trainer.datamodule  # type: ignore[attr-defined]
        planned: Sequence[tuple[str, Path | None]] = data.outputs() if hasattr(data, "outputs") else ()
        check_names([name for name, _ in planned], Path(trainer.default_root_dir))
        if trainer.is_global_zero and any(path is not None and path.suffix.lower() in LOSSY for _, path in planned):
            _log.info("restored JPEG images are written as PNG, which is lossless, with their EXIF data")

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the frames of a batch.

        Args:
            trainer: trainer, which knows the run's folder.
            pl_module: not used.
            prediction: (B, T', 1, H, W) or (B, 1, H, W), values in [0, 1].
            batch_indices: not used.
            batch: batch with `name` and, optionally, `source`, `frame` and `radiometry`.
            batch_idx: not used.
            dataloader_idx: not used.

        Raises:
            InputError: a file cannot be written, or two images have the same name.
        """
        need(batch, "name", by="writing predictions")
        folder = Path(self.folder or Path(trainer.default_root_dir, "predictions"))
        radiometry = batch.get("radiometry", [Radiometry()] * len(prediction))
        sources: Sequence[Path | None] = batch.get("source", [None] * len(prediction))
        for index, (name, source) in enumerate(zip(batch["name"], sources, strict=True)):
            if prediction.ndim == 4:
                self._write_image(folder, name, source, prediction[index].float(), radiometry[index])
                continue
            check_name(name)
            suffix = ".tif" if source is not None and source.suffix.lower() in (".tif", ".tiff") else ".png"
            numbers: Any = batch.get("frame", torch.arange(prediction.shape[1]).expand(len(prediction), -1))
            for number, values in zip(numbers[index].tolist(), prediction[index], strict=True):
                path = folder / name / f"{number:06d}{suffix}"
                # Only this run writes to its folder: a file that exists comes from an earlier window.
                if number >= 0 and not path.exists():
                    write_frame(path, values.float(), radiometry[index])

    def _write_image(
        self, folder: Path, name: str, source: Path | None, values: Tensor, radiometry: Radiometry
    ) -> None:
        file = restored_name(name, source)
        check_name(file)
        if file in self._written:
            raise InputError(f"two images would be written to {folder / file}: give them different names")
        self._written.add(file)
        tags = None if source is None else read_tags(source, (values.shape[-2], values.shape[-1]))
        write_frame(folder / file, values, radiometry, tags)
        if source is not None and radiometry.unit != "counts" and radiometry.bits == 16:
            write_scale(folder / file, radiometry)


def check_names(names: Sequence[str], folder: Path) -> None:
    """Check that files with these names can exist in one folder, before any of them is created.

    Args:
        names: names of the files to write.
        folder: existing folder on the file system of the files.

    Raises:
        InputError: a name is not a valid file name, or the file system does not distinguish two of them.
    """
    for name in names:
        check_name(name)
    exact: set[str] = set()
    folded: dict[str, str] = {}
    for name in names:
        if name in exact:
            raise InputError(f"two images would be written to {name}: give them different names")
        exact.add(name)
        other = folded.setdefault(name.casefold(), name)
        if other != name and not _tells_case(folder):
            raise InputError(
                f"{other} and {name} differ only in case, which the file system of {folder} does not distinguish: "
                "rename one or choose another place by trainer.default_root_dir"
            )


def _tells_case(folder: Path) -> bool:
    """Return whether a file system distinguishes upper and lower case, tested with a temporary file."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".CASE-", suffix=".part") as probe:
            path = Path(probe.name)
            return not path.with_name(path.name.replace(".CASE-", ".case-")).exists()
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror or error}): choose another place") from error
