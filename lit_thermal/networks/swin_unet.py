"""The Swin U-Net of residual-shift diffusion: ResNet blocks told the time, and window attention at each level."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.networks.group_norm import WideGroupNorm
from lit_thermal.networks.window_attention import SwinLayer, SwinMask


class ResBlock(nn.Module):
    """Two 3x3 convolutions, the second of which sees the time by scale and shift and starts at zero; residual.

    Args:
        dim: channels in.
        width: channels out; where they differ the input passes a 1x1 convolution before it is added.
        embedding: width of the embedded time.
        dropout: before the second convolution.
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
        """(B, dim, H, W) and embedded times (B, embedding) to (B, width, H, W)."""
        scale, shift = self.emb_layers(embedded)[..., None, None].chunk(2, dim=1)
        norm, *layers = self.out_layers
        h = torch.addcmul(shift, norm(self.in_layers(x)), 1 + scale)
        for layer in layers:
            h = layer(h)
        return self.skip_connection(x) + h


class Downsample(nn.Module):
    """3x3 convolution of stride 2.

    Args:
        dim: channels in and out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(dim, dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to (B, dim, H / 2, W / 2)."""
        return self.op(x)


class Upsample(nn.Module):
    """Nearest neighbour to twice the size, then a 3x3 convolution.

    Args:
        dim: channels in and out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to (B, dim, 2 H, 2 W)."""
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Stage(nn.ModuleList):
    """Layers one after the other, of which the ResNet blocks are told the time."""

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """(B, C, H, W) and embedded times (B, embedding) to the last layer's features."""
        for layer in self:
            x = layer(x, embedded) if isinstance(layer, ResBlock) else layer(x)
        return x


class SwinUNet(nn.Module):
    """UNetModelSwin of ResShift, SinSR and DifIISR; the defaults are its published size of 118,593,583 parameters.

    Each level has ResNet blocks and, if its size is listed, one Swin layer after the first of them, on the way down
    and on the way up; so has the middle between its two ResNet blocks. Modules bear the names of the published
    weights. Any image size passes: it is padded at its right and bottom, as the released code does before the
    network, to what the attention's windows and the halvings need, and cropped in the end.

    Embedded times, normalisations and the output layers are computed in float32 under autocast, as the released
    half-precision inference has them.

    Args:
        channels: of the image that is denoised, and of the output.
        condition_channels: of the condition, which is joined to the input.
        width: channels of the first level, an even number.
        multipliers: channels of each level over `width`, the finest first.
        res_blocks: ResNet blocks of each level on the way down; there is one more on the way up.
        image_size: side of the images that the network is configured for. It gives the levels the sizes by which
            `attention_sizes` calls them, and levels of one window or less are never shifted, even for larger images.
        attention_sizes: sizes of the levels with Swin layers, at `image_size`; the middle goes with the last level.
        swin_depth: blocks of a Swin layer, of which every second has shifted windows.
        swin_width: channels inside a Swin layer.
        head_width: channels of an attention head, a divisor of `swin_width`.
        window: side of a window.
        mlp_ratio: hidden channels of a Swin block's MLP over `swin_width`.
        dropout: in the ResNet blocks.
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
        """Predict what the network is trained for.

        Args:
            x: (B, channels, h, w), scaled as the schedule scales its states for the network.
            t: (B,) raw indices of the schedule, integers or not.
            condition: (B, condition_channels, h, w), values in [-1, 1].

        Returns:
            (B, channels, h, w) in the type of `x`, not clamped.

        Raises:
            InputError: the condition is not of the size of `x`.
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
    """Pad (B, C, H, W) at its right and bottom until both sides are multiples.

    A side is padded by reflection, or by repeating its border where it is too short to be reflected that far.
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
    """Return the size of each level, the finest first, after checking that the levels fit each other."""
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
