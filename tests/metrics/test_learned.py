"""LPIPS and what it says of time, with an AlexNet of random weights in the place where torch keeps the real one."""

import pytest
import torch
import torchvision
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.losses.perceptual import LPIPS
from lit_thermal.metrics import learned
from lit_thermal.metrics.learned import perceptual_change, perceptual_distance, weights_file
from lit_thermal.metrics.metric import MetricInput, Unavailable


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with torch.device("meta"):
        layers = torchvision.models.alexnet(weights=None).features
    generator = torch.Generator().manual_seed(0)
    state = {f"features.{n}": 0.05 * torch.randn(v.shape, generator=generator) for n, v in layers.state_dict().items()}
    path = weights_file()
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    yield path
    learned._read.cache_clear()


def video(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, 1, 33, 35, generator=torch.Generator().manual_seed(seed))


def test_each_frame_has_the_distance_of_lpips(weights):
    restored, target = video(0, 2, 2), video(1, 2, 2)
    found = perceptual_distance(MetricInput(restored, target, [Radiometry()] * 2))
    network = LPIPS("alex", str(weights))
    for b in range(2):
        for t in range(2):
            expected = network(2 * restored[b, t][None] - 1, 2 * target[b, t][None] - 1)
            assert float(found[b, t]) == pytest.approx(float(expected), rel=1e-5)
    assert perceptual_distance(MetricInput(target, target, [Radiometry()] * 2)).abs().max() == 0


def test_change_is_compared_with_the_change_of_the_target(weights):
    restored, target = video(0, 1, 3), video(1, 1, 3)
    found = perceptual_change(MetricInput(restored, target, [Radiometry()]))
    network = LPIPS("alex", str(weights))

    def change(x: Tensor, t: int) -> float:
        return float(network(2 * x[0, t - 1][None] - 1, 2 * x[0, t][None] - 1))

    expected = [abs(change(restored, t) - change(target, t)) for t in (1, 2)]
    assert found.tolist() == [pytest.approx(expected, rel=1e-4)]
    # A video that keeps its constant error changes as the target does.
    assert perceptual_change(MetricInput(target, target, [Radiometry()])).abs().max() == 0


def test_missing_weights_are_named_and_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("nothing is fetched"))
    pair = MetricInput(video(0, 1, 2), video(1, 1, 2), [Radiometry()])
    for name, metric in (("lpips", perceptual_distance), ("tlpips", perceptual_change)):
        with pytest.raises(
            Unavailable, match=rf"^{name} needs torchvision's AlexNet weights: fetch https.* into {tmp_path}"
        ):
            metric(pair)
    weights_file().parent.mkdir()
    weights_file().write_bytes(b"no weights")
    with pytest.raises(Unavailable, match=r"lpips: .*alexnet.* cannot be read as weights for LPIPS"):
        perceptual_distance(pair)
