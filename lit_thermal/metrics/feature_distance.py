"""Distance of images in the features of a network trained on simulated thermal scenes; not LPIPS."""

import torch
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
    videos = (video.flatten(0, 1).float().clamp(0, 1) for video in (inputs.restored, inputs.target))
    # One by one, because the rounding of a convolution depends on the size of its batch.
    frames = zip(*(video.split(1) for video in videos), strict=True)
    return torch.cat([_features.distance(x, y) for x, y in frames]).view(inputs.target.shape[:2])
