"""The ratio of two losses' gradients, by which a loss is weighted as a share of another."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Weighting = Literal["constant", "gradient_ratio"]
"""Meaning of a loss's weight: a factor, or the share of another loss's gradient."""


def gradient_ratio(reference: Tensor, loss: Tensor, output: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the norm of `reference`'s gradient with respect to `output` divided by the norm of `loss`'s, a scalar.

    With this weight, `loss` pulls as strongly as `reference` at the output. The ratio has no gradient, and it is 0 if
    `loss` has none at the output. The graphs of both losses remain.

    Args:
        reference: scalar loss to compare with.
        loss: scalar loss to weigh.
        output: tensor that both depend on, or several, whose gradients count as one vector.
    """
    if not loss.requires_grad:
        return loss.new_zeros(())
    outputs = [output] if isinstance(output, Tensor) else list(output)
    ours, theirs = (
        torch.stack(
            [
                gradient.float().norm()
                for gradient in torch.autograd.grad(each, outputs, retain_graph=True, materialize_grads=True)
            ]
        ).norm()
        for each in (reference, loss)
    )
    return torch.where(theirs > 0, ours / theirs, 0.0)
