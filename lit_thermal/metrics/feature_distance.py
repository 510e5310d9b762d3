"""Distance of images in the features of a network trained on simulated thermal scenes; not LPIPS."""

from torch import Tensor

from lit_thermal.metrics.metric import MetricInput
from lit_thermal.thermal_features import FrozenFeatures

_features = FrozenFeatures()


def thermal_feature_distance(inputs: MetricInput) -> Tensor:
    """Compute the distance of each frame from its target in thermal features, (B, T).

    It is computed as LPIPS is, from features of unit length, but the network was trained on simulated thermal scenes,
    whose weights are part of the package, and no judgement of people was fitted. So its values cannot be compared with
    LPIPS. It is 0 for equal images; blur, noise and aliasing raise it.
    """
    restored, target = (video.flatten(0, 1).float().clamp(0, 1) for video in (inputs.restored, inputs.target))
    return _features.distance(restored, target).view(inputs.target.shape[:2])
