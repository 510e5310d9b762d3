"""Weights in the released layout of VARSR become a start for Real-IISR, or one sentence says why not."""

from pathlib import Path

import pytest
import torch
from small_real_iisr import Weights, changed, contains, filled, small, without

from lit_thermal.errors import InputError
from lit_thermal.weights import load_model, save_model, transplant
from lit_thermal.weights.checkpoint import build_model
from lit_thermal.weights.convert import real_iisr, varsr
from lit_thermal.weights.convert.real_iisr_layout import released_layout


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_iisr, "published", small)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return filled(build_model(small()).network)


@pytest.fixture
def before(weights: Weights, tmp_path: Path) -> Path:
    """What the released code of VARSR would have written, as far as it is known, and more."""
    gone = ("heatmap_", "edge_", "fusion_block", "cross_attention", "cb_cond")
    state = {
        name: value
        for name, value in weights.items()
        if not name.startswith(gone) and name.rsplit(".", 1)[-1] not in ("U", "V", "lora_gate")
    }
    state |= {"pos_start": torch.randn(1, 101, 32), "lvl_1L": torch.zeros(1, 485), "decoder_norm.weight": torch.ones(3)}
    state |= {"decoder.net.0.weight": torch.ones(3), "decoder.net.0.bias": torch.ones(3)}
    del state["attn_bias_for_masking"]
    torch.save({"trainer": {"var_wo_ddp": state}}, tmp_path / "VARSR.pth")
    return tmp_path / "VARSR.pth"


def saved(before: Path) -> Weights:
    return torch.load(before, weights_only=True)["trainer"]["var_wo_ddp"]


def test_real_iisr_starts_from_varsr(before, tmp_path, caplog):
    with caplog.at_level("INFO"):
        save_model(varsr.convert(before), tmp_path / "start.ckpt")
    assert "not used: vae (1), lvl_1L (1), vq (10), decoder_norm (1), decoder (2)" in caplog.text
    assert "has a tokenizer" in caplog.text
    start = load_model(tmp_path / "start.ckpt")
    assert contains(start, saved(before))
    model = build_model(small())
    taken = transplant(model, start.state_dict(), "start.ckpt")
    assert set(taken.dropped) == {"network.transformer.prefix_positions"}
    fresh = ("network.structure.", "network.codebook.", "network.transformer.prefix_positions")
    assert taken.new and all(name.startswith(fresh) for name in taken.new)
    layout, state = released_layout(model.network), saved(before)
    for name in ("con_embedding.conv_in.weight", "word_embed.weight", "class_emb.weight", "lvl_embed.weight"):
        assert torch.equal(layout[name], state[name])
    for name in ("blocks.1.ffn.fc2.weight", "head_nm.ada_lin.1.bias", "head.weight", "vae.quant_conv.weight"):
        assert torch.equal(layout[name], state[name])


def test_varsr_without_its_tokenizer(before, tmp_path, caplog):
    state = {name: value for name, value in saved(before).items() if not name.startswith(("vae.", "vq."))}
    torch.save(state, before)
    with caplog.at_level("INFO"):
        model = varsr.convert(before)
    assert "has no tokenizer: the training needs VQVAE.pth" in caplog.text
    save_model(model, tmp_path / "start.ckpt")
    start = torch.load(tmp_path / "start.ckpt", weights_only=True)["state_dict"]
    assert start and not any("tokenizer" in name for name in start)
    fresh = build_model(small())
    tokenizer = {name: value.clone() for name, value in fresh.network.tokenizer.state_dict().items()}
    transplant(fresh, start, "start.ckpt")
    assert torch.equal(fresh.network.transformer.head.weight, state["head.weight"])
    own = fresh.network.tokenizer.state_dict()
    assert all(torch.equal(own[name], value) for name, value in tokenizer.items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("head.bias"), r"VARSR\.pth is not in the released layout of VARSR .* 1 missing \(first: head\.bias\)"),
        (without("vae.quant_conv.bias"), r"1 missing \(first: vae\.quant_conv\.bias\)"),
        (changed("class_emb.weight", torch.zeros(3, 32)), r"class_emb\.weight, \(3, 32\) there and \(2, 32\) here"),
        (changed("pos_start", torch.zeros(1, 201, 32)), r"pos_start, \(1, 201, 32\) there and \(1, 101, 32\) here"),
        (changed("blocks.0.attn.zero_k_bias", torch.ones(32)), r"blocks\.0\.attn\.zero_k_bias is not zero"),
    ],
)
def test_another_varsr_is_one_sentence(change, said, before):
    torch.save(change(saved(before)), before)
    with pytest.raises(InputError, match=said) as caught:
        varsr.convert(before)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
