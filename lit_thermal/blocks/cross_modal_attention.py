"""Cross-modal attention: lets the self-attention of a diffusion network exchange features between views of a sample.

Views of a sample are adjacent in the batch, (B*V, ...) with the view index fastest; view 0 is the thermal one.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.ops.guided_transfer import guided_transfer
from lit_thermal.ops.local_regression import unexplained
from lit_thermal.ops.resize import resize

if TYPE_CHECKING:
    from diffusers.models.attention_processor import Attention
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel


@dataclass
class Views:
    """Views in the current batch of a network; set before each call and kept until its backward pass.

    Attributes:
        count: number V of views of each sample, including the thermal one.
        present: mask (B, V), true where a sample has the view; the thermal view must always be present. None means that
            all views are present.
        evidence: maps (B, C, H, W) that the attention drew from the images themselves (`CrossModalAttention.evidence`),
            of the padded size that the network processes; None if it reads tokens only.
    """

    count: int = 1
    present: Tensor | None = None
    evidence: Tensor | None = None

    def set(self, count: int, present: Tensor | None = None) -> None:
        """Set the views of the next batch; `present` is dropped if no view is absent.

        This is checked once here, because reading a value back from a GPU synchronises, and attention without a mask
        has faster kernels.
        """
        self.count = count
        self.present = None if present is None or bool(present.all()) else present.bool()

    def clear(self, x: Tensor) -> Tensor:
        """Return x (B*V, ...) with absent views set to zero, even where they contain NaN."""
        if self.present is None:
            return x
        return x.masked_fill(~self.present.flatten().view(-1, *[1] * (x.ndim - 1)), 0)


class Attend(Protocol):
    """The attention of a layer, with its own weights, heads and scale, applied to given queries and keys."""

    def __call__(self, queries: Tensor, keys: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return (b, n, D) for queries (b, n, D), keys (b, m, D), by default the queries, and a key mask (b, 1, m)."""
        ...


class CrossModalAttention(ABC):
    """Base of the family: changes which tokens the self-attention (attn1) of each transformer block attends to.

    The norm, residual, text attention and feed-forward of the block still process each view separately, and the
    weights of the attention are unchanged. In subclasses an absent view must not influence other views, and samples
    must not influence each other.

    Attributes:
        reads_tokens: whether the thermal view reads tokens of visible views; if not, a network whose visible views are
            not decoded need not process them.
    """

    reads_tokens = True

    def evidence(self, thermal: Tensor, enlarged: Tensor, guides: Tensor, present: Tensor) -> Tensor | None:
        """Return maps drawn from the images of a batch, which the owner of the network keeps in `Views.evidence`.

        Args:
            thermal: (B, 1, h, w) in [0, 1], at the resolution of the thermal camera.
            enlarged: (B, 1, H, W) in [0, 1], the thermal image at the size of the result.
            guides: (B, V - 1, 3, H, W) in [0, 1]; absent ones are zero.
            present: mask (B, V - 1) of the guides.

        Returns:
            (B, C, H, W), or None if there is nothing to read but the tokens, as by default.
        """
        return None

    def install(self, unet: "UNet2DConditionModel", views: Views) -> nn.ModuleDict:
        """Set this attention in every transformer block.

        Args:
            unet: UNet that is changed in place, with or without LoRA.
            views: views of the current batch, set by the owner of the network and read at each call.

        Returns:
            New parameters by the name of their block, which the owner must register; empty if there are none.
        """
        added = nn.ModuleDict()
        for name, module in unet.named_modules():
            if name.endswith(".attn1"):
                attention = cast("Any", module)
                projection = self.projection(attention.query_dim)
                attention.set_processor(_Processor(self, views, projection))
                if any(True for _ in projection.parameters()):
                    added[name.removesuffix(".attn1").replace(".", "_")] = projection
        return added

    @abstractmethod
    def exchange(self, attend: Attend, tokens: Tensor, views: Views, projection: nn.Module) -> Tensor:
        """Return the outputs (B, V, N, D) of the layer.

        Args:
            attend: the layer's own attention.
            tokens: normalised tokens (B, V, N, D); zeros for absent views.
            views: views of the current batch.
            projection: module that `projection` returned for this layer.
        """

    def projection(self, dim: int) -> nn.Module:
        """Return a module with new parameters for one layer of `dim` channels; it has none by default."""
        return nn.Identity()


class CrossModalSelfAttention(CrossModalAttention):
    """Self-attention over the joint sequence of all views' tokens, thermal first (CSM, 3M-TI section 3.2).

    There are no new parameters. Keys of absent views are masked; for a sample with only the thermal view the result
    equals that of `SelfAttention`.
    """

    def exchange(self, attend: Attend, tokens: Tensor, views: Views, projection: nn.Module) -> Tensor:
        """Return the outputs (B, V, N, D) of the layer."""
        count, length = tokens.shape[1:3]
        joint = attend(tokens.flatten(1, 2), mask=None if views.present is None else _keys(views.present, length))
        return joint.unflatten(1, (count, length))


class SelfAttention(CrossModalAttention):
    """Each view attends only to itself (3M-TI table 4, "Self-Attn")."""

    def exchange(self, attend: Attend, tokens: Tensor, views: Views, projection: nn.Module) -> Tensor:
        """Return the outputs (B, V, N, D) of the layer."""
        return attend(tokens.flatten(0, 1)).view_as(tokens)


class FeatureConcat(CrossModalAttention):
    """A static projection mixes visible features into the thermal view (3M-TI table 4, "Feature Concat + FC").

    Before the self-attention of each view, a linear layer maps each thermal token and the visible token at the same
    position to a new thermal token. Several visible views are averaged over those present; without any, the visible
    token is zero. Visible tokens are unchanged. The layer starts as the identity on the thermal token, so that training
    starts from `SelfAttention`.

    The paper says only "static projection w/o attention". We take this to mean that features are exchanged without
    attention while each view keeps its self-attention, so that rows of the table differ only in the exchange.
    """

    def exchange(self, attend: Attend, tokens: Tensor, views: Views, projection: nn.Module) -> Tensor:
        """Return the outputs (B, V, N, D) of the layer."""
        thermal, visible = tokens[:, 0], tokens[:, 1:]
        there = visible.new_ones(visible.shape[:2]) if views.present is None else views.present[:, 1:].to(visible)
        mean = visible.sum(1) / there.sum(1).clamp(min=1).view(-1, 1, 1)
        mixed = projection(torch.cat([thermal, mean], dim=-1)).to(tokens)
        return attend(torch.cat([mixed[:, None], visible], dim=1).flatten(0, 1)).view_as(tokens)

    def projection(self, dim: int) -> nn.Module:
        """Return the linear layer of one block, which maps a thermal and a visible token to a thermal one."""
        layer = nn.Linear(2 * dim, dim)
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer


class CrossAttention(CrossModalAttention):
    """Thermal tokens attend to the tokens of all visible views, not to their own (3M-TI table 4, "Cross-Attn").

    The thermal view of a sample without a visible view attends to itself. Visible views always attend to themselves.
    Both use the same attention weights.
    """

    def exchange(self, attend: Attend, tokens: Tensor, views: Views, projection: nn.Module) -> Tensor:
        """Return the outputs (B, V, N, D) of the layer."""
        samples, count, length = tokens.shape[:3]
        if count == 1:
            return attend(tokens.flatten(0, 1)).view_as(tokens)
        thermal, visible = tokens[:, 0], tokens[:, 1:]
        if views.present is None:
            asked = attend(thermal, visible.flatten(1, 2))
        else:
            others = views.present[:, 1:]
            keys = torch.cat([~others.any(1, keepdim=True), others], dim=1)
            asked = attend(thermal, tokens.flatten(1, 2), _keys(keys, length))
        own = attend(visible.flatten(0, 1)).unflatten(0, (samples, count - 1))
        return torch.cat([asked[:, None], own], dim=1)


class PixelAttention(CrossModalAttention):
    """Visible pixels ask which thermal pixels they belong to, and thermal tokens read the answer (our alternative).

    Queries and keys are colours and places of the visible view, values are thermal (`guided_transfer`), in a window of
    3 x 3 pixels of the thermal camera. So a registered guide carries its edges into the thermal image from the first
    step on, and a guide of another scene, whose colours explain no thermal value, carries almost nothing. Each thermal
    token gets a learned projection of its patch of the difference to the enlarged image, and of the share of the local
    thermal variance that the guide explains. Several visible views are averaged over those present.

    Apart from that each view attends only to itself.
    """

    reads_tokens = False
    maps = 2
    """Channels of the evidence."""
    patch = 4
    """Samples of the evidence along each side of a token."""
    gain = 10.0
    """Factor on the difference, which is small compared with the values of the image."""

    def evidence(self, thermal: Tensor, enlarged: Tensor, guides: Tensor, present: Tensor) -> Tensor | None:
        """Return the difference that the guides make and the share that they explain, (B, 2, H, W)."""
        if not guides.shape[1]:
            return None
        size = (enlarged.shape[-2], enlarged.shape[-1])
        total = torch.zeros_like(enlarged).repeat(1, self.maps, 1, 1)
        for guide, there in zip(guides.unbind(1), present.unbind(1), strict=True):
            detail = self.gain * (guided_transfer(thermal, guide) - enlarged)
            small = resize(guide.mean(1, keepdim=True).float(), (thermal.shape[-2], thermal.shape[-1]))
            first, second = (F.pad(x, (1, 1, 1, 1), mode="replicate") for x in (thermal.float(), small))
            share = -0.5 * F.interpolate(unexplained(first, second), size, mode="bilinear")
            total = total + torch.cat([detail, share], 1).to(total) * there.to(total).view(-1, 1, 1, 1)
        return total / present.to(total).sum(1).clamp(min=1).view(-1, 1, 1, 1)

    def exchange(self, attend: Attend, tokens: Tensor, views: Views, projection: nn.Module) -> Tensor:
        """Return the outputs (B, V, N, D) of the layer."""
        own = attend(tokens.flatten(0, 1)).view_as(tokens)
        if views.evidence is None:
            return own
        height, width = _grid(views.evidence, tokens.shape[2])
        patches = F.interpolate(views.evidence, (self.patch * height, self.patch * width), mode="area")
        patches = F.pixel_unshuffle(patches, self.patch).flatten(2).mT
        # Evidence of a sample without a guide is zero, and stays so, because the projection has no bias.
        told = projection(patches.to(tokens)).to(tokens)
        return torch.cat([own[:, :1] + told.unsqueeze(1), own[:, 1:]], 1)

    def projection(self, dim: int) -> nn.Module:
        """Return the linear layer of one block, which maps a patch of the evidence to a token."""
        layer = nn.Linear(self.maps * self.patch**2, dim, bias=False)
        nn.init.normal_(layer.weight, std=0.02)
        return layer


def _grid(image: Tensor, count: int) -> tuple[int, int]:
    """Return height and width of a grid of `count` tokens that cover an image (B, C, H, W)."""
    height, width = image.shape[-2:]
    rows = max(1, round((count * height / width) ** 0.5))
    return rows, count // rows


def _keys(present: Tensor, length: int) -> Tensor:
    """Return the key mask (B, 1, V*N) for present views (B, V) with N tokens each."""
    return present.repeat_interleave(length, dim=1).unsqueeze(1)


class _Processor:
    """Attention processor that diffusers calls instead of its own self-attention."""

    def __init__(self, member: CrossModalAttention, views: Views, projection: nn.Module) -> None:
        from diffusers.models.attention_processor import AttnProcessor2_0

        self.member = member
        self.views = views
        self.projection = projection
        self.plain = AttnProcessor2_0()

    def __call__(
        self,
        attn: "Attention",
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the outputs (B*V, N, D) of a self-attention, for which the last two arguments are None."""

        def attend(queries: Tensor, keys: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
            return self.plain(attn, queries, keys, mask)

        views = self.views
        samples = hidden_states.shape[0] // views.count
        tokens = views.clear(hidden_states).unflatten(0, (samples, views.count))
        return self.member.exchange(attend, tokens, views, self.projection).flatten(0, 1)
