"""Checkpoints of earlier versions still load: their records are translated."""

from functools import partial

import pytest
import torch

from lit_thermal.blocks.spectral_mask import ZeroPhaseMask
from lit_thermal.blocks.temporal_interpolation import ThermalDiffusionInterpolation
from lit_thermal.methods.theris.module import THERIS
from lit_thermal.methods.theris.network import THERISNetwork
from lit_thermal.weights import load_model
from lit_thermal.weights.checkpoint import build_model
from lit_thermal.weights.old_records import translated

THERIS_RECORD = {
    "class_path": "lit_thermal.methods.theris.module.THERIS",
    "init_args": {
        "preset": "tiny",
        "channels": None,
        "depth": 2,
        "encoder_blocks": None,
        "decoder_blocks": None,
        "embedding": None,
        "state": None,
        "expansion": None,
        "shared_directions": None,
        "decoder_width": None,
        "scale": 2,
        "temporal_scales": [2],
        "window": 4,
        "mask": {"class_path": "lit_thermal.blocks.spectral_mask.ZeroPhaseMask", "init_args": {"grid": [9, 5]}},
        "skip": "observed",
        "checkpoint_blocks": True,
    },
}


def test_a_theris_with_a_preset_and_sizes_of_its_own_is_rebuilt(tmp_path):
    sizes = {"channels": 16, "depth": 2, "encoder_blocks": 1, "decoder_blocks": 1, "embedding": 16, "state": 8}
    sizes |= {"expansion": 1, "shared_directions": True, "decoder_width": 16}
    model = THERIS(scale=2, network=partial(THERISNetwork, **sizes), mask=partial(ZeroPhaseMask, grid=(9, 5)))
    torch.save({"state_dict": model.state_dict(), "lit_thermal": {"model": THERIS_RECORD}}, tmp_path / "old.ckpt")
    loaded = load_model(tmp_path / "old.ckpt")
    assert isinstance(loaded, THERIS)
    assert loaded.network.skip == "observed" and loaded.network.checkpoint_blocks
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert loaded.config is not None and "preset" not in loaded.config["init_args"]


@pytest.mark.parametrize("preset, channels", [("small", 32), ("base", 64), ("large", 96)])
def test_every_preset_is_known(preset, channels):
    record = translated({"class_path": "THERIS", "init_args": {"preset": preset}})
    assert record["init_args"]["network"]["init_args"]["channels"] == channels


def test_the_norm_of_a_spectral_mask_is_an_argument_of_the_network_now():
    mask = {"class_path": "ZeroPhaseMask", "init_args": {"grid": [9, 5], "norm": False}}
    network = {"class_path": "THERISNetwork", "init_args": {"channels": 8}}
    arguments = translated({"class_path": "THERIS", "init_args": {"mask": mask, "network": network}})["init_args"]
    assert arguments["mask"]["init_args"] == {"grid": [9, 5]}
    assert arguments["network"]["init_args"] == {"channels": 8, "mask_norm": False}


def test_a_record_of_this_version_is_unchanged():
    record = {"class_path": "THERIS", "init_args": {"scale": 4, "network": {"class_path": "THERISNetwork"}}}
    assert translated(record) == record
    assert translated({"class_path": "CoReFusion"}) == {"class_path": "CoReFusion"}


def test_a_real_iisr_that_trained_its_tokenizer_itself_is_rebuilt(tmp_path, caplog):
    tokenizer = {"width": 8, "multipliers": [1, 1, 1], "layers": 1, "dim": 4, "entries": 16, "scales": [1, 4]}
    encoder = {"class_path": "ConvStackEncoder", "init_args": {"widths": [8, 8]}}
    arguments = {
        "tokenizer": {"class_path": "MultiScaleVQVAE", "init_args": tokenizer | {"groups": 1}},
        "depth": 1,
        "width": 16,
        "heads": 2,
        "overlap": 1,
        "encoder": encoder,
        "structure": {"class_path": "ThermalStructuralGuidance", "init_args": {"encoder": encoder}},
    }
    record = {"class_path": "lit_thermal.methods.real_iisr.module.RealIISR", "init_args": arguments}
    model = build_model(record)
    old = record | {"init_args": arguments | {"tokenizer_steps": 500, "tokenizer_lr": 4e-3}}
    torch.save({"state_dict": model.state_dict(), "lit_thermal": {"model": old}}, tmp_path / "old.ckpt")
    with caplog.at_level("INFO"):
        loaded = load_model(tmp_path / "old.ckpt")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert "tokenizer_steps" not in loaded.config["init_args"]
    assert caplog.text.count("the callback TokenizerFirst has now") <= 1


def test_a_theris_that_does_not_state_its_knots_has_as_many_as_its_weights(tmp_path):
    sizes = {"channels": 16, "depth": 0, "encoder_blocks": 0, "decoder_blocks": 0, "embedding": 16, "decoder_width": 16}
    model = THERIS(
        network=partial(THERISNetwork, **sizes), interpolation=partial(ThermalDiffusionInterpolation, knots=16)
    )
    record = {
        "class_path": "lit_thermal.methods.theris.module.THERIS",
        "init_args": {
            "network": {"class_path": "lit_thermal.methods.theris.network.THERISNetwork", "init_args": sizes},
        },
    }
    torch.save({"state_dict": model.state_dict(), "lit_thermal": {"model": record}}, tmp_path / "old.ckpt")
    loaded = load_model(tmp_path / "old.ckpt")
    assert loaded.network.interpolation.knots == 16


def test_a_motion_aligned_interpolation_keeps_the_kernel_of_its_weights():
    path = "lit_thermal.blocks.motion_interpolation.MotionAlignedInterpolation"
    record = {"class_path": "THERIS", "init_args": {"interpolation": {"class_path": path}}}
    for kernel in (1, 3):
        weights = {"network.interpolation.fuse.0.weight": torch.zeros(8, 20, kernel, kernel)}
        found = translated(record, weights)["init_args"]["interpolation"]
        assert found == {"class_path": path, "init_args": {"fuse_kernel": kernel}}
    assert translated(record, {}) == record
