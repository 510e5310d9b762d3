"""LoRA folded into the weights it was added to: a checkpoint for deployment."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_thermal.blocks.low_rank import merge
from lit_thermal.errors import InputError
from lit_thermal.methods.three_m_ti.module import ThreeMTI
from lit_thermal.weights.checkpoint import build_model, read_checkpoint, rebuild, recorded_model


def merged(path: Path, base: str = "") -> ThreeMTI:
    """Rebuild the model of a checkpoint with LoRA and fold that into the weights it was added to.

    The model that is returned has `train: all` and the configurations of its networks in its own config, so that a
    checkpoint of it needs no files of the model that it was trained from, but for the text encoder of its prompts.

    Args:
        path: of the checkpoint.
        base: folder of the model that it was trained from, or its name on the hub; empty: the one that it was trained
            with. A text encoder in the same folder moves along.

    Raises:
        InputError: the checkpoint cannot be read or holds no LoRA, or the model that it was trained from cannot be had.
    """
    checkpoint = read_checkpoint(path)
    if not any(".lora_A." in name for name in checkpoint["state_dict"]):
        raise InputError(f"{path} holds no LoRA, so that there is nothing to fold in: use it as it is")
    if (config := recorded_model(checkpoint)) is not None:
        folder = _folder(config)
        if folder is None:
            raise InputError(
                f"{path} has LoRA and does not name what it was added to (model.base.folder), which is in no "
                "checkpoint: it cannot be merged"
            )
        checkpoint["lit_thermal"]["model"] = _moved(config, folder, base or folder)
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
    # Its state dict would leave out what was frozen.
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    whole.load_state_dict({name: state[name] for name in whole.state_dict()})
    return whole.eval()


def _config(network: Any) -> dict[str, Any]:
    """The configuration of a network of diffusers in plain values, without what names its file."""
    return {key: value for key, value in json.loads(network.to_json_string()).items() if not key.startswith("_")}


def _folder(config: dict[str, Any]) -> str | None:
    """Where a config has the weights from that LoRA is added to."""
    base = config.get("init_args", {}).get("base")
    arguments = base.get("init_args") if isinstance(base, dict) else None
    return arguments.get("folder") if isinstance(arguments, dict) else None


def _moved(value: Any, old: str, new: str) -> Any:
    """Plain values with one string in place of another."""
    if isinstance(value, Mapping):
        return {key: _moved(held, old, new) for key, held in value.items()}
    if isinstance(value, list):
        return [_moved(held, old, new) for held in value]
    return new if value == old else value
