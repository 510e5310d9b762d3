"""Exports: small models of every kind against PyTorch at other sizes, and a process that still works afterwards."""

from pathlib import Path

import pytest
import torch

from lit_thermal.cli.dispatch import main
from lit_thermal.errors import InputError
from lit_thermal.methods.base import SuperResolver
from lit_thermal.ops.local_regression import local_regression
from lit_thermal.ops.resize import resize
from lit_thermal.weights import save_model
from lit_thermal.weights.checkpoint import build_model
from lit_thermal.weights.export import export
from lit_thermal.weights.export_graphs import graph_of

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

ENCODER = {"class_path": "UnshuffleEncoder", "init_args": {"stride": 4, "widths": [4, 8], "blocks": 1}}
MODELS = {
    "PlainCNN": {"scale": 2, "width": 4, "blocks": 1},
    "CoReFusion": {
        "scale": 4,
        "guide_encoder": ENCODER,
        "thermal_encoder": ENCODER,
        "decoder": "ShuffleDecoder",
        "decoder_channels": [8, 4],
        "head": "residual",
        "base": "GuidedFilterImage",
    },
    "DifIISR": {
        "scale": 4,
        "unet": {
            "class_path": "SwinUNet",
            "init_args": {
                "width": 8,
                "multipliers": [1],
                "res_blocks": [1],
                "image_size": 16,
                "attention_sizes": [16],
                "swin_depth": 2,
                "swin_width": 8,
                "head_width": 4,
                "window": 8,
            },
        },
        "first_stage": {"class_path": "PixelSpace", "init_args": {"unshuffle": 4}},
        "condition": {"class_path": "RawLR", "init_args": {"copies": 1}},
        "sampler": "OneStep",
        "guidance": "Unguided",
    },
}


def built(method: str) -> SuperResolver:
    torch.manual_seed(0)
    model = build_model({"class_path": f"lit_thermal.{method}", "init_args": MODELS[method]}).eval()
    with torch.no_grad():
        for p in model.parameters():  # an untrained network changes nothing
            if not p.any():
                torch.nn.init.normal_(p, std=0.05)
    return model


@pytest.mark.parametrize("method", MODELS)
def test_the_process_works_after_an_export(method: str, tmp_path: Path) -> None:
    model = built(method)
    graph = graph_of(model)
    inputs = graph.example(1, 3, 4)
    before = graph(*inputs)
    exported = export(model, tmp_path / "a.pt2", "torch")
    # the variances of a guided filter are differences of near numbers, which rounding changes
    most = 1e-3 if method == "CoReFusion" else 1e-5
    assert all(check.error < most for check in exported.checks) and (tmp_path / "a.pt2").is_file()
    torch.testing.assert_close(graph(*inputs), before, rtol=0, atol=0)
    model.train()
    assert type(model) is not SuperResolver
    graph(*inputs).sum().backward()  # nothing that training needs was replaced by a fake tensor


@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m in MODELS if m != "PlainCNN"])
def test_onnx_of_every_kind(method: str, tmp_path: Path) -> None:
    exported = export(built(method), tmp_path / "a.onnx")
    assert all(check.error < 1e-3 for check in exported.checks)


def test_the_verb_prints_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(built("PlainCNN"), tmp_path / "a.ckpt")
    target = tmp_path / "a.onnx"
    assert main(["export", str(tmp_path / "a.ckpt"), "--out", str(target)]) == 0
    out = capsys.readouterr().out
    assert out.count("largest error against PyTorch for") == 2 and "any height and width" in out
    import onnxruntime

    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["scale"] == "2"
    restored = session.run(None, {"lr": torch.rand(1, 1, 7, 9).numpy()})[0]
    assert restored.shape == (1, 1, 14, 18)
    assert main(["export", str(tmp_path / "a.ckpt"), "--out", str(target)]) == 2
    assert "exists: choose another name or give --overwrite" in capsys.readouterr().err


def test_methods_that_cannot_be_exported_say_why() -> None:
    class ThreeMTI(SuperResolver):
        """Stand-in with the name of the method."""

    with pytest.raises(InputError, match="ThreeMTI cannot be exported as one graph, because prompts pass a text"):
        graph_of(ThreeMTI())
    model = built("DifIISR")
    model.drawing.samples = 4
    with pytest.raises(InputError, match=r"set model\.sampler to OneStep, model\.samples to 1"):
        graph_of(model)


@pytest.mark.parametrize("border", ["symmetric", "replicate"])
@pytest.mark.parametrize("kernel", ["cubic", "linear", "nearest"])
def test_resizing_in_an_export_is_the_same(kernel: str, border: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(2, 1, 12, 18)
    sizes = [(24, 36), (48, 72), (4, 6), (6, 9)]
    expected = [resize(x, size, kernel=kernel, border=border) for size in sizes]
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for size, result in zip(sizes, expected, strict=True):
        torch.testing.assert_close(resize(x, size, kernel=kernel, border=border), result, rtol=0, atol=2e-6)


def test_regression_in_an_export_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, guide = torch.rand(2, 1, 9, 11), torch.rand(2, 3, 9, 11)
    expected = local_regression(x, guide, 1, 1e-4)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for ours, theirs in zip(local_regression(x, guide, 1, 1e-4), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
