"""Merging of LoRA into the base weights, which makes a checkpoint for deployment."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_thermal.blocks.low_rank import merge
from lit_thermal.errors import InputError
from lit_thermal.methods.three_m_ti.module import ThreeMTI
from lit_thermal.weights.checkpoint import build_model, read_checkpoint, rebuild, recorded_model


def merged(path: Path, base: str = "") -> ThreeMTI:
    """Rebuild the model of a checkpoint with LoRA, and fold the LoRA into the base weights.

    The returned model has `train: all` and the configurations of its networks in its own config, so that its checkpoint
    can be loaded without the base model, except for the text encoder of its prompts.

    Args:
        path: checkpoint with LoRA.
        base: folder of the base model, or its name on the hub; if empty, the base model used in training. If the folder
            has a text encoder, that is used too.

    Raises:
        InputError: the checkpoint cannot be read or has no LoRA, or the base model cannot be found.
    """
    checkpoint = read_checkpoint(path)
    if not any(".lora_A." in name for name in checkpoint["state_dict"]):
        raise InputError(f"{path} holds no LoRA to merge: use it unchanged")
    if (config := recorded_model(checkpoint)) is not None:
        folder = _folder(config)
        if folder is None:
            raise InputError(
                f"{path} has LoRA but names no base model (model.base.folder), whose weights are not in it: it "
                "cannot be merged"
            )
        checkpoint["lit_thermal"]["model"] = _replaced(config, folder, base or folder)
    try:
        model = rebuild(checkpoint, path)
    except InputError as error:
        raise InputError(str(error).replace("model.base.folder", "--base")) from error
    del checkpoint
    assert isinstance(model, ThreeMTI) and model.config is not None
    network = model.network
    base_config = {
        "class_path": "lit_thermal.networks.latent_diffusion.ConfiguredLatentDiffusion",
        "init_args": {"unet": _config(network.unet), "vae": _config(network.autoencoder.vae)},
    }
    arguments = model.config["init_args"] | {"train": "all", "base": base_config}
    kept = {name: value for name, value in arguments.items() if name not in ("unet_rank", "vae_rank")}
    merge(network.unet, network.autoencoder)
    whole = build_model(model.config | {"init_args": kept})
    assert isinstance(whole, ThreeMTI)
    # The state dict would leave out frozen weights.
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    whole.load_state_dict({name: state[name] for name in whole.state_dict()})
    return whole.eval()


def _config(network: Any) -> dict[str, Any]:
    """Return the configuration of a diffusers network as plain values, without the keys about its file."""
    return {key: value for key, value in json.loads(network.to_json_string()).items() if not key.startswith("_")}


def _folder(config: dict[str, Any]) -> str | None:
    """Return the folder of the base model in a config, or None."""
    base = config.get("init_args", {}).get("base")
    arguments = base.get("init_args") if isinstance(base, dict) else None
    return arguments.get("folder") if isinstance(arguments, dict) else None


def _replaced(value: Any, old: str, new: str) -> Any:
    """Return plain values with all strings `old` replaced by `new`."""
    if isinstance(value, Mapping):
        return {key: _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return new if value == old else value
