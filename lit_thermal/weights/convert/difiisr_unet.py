"""The released layout of DifIISR's U-Net, also used by ResShift and SinSR: our names and 24 additional buffers."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lit_thermal.networks.swin_unet import SwinUNet
from lit_thermal.networks.window_attention import SwinBlock

BUFFERS = ("attn.relative_position_index", "attn_mask")
"""Suffixes of released buffers that follow from the configuration; our network computes them when needed."""


def to_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters of a released U-Net without its buffers; our network uses the same names.

    Args:
        state: released state dict, with names without a prefix.
    """
    return {name: value for name, value in state.items() if not name.endswith(BUFFERS)}


def released_layout(network: SwinUNet) -> dict[str, Tensor]:
    """Return the released names and shapes of all entries of a network, as tensors on the meta device.

    Args:
        network: our network; the published one has 540 parameters and 24 buffers.
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
