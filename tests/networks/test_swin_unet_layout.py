"""Weights in the released layout give, in our network, what a plain forward pass over them gives.

Layout and forward pass are written from the published facts, with torch.nn.functional alone: loading proves names, this
proves numbers.
"""

import math
from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional as F

from lit_thermal.networks.swin_unet import SwinUNet
from lit_thermal.weights.convert.difiisr_unet import released_layout, to_ours


@dataclass(frozen=True)
class Size:
    """What the layout depends on; the defaults are the published network."""

    width: int = 160
    multipliers: tuple[int, ...] = (1, 2, 2, 4)
    res_blocks: tuple[int, ...] = (2, 2, 2, 2)
    image_size: int = 64
    swin_width: int = 192
    head_width: int = 32
    window: int = 8

    def sizes(self) -> tuple[int, ...]:
        return tuple(self.image_size // 2**level for level in range(len(self.multipliers)))

    def network(self, swin_mask: str = "standard") -> SwinUNet:
        return SwinUNet(3, 3, **vars(self), attention_sizes=self.sizes(), swin_mask=swin_mask)


PUBLISHED = Size()
# As published, the last of three levels is one window, so that two kinds of levels are shifted and one is not.
SMALL = Size(32, (1, 2, 2), (1, 2, 1), 16, swin_width=32, head_width=8, window=4)


def table(size: Size) -> dict[str, tuple[int, ...]]:
    """Return name and shape of all entries: 564 in the published network."""
    shapes: dict[str, tuple[int, ...]] = {}
    embedding, window, swin = 4 * size.width, size.window, size.swin_width

    def pair(name: str, *shape: int) -> None:
        shapes.update({f"{name}.weight": shape, f"{name}.bias": shape[:1]})

    def res(at: str, before: int, width: int) -> None:
        pair(f"{at}.in_layers.0", before)
        pair(f"{at}.in_layers.2", width, before, 3, 3)
        pair(f"{at}.emb_layers.1", 2 * width, embedding)
        pair(f"{at}.out_layers.0", width)
        pair(f"{at}.out_layers.3", width, width, 3, 3)
        if before != width:
            pair(f"{at}.skip_connection", width, before, 1, 1)

    def attention(at: str, width: int, side: int) -> None:
        pair(f"{at}.patch_embed.proj", swin, width, 1, 1)
        pair(f"{at}.patch_unembed.proj", width, swin, 1, 1)
        for block in (f"{at}.blocks.0", f"{at}.blocks.1"):
            pair(f"{block}.norm1", swin)
            pair(f"{block}.norm2", swin)
            shapes[f"{block}.attn.relative_position_bias_table"] = (2 * window - 1) ** 2, swin // size.head_width
            shapes[f"{block}.attn.relative_position_index"] = window**2, window**2
            pair(f"{block}.attn.qkv", 3 * swin, swin)
            pair(f"{block}.attn.proj", swin, swin)
            pair(f"{block}.mlp.fc1", 4 * swin, swin, 1, 1)
            pair(f"{block}.mlp.fc2", swin, 4 * swin, 1, 1)
        if side > window:
            shapes[f"{at}.blocks.1.attn_mask"] = (side // window) ** 2, window**2, window**2

    levels = list(zip(size.multipliers, size.res_blocks, size.sizes(), strict=True))
    pair("time_embed.0", embedding, size.width)
    pair("time_embed.2", embedding, embedding)
    pair("input_blocks.0.0", size.width * size.multipliers[0], 6, 3, 3)
    channels = [size.width * size.multipliers[0]]
    for level, (multiplier, blocks, side) in enumerate(levels):
        width = size.width * multiplier
        for block in range(blocks):
            at = f"input_blocks.{len(channels)}"
            res(f"{at}.0", channels[-1], width)
            if block == 0:
                attention(f"{at}.1", width, side)
            channels.append(width)
        if level < len(levels) - 1:
            pair(f"input_blocks.{len(channels)}.0.op", width, width, 3, 3)
            channels.append(width)
    res("middle_block.0", width, width)
    attention("middle_block.1", width, side)
    res("middle_block.2", width, width)
    number, before = 0, width
    for level, (multiplier, blocks, side) in reversed(list(enumerate(levels))):
        width = size.width * multiplier
        for block in range(blocks + 1):
            at = f"output_blocks.{number}"
            res(f"{at}.0", before + channels.pop(), width)
            if block == 0:
                attention(f"{at}.1", width, side)
            if level and block == blocks:
                pair(f"{at}.1.conv", width, width, 3, 3)
            number, before = number + 1, width
    pair("out.0", width)
    pair("out.2", 3, width, 3, 3)
    return shapes


def random_weights(size: Size) -> dict[str, torch.Tensor]:
    """Return values that keep features of about one size through all layers; the buffers hold nonsense."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in table(size).items():
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith(("relative_position_index", "attn_mask")):
            state[name] = torch.full(shape, 1000.0)
        elif name.endswith("bias_table"):
            state[name] = noise
        elif len(shape) > 1:
            state[name] = noise / noise[0].numel() ** 0.5
        else:
            state[name] = 0.2 * noise + name.endswith("weight")
    return state


class Plain:
    """The published network over a plain state dict of released names."""

    def __init__(self, size: Size, weights: dict[str, torch.Tensor], mask: str):
        self.size, self.w, self.mask = size, weights, mask

    def pair(self, at):
        return self.w[f"{at}.weight"], self.w[f"{at}.bias"]

    def conv(self, x, at, stride=1):
        weight, bias = self.pair(at)
        return F.conv2d(x, weight, bias, stride=stride, padding=weight.shape[-1] // 2)

    def norm(self, x, at):
        return F.group_norm(x, 32, *self.pair(at), eps=1e-5)

    def res(self, x, embedded, at):
        h = self.conv(F.silu(self.norm(x, f"{at}.in_layers.0")), f"{at}.in_layers.2")
        film = F.linear(F.silu(embedded), *self.pair(f"{at}.emb_layers.1"))
        width = h.shape[1]
        scale, shift = film[:, :width, None, None], film[:, width:, None, None]
        h = self.norm(h, f"{at}.out_layers.0") * (1 + scale) + shift
        h = self.conv(F.silu(h), f"{at}.out_layers.3")
        return h + (self.conv(x, f"{at}.skip_connection") if f"{at}.skip_connection.weight" in self.w else x)

    def logits_added(self, at):
        """The bias of each pair of tokens in a window, (heads, tokens, tokens)."""
        side = self.size.window
        tokens = [(y, x) for y in range(side) for x in range(side)]
        rows = [[(a[0] - b[0] + side - 1) * (2 * side - 1) + a[1] - b[1] + side - 1 for b in tokens] for a in tokens]
        return self.w[f"{at}.relative_position_bias_table"][torch.tensor(rows)].movedim(-1, 0)

    def apart(self, last_row, last_column):
        """What a shifted window's mask adds, (tokens, tokens)."""
        side = self.size.window
        number = torch.arange(side * side)
        left, upper = number % side < side // 2, number // side < side // 2
        mask = torch.zeros(side * side, side * side, dtype=torch.bool)
        if self.mask == "released":
            mask |= last_row & (left[:, None] != left)
        else:
            mask |= last_row & (upper[:, None] != upper)
            mask |= last_column & (left[:, None] != left)
        return -100.0 * mask.double()

    def attention(self, x, at, shifted):
        """One window after the other, one head after the other."""
        side, head = self.size.window, self.size.head_width
        if shifted:
            x = torch.roll(x, (-(side // 2), -(side // 2)), (2, 3))
        added = self.logits_added(at)
        out = torch.zeros_like(x)
        for top in range(0, x.shape[2], side):
            for start in range(0, x.shape[3], side):
                tokens = x[:, :, top : top + side, start : start + side].flatten(2).transpose(1, 2)
                q, k, v = F.linear(tokens, *self.pair(f"{at}.qkv")).chunk(3, dim=-1)
                heads = []
                for index in range(self.size.swin_width // head):
                    own = slice(index * head, (index + 1) * head)
                    logits = q[..., own] @ k[..., own].transpose(1, 2) * head**-0.5 + added[index]
                    if shifted:
                        logits = logits + self.apart(top + side == x.shape[2], start + side == x.shape[3])
                    heads.append(F.softmax(logits, dim=-1) @ v[..., own])
                mixed = F.linear(torch.cat(heads, dim=-1), *self.pair(f"{at}.proj"))
                out[:, :, top : top + side, start : start + side] = mixed.transpose(1, 2).unflatten(2, (side, side))
        return torch.roll(out, (side // 2, side // 2), (2, 3)) if shifted else out

    def swin(self, x, at):
        x = self.conv(x, f"{at}.patch_embed.proj")
        for block in (0, 1):
            name = f"{at}.blocks.{block}"
            shifted = f"{name}.attn_mask" in self.w
            x = x + self.attention(self.norm(x, f"{name}.norm1"), f"{name}.attn", shifted)
            hidden = F.gelu(self.conv(self.norm(x, f"{name}.norm2"), f"{name}.mlp.fc1"))
            x = x + self.conv(hidden, f"{name}.mlp.fc2")
        return self.conv(x, f"{at}.patch_unembed.proj")

    def stage(self, x, embedded, at):
        """The layers of one entry of a list of blocks, by what their names say they are."""
        for layer in (f"{at}.{index}" for index in range(3)):
            if f"{layer}.in_layers.0.weight" in self.w:
                x = self.res(x, embedded, layer)
            elif f"{layer}.patch_embed.proj.weight" in self.w:
                x = self.swin(x, layer)
            elif f"{layer}.op.weight" in self.w:
                x = self.conv(x, f"{layer}.op", stride=2)
            elif f"{layer}.conv.weight" in self.w:
                x = self.conv(F.interpolate(x, scale_factor=2, mode="nearest"), f"{layer}.conv")
            elif f"{layer}.weight" in self.w:
                x = self.conv(x, layer)
        return x

    def __call__(self, x, t, condition):
        half = self.size.width // 2
        angles = t.double()[:, None] * torch.tensor([math.exp(-math.log(10000) * i / half) for i in range(half)])
        embedded = F.linear(torch.cat([angles.cos(), angles.sin()], dim=1), *self.pair("time_embed.0"))
        embedded = F.linear(F.silu(embedded), *self.pair("time_embed.2"))
        h, skips = torch.cat([x, condition], dim=1), []
        for number in range(blocks(self.w, "input_blocks")):
            h = self.stage(h, embedded, f"input_blocks.{number}")
            skips.append(h)
        h = self.stage(h, embedded, "middle_block")
        for number in range(blocks(self.w, "output_blocks")):
            h = self.stage(torch.cat([h, skips.pop()], dim=1), embedded, f"output_blocks.{number}")
        return self.conv(F.silu(self.norm(h, "out.0")), "out.2")


def blocks(names, which: str) -> int:
    return 1 + max(int(name.split(".")[1]) for name in names if name.startswith(f"{which}."))


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return random_weights(SMALL)


def inputs(height: int, width: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(2)
    x, condition = torch.randn(2, 2, 3, height, width, generator=generator, dtype=torch.float64)
    return x, torch.tensor([14, 3]), condition


@pytest.mark.parametrize("mask", ["standard", "released"])
@pytest.mark.parametrize("size", [(16, 16), (16, 32), (48, 16)])
def test_agrees_with_a_plain_forward_pass(weights, mask, size):
    x, t, condition = inputs(*size)
    expected = Plain(SMALL, weights, mask)(x, t, condition)
    assert 0.3 < expected.std() < 3
    network = SMALL.network(mask).double()
    network.load_state_dict(to_ours(weights), strict=True)
    with torch.no_grad():
        assert (network(x, t, condition) - expected).abs().max() < 1e-6
        single = network.float()(x.float(), t, condition.float())
    assert (single - expected).abs().max() < 1e-5


def test_the_two_masks_are_not_alike(weights):
    standard, released = (Plain(SMALL, weights, mask)(*inputs(16, 16)) for mask in ("standard", "released"))
    assert (standard - released).abs().max() > 0.01


def test_published_layout():
    shapes = table(PUBLISHED)
    assert len(shapes) == 564
    buffers = [name for name in shapes if name.endswith(("relative_position_index", "attn_mask"))]
    assert len(buffers) == 24 and sum(name.endswith("attn_mask") for name in buffers) == 6
    assert shapes["input_blocks.1.1.blocks.1.attn_mask"] == (64, 64, 64)
    assert shapes["output_blocks.6.1.blocks.1.attn_mask"] == (16, 64, 64)
    with torch.device("meta"):
        network = PUBLISHED.network()
    layout = released_layout(network)
    assert {name: tuple(value.shape) for name, value in layout.items()} == shapes
    assert all(value.is_meta for value in layout.values())
    assert {name for name, value in layout.items() if value.dtype == torch.int64} == {
        name for name in shapes if name.endswith("relative_position_index")
    }


def test_only_buffers_are_left_out(weights):
    ours = to_ours(weights)
    assert set(ours) == set(SMALL.network().state_dict())
    assert all(ours[name] is weights[name] for name in ours)
