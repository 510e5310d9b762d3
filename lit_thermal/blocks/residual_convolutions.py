"""Residual convolutions without normalisation, shared by small encoders and decoders."""

from torch import Tensor, nn
from torch.nn import functional as F


class ResidualConvolutions(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, added to their input; an untrained block changes nothing.

    Args:
        width: number of channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        assert self.second.bias is not None
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        return x + self.second(F.relu(self.first(F.relu(x))))
