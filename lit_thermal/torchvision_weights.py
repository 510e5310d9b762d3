"""Published weights of torchvision's networks, downloaded once into torch's own cache."""

import urllib.request
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision

from lit_thermal.errors import InputError, short


class PublishedWeights(NamedTuple):
    """Weights that torchvision publishes for one of its networks."""

    url: str
    path: Path
    """File in torch's cache; it may not exist yet."""


def published(network: str, version: str = "IMAGENET1K_V1") -> PublishedWeights:
    """Return address and cached file of published weights, without downloading them.

    Args:
        network: torchvision's name of the network, such as vgg16.
        version: torchvision's name of the weights; DEFAULT names the best ones.
    """
    url: str = torchvision.models.get_model_weights(network)[version].url
    return PublishedWeights(url, Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1]))


def fetch_published(network: str, advice: str, version: str = "IMAGENET1K_V1") -> Path:
    """Return the cached file of published weights, after downloading it if it is missing.

    Args:
        network: torchvision's name of the network, such as vgg16.
        advice: alternative for a user without a network connection, at the end of the error message.
        version: torchvision's name of the weights; DEFAULT names the best ones.

    Raises:
        InputError: the file is not in the cache and cannot be downloaded.
    """
    url, path = published(network, version)
    if path.is_file():
        return path
    try:
        # A quick request first: the download itself has no timeout.
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10):
            pass
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rsplit("-", 1)[-1], progress=False)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the pretrained weights {path.name} of torchvision's {network} are not on this machine and could not be "
            f"fetched ({short(error)}): download {url} elsewhere and put it into {path.parent}, or {advice}"
        ) from error
    return path
