"""Comparators: published networks and methods of this package, which enlarge gray images through one interface."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_thermal.batch import Batch
from lit_thermal.errors import InputError
from lit_thermal.files import is_plain
from lit_thermal.methods.base import SuperResolver
from lit_thermal.weights.checkpoint import as_checkpoint, read_values, rebuild


class Comparator:
    """Enlarges gray images by a network.

    Args:
        network: the comparator's network, for counting parameters.
        scale: factor by which the network enlarges width and height.
        name: name of the architecture or of the method.
    """

    def __init__(self, network: nn.Module, scale: int, name: str) -> None:
        self.network, self.scale, self.name = network, scale, name

    @torch.inference_mode()
    def __call__(self, lr: Tensor, names: Sequence[str]) -> Tensor:
        """Enlarge (B, 1, h, w) in [0, 1] to (B, 1, scale * h, scale * w) in [0, 1].

        Args:
            lr: images to enlarge.
            names: name of each image, which determines its noise in methods that draw noise.
        """
        return self.restore(lr, names).float().clamp(0, 1)

    def restore(self, lr: Tensor, names: Sequence[str]) -> Tensor:
        """Enlarge images without clipping; implemented by subclasses."""
        raise NotImplementedError(f"{type(self).__name__} has no `restore`")


class SpandrelComparator(Comparator):
    """An architecture of spandrel: its input repeats the gray channel, and its output channels are averaged."""

    def __init__(self, descriptor: Any, device: torch.device) -> None:
        super().__init__(descriptor.model.to(device).eval(), descriptor.scale, descriptor.architecture.name)
        self.descriptor = descriptor

    def restore(self, lr: Tensor, names: Sequence[str]) -> Tensor:
        """Enlarge the images one by one, with the padding that the architecture needs."""
        images = (self.descriptor(image[None].expand(-1, self.descriptor.input_channels, -1, -1)) for image in lr)
        return torch.cat([image.mean(dim=1, keepdim=True) for image in images])


class MethodComparator(Comparator):
    """A single-image method from a checkpoint of `fit`; a guided method runs with its guide marked as missing."""

    def __init__(self, method: SuperResolver, device: torch.device) -> None:
        super().__init__(method.to(device).eval(), method.scale, type(method).__name__)
        self.method = method

    def restore(self, lr: Tensor, names: Sequence[str]) -> Tensor:
        """Restore images as `predict` does."""
        count, (height, width) = len(lr), lr.shape[-2:]
        present = torch.ones(count, dtype=torch.bool, device=lr.device)
        guide = lr.new_zeros(count, 3, self.scale * height, self.scale * width)
        batch: Batch = {"lr": lr, "name": list(names), "guide": guide, "has_lr": present, "has_guide": ~present}
        return self.method.restore(batch)


def load_comparator(path: Path, device: torch.device) -> Comparator:
    """Load a checkpoint of this package, or weights of an architecture that spandrel supports (extra `comparators`).

    Only tensors and plain values are read. A pickle with other objects is refused, because loading it could run code.

    Args:
        path: file (`.ckpt`, `.pth`, `.pt` or `.safetensors`).
        device: device of the network.

    Raises:
        InputError: the file does not exist, it is unsafe or damaged, spandrel is not installed or does not support the
            architecture, or the network does not restore single images.
    """
    if not is_plain(path):
        raise InputError(f"there is no file {path} with weights to compare with")
    checkpoint = read_values(path)
    if isinstance(checkpoint, dict) and "lit_thermal" in checkpoint:
        method = rebuild(as_checkpoint(checkpoint, path), path)
        if hasattr(method, "temporal_scales"):
            raise InputError(
                f"{path} holds {type(method).__name__}, which restores whole videos: use `upscale` and --pred"
            )
        return MethodComparator(method, device)
    try:
        from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError, canonicalize_state_dict
    except ImportError as error:
        raise InputError(f"{path} needs spandrel to be loaded: pip install 'lit_thermal[comparators]'") from error
    try:
        found = ModelLoader(device).load_from_state_dict(canonicalize_state_dict(checkpoint))
    except UnsupportedModelError as error:
        raise InputError(f"spandrel knows no architecture that fits the weights in {path}; see its list") from error
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0][:120]
        raise InputError(
            f"the weights in {path} do not fit the architecture that spandrel recognises ({reason})"
        ) from error
    if not isinstance(found, ImageModelDescriptor) or found.input_channels not in (1, 3):
        raise InputError(
            f"{path} holds {found.architecture.name}, which does not map one gray or colour image to another"
        )
    return SpandrelComparator(found, device)
