"""Graphs of trained models with tensors in and tensors out, as they are exported: one class per kind of method."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from lit_thermal.batch import Batch, output_times
from lit_thermal.blocks.guidance import Unguided
from lit_thermal.blocks.motion_interpolation import MotionAlignedInterpolation
from lit_thermal.blocks.registration import NoRegistration
from lit_thermal.blocks.scan_order import Hilbert, ScanOrder, inverse
from lit_thermal.blocks.token_mixer import TokenMixer
from lit_thermal.errors import InputError
from lit_thermal.generative.sampler import OneStep
from lit_thermal.methods.base import SuperResolver
from lit_thermal.methods.corefusion.module import CoReFusion
from lit_thermal.methods.difiisr.module import DifIISR
from lit_thermal.methods.plain_cnn.module import PlainCNN
from lit_thermal.methods.plain_cnn.video import PlainVideoCNN
from lit_thermal.methods.theris.module import THERIS

LEAST = 3
"""Smallest height and width of an exported input, in steps of `Graph.multiple`."""
MOST = 4096
"""Largest height and width of an exported input, in steps of `Graph.multiple`."""


class Graph(nn.Module):
    """Base: one model as a function of tensors whose batch, height and width are free.

    Attributes:
        model: the trained model.
        names: names of the inputs, in the order of `forward`.
        multiple: number that height and width of the thermal input must be multiples of.
        remarks: sentences about the inputs, for the user.
    """

    def __init__(self, model: SuperResolver) -> None:
        super().__init__()
        self.model: Any = model
        self.names: tuple[str, ...] = ("lr",)
        self.multiple = 1
        self.remarks: list[str] = []

    def example(self, batch: int, height: int, width: int) -> tuple[Tensor, ...]:
        """Return random inputs; height and width are in steps of `multiple`, of the thermal input."""
        return (torch.rand(batch, 1, height * self.multiple, width * self.multiple),)

    def shapes(self, batch: Any, height: Any, width: Any) -> tuple[dict[int, Any], ...]:
        """Return the free axes of each input for symbols of batch, height and width (in steps of `multiple`)."""
        return ({0: batch, 2: self.multiple * height, 3: self.multiple * width},)

    def forward(self, lr: Tensor) -> Tensor:
        """Restore images (B, 1, h, w) in [0, 1]."""
        return self.model.restore(cast(Batch, {"lr": lr}))


class GuidedGraph(Graph):
    """An image method that reads a guide of the size of the result."""

    def __init__(self, model: SuperResolver) -> None:
        super().__init__(model)
        self.names = ("lr", "guide")
        self.remarks = [
            f"guide: three channels in [0, 1] at {model.scale} times the size of lr; resize it before, because the "
            "antialiased resizing of this package has no ONNX operator"
        ]

    def example(self, batch: int, height: int, width: int) -> tuple[Tensor, ...]:
        """Return random inputs."""
        (lr,) = super().example(batch, height, width)
        return lr, torch.rand(batch, 3, *(self.model.scale * side for side in lr.shape[-2:]))

    def shapes(self, batch: Any, height: Any, width: Any) -> tuple[dict[int, Any], ...]:
        """Return the free axes of each input."""
        step = self.model.scale * self.multiple
        return *super().shapes(batch, height, width), {0: batch, 2: step * height, 3: step * width}

    def forward(self, lr: Tensor, guide: Tensor) -> Tensor:  # type: ignore[override]
        """Restore images (B, 1, h, w) in [0, 1] with guides (B, 3, scale * h, scale * w)."""
        return self.model.restore(cast(Batch, {"lr": lr, "guide": guide}))


class DiffusionGraph(Graph):
    """A diffusion method that samples in one step; its noise is an input."""

    def __init__(self, model: DifIISR) -> None:
        super().__init__(model)
        network = model.network
        self.names = ("lr", "noise")
        self.stage = network.first_stage
        step = self.stage.factor * network.unet.multiple
        self.multiple = step // math.gcd(step, model.scale)
        self.remarks = [
            f"noise: unit Gaussian noise of {self.stage.channels} channels at {model.scale}/{self.stage.factor} of the "
            "size of lr; the same noise gives the same result"
        ]

    def example(self, batch: int, height: int, width: int) -> tuple[Tensor, ...]:
        """Return random inputs."""
        (lr,) = super().example(batch, height, width)
        sides = (self.model.scale * side // self.stage.factor for side in lr.shape[-2:])
        return lr, torch.randn(batch, self.stage.channels, *sides)

    def shapes(self, batch: Any, height: Any, width: Any) -> tuple[dict[int, Any], ...]:
        """Return the free axes of each input."""
        step = self.model.scale * self.multiple // self.stage.factor
        return *super().shapes(batch, height, width), {0: batch, 2: step * height, 3: step * width}

    def forward(self, lr: Tensor, noise: Tensor) -> Tensor:  # type: ignore[override]
        """Restore images (B, 1, h, w) in [0, 1] from unit noise of the shape of the latent."""
        network = self.model.network
        encoded = network.encode_condition(2 * lr - 1)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            return network.estimate(x, t, encoded)

        latent = self.model.drawing.sampler(denoise, network.schedule, encoded.y, lambda like: noise)
        return ((network.image(latent).float() + 1) / 2).clamp(0, 1)


class GivenOrder(ScanOrder):
    """A scan order that is given as a tensor, because a graph cannot compute it for every size."""

    def __init__(self) -> None:
        self.given = torch.zeros(0, dtype=torch.long)

    def path(self, frames: int, height: int, width: int) -> Tensor:
        """Return one chain of all tokens."""
        return self.given[None]

    def indices(self, frames: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the given path, and the position of each token in it; nothing is cached."""
        return self.given[None], inverse(self.given)


class VideoGraph(Graph):
    """A video method for a fixed number of frames at fixed times; a Hilbert order is an input."""

    def __init__(self, model: THERIS | PlainVideoCNN) -> None:
        super().__init__(model)
        self.frames = max(model.window, 3)
        self.temporal = min(model.temporal_scales)
        self.times = output_times(self.frames, self.temporal).float()
        self.order: GivenOrder | None = None
        for mixer in model.modules():
            if isinstance(mixer, TokenMixer) and isinstance(mixer.order, Hilbert):
                self.order = self.order or GivenOrder()
                mixer.order = self.order
        self.names = ("lr", "order") if self.order else ("lr",)
        self.remarks = [f"lr: {self.frames} frames, restored at {len(self.times)} times"]
        if self.order:
            self.remarks.append(
                f"order: lit_thermal.blocks.scan_order.Hilbert().path({len(self.times)}, height, width), int64, as "
                f"({len(self.times)}, height, width)"
            )

    def example(self, batch: int, height: int, width: int) -> tuple[Tensor, ...]:
        """Return random inputs."""
        lr = torch.rand(batch, self.frames, 1, height, width)
        # the shape of the order is that of the tokens, so that a graph knows its length
        order = Hilbert().path(len(self.times), height, width).view(-1, height, width)
        return (lr, order) if self.order else (lr,)

    def shapes(self, batch: Any, height: Any, width: Any) -> tuple[dict[int, Any], ...]:
        """Return the free axes of each input."""
        lr = {0: batch, 3: height, 4: width}
        return (lr, {1: height, 2: width}) if self.order else (lr,)

    def forward(self, lr: Tensor, order: Tensor | None = None) -> Tensor:
        """Restore clips (B, T, 1, h, w) in [0, 1] to (B, T', 1, scale * h, scale * w)."""
        if self.order is not None and order is not None:
            self.order.given = order.flatten()
        if isinstance(self.model, THERIS):
            return self.model.network(lr, self.times, self.temporal).clamp(0, 1)
        times = self.times.expand(lr.shape[0], -1)
        return self.model.restore(cast(Batch, {"lr": lr, "hr_time": times}))


def graph_of(model: SuperResolver) -> Graph:
    """Return the graph of a model.

    Raises:
        InputError: the method, or one of its blocks, cannot be exported; the message says why.
    """
    if isinstance(model, CoReFusion):
        if not isinstance(model.registration, NoRegistration):
            raise InputError(
                f"{type(model.registration).__name__} searches for the place of the guide, which a graph cannot hold: "
                "register guides before, and export a model with NoRegistration"
            )
        graph: Graph = GuidedGraph(model)
        graph.multiple = model.network.deepest // math.gcd(model.network.deepest, model.scale)
        return graph
    if isinstance(model, PlainCNN):
        return GuidedGraph(model) if model.guided else Graph(model)
    if isinstance(model, DifIISR):
        one = isinstance(model.drawing.sampler, OneStep) and model.drawing.samples == 1
        if not one or not isinstance(model.sampling_guidance, Unguided):
            raise InputError(
                "DifIISR is exported with one step and without guidance at test time: set model.sampler to OneStep, "
                "model.samples to 1 and model.sampling_guidance to Unguided"
            )
        return DiffusionGraph(model)
    if isinstance(model, (THERIS, PlainVideoCNN)):
        if isinstance(model, THERIS) and isinstance(model.network.interpolation, MotionAlignedInterpolation):
            raise InputError(
                "MotionAlignedInterpolation searches for motion over a pyramid whose depth depends on the frame, which "
                "a graph cannot hold: export a model with another interpolation, such as ThermalDiffusionInterpolation"
            )
        return VideoGraph(model)
    reasons = {
        "ThreeMTI": "prompts pass a text encoder and its tokenizer, and the diffusion model has billions of values",
        "RealIISR": "it draws tokens scale by scale with a cache, so that a graph would fix the size of the image",
    }
    name = type(model).__name__
    reason = reasons.get(name, "it has no form with tensors in and tensors out")
    raise InputError(f"{name} cannot be exported as one graph, because {reason}: use `lit_thermal upscale`")
