"""Quality without a target, by networks that were trained on photographs and on videos of people's phones.

None knows thermal images: what they prefer is what looks like a good photograph. Their weights are looked for and
never fetched.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.metrics.metric import Seen, Unavailable

PYIQA = {
    "musiq": ("musiq", "musiq_koniq_ckpt-e95806b9.pth"),
    "maniqa": ("maniqa", "ckpt_koniq10k.pt"),
    "clip_iqa": ("clipiqa", "RN50.pt"),
}
"""Our name to pyiqa's name and to the file of its weights: trained on KonIQ-10k, or CLIP's ResNet-50."""

_VIT_OF_MANIQA = "vit_base_patch8_224"
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
_FRAGMENTS = 7
_VIEW = 224


def by_pyiqa(name: str) -> Callable[[Seen], Tensor]:
    """What measures MUSIQ, MANIQA or CLIP-IQA of each restored frame, (B, T), as pyiqa does with its defaults.

    Gray is repeated to three channels. MANIQA looks at crops that are drawn; the draw is the same for each frame.

    Raises:
        Unavailable: when it measures, pyiqa (extra `metrics`) or the weights are not on this machine.
    """

    def measure(seen: Seen) -> Tensor:
        network = _pyiqa(name, str(seen.restored.device))
        values = []
        for frame in seen.restored.flatten(0, 1):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                values.append(network(frame[None].expand(-1, 3, -1, -1).contiguous()).float().reshape(()))
        return torch.stack(values).view(seen.restored.shape[:2])

    return measure


def dover(path: str | Path | None) -> Callable[[Seen], Tensor]:
    """What measures DOVER's overall quality in [0, 1] of the frames that are seen at once; each frame has that value.

    From an ONNX file that the authors' `convert_to_onnx.py` writes, with the inputs `aes_view` and `tech_view`. The
    aesthetic view is 32 frames of the whole length at 224 x 224; the technical views are runs of every second frame,
    of which 7 x 7 patches of 32 x 32 are put together, taken here from the middle of each cell and not drawn. Where
    there are too few frames, they are repeated.

    DOVER is under the S-Lab licence: for non-commercial use only.

    Args:
        path: the file.

    Raises:
        Unavailable: when it measures, there is no file, or onnxruntime (extra `metrics`) is not installed.

    Source: Wu et al., "Exploring video quality assessment on user generated contents from aesthetic and technical
        perspectives", 2023.
    """

    def measure(seen: Seen) -> Tensor:
        session = _session(path)
        values = [_overall(session, clip) for clip in seen.restored[:, :, 0].float().cpu()]
        return torch.tensor(values)[:, None].expand(seen.restored.shape[:2])

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
    """Pyiqa builds MANIQA on timm's pretrained transformer, which timm would fetch."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(_VIT_OF_MANIQA)
    assert config is not None and config.hf_hub_id is not None, "timm has had it for years"
    if not isinstance(try_to_load_from_cache(config.hf_hub_id, "model.safetensors"), str):
        raise Unavailable(
            f"maniqa needs timm's {_VIT_OF_MANIQA} beside its weights: fetch {config.hf_hub_id} into the cache of "
            "huggingface_hub"
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
    except Exception as error:  # onnxruntime has a class of its own for each kind of damage
        raise Unavailable(f"dover cannot be read from {path} ({str(error).splitlines()[0][:100]})") from error
    inputs = {i.name: i.shape for i in session.get_inputs()}
    if set(inputs) != {"aes_view", "tech_view"} or len(session.get_outputs()) != 2:
        raise Unavailable(
            f"{path} has the inputs {', '.join(inputs)}, and DOVER's has aes_view and tech_view and two outputs: "
            "make it with the authors' convert_to_onnx.py"
        )
    return session


def _overall(session: Any, clip: Tensor) -> float:
    """Quality of (T, H, W) in [0, 1]; NaN where the clip has one."""
    if clip.isnan().any():
        return float("nan")
    shapes = {i.name: i.shape for i in session.get_inputs()}
    views = {
        "aes_view": _aesthetic(clip, _fixed(shapes["aes_view"][2], 32)),
        "tech_view": _technical(clip, _fixed(shapes["tech_view"][0], 3), _fixed(shapes["tech_view"][2], 32)),
    }
    aesthetic, technical = (float(np.mean(scores)) for scores in session.run(None, views))
    # The fusion that the authors publish beside the weights.
    fused = 0.6104 * (technical - 0.1107) / 0.07355 + 0.3896 * (aesthetic + 0.08285) / 0.03774
    return float(1 / (1 + np.exp(-fused)))


def _fixed(size: Any, otherwise: int) -> int:
    """A dimension of an input; a file may leave it open by a name."""
    return size if isinstance(size, int) and size > 0 else otherwise


def _aesthetic(clip: Tensor, count: int) -> np.ndarray:
    """(1, 3, count, 224, 224): frames spread over the whole length."""
    numbers = torch.arange(count) * len(clip) // count
    small = F.interpolate(clip[numbers][:, None], (_VIEW, _VIEW), mode="bilinear", antialias=True)[:, 0]
    return _normalized(small[None])


def _technical(clip: Tensor, runs: int, count: int) -> np.ndarray:
    """(runs, 3, count, 224, 224): every second frame from evenly spread starts, cut into patches at full resolution."""
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
    """(N, T, H, W) in [0, 1] to (N, 3, T, H, W) as the network was trained."""
    values = 255 * gray.numpy()[:, None]
    return ((values - _MEAN[:, None, None, None]) / _DEVIATION[:, None, None, None]).astype(np.float32)
