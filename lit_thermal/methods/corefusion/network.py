"""CoReFusion's network: two encoders, fusion at every level, one U-Net decoder (paper section 3, Fig. 2)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.fusion import Camera, Fusion
from lit_thermal.blocks.image_encoder import ImageEncoder, Pyramid
from lit_thermal.blocks.projection_head import ProjectionHead
from lit_thermal.blocks.pyramid_decoder import PyramidDecoder, UNetDecoder
from lit_thermal.errors import InputError, check_choice

Head = Literal["direct", "residual"]
Activation = Literal["Tanh", "ReLU", "Sigmoid"]


class Restored(NamedTuple):
    """Result of a forward pass."""

    image: Tensor
    """(B, 1, H, W), black at -1 and white at 1, not clipped."""
    guide_embedding: Tensor | None
    """(N, width) visible embeddings of the N complete samples, in batch order; None outside training."""
    thermal_embedding: Tensor | None
    """(N, width) thermal embeddings of the same samples; None outside training."""
    deepest: tuple[Tensor, ...] = ()
    """Deepest features of both encoders, before the fusion; those of an encoder without samples are left out."""


class CoReFusionNetwork(nn.Module):
    """Restore a full-size thermal image from its enlarged low-resolution version and a visible image.

    Features are fused at every stride that both encoders share; the decoder starts from the deepest and takes the
    others as skips. A sample that lacks one camera is decoded from the other encoder's features alone, as `fusion`
    defines. An encoder processes only the samples that have its camera, so absent images are never read, and in eval
    mode a sample does not depend on the others in its batch.

    Args:
        guide_encoder: makes the encoder of the visible image.
        thermal_encoder: makes the encoder of the thermal image, which is repeated to three channels. The fused features
            have its widths; where the guide's widths differ, a 1x1 convolution maps them.
        fusion: makes the fusion block of a level from its number of channels.
        projection: makes a contrastive head from the channels of the deepest level; it reads the features of one
            camera before the fusion.
        decoder_channels: channels of the decoder's stages, the deepest first; the last entries are used.
        head: `direct` gives the activation of the last convolution (paper); `residual` adds that convolution,
            initialised to zero, to the enlarged input, or to middle gray if the input is missing.
        activation: output activation of the direct head (paper: Tanh). Outputs of Sigmoid and ReLU in [0, 1] are mapped
            to [-1, 1] with black at -1.
        decoder: makes the decoder from the widths of the fused features by stride and from `decoder_channels`. Results
            that are coarser than the image have `stride**2` channels, which a pixel shuffle rearranges.

    Raises:
        InputError: the encoders share no stride, or there are too few decoder channels.
    """

    def __init__(
        self,
        guide_encoder: Callable[[], ImageEncoder],
        thermal_encoder: Callable[[], ImageEncoder],
        fusion: Callable[[int], Fusion],
        projection: Callable[[int], ProjectionHead],
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        head: Head = "direct",
        activation: Activation = "Tanh",
        decoder: Callable[[Mapping[int, int], Sequence[int]], PyramidDecoder] = UNetDecoder,
    ) -> None:
        super().__init__()
        check_choice(head, Head, "model.head")
        check_choice(activation, Activation, "model.activation")
        self.guide_encoder, self.thermal_encoder = guide_encoder(), thermal_encoder()
        guide, thermal = self.guide_encoder.widths, self.thermal_encoder.widths
        self.strides = [stride for stride in thermal if stride in guide]
        if not self.strides:
            raise InputError(
                f"the encoders of CoReFusion have no stride in common: {list(guide)} of the guide, {list(thermal)} of "
                "the thermal image; choose others or change their depth"
            )
        self.adapters = nn.ModuleList(
            nn.Identity() if guide[s] == thermal[s] else nn.Conv2d(guide[s], thermal[s], 1) for s in self.strides
        )
        self.fusions = nn.ModuleList(fusion(thermal[s]) for s in self.strides)
        self.stride = self.strides[-1]
        """Stride of the deepest features that both encoders have."""
        self.deepest = max(*guide, *thermal)
        """Image sides are padded to multiples of this, the deepest stride of either encoder."""
        self.guide_head, self.thermal_head = projection(guide[self.stride]), projection(thermal[self.stride])
        self.decoder = decoder({stride: thermal[stride] for stride in self.strides}, decoder_channels)
        self.output = nn.Conv2d(self.decoder.width, self.decoder.stride**2, 3, padding=1)
        if head == "residual":
            nn.init.zeros_(self.output.weight)
        else:
            nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]
        self.head, self.activation = head, activation

    def forward(
        self,
        guide: Tensor,
        thermal: Tensor,
        has_guide: Tensor,
        has_thermal: Tensor,
        decode: bool = True,
        base: Tensor | None = None,
    ) -> Restored:
        """Restore a batch.

        Args:
            guide: (B, 3, H, W) visible images in [0, 1]; content is ignored where absent.
            thermal: (B, 1, H, W) enlarged thermal images in [0, 1]; content is ignored where absent.
            has_guide: (B,) bool, which samples have a visible image.
            has_thermal: (B,) bool, which samples have a thermal image; each sample has at least one of the two.
            decode: decode the image; if False, as in contrastive pretraining, the thermal input is returned instead.
            base: (B, 1, H, W) images in [0, 1] that the residual head adds to, which the thermal encoder sees too; by
                default the enlarged thermal images.
        """
        height, width = thermal.shape[-2:]
        guide, thermal = self._padded(guide), self._padded(thermal)
        base = thermal if base is None else self._padded(base)
        guide_features = self._encode(self.guide_encoder, guide, has_guide)
        thermal_features = self._encode(self.thermal_encoder, torch.cat([thermal, base, base], 1), has_thermal)
        embeddings = self._embed(guide_features, thermal_features, has_guide, has_thermal)
        deepest = tuple(f[self.stride] for f in (guide_features, thermal_features) if f)
        base = torch.where(has_thermal.view(-1, 1, 1, 1), 2 * base - 1, 0.0)
        if not decode:
            return Restored(base[..., :height, :width], *embeddings, deepest)
        # Full precision also under autocast: bfloat16 is no finer than the gray levels of 8 bits.
        image = self._decode(self._fuse(guide_features, thermal_features, has_guide, has_thermal)).float()
        if self.head == "residual":
            image = base + image
        elif self.activation == "Tanh":
            image = image.tanh()
        else:
            image = 2 * getattr(F, self.activation.lower())(image) - 1
        return Restored(image[..., :height, :width], *embeddings, deepest)

    def _padded(self, image: Tensor) -> Tensor:
        """Pad by repeating the right and bottom edges until both sides are multiples of the deepest stride."""
        down, right = (-side % self.deepest for side in image.shape[-2:])
        return F.pad(image, (0, right, 0, down), mode="replicate") if down or right else image

    def _encode(self, encoder: ImageEncoder, image: Tensor, present: Tensor) -> Pyramid:
        """Return the features of the samples that are present, in batch order; an empty pyramid if there are none.

        Raises:
            InputError: the deepest features have a single value per channel in training, which cannot be normalised.
        """
        if not torch.compiler.is_exporting():  # an exported network reads no values and has both cameras
            if not present.any():
                return {}
            image = image if present.all() else image[present]
        # the size is read in training only: an export would fix it
        one_pixel = self.training and image.shape[0] == 1 and max(image.shape[-2:]) == max(encoder.widths)
        if one_pixel and any(isinstance(layer, nn.BatchNorm2d) for layer in encoder.modules()):
            raise InputError(
                f"a training batch has one image for an encoder, which at {image.shape[-1]}x{image.shape[-2]} makes "
                "one pixel of it, too little for batch normalization: raise data.crop or data.batch_size"
            )
        pyramid = encoder(image)
        return {stride: pyramid[stride] for stride in self.strides}

    def _embed(
        self, guide_features: Pyramid, thermal_features: Pyramid, has_guide: Tensor, has_thermal: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the contrastive embeddings of the complete samples, which only training uses."""
        if not self.training:
            return None, None
        complete = has_guide & has_thermal
        embeddings = []
        for head, features, present in (
            (self.guide_head, guide_features, has_guide),
            (self.thermal_head, thermal_features, has_thermal),
        ):
            # An encoder without samples gives an empty set of features, so that every process still calls every head.
            deepest = features[self.stride] if features else torch.zeros(0, head.dim, 1, 1, device=complete.device)
            embeddings.append(head(deepest[complete[present]]))
        return embeddings[0], embeddings[1]

    def _fuse(
        self, guide_features: Pyramid, thermal_features: Pyramid, has_guide: Tensor, has_thermal: Tensor
    ) -> list[Tensor]:
        """Return the fused features of each stride, the finest first."""
        complete = has_guide & has_thermal
        exporting = torch.compiler.is_exporting()
        all_complete, some_complete = exporting or bool(complete.all()), exporting or bool(complete.any())
        fused: list[Tensor] = []
        for stride, adapter, fusion in zip(self.strides, self.adapters, self.fusions, strict=True):
            a = adapter(guide_features[stride]) if guide_features else None
            b = thermal_features.get(stride)
            assert isinstance(fusion, Fusion)
            parts: list[tuple[Tensor, Tensor]] = []
            if a is not None and b is not None and some_complete:
                if all_complete:
                    fused.append(fusion(a, b))
                    continue
                parts.append((complete, fusion(a[complete[has_guide]], b[complete[has_thermal]])))
            cameras: tuple[tuple[Camera, Tensor | None, Tensor], ...]
            cameras = ("guide", a, has_guide), ("thermal", b, has_thermal)
            for name, features, present in cameras:
                alone = present & ~complete
                if features is not None and alone.any():
                    parts.append((alone, fusion.alone(features[alone[present]], name)))
            level = parts[0][1].new_zeros(len(complete), *parts[0][1].shape[1:])
            for samples, part in parts:
                level[samples] = part.to(level.dtype)
            fused.append(level)
        return fused

    def _decode(self, levels: list[Tensor]) -> Tensor:
        """Return the last convolution (B, 1, H, W) of the decoded features."""
        features = self.decoder(dict(zip(self.strides, levels, strict=True)))
        return F.pixel_shuffle(self.output(features), self.decoder.stride)
