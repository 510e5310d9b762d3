"""Thermal prompts: what the time embedding adds to the read-out of a state space model."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class ReadoutPrompt(nn.Module, ABC):
    """Base of the family: one additive term T for the read-out matrix C of each direction and frame.

    What must hold: the prompt changes how the state is read, never the state; before training it is zero, so that
    the block starts as plain Mamba.

    Args:
        embedding: width of the time embedding.
        directions: scan directions.
        state: state size N.
    """

    def __init__(self, embedding: int, directions: int, state: int) -> None:
        super().__init__()
        self.directions = directions
        self.state = state

    @abstractmethod
    def forward(self, embedded: Tensor) -> Tensor:
        """Prompt (directions, state, T) for embedded times (T, embedding)."""


class ThermalPrompt(ReadoutPrompt):
    """The adapter Psi of THERIS: ``C + T`` with T from the time embedding.

    The paper states C + T and an adapter; its layers (half the embedding's width, SiLU, zero start) are ours.

    Args:
        embedding: width of the time embedding.
        directions: scan directions.
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
        """Prompt (directions, state, T) for embedded times (T, embedding)."""
        return self.adapter(embedded).T.reshape(self.directions, self.state, -1)


class NoThermalPrompt(ReadoutPrompt):
    """No prompt: plain Mamba ("w/o Thermal Prompt" of THERIS' ablation)."""

    def forward(self, embedded: Tensor) -> Tensor:
        """Zeros (directions, state, T)."""
        return torch.zeros(self.directions, self.state, len(embedded), dtype=embedded.dtype, device=embedded.device)
