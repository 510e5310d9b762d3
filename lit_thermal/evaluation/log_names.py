"""Names and values of scores for Lightning's log."""

from lit_thermal.evaluation.evaluator import Evaluator
from lit_thermal.metrics.catalogue import QUALITY_NAMES


def logged_validation(evaluator: Evaluator, method: str) -> dict[str, float]:
    """Return `val/psnr` and `val/ssim` of a method; for video, also those over the interpolated frames."""
    groups = evaluator.compute().get("val", {}).get(method, {})
    return {
        f"val/{name}" if group == "all" else f"val/{name}_{group}": metrics[name]
        for group, metrics in groups.items()
        for name in QUALITY_NAMES
    }


def logged_test(evaluator: Evaluator, method: str) -> dict[str, float]:
    """Return `test/<dataset>/<metric>` of a method; a group or a protocol is appended to the metric's name."""
    found: dict[str, float] = {}
    for dataset, methods in evaluator.compute().items():
        for group, metrics in methods[method].items():
            suffix = "" if group == "all" else f"_{group.replace(' ', '_')}"
            found |= {f"test/{dataset}/{name}{suffix}": value for name, value in metrics.items()}
    for dataset, methods in evaluator.scores.others.summary().items():
        for protocol, metrics in methods[method].items():
            found |= {f"test/{dataset}/{name}_{protocol}": value for name, value in metrics.items()}
    return found
