"""Metrics and protocols by name, in a test of any method."""

import json

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from lit_thermal.batch import Batch, collate
from lit_thermal.callbacks.extra_metrics import ExtraMetrics
from lit_thermal.errors import InputError
from lit_thermal.evaluation.protocols import BT601Y, CoReFusionNotebook
from lit_thermal.methods.base import SuperResolver


class Middle(SuperResolver):
    """Restores everything as gray."""

    def restore(self, batch: Batch) -> torch.Tensor:
        return torch.full_like(batch["lr"].repeat_interleave(4, -1).repeat_interleave(4, -2), 0.5)


def test_a_test_measures_what_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    samples = [{"name": "a", "lr": torch.rand(1, 8, 8), "hr": torch.rand(1, 32, 32)}]
    data = LightningDataModule()
    data.test_dataloader = lambda: DataLoader(samples, collate_fn=collate)  # type: ignore[arg-type, method-assign]
    model = Middle()
    model.protocols = (BT601Y,)
    extra = ExtraMetrics(["lpips", "musiq"], [CoReFusionNotebook, BT601Y])
    trainer = Trainer(
        default_root_dir=tmp_path, logger=False, accelerator="cpu", callbacks=[extra], enable_progress_bar=False
    )
    for _ in range(2):
        trainer.test(model, data, verbose=False)
        record = json.loads((tmp_path / "metrics.json").read_text())
        assert set(record["skipped"]) == {"lpips", "musiq", "ms_ssim"}
        assert list(record["protocol"]["others"]) == ["y_bt601", "notebook"]
        assert set(record["protocols"]["test"]["Middle"]) == {"y_bt601", "notebook"}


def test_nothing_and_nonsense_are_refused():
    with pytest.raises(InputError, match="neither metrics nor protocols"):
        ExtraMetrics()
    with pytest.raises(InputError, match="there is no metric 'muziq'"):
        ExtraMetrics(["muziq"])
