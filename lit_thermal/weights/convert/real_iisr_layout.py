"""The released layout of Real-IISR's network, also used by VARSR: the released name of each entry."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_thermal.blocks.codebook import ConditionAdaptiveCodebook
from lit_thermal.blocks.pretrained import unwrapped
from lit_thermal.blocks.thermal_structure import ThermalStructuralGuidance
from lit_thermal.errors import InputError
from lit_thermal.methods.real_iisr.network import RealIISRNetwork
from lit_thermal.weights.convert.reference import plain_state_dict, read_released

TOKENIZER, QUANTIZER, AGAIN = "vae.", "vae.quantize.", "vq."
"""Prefixes of the tokenizer, of its quantiser, and of a second copy of the quantiser."""
HITS, KEY_BIAS = "ema_vocab_hit_SV", ".attn.zero_k_bias"
"""Suffixes of the usage counts of codebook entries, and of a bias that is no parameter."""
MASKS = ("lvl_1L", "attn_bias_for_masking")
"""Names of the levels of the tokens and of the attention mask, which both follow from the scales."""


def places(network: RealIISRNetwork) -> dict[str, str]:
    """Return our name of each released weight and buffer outside the tokenizer, by released name.

    Args:
        network: network with the released blocks (convolution stacks, batch norms); shapes are the same.
    """
    names = {f"encoder.{name}": f"con_embedding.{name}" for name in network.encoder.state_dict()}
    names |= {f"transformer.{ours}": theirs for ours, theirs in network.transformer.released_names().items()}
    if isinstance(network.structure, ThermalStructuralGuidance):
        names |= {f"structure.{ours}": theirs for ours, theirs in network.structure.released_names().items()}
    if isinstance(network.codebook, ConditionAdaptiveCodebook):
        names |= {f"codebook.{ours}": theirs for ours, theirs in network.codebook.released_names().items()}
    return {theirs: ours for ours, theirs in names.items()}


def released_layout(network: RealIISRNetwork) -> dict[str, Tensor]:
    """Return a tensor of the right shape and dtype for each entry that the released code saves, by name.

    Entries with a counterpart in the network share memory with it; others are on the meta device.
    """
    own, transformer = network.state_dict(), network.transformer
    layout = {theirs: own[ours] for theirs, ours in places(network).items()}
    layout |= {TOKENIZER + name: value for name, value in network.tokenizer.released_state().items()}
    tokens = sum(transformer.levels)
    with torch.device("meta"):
        layout[QUANTIZER + HITS] = torch.empty(len(transformer.scales), network.tokenizer.quantize.entries)
        for index in range(len(transformer.blocks)):
            layout[f"blocks.{index}{KEY_BIAS}"] = torch.empty(transformer.width)
        layout[MASKS[0]] = torch.empty(1, tokens, dtype=torch.int64)
        layout[MASKS[1]] = torch.empty(1, 1, tokens, tokens)
    return layout | {_again(name): value for name, value in layout.items() if name.startswith(QUANTIZER)}


def copy_released(network: RealIISRNetwork, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy the entries of a released file into a network; other entries of the file are ignored.

    Args:
        network: network that receives the weights; it keeps its tokenizer if the file has none.
        state: released state dict with all weights of the network.
        path: file of the state dict, used in error messages.

    Raises:
        InputError: a bias of the keys is not zero and would be lost, or the file contains two different quantisers.
    """
    for name, value in state.items():
        if name.endswith(KEY_BIAS) and value.count_nonzero():
            raise InputError(
                f"{path}: {name} is not zero, but keys have no bias here, because it does not affect the softmax: give "
                "weights trained by the released code, where it is constant"
            )
        if name.startswith(QUANTIZER) and not name.endswith(HITS):
            second = state.get(_again(name))
            if second is not None and not torch.equal(value, second):
                raise InputError(
                    f"{path}: {_again(name)} differs from {name}, but the released code has one quantiser for both "
                    "names: give an unchanged file of that code"
                )
    own = network.state_dict()
    with torch.no_grad():
        for theirs, ours in places(network).items():
            own[ours].copy_(state[theirs])
    tokenizer = {name.removeprefix(TOKENIZER): value for name, value in state.items() if name.startswith(TOKENIZER)}
    if tokenizer:
        network.tokenizer.load_released(tokenizer)


def read_trained(path: Path) -> dict[str, Tensor]:
    """Read the model in a file of the released training code, or a plain state dict, without running code in the file.

    Raises:
        InputError: the file does not exist, cannot be read, or has other contents.
    """
    # Mapped, because the optimizer's state in the same file is twice as large as the model.
    content: Any = read_released(path, mapped=True)
    trainer = content.get("trainer") if isinstance(content, dict) else None
    if isinstance(trainer, dict):
        if "var_wo_ddp" not in trainer:
            raise InputError(
                f"{path} holds no model under trainer and var_wo_ddp but {', '.join(map(repr, list(trainer)[:4]))}: "
                "give the file of the transformer, Real-IISR.pth or VARSR.pth; VQVAE.pth is a tokenizer alone"
            )
        content = trainer["var_wo_ddp"]
    return unwrapped(plain_state_dict(content, path))


def _again(name: str) -> str:
    return AGAIN + name.removeprefix(QUANTIZER)
