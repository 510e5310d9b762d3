"""Skip connections of an autoencoder: pass features of the encoder to the decoder."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


class SkipConnection(nn.Module, ABC):
    """Base of the family: merges features of the encoder into those of the decoder, level by level.

    Subclasses must keep the shape of the decoder's features and process each image independently.

    Args:
        encoder_widths: channels of the inputs of the encoder's blocks, the finest first.
        decoder_widths: channels of the inputs of the decoder's blocks, the coarsest first.
    """

    def __init__(self, encoder_widths: Sequence[int], decoder_widths: Sequence[int]) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, level: int, features: Tensor, tap: Tensor) -> Tensor:
        """Return the input (B, C, h, w) of a block of the decoder.

        Args:
            level: index of the decoder's block, the coarsest first.
            features: output (B, C, h, w) of the previous block of the decoder.
            tap: input (B, C', h, w) of the encoder's block of the same size.
        """


class ZeroSkip(SkipConnection):
    """Adds a 1x1 convolution of the encoder's features, without bias and initialised with a constant.

    The constant is zero in 3M-TI section 3.2 and 1e-5 in the released code, where the convolutions have the same names
    below `decoder`.

    Args:
        encoder_widths: channels of the inputs of the encoder's blocks, the finest first.
        decoder_widths: channels of the inputs of the decoder's blocks, the coarsest first.
        init: initial value of every weight.
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
    """No skips: the decoder sees only the latent (3M-TI table 4, "w/o Skip")."""

    def forward(self, level: int, features: Tensor, tap: Tensor) -> Tensor:
        """Return the decoder's features (B, C, h, w) unchanged."""
        return features
