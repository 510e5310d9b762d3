"""Perceptual distances of a network trained on photographs; its weights are read locally and never downloaded."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from lit_thermal.errors import InputError
from lit_thermal.losses.perceptual import BACKBONES, LPIPS
from lit_thermal.metrics.metric import MetricInput, Unavailable
from lit_thermal.torchvision_weights import published

LEAST_SIDE = BACKBONES["alex"].least_side


def perceptual_distance(inputs: MetricInput) -> Tensor:
    """Compute LPIPS (version 0.1, AlexNet) of each frame, (B, T); gray is repeated to three channels.

    Raises:
        Unavailable: the weights are not on this machine.

    Source: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", 2018.
    """
    network = _network("lpips")
    frames = zip(_frames(inputs.restored), _frames(inputs.target), strict=True)
    return torch.stack([network(x, y) for x, y in frames]).view(inputs.target.shape[:2])


def perceptual_change(inputs: MetricInput) -> Tensor:
    """Compute tLPIPS, ``|LPIPS(P_{t-1}, P_t) - LPIPS(G_{t-1}, G_t)|``, (B, T - 1), for the frames 1 to T - 1.

    It compares the change from each frame to the next, as measured by LPIPS, with the target's.

    Raises:
        Unavailable: the weights are not on this machine.

    Source: Chu et al., "Learning temporal coherence via self-supervision for GAN-based video generation" (TecoGAN),
        2020.
    """
    network = _network("tlpips")
    ours, truth = (
        torch.stack(
            [network(before, after) for before, after in zip(_frames(x[:, :-1]), _frames(x[:, 1:]), strict=True)]
        )
        for x in (inputs.restored, inputs.target)
    )
    return (ours - truth).abs().view(inputs.target.shape[0], -1)


def weights_file() -> Path:
    """Return the path where torch stores AlexNet's weights once they are downloaded."""
    return published("alexnet").path


def _frames(video: Tensor) -> Iterator[Tensor]:
    """Each frame of (B, T, 1, H, W) as (1, 1, H, W) in [-1, 1], beyond which the network knows nothing."""
    return (2 * frame[None] - 1 for frame in video.clamp(0, 1).flatten(0, 1))


def _network(metric: str) -> LPIPS:
    url, path = published("alexnet")
    if not path.is_file():
        raise Unavailable(f"{metric} needs torchvision's AlexNet weights: fetch {url} and put it into {path.parent}")
    try:
        return _read(path)
    except InputError as error:
        raise Unavailable(f"{metric}: {error}") from error


@lru_cache(maxsize=1)
def _read(path: Path) -> LPIPS:
    network = LPIPS("alex", str(path))
    network.prepare()
    return network
