"""VARSR's released layout: the training of Real-IISR starts from its weights."""

import logging
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lit_thermal.methods.base import SuperResolver
from lit_thermal.methods.real_iisr.module import RealIISR
from lit_thermal.weights.checkpoint import build_model
from lit_thermal.weights.convert import real_iisr
from lit_thermal.weights.convert.real_iisr_layout import (
    AGAIN,
    HITS,
    MASKS,
    TOKENIZER,
    copy_released,
    read_trained,
    released_layout,
)
from lit_thermal.weights.convert.reference import check_layout

OURS = "network.tokenizer."
_log = logging.getLogger(__name__)


def convert(reference: Path) -> SuperResolver:
    """Build a start model for Real-IISR's training from released weights of VARSR.

    It is a Real-IISR without thermal guidance and with a static codebook, which is VARSR without its diffusion refiner.
    So its state dict contains exactly the weights of VARSR's file. If the file has no tokenizer, the state dict has
    none either. A Real-IISR that loads these weights initialises all others itself. This includes the position
    embeddings if guidance is appended to the prefix, because VARSR's prefix has 1025 tokens.

    Args:
        reference: checkpoint of the released training code, with the model under `trainer` and `var_wo_ddp`, or a file
            with only the state dict of that model.

    Raises:
        InputError: the file cannot be read, or required entries are missing or have another shape.
    """
    state = read_trained(reference)
    model = build_model(published())
    assert isinstance(model, RealIISR)
    has_tokenizer = any(name.startswith(TOKENIZER) for name in state)
    wanted = {
        name: value
        for name, value in released_layout(model.network).items()
        if not name.startswith(AGAIN) and not name.endswith(HITS) and name not in MASKS
        if has_tokenizer or not name.startswith(TOKENIZER)
    }
    check_layout({name: value for name, value in state.items() if name in wanted}, wanted, reference, "VARSR")
    copy_released(model.network, state, reference)
    if not has_tokenizer:
        model.register_state_dict_post_hook(_without_tokenizer)
    _log_unused(reference, [name for name in state if name not in wanted], has_tokenizer)
    return model.eval()


def published() -> dict[str, Any]:
    """Return class path and arguments of the start model, as `real_iisr.published` does."""
    config = real_iisr.published()
    config["init_args"] |= {
        "structure": "lit_thermal.blocks.thermal_structure.NoStructure",
        "codebook": "lit_thermal.blocks.codebook.StaticCodebook",
        "guidance": 6.0,
    }
    return config


def _without_tokenizer(
    module: nn.Module, state: dict[str, Tensor], prefix: str, local_metadata: dict[str, Any]
) -> None:
    for name in [name for name in state if name.startswith(prefix + OURS)]:
        del state[name]


def _log_unused(path: Path, unused: list[str], has_tokenizer: bool) -> None:
    """Log the unused entries of the file, by the first part of their names, and the source of the tokenizer."""
    counts: dict[str, int] = {}
    for name in unused:
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + 1
    if counts:
        _log.info("%s: not used: %s", path, ", ".join(f"{part} ({count})" for part, count in counts.items()))
    if has_tokenizer:
        _log.info("%s has a tokenizer: with --model.tokenizer_weights= the training needs no other file of it", path)
    else:
        _log.info("%s has no tokenizer: the training needs VQVAE.pth, by --model.tokenizer_weights", path)
