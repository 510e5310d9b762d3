"""Records of models in checkpoints of earlier versions, translated to the arguments that their classes take now."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

THERIS_SIZES = (
    "channels",
    "depth",
    "encoder_blocks",
    "decoder_blocks",
    "embedding",
    "state",
    "expansion",
    "shared_directions",
    "decoder_width",
)
THERIS_PRESETS: dict[str, tuple[int | bool, ...]] = {
    "tiny": (16, 1, 1, 1, 16, 8, 1, True, 16),
    "small": (32, 2, 2, 3, 32, 8, 2, True, 32),
    "base": (64, 8, 5, 10, 64, 16, 2, False, 64),
    "large": (96, 8, 5, 10, 64, 16, 2, False, 64),
}
"""Values of `THERIS_SIZES` for each value of the former argument `preset`."""

TOKENIZER_PHASE = {"tokenizer_steps", "tokenizer_lr"}


def translated(config: dict[str, Any], weights: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return class path and arguments of a recorded model with the arguments of earlier versions translated.

    - THERIS used to have the sizes of its network, or a `preset`, among its arguments; now its `network` has them.
    - A spectral mask used to have `norm` among its arguments; now it is `mask_norm` of the network.
    - A motion-aligned interpolation used to fuse with a kernel of three pixels; its weights say the size.
    - A thermal diffusion interpolation had 16 knots by default; a record without a number has as many as its weights.
    - RealIISR used to train its tokenizer; the callback `TokenizerFirst` does so now, so these arguments are dropped.

    Args:
        config: class path and arguments of a model; records of the current version are returned unchanged.
        weights: state dict of the checkpoint.
    """
    name = config["class_path"].rsplit(".", 1)[-1]
    if name == "THERIS" and "init_args" in config:
        arguments = _with_mask_norm(_theris(config["init_args"]))
        arguments = _with_fuse_kernel(_with_knots(arguments, weights or {}), weights or {})
        return config | {"init_args": arguments}
    if name == "RealIISR" and TOKENIZER_PHASE & config.get("init_args", {}).keys():
        _log_dropped(", ".join(sorted(TOKENIZER_PHASE)))
        kept = {key: value for key, value in config["init_args"].items() if key not in TOKENIZER_PHASE}
        return config | {"init_args": kept}
    return config


@cache
def _log_dropped(names: str) -> None:
    rank_zero_info(
        f"model.{names} of an earlier version is ignored: the callback TokenizerFirst trains the tokenizer now"
    )


def _theris(arguments: dict[str, Any]) -> dict[str, Any]:
    moved = {"preset", *THERIS_SIZES, "skip", "checkpoint_blocks"} & arguments.keys()
    if not moved or "network" in arguments:
        return arguments
    preset = arguments.get("preset", "base")
    if not isinstance(preset, str) or preset not in THERIS_PRESETS:
        return arguments
    sizes: dict[str, Any] = dict(zip(THERIS_SIZES, THERIS_PRESETS[preset], strict=True))
    sizes |= {name: arguments[name] for name in moved - {"preset"} if arguments[name] is not None}
    network = {"class_path": "lit_thermal.methods.theris.network.THERISNetwork", "init_args": sizes}
    return {name: value for name, value in arguments.items() if name not in moved} | {"network": network}


def _with_mask_norm(arguments: dict[str, Any]) -> dict[str, Any]:
    mask, network = arguments.get("mask"), arguments.get("network")
    if not isinstance(mask, dict) or not isinstance(network, dict):
        return arguments
    own = mask.get("init_args") or {}
    if "norm" not in own:
        return arguments
    kept = {name: value for name, value in own.items() if name != "norm"}
    sizes = (network.get("init_args") or {}) | {"mask_norm": own["norm"]}
    return arguments | {"mask": mask | {"init_args": kept}, "network": network | {"init_args": sizes}}


def _interpolation(arguments: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return the arguments of the interpolation, or None if it is not of the class `name`."""
    given = arguments.get("interpolation", "ThermalDiffusionInterpolation")
    block = {"class_path": given} if isinstance(given, str) else given
    if not isinstance(block, dict) or str(block.get("class_path")).rsplit(".", 1)[-1] != name:
        return None
    return block.get("init_args") or {}


def _with_fuse_kernel(arguments: dict[str, Any], weights: Mapping[str, Any]) -> dict[str, Any]:
    own = _interpolation(arguments, "MotionAlignedInterpolation")
    kernel = weights.get("network.interpolation.fuse.0.weight")
    if own is None or kernel is None or "fuse_kernel" in own:
        return arguments
    return arguments | {
        "interpolation": {
            "class_path": "lit_thermal.blocks.motion_interpolation.MotionAlignedInterpolation",
            "init_args": own | {"fuse_kernel": kernel.shape[-1]},
        }
    }


def _with_knots(arguments: dict[str, Any], weights: Mapping[str, Any]) -> dict[str, Any]:
    own = _interpolation(arguments, "ThermalDiffusionInterpolation")
    if own is None:
        return arguments
    outputs, first = (weights.get(f"network.{name}") for name in ("interpolation.mlp.2.bias", "encoder.0.bias"))
    if "knots" in own or own.get("kappa") == "shared" or outputs is None or first is None or len(outputs) % len(first):
        return arguments
    knots = len(outputs) // len(first)
    return arguments | {
        "interpolation": {
            "class_path": "lit_thermal.blocks.temporal_interpolation.ThermalDiffusionInterpolation",
            "init_args": own | {"knots": knots},
        }
    }
