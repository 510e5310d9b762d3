"""Codebooks: map the tokens of an image to code vectors, optionally adapted to its low-resolution observation."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from lit_thermal.errors import InputError, check_choice

HIDDEN = 32
"""Hidden width of the published network that maps a condition to one factor per rank."""

Acts = Literal["decode", "decode_and_embedding"]


class Codebook(nn.Module, ABC):
    """Base of the family: turns the codebook entries of a frozen tokenizer into the code vectors that are decoded.

    Subclasses must keep shapes, process each image independently, and be differentiable in codes, probabilities and
    condition. `soft` with one-hot probabilities must give the same result as `forward`.

    Args:
        entries: number of entries of the tokenizer's codebook.
        dim: number of values of an entry.
        width: number of channels of the condition.

    Attributes:
        acts: use of the result: only in the latent that is decoded to an image ("decode"), or also in the inputs of
            the transformer that predicts the tokens ("decode_and_embedding"). The target tokens never depend on it.
        placed: whether the condition includes the learnt position embeddings in training.
    """

    acts: Acts = "decode"
    placed: bool = False

    def __init__(self, entries: int, dim: int, width: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, ids: Tensor, codes: Tensor, condition: Tensor) -> Tensor:
        """Return the codes (B, n, dim) to use.

        Args:
            ids: tokens (B, n).
            codes: entries (B, n, dim) of the tokens in the tokenizer's codebook.
            condition: condition (B, width), shared by all tokens and scales of an image.
        """

    @abstractmethod
    def soft(self, probabilities: Tensor, codes: Tensor, condition: Tensor) -> Tensor:
        """Return the expected codes (B, n, dim) under distributions of tokens.

        Args:
            probabilities: probabilities of tokens (B, n, entries), which may be straight-through estimates.
            codes: mean entries (B, n, dim) of the tokenizer's codebook, `probabilities @ embedding.weight`.
            condition: condition (B, width) of each image.
        """


class ConditionAdaptiveCodebook(Codebook):
    """Adds to each entry a low-rank term that depends on a condition (Real-IISR eq. 2).

    e'(id) = e(id) + tanh(gate) (U[id] * h) V^T with h = MLP(condition): layer norm without affine, SiLU, linear to 32,
    SiLU, linear to the rank. U and V are initialised as in the released code (truncated normal, deviation 0.02).

    Args:
        entries: number of entries of the tokenizer's codebook.
        dim: number of values of an entry.
        width: number of channels of the condition.
        rank: rank of the added term.
        gate: initial value of the gate. It is 0 in the released code, where the term and all of its gradients except
            the gate's own vanish at first; at the released learning rate the gate then hardly opens.
        acts: use of the result. The paper replaces the static look-up everywhere ("decode_and_embedding"); the
            released code uses it only for decoding ("decode").
        placed: include the learnt position embeddings in the condition in training only, as the released code does.

    Raises:
        InputError: a size is less than 1, or `acts` is neither "decode" nor "decode_and_embedding".
    """

    def __init__(
        self,
        entries: int,
        dim: int,
        width: int,
        rank: int = 8,
        gate: float = 0.1,
        acts: Acts = "decode_and_embedding",
        placed: bool = False,
    ) -> None:
        super().__init__(entries, dim, width)
        for name, value in (("entries", entries), ("dim", dim), ("width", width), ("rank", rank)):
            if value < 1:
                raise InputError(f"{name} {value} of ConditionAdaptiveCodebook: give 1 or more")
        check_choice(acts, Acts, "ConditionAdaptiveCodebook's acts")
        self.acts, self.placed = acts, placed
        self.U = nn.Parameter(nn.init.trunc_normal_(torch.empty(entries, rank), std=0.02))
        self.V = nn.Parameter(nn.init.trunc_normal_(torch.empty(dim, rank), std=0.02))
        self.gate = nn.Parameter(torch.full((1,), float(gate)))
        self.factors = nn.Sequential(
            nn.LayerNorm(width, elementwise_affine=False),
            nn.SiLU(),
            nn.Linear(width, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, rank),
        )

    def forward(self, ids: Tensor, codes: Tensor, condition: Tensor) -> Tensor:
        """Return the adapted codes (B, n, dim) of tokens (B, n)."""
        return self._adapted(codes, self.U[ids], condition)

    def soft(self, probabilities: Tensor, codes: Tensor, condition: Tensor) -> Tensor:
        """Return the expected adapted codes (B, n, dim) under distributions (B, n, entries) of tokens."""
        return self._adapted(codes, probabilities.to(self.U.dtype) @ self.U, condition)

    def released_names(self) -> dict[str, str]:
        """Return the mapping of parameter names here to names in the published layout of Real-IISR."""
        return {
            "U": "vae.quantize.U",
            "V": "vae.quantize.V",
            "gate": "vae.quantize.lora_gate",
            **{name: name.replace("factors", "cb_cond") for name in self.state_dict() if name.startswith("factors")},
        }

    def _adapted(self, codes: Tensor, rows: Tensor, condition: Tensor) -> Tensor:
        factors = self.factors(condition)[:, None]
        return codes + self.gate.tanh() * ((rows * factors) @ self.V.mT)


class StaticCodebook(Codebook):
    """The tokenizer's entries, unchanged (Real-IISR Fig. 7, without the condition-adaptive codebook).

    Args:
        entries: number of entries of the tokenizer's codebook.
        dim: number of values of an entry.
        width: number of channels of the condition.
    """

    def forward(self, ids: Tensor, codes: Tensor, condition: Tensor) -> Tensor:
        """Return the codes (B, n, dim) unchanged."""
        return codes

    def soft(self, probabilities: Tensor, codes: Tensor, condition: Tensor) -> Tensor:
        """Return the mean codes (B, n, dim) unchanged."""
        return codes
