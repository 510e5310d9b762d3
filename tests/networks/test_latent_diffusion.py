import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from lit_thermal.blocks.pretrained import without_pretrained
from lit_thermal.errors import InputError
from lit_thermal.networks.latent_diffusion import WEIGHTS, SDTurbo, SmallLatentDiffusion

DOWNLOAD = r"download unet/, vae/, text_encoder/ and tokenizer/ of stabilityai/sd-turbo.*model\.base\.folder"


def small() -> SmallLatentDiffusion:
    return SmallLatentDiffusion(unet_widths=(16, 32), vae_widths=(8, 16), head_dim=8, text_dim=24, groups=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder in the layout of SD-Turbo, with small networks."""
    path = tmp_path_factory.mktemp("models") / "sd-turbo"
    torch.manual_seed(0)
    unet, vae = small().build()
    unet.save_pretrained(path / "unet")
    vae.save_pretrained(path / "vae")
    return path


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "sd-turbo"))


def size(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_published_size():
    base = SDTurbo()
    assert base.text_dim == 1024
    with torch.device("meta"), without_pretrained():
        unet, vae = base.build()
    assert size(unet) == 865_910_724 and size(vae) == 83_653_863
    assert sum(name.endswith("attn1") for name, _ in unet.named_modules()) == 16
    shapes = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
    assert shapes["conv_in.weight"] == (320, 4, 3, 3)
    assert shapes["down_blocks.0.attentions.0.proj_in.weight"] == (320, 320)
    assert shapes["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"] == (320, 1024)
    assert shapes["up_blocks.0.upsamplers.0.conv.weight"] == (1280, 1280, 3, 3)
    heads = [m.heads for name, m in unet.named_modules() if name.endswith("attn1")]
    assert sorted(heads) == sorted([5] * 5 + [10] * 5 + [20] * 6)
    assert vae.config.scaling_factor == 0.18215


@pytest.mark.parametrize("widths", [(16,), (16, 32), (16, 32, 32, 32)])
def test_small_networks_run(widths):
    torch.manual_seed(0)
    base = SmallLatentDiffusion(unet_widths=widths, vae_widths=widths, head_dim=8, text_dim=24, latent_channels=3)
    assert base.text_dim == 24
    unet, vae = base.build()
    assert unet.dtype == vae.dtype == torch.float32
    x = torch.randn(2, 3, 9, 6, requires_grad=True)
    out = unet(x, 199, torch.randn(2, 5, 24)).sample
    assert out.shape == x.shape
    out.square().sum().backward()
    assert x.grad.isfinite().all() and all(p.grad is not None for p in unet.parameters())
    factor = 2 ** (len(widths) - 1)
    image = torch.rand(1, 3, 2 * factor, factor)
    latent = vae.encode(image).latent_dist.mean
    assert latent.shape == (1, 3, 2, 1) and vae.decode(latent).sample.shape == image.shape


def test_new_networks_at_each_call():
    base = small()
    assert base.build()[0] is not base.build()[0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"unet_widths": (32, 36)}, "unet_widths of SmallLatentDiffusion: 36 is not a multiple of groups 8"),
        ({"vae_widths": (20,)}, "vae_widths of SmallLatentDiffusion: 20 is not a multiple of groups 8"),
        ({"unet_widths": (32, 48)}, "unet_widths of SmallLatentDiffusion: 48 is not a multiple of head_dim 32"),
        ({"unet_widths": ()}, "must be positive"),
        ({"layers": 0}, "must be positive"),
        ({"scale": 0.0}, "must be positive"),
    ],
)
def test_sizes_that_cannot_be(options, sentence):
    with pytest.raises(InputError, match=sentence):
        SmallLatentDiffusion(**options)


def test_weights_of_a_local_folder(folder):
    base = SDTurbo(str(folder))
    assert base.text_dim == 24
    for network, part in zip(base.build(), ("unet", "vae"), strict=True):
        saved = load_file(folder / part / WEIGHTS)
        state = network.state_dict()
        assert state.keys() == saved.keys() and all(torch.equal(state[name], saved[name]) for name in saved)
        assert network.dtype == torch.float32


def test_networks_are_handed_over_to_be_trained(folder):
    assert all(module.training for network in SDTurbo(str(folder)).build() for module in network.modules())


def test_a_folder_below_the_users_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    base = SDTurbo(f"~/{folder.name}")
    assert base.text_dim == 24 and size(base.build()[0]) == size(small().build()[0])
    with without_pretrained():
        assert size(SDTurbo(f"~/{folder.name}").build()[1]) == size(small().build()[1])


def test_half_precision_files_become_float32(copy):
    path = copy / "unet" / WEIGHTS
    save_file({name: value.half() for name, value in load_file(path).items()}, path)
    assert SDTurbo(str(copy)).build()[0].dtype == torch.float32


def test_without_weights_the_folder_gives_the_shapes(copy):
    (copy / "unet" / WEIGHTS).unlink()
    (copy / "vae" / WEIGHTS).unlink()
    with without_pretrained():
        unet, vae = SDTurbo(str(copy)).build()
    assert size(unet) == size(small().build()[0]) and size(vae) == size(small().build()[1])


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"no folder stabilityai/sd-turbo here, and unet/.*{DOWNLOAD}") as error:
        SDTurbo().build()
    assert "\n" not in str(error.value) and "hf download stabilityai/sd-turbo" in str(error.value)


def test_no_such_folder(tmp_path):
    with pytest.raises(InputError, match=rf"there is no folder .*nowhere with SD-Turbo: {DOWNLOAD}"):
        SDTurbo(str(tmp_path / "nowhere")).build()


@pytest.mark.parametrize("name", ["unet/config.json", f"unet/{WEIGHTS}", "vae/config.json", f"vae/{WEIGHTS}"])
def test_a_file_is_absent(copy, name):
    base = SDTurbo(str(copy))
    (copy / name).unlink()
    with pytest.raises(InputError, match=rf"sd-turbo of SD-Turbo has no {name}: {DOWNLOAD}"):
        base.build()


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_damaged_weights(copy, part):
    path = copy / part / WEIGHTS
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=rf"does not hold the {part} of SD-Turbo \(.*{DOWNLOAD}"):
        SDTurbo(str(copy)).build()


def test_weights_of_another_shape(copy):
    path = copy / "unet" / WEIGHTS
    saved = load_file(path)
    save_file({**saved, "conv_in.weight": torch.zeros(7, 4, 3, 3)}, path)
    with pytest.raises(InputError, match=rf"does not hold the unet of SD-Turbo \(.*{DOWNLOAD}"):
        SDTurbo(str(copy)).build()


def test_weights_that_lack_a_layer(copy):
    path = copy / "unet" / WEIGHTS
    save_file({name: value for name, value in load_file(path).items() if name != "conv_out.weight"}, path)
    with pytest.raises(InputError, match=rf"conv_out\.weight.*{DOWNLOAD}"):
        SDTurbo(str(copy)).build()


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"in_channels": 4})])
def test_configuration_of_something_else(copy, text):
    (copy / "unet" / "config.json").write_text(text)
    with pytest.raises(InputError, match=rf"config\.json does not say the cross_attention_dim of a UNet: {DOWNLOAD}"):
        SDTurbo(str(copy))
