"""Learning-rate schedules that torch does not have."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lit_thermal.errors import InputError


class WarmUpHoldDecay(LambdaLR):
    """Rises over a warm-up, holds the rate for a share of what follows, and then falls to the last step; all linear.

    Step i of n, from 0, has the optimizer's rate times ``first + (1 - first) i / warm_up`` before `warm_up`. After it,
    with the share ``p = (i - warm_up) / (n - 1 - warm_up)`` of the rest, times 1 while ``p < hold``, and then times
    ``last + (1 - last) (1 - p) / (1 - hold)``. Later steps have what the last one has.

    The defaults but for the warm-up are those of the released Real-IISR.

    Args:
        optimizer: whose groups keep their ratios.
        steps: n, of the whole training.
        warm_up: steps of it; the released code of Real-IISR has a tenth of an epoch.
        first: factor of the first step.
        hold: share of the steps after the warm-up, from 0 to below 1.
        last: factor of the last step.
        last_epoch: as in torch.

    Raises:
        InputError: a number is out of range.

    Source: the released code of Real-IISR, which has it from VAR's by way of VARSR's.
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
        """What the rate is multiplied by at a step, from 0."""
        if step < self.warm_up:
            return self.first + (1 - self.first) * step / self.warm_up
        share = min(1.0, (step - self.warm_up) / max(1, self.steps - 1 - self.warm_up))
        return 1.0 if share < self.hold else self.last + (1 - self.last) * (1 - share) / (1 - self.hold)
