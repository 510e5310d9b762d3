"""Thermal-structural guidance: condition tokens of a generator, computed from heat and edges of its input."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.condition_map_encoder import ConvStackEncoder, MapEncoder
from lit_thermal.errors import InputError, check_choice

FusionRule = Literal["paper", "released"]
Joins = Literal["add", "append"]
GateNorm = Literal["layer", "batch"]

LEAST_DEVIATION = 1e-5
SHARPNESS = 3.0
"""Factor inside the heat map's sigmoid."""
HEAT_LIMITS = (0.0, 1.0)
EDGE_LIMITS = (0.0, 4.0)
"""Range of the edge map; the maximum is about that of a step from -1 to 1 in an image enlarged four times (ours)."""

PLACES = (
    ("heat_encoder.", "heatmap_embedding."),
    ("edge_encoder.", "edge_embedding."),
    ("gate.local.", "fusion_block.local_att."),
    ("gate.context.", "fusion_block.global_att."),
    ("attention.query.", "cross_attention.q_proj."),
    ("attention.key.", "cross_attention.k_proj."),
    ("attention.value.", "cross_attention.v_proj."),
    ("attention.out.", "cross_attention.out_proj."),
)
"""Prefixes of parameter names here and in the published layout."""


def heat_map(lr: Tensor) -> Tensor:
    """Return the heat map of an image: ``sigmoid(3 z)`` of its standardised brightness z (Real-IISR).

    The mean g over channels is standardised over the pixels of each image, ``z = (g - mean) / (std + 1e-5)``, with the
    sample standard deviation (n - 1). It is computed in float32 at least, without autocast.

    Args:
        lr: images (B, C, H, W) of at least two pixels.

    Returns:
        (B, 1, H, W) in (0, 1); 0.5 everywhere for an image without contrast.
    """
    with torch.autocast(lr.device.type, enabled=False):
        grey = lr.to(torch.promote_types(lr.dtype, torch.float32)).mean(1, keepdim=True)
        deviation, mean = torch.std_mean(grey, dim=(-2, -1), keepdim=True)
        return torch.sigmoid(SHARPNESS * (grey - mean) / (deviation + LEAST_DEVIATION))


def edge_map(lr: Tensor) -> Tensor:
    """Return the magnitude of the Sobel gradient of each channel (Real-IISR), without the usual division by 8.

    The image is padded with zeros, as in the released code, so that a border that is not 0 counts as an edge. The
    derivative of the magnitude is that of a vector norm: at most 1 in length, and zero where the image is flat.

    Args:
        lr: images (B, C, H, W).

    Returns:
        (B, C, H, W), at least 0, in float32 at least.
    """
    with torch.autocast(lr.device.type, enabled=False):
        p = F.pad(lr.to(torch.promote_types(lr.dtype, torch.float32)), (1, 1, 1, 1))
        rows = p[..., :-2, :] + 2 * p[..., 1:-1, :] + p[..., 2:, :]
        columns = p[..., :-2] + 2 * p[..., 1:-1] + p[..., 2:]
        gradient = torch.stack([rows[..., :-2] - rows[..., 2:], columns[..., :-2, :] - columns[..., 2:, :]])
        # vector_norm instead of sqrt or hypot, whose gradients are NaN where the image is flat
        return torch.linalg.vector_norm(gradient, dim=0)


class Structure(nn.Module, ABC):
    """Base of the family: makes a generator's maps of condition tokens from the image and its tokens.

    In subclasses each map must have the shape of the tokens, and the first map must contain the tokens, possibly plus
    an added term. Each image of a batch must be processed independently, except by batch norms in training.

    Args:
        width: number of channels of the tokens.
        heads: number of attention heads, equal to that of the generator.

    Attributes:
        maps: number of maps that are returned.
    """

    maps: int = 1

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, lr: Tensor, tokens: Tensor) -> list[Tensor]:
        """Return the maps, (B, width, h, w) each.

        Args:
            lr: images (B, 3, H, W) in [-1, 1], enlarged to the size of the target.
            tokens: condition tokens (B, width, h, w) of the images.
        """


class FusionGate(nn.Module):
    """Fuses two maps with weights from local and global context: attentional feature fusion, in one step.

    With A = heat + edge, the weights are W = sigmoid(L(A) + G(A)), and the result is ``heat W + edge (1 - W)``. L is a
    1x1 convolution to `width / reduction`, norm, ReLU, a 1x1 convolution back and a norm; G is the same applied to the
    mean over all positions.

    Args:
        width: number of channels.
        reduction: factor by which channels are reduced between the convolutions.
        norm: "layer" normalises over all channels and positions of an image; "batch" is batch norm (released).
    """

    def __init__(self, width: int, reduction: int, norm: GateNorm) -> None:
        super().__init__()
        hidden = width // reduction

        def attention(*pooling: nn.Module) -> nn.Sequential:
            first, last = (nn.BatchNorm2d(n) if norm == "batch" else nn.GroupNorm(1, n) for n in (hidden, width))
            narrow, wide = nn.Conv2d(width, hidden, 1), nn.Conv2d(hidden, width, 1)
            return nn.Sequential(*pooling, narrow, first, nn.ReLU(), wide, last)

        self.norm = norm
        self.local = attention()
        self.context = attention(nn.AdaptiveAvgPool2d(1))

    def forward(self, heat: Tensor, edge: Tensor) -> Tensor:
        """Fuse two maps (B, width, h, w) into one of the same shape.

        Raises:
            InputError: batch norms are trained on a batch of one image, whose global mean they cannot normalise.
        """
        if self.norm == "batch" and self.training and len(heat) == 1:
            raise InputError(
                'the batch norms of ThermalStructuralGuidance(norm="batch") cannot be trained on a batch of one image: '
                'give larger batches, or norm="layer"'
            )
        both = heat + edge
        weight = torch.sigmoid(self.local(both) + self.context(both))
        return heat * weight + edge * (1 - weight)


class TokenCrossAttention(nn.Module):
    """Multi-head attention of the tokens of one map to those of another, without position encoding or residual.

    Args:
        width: number of channels.
        heads: number of attention heads, a divisor of `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.trunc_normal_(layer.weight, std=(3 * width) ** -0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Return (B, width, h, w): for each token of `x`, a weighted mean over `context` (B, width, h', w')."""
        queries, memory = x.flatten(2).mT, context.flatten(2).mT
        q, k, v = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, tokens in ((self.query, queries), (self.key, memory), (self.value, memory))
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out(mixed).mT.unflatten(-1, x.shape[-2:])


class ThermalStructuralGuidance(Structure):
    """Encodes and fuses heat map and edge map, and lets the image's tokens attend to them (Real-IISR section 3.1).

    The defaults follow the paper where it is specific: the fusion of eq. 1, and the result of the attention added to
    the tokens. The released code doubles the fusion, appends the result as a separate map, uses batch norms in the
    gate, and has conv stacks instead of the paper's DINOv3: ``fusion="released", joins="append", norm="batch"``.

    In the paper one encoder takes both the heat map and the image. Here, as in the released code, the image has its own
    encoder outside this block: it is also used without guidance (Fig. 7), and VARSR's weights fit it.

    The precision is that of the weights, under autocast too.

    Args:
        width: number of channels of the tokens.
        heads: number of attention heads, a divisor of `width`.
        encoder: factory that makes an encoder from the channels of a map (1 for heat, 3 for edges) and `width`.
        fusion: fusion rule; "paper" is eq. 1, "released" is twice that.
        joins: "add" returns one map, the tokens plus the result of the attention; "append" returns them as two maps.
        reduction: factor by which channels are reduced inside the gate.
        norm: norm in the gate, "layer" or "batch"; "batch" cannot be trained on batches of one image.

    Raises:
        InputError: the arguments do not fit each other, or the encoder's map is of another size than the tokens.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        encoder: Callable[[int, int], MapEncoder] = ConvStackEncoder,
        fusion: FusionRule = "paper",
        joins: Joins = "add",
        reduction: int = 4,
        norm: GateNorm = "layer",
    ) -> None:
        super().__init__(width, heads)
        for name, value, known in (("fusion", fusion, FusionRule), ("joins", joins, Joins), ("norm", norm, GateNorm)):
            check_choice(value, known, f"{name} of ThermalStructuralGuidance")
        if heads < 1 or width < 1 or width % heads:
            raise InputError(
                f"width {width} and heads {heads} of ThermalStructuralGuidance: give a multiple of the heads"
            )
        if reduction < 1 or width // reduction < 2:
            raise InputError(
                f"reduction {reduction} of ThermalStructuralGuidance leaves less than two of {width} channels: give "
                "1 or more, and less than that"
            )
        self.maps = 2 if joins == "append" else 1
        self.factor = 2.0 if fusion == "released" else 1.0
        self.heat_encoder, self.edge_encoder = encoder(1, width), encoder(3, width)
        self.gate = FusionGate(width, reduction, norm)
        self.attention = TokenCrossAttention(width, heads)

    def forward(self, lr: Tensor, tokens: Tensor) -> list[Tensor]:
        """Return one or two maps (B, width, h, w) for images (B, 3, H, W) in [-1, 1] and their tokens."""
        with torch.autocast(lr.device.type, enabled=False):
            tokens = tokens.to(self.attention.out.weight.dtype)
            heat = self.heat_encoder(heat_map(lr), HEAT_LIMITS)
            edge = self.edge_encoder(edge_map(lr), EDGE_LIMITS)
            if heat.shape != tokens.shape:
                raise InputError(
                    f"the encoder of ThermalStructuralGuidance makes maps of shape {tuple(heat.shape[1:])} where the "
                    f"tokens are {tuple(tokens.shape[1:])}: give it an encoder of the factor of the tokens' own"
                )
            guided = self.attention(tokens, self.factor * self.gate(heat, edge))
            return [tokens, guided] if self.maps == 2 else [tokens + guided]

    def released_names(self) -> dict[str, str]:
        """Return the published name of each parameter and buffer, by our name, for the options of the released code.

        The released code uses conv stacks and batch norms. Shapes are the same here and there.
        """
        names = {}
        for name in self.state_dict():
            ours, theirs = next(place for place in PLACES if name.startswith(place[0]))
            names[name] = theirs + name.removeprefix(ours)
        return names


class NoStructure(Structure):
    """No guidance: only the tokens of the image (Real-IISR Fig. 7, without guidance).

    Args:
        width: number of channels of the tokens.
        heads: number of attention heads, which is ignored.
    """

    def forward(self, lr: Tensor, tokens: Tensor) -> list[Tensor]:
        """Return the tokens (B, width, h, w)."""
        return [tokens]
