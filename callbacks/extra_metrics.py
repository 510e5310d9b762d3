"""Further metrics and protocols of a test, requested by name."""

from collections.abc import Callable, Sequence

import lightning.pytorch as pl
from lightning.pytorch import Callback

from lit_thermal.errors import InputError
from lit_thermal.evaluation.protocols import EvaluationProtocol
from lit_thermal.methods.base import SuperResolver
from lit_thermal.metrics.catalogue import by_name


class ExtraMetrics(Callback):
    """Adds metrics and evaluation protocols to the tests of any method.

    Args:
        metrics: names of further metrics in `lit_thermal.metrics.catalogue`: tof, warping_error, tlpips, musiq, maniqa,
            clip_iqa, and DOVER as dover=FILE.onnx. lpips is measured by default if its weights are found; if it is
            named here, the test reports why it is missing.
        protocols: further evaluation protocols of images, added to those of the method.

    Raises:
        InputError: a metric is unknown, or neither metrics nor protocols are given.
    """

    def __init__(self, metrics: Sequence[str] = (), protocols: Sequence[Callable[[], EvaluationProtocol]] = ()) -> None:
        if not metrics and not protocols:
            raise InputError("ExtraMetrics was given neither metrics nor protocols; name some, or leave it out")
        by_name(metrics)
        self.metrics, self.protocols = tuple(metrics), tuple(protocols)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add metrics and protocols to the method before it creates its evaluator."""
        assert isinstance(pl_module, SuperResolver)
        pl_module.metrics = self.metrics
        given = {make().name for make in pl_module.protocols}
        more = [make for make in self.protocols if make().name not in given]
        pl_module.protocols = [*pl_module.protocols, *more]
