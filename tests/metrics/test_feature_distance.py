"""The distance in thermal features as a metric of images."""

import torch

from lit_thermal.batch import Radiometry
from lit_thermal.metrics.catalogue import CATALOGUE, standard
from lit_thermal.metrics.feature_distance import thermal_feature_distance
from lit_thermal.metrics.metric import MetricInput
from lit_thermal.ops.blur import gaussian_blur


def inputs(restored: torch.Tensor, target: torch.Tensor) -> MetricInput:
    return MetricInput(restored, target, [Radiometry()] * len(target))


def test_it_is_measured_on_images_by_default_and_is_not_called_lpips():
    metric = CATALOGUE["feature_distance"]
    assert metric in standard() and "not LPIPS" in metric.text and "lpips" not in metric.name
    image = torch.rand(1, 1, 1, 16, 16)
    assert metric.applies(inputs(image, image))
    clip = torch.rand(1, 2, 1, 16, 16)
    assert not metric.applies(inputs(clip, clip))


def test_each_image_has_its_own_distance():
    torch.manual_seed(0)
    target = gaussian_blur(torch.rand(3, 1, 1, 40, 40), 1.0)
    restored = target.clone()
    restored[1] = gaussian_blur(target[1], 1.0)
    found = thermal_feature_distance(inputs(restored, target))
    assert found.shape == (3, 1) and found.dtype == torch.float32
    assert found[0] == found[2] == 0 and found[1] > 0
    alone = thermal_feature_distance(inputs(restored[1:2], target[1:2]))
    assert torch.allclose(alone, found[1:2], rtol=1e-4)


def test_values_beyond_the_range_count_as_its_ends():
    target = torch.rand(1, 1, 1, 16, 16)
    beyond = torch.where(target > 0.5, 2.0, target)
    assert thermal_feature_distance(inputs(beyond, target)) == thermal_feature_distance(
        inputs(beyond.clamp(0, 1), target)
    )
