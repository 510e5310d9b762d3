"""Thermal-structural guidance: what a generator sees of the heat and the edges of its input."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.condition_map_encoder import ConvStackEncoder, MapEncoder
from lit_thermal.errors import InputError

FusionRule = Literal["paper", "released"]
Joins = Literal["add", "append"]
GateNorm = Literal["layer", "batch"]

LEAST_DEVIATION = 1e-5
SHARPNESS = 3.0
"""Of the heat map's sigmoid."""
HEAT_LIMITS = (0.0, 1.0)
EDGE_LIMITS = (0.0, 4.0)
"""Of the edge map: the highest is about that of a step from -1 to 1 in an image that was enlarged four times (ours)."""

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
"""Beginnings of the names here to those of the published layout."""


def heat_map(lr: Tensor) -> Tensor:
    """Where an image is warm, by its own measure: ``sigmoid(3 z)`` of its standardised brightness z (Real-IISR).

    Of the mean g over channels, ``z = (g - mean) / (std + 1e-5)`` over the pixels of the image; the deviation is that
    of a sample (n - 1). In the precision of float32 at least, without autocast.

    Args:
        lr: (B, C, H, W), of two pixels or more.

    Returns:
        (B, 1, H, W) in (0, 1); 0.5 everywhere for an image without contrast.
    """
    with torch.autocast(lr.device.type, enabled=False):
        grey = lr.to(torch.promote_types(lr.dtype, torch.float32)).mean(1, keepdim=True)
        deviation, mean = torch.std_mean(grey, dim=(-2, -1), keepdim=True)
        return torch.sigmoid(SHARPNESS * (grey - mean) / (deviation + LEAST_DEVIATION))


def edge_map(lr: Tensor) -> Tensor:
    """Magnitude of the Sobel gradient of each channel (Real-IISR); not divided by the 8 of a derivative.

    Outside the image are zeros, as in the released code, so that the border is an edge unless it is 0. Its own gradient
    is that of a length: nowhere longer than 1, and zero where the image is flat.

    Args:
        lr: (B, C, H, W).

    Returns:
        (B, C, H, W), at least 0; in the precision of float32 at least.
    """
    with torch.autocast(lr.device.type, enabled=False):
        p = F.pad(lr.to(torch.promote_types(lr.dtype, torch.float32)), (1, 1, 1, 1))
        rows = p[..., :-2, :] + 2 * p[..., 1:-1, :] + p[..., 2:, :]
        columns = p[..., :-2] + 2 * p[..., 1:-1] + p[..., 2:]
        gradient = torch.stack([rows[..., :-2] - rows[..., 2:], columns[..., :-2, :] - columns[..., 2:, :]])
        # not sqrt nor hypot: the gradient of either is not a number where the image is flat
        return torch.linalg.vector_norm(gradient, dim=0)


class Structure(nn.Module, ABC):
    """Base of the family: the maps of condition tokens that a generator sees, made of the image and of its tokens.

    What must hold: each map has the shape of the tokens; the first one holds them, whatever is added; each image of a
    batch is by itself (but for batch norms in training).

    Args:
        width: channels of the tokens.
        heads: of attention, those of the generator.

    Attributes:
        maps: how many there are.
    """

    maps: int = 1

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, lr: Tensor, tokens: Tensor) -> list[Tensor]:
        """Return the maps, (B, width, h, w) each.

        Args:
            lr: (B, 3, H, W) in [-1, 1], enlarged to the size of the target.
            tokens: (B, width, h, w) of it.
        """


class FusionGate(nn.Module):
    """Weighs two maps by an attention that sees each place and the whole: attentional feature fusion, in one step.

    With A = heat + edge: W = sigmoid(L(A) + G(A)); L is a 1x1 convolution to `width / reduction`, norm, ReLU, a 1x1
    convolution back and a norm; G the same of the mean over all places. The result is ``heat W + edge (1 - W)``.

    Args:
        width: channels.
        reduction: of the channels between the convolutions.
        norm: "layer" is over all channels and places of an image; "batch" is batch norm (released).
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
        """Fuse maps (B, width, h, w) to one of their shape.

        Raises:
            InputError: batch norms are trained on one image, whose mean over places they cannot normalise.
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
    """Multi-head attention of the tokens of one map to those of another; positions are not told, nothing is added.

    Args:
        width: channels.
        heads: a divisor of `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.trunc_normal_(layer.weight, std=(3 * width) ** -0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Return (B, width, h, w): for each token of `x` a mix of those of `context` (B, width, h', w')."""
        queries, memory = x.flatten(2).mT, context.flatten(2).mT
        q, k, v = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, tokens in ((self.query, queries), (self.key, memory), (self.value, memory))
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out(mixed).mT.unflatten(-1, x.shape[-2:])


class ThermalStructuralGuidance(Structure):
    """Heat map and edge map, each encoded, are fused, and the image's tokens attend to them (Real-IISR section 3.1).

    The defaults are the paper's where it says something: the fusion of eq. 1 and the attention's result added to the
    tokens that it guides. The released code doubles the fusion, appends the result as a map of its own, and has batch
    norms in the gate and conv stacks for the paper's DINOv3: ``fusion="released", joins="append", norm="batch"``.

    In the paper one encoder takes the heat map and the image. Here, as in the released code, the image has another,
    which is not part of this block: it stays where guidance is left out (Fig. 7), and VARSR's weights fit it.

    The precision is that of the weights, under autocast too.

    Args:
        width: channels of the tokens.
        heads: of the attention, a divisor of `width`.
        encoder: makes one from the channels of a map (1 of heat, 3 of edges) and `width`.
        fusion: "paper" is eq. 1, "released" twice that.
        joins: "add" gives one map, the tokens plus the attention's result; "append" gives two, the tokens and that.
        reduction: of the channels inside the gate.
        norm: in the gate; "batch" cannot be trained on batches of one image.

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
            if value not in get_args(known):
                raise InputError(
                    f'{name} "{value}" of ThermalStructuralGuidance: choose of {", ".join(get_args(known))}'
                )
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
        """Return one map (B, width, h, w), or two, of images (B, 3, H, W) in [-1, 1] and their tokens."""
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
        """Return the names here to the published ones; those of the released code's blocks, conv stack and batch norm.

        Parameters and buffers; shapes are the same.
        """
        names = {}
        for name in self.state_dict():
            ours, theirs = next(place for place in PLACES if name.startswith(place[0]))
            names[name] = theirs + name.removeprefix(ours)
        return names


class NoStructure(Structure):
    """The tokens of the image alone (Real-IISR Fig. 7, without guidance).

    Args:
        width: channels of the tokens.
        heads: not used.
    """

    def forward(self, lr: Tensor, tokens: Tensor) -> list[Tensor]:
        """Return the tokens (B, width, h, w)."""
        return [tokens]
