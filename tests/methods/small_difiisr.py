"""A small DifIISR, a batch for it, and its losses, for the tests of the method."""

from functools import partial

import torch
from torch import nn

from lit_thermal.blocks.diffusion_condition import RawLR
from lit_thermal.blocks.guidance import Unguided
from lit_thermal.generative.sampler import OneStep
from lit_thermal.generative.schedule import ResidualShift
from lit_thermal.methods.difiisr.module import DifIISR
from lit_thermal.methods.difiisr.objective import Example
from lit_thermal.networks.first_stage import PixelSpace
from lit_thermal.networks.swin_unet import SwinUNet

TINY = partial(
    SwinUNet,
    width=16,
    multipliers=(1, 2),
    res_blocks=(1, 1),
    image_size=8,
    attention_sizes=(8,),
    swin_width=16,
    head_width=8,
    window=4,
)


def method(**changes):
    """A small DifIISR on unshuffled pixels whose output is not zero."""
    torch.manual_seed(0)
    given = {
        "unet": TINY,
        "first_stage": partial(PixelSpace, unshuffle=4),
        "condition": partial(RawLR, copies=1),
        "schedule": partial(ResidualShift, normalize="pixel"),
        "sampler": OneStep,
        "guidance": Unguided,
    }
    model = DifIISR(**(given | changes))
    for parameter in model.parameters():
        if parameter.requires_grad and not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return model


def a_batch(count=2, side=8):
    generator = torch.Generator().manual_seed(5)
    hr = torch.rand(count, 1, 4 * side, 4 * side, generator=generator)
    lr = nn.functional.avg_pool2d(hr, 4)
    return {"lr": lr, "hr": hr, "name": [f"scene_{i}" for i in range(count)]}


def example(model, batch):
    hr = 2 * batch["hr"] - 1
    z = model.network.first_stage.encode(hr)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    return Example(model.network.encode_condition(2 * batch["lr"] - 1), z, hr, noise)


def loss_of(model, batch, guided=True):
    torch.manual_seed(3)
    return model.objective.terms(model.network, example(model, batch), model.guidance, guided)


class Exact(nn.Module):
    """A denoiser that gives a fixed output."""

    def __init__(self, output):
        super().__init__()
        self.output = nn.Parameter(output)

    def forward(self, x, t, condition):
        return self.output
