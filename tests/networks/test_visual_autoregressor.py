"""The visual autoregressor is the published one: by the table of its entries, and by a plain forward pass over them.

Table and forward pass are written from the published facts, with torch.nn.functional alone.
"""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.networks.level_attention import KeyValues, LevelAttention
from lit_thermal.networks.visual_autoregressor import VisualAutoregressor

SMALL = {
    "depth": 3,
    "width": 24,
    "heads": 3,
    "entries": 20,
    "token_dim": 5,
    "scales": (1, 2, 3, 5),
    "prefix_maps": 2,
    "drop_path": 0.0,
}


def table(depth=24, width=1536, heads=24, entries=4096, token_dim=32, scales=10, prefix=2049, labels=2):
    """Return name and shape of the entries of the published layout, but masks and zero biases."""
    shapes: dict[str, tuple[int, ...]] = {
        "pos_start": (1, prefix, width),
        "lvl_embed.weight": (scales, width),
        "class_emb.weight": (labels, width),
    }

    def layer(name, out, into):
        shapes.update({f"{name}.weight": (out, into), f"{name}.bias": (out,)})

    layer("word_embed", width, token_dim)
    for index in range(depth):
        at = f"blocks.{index}"
        shapes[f"{at}.attn.scale_mul_1H11"] = (1, heads, 1, 1)
        shapes[f"{at}.attn.q_bias"] = shapes[f"{at}.attn.v_bias"] = (width,)
        shapes[f"{at}.attn.mat_qkv.weight"] = (3 * width, width)
        layer(f"{at}.attn.proj", width, width)
        layer(f"{at}.ffn.fc1", 4 * width, width)
        layer(f"{at}.ffn.fc2", width, 4 * width)
        layer(f"{at}.ada_lin.1", 6 * width, width)
    layer("head_nm.ada_lin.1", 2 * width, width)
    layer("head", entries, width)
    return shapes


def network(seed=0, dtype=torch.float64, **changes):
    """A small network none of whose parameters is as small as at its start."""
    torch.manual_seed(seed)
    net = VisualAutoregressor(**{**SMALL, **changes})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in net.named_parameters():
            spread = 1 / p.shape[-1] ** 0.5 if p.ndim == 2 and "embedding" not in name else 0.5
            p.add_(spread * torch.randn(p.shape, generator=generator))
        # one head sharper than allowed
        net.blocks[0].attention.log_scale[0, 0] = 6.0
    return net.to(dtype).eval()


def batch(net, size=2, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    prefix = torch.randn(size, net.prefix_tokens - 1, net.width, generator=generator, dtype=dtype)
    inputs = torch.randn(size, sum(net.levels[1:]), net.token_dim, generator=generator, dtype=dtype)
    return prefix, torch.arange(size) % 2, inputs


def plain(state, prefix, label, inputs, heads, scales, maps):
    """The published forward pass: one attention over all tokens, with a mask, and complex rotations."""
    width, last = prefix.shape[-1], scales[-1]
    dim = width // heads
    prefix_tokens = maps * last**2 + 1
    level_of = torch.tensor([0] * prefix_tokens + [k for k in range(1, len(scales)) for _ in range(scales[k] ** 2)])
    start = torch.cat([prefix, state["class_emb.weight"][label][:, None]], 1) + state["pos_start"]
    words = F.linear(inputs, state["word_embed.weight"], state["word_embed.bias"])
    x = torch.cat([start, words], 1) + state["lvl_embed.weight"][level_of]
    places = [
        (row / side * last, column / side * last)
        for side in [last] * maps + [*scales]
        for row in range(side)
        for column in range(side)
    ]
    angles = torch.tensor(
        [[at * 10000 ** (-4 * i / dim) for at in place for i in range(dim // 4)] for place in places], dtype=x.dtype
    )
    turn = torch.polar(torch.ones_like(angles), angles)
    mask = torch.zeros(len(level_of), len(level_of), dtype=x.dtype)
    mask[level_of[:, None] < level_of[None]] = -torch.inf
    condition = F.silu(state["class_emb.weight"][label])

    def norm(x):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()

    def turned(x):
        x = x / x.norm(dim=-1, keepdim=True)
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn).flatten(-2)

    depth = sum(name.endswith("mat_qkv.weight") for name in state)
    for index in range(depth):
        own = {n.removeprefix(f"blocks.{index}."): v for n, v in state.items() if n.startswith(f"blocks.{index}.")}
        six = F.linear(condition, own["ada_lin.1.weight"], own["ada_lin.1.bias"]).view(-1, 6, 1, width)
        gamma1, gamma2, scale1, scale2, shift1, shift2 = six.unbind(1)
        h = norm(x) * (1 + scale1) + shift1
        wq, wk, wv = own["attn.mat_qkv.weight"].chunk(3)
        q, k, v = (
            (h @ w.T + b).unflatten(-1, (heads, dim)).transpose(1, 2)
            for w, b in ((wq, own["attn.q_bias"]), (wk, 0), (wv, own["attn.v_bias"]))
        )
        factor = own["attn.scale_mul_1H11"].clamp(max=math.log(100)).exp()
        weights = ((factor * turned(q)) @ turned(k).mT + mask).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        x = x + gamma1 * F.linear(mixed, own["attn.proj.weight"], own["attn.proj.bias"])
        h = norm(x) * (1 + scale2) + shift2
        h = F.gelu(F.linear(h, own["ffn.fc1.weight"], own["ffn.fc1.bias"]), approximate="tanh")
        x = x + gamma2 * F.linear(h, own["ffn.fc2.weight"], own["ffn.fc2.bias"])
    two = F.linear(condition, state["head_nm.ada_lin.1.weight"], state["head_nm.ada_lin.1.bias"]).view(-1, 2, 1, width)
    x = norm(x[:, prefix_tokens - 1 :]) * (1 + two[:, 0]) + two[:, 1]
    return F.linear(x, state["head.weight"], state["head.bias"])


def released(net):
    names = net.released_names()
    return {names[name]: value.detach() for name, value in net.state_dict().items()}


def test_published_layout_and_size():
    with torch.device("meta"):
        net = VisualAutoregressor()
    shapes = {name: tuple(value.shape) for name, value in released(net).items()}
    assert shapes == table()
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    assert count["blocks"] == 1_019_732_544
    assert count["head"] + count["head_modulation"] == 6_295_552 + 4_721_664
    assert net.prefix_positions.numel() == 3_147_264
    assert net.levels == (2049, 4, 9, 16, 36, 81, 169, 324, 576, 1024)


def test_nothing_but_parameters_is_kept():
    net = network()
    net(*batch(net))
    assert set(net.state_dict()) == {name for name, _ in net.named_parameters()}
    assert not list(net.buffers())


@pytest.mark.parametrize("changes", [{}, {"prefix_maps": 1, "scales": (1, 3)}, {"heads": 6, "scales": (1,)}])
def test_equals_the_plain_forward_pass(changes):
    net = network(**changes)
    prefix, label, inputs = batch(net)
    expected = plain(released(net), prefix, label, inputs, net.blocks[0].attention.heads, net.scales, net.prefix_maps)
    got = net(prefix, label, inputs)
    assert got.shape == (2, sum(side**2 for side in net.scales), 20)
    assert expected.std() > 0.3
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("maps", [1, 2])
def test_cached_equals_masked(dtype, near, maps):
    net = network(dtype=dtype, prefix_maps=maps)
    prefix, label, inputs = batch(net, 3, dtype=dtype)
    masked = net(prefix, label, inputs)
    cache = net.begin(prefix, label)
    parts = [net.step(cache, 0)]
    for level, own in enumerate(inputs.split(net.levels[1:], dim=1), start=1):
        parts.append(net.step(cache, level, own))
    assert [part.shape[1] for part in parts] == [side**2 for side in net.scales]
    torch.testing.assert_close(torch.cat(parts, 1), masked, rtol=near, atol=near)
    features = net.features(prefix, label, inputs)
    assert torch.equal(net.predict(features, label), masked)
    torch.testing.assert_close(cache.features, features[:, -(net.scales[-1] ** 2) :], rtol=near, atol=near)


def test_scales_come_in_turn():
    net = network()
    prefix, label, inputs = batch(net)
    cache = net.begin(prefix, label)
    with pytest.raises(ValueError, match="scale 1 was asked for where 0 of 4 is next"):
        net.step(cache, 1, inputs[:, :4])
    with pytest.raises(ValueError, match="no inputs"):
        net.step(cache, 0, inputs[:, :4])
    net.step(cache, 0)
    with pytest.raises(ValueError, match="needs inputs"):
        net.step(cache, 1)
    with pytest.raises(InputError, match=r"\(9, 5\) and takes \(4, 5\)"):
        net.step(cache, 1, inputs[:, :9])
    net.step(cache, 1, inputs[:, :4])


def test_a_scale_sees_itself_and_those_before():
    net = network()
    prefix, label, inputs = batch(net, 1)
    spans = [(1, 5), (5, 14), (14, 39)]
    before = net(prefix, label, inputs)
    for start, end in spans:
        changed = inputs.clone()
        # one token of the scale: all tokens of its own scale see it
        changed[:, start - 1] += 1
        moved = (net(prefix, label, changed) - before).abs().amax((0, 2))
        assert (moved[:start] == 0).all() and (moved[start:] > 1e-9).all(), (start, end)
    changed = prefix.clone()
    changed[:, 7, 0] += 1
    assert ((net(changed, label, inputs) - before).abs().amax((0, 2)) > 1e-9).all()


def test_each_image_by_itself():
    net = network()
    prefix, label, inputs = batch(net, 3)
    together = net(prefix, label, inputs)
    for i in range(3):
        torch.testing.assert_close(net(prefix[i : i + 1], label[i : i + 1], inputs[i : i + 1])[0], together[i])
    assert (net(prefix, 1 - label, inputs) - together).abs().max() > 1e-2


def test_every_parameter_learns_and_blocks_recomputed_give_the_same():
    gradients = []
    for recompute in (False, True):
        net = network(checkpoint_blocks=recompute, drop_path=0.5).train()
        prefix, label, inputs = batch(net, 4)
        torch.manual_seed(3)
        net(prefix.requires_grad_(), label, inputs.requires_grad_()).square().sum().backward()
        gradients.append(
            {"prefix": prefix.grad, "inputs": inputs.grad} | {n: p.grad for n, p in net.named_parameters()}
        )
    for name, gradient in gradients[0].items():
        assert gradient.isfinite().all() and gradient.abs().sum() > 0, name
        torch.testing.assert_close(gradient, gradients[1][name])


def test_dropped_residuals_keep_their_mean():
    net = network(drop_path=0.4)
    assert [block.drop_path for block in net.blocks] == [0.0, 0.2, 0.4]
    residual = torch.ones(4000, 2, 3)
    torch.manual_seed(0)
    dropped = net.blocks[2].train()._dropped(residual)
    assert set(dropped.unique().tolist()) == {0.0, (residual / 0.6)[0, 0, 0].item()}
    assert (dropped == dropped[:, :1, :1]).all()
    assert abs(dropped.mean() - 1) < 0.05
    assert net.blocks[2].eval()._dropped(residual) is residual


def test_condition_is_the_mean_of_the_prefix():
    net = network()
    prefix, label, _ = batch(net)
    tokens = torch.cat([prefix, net.class_embedding.weight[label][:, None]], 1)
    torch.testing.assert_close(net.condition(prefix, label), tokens.mean(1))
    torch.testing.assert_close(net.condition(prefix, label, trained=True), (tokens + net.prefix_positions).mean(1))
    prefix.requires_grad_()
    net.condition(prefix, label).sum().backward()
    torch.testing.assert_close(prefix.grad, torch.full_like(prefix, 1 / tokens.shape[1]))


def test_start():
    torch.manual_seed(0)
    net = VisualAutoregressor(depth=2, width=96, heads=4, entries=200, scales=(1, 2, 4))
    deviation = (1 / (3 * 96)) ** 0.5
    block = net.blocks[1]
    for value, times in (
        (net.prefix_positions, 1),
        (net.token_embedding.weight, 1),
        (block.attention.qkv.weight, 1),
        (block.mlp[0].weight, 1),
        (block.attention.out.weight, 0.5),
        (block.mlp[2].weight, 0.5),
        (block.modulation.weight[:192], 1e-4),
        (block.modulation.weight[192:], 0.5),
        (net.head_modulation.weight, 0.5),
        (net.head.weight, 0.02),
    ):
        assert value.std().item() == pytest.approx(times * deviation, rel=0.05)
    for module in net.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            assert not module.bias.any()
    torch.testing.assert_close(block.attention.log_scale, torch.full((1, 4, 1, 1), math.log(4)))
    assert net(*batch(net, dtype=torch.float32)).std() < 0.05


def test_lower_precision_stays_near_and_logits_are_float32():
    net = network(dtype=torch.float32)
    net.blocks[0].attention.log_scale.data.clamp_(max=1.0)
    prefix, label, inputs = batch(net, dtype=torch.float32)
    exact = net(prefix, label, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = net(prefix.bfloat16(), label, inputs)
        cache = net.begin(prefix.bfloat16(), label)
        first = net.step(cache, 0)
    assert near.dtype == first.dtype == torch.float32
    assert (near - exact).abs().mean() < 0.05 * exact.abs().mean()
    torch.testing.assert_close(first, near[:, :1], rtol=0.1, atol=0.1)


def test_learns_its_tokens():
    torch.manual_seed(0)
    net = VisualAutoregressor(**{**SMALL, "scales": (1, 2, 3), "depth": 2, "width": 32, "heads": 2})
    prefix, label, inputs = batch(net, 2, dtype=torch.float32)
    ids = torch.randint(20, (2, 14), generator=torch.Generator().manual_seed(5))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(60):
        loss = F.cross_entropy(net(prefix, label, inputs).mT, ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3 < math.log(20)


def test_attention_of_one_level_is_plain():
    torch.manual_seed(0)
    attention = LevelAttention(8, 2).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    still = torch.stack([torch.ones(5, 2), torch.zeros(5, 2)]).double()
    q, k, v = (part.view(2, 5, 2, 4).transpose(1, 2) for part in (x @ attention.qkv.weight.T).chunk(3, -1))
    weights = (4 * F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT).softmax(-1)
    expected = attention.out((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x, [5], still), expected)
    torch.testing.assert_close(attention(x, [5], still, KeyValues(9)), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 0}, "depth = 0"),
        ({"prefix_maps": 0}, "prefix_maps = 0"),
        ({"width": 30}, "width = 30 with heads = 3"),
        ({"scales": (2, 4)}, r"scales = \[2, 4\]"),
        ({"scales": (1, 3, 3)}, r"scales = \[1, 3, 3\]"),
        ({"scales": ()}, r"scales = \[\]"),
        ({"drop_path": 1.0}, "drop_path = 1.0"),
    ],
)
def test_arguments_that_do_not_fit(changes, message):
    with pytest.raises(InputError, match=message):
        VisualAutoregressor(**{**SMALL, **changes})


def test_inputs_that_do_not_fit():
    net = network()
    prefix, label, inputs = batch(net)
    for wrong in ((prefix[:, 1:], label, inputs), (prefix[..., 1:], label, inputs), (prefix, label, inputs[:, 1:])):
        with pytest.raises(InputError, match=r"fit its scales \[1, 2, 3, 5\]"):
            net(*wrong)


def test_a_start_from_entries_looks_at_its_own_place_and_tells_near_entries_alike():
    torch.manual_seed(0)
    side, entries = 8, torch.randn(40, 3)
    entries[1] = entries[0] + 0.01
    transformer = VisualAutoregressor(2, 64, 2, 40, 3, (1, side), prefix_maps=1, drop_path=0.0).eval()
    transformer.start_from(entries)
    prefix, label = torch.randn(2, side**2, 64), torch.zeros(2, dtype=torch.long)
    logits = transformer(prefix, label, torch.randn(2, side**2, 3))
    near, far = ((logits[..., 0] - logits[..., other]).abs().mean() for other in (1, 2))
    assert near < 0.05 * far
    changed = prefix.clone()
    changed[:, 3 * side + 3] += 3 * torch.randn(64)
    moved = transformer(changed, label, torch.randn(2, side**2, 3) * 0) - transformer(
        prefix, label, torch.zeros(2, side**2, 3)
    )
    moved = moved[:, 1:].abs().mean(-1).mean(0).unflatten(0, (side, side))
    assert moved[3, 3] > 2 * moved[0, 7] and moved[3, 3] > 2 * moved[7, 0]
