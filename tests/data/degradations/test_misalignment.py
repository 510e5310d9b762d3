import math

import numpy as np
import pytest
import torch

from lit_thermal.batch import Radiometry
from lit_thermal.data.datamodules.image_samples import TrainingCrops
from lit_thermal.data.datamodules.sample import CachedSample, Sample
from lit_thermal.data.datamodules.simulated_pairs import SimulatedPairs
from lit_thermal.data.degradations.degradation import Bicubic
from lit_thermal.data.degradations.misalignment import (
    SHARES,
    Aligned,
    Combined,
    Misalignment,
    Perspective,
    Rotation,
    Scaling,
    Shift,
    homography,
)
from lit_thermal.errors import InputError
from lit_thermal.ops.warp import warp

KINDS = (Aligned, Shift, Scaling, Rotation, Perspective, Combined)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    places = np.c_[points, np.ones(len(points))] @ matrix.T
    return places[:, :2] / places[:, 2:]


CORNERS = np.array([[x, y] for y in (-24.0, 24.0) for x in (-32.0, 32.0)])
SIZE = (48, 64)


@pytest.mark.parametrize("kind", KINDS)
def test_one_draw_gives_one_guide(kind):
    guide = torch.rand(3, *SIZE)
    once, again = kind()(guide, rng(5)), kind()(guide, rng(5))
    assert torch.equal(once, again) and once.shape == guide.shape and once.dtype == guide.dtype
    assert once.min() >= 0 and once.max() <= 1
    assert torch.equal(once, guide) == (kind is Aligned) == torch.equal(kind()(guide, rng(6)), once)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fill", ["black", "reflect"])
def test_a_window_is_cut_from_the_misaligned_picture(kind, fill):
    guide, window = torch.rand(3, *SIZE), (slice(5, 29), slice(40, 64))
    member = kind() if kind is Aligned else kind(fill=fill)
    whole, part = member(guide, rng(1)), member(guide, rng(1), window=window)
    torch.testing.assert_close(part, whole[:, window[0], window[1]])


def test_nothing_is_filled_where_the_picture_goes_on():
    # white all over: black is only what the camera does not show
    guide, inner = torch.ones(3, 128, 128), (slice(40, 88), slice(40, 88))
    for seed in range(10):
        assert (Combined()(guide, rng(seed), 1.0, inner) > 0.999).all()
        black = Combined()(guide, rng(seed), 1.0)
        assert black.min() == 0 or (black > 0.999).all()
        assert (Combined(fill="reflect")(guide, rng(seed), 1.0) > 0.999).all()


def test_a_shift_goes_so_far():
    lengths = [np.hypot(*Shift(0.25).matrix(SIZE, rng(seed))[:2, 2]) for seed in range(200)]
    assert max(lengths) <= 12 and max(lengths) > 11.5 and min(lengths) < 2
    # evenly over the disc: a quarter of all lies within half the radius
    assert np.mean(np.array(lengths) < 6) == pytest.approx(0.25, abs=0.08)
    assert np.hypot(*Shift(0.25).matrix(SIZE, rng(), 0.5)[:2, 2]) == pytest.approx(6)


def test_a_factor_keeps_the_centre():
    found = [Scaling(0.5, 1.5).matrix(SIZE, rng(seed))[0, 0] for seed in range(200)]
    assert 0.5 <= min(found) < 0.55 and 1.45 < max(found) <= 1.5
    assert {round(Scaling(0.5, 1.5).matrix(SIZE, rng(seed), 1.0)[1, 1], 9) for seed in range(9)} == {0.5, 1.5}
    assert {round(Scaling(0.25, 4).matrix(SIZE, rng(seed), 0.5)[1, 1], 9) for seed in range(9)} == {0.5, 2.0}
    dot = torch.zeros(3, 9, 9)
    dot[:, 4, 4] = 1
    assert Scaling()(dot, rng(), 1.0)[0].argmax() == 40


def test_a_turn_is_a_turn():
    angles = []
    for seed in range(100):
        matrix = Rotation(30).matrix(SIZE, rng(seed))
        assert np.allclose(matrix @ matrix.T, np.eye(3)) and np.linalg.det(matrix) == pytest.approx(1)
        angles.append(math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])))
    assert -30 <= min(angles) < -25 and 25 < max(angles) <= 30
    picture = torch.rand(3, 6, 6)
    quarter = Rotation(90)(picture, rng(), 1.0)
    assert any(torch.allclose(quarter, torch.rot90(picture, k, (1, 2)), atol=1e-6) for k in (1, 3))


def test_corners_go_so_far_and_each_its_own_way():
    for seed in range(20):
        moves = moved(Perspective(0.2).matrix(SIZE, rng(seed)), CORNERS) - CORNERS
        assert (np.hypot(*moves.T) <= 0.2 * 48 + 1e-9).all()
    moves = moved(Perspective(0.2).matrix(SIZE, rng(), 0.5), CORNERS) - CORNERS
    assert np.allclose(np.hypot(*moves.T), 0.1 * 48)
    assert len({tuple(np.round(move, 6)) for move in moves}) == 4


def test_homography_of_four_points():
    matrix = np.array([[1.1, 0.2, 3], [-0.1, 0.8, -2], [0.002, -0.001, 1]])
    assert np.allclose(homography(CORNERS, moved(matrix, CORNERS)), matrix)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_combined_takes_so_many_different_operations(number):
    pairs = set()
    for seed in range(60):
        draw = rng(seed)
        order = draw.permutation(4)[:number]
        member = Combined(number)
        expected = np.eye(3)
        for place in order:
            expected = member.operations[place].matrix(SIZE, draw) @ expected
        assert np.allclose(member.matrix(SIZE, rng(seed)), expected)
        pairs.add(frozenset(order.tolist()))
    assert len(pairs) == math.comb(4, number), "all are drawn"


@pytest.mark.parametrize("kind", KINDS[1:])
def test_severities_share_their_directions_and_grow(kind):
    def displacement(seed: int, share: float) -> np.ndarray:
        return moved(kind().matrix(SIZE, rng(seed), share), CORNERS) - CORNERS

    for seed in range(5):
        light, medium, strong = (displacement(seed, share) for share in SHARES.values())
        lengths = [np.abs(moves).mean() for moves in (light, medium, strong)]
        assert lengths[0] < lengths[1] < lengths[2]
        assert (light * strong).sum() > 0.5 * np.linalg.norm(light) * np.linalg.norm(strong)
        assert np.allclose(displacement(seed, 0.0), 0)


def crops(misalignment: Misalignment | None, crop: int = 4, **arguments) -> TrainingCrops:
    draw = np.random.default_rng(7)
    sources = []
    for number in range(3):
        hr, guide = draw.integers(0, 256, (40, 48), np.uint8), draw.integers(0, 256, (3, 40, 48), np.uint8)
        sources.append(CachedSample(f"image{number}", Sample(Radiometry(), hr, None, guide if number else None), 1))
    options = {"guided": True, "degradation": Bicubic(), "augment": True, "samples": 9, "seed": 3} | arguments
    return TrainingCrops(sources, scale=4, crop=crop, misalignment=misalignment, **options)


def test_training_crops_differ_in_their_guides_alone():
    plain, other, again = crops(None), crops(Combined()), crops(Combined())
    changed = 0
    for index in range(9):
        one, two = plain[index], other[index]
        for key in ("lr", "hr", "has_lr", "has_guide"):
            assert torch.equal(one[key], two[key])
        assert torch.equal(two["guide"], again[index]["guide"]) and two["guide"].shape == (3, 16, 16)
        assert two["guide"].any() == two["has_guide"], "an absent guide stays absent"
        changed += not torch.equal(one["guide"], two["guide"])
        assert one["name"] == two["name"]
    assert changed == sum(bool(plain[index]["has_guide"]) for index in range(9)) == 6
    assert torch.equal(crops(Aligned())[1]["guide"], plain[1]["guide"])


def test_a_crop_is_that_of_the_misaligned_picture():
    class _Right(Misalignment):
        def matrix(self, size, rng, share=None):
            return np.array([[1, 0, 5], [0, 1, 0], [0, 0, 1.0]])

    index = next(index for index in range(3) if crops(None)[index]["has_guide"])
    whole, part = crops(_Right(), crop=0, augment=False)[index], crops(_Right(), augment=False)[index]
    aligned = crops(None, crop=0, augment=False)[index]
    assert part["name"] == whole["name"] == aligned["name"]
    assert torch.equal(whole["guide"], warp(aligned["guide"], torch.tensor([[1.0, 0, 5], [0, 1, 0], [0, 0, 1]])))
    windows = whole["guide"].unfold(1, 16, 1).unfold(2, 16, 1)
    assert (windows == part["guide"][:, None, None]).all((0, 3, 4)).any()


def test_data_take_it_for_training_alone():
    def batches(**arguments) -> list:
        module = SimulatedPairs(
            size=32,
            crop=2,
            scale=8,
            train_images=2,
            val_images=1,
            test_images=1,
            batch_size=2,
            num_workers=0,
            **arguments,
        )
        module.setup("fit")
        module.setup("test")
        return [
            next(iter(loader))
            for loader in (module.train_dataloader(), module.val_dataloader(), *module.test_dataloader())
        ]

    plain, other = batches(), batches(misalignment=lambda: Shift(0.3))
    assert not torch.equal(plain[0]["guide"], other[0]["guide"]) and torch.equal(plain[0]["lr"], other[0]["lr"])
    for one, two in zip(plain[1:], other[1:], strict=True):
        assert torch.equal(one["guide"], two["guide"])
    with pytest.raises(InputError, match=r"data.misalignment other than Aligned needs a guide, which these data do"):
        SimulatedPairs(guided=False, misalignment=Shift)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Shift(-0.1), "greatest of Shift is -0.1; it must be from 0 to 1"),
        (lambda: Scaling(1.2), "smallest of Scaling is 1.2; it must be from 0.25 to 1"),
        (lambda: Scaling(0.5, float("nan")), "largest of Scaling is nan; it must be from 1 to 4"),
        (lambda: Rotation(181), "degrees of Rotation is 181"),
        (lambda: Perspective(0.4), "corners of Perspective is 0.4; it must be from 0 to 0.25"),
        (lambda: Combined(5), "number of Combined is 5; it must be from 1 to 4"),
        (lambda: Combined(corners=0.3), "corners of Perspective is 0.3"),
        (lambda: Shift(fill="white"), "fill of Shift is 'white'; must be one of black, reflect"),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(InputError, match=words):
        make()
