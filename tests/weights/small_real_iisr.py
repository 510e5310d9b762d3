"""A small Real-IISR and values for it in the released layout, for the tests of both converters."""

import copy
import math

import torch
from torch import Tensor

from lit_thermal.methods.real_iisr.network import RealIISRNetwork
from lit_thermal.weights.convert import real_iisr
from lit_thermal.weights.convert.real_iisr_layout import released_layout

PUBLISHED = real_iisr.published()
SCALES = tuple(range(1, 11))
"""As many as the published ones."""
SMALL_TOKENIZER = {"width": 32, "multipliers": [1, 1, 2], "layers": 1, "dim": 4, "entries": 24, "scales": [*SCALES]}
ENCODER = {
    "class_path": "lit_thermal.blocks.condition_map_encoder.ConvStackEncoder",
    "init_args": {"widths": [8, 16]},
}
Weights = dict[str, Tensor]


def small() -> dict:
    """Return the published config with a small network."""
    config = copy.deepcopy(PUBLISHED)
    arguments = config["init_args"]
    arguments["tokenizer"]["init_args"] |= SMALL_TOKENIZER
    arguments["structure"]["init_args"]["encoder"] = ENCODER
    arguments |= {"depth": 2, "width": 32, "heads": 2, "encoder": ENCODER, "overlap": 2}
    return config


def filled(network: RealIISRNetwork) -> Weights:
    """Return values in the released layout that keep features of about one size and hide no part of the network."""
    generator = torch.Generator().manual_seed(0)
    state: Weights = {}
    for name, like in released_layout(network).items():
        value = torch.randn(like.shape, generator=generator)
        if name.startswith("vq."):
            value = state[name.replace("vq.", "vae.quantize.")]
        elif name.endswith("zero_k_bias") or not like.is_floating_point():
            value = torch.zeros(like.shape, dtype=like.dtype)
        elif name.endswith("scale_mul_1H11"):
            value = math.log(4) + torch.tensor([0.5, 5.0]).view(1, 2, 1, 1)  # one of them above the limit
        elif name.endswith("running_var"):
            value = value.abs() + 0.5
        elif like.ndim == 1 and "norm" in name and name.endswith("weight"):
            value = 1 + 0.2 * value
        elif name.endswith("lora_gate"):
            value = torch.full((1,), 0.7)
        elif like.ndim == 1:
            value = 0.2 * value
        elif like.ndim in (2, 4) and name.endswith("weight") and "emb.weight" not in name and "embedding.w" not in name:
            value = 1.5 * value / like[0].numel() ** 0.5
        # else all tokens are much the same, and the likeliest entry is everywhere the same one
        state[name] = 0.3 * value if name.endswith("ada_lin.1.weight") else value
    return state


def contains(model, weights: Weights) -> bool:
    """Whether a model has all values of a file that have a place, each at its own."""
    layout = released_layout(model.network)
    placed = {name for name, value in layout.items() if not value.is_meta}
    assert weights.keys() >= placed
    return all(torch.equal(layout[name], weights[name]) for name in placed)


def without(name):
    return lambda state: {n: v for n, v in state.items() if n != name}


def changed(name, value):
    return lambda state: state | {name: value}
