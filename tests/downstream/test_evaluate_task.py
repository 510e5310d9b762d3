"""The tasks of `evaluate` from the command line, on simulated scenes and with models that know little or nothing."""

import csv
import json
import shutil

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image

from lit_thermal.cli.dispatch import main as command
from lit_thermal.cli.evaluate_task import main
from lit_thermal.data.datamodules.scene_files import SIMULATED_MASK_CLASSES
from lit_thermal.data.formats.frames import read_frame
from lit_thermal.downstream.pictures import rows
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Three scenes, and their inputs enlarged to the nearest pixel as what a method restored."""
    folder = tmp_path_factory.mktemp("scenes")
    options = ["--images", "3", "--size", "64", "--scale", "4", "--scenario", "hot_boundaries"]
    assert main("scenes", [*options, "--out", str(folder)]) == 0
    (folder / "ours").mkdir()
    for name in [path.stem for path in (folder / "hr").iterdir()]:
        image = Image.open(folder / "lr" / f"{name}.png")
        image.resize((64, 64), Image.Resampling.NEAREST).save(folder / "ours" / f"{name}.png")
    return folder


def words(folder, *more):
    given = ["--pred", f"ours={folder / 'ours'}", "--normalize", "full", "--name", "toy", "--pictures", "1"]
    given += ["--resamples", "50"]
    for kind in ("hr", "lr", "guide"):
        given += [f"--{kind}", str(folder / kind)]
    return [*given, *map(str, more)]


def left(out):
    """What a task wrote."""
    record = json.loads((out / "metrics.json").read_text())
    with (out / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    with (out / "metrics.csv").open() as file:
        images = list(csv.DictReader(file))
    return record, table, images


def test_detection(scenes, tmp_path, capsys):
    training = ["--train", scenes / "hr", "--steps", 2, "--batch", 2, "--detector", "fcos_small"]
    given = words(scenes, "--boxes", scenes / "boxes", "--out", tmp_path, *training)
    assert main("detection", given) == 0
    record, table, images = left(tmp_path)
    assert [row["input"] for row in table] == ["LR", "ours", "RGB", "HR"]
    results, intervals = record["results"]["toy"], record["intervals"]["toy"]
    for row in table:
        assert float(row["map"]) == results[row["input"]]["all"]["map"]
        low, high = intervals[row["input"]]["map"]
        assert low <= float(row["map"]) <= high
    assert set(record["differences"]["rows"]["HR"]) == {"LR", "ours", "RGB"}
    counted = record["data"]["toy"]["objects"]
    assert f"ap_{next(iter(counted))}" in table[0]
    assert len(images) == 4 * 3
    assert sum(int(row["objects"]) for row in images) == 4 * sum(counted.values())
    assert all(int(row["right"]) + int(row["missed"]) == int(row["objects"]) for row in images)
    assert "targets (HR) alone" in record["protocol"]["text"]
    assert "fcos_small" in record["protocol"]["text"]
    (picture,) = (tmp_path / "pictures").iterdir()
    assert np.asarray(Image.open(picture)).std() > 10
    assert "detection on toy: 3 images" in capsys.readouterr().out
    again = words(scenes, "--boxes", scenes / "boxes", "--detector", "fcos_small", "--out", tmp_path / "again")
    assert main("detection", [*again, "--weights", str(tmp_path / "detector.pt")]) == 0
    assert left(tmp_path / "again")[0] == record


def test_the_target_itself_is_like_the_target(scenes, tmp_path):
    given = ["--pred", f"ours={scenes / 'hr'}", "--hr", str(scenes / "hr"), "--boxes", str(scenes / "boxes")]
    given += ["--detector", "fcos_small", "--train", str(scenes / "hr"), "--steps", "1", "--batch", "1"]
    assert main("detection", [*given, "--out", str(tmp_path), "--pictures", "0", "--resamples", "9"]) == 0
    record, table, _ = left(tmp_path)
    assert [row["input"] for row in table] == ["ours", "HR"]
    results = next(iter(record["results"].values()))
    assert results["ours"] == results["HR"]
    assert record["differences"]["rows"]["HR"]["ours"] == {"mean": 0, "low": 0, "high": 0}
    assert not (tmp_path / "pictures").exists()


@pytest.fixture(scope="module")
def segformer(tmp_path_factory):
    """A SegFormer that nobody trained, of other classes."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    folder = tmp_path_factory.mktemp("segformer")
    config = SegformerConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=16, num_labels=2
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor().save_pretrained(folder)
    return folder


def test_segmentation(scenes, segformer, tmp_path):
    training = ["--train", scenes / "hr", "--train_masks", scenes / "masks", "--steps", 3, "--batch", 2]
    given = words(scenes, "--masks", scenes / "masks", "--mask_format", "simulated", "--segformer", segformer)
    assert main("segmentation", [*given, *map(str, training), "--out", str(tmp_path)]) == 0
    record, table, images = left(tmp_path)
    assert [row["input"] for row in table] == ["LR", "ours", "RGB", "HR"]
    assert record["data"]["toy"]["classes"] == list(SIMULATED_MASK_CLASSES)
    for row in table:
        low, high = record["intervals"]["toy"][row["input"]]["miou"]
        assert low <= float(row["miou"]) <= high
        assert "iou_person" in row
    assert len(images) == 4 * 3
    assert len(list((tmp_path / "pictures").iterdir())) == 1
    with pytest.raises(InputError, match="--train_masks"):
        main("segmentation", [*given, "--train", str(scenes / "hr"), "--out", str(tmp_path)])


def test_zero_shot(scenes, tmp_path):
    dino, sam = tiny_models.save_grounding_dino(tmp_path / "dino"), tiny_models.save_sam(tmp_path / "sam")
    out = tmp_path / "out"
    given = words(scenes, "--boxes", scenes / "boxes", "--masks", scenes / "masks", "--mask_format", "simulated")
    given += ["--model", str(dino), "--threshold", "0", "--text_threshold", "0", "--out", str(out)]
    with pytest.raises(InputError, match="give --sam too"):
        main("zero_shot", given)
    given += ["--sam", str(sam)]
    assert main("zero_shot", [*given, "--match", "automobile=car+truck+hot object"]) == 0
    record, table, images = left(out)
    assert [row["input"] for row in table] == ["LR", "ours", "RGB", "HR"]
    assert {"precision", "recall", "f1", "iou", "miou", "iou_person"} <= table[0].keys()
    for name in ("precision", "recall", "f1", "iou"):
        for row in table:
            values = [float(image[name]) for image in images if image["method"] == row["input"] and image[name]]
            assert float(row[name]) == pytest.approx(np.mean(values))
    assert "'automobile. person.'" in record["protocol"]["text"]
    assert record["data"]["toy"]["meaning"]["hot object"] == 0
    assert len(list((out / "pictures").iterdir())) == 1


def test_zero_shot_without_truth_draws_only(scenes, tmp_path):
    dino = tiny_models.save_grounding_dino(tmp_path / "dino")
    given = words(scenes, "--model", dino, "--threshold", "0", "--text_threshold", "0", "--out", tmp_path / "out")
    assert main("zero_shot", given) == 0
    record = left(tmp_path / "out")[0]
    assert record["results"]["toy"]["HR"]["all"] == {}
    assert "no boxes" in record["skipped"]["f1"]
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--pred", "HR={ours}"], "HR is the name of another row"),
        (["--pred", "ours={lr}"], "two methods have the name ours"),
        (["--pred", "b={lr}"], "16x16 of 16 bit and its target .* 64x64"),
        (["--pred", "b={boxes}"], "holds no images"),
        (["--boxes", "{masks}"], r"has no .*\.xml"),
        (["--format", "llvip"], "llvip has only person"),
        (["--steps", "0"], "--steps 0 is too small"),
        (["--pictures", "-1"], "--pictures"),
        (["--device", "abacus"], "--device abacus"),
        (["--detectors", "x"], "did you mean --detector"),
    ],
)
def test_mistakes(scenes, tmp_path, change, says):
    folders = {kind: scenes / kind for kind in ("ours", "lr", "boxes", "masks")}
    given = words(scenes, "--boxes", scenes / "boxes", "--out", tmp_path, "--detector", "fcos_small", "--steps", "1")
    given += ["--train", str(scenes / "hr"), *(word.format(**folders) for word in change)]
    with pytest.raises(InputError, match=says):
        main("detection", given)
    assert not list(tmp_path.iterdir())


def test_scenes_of_no_kind(tmp_path):
    with pytest.raises(InputError, match="--scenario is 'rain'; must be one of standard"):
        main("scenes", ["--scenario", "rain", "--out", str(tmp_path)])


def test_a_row_that_lacks_an_image(scenes, tmp_path):
    shutil.copytree(scenes / "ours", tmp_path / "part")
    next((tmp_path / "part").iterdir()).unlink()
    given = words(scenes, "--boxes", scenes / "boxes", "--out", tmp_path / "out", "--detector", "fcos_small")
    with pytest.raises(InputError, match=r"\(part\) has no image"):
        main("detection", [*given, "--pred", str(tmp_path / "part")])


def test_enlarged_inputs_and_one_mapping_for_a_scene(scenes):
    pictures = rows(scenes / "hr", {"ours": scenes / "ours"}, scenes / "lr", scenes / "guide")
    assert list(pictures) == ["LR", "ours", "RGB", "HR"]
    for name in pictures["HR"]:
        target = read_frame(scenes / "hr" / f"{name}.png").astype(float)
        low, high = target.min(), target.max()
        margin = 0.05 * (high - low)
        image = pictures["HR"][name]
        assert image.shape == (3, 64, 64)
        assert torch.equal(image[0], image[2])
        assert np.allclose(image[0], (target - low + margin) / (high - low + 2 * margin), atol=1e-5)
        ours = read_frame(scenes / "ours" / f"{name}.png").astype(float)
        expected = ((ours - low + margin) / (high - low + 2 * margin)).clip(0, 1)
        assert np.allclose(pictures["ours"][name][1], expected, atol=1e-5)
        small = read_frame(scenes / "lr" / f"{name}.png").astype(float)
        larger = resize(torch.from_numpy(small)[None], (64, 64))[0].round().numpy().clip(0, 65535)
        expected = ((larger - low + margin) / (high - low + 2 * margin)).clip(0, 1)
        assert np.allclose(pictures["LR"][name][0], expected, atol=1e-5)
        assert pictures["RGB"][name].std(0).max() > 0


def test_the_verb_hands_over(scenes, tmp_path, capsys):
    assert command(["evaluate", "scenes", "--images", "1", "--size", "32", "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"hr", "lr", "guide", "boxes", "masks"}
    assert command(["evaluate", "detection", "--hr", str(scenes / "hr")]) == 2
    assert "required: --out, --boxes" in capsys.readouterr().err
