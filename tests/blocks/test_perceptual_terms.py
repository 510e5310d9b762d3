import copy
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from lit_thermal.blocks import perceptual_terms
from lit_thermal.blocks.perceptual_terms import RandomFeatureTerm, SegmentationTerm, ThermalFeatureTerm, VGGTerm
from lit_thermal.blocks.pretrained import without_pretrained
from lit_thermal.errors import InputError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images(batch: int = 2, size: tuple[int, int] = (20, 24), dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Restored images, targets, and inputs, which no term here reads."""
    generator = torch.Generator().manual_seed(0)
    made = 2 * torch.rand(3, batch, 1, *size, generator=generator, dtype=torch.float64) - 1
    return list(made.to(dtype))


def convolutions(network: str, count: int) -> dict[str, Tensor]:
    """Random weights of the first convolutions of a VGG by torchvision's names."""
    with torch.device("meta"):
        layers = getattr(torchvision.models, network)(weights=None).features
    generator = torch.Generator().manual_seed(1)
    found = [(i, layer) for i, layer in enumerate(layers) if isinstance(layer, torch.nn.Conv2d)][:count]
    state = {}
    for i, layer in found:
        state[f"features.{i}.weight"] = torch.randn(layer.weight.shape, generator=generator) / 10
        state[f"features.{i}.bias"] = torch.randn(layer.bias.shape, generator=generator) / 10
    return state


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of both networks with the convolutions of the first two stages."""
    folder = tmp_path_factory.mktemp("vgg")
    files = {}
    for network in ("vgg16", "vgg19"):
        files[network] = str(folder / f"{network}.pth")
        torch.save(convolutions(network, 4), files[network])
    return files


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a SAM of random weights that takes pictures of 32x32."""
    from transformers import SamConfig, SamModel

    config = SamConfig(
        vision_config={
            "hidden_size": 16, "output_channels": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 32,
            "image_size": 32, "patch_size": 8, "window_size": 2, "global_attn_indexes": [1], "num_pos_feats": 4,
        },
        prompt_encoder_config={"hidden_size": 8, "image_size": 32, "patch_size": 8, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 8, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "iou_head_hidden_dim": 8, "attention_downsample_rate": 1,
        },
    )  # fmt: skip
    torch.manual_seed(0)
    model = SamModel(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    folder = tmp_path_factory.mktemp("sam")
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and nothing fetched before."""

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("cannot resolve the host\nand more lines")

    class Session:
        head = unreachable

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_, **__: pytest.fail("the download was tried"))
    monkeypatch.setattr("huggingface_hub.get_session", Session)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: pytest.fail("the download was tried"))


@pytest.fixture(params=["vgg16", "vgg19 released", "masks", "embeddings", "random", "thermal"])
def term(request, vgg, sam):
    return {
        "vgg16": lambda: VGGTerm(layer="relu2_1", weights=vgg["vgg16"]),
        "vgg19 released": lambda: VGGTerm(
            network="vgg19", layer="relu2_2", weights=vgg["vgg19"], normalize_input=False
        ),
        "masks": lambda: SegmentationTerm(model=sam, points=2),
        "embeddings": lambda: SegmentationTerm(compare="embeddings", model=sam),
        "random": lambda: RandomFeatureTerm(widths=(4, 8)),
        "thermal": ThermalFeatureTerm,
    }[request.param]()


@pytest.mark.parametrize("size", [(16, 16), (33, 21)])
def test_any_size_forward_and_backward(term, size):
    image, hr, lr = images(size=size, dtype=torch.float32)
    image.requires_grad_()
    loss = term(image, hr, lr)
    assert loss.shape == (2,) and loss.isfinite().all() and (loss > 0).all()
    (gradient,) = torch.autograd.grad(loss.sum(), image)
    assert gradient.isfinite().all() and (gradient.flatten(1).abs().sum(dim=1) > 0).all()
    assert not term(hr, hr, lr).any()
    with torch.no_grad():
        assert torch.allclose(term(image, hr, lr), loss, rtol=1e-4)


def test_gradient_against_finite_differences_along_a_direction(term):
    image, hr, lr = images()
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    image.requires_grad_()
    (gradient,) = torch.autograd.grad(term(image, hr, lr).sum(), image)
    step = 1e-7
    with torch.no_grad():
        ahead, behind = (term(image + sign * step * direction, hr, lr).sum() for sign in (1, -1))
    expected = (ahead - behind).item() / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-4)


def test_the_loss_of_an_image_does_not_depend_on_its_batch(term):
    image, hr, lr = images()
    alone = torch.cat([term(image[i : i + 1], hr[i : i + 1], lr[i : i + 1]) for i in range(2)])
    assert torch.allclose(term(image, hr, lr), alone, rtol=1e-9)


def test_autocast_changes_nothing(term):
    image, hr, lr = (x.bfloat16() for x in images())
    exact = term(image.float(), hr.float(), lr.float())
    with torch.autocast("cpu", torch.bfloat16):
        rough = term(image, hr, lr)
    assert rough.dtype == torch.float32 and torch.equal(rough, exact)


def test_the_network_is_neither_trained_nor_saved_nor_copied(term):
    term.train().bfloat16()
    assert not list(term.parameters()) and not list(term.buffers()) and not term.state_dict()
    image, hr, lr = images(dtype=torch.float32)
    network = term._network.on(image)
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert all(p.dtype == torch.float32 for p in network.parameters())
    other = copy.deepcopy(term)
    assert other._network is term._network and torch.equal(other(image, hr, lr), term(image, hr, lr))
    term.load_state_dict({}, strict=True)


def test_first_use_in_inference_mode_leaves_a_network_that_can_be_trained_through(sam, vgg):
    for make in (lambda: VGGTerm(layer="relu1_2", weights=vgg["vgg16"]), lambda: SegmentationTerm(model=sam, points=2)):
        with without_pretrained():
            term = make()
        image, hr, lr = images(dtype=torch.float32)
        with torch.inference_mode():
            term(image, hr, lr)
            term(image.double(), hr.double(), lr)
        image.requires_grad_()
        assert torch.autograd.grad(term(image, hr, lr).sum(), image)[0].any()


@pytest.mark.parametrize(("network", "normalize"), [("vgg16", True), ("vgg19", False)])
def test_vgg_against_the_layers_written_out(vgg, network, normalize):
    image, hr, lr = images()
    state = {name: value.double() for name, value in convolutions(network, 4).items()}

    def features(x: Tensor) -> Tensor:
        x = x.repeat(1, 3, 1, 1)
        if normalize:
            x = ((x + 1) / 2 - torch.tensor(MEAN).view(3, 1, 1).double()) / torch.tensor(STD).view(3, 1, 1).double()
        for i in (0, 2, "pool", 5, 7):
            if i == "pool":
                x = torch.nn.functional.max_pool2d(x, 2)
            else:
                x = torch.nn.functional.conv2d(
                    x, state[f"features.{i}.weight"], state[f"features.{i}.bias"], padding=1
                ).relu()
        return x

    ours = VGGTerm(network=network, layer="relu2_2", weights=vgg[network], normalize_input=normalize)(image, hr, lr)
    expected = (features(image) - features(hr)).square().mean(dim=(1, 2, 3))
    assert torch.allclose(ours, expected, rtol=1e-5)


def test_names_of_vgg_layers():
    assert perceptual_terms._vgg_layers("vgg19")["relu5_4"] == 35
    assert perceptual_terms._vgg_layers("vgg16")["relu5_3"] == 29
    assert len(perceptual_terms._vgg_layers("vgg16")) == 13


def test_sam_against_its_own_forward(sam):
    from transformers import SamModel

    model = SamModel.from_pretrained(sam).double().eval()
    image, hr, lr = images()
    pictures = [torch.nn.functional.interpolate(x, (32, 32), mode="bilinear").repeat(1, 3, 1, 1) for x in (image, hr)]
    with torch.no_grad():
        embeddings = [model.get_image_embeddings(x) for x in pictures]
        expected = (embeddings[0] - embeddings[1]).square().mean(dim=(1, 2, 3))
        ours = SegmentationTerm(compare="embeddings", model=sam)(image, hr, lr)
        assert torch.allclose(ours, expected, rtol=1e-9)

        # centres of the nine ninths of a picture of 32 pixels, as indices of pixels
        middle = [32 / 6 - 0.5, 32 / 2 - 0.5, 32 * 5 / 6 - 0.5]
        points = torch.tensor([[[x, y]] for y in middle for x in middle], dtype=torch.float64)
        mean, std = (torch.tensor(v).view(3, 1, 1).double() for v in (MEAN, STD))
        logits = [
            model(pixel_values=((x + 1) / 2 - mean) / std, input_points=points.expand(2, -1, -1, -1)).pred_masks
            for x in pictures
        ]
        assert logits[0].shape == (2, 9, 3, 16, 16)
        expected = (logits[0] - logits[1]).square().mean(dim=(1, 2, 3, 4))
        ours = SegmentationTerm(model=sam, points=3)(image, hr, lr)
    assert torch.allclose(ours, expected, rtol=1e-4)


def test_random_features_are_those_of_their_seed():
    image, hr, lr = images()
    losses = [RandomFeatureTerm(seed=seed)(image, hr, lr) for seed in (0, 0, 1)]
    assert torch.equal(losses[0], losses[1]) and not torch.allclose(losses[0], losses[2], rtol=1e-3)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    RandomFeatureTerm()
    assert torch.equal(before, torch.get_rng_state()), "draws nothing from the common generator"
    assert RandomFeatureTerm(widths=(2,))(image, hr, lr).shape == (2,)


def test_offline_vgg_is_one_sentence(offline, tmp_path):
    with pytest.raises(
        InputError, match=r"vgg16-397923af\.pth of torchvision's vgg16 are not on this machine"
    ) as error:
        VGGTerm()
    message = str(error.value)
    assert (
        "\n" not in message
        and "cannot resolve the host" in message
        and "give the file by VGGTerm's `weights`" in message
    )
    assert "https://download.pytorch.org/models/vgg16-397923af.pth" in message
    assert f"put it into {tmp_path / 'hub' / 'checkpoints'}, or" in message


def test_vgg_weights_that_were_put_there_are_used(offline, tmp_path, vgg):
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "vgg19-dcbb9e9d.pth").write_bytes(Path(vgg["vgg19"]).read_bytes())
    image, hr, lr = images()
    ours = VGGTerm(network="vgg19", layer="relu1_1")(image, hr, lr)
    assert torch.equal(ours, VGGTerm(network="vgg19", layer="relu1_1", weights=vgg["vgg19"])(image, hr, lr))


def test_vgg_weights_are_downloaded_once(offline, tmp_path, monkeypatch, vgg):
    class Answer:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    asked = []

    def download(url: str, path: str, hash_prefix: str, progress: bool) -> None:
        asked.append((url, hash_prefix))
        Path(path).write_bytes(Path(vgg["vgg16"]).read_bytes())

    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Answer())
    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    for _ in range(2):
        VGGTerm(layer="relu1_1")
    assert asked == [("https://download.pytorch.org/models/vgg16-397923af.pth", "397923af")]


def test_offline_sam_is_one_sentence(offline):
    with pytest.raises(InputError, match=r"config\.json of facebook/sam-vit-base could not be fetched") as error:
        SegmentationTerm()
    message = str(error.value)
    assert "\n" not in message
    assert "SegmentationTerm's `model` as a folder with config.json and model.safetensors" in message


def test_without_pretrained_nothing_is_looked_for_until_it_is_used(offline, sam):
    with without_pretrained():
        terms = [VGGTerm(), SegmentationTerm(), VGGTerm(weights="gone.pth")]
        there = SegmentationTerm(model=sam, points=1)
    for term in terms:
        with pytest.raises(InputError):
            term(*images())
    assert there(*images()).shape == (2,)


def test_files_that_do_not_fit(vgg, sam, tmp_path):
    with pytest.raises(InputError, match=r"there is no file gone\.pth with weights of vgg16"):
        VGGTerm(weights="gone.pth")
    with pytest.raises(InputError, match=r"do not fit vgg16.*8 of the 26 weights"):
        VGGTerm(weights=vgg["vgg16"])
    state = convolutions("vgg16", 1)
    torch.save({name: value[:3] for name, value in state.items()}, tmp_path / "narrow.pth")
    with pytest.raises(InputError, match="or their shapes differ"):
        VGGTerm(layer="relu1_1", weights=str(tmp_path / "narrow.pth"))

    with pytest.raises(InputError, match="there is no folder sam with a SAM: give"):
        SegmentationTerm(model="sam")
    (tmp_path / "config.json").write_bytes(Path(sam, "config.json").read_bytes())
    with pytest.raises(InputError, match=r"has no model\.safetensors"):
        SegmentationTerm(model=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot be read as a SAM"):
        SegmentationTerm(model=str(tmp_path))
    from safetensors.torch import load_file, save_file

    state = load_file(Path(sam, "model.safetensors"))
    save_file({k: v for k, v in state.items() if "neck" not in k}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"is not a complete SAM: 6 weights are missing, vision_encoder\.neck"):
        SegmentationTerm(model=str(tmp_path))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VGGTerm(network="vgg11"), "network is 'vgg11'; must be one of vgg16, vgg19"),
        (lambda: VGGTerm(layer="relu5_4"), "vgg16 has no layer 'relu5_4'; VGGTerm's layer is one of relu1_1"),
        (lambda: VGGTerm(weight=-1), "VGGTerm's weight is -1"),
        (lambda: SegmentationTerm(compare="logits"), "must be one of masks, embeddings"),
        (lambda: SegmentationTerm(points=0), "points is 0"),
        (lambda: RandomFeatureTerm(widths=()), "widths are"),
        (lambda: RandomFeatureTerm(widths=(4, 0)), r"widths are \[4, 0\]"),
    ],
)
def test_bad_arguments(make, message, offline):
    with pytest.raises(InputError, match=message):
        make()


def test_images_too_small_for_the_layer(vgg):
    term = VGGTerm(layer="relu2_1", weights=vgg["vgg16"])
    assert term(*images(size=(2, 2))).shape == (2,)
    with pytest.raises(InputError, match="layer relu2_1 needs images of 2 pixels a side and got 1x4"):
        term(*images(size=(1, 4)))
