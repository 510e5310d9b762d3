"""Thermal prompts: terms that are added to the read-out of a state space model, made from time and content."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class ReadoutPrompt(nn.Module, ABC):
    """Base of the family: one additive term T for the read-out matrix C of each direction and frame.

    The prompt changes only how the state is read, never the state. In subclasses it must be zero before training, so
    that the block starts without a prompt.

    Args:
        embedding: width of the time embedding.
        directions: number of scan directions.
        state: state size N.
        content: width of the summary of a frame's content.
    """

    def __init__(self, embedding: int, directions: int, state: int, content: int) -> None:
        super().__init__()
        self.directions = directions
        self.state = state

    @abstractmethod
    def forward(self, embedded: Tensor, tokens: Tensor) -> Tensor:
        """Return the prompt (B, directions, state, T), or (1, directions, state, T) for all clips alike.

        Args:
            embedded: embedded times (T, embedding).
            tokens: tokens (B, T h w, content / 2) of the clip, of which `summary` says what each frame shows.
        """


def summary(tokens: Tensor, frames: int) -> Tensor:
    """Return mean and standard deviation over the pixels of each frame, (B, T, 2 C), of tokens (B, T h w, C)."""
    pixels = tokens.unflatten(1, (frames, -1))
    # The square root has no gradient at zero.
    deviation = (pixels.var(dim=2, correction=0) + 1e-6).sqrt()
    return torch.cat([pixels.mean(dim=2), deviation], dim=-1)


def _adapter(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return two layers of which the last starts at zero."""
    first, last = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(first, nn.SiLU(), last)


class ThermalPrompt(ReadoutPrompt):
    """The adapter Psi of THERIS: ``C + T`` with T from the time embedding.

    The paper specifies C + T and an adapter; the adapter's layers (half the embedding's width, SiLU, zero
    initialisation) are ours.

    Args:
        embedding: width of the time embedding.
        directions: number of scan directions.
        state: state size N.
        content: width of the summary of a frame's content, which is not read.
    """

    def __init__(self, embedding: int, directions: int, state: int, content: int) -> None:
        super().__init__(embedding, directions, state, content)
        self.adapter = _adapter(embedding, max(embedding // 2, 1), directions * state)

    def forward(self, embedded: Tensor, tokens: Tensor) -> Tensor:
        """Return the prompt (1, directions, state, T) for embedded times (T, embedding)."""
        return self.adapter(embedded).T.reshape(1, self.directions, self.state, -1)


class ContentPrompt(ReadoutPrompt):
    """A prompt from the time embedding and the content of the frame, so that a noisy frame can be read otherwise.

    The layers are those of `ThermalPrompt`, with the summary of the frame as a further input. Where a frame is cut into
    tiles, each tile has a prompt of its own.

    Args:
        embedding: width of the time embedding.
        directions: number of scan directions.
        state: state size N.
        content: width of the summary of a frame's content.

    Source: this project; THERIS (CVPR 2026) makes the prompt from the time alone.
    """

    def __init__(self, embedding: int, directions: int, state: int, content: int) -> None:
        super().__init__(embedding, directions, state, content)
        self.adapter = _adapter(embedding + content, max(embedding // 2, 1), directions * state)

    def forward(self, embedded: Tensor, tokens: Tensor) -> Tensor:
        """Return the prompt (B, directions, state, T) for embedded times (T, embedding) and tokens (B, T h w, C)."""
        times = embedded.expand(tokens.shape[0], -1, -1)
        inputs = torch.cat([times, summary(tokens, len(embedded)).to(times)], dim=-1)
        return self.adapter(inputs).transpose(1, 2).unflatten(1, (self.directions, self.state))


class NoThermalPrompt(ReadoutPrompt):
    """No prompt: plain Mamba ("w/o Thermal Prompt" of THERIS' ablation)."""

    def forward(self, embedded: Tensor, tokens: Tensor) -> Tensor:
        """Return zeros (1, directions, state, T)."""
        return embedded.new_zeros(1, self.directions, self.state, len(embedded))
