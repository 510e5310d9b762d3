"""Pictures of boxes and classes: what is right, wrong and missed has its colour."""

import numpy as np
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from lit_thermal.data.formats.class_masks import IGNORED
from lit_thermal.downstream.detectors import Found
from lit_thermal.downstream.judging import best_score
from lit_thermal.downstream.overlays import MISSED, RIGHT, WRONG, draw_boxes, draw_classes

TRUTH = torch.tensor([[4.0, 4, 20, 28], [40, 8, 60, 24]]), torch.tensor([0, 1])


def near(file, colour):
    """How many pixels of a picture have nearly a colour."""
    pixels = np.asarray(Image.open(file).convert("RGB")) / 255
    return int((np.abs(pixels - to_rgb(colour)).max(-1) < 0.03).sum())


def found(boxes, scores, labels):
    return Found(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels, dtype=torch.int64))


def test_boxes_have_the_colour_of_what_they_are(tmp_path):
    image = torch.rand(1, 32, 64).expand(3, -1, -1) * 0.2
    right = found([[4.0, 4, 20, 28], [40, 8, 60, 24]], [0.9, 0.8], [0, 1])
    wrong = found([[40.0, 8, 60, 24]], [0.9], [0])
    unsure = right._replace(scores=torch.tensor([0.3, 0.2]))
    for name, each in (("right", right), ("wrong", wrong), ("unsure", unsure)):
        draw_boxes(tmp_path / f"{name}.png", {"HR": image}, {"HR": each}, TRUTH, ("person", "car"), 0.5)
    counts = {
        name: [near(tmp_path / f"{name}.png", colour) > 60 for colour in (RIGHT, WRONG, MISSED)]
        for name in ("right", "wrong", "unsure")
    }
    assert counts == {
        "right": [True, False, False],
        "wrong": [False, True, True],
        "unsure": [False, False, True],
    }


def test_wrong_pixels_have_a_red_line(tmp_path):
    image = torch.full((3, 32, 64), 0.5)
    truth = torch.zeros(32, 64, dtype=torch.int64)
    truth[8:20, 10:40] = 1
    other = truth.roll(12, 1)
    unlabelled = torch.where(other != truth, IGNORED, truth)
    images = {"LR": image, "HR": image}
    draw_classes(tmp_path / "same.png", images, {"LR": truth, "HR": truth}, truth, ("ground", "car"))
    draw_classes(tmp_path / "other.png", images, {"LR": other, "HR": truth}, truth, ("ground", "car"))
    draw_classes(tmp_path / "unlabelled.png", images, {"LR": other, "HR": truth}, unlabelled, ("ground", "car"))
    # the legend has a little red of its own
    legend = near(tmp_path / "same.png", WRONG)
    assert near(tmp_path / "other.png", WRONG) > legend + 60
    assert near(tmp_path / "unlabelled.png", WRONG) == legend


def test_the_score_of_highest_f1():
    each = found([[4.0, 4, 20, 28], [0, 0, 9, 9], [40, 8, 60, 24]], [0.9, 0.3, 0.6], [0, 0, 1])
    assert best_score({"a": each}, {"a": TRUTH}) == 0.35
    assert best_score({"a": found([], [], [])}, {"a": TRUTH}) == 0.5
