import copy
import pickle
from pathlib import Path

import pytest
import torch
import torchmetrics
import torchvision
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.losses.perceptual import BACKBONES, LPIPS, NoPerceptualLoss, PerceptualLoss, ThermalFeatureLoss

NETWORKS = ["vgg", "alex"]
PLANS = {
    "vgg": "64 64 = M 128 128 = M 256 256 256 = M 512 512 512 = M 512 512 512 =",
    "alex": "64 = M 192 = M 384 = 256 = 256 =",
}
"""Convolutions by their width, pooling (M), and where features are compared (=)."""


def random_state(network: str) -> dict[str, torch.Tensor]:
    """Values for all convolutions under torchvision's names, scaled so that signals neither vanish nor explode."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = getattr(torchvision.models, BACKBONES[network].name)(weights=None).features.state_dict()
    return {
        f"features.{name}": torch.randn(value.shape, generator=generator)
        * ((2 / value[0].numel()) ** 0.5 if value.ndim > 1 else 0.1)
        for name, value in shapes.items()
    }


@pytest.fixture(scope="module")
def states():
    return {network: random_state(network) for network in NETWORKS}


@pytest.fixture(scope="module")
def files(states, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for network, state in states.items():
        torch.save({**state, "classifier.0.weight": torch.zeros(2, 2)}, folder / f"{network}.pth")
    return {network: str(folder / f"{network}.pth") for network in NETWORKS}


def images(channels: int = 1, batch: int = 2, size: tuple[int, int] = (37, 50)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, batch, channels, *size, generator=generator) * 2 - 1
    return a.requires_grad_(), b


def published_channels(network: str) -> list[torch.Tensor]:
    file = Path(torchmetrics.__file__).parent / "functional/image/lpips_models" / f"{network}.pth"
    state = torch.load(file, "cpu", weights_only=True)
    return [state[f"lin{n}.model.1.weight"].flatten() for n in range(5)]


def reference(network: str, state: dict[str, torch.Tensor], a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """LPIPS (B,) of (B, 3, H, W) in [-1, 1] by the paper's equation 1, in float64, a loop over its layers."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x = (torch.stack([a, b]).double() - shift.view(3, 1, 1)) / scale.view(3, 1, 1)
    total = torch.zeros(len(a), dtype=torch.float64)
    index, layer = 0, 0
    for word in PLANS[network].split():
        if word == "=":
            one, other = (f / f.norm(dim=1, keepdim=True).clamp(min=1e-10) for f in x)
            weight = published_channels(network)[layer].double()
            total += torch.einsum("bchw,c->bhw", (one - other) ** 2, weight).mean(dim=(1, 2))
            layer += 1
        elif word == "M":
            flat = F.max_pool2d(x.flatten(0, 1), *((2, 2) if network == "vgg" else (3, 2)))
            x, index = flat.unflatten(0, (2, -1)), index + 1
        else:
            kernel, bias = (state[f"features.{index}.{kind}"].double() for kind in ("weight", "bias"))
            stride = 4 if kernel.shape[-1] == 11 else 1
            padding = {3: 1, 5: 2, 11: 2}[kernel.shape[-1]]
            x = F.conv2d(x.flatten(0, 1), kernel, bias, stride, padding).relu().unflatten(0, (2, -1))
            index += 2
    return total


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("network", NETWORKS)
def test_equals_the_formula(network, channels, states, files):
    a, b = images(channels)
    expected = reference(network, states[network], a.detach().expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1))
    assert expected.min() > 0.01
    loss = LPIPS(network, files[network])
    assert loss(a, b).item() == pytest.approx(expected.mean().item(), rel=1e-4)
    for n in range(2):
        assert loss(a[n : n + 1], b[n : n + 1]).item() == pytest.approx(expected[n].item(), rel=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_equal_images_differ_by_nothing(network, files):
    a, b = images()
    loss = LPIPS(network, files[network])
    assert loss(a, a.detach()) == 0
    near, far = (loss(a, a.detach() + amount * b) for amount in (0.05, 0.5))
    assert 0 < near < far


def test_gradient_reaches_the_restored_image_alone(files):
    loss = LPIPS("vgg", files["vgg"])
    a, b = images()
    b.requires_grad_()
    value = loss(a, b)
    value.backward()
    assert a.grad.isfinite().all() and a.grad.abs().sum() > 0
    assert b.grad is None
    better = a.detach() - 0.5 * a.grad / a.grad.abs().max()
    assert loss(better, b) < value


def test_gradient_is_finite_where_nothing_responds(states, tmp_path):
    dead = {name: -value.abs() if value.ndim == 1 else 0 * value for name, value in states["alex"].items()}
    torch.save(dead, tmp_path / "dead.pth")
    a, b = images()
    value = LPIPS("alex", str(tmp_path / "dead.pth"))(a, b)
    value.backward()
    assert value == 0 and a.grad.isfinite().all()


def test_half_precision_is_close(files):
    a, b = images()
    loss = LPIPS("alex", files["alex"])
    exact = loss(a, b)
    with torch.autocast("cpu", torch.bfloat16):
        for restored in (a, a.bfloat16()):
            rough = loss(restored, b.to(restored.dtype))
            assert rough.dtype == torch.float32
            assert rough.item() == pytest.approx(exact.item(), rel=0.03)


@pytest.mark.parametrize(
    "loss",
    [NoPerceptualLoss(), LPIPS("vgg", "nowhere.pth"), ThermalFeatureLoss()],
    ids=lambda loss: type(loss).__name__,
)
def test_no_sample_is_no_loss(loss):
    a, b = images(batch=0)
    assert loss(a, b) == 0 and loss(a, b).ndim == 0


def test_nothing_is_trained_or_saved(files):
    loss = LPIPS("alex", files["alex"])
    loss.prepare()
    assert not list(loss.parameters()) and not loss.state_dict()
    a, b = images()
    before = loss(a, b)
    loss.bfloat16().train()
    assert loss(a, b) == before
    assert copy.deepcopy(loss)(a, b) == before
    assert len(pickle.dumps(loss)) < 10_000
    assert pickle.loads(pickle.dumps(loss))(a, b) == before


def test_weights_born_in_inference_mode_serve_training(files):
    loss = LPIPS("alex", files["alex"])
    a, b = images()
    with torch.inference_mode():
        loss(a.detach(), b)
    loss(a, b).backward()
    assert a.grad.abs().sum() > 0


@pytest.mark.parametrize("network", NETWORKS)
def test_least_side(network, files):
    loss, side = LPIPS(network, files[network]), BACKBONES[network].least_side
    a, b = images(size=(side, side))
    assert loss(a, b) > 0
    with pytest.raises(InputError, match=f"{side} pixels a side and got {side}x{side - 1}"):
        loss(a[..., 1:], b[..., 1:])


def test_shapes_are_checked():
    loss = LPIPS("vgg", "nowhere.pth")
    a, _ = images()
    for other in (a[..., 1:], a.expand(-1, 2, -1, -1)):
        with pytest.raises(InputError, match="of one shape"):
            loss(a, other)
    with pytest.raises(InputError, match="1 or 3"):
        loss(a.expand(-1, 2, -1, -1), a.expand(-1, 2, -1, -1))


def test_unknown_network():
    with pytest.raises(InputError, match="'squeeze'; must be one of vgg, alex"):
        LPIPS("squeeze")  # type: ignore[arg-type]


def test_safetensors_are_read(states, files, tmp_path):
    from safetensors.torch import save_file

    save_file(states["alex"], tmp_path / "alex.safetensors")
    a, b = images()
    assert LPIPS("alex", str(tmp_path / "alex.safetensors"))(a, b) == LPIPS("alex", files["alex"])(a, b)


def test_bad_files(files, tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*vgg16-397923af.pth.*LPIPS' `weights`"):
        LPIPS("vgg", str(tmp_path / "absent.pth")).prepare()
    (tmp_path / "damaged.pth").write_bytes(b"not weights")
    with pytest.raises(InputError, match="cannot be read as weights for LPIPS"):
        LPIPS("vgg", str(tmp_path / "damaged.pth")).prepare()
    torch.save(Path("code"), tmp_path / "code.pth")
    with pytest.raises(InputError, match="holds more than tensors"):
        LPIPS("vgg", str(tmp_path / "code.pth")).prepare()
    with pytest.raises(InputError, match="do not fit vgg16"):
        LPIPS("vgg", files["alex"]).prepare()


def test_offline_says_what_to_download(monkeypatch, tmp_path):
    def refuse(*_args, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(
        InputError, match=r"no route to host.*download https://.*vgg16-397923af.pth.*`weights`"
    ) as caught:
        LPIPS().prepare()
    assert "\n" not in str(caught.value)


def test_default_file_is_found_in_the_cache_of_torch(monkeypatch, files, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "vgg16-397923af.pth").symlink_to(files["vgg"])
    a, b = images()
    assert LPIPS()(a, b) == LPIPS("vgg", files["vgg"])(a, b)


def test_members_need_no_arguments():
    assert {LPIPS, NoPerceptualLoss} <= set(PerceptualLoss.__subclasses__())
    for member in (LPIPS, NoPerceptualLoss):
        assert isinstance(member(), PerceptualLoss)
    NoPerceptualLoss().prepare()


def test_thermal_features_give_a_loss_without_any_file():
    a, b = images(channels=3, size=(20, 24))
    loss = ThermalFeatureLoss()
    loss.prepare()
    assert not list(loss.parameters()) and not loss.state_dict()
    value = loss(a, b)
    value.backward()
    assert value > 0 and value.ndim == 0 and a.grad.isfinite().all() and a.grad.abs().sum() > 0
    assert loss(b, b) == 0
    gray = b.mean(1, keepdim=True)
    assert torch.allclose(loss(a.detach(), b), loss(a.detach().mean(1, keepdim=True), gray), rtol=1e-4)
    loss.bfloat16().train()
    assert loss(a.detach(), b) == value
    with pytest.raises(InputError, match="ThermalFeatureLoss compares images"):
        loss(a[..., 1:], b)
    with pytest.raises(InputError, match="give an existing file"):
        ThermalFeatureLoss("nowhere.safetensors").prepare()
