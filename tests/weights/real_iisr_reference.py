"""Real-IISR as functions of a state dict in the released layout, written from the published facts with torch alone.

Nothing is kept between the scales: each is predicted from a whole masked pass over all before it.

Facts that a smaller model cannot share are the arguments `scales` and `extent` (1, 2, 3, 4, 6, 9, 13, 18, 24, 32 and 32
published). There are ten scales always. Images are (B, 3, H, W) in [-1, 1].
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]
KERNELS = (0, 0, 1, 1, 1, 2, 2, 3, 3, 3)
"""Which of the four shared convolutions each scale uses."""


def conv(s: State, name: str, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    return F.conv2d(x, s[f"{name}.weight"], s[f"{name}.bias"], stride, padding)


def linear(s: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, s[f"{name}.weight"], s.get(f"{name}.bias"))


def count(s: State, pattern: str) -> int:
    """How many there are of a name with a number in it, from 0."""
    return next(n for n in range(len(s)) if not any(name.startswith(pattern.format(n)) for name in s))


# the tokenizer


def group_norm(s: State, name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, 32, s[f"{name}.weight"], s[f"{name}.bias"], 1e-6)


def residual_block(s: State, name: str, x: Tensor) -> Tensor:
    hidden = conv(s, f"{name}.conv1", F.silu(group_norm(s, f"{name}.norm1", x)))
    hidden = conv(s, f"{name}.conv2", F.silu(group_norm(s, f"{name}.norm2", hidden)))
    shortcut = f"{name}.nin_shortcut"
    return hidden + (conv(s, shortcut, x, padding=0) if f"{shortcut}.weight" in s else x)


def self_attention(s: State, name: str, x: Tensor) -> Tensor:
    q, k, v = conv(s, f"{name}.qkv", group_norm(s, f"{name}.norm", x), padding=0).flatten(2).chunk(3, 1)
    shares = (q.mT @ k * q.shape[1] ** -0.5).softmax(-1)
    return x + conv(s, f"{name}.proj_out", (v @ shares.mT).view_as(x), padding=0)


def middle(s: State, name: str, x: Tensor) -> Tensor:
    x = self_attention(s, f"{name}.attn_1", residual_block(s, f"{name}.block_1", x))
    return residual_block(s, f"{name}.block_2", x)


def encoder(s: State, image: Tensor) -> Tensor:
    at = "vae.encoder"
    levels = count(s, at + ".down.{}.")
    x = conv(s, f"{at}.conv_in", image)
    for level in range(levels):
        for index in range(count(s, f"{at}.down.{level}.block.{{}}.")):
            x = residual_block(s, f"{at}.down.{level}.block.{index}", x)
            if level == levels - 1:
                x = self_attention(s, f"{at}.down.{level}.attn.{index}", x)
        if level < levels - 1:
            x = conv(s, f"{at}.down.{level}.downsample.conv", F.pad(x, (0, 1, 0, 1)), stride=2, padding=0)
    x = F.silu(group_norm(s, f"{at}.norm_out", middle(s, f"{at}.mid", x)))
    return conv(s, "vae.quant_conv", conv(s, f"{at}.conv_out", x))


def decoder(s: State, latent: Tensor) -> Tensor:
    at = "vae.decoder"
    levels = count(s, at + ".up.{}.")
    x = middle(s, f"{at}.mid", conv(s, f"{at}.conv_in", conv(s, "vae.post_quant_conv", latent)))
    for level in reversed(range(levels)):
        for index in range(count(s, f"{at}.up.{level}.block.{{}}.")):
            x = residual_block(s, f"{at}.up.{level}.block.{index}", x)
            if level == levels - 1:
                x = self_attention(s, f"{at}.up.{level}.attn.{index}", x)
        if level:
            x = conv(s, f"{at}.up.{level}.upsample.conv", F.interpolate(x, scale_factor=2, mode="nearest"))
    return conv(s, f"{at}.conv_out", F.silu(group_norm(s, f"{at}.norm_out", x))).clamp(-1, 1)


# the quantiser


def phi(s: State, level: int, x: Tensor) -> Tensor:
    return 0.5 * x + 0.5 * conv(s, f"vae.quantize.quant_resi.qresi_ls.{KERNELS[level]}", x)


def enlarged(codes: Tensor, side: int) -> Tensor:
    """Codes (B, n, dim) as a map (B, dim, side, side)."""
    own = math.isqrt(codes.shape[1])
    return F.interpolate(codes.mT.unflatten(2, (own, own)), (side, side), mode="bicubic", align_corners=False)


def entries(s: State, ids: Tensor) -> Tensor:
    return s["vae.quantize.embedding.weight"][ids]


def tokens(s: State, image: Tensor, scales: tuple[int, ...]) -> list[Tensor]:
    """The targets of the training."""
    missing, last, found = encoder(s, image), len(scales) - 1, []
    for level, side in enumerate(scales):
        reduced = missing if level == last else F.interpolate(missing, (side, side), mode="area")
        found.append(torch.cdist(reduced.flatten(2).mT, s["vae.quantize.embedding.weight"]).argmin(-1))
        if level < last:
            missing = missing - phi(s, level, enlarged(entries(s, found[-1]), scales[-1]))
    return found


def inputs(s: State, ids: list[Tensor], scales: tuple[int, ...]) -> Tensor:
    """What follows the prefix, of the tokens of the first scales: (B, n, dim)."""
    total, parts = torch.zeros(()), [entries(s, ids[0])[:, :0]] if ids else []
    for level, index in enumerate(ids):
        total = total + phi(s, level, enlarged(entries(s, index), scales[-1]))
        parts.append(F.interpolate(total, (scales[level + 1],) * 2, mode="area").flatten(2).mT)
    return torch.cat(parts, 1) if parts else s["vae.quantize.embedding.weight"].new_zeros(1, 0, 1)


def image(s: State, ids: list[Tensor], h: Tensor, scales: tuple[int, ...]) -> Tensor:
    """The image of all tokens, with the codebook that follows h (B, rank)."""
    U, V, gate = (s[f"vae.quantize.{name}"] for name in ("U", "V", "lora_gate"))
    total = torch.zeros(())
    for level, index in enumerate(ids):
        codes = entries(s, index) + gate.tanh() * ((U[index] * h[:, None]) @ V.T)
        total = total + phi(s, level, enlarged(codes, scales[-1]))
    return decoder(s, total)


# the condition


def conv_stack(s: State, name: str, x: Tensor) -> Tensor:
    x = F.silu(conv(s, f"{name}.conv_in", x))
    for index in range(count(s, name + ".blocks.{}.")):
        x = F.silu(conv(s, f"{name}.blocks.{index}", x, stride=1 + index % 2))
    return conv(s, f"{name}.conv_out", x)


def heat_and_edges(lr: Tensor) -> tuple[Tensor, Tensor]:
    grey = lr.mean(1, keepdim=True)
    flat = grey.flatten(1)
    mean, deviation = (value[:, None, None, None] for value in (flat.mean(1), flat.std(1)))
    heat = torch.sigmoid(3 * (grey - mean) / (deviation + 1e-5))
    kernels = lr.new_tensor([[[1, 0, -1], [2, 0, -2], [1, 0, -1]], [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]])
    gx, gy = (F.conv2d(lr, kernel.expand(3, 1, 3, 3), padding=1, groups=3) for kernel in kernels)
    return heat, (gx**2 + gy**2).sqrt()


def batch_norm(s: State, name: str, x: Tensor) -> Tensor:
    mean, variance = s[f"{name}.running_mean"], s[f"{name}.running_var"]
    return F.batch_norm(x, mean, variance, s[f"{name}.weight"], s[f"{name}.bias"], eps=1e-5)


def gate(s: State, name: str, x: Tensor, first: int) -> Tensor:
    x = batch_norm(s, f"{name}.{first + 1}", conv(s, f"{name}.{first}", x, padding=0))
    return batch_norm(s, f"{name}.{first + 4}", conv(s, f"{name}.{first + 3}", x.relu(), padding=0))


def condition_tokens(s: State, lr: Tensor) -> Tensor:
    """(B, 2 N, C): tokens of the input, and what they find in the structure."""
    own = conv_stack(s, "con_embedding", lr).flatten(2).mT
    heat, edges = heat_and_edges(lr)
    heat, edges = conv_stack(s, "heatmap_embedding", heat), conv_stack(s, "edge_embedding", edges)
    both = heat + edges
    local = gate(s, "fusion_block.local_att", both, 0)
    weight = torch.sigmoid(local + gate(s, "fusion_block.global_att", both.mean((2, 3), keepdim=True), 1))
    fused = (2 * heat * weight + 2 * edges * (1 - weight)).flatten(2).mT
    heads = s["blocks.0.attn.scale_mul_1H11"].numel()
    q, k, v = (
        linear(s, f"cross_attention.{name}_proj", x).unflatten(2, (heads, -1)).transpose(1, 2)
        for name, x in (("q", own), ("k", fused), ("v", fused))
    )
    found = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
    return torch.cat([own, linear(s, "cross_attention.out_proj", found.transpose(1, 2).flatten(2))], 1)


def prefix(s: State, condition: Tensor, label: int) -> Tensor:
    """(B, 2 N + 1, C) without the embeddings of places and level."""
    return torch.cat([condition, s["class_emb.weight"][label].expand(len(condition), 1, -1)], 1)


def codebook_factors(s: State, tokens_of_prefix: Tensor) -> Tensor:
    mean = tokens_of_prefix.mean(1)
    hidden = F.silu(F.layer_norm(mean, mean.shape[-1:], eps=1e-5))
    return linear(s, "cb_cond.4", F.silu(linear(s, "cb_cond.2", hidden)))


# the transformer


def turned(x: Tensor, sides: list[int], extent: int) -> Tensor:
    """Rotary positions of (B, heads, n, dim), pairs of adjacent channels as complex numbers."""
    places = [
        (row * extent / side, column * extent / side) for side in sides for row in range(side) for column in range(side)
    ]
    dim = x.shape[-1]
    frequencies = 10000.0 ** (-4 * torch.arange(dim // 4, dtype=torch.float64) / dim)
    angles = (torch.tensor(places, dtype=torch.float64)[:, :, None] * frequencies).flatten(1)
    pairs = torch.view_as_complex(x.to(torch.float64).unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2).to(x.dtype)


def norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def block(s: State, at: str, x: Tensor, label: Tensor, mask: Tensor, sides: list[int], extent: int) -> Tensor:
    gamma1, gamma2, scale1, scale2, shift1, shift2 = linear(s, f"{at}.ada_lin.1", F.silu(label)).chunk(6)
    sharpness = s[f"{at}.attn.scale_mul_1H11"].clamp(max=math.log(100)).exp()
    heads = sharpness.shape[1]
    bias = torch.cat([s[f"{at}.attn.{name}"] for name in ("q_bias", "zero_k_bias", "v_bias")])
    packed = F.linear(norm(x, scale1, shift1), s[f"{at}.attn.mat_qkv.weight"], bias)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in packed.chunk(3, -1))
    q, k = turned(F.normalize(q, dim=-1) * sharpness, sides, extent), turned(F.normalize(k, dim=-1), sides, extent)
    mixed = (q @ k.mT).masked_fill(~mask, -torch.inf).softmax(-1) @ v
    x = x + gamma1 * linear(s, f"{at}.attn.proj", mixed.transpose(1, 2).flatten(2))
    hidden = F.gelu(linear(s, f"{at}.ffn.fc1", norm(x, scale2, shift2)), approximate="tanh")
    return x + gamma2 * linear(s, f"{at}.ffn.fc2", hidden)


def logits(s: State, x: Tensor, following: Tensor, label: int, scales: tuple[int, ...], extent: int) -> Tensor:
    """Logits (B, n, entries) from the class token on, of a prefix and the inputs of some of the scales after it."""
    levels, sides, first = [0] * x.shape[1], [math.isqrt(x.shape[1] // 2)] * 2 + [1], x.shape[1] - 1
    x = x + s["pos_start"]
    if following.shape[1]:
        for level, side in enumerate(scales[1:], 1):
            if len(levels) - 1 - first < following.shape[1]:
                levels += [level] * side**2
                sides.append(side)
        x = torch.cat([x, linear(s, "word_embed", following)], 1)
    level = torch.tensor(levels)
    x = x + s["lvl_embed.weight"][level]
    mask = level[:, None] >= level
    of_class = s["class_emb.weight"][label]
    for index in range(count(s, "blocks.{}.")):
        x = block(s, f"blocks.{index}", x, of_class, mask, sides, extent)
    scale, shift = linear(s, "head_nm.ada_lin.1", F.silu(of_class)).chunk(2)
    return linear(s, "head", norm(x[:, first:], scale, shift))


def trained_logits(s: State, lr: Tensor, hr: Tensor, label: int, scales: tuple[int, ...], extent: int) -> Tensor:
    """Logits of all tokens of the target, each from the true ones before."""
    following = inputs(s, tokens(s, hr, scales)[:-1], scales)
    return logits(s, prefix(s, condition_tokens(s, lr), label), following, label, scales, extent)


def greedy(s: State, lr: Tensor, guidance: float, scales: tuple[int, ...], extent: int) -> tuple[list[Tensor], Tensor]:
    """Tokens of each scale and the image of enlarged inputs."""
    condition = condition_tokens(s, lr)
    wanted, unwanted = prefix(s, condition, 0), prefix(s, condition, 1)
    ids: list[Tensor] = []
    for level, side in enumerate(scales):
        following = inputs(s, ids, scales)
        now = logits(s, wanted, following, 0, scales, extent)[:, -(side**2) :]
        if guidance:
            strength = guidance * level / (len(scales) - 1)
            away = logits(s, unwanted, following, 1, scales, extent)[:, -(side**2) :]
            now = (1 + strength) * now - strength * away
        ids.append(now.argmax(-1))
    return ids, image(s, ids, codebook_factors(s, wanted), scales)


def colour_fixed(sr: Tensor, lr: Tensor) -> Tensor:
    """AdaIN of images (B, C, H, W) in [0, 1], each channel to the mean and deviation of the enlarged input's."""

    def of(x: Tensor) -> tuple[Tensor, Tensor]:
        flat = x.flatten(2)
        return flat.mean(2)[..., None, None], (flat.var(2) + 1e-5).sqrt()[..., None, None]

    (mean, deviation), (wanted_mean, wanted_deviation) = of(sr), of(lr)
    return ((sr - mean) / deviation * wanted_deviation + wanted_mean).clamp(0, 1)
