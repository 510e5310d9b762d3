"""3M-TI's released layout: 1200 entries of the UNet with LoRA, 90 of the autoencoder's LoRA and skips."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lit_thermal.blocks.low_rank import UNET_ADAPTER, VAE_ADAPTER
from lit_thermal.blocks.pretrained import unwrapped
from lit_thermal.errors import InputError
from lit_thermal.methods.base import SuperResolver
from lit_thermal.methods.three_m_ti.module import ThreeMTI
from lit_thermal.weights.checkpoint import build_model
from lit_thermal.weights.convert.reference import check_layout, read_released

UNET, VAE = "state_dict_unet", "state_dict_vae"
"""Keys of the released file; the others (`rank_vae`, `vae_lora_target_modules`, `optimizer`) are not needed."""


def convert(reference: Path, base: Path) -> SuperResolver:
    """Build the published 3M-TI with released weights on the base weights of SD-Turbo.

    The LoRA ranks are those of the file. Weights in half precision become float32.

    Args:
        reference: file of the released training code.
        base: folder of SD-Turbo, or its name on the hub, for the base weights of the autoencoder; the file contains
            only its LoRA and skips.

    Raises:
        InputError: the file cannot be read, its entries are not those of the released networks, or SD-Turbo is not
            found.
    """
    unet_state, vae_state = _read(reference)
    local = base.expanduser()
    folder = str(local.absolute() if local.is_dir() else base)
    config = published(folder, _rank(unet_state, UNET_ADAPTER, reference), _rank(vae_state, VAE_ADAPTER, reference))
    try:
        model = build_model(config)
    except InputError as error:
        raise InputError(str(error).replace("model.base.folder", "--base")) from error
    assert isinstance(model, ThreeMTI)
    unet, autoencoder = model.network.unet, model.network.autoencoder
    names = released_names(autoencoder)
    own = autoencoder.state_dict()
    check_layout(unet_state, unet.state_dict(), reference, "3M-TI's UNet")
    check_layout(vae_state, {theirs: own[ours] for theirs, ours in names.items()}, reference, "3M-TI's autoencoder")
    unet.load_state_dict(unet_state)
    autoencoder.load_state_dict({names[name]: value for name, value in vae_state.items()}, strict=False)
    return model.eval()


def released_names(autoencoder: nn.Module) -> dict[str, str]:
    """Return our name of each autoencoder entry that the released code saves, by released name.

    Args:
        autoencoder: a `ViewAutoencoder` with LoRA.
    """
    names = {}
    for ours in autoencoder.state_dict():
        part, _, rest = ours.partition(".")
        if part == "skip" or ".lora_" in ours:
            names[f"decoder.{rest}" if part == "skip" else rest] = ours
    return names


def published(base: str, unet_rank: int = 16, vae_rank: int = 4) -> dict[str, Any]:
    """Return class path and arguments of the released network, without arguments of the training.

    All arguments that affect the result are included, so that changed defaults do not affect converted weights. The
    prompt is the one that the released code uses for an image without tags.

    Args:
        base: folder of SD-Turbo, or its name on the hub.
        unet_rank: LoRA rank of the UNet.
        vae_rank: LoRA rank of the autoencoder.
    """
    return {
        "class_path": "lit_thermal.methods.three_m_ti.module.ThreeMTI",
        "init_args": {
            "scale": 8,
            "base": {
                "class_path": "lit_thermal.networks.latent_diffusion.SDTurbo",
                "init_args": {"folder": base},
            },
            "attention": "lit_thermal.blocks.cross_modal_attention.CrossModalSelfAttention",
            "skip": {
                "class_path": "lit_thermal.blocks.skip_connection.ZeroSkip",
                "init_args": {"init": 1e-5},
            },
            "prompt": {
                "class_path": "lit_thermal.blocks.prompt.FixedPrompt",
                "init_args": {"text": "remove degradation", "encoder": base},
            },
            "registration": "lit_thermal.blocks.registration.NoRegistration",
            "prediction": "noise",
            "latent": "sample",
            "timestep": 199,
            "train": "lora_and_unet",
            "unet_rank": unet_rank,
            "vae_rank": vae_rank,
            "upsampling": "two_step",
            "seed": 0,
        },
    }


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the state dicts of UNet and autoencoder."""
    content = read_released(path)
    states = []
    for key in (UNET, VAE):
        state = content.get(key) if isinstance(content, dict) else None
        if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
            keys = f" but {', '.join(map(repr, list(content)[:4]))}" if isinstance(content, dict) and content else ""
            raise InputError(
                f"{path} holds no {key} (names to tensors), as the released training code saves it{keys}: give a file "
                "that it wrote, such as model_8001.pkl"
            )
        states.append(unwrapped(state))
    return states[0], states[1]


def _rank(state: Mapping[str, Tensor], adapter: str, path: Path) -> int:
    """Return the LoRA rank of a state dict."""
    ending = f".lora_A.{adapter}.weight"
    found = {value.shape[0]: name for name, value in state.items() if name.endswith(ending) and value.ndim}
    if len(found) == 1:
        return next(iter(found))
    if not found:
        raise InputError(f"{path} holds no LoRA: no name ends in {ending}; give a file that the released code wrote")
    ranks = " and ".join(f"{rank} ({name})" for rank, name in list(found.items())[:2])
    raise InputError(
        f"{path} holds LoRA of several ranks, {ranks}, but 3M-TI has the same rank in all layers of a network"
    )
