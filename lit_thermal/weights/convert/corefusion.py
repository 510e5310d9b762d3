"""CoReFusion's released layout: 522 entries of two ResNet-34, a U-Net decoder, its output and two contrastive heads."""

from pathlib import Path

from lit_thermal.methods.base import SuperResolver
from lit_thermal.weights.checkpoint import build_model
from lit_thermal.weights.convert.reference import check_layout, read_state_dict

PLACES = {
    "network.guide_encoder.body.": "encoder.",
    "network.thermal_encoder.body.": "encoder2.",
    "network.guide_head.layers.": "contrastive_head1.",
    "network.thermal_head.layers.": "contrastive_head2.",
    "network.output.": "segmentation_head.0.",
}
"""Prefix of our names to prefix of the released ones; names of the decoder differ in more than the prefix."""

DECODER_LAYERS = {"0": "conv1.0", "1": "conv1.1", "3": "conv2.0", "4": "conv2.1"}
"""Name of a layer in a block of our decoder to its released name."""


def convert(reference: Path, upsampling: str) -> SuperResolver:
    """Build the published CoReFusion with released weights.

    Args:
        reference: file with the state dict of the released network, including the heads.
        upsampling: enlargement of the thermal input. The released code trained with `nearest`; the paper describes
            `bilinear`, which was used for its later tables.

    Raises:
        InputError: the file cannot be read, or its entries differ from those of the released network.
    """
    state = read_state_dict(reference)
    model = build_model(published(upsampling))
    own = model.state_dict()
    names = {released_name(name): name for name in own}
    check_layout(state, {released: own[name] for released, name in names.items()}, reference, "CoReFusion")
    model.load_state_dict({names[released]: value for released, value in state.items()})
    return model.eval()


def published(upsampling: str) -> dict[str, object]:
    """Return class path and arguments of the released network; arguments of the training keep their defaults.

    All arguments that affect the result are given, so that changed defaults do not affect converted weights.
    """
    encoder = {
        "class_path": "lit_thermal.blocks.image_encoder.TimmEncoder",
        "init_args": {"name": "resnet34", "depth": 5, "pretrained": False, "weights": None},
    }
    return {
        "class_path": "lit_thermal.methods.corefusion.module.CoReFusion",
        "init_args": {
            "scale": 8,
            "guide_encoder": encoder,
            "thermal_encoder": encoder,
            "fusion": "lit_thermal.blocks.fusion.MaxFusion",
            "projection": {
                "class_path": "lit_thermal.blocks.projection_head.MLPProjection",
                "init_args": {"hidden": 512, "width": 64},
            },
            "decoder_channels": [256, 128, 64, 32, 16],
            "head": "direct",
            "activation": "Tanh",
            "upsampling": upsampling,
        },
    }


def released_name(name: str) -> str:
    """Return the released name of an entry of our network."""
    for ours, theirs in PLACES.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    block, layer, rest = name.removeprefix("network.decoder.").split(".")
    return f"decoder.blocks.{block}.{DECODER_LAYERS[layer]}.{rest}"
