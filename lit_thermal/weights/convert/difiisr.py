"""DifIISR's released layout, which ResShift and SinSR share: 564 entries of a Swin U-Net, 205 of the VQ autoencoder."""

from pathlib import Path

from lit_thermal.methods.base import SuperResolver
from lit_thermal.methods.difiisr.module import DifIISR
from lit_thermal.networks.first_stage import VQFirstStage
from lit_thermal.weights.checkpoint import build_model
from lit_thermal.weights.convert.difiisr_unet import released_layout, to_ours
from lit_thermal.weights.convert.reference import check_layout, read_state_dict


def convert(reference: Path, vq: Path) -> SuperResolver:
    """Build the published DifIISR with released weights.

    Args:
        reference: file with the state dict of the released U-Net. Names may have the prefix `module.` or `_orig_mod.`,
            and the state dict may be under the key `state_dict`, as in checkpoints of the released training code.
        vq: file with the state dict of the VQ autoencoder, in the same form.

    Raises:
        InputError: a file cannot be read, or its entries are not those of the released network.
    """
    unet_state, vq_state = read_state_dict(reference, wrapped=True), read_state_dict(vq, wrapped=True)
    model = build_model(published())
    assert isinstance(model, DifIISR) and isinstance(model.network.first_stage, VQFirstStage)
    unet, autoencoder = model.network.unet, model.network.first_stage.autoencoder
    check_layout(unet_state, released_layout(unet), reference, "DifIISR's U-Net")
    check_layout(vq_state, autoencoder.released_state(), vq, "the VQ-f4 autoencoder")
    unet.load_state_dict(to_ours(unet_state))
    autoencoder.load_released(vq_state)
    return model.eval()


def published() -> dict[str, object]:
    """Return class path and arguments of the released network, without arguments of the training.

    All arguments that affect the result are given, so that changed defaults do not affect converted weights.
    """
    return {
        "class_path": "lit_thermal.methods.difiisr.module.DifIISR",
        "init_args": {
            "scale": 4,
            "unet": {
                "class_path": "lit_thermal.networks.swin_unet.SwinUNet",
                "init_args": {
                    "width": 160,
                    "multipliers": [1, 2, 2, 4],
                    "res_blocks": [2, 2, 2, 2],
                    "image_size": 64,
                    "attention_sizes": [64, 32, 16, 8],
                    "swin_depth": 2,
                    "swin_width": 192,
                    "head_width": 32,
                    "window": 8,
                    "mlp_ratio": 4.0,
                    "dropout": 0.0,
                    "swin_mask": "released",
                },
            },
            "first_stage": {
                "class_path": "lit_thermal.networks.first_stage.VQFirstStage",
                "init_args": {
                    "weights": "",
                    "channels": [128, 256, 512],
                    "layers": 2,
                    "codebook": 8192,
                    "latent_channels": 3,
                },
            },
            "condition": {
                "class_path": "lit_thermal.blocks.diffusion_condition.RawLR",
                "init_args": {"copies": 3, "unshuffle": 1},
            },
            "schedule": {
                "class_path": "lit_thermal.generative.schedule.ResidualShift",
                "init_args": {
                    "steps": 15,
                    "kappa": 2.0,
                    "power": 0.3,
                    "minimum": 0.04,
                    "end": 0.99,
                    "normalize": "latent",
                },
            },
            "prediction": "x0",
            "sampler": "lit_thermal.generative.sampler.OneStep",
            "samples": 1,
            "guidance": "lit_thermal.blocks.guidance.Unguided",
            "sampling_guidance": "lit_thermal.blocks.guidance.Unguided",
            "seed": 0,
        },
    }
