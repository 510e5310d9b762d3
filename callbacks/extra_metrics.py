"""Metrics and protocols that a test is asked for by name."""

from collections.abc import Callable, Sequence

import lightning.pytorch as pl
from lightning.pytorch import Callback

from lit_thermal.errors import InputError
from lit_thermal.evaluation.protocols import EvaluationProtocol
from lit_thermal.methods.base import SuperResolver
from lit_thermal.metrics.catalogue import by_name


class ExtraMetrics(Callback):
    """Lets a test measure more than it does by itself, with any method.

    Args:
        metrics: names of `lit_thermal.metrics.catalogue` that are not standard: tof, warping_error, tlpips, musiq,
            maniqa, clip_iqa, and DOVER as dover=FILE.onnx. lpips is measured wherever its weights are; named here, a
            test says where it is not.
        protocols: measure images in further ways, beside those that the method has by itself.

    Raises:
        InputError: there is no metric of that name, or neither is given.
    """

    def __init__(self, metrics: Sequence[str] = (), protocols: Sequence[Callable[[], EvaluationProtocol]] = ()) -> None:
        if not metrics and not protocols:
            raise InputError("ExtraMetrics was given neither metrics nor protocols; name some, or leave it out")
        by_name(metrics)
        self.metrics, self.protocols = tuple(metrics), tuple(protocols)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell the method before it begins to measure."""
        assert isinstance(pl_module, SuperResolver)
        pl_module.metrics = self.metrics
        given = {make().name for make in pl_module.protocols}
        more = [make for make in self.protocols if make().name not in given]
        pl_module.protocols = [*pl_module.protocols, *more]
