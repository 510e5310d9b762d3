"""Which metrics there are, where they apply, and why one was not measured."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from lit_thermal import metrics
from lit_thermal.batch import Radiometry
from lit_thermal.cli.dispatch import main
from lit_thermal.errors import InputError
from lit_thermal.evaluation import records, tables
from lit_thermal.evaluation.published.tables import read_tables
from lit_thermal.evaluation.scores import Scores, Targets
from lit_thermal.metrics.catalogue import CATALOGUE, QUALITY, all_metrics, by_name, on_request, shown, standard
from lit_thermal.metrics.metric import Metric, MetricInput, Unavailable
from lit_thermal.metrics.structure import multiscale_similarity
from lit_thermal.report import words

KELVIN = Radiometry(0.0, 1000.0, 16, "linear", (250.0, 0.1))


def add(scores: Scores, restored: torch.Tensor, target: torch.Tensor, *radiometry: Radiometry) -> dict[str, dict]:
    count = target.shape[:2]
    frames = torch.arange(count[1]).expand(count)
    names = [f"clip {b}" for b in range(count[0])]
    targets = Targets("d", names, frames, frames % 2 == 0, target, radiometry or [Radiometry()] * count[0])
    scores.add(targets, "M", restored)
    return scores.clips()["d"]["M"]["all"]


def test_names_are_one_each_and_unknown_ones_are_reported():
    names = [metric.name for metric in (*standard(), *on_request())]
    assert len(set(names)) == len(names) and standard()[:2] == QUALITY
    assert all(name == metric.name and metric.label for name, metric in CATALOGUE.items())
    assert all(metric.text and metric.on_request for metric in on_request())
    assert not any(metric.on_request for metric in standard())
    chosen = {metric.name: metric for metric in by_name(["tof", "lpips", "dover=x.onnx"])}
    assert [n for n, metric in chosen.items() if metric.on_request] == ["lpips", "tof", "dover"]
    assert list(chosen)[: len(standard())] == [metric.name for metric in standard()]
    for word in ("psnr_y", "tof=x", "dvoer=x.onnx"):
        with pytest.raises(
            InputError, match=f"there is no metric '{word}'; it must be one of psnr, ssim, .*dover=FILE.onnx"
        ):
            by_name([word])


def test_values_are_written_with_the_digits_of_their_record():
    assert CATALOGUE["psnr"].written(31.4159) == "31.42" and CATALOGUE["psnr"].heading == "PSNR in dB"
    assert CATALOGUE["counts_mae"].written(7.4567) == "7.46" and CATALOGUE["counts_mae"].written(745.67) == "746"
    assert shown("odd_metric").label == "Odd metric" and shown("odd_metric").direction is None


BRIGHTNESS = """
from torch import Tensor

from lit_thermal.metrics.metric import Metric, MetricInput


def brightness(inputs: MetricInput) -> Tensor:
    return (inputs.restored.mean(dim=(2, 3, 4)) - inputs.target.mean(dim=(2, 3, 4))).abs()


MADE = Metric("brightness_error", "Brightness error", "error of the mean", unit="%", decimals=1, measure=brightness)
AGAIN = MADE
"""


@pytest.fixture
def new_file(tmp_path, monkeypatch):
    """Path of a file that stands among those of the package."""
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
    yield tmp_path / "a_new_metric.py"
    sys.modules.pop("lit_thermal.metrics.a_new_metric", None)


def test_two_metrics_of_one_name_are_an_error(new_file):
    new_file.write_text(BRIGHTNESS.replace("brightness_error", "psnr"))
    with pytest.raises(InputError, match="two metrics have the name 'psnr'; rename one"):
        all_metrics()


def test_a_new_metric_is_one_file_and_appears_everywhere(new_file, tmp_path, monkeypatch, capsys):
    before = list(CATALOGUE)
    new_file.write_text(BRIGHTNESS)
    assert set(all_metrics()) - set(before) == {"brightness_error"}
    made = all_metrics()["brightness_error"]
    monkeypatch.setitem(CATALOGUE, made.name, made)
    monkeypatch.setitem(CATALOGUE, "asked_for", replace(made, name="asked_for", on_request=True))
    scores = Scores()
    target = torch.rand(1, 1, 1, 16, 16).mul(255).round() / 255
    found = add(scores, (target + 0.5).clamp(max=1), target)
    assert found["clip 0"]["brightness_error"] > 0 and "asked_for" not in found["clip 0"]
    tables.show(scores)
    assert "Brightness error in %" in capsys.readouterr().out
    records.write(scores, tmp_path, 1.0, None)
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert "brightness_error: error of the mean." in record["protocol"]["text"]
    assert "brightness_error" in (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert words.heading(shown("brightness_error")) == "Brightness error, % \N{DOWNWARDS ARROW}"
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    assert "asked_for" in capsys.readouterr().out
    paper = tmp_path / "paper.yaml"
    paper.write_text(PAPER)
    assert read_tables(paper)[0].metrics == (made,)


PAPER = """
title: Theirs
class: Theirs
protocols: {theirs: {text: as they say, channel: gray}}
tables:
  - number: Table 1
    caption: Brightness.
    protocol: theirs
    columns: {set: [brightness_error]}
    rows: [{name: ours, values: "1.5"}]
"""


def test_kelvin_where_it_is_known_and_counts_elsewhere():
    target = torch.rand(2, 1, 1, 16, 16).mul(250).round() / 1000
    found = add(Scores(), target + 0.01, target, Radiometry(0, 1000, 16), KELVIN)
    assert found["clip 0"]["counts_mae"] == pytest.approx(10, rel=1e-3) and "kelvin_mae" not in found["clip 0"]
    assert found["clip 1"]["kelvin_mae"] == pytest.approx(1, rel=1e-3) and "counts_mae" not in found["clip 1"]


def test_too_small_and_missing_are_skipped_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    calls = []

    def never(inputs: MetricInput) -> torch.Tensor:
        calls.append(1)
        raise Unavailable("never needs what is not there")

    scores = Scores(metrics=(*standard(), Metric("never", "Never", "nothing", measure=never)))
    small, large = torch.rand(1, 1, 1, 64, 64), torch.rand(1, 1, 1, 180, 177)
    add(scores, small, small)
    assert scores.skipped["ms_ssim"] == "ms_ssim needs frames of at least 176 x 176, and clip 0 is 64 x 64"
    assert "AlexNet" in scores.skipped["lpips"] and scores.skipped["never"] == "never needs what is not there"
    found = add(Scores(), large, large)
    assert found["clip 0"]["ms_ssim"] == pytest.approx(1)
    add(scores, large, large)
    assert calls == [1], "what cannot be had is asked for once"
    scores.gather()
    assert set(scores.skipped) == {"ms_ssim", "lpips", "never"}


def test_ms_ssim_is_made_of_the_maps_of_torchmetrics():
    target = torch.nn.functional.interpolate(torch.rand(2, 1, 60, 60), (180, 191), mode="bilinear")
    restored = (target + 0.1 * torch.randn(target.shape)).clamp(0, 1)
    found = multiscale_similarity(MetricInput(restored[None], target[None], [Radiometry()]))
    expected = torch.ones(2)
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        x, y = (torch.nn.functional.avg_pool2d(v, 2**scale) for v in (restored, target))
        options = {"data_range": 1.0, "reduction": "none"}
        _, contrast = structural_similarity_index_measure(x, y, return_contrast_sensitivity=True, **options)
        _, similarity = structural_similarity_index_measure(x, y, return_full_image=True, **options)
        inside = similarity[..., 5:-5, 5:-5].mean(dim=(-3, -2, -1))
        expected *= (inside if scale == 4 else contrast) ** weight
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)
    assert 0.3 < float(found.mean()) < 0.98


def test_frames_below_0_count_for_their_neighbours_alone():
    scores = Scores()
    target = torch.rand(1, 4, 1, 16, 16)
    frames = torch.tensor([[-1, 5, 6, -1]])
    scores.add(Targets("d", ["a"], frames, frames > 0, target, [Radiometry()]), "M", target)
    assert {row.frame: "temporal_difference" in row.values for row in scores.rows} == {5: True, 6: True}
    assert all("heat_residual" in row.values for row in scores.rows)
