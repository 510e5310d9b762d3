"""Average precision, its bootstrap, and detectors that are trained and loaded."""

import math

import numpy as np
import pytest
import torch
import torchvision

from lit_thermal.data.formats.objects import Objects
from lit_thermal.downstream.detection import (
    Matches,
    Recipe,
    average_precision,
    find_all,
    judge_boxes,
    precision_intervals,
    train_detector,
)
from lit_thermal.downstream.detectors import Found, trained_detector, untrained_detector
from lit_thermal.downstream.pictures import Pictures
from lit_thermal.downstream.small_detector import fcos_small
from lit_thermal.errors import InputError

CLASSES = ("person", "car", "truck")


def made_up(images=12, seed=0, error=6.0, names="x"):
    """Objects, and boxes that are near some of them."""
    rng = np.random.default_rng(seed)
    found, objects = {}, {}
    for index in range(images):
        count = int(rng.integers(0, 5))
        corner = rng.uniform(0, 80, (count, 2))
        boxes = torch.from_numpy(np.concatenate([corner, corner + rng.uniform(8, 40, (count, 2))], 1)).float()
        # nobody shows a truck
        labels = rng.integers(0, 2, count)
        objects[f"{names}{index}"] = Objects(boxes, tuple(CLASSES[k] for k in labels), (128, 128))
        kept = rng.random(count) < 0.8
        near = boxes[kept] + torch.from_numpy(rng.normal(0, error, (int(kept.sum()), 4))).float() / 2
        away = torch.from_numpy(rng.uniform(0, 60, (2, 2))).float()
        all_boxes = torch.cat([near, torch.cat([away, away + 20], 1)])
        all_labels = torch.from_numpy(np.concatenate([labels[kept], rng.integers(0, 2, 2)]))
        scores = torch.from_numpy(rng.uniform(0.1, 1, len(all_boxes))).float()
        found[f"{names}{index}"] = Found(all_boxes, scores, all_labels)
    return found, objects


def test_boxes_that_are_the_objects():
    _, objects = made_up()
    perfect = {
        name: Found(o.boxes, torch.ones(len(o.boxes)), torch.tensor([CLASSES.index(w) for w in o.labels]).long())
        for name, o in objects.items()
    }
    result = average_precision(perfect, objects, CLASSES)
    assert result["map"] == pytest.approx(1)
    assert result["ap"]["person"] == pytest.approx(1)
    assert math.isnan(result["ap"]["truck"])
    shifted = {name: each._replace(boxes=each.boxes + 100) for name, each in perfect.items()}
    assert average_precision(shifted, objects, CLASSES)["map"] == 0
    nothing = {name: Found(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long()) for name in perfect}
    assert average_precision(nothing, objects, CLASSES)["map"] == 0
    assert Matches(nothing, objects, CLASSES).average_precision() == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_kept_matches_give_the_same_average_precision(seed):
    found, objects = made_up(seed=seed)
    expected = average_precision(found, objects, CLASSES)["map"]
    assert 0.02 < expected < 0.9
    assert Matches(found, objects, CLASSES).average_precision() == pytest.approx(expected, abs=1e-6)


def test_a_resample_is_those_images_again():
    found, objects = made_up(seed=2)
    weights = np.random.default_rng(0).integers(0, 4, len(found))
    again, truths = {}, {}
    for name, count in zip(found, weights, strict=True):
        for copy in range(count):
            again[f"{name} {copy}"], truths[f"{name} {copy}"] = found[name], objects[name]
    expected = average_precision(again, truths, CLASSES)["map"]
    assert Matches(found, objects, CLASSES).average_precision(weights) == pytest.approx(expected, abs=1e-6)


def test_intervals_over_images():
    rows = {}
    for row, error in (("LR", 12.0), ("ours", 6.0), ("same", 6.0), ("HR", 1.0)):
        found, objects = made_up(images=40, error=error, seed=3)
        rows[row] = Matches(found, objects, CLASSES)
    result = precision_intervals(rows, resamples=60)
    for row, precision in result.items():
        mean, low, high = precision.map
        assert mean == rows[row].average_precision()
        assert low < mean < high
    assert result["LR"].above == {}
    assert result["same"].above["ours"] == (0, 0, 0)
    assert result["HR"].above["LR"].low > 0
    # paired: the difference is surer than the two by themselves
    width = result["HR"].above["ours"].high - result["HR"].above["ours"].low
    assert width < sum(result[row].map.high - result[row].map.low for row in ("HR", "ours"))
    assert precision_intervals(rows, resamples=60) == result


def test_right_boxes_are_chosen_by_score_one_to_one():
    truth = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]]), torch.tensor([0, 1])
    boxes = torch.tensor([[0.0, 0, 10, 9], [0, 0, 10, 10], [20, 0, 30, 10], [20, 0, 30, 4]])
    found = Found(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0, 0, 0, 1]))
    right, seen = judge_boxes(found, truth)
    # the second has no object left, the third another class, the fourth too small an overlap
    assert right.tolist() == [True, False, False, False]
    assert seen.tolist() == [True, False]
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    assert judge_boxes(found, nothing)[0].tolist() == [False] * 4


def two_scenes():
    """Bright rectangles on two dark images: wide ones are cars, high ones persons."""
    objects = {
        "a": Objects(torch.tensor([[8.0, 8, 20, 40], [30, 36, 58, 50]]), ("person", "car"), (64, 64)),
        "b": Objects(torch.tensor([[36.0, 10, 50, 44]]), ("person",), (64, 64)),
    }
    images = {}
    for name, each in objects.items():
        image = torch.zeros(1, 64, 64)
        for left, top, right, bottom in each.boxes.int().tolist():
            image[:, top:bottom, left:right] = 1
        images[name] = image
    return Pictures(images.__getitem__, ["a", "b"]), objects


def test_a_detector_learns_two_scenes(tmp_path):
    pictures, objects = two_scenes()
    recipe = Recipe(steps=40, batch=2, warm_up=5)
    detector = train_detector("fcos_small", CLASSES[:2], pictures, objects, tmp_path / "d.pt", recipe)
    result = average_precision(find_all(detector, pictures), objects, CLASSES[:2])
    assert result["map_50"] > 0.9
    again, unknown = trained_detector("fcos_small", str(tmp_path / "d.pt"), ("automobile", "pedestrian", "truck"))
    assert unknown == ["truck"]
    assert again.classes == ("automobile", "pedestrian")
    renamed = {"person": "pedestrian", "car": "automobile"}
    other = {name: each._replace(labels=tuple(renamed[w] for w in each.labels)) for name, each in objects.items()}
    assert average_precision(find_all(again, pictures), other, again.classes)["map"] == pytest.approx(result["map"])


def test_the_seed_decides_the_detector(tmp_path):
    pictures, objects = two_scenes()
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        recipe = Recipe(steps=2, batch=2, seed=seed)
        detector = train_detector("fcos_small", CLASSES[:2], pictures, objects, tmp_path / f"{name}.pt", recipe)
        weights.append(torch.cat([value.flatten().float() for value in detector.state_dict().values()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_small_detector_looks_at_images_as_they_are():
    network = fcos_small(3).eval()
    with torch.no_grad():
        images, _ = network.transform([torch.rand(3, 40, 72)])
    assert images.image_sizes == [(40, 72)]
    assert images.tensors.shape == (1, 3, 64, 96)


def test_weights_of_torchvision(tmp_path):
    name = "ssdlite320_mobilenet_v3_large"
    network = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    torch.save(network.state_dict(), tmp_path / "coco.pth")
    detector, unknown = trained_detector(name, str(tmp_path / "coco.pth"), ("People", "Car", "Lamp", "Rickshaw"))
    assert detector.columns == [1, 3, 10]
    assert unknown == ["Rickshaw"]
    (found,) = detector.find([torch.rand(3, 48, 64)])
    assert found.boxes.shape == (len(found.scores), 4)
    assert set(found.labels.tolist()) <= {0, 1, 2}
    with pytest.raises(InputError, match="knows none of Rickshaw"):
        trained_detector(name, str(tmp_path / "coco.pth"), ("Rickshaw",))
    torch.save({"backbone.weight": torch.zeros(1)}, tmp_path / "coco.pth")
    with pytest.raises(InputError, match="weights of torchvision's"):
        trained_detector(name, str(tmp_path / "coco.pth"), ("Car",))


def test_weights_that_nobody_gave(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="needs weights"):
        trained_detector("retinanet_resnet50_fpn", None, CLASSES)
    with pytest.raises(InputError, match="no published weights"):
        trained_detector("fcos_small", "DEFAULT", CLASSES)
    with pytest.raises(InputError, match="no file of weights"):
        trained_detector("fcos_small", str(tmp_path / "absent.pt"), CLASSES)
    with pytest.raises(InputError, match="there is no folder yolov5s"):
        trained_detector("yolov5s", None, CLASSES)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(InputError, match=r"download https.*ssdlite320.*and put it into"):
        trained_detector("ssdlite320_mobilenet_v3_large", "DEFAULT", CLASSES)


@pytest.fixture(scope="module")
def tiny_yolos(tmp_path_factory):
    """A detector of transformers with random weights in a folder."""
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

    folder = tmp_path_factory.mktemp("yolos")
    config = YolosConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=[64, 64],
        patch_size=16,
        num_detection_tokens=8,
        id2label={0: "car", 1: "person", 2: "kite"},
        label2id={"car": 0, "person": 1, "kite": 2},
    )
    torch.manual_seed(0)
    network = YolosForObjectDetection(config)
    # the class of a network that nobody trained hardly depends on the image: let it be sure of persons
    network.class_labels_classifier.layers[-1].bias.data[1] = 3
    network.save_pretrained(folder)
    YolosImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    return folder


def test_detectors_of_transformers(tiny_yolos, tmp_path):
    detector, unknown = trained_detector(str(tiny_yolos), None, CLASSES)
    assert unknown == ["truck"]
    assert detector.columns == [1, 0]
    (found,) = detector.find([torch.rand(3, 48, 64)])
    assert len(found.boxes) > 0
    assert set(found.labels.tolist()) == {0}
    assert 0 < found.boxes[:, 2].max() <= 64 * 1.5
    pictures, objects = two_scenes()
    recipe = Recipe(steps=2, batch=2, lr=1e-3)
    trained = train_detector(str(tiny_yolos), CLASSES, pictures, objects, tmp_path / "y.pt", recipe)
    assert trained.network.config.num_labels == 3
    again, unknown = trained_detector(str(tiny_yolos), str(tmp_path / "y.pt"), CLASSES)
    assert unknown == []
    images = [pictures["a"], pictures["b"]]
    for mine, other in zip(trained.find(images), again.find(images), strict=True):
        assert torch.equal(mine.boxes, other.boxes)


def test_loss_of_transformers_takes_boxes_in_pixels(tiny_yolos):
    detector = untrained_detector(str(tiny_yolos), CLASSES)
    loss = detector.loss([torch.rand(3, 64, 64)], [torch.tensor([[0.0, 0, 32, 64]])], [torch.tensor([1])])
    loss.backward()
    assert loss.isfinite()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in detector.parameters())


def test_nothing_to_train_on(tmp_path):
    pictures, objects = two_scenes()
    with pytest.raises(InputError, match="no image to train on has a truck"):
        train_detector("fcos_small", ("truck",), pictures, objects, tmp_path / "d.pt", Recipe(steps=1))
