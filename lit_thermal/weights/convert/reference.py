"""Files of weights that other code wrote: read safely, and taken only where every name and shape is as expected."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lit_thermal.blocks.pretrained import unwrapped
from lit_thermal.errors import InputError
from lit_thermal.files import is_plain
from lit_thermal.weights.checkpoint import read_values
from lit_thermal.weights.surgery import compare
from lit_thermal.weights_file import check_finite, check_kinds, check_tensors


def read_released(path: Path, mapped: bool = False) -> Any:
    """Return what the released code saved to a file, onto the CPU; only tensors and plain values are unpickled.

    Args:
        path: of the file.
        mapped: leave tensors in the file until they are used, for files with more than what is taken.

    Raises:
        InputError: there is no such file, it cannot be read, holds more than that, or is one of ours.
    """
    if not is_plain(path):
        raise InputError(f"{path} is not a file; give the file of weights that the released code wrote")
    held = read_values(path, mapped)
    if isinstance(held, dict) and "lit_thermal" in held:
        raise InputError(f"{path} is a checkpoint of lit_thermal already: give it by --ckpt_path as it is")
    return held


def read_state_dict(path: Path, wrapped: bool = False) -> dict[str, Tensor]:
    """Read a plain state dict, name to tensor, onto the CPU; no code in the file is run.

    Args:
        path: of the file.
        wrapped: it may lie under `state_dict`, and its names may carry what wrappers put before them (`module.`,
            `_orig_mod.`), which is taken off.

    Raises:
        InputError: there is no such file, it cannot be read, or holds something else.
    """
    state = read_released(path)
    if wrapped and isinstance(state, dict):
        state = state.get("state_dict", state)
    state = plain_state_dict(state, path)
    return unwrapped(state) if wrapped else state


def plain_state_dict(held: Any, path: Path) -> dict[str, Tensor]:
    """Return what a file held where that is a plain state dict, name to tensor.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(held, dict) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        keys = f" but {', '.join(map(repr, list(held)[:4]))}" if isinstance(held, dict) and held else ""
        raise InputError(
            f"{path} holds no plain state dict (names to tensors){keys}: save what the network's state_dict() gives"
        )
    return held


def check_layout(state: Mapping[str, Tensor], layout: Mapping[str, Tensor], path: Path, method: str) -> None:
    """Check that a state dict has exactly the entries of a layout, by name, shape and kind, and finite.

    Args:
        state: what was read.
        layout: name to a tensor of the right shape.
        path: where it was read from.
        method: whose layout it is.

    Raises:
        InputError: it does not; the sentence counts what is missing, unexpected and of another shape.
    """
    if differences := compare(layout, state).describe():
        raise InputError(
            f"{path} is not in the released layout of {method} ({len(layout)} entries): of its {len(state)} entries "
            f"{differences}; give the file that the released code wrote for the published network"
        )
    check_tensors(state, path)
    # tables of places follow from the configuration and are not taken
    check_kinds(state, {name: value for name, value in layout.items() if value.is_floating_point()}, path)
    check_finite(state, layout, path)
