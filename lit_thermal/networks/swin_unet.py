"""The Swin U-Net of residual-shift diffusion: ResNet blocks conditioned on time, and window attention at each level."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.networks.group_norm import WideGroupNorm
from lit_thermal.networks.window_attention import SwinLayer, SwinMask


class ResBlock(nn.Module):
    """Residual block of two 3x3 convolutions, conditioned on time by scale and shift before the second.

    The second convolution is initialised with zeros.

    Args:
        dim: number of input channels.
        width: number of output channels; if it differs from `dim`, a 1x1 convolution maps the residual input.
        embedding: width of the embedded time.
        dropout: dropout rate before the second convolution.
    """

    def __init__(self, dim: int, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(WideGroupNorm(dim), nn.SiLU(), nn.Conv2d(dim, width, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * width))
        last = nn.Conv2d(width, width, 3, padding=1)
        for p in last.parameters():
            nn.init.zeros_(p)
        self.out_layers = nn.Sequential(WideGroupNorm(width), nn.SiLU(), nn.Dropout(dropout), last)
        self.skip_connection = nn.Identity() if dim == width else nn.Conv2d(dim, width, 1)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """Map (B, dim, H, W) and embedded times (B, embedding) to (B, width, H, W)."""
        scale, shift = self.emb_layers(embedded)[..., None, None].chunk(2, dim=1)
        norm, *layers = self.out_layers
        h = torch.addcmul(shift, norm(self.in_layers(x)), 1 + scale)
        for layer in layers:
            h = layer(h)
        return self.skip_connection(x) + h


class Downsample(nn.Module):
    """3x3 convolution of stride 2.

    Args:
        dim: number of input and output channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(dim, dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to (B, dim, H / 2, W / 2)."""
        return self.op(x)


class Upsample(nn.Module):
    """Nearest-neighbour upsampling by two, followed by a 3x3 convolution.

    Args:
        dim: number of input and output channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to (B, dim, 2 H, 2 W)."""
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Stage(nn.ModuleList):
    """Sequence of layers; its ResNet blocks are conditioned on time."""

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """Map (B, C, H, W) and embedded times (B, embedding) to the last layer's features."""
        for layer in self:
            x = layer(x, embedded) if isinstance(layer, ResBlock) else layer(x)
        return x


class SwinUNet(nn.Module):
    """UNetModelSwin of ResShift, SinSR and DifIISR; the defaults are its published size of 118,593,583 parameters.

    On the way down and on the way up, each level has ResNet blocks and, if its size is in `attention_sizes`, one Swin
    layer after the first of them; the middle has one between its two ResNet blocks. Module names are those of the
    published weights. Images may have any size: they are padded at right and bottom to the multiples that windows and
    downsampling need, as the released code does before the network, and the result is cropped.

    Embedded times, normalisations and the output layers are computed in float32 under autocast, as in the released
    half-precision inference.

    Args:
        channels: number of channels of the denoised image and of the output.
        condition_channels: number of channels of the condition, which is concatenated to the input.
        width: number of channels of the first level, an even number.
        multipliers: ratio of each level's channels to `width`, the finest first.
        res_blocks: number of ResNet blocks of each level on the way down; the way up has one more.
        image_size: side of the images that the network is configured for. It defines the sizes of the levels for
            `attention_sizes`. Levels no larger than a window are never shifted, even for larger images.
        attention_sizes: sizes of the levels with Swin layers, at `image_size`; the middle follows the last level.
        swin_depth: number of blocks of a Swin layer; every second block has shifted windows.
        swin_width: number of channels inside a Swin layer.
        head_width: number of channels of an attention head, a divisor of `swin_width`.
        window: side of a window.
        mlp_ratio: ratio of the hidden channels of a Swin block's MLP to `swin_width`.
        dropout: dropout rate in the ResNet blocks, from 0 to 1.
        swin_mask: mask of shifted windows; the published weights need `released`, see `window_attention.shift_mask`.

    Raises:
        InputError: the arguments do not fit each other.
    """

    def __init__(
        self,
        channels: int = 3,
        condition_channels: int = 3,
        width: int = 160,
        multipliers: Sequence[int] = (1, 2, 2, 4),
        res_blocks: Sequence[int] = (2, 2, 2, 2),
        image_size: int = 64,
        attention_sizes: Sequence[int] = (64, 32, 16, 8),
        swin_depth: int = 2,
        swin_width: int = 192,
        head_width: int = 32,
        window: int = 8,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        swin_mask: SwinMask = "standard",
    ) -> None:
        super().__init__()
        sizes = _sizes(multipliers, res_blocks, image_size, attention_sizes)
        if width < 2 or width % 2:
            raise InputError(
                f"width = {width} of the Swin U-Net: half of it are cosines of the time and half sines, so give an "
                "even number"
            )
        _check_attention(swin_depth=swin_depth, swin_width=swin_width, head_width=head_width, window=window)
        if int(swin_width * mlp_ratio) < 1:
            raise InputError(f"mlp_ratio = {mlp_ratio} of the Swin U-Net leaves no channel: give a larger one")
        if not 0 <= dropout <= 1:
            raise InputError(f"dropout = {dropout} of the Swin U-Net is a share: give one from 0 to 1")
        self.width = width
        coarsest = 2 ** (len(sizes) - 1)
        windows = [window * 2**level for level, size in enumerate(sizes) if size in attention_sizes]
        self.multiple = math.lcm(coarsest, *windows)
        embedding = 4 * width

        def block(dim: int, level: int) -> ResBlock:
            return ResBlock(dim, width * multipliers[level], embedding, dropout)

        def attention(level: int) -> list[nn.Module]:
            if sizes[level] not in attention_sizes:
                return []
            dim = width * multipliers[level]
            return [
                SwinLayer(dim, sizes[level], swin_depth, swin_width, head_width, window, mlp_ratio, swin_mask),
            ]

        self.time_embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        dim = width * multipliers[0]
        self.input_blocks = nn.ModuleList([Stage([nn.Conv2d(channels + condition_channels, dim, 3, padding=1)])])
        skips = [dim]
        for level, count in enumerate(res_blocks):
            for index in range(count):
                self.input_blocks.append(Stage([block(dim, level), *(attention(level) if index == 0 else [])]))
                dim = width * multipliers[level]
                skips.append(dim)
            if level < len(sizes) - 1:
                self.input_blocks.append(Stage([Downsample(dim)]))
                skips.append(dim)
        last = len(sizes) - 1
        self.middle_block = Stage([block(dim, last), *attention(last), block(dim, last)])
        self.output_blocks = nn.ModuleList()
        for level, count in reversed(list(enumerate(res_blocks))):
            for index in range(count + 1):
                stage = Stage([block(dim + skips.pop(), level), *(attention(level) if index == 0 else [])])
                dim = width * multipliers[level]
                if level and index == count:
                    stage.append(Upsample(dim))
                self.output_blocks.append(stage)
        self.out = nn.Sequential(WideGroupNorm(dim), nn.SiLU(), nn.Conv2d(dim, channels, 3, padding=1))

    def embed(self, t: Tensor) -> Tensor:
        """Embed times (B,), raw indices of the schedule, as (B, 4 * width) in the precision of the weights."""
        half = self.width // 2
        steps = torch.arange(half, dtype=torch.float32, device=t.device)
        angles = t.float()[:, None] * torch.exp(-math.log(10000) / half * steps)
        with torch.autocast(t.device.type, enabled=False):
            waves = torch.cat([angles.cos(), angles.sin()], dim=1)
            return self.time_embed(waves.to(next(self.parameters()).dtype))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Predict the quantity that the network is trained for.

        Args:
            x: noisy states (B, channels, h, w), scaled by the schedule for the network.
            t: raw indices (B,) of the schedule, which need not be integers.
            condition: condition (B, condition_channels, h, w) with values in [-1, 1].

        Returns:
            (B, channels, h, w) in the type of `x`, not clamped.

        Raises:
            InputError: the condition has another size than `x`.
        """
        if condition.shape[-2:] != x.shape[-2:]:
            raise InputError(
                f"the condition of the Swin U-Net has size {tuple(condition.shape[-2:])} and its input "
                f"{tuple(x.shape[-2:])}: give a condition of the input's size"
            )
        height, width = x.shape[-2:]
        embedded = self.embed(t)
        h = pad_to_multiple(torch.cat([x, condition.to(x.dtype)], dim=1), self.multiple).to(embedded.dtype)
        skips = []
        for stage in self.input_blocks:
            h = stage(h, embedded)
            skips.append(h)
        h = self.middle_block(h, embedded)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], dim=1), embedded)
        with torch.autocast(h.device.type, enabled=False):
            h = self.out(h.to(embedded.dtype))
        return h[..., :height, :width].to(x.dtype)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad (B, C, H, W) at right and bottom until both sides are multiples of a number.

    A side is padded by reflection, or by repeating its border if it is too short for the reflection.
    """
    below, right = (-side % multiple for side in x.shape[-2:])
    for missing, side, padding in ((below, x.shape[-2], (0, 0, 0, below)), (right, x.shape[-1], (0, right, 0, 0))):
        if missing:
            x = F.pad(x, padding, mode="reflect" if missing < side else "replicate")
    return x


def _check_attention(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"{name} = {number} of the Swin U-Net must be at least 1; attention_sizes=[] has none")


def _sizes(
    multipliers: Sequence[int], res_blocks: Sequence[int], image_size: int, attention_sizes: Sequence[int]
) -> list[int]:
    """Return the size of each level, the finest first, after checking that the arguments are consistent."""
    levels = len(multipliers)
    if not levels or len(res_blocks) != levels or min(*multipliers, *res_blocks) < 1:
        raise InputError(
            f"multipliers = {list(multipliers)} and res_blocks = {list(res_blocks)} of the Swin U-Net: give one "
            "positive number for each level to both"
        )
    if image_size < 1 or image_size % 2 ** (levels - 1):
        raise InputError(
            f"image_size = {image_size} of the Swin U-Net cannot be halved {levels - 1} times: give a multiple of "
            f"{2 ** (levels - 1)}"
        )
    sizes = [image_size // 2**level for level in range(levels)]
    if unknown := [size for size in attention_sizes if size not in sizes]:
        raise InputError(
            f"attention_sizes = {list(attention_sizes)} of the Swin U-Net name {unknown[0]}, but its levels have the "
            f"sizes {sizes}: list some of these"
        )
    return sizes
