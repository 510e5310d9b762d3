"""The released layout of Real-IISR's network, which VARSR's shares: whose entry is where, and what is in no place."""

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
"""Beginnings of the names of the tokenizer, of its quantiser, and of the same once more."""
HITS, KEY_BIAS = "ema_vocab_hit_SV", ".attn.zero_k_bias"
"""Ends of the names of how often entries were used, and of a bias that is no parameter."""
MASKS = ("lvl_1L", "attn_bias_for_masking")
"""Levels of the tokens, and who sees whom; both follow from the scales."""


def places(network: RealIISRNetwork) -> dict[str, str]:
    """Return published name to ours of all weights and buffers outside the tokenizer; shapes are the same.

    Args:
        network: with conv stacks and, where it has them, batch norms, as released.
    """
    names = {f"encoder.{name}": f"con_embedding.{name}" for name in network.encoder.state_dict()}
    names |= {f"transformer.{ours}": theirs for ours, theirs in network.transformer.released_names().items()}
    if isinstance(network.structure, ThermalStructuralGuidance):
        names |= {f"structure.{ours}": theirs for ours, theirs in network.structure.released_names().items()}
    if isinstance(network.codebook, ConditionAdaptiveCodebook):
        names |= {f"codebook.{ours}": theirs for ours, theirs in network.codebook.released_names().items()}
    return {theirs: ours for ours, theirs in names.items()}


def released_layout(network: RealIISRNetwork) -> dict[str, Tensor]:
    """Return name to a tensor of the right shape and type for all entries that the released code saves.

    What has a place here shares memory with the network; what has none is on the meta device.
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


def take(network: RealIISRNetwork, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy the entries of a released file into a network; other entries of the file are not looked at.

    Args:
        network: receives the weights; keeps its tokenizer where the file has none.
        state: has all entries that the network has a place for, of the right shapes.
        path: where it was read from.

    Raises:
        InputError: keys have a bias, which would be lost, or the file holds two different quantisers.
    """
    for name, value in state.items():
        if name.endswith(KEY_BIAS) and value.count_nonzero():
            raise InputError(
                f"{path}: {name} is not zero, and keys have no bias here, because the softmax does not see one: give "
                "weights that the released code trained, where it is a constant"
            )
        if name.startswith(QUANTIZER) and not name.endswith(HITS):
            second = state.get(_again(name))
            if second is not None and not torch.equal(value, second):
                raise InputError(
                    f"{path}: {_again(name)} differs from {name}, and the released code has one quantiser under both "
                    "names: give the file as that code wrote it"
                )
    own = network.state_dict()
    with torch.no_grad():
        for theirs, ours in places(network).items():
            own[ours].copy_(state[theirs])
    tokenizer = {name.removeprefix(TOKENIZER): value for name, value in state.items() if name.startswith(TOKENIZER)}
    if tokenizer:
        network.tokenizer.load_released(tokenizer)


def read_trained(path: Path) -> dict[str, Tensor]:
    """Read the model of a file of the released training code, or a plain state dict; no code in the file is run.

    Raises:
        InputError: there is no such file, it cannot be read, or holds something else.
    """
    # the optimizer's state, which lies beside the model, is twice its size
    held: Any = read_released(path, mapped=True)
    trainer = held.get("trainer") if isinstance(held, dict) else None
    if isinstance(trainer, dict):
        if "var_wo_ddp" not in trainer:
            raise InputError(
                f"{path} holds no model under trainer and var_wo_ddp but {', '.join(map(repr, list(trainer)[:4]))}: "
                "give the file of the transformer, Real-IISR.pth or VARSR.pth; VQVAE.pth is a tokenizer alone"
            )
        held = trainer["var_wo_ddp"]
    return unwrapped(plain_state_dict(held, path))


def _again(name: str) -> str:
    return AGAIN + name.removeprefix(QUANTIZER)
