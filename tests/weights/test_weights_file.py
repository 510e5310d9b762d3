"""Files of weights: damaged ones are refused or load with equal weights, whatever is flipped, cut or declared."""

import random
import re
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file as save_safetensors
from torch import Tensor, nn

from lit_thermal.errors import InputError
from lit_thermal.weights import read_checkpoint, transplant
from lit_thermal.weights.checkpoint import check_fit, read_values
from lit_thermal.weights_file import named_as, read_file, save_file


def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)).state_dict()


def checkpoint() -> dict[str, object]:
    optimizer = {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(8, 9)}},
        "param_groups": [{"lr": 1e-3}],
    }
    return {
        "epoch": 1,
        "global_step": 20,
        "state_dict": state(),
        "optimizer_states": [optimizer],
        "lit_thermal": {"model": {"class_path": "StandIn", "init_args": {"width": 4}}, "version": "1"},
    }


def equal(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def wrong_ones(folder: Path, count: int) -> tuple[int, list[int]]:
    """Flip 1 to 8 random bits of a checkpoint `count` times: how many were refused, and which loaded differently."""
    path = folder / "a.ckpt"
    save_file(checkpoint(), path)
    whole, expected = path.read_bytes(), read_checkpoint(path)
    draw = random.Random(0)
    refused, wrong = 0, []
    for trial in range(count):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 1, 1, 2, 8))):
            # every other one in the names, headers and the directory, which lie between and behind the values
            place = (
                draw.randrange(len(data)) if trial % 2 else draw.choice([draw.randrange(900), -draw.randrange(1, 1500)])
            )
            data[place] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        try:
            found = read_checkpoint(path)
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            if not equal(found, expected):
                wrong.append(trial)
    return refused, wrong


def test_flipped_bits_are_refused_or_harmless(tmp_path):
    refused, wrong = wrong_ones(tmp_path, 40)
    assert not wrong and refused > 20


@pytest.mark.slow
def test_flipped_bits_are_refused_or_harmless_at_length(tmp_path):
    refused, wrong = wrong_ones(tmp_path, 1000)
    assert not wrong and refused > 500


@pytest.mark.parametrize("name", ["a.ckpt", "a.safetensors"])
def test_a_file_that_was_cut_anywhere_is_refused(name, tmp_path):
    path = tmp_path / name
    save_file(checkpoint(), path) if path.suffix == ".ckpt" else save_safetensors(state(), path)
    whole = path.read_bytes()
    for number in range(20):
        path.write_bytes(whole[: number * len(whole) // 20])
        with pytest.raises(InputError, match=r"cannot be read as a checkpoint|is damaged"):
            read_checkpoint(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match=r"cannot be read as a checkpoint|is damaged"):
        read_checkpoint(path)


def test_an_archive_that_declares_more_than_it_holds_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(50_000_000))
    with pytest.raises(InputError, match="is compressed, but torch files never are"):
        read_values(path)
    save_file({"state_dict": state()}, path)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 20 : at + 28] = (2**31).to_bytes(4, "little") * 2  # both sizes of the last entry
    path.write_bytes(data)
    with pytest.raises(InputError, match="declares more than it contains"):
        read_values(path)


def test_two_entries_of_one_name_are_refused(tmp_path):
    path = tmp_path / "a.ckpt"
    save_file({"state_dict": state()}, path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(archive.infolist()[0].filename, b"other")
    with pytest.raises(InputError, match="two of its entries have the same name"):
        read_values(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.to_sparse(), "holds 0.weight as a sparse tensor"),
        (lambda w: w.to(torch.int64), "holds 0.weight as int64, but the network has float32"),
        (lambda w: w.to(torch.complex64), "holds 0.weight as complex64, but the network has float32"),
        (lambda w: w > 0, "holds 0.weight as bool, but the network has float32"),
        (lambda w: w.to("meta"), "holds 0.weight as a tensor without values"),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "holds 0.weight as a quantised tensor"),
        (lambda w: w.tolist(), "holds 0.weight as a list"),
        (lambda w: w / 0, r"not finite \(1 of 9, first: 0.weight\): its training diverged"),
        (lambda w: w.double(), ""),
        (lambda w: w.half(), ""),
    ],
)
def test_weights_of_another_kind_are_refused(change, said, tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3))
    saved = state()
    saved["0.weight"] = change(saved["0.weight"])
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": saved}, path)

    def use(how):
        read = read_checkpoint(path)
        check_fit(network, read, path) if how == "whole" else transplant(network, read["state_dict"], str(path))

    for how in ("whole", "part"):
        if said:
            with pytest.raises(InputError, match=said):
                use(how)
        else:
            use(how)


def test_buffers_may_be_infinite_where_those_of_the_network_are(tmp_path):
    network = nn.Linear(2, 2)
    network.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    check_fit(network, {"state_dict": network.state_dict()}, "a.ckpt")


@pytest.mark.parametrize("before", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.module."])
def test_what_wrappers_put_into_names_is_taken_off(before, caplog):
    network, saved = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)), state()
    caplog.set_level("INFO", logger="lit_thermal")
    wrapped = {before + name: value for name, value in saved.items()}
    read = {"state_dict": dict(wrapped), "current_model_state": dict(wrapped)}
    check_fit(network, read, "a.ckpt")
    assert all(equal(read[key], dict(saved)) for key in read)
    assert "a.ckpt: `" in caplog.text and "removed from the names of 9 weights" in caplog.text
    taken = transplant(network, wrapped, "a.ckpt")
    assert len(taken.kept) == 9 and not taken.dropped and torch.equal(network[0].weight, saved["0.weight"])
    inside = {re.sub(r"^(\d)\.", rf"\1.{before}", name): value for name, value in saved.items()}
    assert equal(named_as(saved, inside, "a.ckpt"), dict(saved)), "around a part of the network"


def test_names_that_a_network_has_stay():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(1, 1)

    own = Own().state_dict()
    assert list(named_as(own, own, "a")) == list(own)
    assert list(named_as(own, {f"module.{name}": 0 for name in own}, "a")) == list(own)
    assert list(named_as(own, {"module.other": 0}, "a")) == ["module.other"], "nothing fits, so nothing is renamed"


def test_equal_values_give_equal_files(tmp_path):
    values = checkpoint()
    for name in ("a.ckpt", "b.ckpt"):
        save_file(values, tmp_path / name)
    assert (tmp_path / "a.ckpt").read_bytes() == (tmp_path / "b.ckpt").read_bytes()


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.ckpt"
    save_file({"state_dict": state()}, path)
    whole = path.read_bytes()

    def fails(value, file):
        file.write(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(InputError, match=r"a\.ckpt cannot be written \(.*\): make room or choose another place"):
        save_file(checkpoint(), path)
    assert path.read_bytes() == whole and [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("name", ["none.pth", "x" * 300 + ".pth", "x" * 300 + ".safetensors", "a\0.pth"])
def test_a_file_that_cannot_be_is_one_sentence(name, tmp_path):
    with pytest.raises(InputError, match="is not a file that can be read as weights"):
        read_file(tmp_path / name)
    with pytest.raises(InputError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / name)
