"""VARSR's released layout, from whose weights the training of Real-IISR starts."""

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
    read_trained,
    released_layout,
    take,
)
from lit_thermal.weights.convert.reference import check_layout

OURS = "network.tokenizer."
_log = logging.getLogger(__name__)


def convert(reference: Path) -> SuperResolver:
    """Build what Real-IISR's training takes of the weights that the released code of VARSR wrote.

    It is Real-IISR without thermal guidance and with a static codebook, VARSR without its diffusion refiner, so that
    its state dict has what VARSR's file gives and nothing else. Where the file has no tokenizer, neither has the state
    dict. In a Real-IISR that is made from it, all that is not in it starts anew; so do the embeddings of the places,
    where guidance is appended to the prefix: VARSR's has 1025 tokens.

    Args:
        reference: checkpoint of the released training code, whose model lies under `trainer` and `var_wo_ddp`, or the
            state dict of that model alone.

    Raises:
        InputError: the file cannot be read, or entries that are taken are missing or of another shape.
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
    take(model.network, state, reference)
    if not has_tokenizer:
        model.register_state_dict_post_hook(_without_tokenizer)
    _tell(reference, [name for name in state if name not in wanted], has_tokenizer)
    return model.eval()


def published() -> dict[str, Any]:
    """Return class path and arguments of the part of VARSR that Real-IISR starts from, as `real_iisr.published`."""
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


def _tell(path: Path, left: list[str], has_tokenizer: bool) -> None:
    """Say what of the file is not taken, by the first part of the names, and where the tokenizer comes from."""
    counts: dict[str, int] = {}
    for name in left:
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + 1
    if counts:
        _log.info("%s: not taken: %s", path, ", ".join(f"{part} ({count})" for part, count in counts.items()))
    if has_tokenizer:
        _log.info("%s has a tokenizer: with --model.tokenizer_weights= the training needs no other file of it", path)
    else:
        _log.info("%s has no tokenizer: the training needs VQVAE.pth, by --model.tokenizer_weights", path)
