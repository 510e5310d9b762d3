"""The released layout of DifIISR's U-Net, which ResShift and SinSR share: our names, and 24 buffers besides."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lit_thermal.networks.swin_unet import SwinUNet
from lit_thermal.networks.window_attention import SwinBlock

BUFFERS = ("attn.relative_position_index", "attn_mask")
"""Endings of the released entries that follow from the configuration, and that we build when they are needed."""


def to_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a released U-Net by our names.

    The parameters are called alike; what is left out are the buffers.

    Args:
        state: released name, without a prefix, to tensor.
    """
    return {name: value for name, value in state.items() if not name.endswith(BUFFERS)}


def released_layout(network: SwinUNet) -> dict[str, Tensor]:
    """Return released name to a tensor of its shape, on the meta device, for each entry of a network of ours.

    Args:
        network: the network that the entries are for; the published one has 540 parameters and 24 buffers.
    """
    layout = {name: torch.empty_like(value, device="meta") for name, value in network.state_dict().items()}
    index, mask = BUFFERS
    for name, block in network.named_modules():
        if isinstance(block, SwinBlock):
            tokens = block.window**2
            layout[f"{name}.{index}"] = torch.empty(tokens, tokens, dtype=torch.int64, device="meta")
            if block.shift:
                windows = (block.size // block.window) ** 2
                layout[f"{name}.{mask}"] = torch.empty(windows, tokens, tokens, device="meta")
    return layout
