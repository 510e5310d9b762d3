"""Thermal-structural guidance of Real-IISR as the condition of a diffusion network."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lit_thermal.blocks.condition_map_encoder import ConvStackEncoder, MapEncoder
from lit_thermal.blocks.diffusion_condition import DiffusionCondition, RawLR
from lit_thermal.blocks.thermal_structure import Structure, ThermalStructuralGuidance
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize


class StructuralCondition(DiffusionCondition):
    """The pixels as in `RawLR` plus the guided tokens of Real-IISR: the baseline of its Fig. 9.

    The paper says only that the guidance is applied to a residual-shift diffusion; the details are ours. The image is
    enlarged bicubically and clipped to [-1, 1], so that its tokens lie on a grid `stride` times coarser than the state
    and at least 2 x 2. With the defaults and latents of factor 4, the image has the size of the target, as in
    Real-IISR. The maps of the guidance pass a 1x1 convolution and are enlarged bilinearly.

    Args:
        channels: number of channels in addition to the three of the pixels.
        width: number of channels of the tokens.
        heads: number of attention heads of the guidance, a divisor of `width`.
        stride: distance of the tokens, in pixels of the state.
        encoder: factory that makes the encoder of the guided tokens from the image's 3 channels and `width`.
        structure: factory that makes the guidance from `width` and `heads`; the factor of its encoders must equal that
            of `encoder`.

    Raises:
        InputError: a number is not positive, or the numbers do not fit each other.
    """

    def __init__(
        self,
        channels: int = 16,
        width: int = 64,
        heads: int = 4,
        stride: int = 4,
        encoder: Callable[[int, int], MapEncoder] = ConvStackEncoder,
        structure: Callable[[int, int], Structure] = ThermalStructuralGuidance,
    ) -> None:
        super().__init__()
        for name, number in (("channels", channels), ("stride", stride)):
            if number < 1:
                raise InputError(f"StructuralCondition's {name} is {number} and must be at least 1")
        self.stride = stride
        self.pixels = RawLR()
        self.encoder, self.structure = encoder(3, width), structure(width, heads)
        self.mix = nn.Conv2d(self.structure.maps * width, channels, 1)
        self.channels = self.pixels.channels + channels

    def forward(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """Map images (B, 1, h, w) in [-1, 1] to (B, channels, *size)."""
        height, width = (self.encoder.factor * max(2, -(-side // self.stride)) for side in size)
        with torch.autocast(lr.device.type, enabled=False):
            precise = lr.to(torch.promote_types(lr.dtype, torch.float32))
            image = resize(precise, (height, width)).clamp(-1, 1).expand(-1, 3, -1, -1)
            maps = self.mix(torch.cat(self.structure(image, self.encoder(image)), dim=1))
        guided = resize(maps, size, kernel="linear", border="replicate")
        return torch.cat([self.pixels(lr, size).to(guided.dtype), guided], dim=1)
