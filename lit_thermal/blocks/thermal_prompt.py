"""Thermal prompts: terms made from the time embedding that are added to the read-out of a state space model."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class ReadoutPrompt(nn.Module, ABC):
    """Base of the family: one additive term T for the read-out matrix C of each direction and frame.

    The prompt changes only how the state is read, never the state. In subclasses it must be zero before training, so
    that the block starts as plain Mamba.

    Args:
        embedding: width of the time embedding.
        directions: number of scan directions.
        state: state size N.
    """

    def __init__(self, embedding: int, directions: int, state: int) -> None:
        super().__init__()
        self.directions = directions
        self.state = state

    @abstractmethod
    def forward(self, embedded: Tensor) -> Tensor:
        """Return the prompt (directions, state, T) for embedded times (T, embedding)."""


class ThermalPrompt(ReadoutPrompt):
    """The adapter Psi of THERIS: ``C + T`` with T from the time embedding.

    The paper specifies C + T and an adapter; the adapter's layers (half the embedding's width, SiLU, zero
    initialisation) are ours.

    Args:
        embedding: width of the time embedding.
        directions: number of scan directions.
        state: state size N.
    """

    def __init__(self, embedding: int, directions: int, state: int) -> None:
        super().__init__(embedding, directions, state)
        hidden = max(embedding // 2, 1)
        self.adapter = nn.Sequential(nn.Linear(embedding, hidden), nn.SiLU(), nn.Linear(hidden, directions * state))
        last = self.adapter[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, embedded: Tensor) -> Tensor:
        """Return the prompt (directions, state, T) for embedded times (T, embedding)."""
        return self.adapter(embedded).T.reshape(self.directions, self.state, -1)


class NoThermalPrompt(ReadoutPrompt):
    """No prompt: plain Mamba ("w/o Thermal Prompt" of THERIS' ablation)."""

    def forward(self, embedded: Tensor) -> Tensor:
        """Return zeros (directions, state, T)."""
        return torch.zeros(self.directions, self.state, len(embedded), dtype=embedded.dtype, device=embedded.device)
