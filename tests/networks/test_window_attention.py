import itertools

import pytest
import torch
from torch import nn

from lit_thermal.errors import InputError
from lit_thermal.networks.window_attention import (
    SwinBlock,
    SwinLayer,
    WindowAttention,
    relative_positions,
    shift_mask,
)

CPU = torch.device("cpu")
MASKS = ["standard", "released"]


def randomized(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for p in module.parameters():
        nn.init.normal_(p, std=0.3)
    return module.double()


def block(shifted: bool, mask: str = "standard", size: int = 64, window: int = 4) -> SwinBlock:
    return randomized(SwinBlock(8, size, shifted, 4, window, 2.0, mask))


def features(height: int, width: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 8, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def dense(attention: WindowAttention, x: torch.Tensor, offset: int) -> torch.Tensor:
    """Attention of every pixel to those of its cell in a grid that begins at -offset and ends at the borders."""
    batch, dim, height, width = x.shape
    window, head = attention.window, attention.head_width
    pixels = list(itertools.product(range(height), range(width)))
    cell = [((y + offset) // window, (x + offset) // window) for y, x in pixels]
    q, k, v = attention.qkv(x.flatten(2).mT).view(batch, len(pixels), 3, dim // head, head).unbind(2)
    logits = torch.einsum("bqhd,bkhd->bhqk", q, k) / head**0.5
    for i, j in itertools.product(range(len(pixels)), repeat=2):
        if cell[i] == cell[j]:
            dy, dx = pixels[i][0] - pixels[j][0], pixels[i][1] - pixels[j][1]
            row = (dy + window - 1) * (2 * window - 1) + dx + window - 1
            logits[:, :, i, j] += attention.relative_position_bias_table[row]
        else:
            logits[:, :, i, j] = -torch.inf
    mixed = torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), v).flatten(2)
    return attention.proj(mixed).mT.view_as(x)


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (4, 12), (12, 8)])
@pytest.mark.parametrize("shifted", [False, True])
def test_equals_dense_attention_within_the_partition(size, shifted):
    swin, x = block(shifted), features(*size)
    with torch.no_grad():
        # A cell of the shifted grid begins half a window before the border.
        expected = dense(swin.attn, x, 2 if shifted else 0)
        assert torch.allclose(swin.attend(x), expected, atol=1e-10)


@pytest.mark.parametrize("window", [3, 5])
def test_odd_windows_are_shifted_by_their_smaller_half(window):
    swin, x = block(True, window=window), features(2 * window, window)
    with torch.no_grad():
        # The window that begins at window // 2 follows a cell of that height.
        assert torch.allclose(swin.attend(x), dense(swin.attn, x, window - window // 2), atol=1e-10)


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (2, 3), (8, 8), (1, 1)])
def test_released_mask_splits_the_last_row_of_windows_by_columns(rows, columns):
    mask = shift_mask("released", rows, columns, 8, CPU)
    expected = torch.zeros(rows * columns, 64, 64)
    for column, query, key in itertools.product(range(columns), range(64), range(64)):
        if (query % 8 < 4) != (key % 8 < 4):
            expected[(rows - 1) * columns + column, query, key] = -100
    assert torch.equal(mask, expected)


def test_standard_mask_splits_what_rolling_joined():
    mask = shift_mask("standard", 2, 3, 8, CPU).view(2, 3, 8, 8, 8, 8)
    lower = torch.arange(8) >= 4
    apart = (lower[:, None] != lower).float() * -100
    assert not mask[0, :2].any()
    assert torch.equal(mask[1, 0], apart[:, None, :, None].expand(8, 8, 8, 8))
    assert torch.equal(mask[0, 2], apart[None, :, None, :].expand(8, 8, 8, 8))
    assert torch.equal(mask[1, 2], torch.minimum(mask[1, 0], mask[0, 2]))


def test_masks_differ_at_the_border_only():
    x = features(16, 16)
    standard, released = (block(True, mask).attend(x) for mask in MASKS)
    # Windows of the inner part lie between 2 and 14 of the unrolled map.
    assert torch.equal(standard[..., 2:14, 2:14], released[..., 2:14, 2:14])
    assert (standard - released).abs().max() > 0.01


def test_relative_positions():
    index = torch.from_numpy(relative_positions(8))
    assert index.shape == (64, 64)
    assert index.diagonal().eq(7 * 15 + 7).all()
    # The query one row and two columns after the key.
    assert index[8 * 3 + 5, 8 * 2 + 3] == (1 + 7) * 15 + 2 + 7
    assert index.min() == 0 and index.max() == 224


def test_unshifted_windows_move_with_the_image():
    swin, x = block(False), features(12, 8)
    assert torch.allclose(swin(x.roll((4, 4), (2, 3))), swin(x).roll((4, 4), (2, 3)), atol=1e-10)
    assert not torch.allclose(swin(x.roll(2, 2)), swin(x).roll(2, 2), atol=1e-3)


def test_shifted_windows_are_those_of_the_rolled_image_inside():
    shifted, x = block(True), features(16, 16)
    plain = block(False)
    plain.load_state_dict(shifted.state_dict())
    rolled = plain.attend(x.roll((-2, -2), (2, 3))).roll((2, 2), (2, 3))
    assert torch.allclose(shifted.attend(x)[..., 2:14, 2:14], rolled[..., 2:14, 2:14], atol=1e-10)


def test_a_level_configured_for_one_window_is_never_shifted():
    assert block(True, size=4).shift == 0 and block(True, size=3).shift == 0
    assert block(True, size=5).shift == 2 and block(False, size=64).shift == 0
    small, plain, x = block(True, size=4), block(False), features(12, 12)
    assert torch.equal(small(x), plain(x))


def test_layer_shifts_every_second_block_and_adds_nothing():
    layer = SwinLayer(6, 16, depth=3, swin_width=8, head_width=4, window=4)
    assert [swin.shift for swin in layer.blocks] == [0, 2, 0]
    nn.init.zeros_(layer.patch_unembed[0].weight)
    nn.init.zeros_(layer.patch_unembed[0].bias)
    assert not layer(torch.randn(1, 6, 8, 8)).any()


@pytest.mark.parametrize("mask", MASKS)
def test_images_of_a_batch_do_not_see_each_other(mask):
    swin, x = block(True, mask), features(8, 12, batch=3)
    assert torch.allclose(swin(x)[1:2], swin(x[1:2]), atol=1e-12)


@pytest.mark.parametrize("mask", MASKS)
def test_gradient(mask):
    swin = block(True, mask)
    x = features(4, 8, batch=1).requires_grad_()
    swin(x).square().sum().backward()
    for tensor in (x, *swin.parameters()):
        assert tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0


def test_gradient_of_the_bias_by_differences():
    attention = randomized(WindowAttention(4, 2, 2))
    tokens = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    mask = shift_mask("standard", 1, 2, 2, CPU)

    def mixed(table: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(attention, {"relative_position_bias_table": table}, (tokens, mask))

    assert torch.autograd.gradcheck(mixed, (attention.relative_position_bias_table.detach().requires_grad_(),))


def test_training_after_inference_mode():
    relative_positions.cache_clear()
    swin, x = block(True), features(8, 8)
    with torch.inference_mode():
        swin(x)
    swin(x).sum().backward()
    assert swin.attn.relative_position_bias_table.grad is not None


def test_nothing_cached_is_in_the_state_dict():
    swin = block(True)
    swin(features(8, 8))
    assert set(swin.state_dict()) == {name for name, _ in swin.named_parameters()}


def test_heads_that_do_not_fill_the_channels():
    with pytest.raises(InputError, match=r"30 channels .* heads of width 16"):
        WindowAttention(30, 16, 8)
