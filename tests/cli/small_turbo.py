"""A folder in the layout of SD-Turbo with small networks: unet/, vae/, text_encoder/ and tokenizer/."""

import runpy
from pathlib import Path

import torch

from lit_thermal.networks.latent_diffusion import SmallLatentDiffusion

SIZES = {
    "unet_widths": [16, 16],
    "vae_widths": [8, 8, 8, 16],
    "latent_channels": 4,
    "text_dim": 32,
    "head_dim": 8,
    "layers": 1,
    "groups": 4,
    "scale": 0.18215,
}
"""Arguments of the `SmallLatentDiffusion` that is in the folder."""
_write_encoder = runpy.run_path(str(Path(__file__).parents[1] / "blocks" / "tiny_text.py"))["write_encoder"]


def write(folder: Path) -> Path:
    torch.manual_seed(3)
    unet, vae = SmallLatentDiffusion(**SIZES).build()
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    return _write_encoder(folder, width=SIZES["text_dim"])
