"""Surgery: after a block was changed, keep every weight that still fits and say what became of the others."""

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lit_thermal.errors import InputError
from lit_thermal.weights_file import check_finite, check_kinds, named_as

_TOLD = 10
"""Modules of one fate that a table names: networks of two kinds differ in a hundred places."""


@dataclass(frozen=True)
class Differences:
    """How the weights of a checkpoint differ from those of a model, by name and shape."""

    missing: list[str]
    """In the model and not in the checkpoint."""
    unexpected: list[str]
    """In the checkpoint and not in the model."""
    reshaped: list[tuple[str, torch.Size, torch.Size]]
    """In both, with the shape in the checkpoint and the shape in the model."""

    def told(self) -> str:
        """Return how many differ in which way, with the first of each; nothing where all fit."""
        reshaped = [f"{name}, {tuple(old)} there and {tuple(new)} here" for name, old, new in self.reshaped]
        ways = {"missing": self.missing, "unexpected": self.unexpected, "of other shape": reshaped}
        return ", ".join(f"{len(names)} {way} (first: {names[0]})" for way, names in ways.items() if names)


@dataclass(frozen=True)
class Transplant:
    """What became of each weight and buffer: name to shape."""

    kept: dict[str, torch.Size]
    dropped: dict[str, torch.Size]
    """Weights of the checkpoint that the model has no place for."""
    new: dict[str, torch.Size]
    """Weights of the model that the checkpoint does not have, as they were initialised."""

    def table(self) -> str:
        """Return a table of tensors and values per fate, and below it the first modules that changed."""
        lines = [f"  {'':<10}{'tensors':>8}{'values':>12}"]
        fates = {"kept": self.kept, "dropped": self.dropped, "new": self.new}
        for fate, shapes in fates.items():
            lines.append(f"  {fate:<10}{len(shapes):>8}{sum(s.numel() for s in shapes.values()):>12,}")
        everything = self.kept.keys() | self.dropped.keys() | self.new.keys()
        names = Counter(prefix for name in everything for prefix in _prefixes(name))
        for fate in ("dropped", "new"):
            same = Counter(prefix for name in fates[fate] for prefix in _prefixes(name))
            # the largest modules all of whose weights had this fate
            whole = Counter(next(p for p in _prefixes(name) if same[p] == names[p]) for name in fates[fate])
            lines += [f"  {fate:<10}{module} ({count})" for module, count in list(whole.items())[:_TOLD]]
            if len(whole) > _TOLD:
                rest = list(whole.values())[_TOLD:]
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
    """Copy every weight and buffer of a state dict that fits the model by name and shape into it.

    Args:
        model: receives the weights; what does not fit keeps its values.
        checkpoint: state dict to take them from; words of wrappers (`module.`, `_orig_mod.`) are taken off its names.
        origin: where it comes from, for the sentence.

    Raises:
        InputError: nothing fits, or what fits is of another kind or not finite.
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
    """Return the modules that a weight lies in, the outermost first, and the weight itself."""
    parts = name.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def _shapes(state: Mapping[str, Tensor], names: Container[str]) -> dict[str, torch.Size]:
    return {name: _shape(value) for name, value in state.items() if name in names}


def _shape(value: object) -> torch.Size:
    # the state dict may hold extra state that is no tensor
    return value.shape if isinstance(value, Tensor) else torch.Size()
