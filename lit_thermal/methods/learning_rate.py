"""Learning-rate schedules that torch does not have."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lit_thermal.errors import InputError


class WarmUpHoldDecay(LambdaLR):
    """Linear warm-up, then a constant rate for a share of the remaining steps, then a linear decay to the last step.

    At step i of n, counted from 0, the optimizer's rate is multiplied by ``first + (1 - first) i / warm_up`` while
    ``i < warm_up``. After that, with ``p = (i - warm_up) / (n - 1 - warm_up)``, it is multiplied by 1 while
    ``p < hold``, and then by ``last + (1 - last) (1 - p) / (1 - hold)``. Later steps keep the last factor.

    All defaults except the warm-up are those of the released Real-IISR.

    Args:
        optimizer: optimizer to schedule; its parameter groups keep the ratios of their rates.
        steps: total number of training steps n.
        warm_up: number of warm-up steps; the released code of Real-IISR uses a tenth of an epoch.
        first: factor of the first step.
        hold: share of the steps after the warm-up with the full rate, at least 0 and below 1.
        last: factor of the last step.
        last_epoch: index of the last step, as in torch's schedulers.

    Raises:
        InputError: a number is out of range.

    Source: the released code of Real-IISR, which takes it from VARSR, and VARSR from VAR.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        warm_up: int = 0,
        first: float = 0.005,
        hold: float = 0.3,
        last: float = 0.01,
        last_epoch: int = -1,
    ) -> None:
        if steps < 1 or warm_up < 0 or min(first, last) < 0 or not 0 <= hold < 1:
            raise InputError(
                f"WarmUpHoldDecay(steps={steps}, warm_up={warm_up}, first={first}, hold={hold}, last={last}): give at "
                "least 1 step, a warm-up and factors of at least 0, and a share to hold from 0 to below 1"
            )
        self.steps, self.warm_up, self.first, self.hold, self.last = steps, warm_up, first, hold, last
        super().__init__(optimizer, self.factor, last_epoch)

    def factor(self, step: int) -> float:
        """Return the factor of the learning rate at a step, counted from 0."""
        if step < self.warm_up:
            return self.first + (1 - self.first) * step / self.warm_up
        share = min(1.0, (step - self.warm_up) / max(1, self.steps - 1 - self.warm_up))
        return 1.0 if share < self.hold else self.last + (1 - self.last) * (1 - share) / (1 - self.hold)
