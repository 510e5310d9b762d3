"""SegFormer for masks of classes: counting, training, loading."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from lit_thermal.data.formats.class_masks import IGNORED
from lit_thermal.downstream.pictures import Pictures
from lit_thermal.downstream.segmentation import (
    SIZES,
    Recipe,
    confusion,
    overlap_intervals,
    overlap_of,
    segment,
    train_segmenter,
    trained_segmenter,
    untrained_segmenter,
)
from lit_thermal.errors import InputError

CLASSES = ("background", "person", "car")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """SegFormer of 10 thousand parameters with random weights in a folder."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    folder = tmp_path_factory.mktemp("segformer")
    config = SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=16,
        id2label={0: "Background", 1: "pedestrian", 2: "car", 3: "kite"},
        label2id={"Background": 0, "pedestrian": 1, "car": 2, "kite": 3},
    )
    torch.manual_seed(0)
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor().save_pretrained(folder)
    return folder


def test_overlap_is_that_of_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    # the last class is nowhere, and some pixels have no label
    truths = torch.randint(0, 3, (5, 20, 30), generator=generator)
    predicted = torch.where(torch.rand(5, 20, 30, generator=generator) < 0.6, truths, 1)
    truths[:, :4] = IGNORED
    counts = torch.stack([confusion(p, t, 4) for p, t in zip(predicted, truths, strict=True)]).numpy()
    assert counts.sum() == 5 * 16 * 30
    result = overlap_of(counts.sum(0), (*CLASSES, "kite"))
    metric = MulticlassJaccardIndex(4, average="none", ignore_index=IGNORED)
    expected = metric(predicted, truths)[:3]
    assert list(result.iou.values())[:3] == pytest.approx(expected.tolist())
    assert np.isnan(result.iou["kite"])
    assert result.miou == pytest.approx(float(expected.mean()))
    without = overlap_of(counts.sum(0), (*CLASSES[1:], "kite"), skip=1)
    assert without.miou == pytest.approx(float(expected[1:].mean()))


def test_a_class_that_is_only_predicted_counts_as_wrong():
    counts = confusion(torch.tensor([[0, 1]]), torch.tensor([[0, 0]]), 3)
    result = overlap_of(counts.numpy(), CLASSES)
    assert result.iou["background"] == 0.5
    assert result.iou["person"] == 0
    assert result.miou == 0.25


def test_intervals_over_images():
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.integers(0, 3, (30, 12, 12)))
    counts = {}
    for row, share in (("LR", 0.5), ("HR", 0.9)):
        right = torch.from_numpy(rng.random((30, 12, 12)) < share)
        predicted = torch.where(right, truth, (truth + 1) % 3)
        counts[row] = torch.stack([confusion(p, t, 3) for p, t in zip(predicted, truth, strict=True)]).numpy()
    result = overlap_intervals(counts, resamples=200)
    for row, (interval, _) in result.items():
        assert interval.mean == overlap_of(counts[row].sum(0), CLASSES).miou
        assert interval.low < interval.mean < interval.high
    assert result["LR"][0].high < result["HR"][0].low
    assert result["HR"][1]["LR"].low > 0
    assert overlap_intervals(counts, resamples=200) == result


def two_scenes():
    """A dark person and a bright car on gray."""
    masks = {name: torch.zeros(32, 48, dtype=torch.int64) for name in ("a", "b")}
    masks["a"][6:26, 4:20], masks["a"][10:24, 24:44] = 1, 2
    masks["b"][8:24, 10:30] = 2
    masks["b"][:2] = IGNORED
    levels = torch.tensor([0.5, 0.0, 1.0] + [0.5] * 253)
    return Pictures(lambda name: levels[masks[name]][None], ["a", "b"]), masks


def test_a_segmenter_learns_two_scenes(tiny, tmp_path):
    pictures, masks = two_scenes()
    recipe = Recipe(steps=120, batch=2, lr=0.02)
    file = tmp_path / "s.pt"
    trained = train_segmenter(str(tiny), CLASSES, pictures, masks.__getitem__, file, recipe)
    counts = sum(confusion(segment(trained, pictures[name]), masks[name], 3) for name in pictures)
    assert overlap_of(counts.numpy(), CLASSES).miou > 0.75
    again = trained_segmenter(str(tiny), file, ("car", "background"))
    scores = again(pictures["a"][None])
    assert scores.shape == (1, 2, 32, 48)
    assert torch.equal(scores, trained(pictures["a"][None])[:, [2, 0]])
    with pytest.raises(InputError, match="not the SegFormer b0"):
        trained_segmenter("b0", file, CLASSES)
    with pytest.raises(InputError, match="does not know truck"):
        trained_segmenter(str(tiny), file, ("car", "truck"))


def test_weights_of_a_folder(tiny):
    found = trained_segmenter(str(tiny), None, CLASSES)
    assert found.columns == [0, 1, 2]
    assert found(torch.rand(1, 3, 40, 56)).shape == (1, 3, 40, 56)
    with pytest.raises(InputError, match="needs weights"):
        trained_segmenter("b1", None, CLASSES)
    with pytest.raises(InputError, match="there is no folder"):
        trained_segmenter("b9", None, CLASSES)


def test_published_size():
    network = untrained_segmenter("b0", ["x"] * 150)
    # 3.8 million in the paper's table 1, with ADE20K's 150 classes
    assert 3.7e6 < sum(p.numel() for p in network.parameters()) < 3.8e6
    assert SIZES["b1"]["hidden_sizes"] == (64, 128, 320, 512)


def test_images_of_one_size(tiny, tmp_path):
    sizes = {"a": (32, 32), "b": (32, 48)}
    pictures = Pictures(lambda name: torch.zeros(1, *sizes[name]), ["a", "b"])
    with pytest.raises(InputError, match="one size"):
        train_segmenter(
            str(tiny), CLASSES, pictures, lambda name: torch.zeros(sizes[name]).long(), tmp_path / "s.pt", Recipe(1, 2)
        )
