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
"""Beginning of our names to that of the released ones; the decoder's are not alike that simply."""

DECODER_LAYERS = {"0": "conv1.0", "1": "conv1.1", "3": "conv2.0", "4": "conv2.1"}
"""Layer of a block of our decoder to its released name."""


def convert(reference: Path, upsampling: str) -> SuperResolver:
    """Build the published CoReFusion with the weights that the released code wrote.

    Args:
        reference: state dict of the released network, heads included.
        upsampling: how the thermal input is enlarged. The released code trained with `nearest`; the paper says, and
            its later tables were restored with, `bilinear`.

    Raises:
        InputError: the file cannot be read, or its entries are not those of the released network.
    """
    state = read_state_dict(reference)
    model = build_model(published(upsampling))
    own = model.state_dict()
    names = {released_name(name): name for name in own}
    check_layout(state, {released: own[name] for released, name in names.items()}, reference, "CoReFusion")
    model.load_state_dict({names[released]: value for released, value in state.items()})
    return model.eval()


def published(upsampling: str) -> dict[str, object]:
    """Return class path and arguments of the released network; what only training reads stays at its default.

    Nothing that shapes the result is left to a default, so that a later change of one does not change old weights.
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
    """Return the name in the released layout of an entry of our published network."""
    for ours, theirs in PLACES.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    block, layer, rest = name.removeprefix("network.decoder.").split(".")
    return f"decoder.blocks.{block}.{DECODER_LAYERS[layer]}.{rest}"
