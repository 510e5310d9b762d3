import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from lit_thermal.blocks.cross_modal_attention import (
    CrossAttention,
    CrossModalAttention,
    CrossModalSelfAttention,
    FeatureConcat,
    PixelAttention,
    SelfAttention,
    Views,
)
from lit_thermal.networks.latent_diffusion import SmallLatentDiffusion
from lit_thermal.ops.guided_transfer import guided_transfer

MEMBERS = CrossModalAttention.__subclasses__()
DIM, HEADS = 12, 3


class Layers(nn.Module):
    """The least that looks like a UNet to `install`: one transformer block's self-attention, and one text attention."""

    def __init__(self, dim: int = DIM, heads: int = HEADS) -> None:
        from diffusers.models.attention_processor import Attention

        super().__init__()
        torch.manual_seed(0)
        self.block = nn.ModuleDict(
            {"attn1": Attention(dim, heads=heads, dim_head=dim // heads), "attn2": Attention(dim, heads=heads)}
        )


def evidence(present: torch.Tensor) -> torch.Tensor:
    """Maps over a row of five tokens for each sample, zero without a visible view, as `PixelAttention` draws them."""
    maps = torch.randn(2, 2, 4, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return maps[: len(present)] * present[:, 1:].any(1).view(-1, 1, 1, 1)


def layer(member: type[CrossModalAttention], views: Views, dim: int = DIM, heads: int = HEADS) -> nn.Module:
    """A self-attention layer in double precision; new parameters are not those of their start."""
    if member is PixelAttention:
        views.evidence = evidence(absent())
    unet = Layers(dim, heads).double()
    added = member().install(unet, views).double()
    torch.manual_seed(1)
    for p in added.parameters():
        nn.init.normal_(p, std=0.3)
    unet.block["attn1"].added = added
    return unet.block["attn1"]


def plain() -> nn.Module:
    return Layers().double().block["attn1"]


def tokens(samples: int = 2, views: int = 3, length: int = 5, dim: int = DIM, seed: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples * views, length, dim, dtype=torch.float64, generator=generator)


def absent(samples: int = 2, views: int = 3) -> torch.Tensor:
    """The first sample has no visible view at all, the others lack the first visible one."""
    present = torch.ones(samples, views, dtype=torch.bool)
    present[0, 1:] = False
    present[1:, 1:2] = False
    return present


def attention_by_hand(attn: nn.Module, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Output (D,) for one query token (D,) and keys (m, D), head by head."""
    width, outputs = DIM // HEADS, []
    for head in range(HEADS):
        rows = slice(head * width, (head + 1) * width)
        q = attn.to_q.weight[rows] @ query
        scores = torch.stack([q @ (attn.to_k.weight[rows] @ key) / math.sqrt(width) for key in keys])
        weights = scores.exp() / scores.exp().sum()
        outputs.append(sum(w * (attn.to_v.weight[rows] @ key) for w, key in zip(weights, keys, strict=True)))
    return attn.to_out[0].weight @ torch.cat(outputs) + attn.to_out[0].bias


def reference(member: type[CrossModalAttention], attn: nn.Module, x: torch.Tensor, present: torch.Tensor):
    """Outputs (B, V, N, D) of present views, token by token, from what the member says that each attends to."""
    samples, views = present.shape
    x = x.unflatten(0, (samples, views)).clone()
    out = torch.zeros_like(x)
    for b in range(samples):
        here = [v for v in range(views) if present[b, v]]
        visible = [v for v in here if v > 0]
        if member is FeatureConcat:
            mean = sum(x[b, v] for v in visible) / len(visible) if visible else torch.zeros_like(x[b, 0])
            linear = attn.added["block"]
            x[b, 0] = torch.cat([x[b, 0], mean], dim=-1) @ linear.weight.T + linear.bias
        for v in here:
            sees = [v]
            if member is CrossModalSelfAttention:
                sees = here
            elif member is CrossAttention and v == 0:
                sees = visible or [0]
            keys = torch.cat([x[b, s] for s in sees])
            for n in range(x.shape[2]):
                out[b, v, n] = attention_by_hand(attn, x[b, v, n], keys)
                if member is PixelAttention and v == 0:
                    patch = evidence(absent())[b, :, :, 4 * n : 4 * n + 4].flatten()
                    out[b, v, n] += attn.added["block"].weight @ patch
    return out


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("complete", [True, False])
def test_equals_a_loop_over_tokens(member, views, complete):
    state = Views()
    attn = layer(member, state)
    x = tokens(views=views)
    present = torch.ones(2, views, dtype=torch.bool) if complete else absent(views=views)
    state.set(views, present)
    with torch.no_grad():
        out = attn(x).unflatten(0, (2, views))
        expected = reference(member, attn, x, present)
    assert torch.allclose(out[present], expected[present], atol=1e-12)


@pytest.mark.parametrize("member", [CrossModalSelfAttention, SelfAttention, CrossAttention])
def test_one_view_is_plain_self_attention(member):
    state = Views()
    attn, own = layer(member, state), plain()
    single = tokens(views=1)
    state.set(1)
    assert torch.allclose(attn(single), own(single), atol=1e-12)
    x = tokens(views=3)
    present = torch.tensor([[True, False, False]] * 2)
    state.set(3, present)
    assert torch.allclose(attn(x)[::3], own(x[::3]), atol=1e-12)
    attn, own = attn.float(), own.float()
    assert torch.allclose(attn(x.float())[::3], own(x.float()[::3]), atol=1e-6)


@pytest.mark.parametrize("member", [SelfAttention, FeatureConcat])
def test_nothing_is_exchanged_at_first(member):
    state = Views()
    unet = Layers().double()
    member().install(unet, state).double()
    x = tokens()
    state.set(3)
    assert torch.allclose(unet.block["attn1"](x), plain()(x), atol=1e-6)


@pytest.mark.parametrize("member", MEMBERS)
def test_absent_views_do_not_leak(member):
    state = Views()
    attn = layer(member, state)
    present = absent()
    state.set(3, present)
    outputs, gradients = [], []
    for filling in (0.0, 3.0, math.nan, math.inf):
        x = tokens()
        x.unflatten(0, (2, 3))[~present] = filling
        x.requires_grad_()
        attn.zero_grad()
        out = attn(x).unflatten(0, (2, 3))
        assert out.isfinite().all()
        out[present].square().sum().backward()
        assert not x.grad.unflatten(0, (2, 3))[~present].any()
        outputs.append(out[present])
        gradients.append(torch.cat([p.grad.flatten() for p in attn.parameters()]))
    assert all(torch.equal(out, outputs[0]) for out in outputs)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


@pytest.mark.parametrize("member", MEMBERS)
def test_samples_are_attended_by_themselves(member):
    state = Views()
    attn = layer(member, state)
    x, present = tokens(), absent()
    state.set(3, present)
    both = attn(x).unflatten(0, (2, 3))
    maps = state.evidence
    for b in range(2):
        state.set(3, present[b : b + 1])
        state.evidence = None if maps is None else maps[b : b + 1]
        alone = attn(x[3 * b : 3 * b + 3])
        assert torch.allclose(alone[present[b]], both[b][present[b]], atol=1e-12)


@pytest.mark.parametrize("member", MEMBERS)
def test_order_of_visible_views_does_not_matter_to_the_thermal_one(member):
    state = Views()
    attn = layer(member, state)
    x = tokens().unflatten(0, (2, 3))
    swapped = x[:, [0, 2, 1]]
    present = torch.tensor([[True, True, False], [True, True, True]])
    state.set(3, present)
    out = attn(x.flatten(0, 1)).unflatten(0, (2, 3))
    state.set(3, present[:, [0, 2, 1]])
    other = attn(swapped.flatten(0, 1)).unflatten(0, (2, 3))[:, [0, 2, 1]]
    assert torch.allclose(out[present], other[present], atol=1e-12)


@pytest.mark.parametrize("member", [CrossModalSelfAttention, CrossAttention])
def test_tokens_of_the_guide_may_be_moved(member):
    """What makes calibration needless: the thermal view sees the set of visible tokens, not their places."""
    state = Views(count=2)
    attn = layer(member, state)
    x = tokens(views=2).unflatten(0, (2, 2))
    moved = x.clone()
    moved[:, 1] = x[:, 1].roll(2, dims=1)
    out, other = (attn(t.flatten(0, 1)).unflatten(0, (2, 2)) for t in (x, moved))
    assert torch.allclose(out[:, 0], other[:, 0], atol=1e-12)
    assert torch.allclose(out[:, 1].roll(2, dims=1), other[:, 1], atol=1e-12)


@pytest.mark.parametrize(
    ("member", "thermal_sees", "visible_sees"),
    [
        (CrossModalSelfAttention, True, True),
        (SelfAttention, False, False),
        (FeatureConcat, True, False),
        (CrossAttention, True, False),
    ],
)
def test_who_sees_whom(member, thermal_sees, visible_sees):
    attn = layer(member, Views(count=2))
    x = tokens(samples=1, views=2).requires_grad_()
    for view, sees in ((0, thermal_sees), (1, visible_sees)):
        (gradient,) = torch.autograd.grad(attn(x)[view].square().sum(), x)
        assert bool(gradient[1 - view].any()) == sees


def test_a_mask_of_nothing_absent_is_dropped():
    views = Views()
    views.set(2, torch.ones(3, 2, dtype=torch.bool))
    assert views.present is None and views.count == 2
    views.set(2, torch.tensor([[1, 0]]))
    assert views.present is not None and views.present.dtype == torch.bool


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation gave."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return result


@pytest.mark.parametrize("complete", [True, False])
def test_memory_is_linear_at_the_published_length(complete):
    state = Views()
    attn = layer(CrossModalSelfAttention, state, dim=8, heads=1).float()
    x = tokens(samples=1, views=2, length=4096, dim=8).float().requires_grad_()
    state.set(2, torch.tensor([[True, complete]]))
    with Largest() as largest:
        attn(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    assert largest.elements < 100 * 8192, "no table of 8192 x 8192"
    with Largest() as largest, sdpa_kernel(SDPBackend.MATH):
        state.set(2)
        attn(x[:, :128].detach())
    assert largest.elements >= 256**2, "the measure would see one"


@pytest.mark.parametrize("member", MEMBERS)
def test_half_precision_is_close(member):
    state = Views()
    attn = layer(member, state).float()
    x = tokens().float()
    for present in (None, absent()):
        state.set(3, present)
        rows = slice(None) if present is None else present.flatten()
        exact = attn(x)[rows]
        with torch.autocast("cpu", torch.bfloat16):
            assert (attn(x)[rows] - exact).abs().max() < 0.05 * exact.abs().max()
        half = copy.deepcopy(attn).bfloat16()
        assert (half(x.bfloat16())[rows] - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("member", MEMBERS)
def test_whole_network(member):
    torch.manual_seed(0)
    base = SmallLatentDiffusion(unet_widths=(16, 32), head_dim=8, text_dim=8)
    unet, _ = base.build()
    state = {name: value.clone() for name, value in unet.state_dict().items()}
    views = Views()
    added = member().install(unet, views)
    assert unet.state_dict().keys() == state.keys(), "new parameters are not the UNet's"
    assert len(added) == (4 if member in (FeatureConcat, PixelAttention) else 0)
    assert all(p.requires_grad for p in added.parameters())
    text = torch.randn(6, 4, 8)
    x = torch.randn(6, 4, 5, 7)  # odd sizes are the UNet's own matter

    def run(present: torch.Tensor | None) -> torch.Tensor:
        views.set(3, present)
        if member is PixelAttention:
            views.evidence = torch.ones(2, 2, 16, 20)
        return unet(x, 199, text).sample

    out = run(None)
    assert out.shape == x.shape
    out[::3].square().sum().backward()
    assert all(p.grad.isfinite().all() for p in added.parameters())
    present = absent()
    with torch.no_grad():
        before = run(present).unflatten(0, (2, 3))
        x.unflatten(0, (2, 3))[~present] = torch.nan
        after = run(present).unflatten(0, (2, 3))
    assert torch.equal(before[present], after[present])


def test_copies_do_not_share_views_or_parameters():
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet, self.views = Layers().double(), Views(count=2)
            self.added = FeatureConcat().install(self.unet, self.views).double()

    network = Network()
    other = copy.deepcopy(network)
    processor = other.unet.block["attn1"].processor
    assert processor.views is other.views and processor.projection is other.added["block"]
    assert processor.views is not network.views


def test_evidence_is_the_difference_that_the_guides_make():
    generator = torch.Generator().manual_seed(4)
    thermal = torch.rand(2, 1, 6, 8, generator=generator)
    guides = torch.rand(2, 2, 3, 24, 32, generator=generator)
    enlarged = torch.rand(2, 1, 24, 32, generator=generator)
    present = torch.tensor([[True, True], [False, False]])
    maps = PixelAttention().evidence(thermal, enlarged, guides.masked_fill(~present[..., None, None, None], 0), present)
    assert maps.shape == (2, 2, 24, 32) and not maps[1].any()
    detail = sum(10 * (guided_transfer(thermal[:1], guides[:1, v]) - enlarged[:1]) for v in range(2)) / 2
    torch.testing.assert_close(maps[:1, :1], detail)
    assert maps[0, 1].min() >= 0
    assert PixelAttention().evidence(thermal, enlarged, guides[:, :0], present[:, :0]) is None
    assert CrossModalSelfAttention().evidence(thermal, enlarged, guides, present) is None
