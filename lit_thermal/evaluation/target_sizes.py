"""Check of the sizes of targets before a run, which headers of files give without decoding."""

from typing import Any

from lit_thermal.errors import InputError
from lit_thermal.metrics.quality import SSIM_WINDOW


def check_target_sizes(data: Any, stage: str, validates: bool) -> None:
    """Check that the targets that will be measured are large enough for SSIM.

    The test images are also checked before `fit`, because a test often follows.

    Args:
        data: data module; one without `target_sizes` is not checked.
        stage: `fit`, `validate`, `test` or `predict`.
        validates: whether a training validates.

    Raises:
        InputError: a target is smaller than the window of SSIM.
    """
    if not hasattr(data, "target_sizes"):
        return
    splits = {"fit": ("val", "test") if validates else ("test",), "validate": ("val",), "test": ("test",)}
    for split in splits.get(stage, ()):
        sizes = data.target_sizes(split)
        small = [f"{name} is {w} x {h}" for name, (h, w) in sizes.items() if min(h, w) < SSIM_WINDOW]
        if small:
            more = f" and {len(small) - 5} more" if len(small) > 5 else ""
            raise InputError(
                f"SSIM needs targets of {SSIM_WINDOW} x {SSIM_WINDOW} or more, and of the {split} data "
                f"{', '.join(small[:5])}{more}: leave them out or give larger ones"
            )
