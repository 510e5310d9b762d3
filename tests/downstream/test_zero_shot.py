"""Finding by words, with models that know nothing, and the counting of what they find."""

import pytest
import tiny_models
import torch

from lit_thermal.downstream.detectors import Found
from lit_thermal.downstream.zero_shot import (
    Grounding,
    Segmenting,
    match_words,
    mean_scores,
    score_image,
    word_masks,
)
from lit_thermal.errors import InputError

NOTHING = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    return tiny_models.save_grounding_dino(tmp_path_factory.mktemp("dino"))


@pytest.fixture(scope="module")
def sam(tmp_path_factory):
    return tiny_models.save_sam(tmp_path_factory.mktemp("sam"))


def test_boxes_of_the_words(dino):
    grounding = Grounding(str(dino), "Automobile. person", threshold=0.0, text_threshold=0.0)
    assert grounding.words == ["automobile", "person"]
    assert grounding.prompt == "automobile. person."
    image = torch.rand(3, 40, 60)
    found = grounding(image)
    assert found.boxes.shape == (6, 4)
    assert set(found.labels.tolist()) <= {0, 1}
    assert found.boxes.max() < 120
    for mine, other in zip(found, grounding(image), strict=True):
        assert torch.equal(mine, other)
    grounding.threshold = 1.0
    assert len(grounding(image).boxes) == 0


def test_the_phrase_tells_the_word(dino):
    grounding = Grounding(str(dino), "car. race car. traffic light.")
    assert grounding._word("a race car") == 1
    assert grounding._word("red car") == 0
    assert grounding._word("traffic") == 2
    assert grounding._word("") == -1


def test_masks_of_boxes(sam):
    segmenting = Segmenting(str(sam))
    boxes = torch.tensor([[2.0, 3, 30, 30], [10, 5, 50, 38]])
    masks = segmenting(torch.rand(3, 40, 60), boxes)
    assert masks.shape == (2, 40, 60)
    assert masks.dtype == torch.bool
    assert segmenting(torch.rand(3, 40, 60), boxes[:0]).shape == (0, 40, 60)


def test_masks_of_one_word_are_joined():
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, 0], masks[1, 1], masks[2, 2] = True, True, True
    joined = word_masks(masks, Found(torch.zeros(3, 4), torch.ones(3), torch.tensor([1, 0, 1])), 2)
    assert joined[0].any(1).tolist() == [False, True, False, False]
    assert joined[1].any(1).tolist() == [True, False, True, False]


def test_models_that_are_not_there(tmp_path, dino, monkeypatch):
    with pytest.raises(InputError, match="names nothing"):
        Grounding(str(dino), " . ")
    with pytest.raises(InputError, match="there is no folder nowhere"):
        Grounding("nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="could not be read as a Grounding DINO"):
        Grounding(str(tmp_path))
    monkeypatch.setattr("lit_thermal.downstream.detectors._reachable", lambda source: False)
    with pytest.raises(InputError, match="hf download nobody/absent --local-dir FOLDER"):
        Segmenting("nobody/absent")


def test_words_and_classes():
    m3fd = ("People", "Car", "Bus", "Motorcycle", "Lamp", "Truck")
    assert match_words(["automobile", "person"], m3fd, {}) == {"Car": 0, "People": 1}
    matched = match_words(["automobile", "person"], m3fd, {"automobile": ["Car", "Bus", "Truck"]})
    assert matched == {"Car": 0, "Bus": 0, "Truck": 0, "People": 1}
    with pytest.raises(InputError, match="'kite' is none of"):
        match_words(["kite"], m3fd, {})
    with pytest.raises(InputError, match="prompt has kite"):
        match_words(["kite"], m3fd, {"car": ["Car"]})
    with pytest.raises(InputError, match="--match kite=Dragon"):
        match_words(["kite"], m3fd, {"kite": ["Dragon"]})


def test_scores_of_an_image():
    objects = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]), torch.tensor([0, 0, 1])
    # one is right, one of too small an overlap, one of the other word
    boxes = torch.tensor([[0.0, 0, 10, 8], [20, 0, 30, 4], [40, 0, 50, 10], [60, 0, 70, 10]])
    found = Found(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0, 0, 0, 1]))
    scores = score_image(found, objects)
    assert scores == pytest.approx({"precision": 1 / 4, "recall": 1 / 3, "f1": 2 / 7, "iou": (0.8 + 0.4 + 0) / 3})
    assert score_image(Found(*NOTHING[:1], torch.zeros(0), NOTHING[1]), objects) == {
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "iou": 0.0,
    }
    assert score_image(found, NOTHING) == {"precision": 0.0, "f1": 0.0}
    assert score_image(Found(*NOTHING[:1], torch.zeros(0), NOTHING[1]), NOTHING) is None


def test_means_are_over_the_images_that_have_a_score():
    means = mean_scores(
        {"a": {"precision": 0.0, "f1": 0.0}, "b": {"precision": 1.0, "recall": 0.5, "f1": 0.7}, "c": {}}
    )
    assert means["precision"].mean == 0.5
    assert means["recall"] == (0.5, 0.5, 0.5)
    assert means["precision"].low < 0.5 < means["precision"].high
    assert "iou" not in means
