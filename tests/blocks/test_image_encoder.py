"""Image encoders: every kind of backbone gives the pyramid that it promises, with the weights that were asked for."""

import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from lit_thermal.blocks import pretrained
from lit_thermal.blocks.image_encoder import TimmEncoder
from lit_thermal.blocks.pretrained import fetch, pretrained_wanted, read_weights, without_pretrained
from lit_thermal.errors import InputError

WIDTHS = {
    "test_resnet": {2: 32, 4: 32, 8: 48, 16: 192, 32: 96},
    "test_convnext": {4: 24, 8: 32, 16: 48, 32: 64},
    "test_vit2": {16: 64},
    "test_efficientnet": {2: 16, 4: 24, 8: 32, 16: 48, 32: 64},
    "mobilenetv3_small_050": {2: 16, 4: 8, 8: 16, 16: 24, 32: 288},
    "swin_tiny_patch4_window7_224": {4: 96, 8: 192, 16: 384, 32: 768},
}


@pytest.mark.parametrize("name", WIDTHS)
def test_the_pyramid_is_as_promised(name):
    encoder = TimmEncoder(name)
    assert encoder.training and encoder.widths == WIDTHS[name]
    for height, width in ((32, 64), (96, 32)):
        pyramid = encoder.eval()(torch.rand(2, 3, height, width))
        shapes = {stride: tuple(features.shape[1:]) for stride, features in pyramid.items()}
        assert shapes == {s: (c, height // s, width // s) for s, c in encoder.widths.items()}
    pyramid[max(pyramid)].sum().backward()
    assert sum(p.grad is not None for p in encoder.parameters()) > 5


def test_depth_leaves_the_deeper_levels_out():
    whole, cut = TimmEncoder("test_resnet"), TimmEncoder("test_resnet", depth=3)
    assert cut.widths == {2: 32, 4: 32, 8: 48}
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in whole.parameters()) / 2


def test_a_transformer_is_taken_whole():
    """All blocks of it have one stride: the features are those after the last."""
    encoder = TimmEncoder("test_vit2")
    assert len(encoder.body.model.blocks) == len(timm.create_model("test_vit2").blocks)
    image = torch.rand(1, 3, 64, 64)
    features = encoder.eval()(image)[16]
    taken = encoder.body.model.forward_intermediates(
        (image - encoder.mean) / encoder.std, indices=1, intermediates_only=True
    )
    torch.testing.assert_close(features, taken[0])


def test_pictures_are_normalised_inside():
    encoder = TimmEncoder("resnet18").eval()
    image = torch.rand(1, 3, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = encoder.body((image - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    for got, wanted in zip(encoder(image).values(), expected, strict=True):
        torch.testing.assert_close(got, wanted)
    assert not {"mean", "std"} & set(encoder.state_dict())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("resnt34",), "timm has no backbone 'resnt34'; near are resnet34, "),
        (("swin_tiny",), "timm has no backbone 'swin_tiny'"),
        (("zzzz",), r"timm has no backbone 'zzzz'; `timm\.list_models\(\)` names all"),
        (("resnet34.imaginary",), r"'resnet34\.imaginary' gives no features \(Invalid pretrained tag"),
        (("test_convnext", 1), "begins at stride 4, beyond depth 1: raise depth"),
        (("vit_small_patch14_dinov2",), "features of stride 14, which is no power of two"),
        (("mixer_s32_224",), "'mixer_s32_224' does not take pictures of any size"),
    ],
)
def test_a_backbone_that_does_not_serve_is_one_sentence(arguments, said):
    with pytest.raises(InputError, match=said) as caught:
        TimmEncoder(*arguments)
    assert "\n" not in str(caught.value)


def written(name: str, path: Path, wrap: str | None = None) -> dict[str, torch.Tensor]:
    """Write a whole backbone with its classifier, as published, and return its values."""
    torch.manual_seed(7)
    state = {key: value.contiguous() for key, value in timm.create_model(name).state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({wrap: state, "epoch": 3} if wrap else state, path)
    return state


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit2", "vit_tiny_patch16_224"])
@pytest.mark.parametrize(("file", "wrap"), [("a.safetensors", None), ("a.pth", None), ("a.pth", "state_dict")])
def test_weights_of_a_file_are_in_the_encoder(name, file, wrap, tmp_path):
    state = written(name, tmp_path / file, wrap)
    assert any(key.startswith(("fc.", "head.fc.", "head.")) for key in state)
    torch.manual_seed(8)
    encoder = TimmEncoder(name, weights=str(tmp_path / file))
    values = encoder.body.state_dict()
    assert len(values) > 40
    for key, value in values.items():
        # timm writes `stages_0` for `stages.0` and puts some backbones into `model`
        original = key.removeprefix("model.").replace("stages_", "stages.").replace("stem_", "stem.")
        assert torch.equal(value, state[original]), key
    assert not torch.equal(next(TimmEncoder(name).parameters()), next(encoder.parameters()))


def test_a_file_that_does_not_serve_is_one_sentence(tmp_path):
    def said(file):
        with pytest.raises(InputError) as caught:
            TimmEncoder("test_resnet", weights=str(tmp_path / file))
        assert "\n" not in str(caught.value) and file in str(caught.value)
        return str(caught.value)

    assert "there is no file" in said("none.pth")
    written("test_convnext", tmp_path / "other.safetensors")
    assert "do not fit timm's backbone 'test_resnet': 0% of its parameters" in said("other.safetensors")
    half = dict(list(written("test_resnet", tmp_path / "whole.pth").items())[:40])
    torch.save(half, tmp_path / "half.pth")
    assert "do not fit timm's backbone" in said("half.pth")
    torch.save({"conv1.weight": torch.zeros(1, 2, 3, 3)}, tmp_path / "shape.pth")
    assert "do not fit timm's backbone 'test_resnet'" in said("shape.pth")
    for name in ("damaged.pth", "damaged.safetensors"):
        (tmp_path / name).write_bytes(b"no weights at all")
        assert "cannot be read" in said(name)
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    assert "hold no tensors by name" in said("list.pth") and "hold no tensors by name" in said("empty.pth")


@pytest.mark.parametrize("whole", [True, False])
def test_code_in_a_file_is_not_run(whole, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    path = tmp_path / "evil.pth"
    torch.save({"conv1.weight": Evil()}, path) if whole else path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match=r"cannot be read|because loading it could run code"):
        TimmEncoder("test_resnet", weights=str(path))
    assert not (tmp_path / "touched").exists()


class Unreachable:
    """A session of the hub without network; the hub's own would try again for most of a minute."""

    asked = 0

    def head(self, url: str, timeout: float) -> None:
        Unreachable.asked += 1
        raise ConnectionError(f"cannot resolve the host of {url}\nand more lines")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and nothing fetched before."""
    Unreachable.asked = 0
    monkeypatch.setattr("huggingface_hub.get_session", Unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: pytest.fail("the download was tried"))


def test_offline_pretrained_weights_are_one_sentence(offline):
    with pytest.raises(InputError, match=r"model\.safetensors of timm/resnet34\.tv_in1k are not on this") as caught:
        TimmEncoder("resnet34.tv_in1k", pretrained=True)
    message = str(caught.value)
    assert (
        "\n" not in message
        and "cannot resolve the host" in message
        and "give the file by the encoder's `weights`" in message
    )
    assert Unreachable.asked == 1


def test_a_hub_that_is_switched_off_is_not_asked(offline, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="switched off by HF_HUB_OFFLINE"):
        TimmEncoder("test_resnet", pretrained=True)
    assert Unreachable.asked == 0


def test_without_published_weights_there_is_nothing_to_fetch(offline):
    with pytest.raises(InputError, match="timm has no published weights for 'convnext_atto_rms'"):
        TimmEncoder("convnext_atto_rms", pretrained=True)


def test_what_was_fetched_before_is_used_offline(offline, monkeypatch, tmp_path):
    state = written("test_resnet", tmp_path / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(tmp_path / "model.safetensors"))
    encoder = TimmEncoder("test_resnet", pretrained=True)
    assert torch.equal(encoder.body.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
    assert fetch("timm/x", "model.safetensors", "x") == tmp_path / "model.safetensors"
    assert Unreachable.asked == 0


def test_without_pretrained_nothing_is_looked_for(offline, tmp_path):
    with without_pretrained():
        assert not pretrained_wanted()
        TimmEncoder("test_resnet", pretrained=True)
        TimmEncoder("test_resnet", weights=str(tmp_path / "gone.pth"))
    assert pretrained_wanted() and Unreachable.asked == 0
    with pytest.raises(RuntimeError), without_pretrained():
        raise RuntimeError("stop")
    assert pretrained.pretrained_wanted()


def test_read_weights_unfolds_what_training_scripts_write(tmp_path):
    torch.save({"model": {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "a.pth")
    assert list(read_weights(tmp_path / "a.pth")) == ["a"]
