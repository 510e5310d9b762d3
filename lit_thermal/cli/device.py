"""The option --device of verbs without a Trainer."""

from typing import TYPE_CHECKING

from lit_thermal.errors import InputError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> "torch.device":
    """Return the device of a name; `auto` is a GPU if there is one.

    Raises:
        InputError: the device cannot be used on this machine.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"--device {name} cannot be used on this machine; use auto or cpu") from error
    return device
