"""Skip connections of an autoencoder: what its decoder sees of the image that was encoded."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


class SkipConnection(nn.Module, ABC):
    """Base of the family: joins features of the encoder to those of the decoder, level by level.

    What must hold: shape and size of the decoder's features stay; each image is joined by itself.

    Args:
        encoder_widths: channels of the inputs of the encoder's blocks, the finest first.
        decoder_widths: channels of the inputs of the decoder's blocks, the coarsest first.
    """

    def __init__(self, encoder_widths: Sequence[int], decoder_widths: Sequence[int]) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, level: int, features: Tensor, tap: Tensor) -> Tensor:
        """Return what goes into a block of the decoder.

        Args:
            level: index of the block, the coarsest first.
            features: (B, C, h, w) before it.
            tap: (B, C', h, w), the input of the encoder's block of the same size.
        """


class ZeroSkip(SkipConnection):
    """Adds a 1x1 convolution of the encoder's features, which starts as a constant (3M-TI section 3.2: zero).

    It has no bias. The released 3M-TI starts from 1e-5; its convolutions are named as here, below `decoder`.

    Args:
        encoder_widths: channels of the inputs of the encoder's blocks, the finest first.
        decoder_widths: channels of the inputs of the decoder's blocks, the coarsest first.
        init: value of every weight at the start.
    """

    def __init__(self, encoder_widths: Sequence[int], decoder_widths: Sequence[int], init: float = 0.0) -> None:
        super().__init__(encoder_widths, decoder_widths)
        pairs = zip(reversed(encoder_widths), decoder_widths, strict=True)
        for index, (taken, wanted) in enumerate(pairs):
            conv = nn.Conv2d(taken, wanted, kernel_size=1, bias=False)
            nn.init.constant_(conv.weight, init)
            self.add_module(f"skip_conv_{index + 1}", conv)

    def forward(self, level: int, features: Tensor, tap: Tensor) -> Tensor:
        """Return the sum (B, C, h, w) of the decoder's features and the convolution of the encoder's."""
        return features + self.get_submodule(f"skip_conv_{level + 1}")(tap)


class NoSkip(SkipConnection):
    """The decoder sees the latent only (3M-TI table 4, "w/o Skip")."""

    def forward(self, level: int, features: Tensor, tap: Tensor) -> Tensor:
        """Return the decoder's features (B, C, h, w) as they are."""
        return features
