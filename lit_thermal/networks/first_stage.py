"""First stages: map images to the space of a diffusion, either pixels or the latents of an autoencoder."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.pretrained import check_shapes, pretrained_wanted, read_weights, unwrapped
from lit_thermal.errors import InputError
from lit_thermal.files import is_plain
from lit_thermal.networks.vq_autoencoder import VQAutoencoder

PUBLISHED = "https://github.com/zsyOAOA/ResShift/releases/download/v2.0/autoencoder_vq_f4.pth"


class FirstStage(nn.Module, ABC):
    """Base of the family: maps a thermal image to the latent that is diffused, and a latent back to an image.

    Subclasses must map each image independently, make `decode` differentiable in the latent, and return float32, under
    autocast too.

    Attributes:
        channels: number of channels of the latent.
        factor: ratio of the image's side to the latent's side.
        bounded: whether the latents of images are in [-1, 1], so that estimates may be clipped to that range.
    """

    channels: int
    factor: int
    bounded: bool

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Return the latent (B, channels, H / factor, W / factor) of an image (B, 1, H, W) in [-1, 1].

        Raises:
            InputError: a side is not a multiple of `factor`.
        """

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """Return the image (B, 1, h * factor, w * factor) of a latent (B, channels, h, w).

        The image is nominally in [-1, 1] and not clamped.
        """

    def check(self, image: Tensor) -> None:
        """Check that the sides of an image (B, 1, H, W) are multiples of `factor`.

        Raises:
            InputError: a side is not a multiple of `factor`.
        """
        height, width = image.shape[-2:]
        if height % self.factor or width % self.factor:
            raise InputError(
                f"an image of {height}x{width} pixels has no latent: {type(self).__name__} needs sides that are "
                f"multiples of {self.factor}; crop it, or take another model.first_stage"
            )


class PixelSpace(FirstStage):
    """No first stage: the diffusion runs on the image itself. There are no weights to train or to load.

    Args:
        unshuffle: side of the pixel blocks that are rearranged into channels, so that networks process a smaller image;
            1 rearranges nothing.

    Raises:
        InputError: unshuffle is less than 1.
    """

    def __init__(self, unshuffle: int = 1) -> None:
        super().__init__()
        if unshuffle < 1:
            raise InputError(f"unshuffle {unshuffle} of PixelSpace: give 1 (none) or more")
        self.factor = unshuffle
        self.channels = unshuffle**2
        self.bounded = True

    def encode(self, image: Tensor) -> Tensor:
        """Return the pixels of an image (B, 1, H, W), with blocks of pixels rearranged into channels."""
        self.check(image)
        return F.pixel_unshuffle(image.float(), self.factor)

    def decode(self, latent: Tensor) -> Tensor:
        """Return the image (B, 1, H, W) of a latent, with channels moved back into pixels."""
        return F.pixel_shuffle(latent.float(), self.factor)


class VQFirstStage(FirstStage):
    """The frozen VQ autoencoder of latent diffusion, by default the "VQ-f4" that ResShift, SinSR and DifIISR use.

    The autoencoder expects colour images: a thermal image is repeated as three channels, and the three output channels
    are averaged. The latent is not quantised; `decode` quantises it with a straight-through gradient. The autoencoder
    is never trained and always in eval mode. Under autocast its convolutions run in the lower precision; norms, the
    layers next to the latent, and the distances to codebook entries stay in float32.

    Args:
        weights: file in the published layout, such as `autoencoder_vq_f4.pth` of ResShift's release v2.0; names may
            have the prefixes `module.` or `_orig_mod.`, and the weights may be below the key `state_dict`. If empty,
            weights are random, for tests or because a checkpoint is loaded next.
        channels: width of each level, the finest first; each level but the first halves the size.
        layers: number of residual blocks per level of the encoder; the decoder has one more.
        codebook: number of entries of the codebook.
        latent_channels: number of channels of the latent.

    Raises:
        InputError: the file does not exist, cannot be read or has other shapes; or a size is invalid.
    """

    def __init__(
        self,
        weights: str = "",
        channels: Sequence[int] = (128, 256, 512),
        layers: int = 2,
        codebook: int = 8192,
        latent_channels: int = 3,
    ) -> None:
        super().__init__()
        self.autoencoder = VQAutoencoder(channels, layers, codebook, latent_channels)
        self.channels = latent_channels
        self.factor = self.autoencoder.factor
        self.bounded = False
        if weights and pretrained_wanted():
            _load(self.autoencoder, Path(weights))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "VQFirstStage":
        """Stay in eval mode, even if the surrounding model is trained."""
        super().train(False)
        return self

    def encode(self, image: Tensor) -> Tensor:
        """Return the latent of an image (B, 1, H, W) in [-1, 1], without quantisation."""
        self.check(image)
        return self.autoencoder.encode(image.expand(-1, 3, -1, -1)).float()

    def decode(self, latent: Tensor) -> Tensor:
        """Return the image (B, 1, H, W) of the codebook entries nearest to a latent."""
        return self.autoencoder.decode(latent).float().mean(1, keepdim=True)


def _load(autoencoder: VQAutoencoder, path: Path) -> None:
    if not is_plain(path):
        raise InputError(
            f"there is no file {path} with the weights of the first stage: download {PUBLISHED} and give its path by "
            "model.first_stage.weights"
        )
    state, own = unwrapped(read_weights(path)), autoencoder.released_state()
    check_shapes(
        state,
        own,
        path,
        of="VQ autoencoder",
        advice="give autoencoder_vq_f4.pth of ResShift's release v2.0 by model.first_stage.weights, or its channels, "
        "layers, codebook and latent_channels as the file has them",
        first="quantize.embedding.weight",
    )
    autoencoder.load_released(state)
