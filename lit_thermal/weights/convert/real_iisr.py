"""Real-IISR's released layout: 763 entries of the transformer with its condition encoders and the tokenizer."""

from pathlib import Path
from typing import Any

from lit_thermal.methods.base import SuperResolver
from lit_thermal.methods.real_iisr.module import RealIISR
from lit_thermal.weights.checkpoint import build_model
from lit_thermal.weights.convert.real_iisr_layout import copy_released, read_trained, released_layout
from lit_thermal.weights.convert.reference import check_layout

REMOVED = "decoder_norm."
"""Prefix of a layer of VARSR that Real-IISR does not have; the released code ignores its entries in a file."""


def convert(reference: Path) -> SuperResolver:
    """Build the published Real-IISR with released weights.

    Args:
        reference: checkpoint of the released training code, with the model under `trainer` and `var_wo_ddp`, or a file
            with only the state dict of that model.

    Raises:
        InputError: the file cannot be read, or its entries are not those of the released network.
    """
    state = {name: value for name, value in read_trained(reference).items() if not name.startswith(REMOVED)}
    model = build_model(published())
    assert isinstance(model, RealIISR)
    check_layout(state, released_layout(model.network), reference, "Real-IISR")
    copy_released(model.network, state, reference)
    return model.eval()


def published() -> dict[str, Any]:
    """Return class path and arguments of the released network, without the weights of the losses.

    All arguments that affect the result are given, so that changed defaults do not affect converted weights.
    """
    encoder = {
        "class_path": "lit_thermal.blocks.condition_map_encoder.ConvStackEncoder",
        "init_args": {"widths": [32, 128, 256, 512]},
    }
    return {
        "class_path": "lit_thermal.methods.real_iisr.module.RealIISR",
        "init_args": {
            "scale": 4,
            "tokenizer": {
                "class_path": "lit_thermal.networks.multi_scale_vqvae.MultiScaleVQVAE",
                "init_args": {
                    "width": 160,
                    "multipliers": [1, 1, 2, 2, 4],
                    "layers": 2,
                    "dim": 32,
                    "entries": 4096,
                    "scales": [1, 2, 3, 4, 6, 9, 13, 18, 24, 32],
                    "groups": 32,
                },
            },
            "tokenizer_weights": "",
            "depth": 24,
            "width": 1536,
            "heads": 24,
            "drop_path": 0.1,
            "encoder": encoder,
            "structure": {
                "class_path": "lit_thermal.blocks.thermal_structure.ThermalStructuralGuidance",
                "init_args": {
                    "encoder": encoder,
                    "fusion": "released",
                    "joins": "append",
                    "reduction": 4,
                    "norm": "batch",
                },
            },
            "codebook": {
                "class_path": "lit_thermal.blocks.codebook.ConditionAdaptiveCodebook",
                "init_args": {"rank": 8, "gate": 0.0, "acts": "decode", "placed": True},
            },
            "refiner": "lit_thermal.generative.token_refiner.NoRefiner",
            "decoding": "argmax",
            "sampler": "lit_thermal.generative.token_sampler.Greedy",
            "guidance": 1.0,
            "colour_fix": "adain",
            "overlap": 16,
            "seed": 0,
        },
    }
