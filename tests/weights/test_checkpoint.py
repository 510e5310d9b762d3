"""Checkpoints: what cannot be read or rebuilt is reported in one sentence."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch

from lit_thermal.blocks.spectral_mask import NoSpectralMask
from lit_thermal.errors import InputError
from lit_thermal.methods.theris.module import THERIS
from lit_thermal.methods.theris.network import THERISNetwork
from lit_thermal.weights import check_fit, load_model, read_checkpoint
from lit_thermal.weights.checkpoint import check_resumes, check_training


def test_a_missing_file_names_what_lies_beside(tmp_path):
    with pytest.raises(InputError, match=re.escape(f"there is no checkpoint {tmp_path / 'a.ckpt'}")):
        read_checkpoint(tmp_path / "a.ckpt")
    (tmp_path / "b.ckpt").touch()
    with pytest.raises(InputError, match=r"has b\.ckpt$"):
        read_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="is a folder, not a checkpoint file"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file(share, tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"w": torch.randn(100, 100)}}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match="truncated or has another format"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"hello", b"\x80\x02G0", b"\x80\x04 no pickle", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_a_file_of_another_kind(content, tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="truncated or has another format"):
        read_checkpoint(path)


def test_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"state_dict": {}, "evil": Evil()}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="more than tensors and plain values"):
        read_checkpoint(tmp_path / "a.ckpt")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("content", [{"weights": 1}, [1], {"state_dict": 3}])
def test_no_weights(content, tmp_path):
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="holds no weights under 'state_dict'"):
        read_checkpoint(tmp_path / "a.ckpt")


NETWORK = {"class_path": "THERISNetwork", "init_args": {"channels": 8, "depth": 1}}


def theris(tmp_path, **record):
    model = THERIS(network=partial(THERISNetwork, channels=8, depth=1), mask=NoSpectralMask)
    config = {
        "class_path": "lit_thermal.methods.theris.module.THERIS",
        "init_args": {"network": NETWORK, "mask": "lit_thermal.blocks.spectral_mask.NoSpectralMask"},
    }
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": model.state_dict(), "lit_thermal": {"model": config, "version": "0.0.1"} | record}, path)
    return model, path


def test_a_model_is_rebuilt(tmp_path):
    model, path = theris(tmp_path)
    loaded = load_model(path)
    assert isinstance(loaded, THERIS) and not loaded.training and loaded.config is not None
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (None, "has no record of its model"),
        ({"class_path": "lit_thermal.Gone"}, r"was made by lit_thermal 0.0.1, and version .* cannot build its model"),
        ({"class_path": "THERIS", "init_args": {"netwrok": NETWORK}}, "cannot build its model"),
        (
            {"class_path": "THERIS", "init_args": {"network": NETWORK}},
            "does not fit the model: of its weights 4",
        ),
        ({"class_path": "THERIS", "init_args": {"network": NETWORK, "scale": 3}}, "scale"),
    ],
)
def test_a_model_that_cannot_be_rebuilt(model, said, tmp_path):
    _, path = theris(tmp_path, model=model)
    with pytest.raises(InputError, match=said):
        load_model(path)


def test_training_goes_on_only_with_its_own_settings():
    config = {"class_path": "THERIS", "init_args": {"optimizer": {"class_path": "Adam", "init_args": {"lr": 1e-3}}}}
    other = {"class_path": "THERIS", "init_args": {"optimizer": {"class_path": "Adam", "init_args": {"lr": 1.0}}}}
    checkpoint = {"state_dict": {}, "optimizer_states": [], "lit_thermal": {"model": config}}
    check_resumes(config, checkpoint, "a.ckpt")
    with pytest.raises(InputError, match=r"another model.optimizer: lr 0.001 there and 1.0 here"):
        check_resumes(other, checkpoint, "a.ckpt")
    with pytest.raises(InputError, match="holds weights only"):
        check_resumes(config, {"state_dict": {}}, "a.ckpt")


def test_a_foreign_checkpoint_names_both_methods():
    checkpoint = {"state_dict": {}, "lit_thermal": {"model": {"class_path": "lit_thermal.methods.x.Other"}}}
    with pytest.raises(InputError, match=r"a\.ckpt was made by Other and does not fit Linear"):
        check_fit(torch.nn.Linear(2, 2), checkpoint, "a.ckpt")


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer_states": []},
        {"optimizer_states": [5]},
        {"epoch": "x"},
        {"loops": {}},
        {"lr_schedulers": 5},
        {"callbacks": 5},
    ],
)
def test_a_damaged_state_of_training_is_refused(change):
    whole = {
        "epoch": 1,
        "global_step": 2,
        "loops": {"fit_loop": {}},
        "optimizer_states": [{"state": {}, "param_groups": [{}]}],
        "lr_schedulers": [],
    }
    check_training(whole, "x.ckpt")
    with pytest.raises(InputError, match=r"x\.ckpt is damaged"):
        check_training(whole | change, "x.ckpt")
