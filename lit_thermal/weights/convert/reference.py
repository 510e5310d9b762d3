"""Safe reading of released weights, and the check that all names and shapes are as expected."""

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
    """Read a file of the released code onto the CPU; only tensors and plain values are unpickled.

    Args:
        path: file to read.
        mapped: map tensors from the file and read only those that are used.

    Raises:
        InputError: the file does not exist, cannot be read, contains other objects, or it is a checkpoint of this
            package.
    """
    if not is_plain(path):
        raise InputError(f"{path} is not a file; give the file of weights that the released code wrote")
    content = read_values(path, mapped)
    if isinstance(content, dict) and "lit_thermal" in content:
        raise InputError(f"{path} is already a checkpoint of lit_thermal: give it by --ckpt_path")
    return content


def read_state_dict(path: Path, wrapped: bool = False) -> dict[str, Tensor]:
    """Read a plain state dict onto the CPU, without running code in the file.

    Args:
        path: file to read.
        wrapped: accept a state dict under the key `state_dict`, and remove prefixes of wrappers (`module.`,
            `_orig_mod.`) from its names.

    Raises:
        InputError: the file does not exist, cannot be read, or has other contents.
    """
    state = read_released(path)
    if wrapped and isinstance(state, dict):
        state = state.get("state_dict", state)
    state = plain_state_dict(state, path)
    return unwrapped(state) if wrapped else state


def plain_state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the content of a file after checking that it is a plain state dict.

    Raises:
        InputError: the content is not a state dict.
    """
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        keys = f" but {', '.join(map(repr, list(content)[:4]))}" if isinstance(content, dict) and content else ""
        raise InputError(
            f"{path} holds no plain state dict (names to tensors){keys}: save the network's state_dict() instead"
        )
    return content


def check_layout(state: Mapping[str, Tensor], layout: Mapping[str, Tensor], path: Path, method: str) -> None:
    """Check that a state dict has exactly the entries of a layout, by name, shape and dtype, and that all are finite.

    Args:
        state: state dict of the file.
        layout: tensors of the right shapes, by name.
        path: file of the state dict, used in error messages.
        method: method with this layout.

    Raises:
        InputError: the entries differ; the message counts missing, unexpected and reshaped ones.
    """
    if differences := compare(layout, state).describe():
        raise InputError(
            f"{path} is not in the released layout of {method} ({len(layout)} entries): of its {len(state)} entries "
            f"{differences}; give a file of the released code for the published network"
        )
    check_tensors(state, path)
    # Integer tables of positions follow from the configuration and are not copied.
    check_kinds(state, {name: value for name, value in layout.items() if value.is_floating_point()}, path)
    check_finite(state, layout, path)
