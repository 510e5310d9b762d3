"""Quality without a target: pyiqa's place taken by a stand-in, DOVER's network by a tiny one of the same inputs."""

import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.evaluation.scores import TARGET, Scores, Targets
from lit_thermal.metrics import no_reference
from lit_thermal.metrics.catalogue import by_name
from lit_thermal.metrics.metric import MetricInput, Unavailable
from lit_thermal.metrics.no_reference import by_pyiqa, dover


def metric_input(video: Tensor) -> MetricInput:
    return MetricInput(video, torch.zeros_like(video), [Radiometry()] * len(video))


@pytest.fixture
def pyiqa(tmp_path, monkeypatch):
    """A pyiqa that measures brightness, and the weights' folder."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    package, utils, download = (ModuleType(n) for n in ("pyiqa", "pyiqa.utils", "pyiqa.utils.download_util"))
    download.DEFAULT_CACHE_DIR = str(tmp_path / "pyiqa")
    made = []

    def create_metric(name, device):
        made.append((name, str(device)))

        def measure(image):
            assert image.shape[:2] == (1, 3) and (image[:, :1] == image).all()
            return image.mean()[None, None] + 0 * torch.rand(1)

        return measure

    package.create_metric = create_metric
    for module in (package, utils, download):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    (tmp_path / "pyiqa").mkdir()
    (tmp_path / "clip").mkdir()
    yield tmp_path, made
    no_reference._created.cache_clear()


def test_frames_go_to_pyiqa_as_three_channels(pyiqa):
    folder, made = pyiqa
    (folder / "pyiqa" / "musiq_koniq_ckpt-e95806b9.pth").touch()
    video = torch.rand(2, 3, 1, 8, 9)
    state = torch.random.get_rng_state()
    found = by_pyiqa("musiq")(metric_input(video))
    assert torch.equal(torch.random.get_rng_state(), state), "what the metric draws is its own"
    torch.testing.assert_close(found, video.mean(dim=(-3, -2, -1)))
    by_pyiqa("musiq")(metric_input(video))
    assert made == [("musiq", "cpu")]


def test_missing_weights_and_a_missing_package_are_named(pyiqa, monkeypatch):
    folder, _ = pyiqa
    video = torch.rand(1, 1, 1, 8, 9)
    with pytest.raises(Unavailable, match=rf"clip_iqa needs the weights RN50.pt: .* into {folder}/clip"):
        by_pyiqa("clip_iqa")(metric_input(video))
    (folder / "pyiqa" / "ckpt_koniq10k.pt").touch()
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(Unavailable, match="maniqa needs timm's vit_base_patch8_224 in addition to its weights"):
        by_pyiqa("maniqa")(metric_input(video))
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    monkeypatch.setitem(sys.modules, "pyiqa.utils.download_util", None)
    with pytest.raises(Unavailable, match=r"musiq needs pyiqa: pip install"):
        by_pyiqa("musiq")(metric_input(video))


def test_the_target_has_a_row_of_its_own(pyiqa):
    folder, _ = pyiqa
    (folder / "pyiqa" / "musiq_koniq_ckpt-e95806b9.pth").touch()
    scores = Scores(metrics=by_name(["musiq", "clip_iqa"]))
    target = torch.full((1, 1, 1, 16, 16), 0.4)
    zero = torch.zeros(1, 1, dtype=torch.long)
    for method, value in (("Ours", 0.6), ("bilinear", 0.2)):
        targets = Targets("d", ["a"], zero, zero == 0, target, [Radiometry()])
        scores.add(targets, method, torch.full_like(target, value))
    summary = scores.summary()["d"]
    assert {m: round(found["all"]["musiq"], 4) for m, found in summary.items()} == {"Ours": 0.6, "bilinear": 0.2}
    assert scores.references() == {"d": {TARGET: {"musiq": pytest.approx(0.4)}}}
    assert scores.baselines == ["bilinear"] and "clip_iqa needs the weights" in scores.skipped["clip_iqa"]


def tiny_dover(path: Path, views: int | str = "n") -> Path:
    """Aesthetic score: the mean of its view; technical: of its views."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shapes = {"aes_view": [1, 3, 32, 224, 224], "tech_view": [views, 3, 32, 224, 224]}
    inputs = [helper.make_tensor_value_info(n, kind, s) for n, s in shapes.items()]
    outputs = [helper.make_tensor_value_info(n, kind, [None]) for n in ("a", "t")]
    axes = helper.make_tensor("axes", onnx.TensorProto.INT64, [4], [1, 2, 3, 4])
    nodes = [
        helper.make_node("ReduceMean", [view, "axes"], [out], keepdims=0)
        for view, out in (("aes_view", "a"), ("tech_view", "t"))
    ]
    graph = helper.make_graph(nodes, "dover", inputs, outputs, [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


def test_dover_fuses_the_scores_of_its_two_views(tmp_path):
    pytest.importorskip("onnxruntime")
    gray = 0.45
    mean = np.mean((255 * gray - np.array([123.675, 116.28, 103.53])) / np.array([58.395, 57.12, 57.375]))
    fused = 0.6104 * (mean - 0.1107) / 0.07355 + 0.3896 * (mean + 0.08285) / 0.03774
    video = torch.full((1, 5, 1, 40, 60), gray)
    for views in ("n", 4):
        found = dover(tiny_dover(tmp_path / f"dover{views}.onnx", views))(metric_input(video))
        assert found.shape == (1, 5)
        assert found[0].tolist() == pytest.approx([1 / (1 + math.exp(-fused))] * 5, rel=5e-3)
    assert dover(tmp_path / "dovern.onnx")(metric_input(video * torch.nan)).isnan().all()
    no_reference._opened.cache_clear()


def test_the_views_are_whole_frames_and_patches_of_full_resolution():
    clip = torch.arange(8.0)[:, None, None].expand(8, 448, 448).clone() / 10
    clip[:, 32:64, :] += 0.05  # within the first row of cells, which are 64 high: the patch is rows 16 to 48
    aesthetic = no_reference._aesthetic(clip, 4)
    assert aesthetic.shape == (1, 3, 4, 224, 224)
    first = (aesthetic[0, 0, :, 200, 0] * 58.395 + 123.675) / 255
    assert first.tolist() == pytest.approx([0, 0.2, 0.4, 0.6], abs=1e-4)
    technical = no_reference._technical(clip, 2, 3)
    assert technical.shape == (2, 3, 3, 224, 224)
    values = (technical[:, 0] * 58.395 + 123.675) / 255
    assert values[..., 100, 0].tolist() == [
        pytest.approx([0, 0.2, 0.4], abs=1e-4),
        pytest.approx([0.4, 0.6, 0.0], abs=1e-4),
    ]
    assert values[0, 0, [0, 15, 16, 31], 0].tolist() == pytest.approx([0, 0, 0.05, 0.05], abs=1e-4)


def test_a_dover_that_is_none_is_one_sentence(tmp_path):
    pytest.importorskip("onnxruntime")
    inputs = metric_input(torch.rand(1, 2, 1, 8, 9))
    with pytest.raises(Unavailable, match=r"give the ONNX file as dover=FILE \(non-commercial licence\)"):
        dover(None)(inputs)
    with pytest.raises(Unavailable, match="there is no file"):
        dover(tmp_path / "none.onnx")(inputs)
    (tmp_path / "damaged.onnx").write_bytes(b"no network")
    with pytest.raises(Unavailable, match="dover cannot be read from"):
        dover(tmp_path / "damaged.onnx")(inputs)
