"""`evaluate`: files of any program, measured as a test measures its own method."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.frames import write_frame
from lit_thermal.evaluation.baselines import image_baselines, video_baselines
from lit_thermal.metrics import psnr, quantize
from lit_thermal.metrics.quality import as_written

CONFIG = """experiment: toy
model: {class_path: StandIn, init_args: {scale: 2}}
data: {class_path: ImageFolder, init_args: {root: data, scale: 2, num_workers: 0}}
trainer: {max_steps: 2, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false, logger: false}
"""
NARROW = Radiometry(20000.0, 3000.0, 16)


def smooth(seed: int, *shape: int) -> torch.Tensor:
    coarse = torch.rand(1, 1, 4, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, shape, mode="bilinear")[0]


def write(path: Path, values: torch.Tensor, radiometry: Radiometry = Radiometry()) -> None:  # noqa: B008
    path.parent.mkdir(parents=True, exist_ok=True)
    write_frame(path, values, radiometry)


def images(root: Path, count: int = 3, radiometry: Radiometry = Radiometry()) -> None:  # noqa: B008
    """`hr` of 24 x 28, `lr` of half of it, and two programs: `good` and `bad`."""
    for i in range(count):
        hr = smooth(i, 24, 28)
        write(root / "hr" / f"{i}.png", hr, radiometry)
        write(root / "lr" / f"{i}.png", torch.nn.functional.avg_pool2d(hr, 2), radiometry)
        for name, level in (("good", 0.02), ("bad", 0.06)):
            noise = level * (1 + 0.1 * i) * torch.randn(hr.shape, generator=torch.Generator().manual_seed(9 + i))
            write(root / name / f"{i}.png", (hr + noise).clamp(0, 1), radiometry)


def record(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def rows(folder: Path, method: str) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as table:
        return [row | {"dataset": ""} for row in csv.DictReader(table) if row["method"] == method]


@pytest.mark.parametrize("radiometry", [Radiometry(), NARROW])
def test_files_of_a_run_have_the_numbers_of_its_test(folder, run, radiometry):
    (folder / "toy.yaml").write_text(CONFIG)
    for split in ("train", "val", "test"):
        images(folder / "data" / split, radiometry=radiometry)
    found = run("test", "-c", "toy.yaml")
    assert found.code == 0, found.err
    assert run("predict", "-c", "toy.yaml").code == 0
    tested = next(folder.glob("runs/toy/*test*/metrics.json")).parent
    restored = next(folder.glob("runs/toy/*/predictions"))
    words = ("--pred", f"StandIn={restored}", "--hr", "data/test/hr", "--lr", "data/test/lr", "--out", "out")
    found = run("evaluate", *words)
    assert found.code == 0, found.err
    for method in ("StandIn", "bicubic (a=-0.5)", "nearest"):
        assert rows(folder / "out", method) == rows(tested, method) != []
    ours, theirs = (record(path)["results"] for path in (folder / "out", tested))
    assert next(iter(ours.values()))["StandIn"] == next(iter(theirs.values()))["StandIn"]
    assert "StandIn" in found.out and "error in counts" in found.out


def test_programs_are_compared_with_the_first_and_under_protocols(folder, run):
    images(folder, 6)
    words = ["--pred", "good", "bad", "--hr", "hr", "--lr", "lr", "--protocol", "y_bt601", "notebook", "--out", "out"]
    found = run("evaluate", *words, "--name", "toys")
    assert found.code == 0, found.err
    written = record(folder / "out")
    results = written["results"]["toys"]
    assert list(results)[:2] == ["good", "bad"] and "nearest" in results and written["method"] == "good"
    paired = written["paired"]["others"]["toys"]["bad"]
    gap = results["good"]["all"]["psnr"] - results["bad"]["all"]["psnr"]
    assert paired["psnr"]["difference"] == pytest.approx(gap) and gap > 5
    assert 0 < paired["psnr"]["low"] < gap < paired["psnr"]["high"] and paired["psnr"]["count"] == 6
    assert paired["psnr"]["p_value"] == pytest.approx(2 / 2**6)
    assert "toys: good minus each of the others" in found.out and f"{gap:+.2f} [" in found.out
    luma = written["protocols"]["toys"]["good"]["y_bt601"]["psnr"]
    assert luma - results["good"]["all"]["psnr"] == pytest.approx(20 * math.log10(255 / 219), abs=1e-4)
    nearest = image_baselines(torch.tensor(np.array(Image.open("lr/0.png")) / 255)[None, None].float(), 2)["nearest"]
    target = torch.tensor(np.array(Image.open("hr/0.png")) / 255)[None, None].float()
    expected = float(psnr(quantize(nearest, 255), target))
    assert float(rows(folder / "out", "nearest")[0]["psnr"]) == pytest.approx(expected, abs=1e-4)
    assert written["sources"]["good"] == "good" and written["cost"] is None
    assert set(written["intervals"]["toys"]["good"]["all"]) == set(results["good"]["all"])


def test_three_equal_channels_are_gray(folder, run):
    images(folder, 1)
    Path("colour").mkdir()
    Image.open("good/0.png").convert("RGB").save("colour/0.png")
    assert run("evaluate", "--pred", "good", "colour", "--hr", "hr", "--out", "out").code == 0
    both = record(folder / "out")["results"][folder.name]
    assert both["good"] == both["colour"]


def test_files_that_do_not_pair_are_reported_in_one_sentence(folder, run):
    images(folder, 5)
    Path("good/3.png").rename("good/x.png")
    Path("good/4.png").unlink()
    found = run("evaluate", "--pred", "good", "--hr", "hr")
    assert found.code == 2
    assert "error: good lacks 2 of 5 (3, 4) and good has 1 without a target (x); make them the same, or" in found.err
    found = run("evaluate", "--pred", "good", "--hr", "hr", "--common", "--out", "out")
    assert found.code == 0 and "measuring the 3 that all folders have: good lacks 2 of 5" in found.out
    assert record(folder / "out")["data"][folder.name]["names"] == ["0", "1", "2"]
    write(Path("good/1.png"), smooth(0, 24, 20))
    write(Path("good/2.png"), smooth(0, 24, 28), NARROW)
    found = run("evaluate", "--pred", "good", "--hr", "hr", "--common")
    assert (
        "2 files differ from their targets: 1 of good is 20x24 of 8 bit and its target 28x24 of 8 bit; 2 of"
        in found.err
    )
    write(Path("lr/0.png"), smooth(0, 12, 13))
    found = run("evaluate", "--pred", "bad", "--hr", "hr", "--lr", "lr")
    assert found.code == 2 and "the target of 0 is 28x24 and its input 13x12, but it must be larger by" in found.err


def test_words_that_make_no_sense_are_one_sentence(folder, run):
    images(folder, 1)
    for words, message in (
        (("--hr", "hr"), "nothing to measure; give --pred DIR, or --comparator FILE with --lr DIR"),
        (("--hr", "hr", "--comparator", "x.pth"), "give the folder of the inputs with --lr"),
        (("--hr", "hr", "--pred", "good", "good"), "two methods have the name good"),
        (("--hr", "none", "--pred", "good"), "there is no folder none"),
        (("--hr", "hr", "--pred", "good", "--metrics", "lpisp"), "there is no metric 'lpisp'"),
        (("--hr", "hr", "--pred", "good", "--protocol", "y"), "there is no protocol 'y'"),
        (("--hr", "hr", "--pred", "good", "--lr", "lr", "--two_stage", "x"), "--two_stage is for videos"),
        (("--hr", "hr", "--lr", "lr", "--comparator", "x.pth"), "there is no file x.pth"),
    ):
        found = run("evaluate", *words)
        assert (found.code, found.err.count("\n")) == (2, 1) and message in found.err, found.err


def compact(path: Path, upscale: int) -> torch.nn.Module:
    """Random weights of an architecture that spandrel knows."""
    pytest.importorskip("spandrel")
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    torch.manual_seed(0)
    network = SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=4, num_conv=1, upscale=upscale).eval()
    torch.save({"params": network.state_dict()}, path)
    return network


def test_networks_of_others_restore_the_inputs(folder, run):
    images(folder, 2)
    network = compact(folder / "toy_x2.pth", 2)
    found = run("evaluate", "--comparator", "compact=toy_x2.pth", "--hr", "hr", "--lr", "lr", "--out", "out")
    assert found.code == 0, found.err
    with torch.no_grad():
        for i, row in enumerate(rows(folder / "out", "compact")):
            lr, hr = (
                torch.tensor(np.array(Image.open(f"{k}/{i}.png")) / 255).float()[None, None] for k in ("lr", "hr")
            )
            output = network(lr.expand(-1, 3, -1, -1)).clamp(0, 1).mean(dim=1, keepdim=True)
            assert float(row["psnr"]) == pytest.approx(float(psnr(quantize(output, 255), hr)), abs=1e-3)
    cost = record(folder / "out")["cost"]
    assert cost["parameters"] == sum(p.numel() for p in network.parameters()) and cost["seconds_per_image"] > 0
    compact(folder / "toy_x4.pth", 4)
    found = run("evaluate", "--pred", "good", "--comparator", "toy_x4.pth", "--hr", "hr", "--lr", "lr")
    assert "toy_x4.pth holds RealESRGAN Compact of scale 4, and the targets are 2 times as large" in found.err


class Payload:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("ran"),))


def test_weights_that_could_run_code_or_fit_nothing_are_refused(folder, run):
    pytest.importorskip("spandrel")
    images(folder, 1)
    torch.save({"params": Payload()}, "unsafe.pth")
    torch.save({"a": torch.zeros(3)}, "unknown.pth")
    Path("damaged.safetensors").write_bytes(b"nothing")
    for file, message in (
        ("unsafe.pth", "unsafe.pth holds more than tensors and plain values and is refused"),
        ("unknown.pth", "spandrel knows no architecture that fits the weights in unknown.pth"),
        ("damaged.safetensors", "damaged.safetensors cannot be read"),
    ):
        found = run("evaluate", "--comparator", file, "--hr", "hr", "--lr", "lr")
        assert found.code == 2 and message in found.err, found.err
    assert not Path("ran").exists()


def test_a_checkpoint_of_ours_restores_the_inputs(folder, run):
    (folder / "toy.yaml").write_text(CONFIG)
    for split in ("train", "val", "test"):
        images(folder / "data" / split)
    assert run("fit", "-c", "toy.yaml", "--data.crop=4", "--data.batch_size=1").code == 0
    checkpoint = next(folder.glob("runs/toy/*/checkpoints/last.ckpt"))
    assert run("test", "-c", "toy.yaml", "--ckpt_path", str(checkpoint)).code == 0
    tested = next(folder.glob("runs/toy/*test*/metrics.json")).parent
    assert record(tested)["cost"]["training_steps"] == 2 and record(tested)["cost"]["training_seconds"] > 0
    words = ("--hr", "data/test/hr", "--lr", "data/test/lr", "--out", "out")
    assert run("evaluate", "--comparator", f"StandIn={checkpoint}", *words).code == 0
    assert rows(folder / "out", "StandIn") == rows(tested, "StandIn")


def videos(root: Path, frames: int = 21) -> torch.Tensor:
    """Two clips of targets, inputs of every second frame, and a program that blurs in time; returns the first clip."""
    clips = []
    for seed in range(2):
        a, b = smooth(seed, 24, 28), smooth(seed + 5, 24, 28)
        clip = torch.stack([a + (b - a) * (t / frames) ** 2 for t in range(frames)])
        clip = quantize(clip, 255)
        for t, frame in enumerate(clip):
            write(root / "hr" / f"clip{seed}" / f"{t}.png", frame)
            write(root / "program" / f"clip{seed}" / f"{t:06d}.png", (frame + 0.02 * (-1) ** t).clamp(0, 1))
            if t % 2 == 0:
                write(root / "lr" / f"clip{seed}" / f"{t:03d}.png", torch.nn.functional.avg_pool2d(frame, 2))
        clips.append(clip)
    return clips[0]


def test_videos_are_measured_frame_by_frame_across_chunks(folder, run):
    clip = videos(folder)
    compact(folder / "toy.pth", 2)
    words = ("--pred", "program", "--two_stage", "toy.pth", "--hr", "hr", "--lr", "lr", "--out", "out")
    found = run("evaluate", *words, "--metrics", "tof")
    assert found.code == 0, found.err
    written = record(folder / "out")
    data = written["data"][folder.name]
    assert (data["clips"], data["all"], data["observed"], data["interpolated"]) == (2, 42, 22, 20)
    table = {(r["clip"], r["group"]): r for r in rows(folder / "out", "program")}
    program = torch.stack([torch.tensor(np.array(Image.open(f"program/clip0/{t:06d}.png"))) for t in range(21)])
    program = (program / 255)[None, :, None].float()
    ours = table["clip0", "all"]
    assert float(ours["psnr"]) == pytest.approx(float(psnr(program, clip[None]).mean()), abs=1e-3)
    flicker = (program.diff(dim=1) - clip[None].diff(dim=1)).abs().mean()
    assert float(ours["temporal_difference"]) == pytest.approx(float(flicker), rel=1e-4)
    assert "tof" in ours and "toy" in written["results"][folder.name]
    lr = torch.stack([torch.tensor(np.array(Image.open(f"lr/clip0/{t:03d}.png"))) for t in range(0, 21, 2)])
    times = torch.arange(21)[None] / 2
    blend = video_baselines((lr / 255)[None, :, None].float(), times, 2)["bilinear + linear blend"]
    simple = {(r["clip"], r["group"]): r for r in rows(folder / "out", "bilinear + linear blend")}
    expected = float(psnr(as_written(blend, [Radiometry()]), clip[None]).mean())
    assert float(simple["clip0", "all"]["psnr"]) == pytest.approx(expected, abs=1e-3)


def test_videos_of_other_lengths_are_reported(folder, run):
    videos(folder, 5)
    Path("program/clip1/000004.png").unlink()
    found = run("evaluate", "--pred", "program", "--hr", "hr")
    assert "1 files differ from their targets: clip1 of program is 4 frames of 28x24 of 8 bit and its" in found.err
    write(Path("lr/clip0/9.png"), smooth(0, 12, 14))
    found = run("evaluate", "--two_stage", "x.pth", "--hr", "hr", "--lr", "lr")
    assert found.code == 2 and "there is no file x.pth" in found.err
    compact(folder / "toy.pth", 2)
    found = run("evaluate", "--two_stage", "toy.pth", "--hr", "hr", "--lr", "lr")
    assert "clip0 has 5 target frames and 4 input frames; there must be a fixed number" in found.err


def test_a_task_is_handed_over(monkeypatch):
    from lit_thermal.cli import evaluate, evaluate_task

    monkeypatch.setattr(evaluate_task, "main", lambda task, argv: (task, list(argv)))
    assert evaluate.main(["zero_shot", "--hr", "x"]) == ("zero_shot", ["--hr", "x"])
