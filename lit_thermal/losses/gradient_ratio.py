"""The ratio of two losses' gradients, by which a loss is weighted as a share of another."""

import torch
from torch import Tensor


def gradient_ratio(reference: Tensor, loss: Tensor, output: Tensor) -> Tensor:
    """Return the norm of `reference`'s gradient with respect to `output` divided by the norm of `loss`'s, a scalar.

    With this weight, `loss` pulls as strongly as `reference` at the output. The ratio has no gradient, and it is 0 if
    `loss` has none at the output. The graphs of both losses remain.

    Args:
        reference: scalar loss to compare with.
        loss: scalar loss to weigh.
        output: tensor that both depend on.
    """
    if not loss.requires_grad:
        return loss.new_zeros(())
    ours, theirs = (
        torch.autograd.grad(each, output, retain_graph=True, materialize_grads=True)[0].float().norm()
        for each in (reference, loss)
    )
    return torch.where(theirs > 0, ours / theirs, 0.0)
