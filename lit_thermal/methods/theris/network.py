"""The network of THERIS: encoder, thermal diffusion interpolation, thermal state space, decoder."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lit_thermal.batch import is_observed
from lit_thermal.blocks.scan_order import Hilbert, ScanOrder, SpatialFirst, TemporalFirst
from lit_thermal.blocks.spectral_mask import SpectralMask, ZeroPhaseMask
from lit_thermal.blocks.state_space import PromptFactory, StateSpace
from lit_thermal.blocks.temporal_interpolation import TemporalInterpolation, ThermalDiffusionInterpolation
from lit_thermal.blocks.thermal_prompt import ThermalPrompt
from lit_thermal.blocks.time_embedding import TimeEmbedding
from lit_thermal.blocks.token_mixer import TokenMixer
from lit_thermal.errors import InputError, check_choice
from lit_thermal.ops.resize import resize

DecoderName = Literal["stages", "shuffle"]
Enlargement = Literal["bilinear", "bicubic"]
MaskFactory = Callable[[int, bool], SpectralMask]
MixerFactory = Callable[[int, int, ScanOrder, PromptFactory, int, int, bool], TokenMixer]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a ReLU in between, added to the input; no normalisation.

    Args:
        dim: number of channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1), nn.ReLU(), nn.Conv2d(dim, dim, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, dim, H, W) to the same shape."""
        return x + self.body(x)


class ConvolutionalFeedForward(nn.Module):
    """1x1 convolution to twice the width, GELU, depthwise 3x3 convolution, 1x1 convolution back; channels last.

    Args:
        dim: number of channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv2d(2 * dim, 2 * dim, 3, padding=1, groups=2 * dim)
        self.reduce = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, H, W, dim) to the same shape."""
        hidden = rearrange(F.gelu(self.expand(x)), "b t h w c -> (b t) c h w")
        hidden = rearrange(self.depthwise(hidden), "(b t) c h w -> b t h w c", b=x.shape[0])
        return self.reduce(hidden)


class ThermalStateSpaceBlock(nn.Module):
    """TSSM of THERIS: spectral mask, one state space sub-block per scan order, feed-forward; all residual.

    The paper names the parts; their order, the learnable scale of each branch and the feed-forward are this project's.

    Args:
        dim: number of channels.
        mask: spectral mask.
        mixers: sub-blocks of the scan orders, applied in sequence.
    """

    def __init__(self, dim: int, mask: SpectralMask, mixers: Sequence[TokenMixer]) -> None:
        super().__init__()
        self.mask = mask
        self.mixers = nn.ModuleList(mixers)
        self.norms = nn.ModuleList(nn.LayerNorm(dim, eps=1e-6) for _ in range(len(mixers) + 1))
        self.scales = nn.Parameter(torch.ones(len(mixers) + 1, dim))
        self.feed_forward = ConvolutionalFeedForward(dim)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """Map tokens (B, T, H, W, dim), given embedded times (T, embedding), to the same shape."""
        x = rearrange(self.mask(rearrange(x, "b t h w c -> (b t) h w c")), "(b t) h w c -> b t h w c", b=x.shape[0])
        for mixer, norm, scale in zip(self.mixers, self.norms, self.scales, strict=False):
            x = x + scale * mixer(norm(x), embedded)
        return x + self.scales[-1] * self.feed_forward(self.norms[-1](x))


class Decoder(nn.Module):
    """Residual blocks, then one 3x3 convolution and pixel shuffle for each doubling, then two 3x3 convolutions.

    The last convolution starts at zero, so that an untrained network returns its base image.

    Args:
        dim: number of channels of the features.
        width: number of channels at full resolution.
        blocks: number of residual blocks.
        scale: enlargement factor, a power of two.
        outputs: number of channels of the image.
    """

    def __init__(self, dim: int, width: int, blocks: int, scale: int, outputs: int = 1) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[ResidualBlock(dim) for _ in range(blocks)])
        doublings = int(math.log2(scale))
        stages: list[nn.Module] = []
        for stage in range(doublings):
            features = width if stage == doublings - 1 else dim
            stages += [nn.Conv2d(dim, 4 * features, 3, padding=1), nn.PixelShuffle(2), nn.LeakyReLU(0.1)]
        self.enlarge = nn.Sequential(*stages)
        self.refine = nn.Conv2d(width, width, 3, padding=1)
        self.to_image = nn.Conv2d(width, outputs, 3, padding=1)
        nn.init.zeros_(self.to_image.weight)
        assert self.to_image.bias is not None
        nn.init.zeros_(self.to_image.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, dim, h, w) to (N, outputs, scale * h, scale * w)."""
        enlarged = self.enlarge(self.blocks(features))
        return self.to_image(F.leaky_relu(self.refine(enlarged), 0.1))


class ShuffleDecoder(nn.Module):
    """Residual blocks, then one 3x3 convolution and one pixel shuffle to full resolution.

    Everything is computed at the resolution of the input, which makes a training step of a small network cheaper than
    with `Decoder`. The last convolution starts at zero, so that an untrained network returns its base image.

    Args:
        dim: number of channels of the features.
        blocks: number of residual blocks.
        scale: enlargement factor.
        outputs: number of channels of the image.
    """

    def __init__(self, dim: int, blocks: int, scale: int, outputs: int = 1) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[ResidualBlock(dim) for _ in range(blocks)])
        self.to_image = nn.Conv2d(dim, outputs * scale**2, 3, padding=1)
        self.scale = scale
        nn.init.zeros_(self.to_image.weight)
        assert self.to_image.bias is not None
        nn.init.zeros_(self.to_image.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, dim, h, w) to (N, outputs, scale * h, scale * w)."""
        return F.pixel_shuffle(self.to_image(self.blocks(features)), self.scale)


class THERISNetwork(nn.Module):
    """Space-time super-resolution of thermal video: low-resolution frames to high-resolution frames at any times.

    The paper does not state the sizes; the defaults are the scale that this project publishes.

    Args:
        scale: spatial scale, a power of two.
        interpolation: makes the temporal interpolation from (channels, embedding).
        scans: scan orders of each block, applied in sequence; an empty sequence leaves the scans out.
        mask: makes the spectral mask from (channels, mask_norm).
        prompt: makes the read-out prompt from (embedding, directions, state, content).
        mixer: makes the sub-block of a scan order from (channels, embedding, order, prompt, state, expansion, shared).
        channels: number of feature channels C.
        depth: number of thermal state space blocks M; 0 decodes the interpolated features directly.
        encoder_blocks: number of residual blocks of the encoder.
        decoder_blocks: number of residual blocks of the decoder.
        embedding: width of the time embedding.
        state: state size N of the scans.
        expansion: inner width of the scans as a multiple of C.
        shared_directions: share one set of parameters between the two scan directions.
        mask_norm: apply the spectral mask to a normalised copy, which is scaled and added; otherwise to the features.
        decoder_width: number of channels at full resolution; the decoder "shuffle" has none.
        decoder: decoder of the features: doublings in "stages" with convolutions at full resolution, or a single pixel
            "shuffle" of what is computed at the resolution of the input.
        skip: frames to which the enlargement of the linear blend of the neighbouring input frames is added: `all`
            frames, only the `observed` ones (at an input frame's time), or `none`.
        enlargement: enlargement of the input frames that the skip adds, "bilinear" or "bicubic" (a = -0.5).
        checkpoint_blocks: recompute each block in the backward pass, which saves memory.
        image_channels: number of channels of the frames, in and out; thermal images of this project have one.

    Raises:
        InputError: the scale is not a power of two, or a size is too small.
    """

    def __init__(
        self,
        scale: int = 4,
        interpolation: Callable[[int, int], TemporalInterpolation] = ThermalDiffusionInterpolation,
        scans: Sequence[ScanOrder] = (SpatialFirst(), TemporalFirst(), Hilbert()),
        mask: MaskFactory = ZeroPhaseMask,
        prompt: PromptFactory = ThermalPrompt,
        mixer: MixerFactory = StateSpace,
        channels: int = 64,
        depth: int = 8,
        encoder_blocks: int = 5,
        decoder_blocks: int = 10,
        embedding: int = 64,
        state: int = 16,
        expansion: int = 2,
        shared_directions: bool = False,
        mask_norm: bool = True,
        decoder_width: int = 64,
        decoder: DecoderName = "stages",
        skip: Literal["all", "observed", "none"] = "all",
        enlargement: Enlargement = "bilinear",
        checkpoint_blocks: bool = False,
        image_channels: int = 1,
    ) -> None:
        super().__init__()
        if scale < 2 or scale & (scale - 1):
            raise InputError(f"THERIS enlarges by powers of two (2, 4, 8), not by scale = {scale}")
        if min(channels, embedding, state, expansion, decoder_width, image_channels) < 1:
            raise InputError(
                "model.network.channels, embedding, state, expansion, decoder_width and image_channels must be at "
                f"least 1, not {channels}, {embedding}, {state}, {expansion}, {decoder_width} and {image_channels}"
            )
        if min(depth, encoder_blocks, decoder_blocks) < 0:
            raise InputError(
                "model.network.depth, encoder_blocks and decoder_blocks must be at least 0, not "
                f"{depth}, {encoder_blocks} and {decoder_blocks}"
            )
        check_choice(decoder, DecoderName, "model.network.decoder")
        check_choice(enlargement, Enlargement, "model.network.enlargement")
        self.scale = scale
        self.skip = skip
        self.enlargement: Enlargement = enlargement
        self.checkpoint_blocks = checkpoint_blocks
        self.encoder = nn.Sequential(
            nn.Conv2d(image_channels, channels, 3, padding=1),
            nn.LeakyReLU(0.1),
            *[ResidualBlock(channels) for _ in range(encoder_blocks)],
        )
        self.time_embedding = TimeEmbedding(embedding)
        self.interpolation = interpolation(channels, embedding)
        self.blocks = nn.ModuleList(
            ThermalStateSpaceBlock(
                channels,
                mask(channels, mask_norm),
                [mixer(channels, embedding, order, prompt, state, expansion, shared_directions) for order in scans],
            )
            for _ in range(depth)
        )
        self.long_skip = nn.Conv2d(channels, channels, 3, padding=1)
        self.decoder: nn.Module = (
            ShuffleDecoder(channels, decoder_blocks, scale, image_channels)
            if decoder == "shuffle"
            else Decoder(channels, decoder_width, decoder_blocks, scale, image_channels)
        )

    def undecayed(self) -> list[nn.Parameter]:
        """Return the parameters that weight decay must not change."""
        return [p for m in self.modules() if isinstance(m, TokenMixer) for p in m.undecayed()]

    def forward(self, lr: Tensor, tau: Tensor, temporal_scale: int) -> Tensor:
        """Restore frames at the given times.

        Args:
            lr: (B, X, C, h, w) input frames at times 0, 1, ..., X - 1, values in [0, 1].
            tau: (T,) output times in input frames, each in [0, X - 1].
            temporal_scale: output steps between two input frames, an input of the time embedding.

        Returns:
            (B, T, C, scale * h, scale * w), not clamped.

        Raises:
            InputError: there are too few frames for the interpolation, or a time is out of range.
        """
        batch, count = lr.shape[:2]
        features = self.encoder(lr.flatten(0, 1)).unflatten(0, (batch, count))
        embedded = self.time_embedding(tau, count, temporal_scale)
        enlarged = self._enlarged(lr.flatten(0, 1)).unflatten(0, (batch, count))
        start, base = self.interpolation.interpolate(features, lr, enlarged, tau, embedded)
        tokens = rearrange(start, "b t c h w -> b t h w c")
        for block in self.blocks:
            if self.checkpoint_blocks and self.training:
                tokens = checkpoint(block, tokens, embedded, use_reentrant=False)
            else:
                tokens = block(tokens, embedded)
        mixed = rearrange(tokens, "b t h w c -> (b t) c h w")
        output = self.decoder(mixed + self.long_skip(start.flatten(0, 1))).unflatten(0, (batch, len(tau)))
        if self.skip == "none":
            return output
        if self.skip == "observed":
            base = base * is_observed(tau).to(base)[:, None, None, None]
        return output + base

    def _enlarged(self, frames: Tensor) -> Tensor:
        if self.enlargement == "bilinear":
            return F.interpolate(frames, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return resize(frames, (frames.shape[-2] * self.scale, frames.shape[-1] * self.scale), a=-0.5)
