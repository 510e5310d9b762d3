"""Projection heads: map the deepest features of an encoder to the vector that a contrastive loss compares."""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn import functional as F


class ProjectionHead(nn.Module, ABC):
    """Base of the family: one vector for each feature map, not normalised (the loss does that).

    Subclasses must accept batches of any size in training, including one sample and none, and keep them in the graph.

    Args:
        dim: number of channels of the features.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, dim, H, W) to vectors (B, width)."""


class MLPProjection(ProjectionHead):
    """The head of CoReFusion: mean over pixels, then twice a linear layer and batch norm, with a ReLU in between.

    Args:
        dim: number of channels of the features.
        hidden: width of the hidden layer.
        width: length of the vector.
    """

    def __init__(self, dim: int, hidden: int = 512, width: int = 64) -> None:
        super().__init__(dim)
        # The indices of the layers are those in the released weights.
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(dim, hidden),
            _SmallBatchNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, width),
            _SmallBatchNorm(width),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, dim, H, W) to vectors (B, width)."""
        return self.layers(features)


class _SmallBatchNorm(nn.BatchNorm1d):
    """Batch norm that also accepts one sample, or none, in training.

    A single sample has no variance, and torch raises an error. Such a batch, which occurs when most samples lack a
    camera, is normalised by the running statistics and does not update them.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C)."""
        if self.training and len(input) < 2:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)
