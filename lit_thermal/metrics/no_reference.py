"""Quality without a target, by networks that were trained on photographs and on phone videos.

None was trained on thermal images: they prefer results that look like a good photograph. Their weights are read locally
and never downloaded.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.metrics.metric import MetricInput, Unavailable

PYIQA = {
    "musiq": ("musiq", "musiq_koniq_ckpt-e95806b9.pth"),
    "maniqa": ("maniqa", "ckpt_koniq10k.pt"),
    "clip_iqa": ("clipiqa", "RN50.pt"),
}
"""Metric name, pyiqa's name, and the file of its weights, trained on KonIQ-10k, or CLIP's ResNet-50."""

_VIT_OF_MANIQA = "vit_base_patch8_224"
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
_FRAGMENTS = 7
_VIEW = 224


def by_pyiqa(name: str) -> Callable[[MetricInput], Tensor]:
    """Return the function that measures MUSIQ, MANIQA or CLIP-IQA of each frame, (B, T), with pyiqa's defaults.

    Gray is repeated to three channels. MANIQA uses random crops; they are the same for every frame.

    Raises:
        Unavailable: pyiqa (extra `metrics`) or the weights are not on this machine; raised when it measures.
    """

    def measure(inputs: MetricInput) -> Tensor:
        network = _pyiqa(name, str(inputs.restored.device))
        values = []
        for frame in inputs.restored.clamp(0, 1).flatten(0, 1):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                values.append(network(frame[None].expand(-1, 3, -1, -1).contiguous()).float().reshape(()))
        return torch.stack(values).view(inputs.restored.shape[:2])

    return measure


def dover(path: str | Path | None) -> Callable[[MetricInput], Tensor]:
    """Return the function that measures DOVER's overall quality in [0, 1] of the given frames, equal for each frame.

    The network is an ONNX file written by the authors' `convert_to_onnx.py`, with the inputs `aes_view` and
    `tech_view`. The aesthetic view has 32 frames over the whole length at 224 x 224. The technical views are runs of
    every second frame, composed of 7 x 7 patches of 32 x 32, which are taken from the middle of each cell here instead
    of randomly. If there are too few frames, they are repeated.

    DOVER is under the S-Lab licence, for non-commercial use only.

    Args:
        path: path of the ONNX file.

    Raises:
        Unavailable: the file does not exist, or onnxruntime (extra `metrics`) is not installed; raised when it
            measures.

    Source: Wu et al., "Exploring video quality assessment on user generated contents from aesthetic and technical
        perspectives", 2023.
    """

    def measure(inputs: MetricInput) -> Tensor:
        session = _session(path)
        values = [_overall(session, clip) for clip in inputs.restored[:, :, 0].float().clamp(0, 1).cpu()]
        return torch.tensor(values)[:, None].expand(inputs.restored.shape[:2])

    return measure


def _pyiqa(name: str, device: str) -> Any:
    theirs, file = PYIQA[name]
    try:
        from pyiqa.utils.download_util import DEFAULT_CACHE_DIR
    except ImportError as error:
        raise Unavailable(f"{name} needs pyiqa: pip install 'lit_thermal[metrics]'") from error
    folder = Path(torch.hub.get_dir(), "clip") if name == "clip_iqa" else Path(DEFAULT_CACHE_DIR)
    if not (folder / file).is_file():
        raise Unavailable(f"{name} needs the weights {file}: fetch them as pyiqa's documentation says into {folder}")
    if name == "maniqa":
        _need_vit()
    return _created(theirs, device)


def _need_vit() -> None:
    """Check that timm has the pretrained transformer of MANIQA, which pyiqa would otherwise download."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(_VIT_OF_MANIQA)
    assert config is not None and config.hf_hub_id is not None, "timm has had it for years"
    if not isinstance(try_to_load_from_cache(config.hf_hub_id, "model.safetensors"), str):
        raise Unavailable(
            f"maniqa needs timm's {_VIT_OF_MANIQA} in addition to its weights: fetch {config.hf_hub_id} into the "
            "cache of huggingface_hub"
        )


@lru_cache(maxsize=4)
def _created(theirs: str, device: str) -> Any:
    import pyiqa

    return pyiqa.create_metric(theirs, device=torch.device(device))


def _session(path: str | Path | None) -> Any:
    if path is None:
        raise Unavailable("dover needs its network: give the ONNX file as dover=FILE (non-commercial licence)")
    if not Path(path).is_file():
        raise Unavailable(f"dover needs its network, and there is no file {path}")
    try:
        import onnxruntime  # noqa: F401 - tells early
    except ImportError as error:
        raise Unavailable("dover needs onnxruntime: pip install 'lit_thermal[metrics]'") from error
    return _opened(str(path))


@lru_cache(maxsize=1)
def _opened(path: str) -> Any:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has its own class for each kind of damage
        raise Unavailable(f"dover cannot be read from {path} ({str(error).splitlines()[0][:100]})") from error
    inputs = {i.name: i.shape for i in session.get_inputs()}
    if set(inputs) != {"aes_view", "tech_view"} or len(session.get_outputs()) != 2:
        raise Unavailable(
            f"{path} has the inputs {', '.join(inputs)}, and DOVER's has aes_view and tech_view and two outputs: "
            "make it with the authors' convert_to_onnx.py"
        )
    return session


def _overall(session: Any, clip: Tensor) -> float:
    """Return the quality of (T, H, W) in [0, 1]; NaN if the clip contains NaN."""
    if clip.isnan().any():
        return float("nan")
    shapes = {i.name: i.shape for i in session.get_inputs()}
    views = {
        "aes_view": _aesthetic(clip, _fixed(shapes["aes_view"][2], 32)),
        "tech_view": _technical(clip, _fixed(shapes["tech_view"][0], 3), _fixed(shapes["tech_view"][2], 32)),
    }
    aesthetic, technical = (float(np.mean(scores)) for scores in session.run(None, views))
    # Fusion weights that the authors publish with the network's weights.
    fused = 0.6104 * (technical - 0.1107) / 0.07355 + 0.3896 * (aesthetic + 0.08285) / 0.03774
    return float(1 / (1 + np.exp(-fused)))


def _fixed(size: Any, otherwise: int) -> int:
    """Return a dimension of an input; if the file leaves it open by a name, return `otherwise`."""
    return size if isinstance(size, int) and size > 0 else otherwise


def _aesthetic(clip: Tensor, count: int) -> np.ndarray:
    """Return (1, 3, count, 224, 224): frames spread over the whole length."""
    numbers = torch.arange(count) * len(clip) // count
    small = F.interpolate(clip[numbers][:, None], (_VIEW, _VIEW), mode="bilinear", antialias=True)[:, 0]
    return _normalized(small[None])


def _technical(clip: Tensor, runs: int, count: int) -> np.ndarray:
    """Return (runs, 3, count, 224, 224): every second frame from evenly spread starts, as full-resolution patches."""
    side = _VIEW // _FRAGMENTS
    shortest = min(clip.shape[-2:])
    if shortest < _VIEW:
        size = [round(s * _VIEW / shortest) for s in clip.shape[-2:]]
        clip = F.interpolate(clip[:, None], size, mode="bilinear")[:, 0]
    tops, lefts = (
        [(2 * i + 1) * s // (2 * _FRAGMENTS) - side // 2 for i in range(_FRAGMENTS)] for s in clip.shape[-2:]
    )
    rows = [torch.cat([clip[:, y : y + side, x : x + side] for x in lefts], dim=-1) for y in tops]
    patches = torch.cat(rows, dim=-2)
    starts = [len(clip) * run // runs for run in range(runs)]
    numbers = torch.tensor([[(start + 2 * t) % len(clip) for t in range(count)] for start in starts])
    return _normalized(patches[numbers])


def _normalized(gray: Tensor) -> np.ndarray:
    """Convert (N, T, H, W) in [0, 1] to (N, 3, T, H, W), normalised as in the network's training."""
    values = 255 * gray.numpy()[:, None]
    return ((values - _MEAN[:, None, None, None]) / _DEVIATION[:, None, None, None]).astype(np.float32)
