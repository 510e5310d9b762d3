import pytest
import torch
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.networks.group_norm import WideGroupNorm
from lit_thermal.networks.swin_unet import ResBlock, SwinUNet, pad_to_multiple

SMALL = dict(
    channels=3,
    condition_channels=2,
    width=16,
    multipliers=(1, 2),
    res_blocks=(1, 2),
    image_size=16,
    attention_sizes=(16, 8),
    swin_width=16,
    head_width=8,
    window=4,
)


def network(seed: int = 0, **changes: object) -> SwinUNet:
    """A small network in which no layer is zero as at its start."""
    torch.manual_seed(seed)
    net = SwinUNet(**{**SMALL, **changes})
    for module in net.modules():
        if isinstance(module, ResBlock):
            module.out_layers[3].reset_parameters()
    return net


def inputs(height: int = 16, width: int = 8, batch: int = 2, seed: int = 1) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, 3, height, width, generator=generator)
    return x, torch.arange(batch) * 7, torch.randn(batch, 2, height, width, generator=generator)


def test_published_size():
    with torch.device("meta"):
        net = SwinUNet()
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    assert counts == {
        "time_embed": 513_280,
        "input_blocks": 30_909_520,
        "middle_block": 17_533_260,
        "output_blocks": 69_632_880,
        "out": 4_643,
    }
    assert sum(counts.values()) == 118_593_583
    assert net.multiple == 64


@pytest.mark.parametrize("size", [(1, 1), (3, 17), (8, 8), (9, 30), (16, 24)])
def test_any_size_forward_and_backward(size):
    net = network()
    x, t, condition = inputs(*size)
    out = net(x.requires_grad_(), t, condition.requires_grad_())
    assert out.shape == x.shape and out.isfinite().all()
    out.square().sum().backward()
    for name, tensor in [("x", x), ("condition", condition), *net.named_parameters()]:
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 32, "swin_width": 32, "head_width": 16, "window": 8},
        {"multipliers": (1,), "res_blocks": (1,), "attention_sizes": ()},
        {"multipliers": (1, 2, 3), "res_blocks": (1, 1, 1), "attention_sizes": (8,), "dropout": 0.1},
        {"width": 6, "attention_sizes": (8,), "swin_depth": 1},
        {"channels": 3, "swin_mask": "released", "mlp_ratio": 1.5},
    ],
)
def test_other_configurations(changes):
    net = network(**changes)
    x, t, condition = inputs(11, 18)
    assert net(x, t, condition).shape == x.shape


def test_padded_inside_as_one_would_outside():
    net = network()
    x, t, condition = inputs(13, 21)
    padded = [F.pad(tensor, (0, 3, 0, 3), mode="reflect") for tensor in (x, condition)]
    assert torch.equal(net(x, t, condition), net(padded[0], t, padded[1])[..., :13, :21])


def test_padding_repeats_the_border_where_it_cannot_reflect():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    padded = pad_to_multiple(x, 4)
    assert padded.shape == (1, 1, 4, 4)
    assert padded[0, 0].tolist() == [[0, 1, 2, 1], [3, 4, 5, 4], [3, 4, 5, 4], [3, 4, 5, 4]]
    assert pad_to_multiple(x[..., :2], 2).shape == (1, 1, 2, 2)


@pytest.mark.parametrize(
    ("attention_sizes", "multiple"), [((), 4), ((32,), 8), ((16,), 16), ((8,), 32), ((32, 16), 16), ((32, 8), 32)]
)
def test_padded_to_what_is_needed_only(attention_sizes, multiple):
    with torch.device("meta"):
        net = SwinUNet(
            multipliers=(1, 1, 1), res_blocks=(1, 1, 1), image_size=32, attention_sizes=attention_sizes, window=8
        )
    assert net.multiple == multiple


def test_starts_with_identity_residual_blocks():
    net = SwinUNet(**SMALL)
    x = torch.randn(1, 16, 4, 4)
    block = ResBlock(16, 16, 64, 0.0)
    assert torch.equal(block(x, torch.randn(1, 64)), x)
    blocks = [module for module in net.modules() if isinstance(module, ResBlock)]
    assert len(blocks) == 3 + 2 + 5
    assert not any(p.any() for b in blocks for p in b.out_layers[3].parameters())
    assert net.out[2].weight.any()


def test_time_and_condition_matter_for_each_image_alone():
    net = network()
    x, t, condition = inputs()
    out = net(x, t, condition)
    assert torch.allclose(net(x[1:], t[1:], condition[1:]), out[1:], atol=1e-5)
    assert (net(x, t + 3, condition) - out).abs().max() > 1e-3
    assert (net(x, t, condition.flip(0)) - out).abs().max() > 1e-3


def test_no_image_passes():
    x, t, condition = inputs(8, 8)
    assert network()(x[:0], t[:0], condition[:0]).shape == (0, 3, 8, 8)


def test_time_is_a_raw_index_whole_or_not():
    net = network()
    x, t, condition = inputs()
    assert torch.equal(net(x, t, condition), net(x, t.float(), condition))
    between = net.embed(torch.tensor([6.0, 6.5, 7.0]))
    assert (between[1] - between[0]).abs().max() > 1e-4


def test_autocast_is_close_and_norms_and_output_stay_in_float32():
    net = network()
    x, t, condition = inputs()
    seen: dict[str, list[torch.dtype]] = {"norm": [], "out": []}
    exact = net(x, t, condition)
    real = F.group_norm

    def group_norm(input: torch.Tensor, *rest: object) -> torch.Tensor:
        seen["norm"].append(input.dtype)
        return real(input, *rest)

    net.out[2].register_forward_hook(lambda _, __, output: seen["out"].append(output.dtype))
    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
        patch.setattr(F, "group_norm", group_norm)
        rough = net(x, t, condition)
    assert set(seen["norm"]) == {torch.float32} and seen["out"] == [torch.float32]
    assert len(seen["norm"]) == sum(isinstance(module, WideGroupNorm) for module in net.modules())
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.03 * exact.abs().max()


def test_autocast_trains():
    net = network()
    x, t, condition = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        net(x, t, condition).square().mean().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in net.parameters())


def test_half_precision_network_takes_float32_states():
    x, t, condition = inputs()
    exact = network()(x, t, condition)
    rough = network().bfloat16()(x, t, condition)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.06 * exact.abs().max()


def test_state_dict_round_trip():
    net, other = network(), network(seed=1)
    x, t, condition = inputs()
    assert not torch.equal(net(x, t, condition), other(x, t, condition))
    other.load_state_dict(net.state_dict(), strict=True)
    assert torch.equal(net(x, t, condition), other(x, t, condition))
    assert set(net.state_dict()) == {name for name, _ in net.named_parameters()}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"res_blocks": (1, 1, 1)}, "res_blocks = .*one positive number for each level"),
        ({"res_blocks": (1, 0)}, "one positive number for each level"),
        ({"multipliers": (), "res_blocks": ()}, "one positive number for each level"),
        ({"image_size": 15}, "image_size = 15 .* multiple of 2"),
        ({"attention_sizes": (16, 4)}, "name 4, .* sizes \\[16, 8\\]"),
        ({"swin_width": 20}, "20 channels .* heads of width 8"),
        ({"width": 15}, "width = 15 .* even"),
        ({"window": 0}, "window = 0 of the Swin U-Net .* at least 1"),
        ({"head_width": 0}, "head_width = 0 .* at least 1"),
        ({"swin_width": 0}, "swin_width = 0 .* at least 1"),
        ({"swin_depth": -1}, "swin_depth = -1 .* at least 1"),
        ({"mlp_ratio": -1.0}, "mlp_ratio = -1.0 .* leaves no channel"),
        ({"dropout": 2.0}, "dropout = 2.0 .* 0 to 1"),
    ],
)
def test_arguments_that_do_not_fit(changes, sentence):
    with pytest.raises(InputError, match=sentence) as raised:
        SwinUNet(**{**SMALL, **changes})
    assert "\n" not in str(raised.value)


def test_condition_of_another_size():
    x, t, condition = inputs()
    with pytest.raises(InputError, match=r"condition .* \(16, 7\) .* \(16, 8\)"):
        network()(x, t, condition[..., :7])


def test_learns():
    net = network()
    x, t, condition = inputs(8, 8)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        loss = F.mse_loss(net(x, t, condition), x.tanh())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
