"""Cross-modal attention: what the self-attention of a diffusion network sees of the other views of a sample.

Views of a sample lie side by side in the batch, (B*V, ...) with the view index fastest; view 0 is the thermal one.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from diffusers.models.attention_processor import Attention
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel


@dataclass
class Views:
    """Which views the batch has that runs through a network; set before each call, and kept until its backward pass.

    Attributes:
        count: V, views of each sample, the thermal one included.
        present: (B, V), true where a sample has this view; the thermal view always counts as there. None: all are.
    """

    count: int = 1
    present: Tensor | None = None

    def set(self, count: int, present: Tensor | None = None) -> None:
        """Take the views of the next batch; `present` is dropped where no view is absent.

        That is looked up once here, because on a GPU each look waits, and attention without a mask has faster kernels.
        """
        self.count = count
        self.present = None if present is None or bool(present.all()) else present.bool()

    def clear(self, x: Tensor) -> Tensor:
        """Return x (B*V, ...) with zeros for absent views, whatever they hold, NaN included."""
        if self.present is None:
            return x
        return x.masked_fill(~self.present.flatten().view(-1, *[1] * (x.ndim - 1)), 0)


class Attend(Protocol):
    """A layer's own attention: its weights, heads and scale, on any queries and keys."""

    def __call__(self, queries: Tensor, keys: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return (b, n, D) for queries (b, n, D); keys (b, m, D), by default the queries; mask (b, 1, m) of keys."""
        ...


class CrossModalAttention(ABC):
    """Base of the family: replaces what the self-attention (attn1) of each transformer block attends to.

    Norm, residual, text attention and feed-forward of the block stay as they are, of each view by itself, and so do the
    attention's weights. What must hold: an absent view influences no other; a sample is attended by itself.
    """

    def install(self, unet: "UNet2DConditionModel", views: Views) -> nn.ModuleDict:
        """Set this attention in every transformer block.

        Args:
            unet: changed in place; with or without LoRA.
            views: read at each call; the network's owner sets it.

        Returns:
            New parameters by the name of their block, to be registered by the owner: none unless the member has some.
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
    def exchange(self, attend: Attend, tokens: Tensor, present: Tensor | None, projection: nn.Module) -> Tensor:
        """Return the outputs (B, V, N, D) of the layer.

        Args:
            attend: the layer's own attention.
            tokens: (B, V, N, D), normalised; zeros for absent views.
            present: (B, V), or None where all are.
            projection: what `projection` made for this layer.
        """

    def projection(self, dim: int) -> nn.Module:
        """Return new parameters for one layer of `dim` channels; none by default."""
        return nn.Identity()


class CrossModalSelfAttention(CrossModalAttention):
    """One sequence of all views' tokens, thermal first, attends to itself (CSM, 3M-TI section 3.2); no new parameters.

    Keys of absent views are masked; a sample that has the thermal view only is attended as by `SelfAttention`.
    """

    def exchange(self, attend: Attend, tokens: Tensor, present: Tensor | None, projection: nn.Module) -> Tensor:
        """Return the outputs (B, V, N, D) of the layer."""
        views, length = tokens.shape[1:3]
        joint = attend(tokens.flatten(1, 2), mask=None if present is None else _keys(present, length))
        return joint.unflatten(1, (views, length))


class SelfAttention(CrossModalAttention):
    """Each view attends to itself: nothing is exchanged (3M-TI table 4, "Self-Attn")."""

    def exchange(self, attend: Attend, tokens: Tensor, present: Tensor | None, projection: nn.Module) -> Tensor:
        """Return the outputs (B, V, N, D) of the layer."""
        return attend(tokens.flatten(0, 1)).view_as(tokens)


class FeatureConcat(CrossModalAttention):
    """The thermal view takes from the others by a static projection (3M-TI table 4, "Feature Concat + FC").

    Before the self-attention of each view, a thermal token becomes a linear layer of itself and of the visible token at
    the same place; with several visible views that is the mean of those present, with none zeros. Visible views stay.
    The layer starts as the identity on the thermal token, so that training starts from `SelfAttention`.

    The paper says "static projection w/o attention" and no more. We read: the exchange goes without attention; each
    view keeps its own, so that rows of the table differ in the exchange alone.
    """

    def exchange(self, attend: Attend, tokens: Tensor, present: Tensor | None, projection: nn.Module) -> Tensor:
        """Return the outputs (B, V, N, D) of the layer."""
        thermal, visible = tokens[:, 0], tokens[:, 1:]
        there = visible.new_ones(visible.shape[:2]) if present is None else present[:, 1:].to(visible)
        mean = visible.sum(1) / there.sum(1).clamp(min=1).view(-1, 1, 1)
        mixed = projection(torch.cat([thermal, mean], dim=-1)).to(tokens)
        return attend(torch.cat([mixed[:, None], visible], dim=1).flatten(0, 1)).view_as(tokens)

    def projection(self, dim: int) -> nn.Module:
        """Return the linear layer of one block, from a thermal and a visible token to a thermal one."""
        layer = nn.Linear(2 * dim, dim)
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer


class CrossAttention(CrossModalAttention):
    """Thermal tokens attend to the tokens of all visible views, not to their own (3M-TI table 4, "Cross-Attn").

    A sample without a visible view attends to itself. Visible views always do. The attention's own weights serve both.
    """

    def exchange(self, attend: Attend, tokens: Tensor, present: Tensor | None, projection: nn.Module) -> Tensor:
        """Return the outputs (B, V, N, D) of the layer."""
        samples, views, length = tokens.shape[:3]
        if views == 1:
            return attend(tokens.flatten(0, 1)).view_as(tokens)
        thermal, visible = tokens[:, 0], tokens[:, 1:]
        if present is None:
            asked = attend(thermal, visible.flatten(1, 2))
        else:
            others = present[:, 1:]
            keys = torch.cat([~others.any(1, keepdim=True), others], dim=1)
            asked = attend(thermal, tokens.flatten(1, 2), _keys(keys, length))
        own = attend(visible.flatten(0, 1)).unflatten(0, (samples, views - 1))
        return torch.cat([asked[:, None], own], dim=1)


def _keys(present: Tensor, length: int) -> Tensor:
    """Mask (B, 1, V*N) of the keys of views (B, V) with N tokens each; the thermal view's where no other is left."""
    return present.repeat_interleave(length, dim=1).unsqueeze(1)


class _Processor:
    """What diffusers calls in place of its own self-attention."""

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
        """Return the outputs (B*V, N, D) of a self-attention; the last two are None there."""

        def attend(queries: Tensor, keys: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
            return self.plain(attn, queries, keys, mask)

        views = self.views
        samples = hidden_states.shape[0] // views.count
        tokens = views.clear(hidden_states).unflatten(0, (samples, views.count))
        return self.member.exchange(attend, tokens, views.present, self.projection).flatten(0, 1)
