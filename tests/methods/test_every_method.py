"""What must hold of every method, found by its experiment: a sixth one is tested the moment both are there."""

import importlib
import inspect
import io
import pkgutil
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule

import lit_thermal.experiments
import lit_thermal.methods
from lit_thermal.cli.dispatch import main
from lit_thermal.measuring.comparators import MethodComparator
from lit_thermal.methods.base import SuperResolver
from lit_thermal.weights.checkpoint import build_model

FOLDER = Path(lit_thermal.experiments.__path__[0])
for found in pkgutil.walk_packages(lit_thermal.methods.__path__, "lit_thermal.methods."):
    importlib.import_module(found.name)


def subclasses(kind: type) -> set[type]:
    """The classes below a class, at any depth."""
    return set().union(*({below} | subclasses(below) for below in kind.__subclasses__()))


METHODS = sorted(
    kind.__name__
    for kind in subclasses(SuperResolver)
    if kind.__module__.startswith("lit_thermal.") and not inspect.isabstract(kind)
)


@cache
def experiments() -> dict[str, Path]:
    """Each method with the first small experiment of it."""
    found: dict[str, Path] = {}
    for path in sorted(FOLDER.glob("*.yaml"), key=lambda path: (len(path.stem), path.stem)):
        found.setdefault(yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["class_path"], path)
    return found


@cache
def built(method: str) -> tuple[SuperResolver, dict]:
    """The model of a method's small experiment, and one sample of its validation data."""
    out = io.StringIO()
    with redirect_stdout(out):
        assert main(["fit", "-c", experiments()[method].stem, "--print_config"]) == 0
    config = yaml.safe_load(out.getvalue())
    torch.manual_seed(0)
    model = build_model(config["model"]).eval()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data", required=True)
    given = config["data"]
    given["init_args"]["num_workers"] = 0
    data = parser.instantiate(parser.parse_object({"data": given}))["data"]
    data.setup("validate")
    return model, {key: value[:1] for key, value in next(iter(data.val_dataloader())).items()}


def restored(model: SuperResolver, batch: dict) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.inference_mode():
        return model.restore(batch)


def test_every_method_has_a_small_experiment():
    assert len(METHODS) >= 5 and set(METHODS) <= set(experiments())


@pytest.mark.parametrize("method", METHODS)
def test_restoring_never_reads_the_target(method):
    model, batch = built(method)
    without = {key: value for key, value in batch.items() if key != "hr"}
    result = restored(model, without)
    assert result.shape == batch["hr"].shape and result.dtype == torch.float32
    assert result.isfinite().all() and result.min() >= 0 and result.max() <= 1
    assert torch.equal(result, restored(model, batch | {"hr": torch.full_like(batch["hr"], torch.nan)}))


@pytest.mark.parametrize("method", METHODS)
def test_every_image_method_is_a_comparator(method):
    model, batch = built(method)
    if hasattr(model, "temporal_scales"):
        pytest.skip("restores whole videos")
    result = MethodComparator(model, torch.device("cpu"))(batch["lr"], batch["name"])
    assert result.shape == batch["hr"].shape and result.isfinite().all()
    if "guide" not in batch:
        assert torch.equal(result, restored(model, batch))
