"""Weight surgery: after a block was replaced, load all weights that still fit and report the others."""

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lit_thermal.errors import InputError
from lit_thermal.weights_file import check_finite, check_kinds, named_as

_MOST_LISTED = 10
"""Largest number of modules that the table lists as dropped, and as new."""


@dataclass(frozen=True)
class Differences:
    """Differences between the weights of a checkpoint and those of a model, by name and shape."""

    missing: list[str]
    """Names in the model but not in the checkpoint."""
    unexpected: list[str]
    """Names in the checkpoint but not in the model."""
    reshaped: list[tuple[str, torch.Size, torch.Size]]
    """Names in both, with the shape in the checkpoint and the different shape in the model."""

    def describe(self) -> str:
        """Return number and first name for each kind of difference, or an empty string if all weights fit."""
        reshaped = [f"{name}, {tuple(old)} there and {tuple(new)} here" for name, old, new in self.reshaped]
        ways = {"missing": self.missing, "unexpected": self.unexpected, "of other shape": reshaped}
        return ", ".join(f"{len(names)} {way} (first: {names[0]})" for way, names in ways.items() if names)


@dataclass(frozen=True)
class Transplant:
    """Result of loading weights: name and shape of each weight and buffer."""

    kept: dict[str, torch.Size]
    dropped: dict[str, torch.Size]
    """Weights of the checkpoint that the model cannot use."""
    new: dict[str, torch.Size]
    """Weights of the model that are not in the checkpoint and keep their initial values."""

    def table(self) -> str:
        """Return a table with the numbers of kept, dropped and new weights, and below it the first changed modules."""
        lines = [f"  {'':<10}{'tensors':>8}{'values':>12}"]
        fates = {"kept": self.kept, "dropped": self.dropped, "new": self.new}
        for fate, shapes in fates.items():
            lines.append(f"  {fate:<10}{len(shapes):>8}{sum(s.numel() for s in shapes.values()):>12,}")
        everything = self.kept.keys() | self.dropped.keys() | self.new.keys()
        names = Counter(prefix for name in everything for prefix in _prefixes(name))
        for fate in ("dropped", "new"):
            same = Counter(prefix for name in fates[fate] for prefix in _prefixes(name))
            # The largest modules in which all weights were dropped, or are new.
            whole = Counter(next(p for p in _prefixes(name) if same[p] == names[p]) for name in fates[fate])
            lines += [f"  {fate:<10}{module} ({count})" for module, count in list(whole.items())[:_MOST_LISTED]]
            if len(whole) > _MOST_LISTED:
                rest = list(whole.values())[_MOST_LISTED:]
                lines.append(f"  {fate:<10}{len(rest)} more module{'s' * (len(rest) > 1)} ({sum(rest)})")
        return "\n".join(lines)


def compare(model: Mapping[str, Tensor], checkpoint: Mapping[str, Tensor]) -> Differences:
    """Compare the state dict of a model with that of a checkpoint."""
    return Differences(
        missing=[name for name in model if name not in checkpoint],
        unexpected=[name for name in checkpoint if name not in model],
        reshaped=[
            (name, _shape(checkpoint[name]), _shape(value))
            for name, value in model.items()
            if name in checkpoint and _shape(checkpoint[name]) != _shape(value)
        ],
    )


def transplant(model: nn.Module, checkpoint: Mapping[str, Tensor], origin: str) -> Transplant:
    """Copy all weights and buffers of a state dict that fit a model by name and shape.

    Args:
        model: model that receives the weights; its other weights keep their values.
        checkpoint: state dict; prefixes of wrappers (`module.`, `_orig_mod.`) are removed from its names.
        origin: source of the state dict, used in error messages.

    Raises:
        InputError: no weight fits, or a weight that fits has another kind of dtype or is not finite.
    """
    own = model.state_dict()
    checkpoint = named_as(own, checkpoint, origin)
    found = compare(own, checkpoint)
    lost = {*found.unexpected, *(name for name, _, _ in found.reshaped)}
    kept = {name: value for name, value in checkpoint.items() if name not in lost}
    if own and not kept:
        raise InputError(
            f"none of the {len(checkpoint)} weights of {origin} fits {type(model).__name__} by name and shape"
        )
    check_kinds(kept, own, origin)
    check_finite(kept, own, origin)
    model.load_state_dict(kept, strict=False)
    return Transplant(
        kept=_shapes(kept, kept), dropped=_shapes(checkpoint, lost), new=_shapes(own, set(own).difference(kept))
    )


def _prefixes(name: str) -> list[str]:
    """Return the names of the modules that contain a weight, outermost first, followed by the name of the weight."""
    parts = name.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def _shapes(state: Mapping[str, Tensor], names: Container[str]) -> dict[str, torch.Size]:
    return {name: _shape(value) for name, value in state.items() if name in names}


def _shape(value: object) -> torch.Size:
    # A state dict may contain extra state that is not a tensor.
    return value.shape if isinstance(value, Tensor) else torch.Size()
