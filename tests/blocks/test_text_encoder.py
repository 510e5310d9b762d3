import copy
import pickle
import shutil

import pytest
import torch
from tiny_text import LENGTH, ids, write_encoder
from transformers import CLIPTextModel

from lit_thermal.blocks import text_encoder
from lit_thermal.blocks.pretrained import without_pretrained
from lit_thermal.blocks.text_encoder import TextEncoder
from lit_thermal.errors import InputError

TEXTS = ["remove degradation", "a", "remove, tree, hot plate and many more words", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("sd"))


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def plain(folder, text: str) -> torch.Tensor:
    """Last hidden states (L, width) by the encoder itself, of tokens spelt out by hand."""
    model = CLIPTextModel.from_pretrained(folder / "text_encoder").double()
    with torch.no_grad():
        return model(torch.tensor([ids(text)])).last_hidden_state[0]


def test_equals_the_encoder_of_the_folder(folder):
    encoder = TextEncoder(str(folder))
    embeddings = encoder(TEXTS, "cpu")
    assert embeddings.shape == (4, LENGTH, 32) and embeddings.dtype == torch.float32
    assert not embeddings.requires_grad
    for text, embedding in zip(TEXTS, embeddings, strict=True):
        assert torch.allclose(embedding.double(), plain(folder, text), atol=1e-5)
    assert (encoder.width, encoder.length) == (32, LENGTH)


def test_half_precision_files_and_runs_are_read_in_full(tmp_path):
    folder = write_encoder(tmp_path, half=True)
    encoder = TextEncoder(str(folder))
    with torch.autocast("cpu", torch.bfloat16):
        embedding = encoder(["tree"], "cpu")[0]
    assert embedding.dtype == torch.float32
    assert torch.allclose(embedding.double(), plain(folder, "tree"), atol=1e-5)


def test_each_distinct_text_is_encoded_once(folder, monkeypatch):
    encoder = TextEncoder(str(folder))
    asked: list[str] = []
    encode = TextEncoder._encode

    def count(self, texts, device):
        asked.extend(texts)
        return encode(self, texts, device)

    monkeypatch.setattr(TextEncoder, "_encode", count)
    first = encoder(["a", "b", "a"], "cpu")
    assert torch.equal(first[0], first[2]) and not torch.equal(first[0], first[1])
    second = encoder(["b", "c", "a"], "cpu")
    assert torch.equal(second[0], first[1]) and torch.equal(second[2], first[0])
    assert asked == ["a", "b", "c"]


def test_kept_embeddings_are_bounded(folder, monkeypatch):
    monkeypatch.setattr(text_encoder, "_CACHED_BYTES", 2 * 4 * LENGTH * 32)
    encoder = TextEncoder(str(folder))
    texts = ["a", "b", "c", "d"]
    first = encoder(texts, "cpu")
    assert list(encoder._cache) == ["c", "d"]
    assert torch.allclose(encoder(texts, "cpu"), first, atol=1e-6)
    encoder(["d", "c"], "cpu")
    encoder(["c", "e"], "cpu")
    assert set(encoder._cache) == {"c", "e"}


def test_the_prompts_of_the_published_data_are_all_kept():
    images, tokens, width = 10_922 + 1_176, 77, 1024
    assert images * tokens * width * 4 <= text_encoder._CACHED_BYTES


def test_many_texts_at_once(folder):
    encoder = TextEncoder(str(folder))
    texts = [f"word {n}" for n in range(70)]
    embeddings = encoder(texts, "cpu")
    assert torch.allclose(embeddings[69], TextEncoder(str(folder))(texts[69:], "cpu")[0], atol=1e-5)


def test_no_text(folder):
    assert TextEncoder(str(folder))([], "cpu").shape == (0, LENGTH, 32)


def test_release_keeps_what_was_encoded(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "sd")
    encoder = TextEncoder(str(moved))
    before = encoder(["a"], "cpu")
    encoder.release()
    shutil.rmtree(moved)
    assert torch.equal(encoder(["a"], "cpu"), before)
    with pytest.raises(InputError, match="does not hold"):
        encoder(["b"], "cpu")


def test_embeddings_born_in_inference_mode_serve_training(folder):
    encoder = TextEncoder(str(folder))
    with torch.inference_mode():
        encoder(["a"], "cpu")
    weight = torch.ones(32, requires_grad=True)
    (encoder(["a", "b"], "cpu") * weight).square().sum().backward()
    assert weight.grad.abs().sum() > 0


def test_copies_are_light(folder):
    encoder = TextEncoder(str(folder))
    before = encoder(["a"], "cpu")
    assert copy.deepcopy(encoder) is encoder
    assert len(pickle.dumps(encoder)) < 1000
    assert torch.equal(pickle.loads(pickle.dumps(encoder))(["a"], "cpu"), before)


def test_looked_up_at_once_unless_a_checkpoint_follows(tmp_path):
    absent = str(tmp_path / "absent")
    with pytest.raises(InputError, match="there is no folder"):
        TextEncoder(absent)
    with without_pretrained():
        encoder = TextEncoder(absent)
    with pytest.raises(InputError, match="there is no folder"):
        encoder(["a"], "cpu")


def test_no_network_says_which_folder_to_download(offline):
    with pytest.raises(InputError, match=r"no folder owner/model here.*Hugging Face hub") as caught:
        TextEncoder("owner/model", "model.prompt.encoder")
    for word in ("text_encoder/", "tokenizer/", "hf download owner/model", "model.prompt.encoder"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_in_the_cache_of_the_hub_is_found(folder, monkeypatch):
    monkeypatch.setattr(text_encoder, "fetch", lambda repository, name, option: folder / name)
    assert torch.equal(TextEncoder("owner/model")(["a"], "cpu"), TextEncoder(str(folder))(["a"], "cpu"))


@pytest.mark.parametrize("name", text_encoder.REQUIRED)
def test_a_file_is_absent(folder, tmp_path, name):
    broken = shutil.copytree(folder, tmp_path / "sd")
    (broken / name).unlink()
    with pytest.raises(InputError, match=f"has no {name}.*hf download stabilityai/sd-turbo"):
        TextEncoder(str(broken))


def test_broken_folders(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "sd")
    (broken / "text_encoder" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="does not hold a text encoder of CLIP"):
        TextEncoder(str(broken))(["a"], "cpu")
    (broken / "text_encoder" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="does not say the sizes"):
        TextEncoder(str(broken))


def test_weights_that_are_not_whole(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(folder, tmp_path / "sd")
    path = broken / "text_encoder" / "model.safetensors"
    state = load_file(path)
    name = next(name for name in state if name.endswith("final_layer_norm.weight"))
    save_file({key: value for key, value in state.items() if key != name}, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"has no weights for .*final_layer_norm.weight"):
        TextEncoder(str(broken))(["a"], "cpu")
