"""The shipped feature network: its file, its distance, and that it was trained."""

import copy
import pickle
from itertools import pairwise, product

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_accuracy

from lit_thermal.data.datamodules.simulated_truth import SCENE_CLASSES, SimulatedTruth
from lit_thermal.data.simulator import make_scene, render
from lit_thermal.errors import InputError
from lit_thermal.ops.blur import gaussian_blur
from lit_thermal.ops.resize import resize
from lit_thermal.thermal_features import (
    WEIGHTS,
    FrozenFeatures,
    ThermalFeatureNetwork,
    feature_distance,
    thermal_features,
)


@pytest.fixture(scope="module")
def scenes() -> Tensor:
    """Four simulated images (4, 1, 96, 96) that the network was not trained on."""
    counts = [render(make_scene(7, n, stream=2, size=96, frames=1), frames=1).counts for n in range(4)]
    return torch.stack([torch.from_numpy(c.astype("float32")) / 65535 for c in counts])


def distances(images: list[Tensor], target: Tensor) -> list[list[float]]:
    """The distance of each scene at each level of a distortion."""
    features = FrozenFeatures()
    return torch.stack([features.distance(image.clamp(0, 1), target) for image in images]).T.tolist()


def blurred(x: Tensor, level: int) -> Tensor:
    return gaussian_blur(x, 0.4 * level)


def noisy(x: Tensor, level: int) -> Tensor:
    return x + 0.01 * 2**level * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def aliased(x: Tensor, level: int) -> Tensor:
    """Every n-th pixel, without a filter, enlarged again."""
    step = (2, 3, 4, 6)[level - 1]
    return resize(x[..., ::step, ::step], (x.shape[-2], x.shape[-1]))


def reduced(x: Tensor, level: int) -> Tensor:
    """Reduced by n with a filter, and enlarged again."""
    small = resize(x, (x.shape[-2] // 2**level, x.shape[-1] // 2**level))
    return resize(small, (x.shape[-2], x.shape[-1]))


@pytest.mark.parametrize("distortion", [blurred, noisy, aliased, reduced], ids=lambda f: f.__name__)
def test_more_distortion_is_more_distance(distortion, scenes):
    levels = [scenes, *(distortion(scenes, level) for level in (1, 2, 3, 4))]
    for found in distances(levels, scenes):
        assert found[0] == 0 and all(a < b for a, b in pairwise(found)), found


def test_the_distance_is_that_of_a_loop_over_the_pixels():
    torch.manual_seed(0)
    one, other = ([torch.rand(1, c, h, w, dtype=torch.float64) for c, h, w in ((3, 4, 5), (2, 1, 2))] for _ in range(2))
    stages = []
    for a, b in zip(one, other, strict=True):
        pixels = []
        for y, x in product(range(a.shape[2]), range(a.shape[3])):
            p, q = a[0, :, y, x], b[0, :, y, x]
            pixels.append((p / (p.norm() ** 2 + 1e-6) ** 0.5 - q / (q.norm() ** 2 + 1e-6) ** 0.5).norm() ** 2)
        stages.append(sum(pixels) / len(pixels))
    assert feature_distance(one, other).item() == pytest.approx((sum(stages) / 2).item(), rel=1e-12)


def test_only_the_image_gets_a_gradient(scenes):
    image, target = (scenes * 0.9).requires_grad_(), scenes.clone().requires_grad_()
    FrozenFeatures().distance(image, target).sum().backward()
    assert image.grad.isfinite().all() and (image.grad.flatten(1).abs().sum(1) > 0).all() and target.grad is None


def test_a_step_along_the_gradient_comes_nearer(scenes):
    features, image = FrozenFeatures(), gaussian_blur(scenes, 1.0)
    before = features.distance(image, scenes)
    image = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(features.distance(image, scenes).sum(), image)
    step = 0.03 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert (features.distance(image.detach() - step, scenes) < before).all()


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 20)])
def test_any_size(size):
    image = torch.rand(2, 1, *size)
    found = thermal_features()(image)
    assert [x.shape[1] for x in found] == [16, 32, 64, 96, 96] and found[0].shape[-2:] == size
    assert FrozenFeatures().distance(image, image.flip(0)).shape == (2,)


def test_the_file_is_small_and_in_half_precision():
    state = load_file(WEIGHTS)
    assert WEIGHTS.stat().st_size < 1_000_000
    assert {value.dtype for value in state.values()} == {torch.float16}


def test_nothing_is_saved_or_changed_with_its_owner(scenes):
    features = FrozenFeatures()
    before = features.distance(scenes * 0.9, scenes)
    assert copy.deepcopy(features) is features
    assert len(pickle.dumps(features)) < 1000
    assert torch.equal(pickle.loads(pickle.dumps(features)).distance(scenes * 0.9, scenes), before)
    double = features.distance(scenes.double() * 0.9, scenes.double())
    assert double.dtype == torch.float64 and torch.allclose(double.float(), before, rtol=1e-3)


def test_fusing_the_normalisation_changes_nothing():
    torch.manual_seed(0)
    network = ThermalFeatureNetwork(normed=True)
    for _ in range(3):
        network(torch.rand(2, 1, 32, 32))
    image = torch.rand(1, 1, 32, 32)
    fused = network.fused()(image)
    for a, b in zip(network.eval()(image), fused, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_files_of_other_networks_are_refused(tmp_path):
    with pytest.raises(InputError, match="give an existing file"):
        thermal_features(tmp_path / "absent.safetensors")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="do not fit the thermal feature network"):
        thermal_features(tmp_path / "other.safetensors")
    broken = {name: value * torch.nan for name, value in load_file(WEIGHTS).items()}
    save_file(broken, tmp_path / "broken.safetensors")
    with pytest.raises(InputError, match="not finite"):
        thermal_features(tmp_path / "broken.safetensors")


def told(network: ThermalFeatureNetwork, train: list[dict], test: list[dict]) -> float:
    """Accuracy of the parts of unseen scenes by a ridge regression from the features of all stages."""

    def pixels(items: list[dict]) -> tuple[Tensor, Tensor]:
        found = []
        for item in items:
            image = item["hr"][None]
            x = torch.cat([F.interpolate(f, image.shape[-2:], mode="bilinear") for f in network(image)], 1)
            known = item["masks"].flatten() < len(SCENE_CLASSES)
            found.append((x.flatten(2)[0].T[known][::7], item["masks"].flatten()[known][::7]))
        x, y = (torch.cat(part).double() for part in zip(*found, strict=True))
        return x, y.long()

    (x, y), (held, truth) = pixels(train), pixels(test)
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x, held = ((F.pad((part - mean) / deviation, (0, 1), value=1.0)) for part in (x, held))
    targets = F.one_hot(y, len(SCENE_CLASSES)).double()
    weights = torch.linalg.solve(x.T @ x + 10 * torch.eye(x.shape[1]).double(), x.T @ targets)
    return multiclass_accuracy((held @ weights).argmax(1), truth, len(SCENE_CLASSES), average="micro").item()


def test_parts_of_unseen_scenes_are_told_better_than_with_random_weights():
    data = SimulatedTruth(size=96, train_images=8, test_images=8, seed=7, augment=False, num_workers=0)
    data.setup("fit")
    data.setup("test")
    loaders = (data.train_dataloader(), *data.test_dataloader())
    train, test = ([loader.dataset[n] for n in range(8)] for loader in loaders)
    torch.manual_seed(0)
    untrained = told(ThermalFeatureNetwork().requires_grad_(False), train, test)
    assert told(thermal_features(), train, test) > 0.1 + untrained
