import pytest
import torch

from lit_thermal.errors import InputError
from lit_thermal.losses.thermal_order import ThermalOrderLoss

AXES = [(0, 1), (1, 0), (0, -1), (-1, 0)]
DIAGONALS = [(1, 1), (1, -1), (-1, 1), (-1, -1)]


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return images(*shape), images(*shape, seed=1)


def brute(restored, target, patch, neighbours, threshold, reduction) -> float:
    """The loss by loops over patches and directions, both directions of a pair."""
    offsets = AXES + DIAGONALS if neighbours == 8 else AXES
    height, width = (side // patch for side in target.shape[-2:])
    costs, total = [], 0.0
    for ours, truth in zip(restored, target, strict=True):
        grids = []
        for image in (ours.mean(0), truth.mean(0)):
            cells = [
                [float(image[y * patch : (y + 1) * patch, x * patch : (x + 1) * patch].mean()) for x in range(width)]
                for y in range(height)
            ]
            grids.append(cells)
        for y in range(height):
            for x in range(width):
                for dy, dx in offsets:
                    if 0 <= y + dy < height and 0 <= x + dx < width:
                        d_ours, d_truth = (g[y][x] - g[y + dy][x + dx] for g in grids)
                        cost = max(0.0, -d_ours * d_truth) if abs(d_truth) >= threshold else 0.0
                        costs.append(cost)
                        total += cost / neighbours
    return total / len(target) if reduction == "released" else sum(costs) / len(costs)


@pytest.mark.parametrize("reduction", ["mean", "released"])
@pytest.mark.parametrize("threshold", [0.0, 0.1])
@pytest.mark.parametrize("neighbours", [4, 8])
@pytest.mark.parametrize(("patch", "size"), [(1, (4, 5)), (2, (9, 7)), (3, (3, 6)), (3, (6, 5))])
def test_against_brute_force(patch, size, neighbours, threshold, reduction):
    restored, target = pair(2, 1, *size)
    loss = ThermalOrderLoss(patch, neighbours, threshold, reduction)
    expected = brute(restored, target, patch, neighbours, threshold, reduction)
    assert float(loss(restored, target)) == pytest.approx(expected, rel=1e-12)


def test_what_the_released_sum_is_at_its_size():
    """About 4000 times the mean; 8 directions of 64 x 64 patches."""
    restored, target = pair(1, 1, 512, 512)
    ratio = ThermalOrderLoss(reduction="released")(restored, target) / ThermalOrderLoss()(restored, target)
    assert float(ratio) == pytest.approx(4000.5)


def test_channels_are_averaged():
    restored, target = pair(2, 3, 8, 8)
    loss = ThermalOrderLoss(2)
    assert loss(restored, target) == loss(restored.mean(1, keepdim=True), target.mean(1, keepdim=True))
    assert float(loss(restored, target)) == pytest.approx(brute(restored, target, 2, 8, 0, "mean"))


def test_order_is_all_that_counts():
    restored, target = pair(2, 1, 16, 16)
    loss = ThermalOrderLoss(4)
    assert loss(target, target) == 0 and loss(0.1 * target + 0.7, target) == 0
    assert loss(1 - target, target) > loss(restored, target) > 0
    assert loss(restored, torch.full_like(target, 0.5)) == 0


@pytest.mark.parametrize("reduction", ["mean", "released"])
def test_the_target_s_contrast_scales_the_loss_and_its_brightness_does_not(reduction):
    restored, target = pair(2, 1, 16, 16)
    loss = ThermalOrderLoss(4, reduction=reduction)
    for a, b in ((0.3, 0.5), (2.0, -1.0)):
        assert float(loss(restored, a * target + b)) == pytest.approx(a * float(loss(restored, target)), rel=1e-9)
    assert float(ThermalOrderLoss(4, threshold=0.1)(restored, 0.3 * target)) != pytest.approx(
        0.3 * float(ThermalOrderLoss(4, threshold=0.1)(restored, target))
    )


@pytest.mark.parametrize("increasing", [torch.exp, lambda x: x**3, lambda x: x.sqrt() - 4])
def test_at_patch_one_the_zero_set_stays_under_increasing_maps(increasing):
    loss = ThermalOrderLoss(1)
    restored, target = pair(1, 1, 6, 6)
    assert loss(increasing(target), target) == 0 and loss(target, increasing(target)) == 0
    for pixel in range(36):
        moved = target.clone()
        moved.view(-1)[pixel] = restored.view(-1)[pixel]
        assert (loss(moved, target) == 0) == (loss(moved, increasing(target)) == 0)
    assert loss(restored, increasing(target)) > 0


def test_gradients_reach_the_restored_image_only_where_order_is_wrong():
    restored, target = pair(1, 1, 8, 8)
    restored.requires_grad_(), target.requires_grad_()
    ThermalOrderLoss(2)(restored, target).backward()
    assert restored.grad.abs().sum() > 0 and target.grad is None
    assert torch.autograd.gradcheck(lambda x: ThermalOrderLoss(2)(x, target.detach()), (restored,))
    one_wrong = target.detach().clone()
    one_wrong[..., :2, :2] = 1.5 if target[..., :2, :2].mean() < target[..., :4, :4].mean() else -0.5
    one_wrong.requires_grad_()
    ThermalOrderLoss(2)(one_wrong, target).backward()
    assert one_wrong.grad[..., :2, :2].abs().sum() > 0 and not one_wrong.grad[..., 4:, 4:].any()


def test_descent_restores_the_order():
    restored, target = pair(1, 1, 12, 12)
    restored.requires_grad_()
    loss = ThermalOrderLoss(2)
    optimizer = torch.optim.Adam([restored], lr=0.02)
    first = loss(restored, target).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss(restored, target).backward()
        optimizer.step()
    assert loss(restored, target) < 0.02 * first


def test_half_precision_is_computed_in_float32():
    restored, target = (x.float() for x in pair(2, 1, 16, 16))
    loss = ThermalOrderLoss()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(restored, target), loss(restored.float(), target))
        assert loss(restored.bfloat16(), target.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    "wrong", [{"patch": 0}, {"neighbours": 6}, {"threshold": -0.1}, {"reduction": "sum"}], ids=lambda w: next(iter(w))
)
def test_options_that_are_none(wrong):
    with pytest.raises(InputError, match=rf"{next(iter(wrong))}( is)? {next(iter(wrong.values()))!r}") as caught:
        ThermalOrderLoss(**wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(7, 64), (8, 8), (15, 15), (4, 4)])
def test_images_without_two_patches(size):
    with pytest.raises(InputError, match=r"do not hold two patches of 8 x 8 to compare"):
        ThermalOrderLoss()(images(1, 1, *size), images(1, 1, *size))
    assert ThermalOrderLoss()(images(1, 1, 8, 16), images(1, 1, 8, 16)) == 0


def test_images_of_two_shapes():
    with pytest.raises(InputError, match="images of one shape"):
        ThermalOrderLoss()(images(1, 1, 16, 16), images(1, 1, 16, 24))
