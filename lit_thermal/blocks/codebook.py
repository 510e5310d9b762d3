"""Codebooks: what the tokens of an image stand for, given its low-resolution observation."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from lit_thermal.errors import InputError

HIDDEN = 32
"""Width of the published network that turns a condition into the factors of the ranks."""

Acts = Literal["decode", "decode_and_embedding"]


class Codebook(nn.Module, ABC):
    """Base of the family: entries that a frozen tokenizer looked up become those that are decoded.

    What must hold: shapes stay; each image is treated by itself; the result is differentiable in codes,
    probabilities and condition; `soft` with probabilities of 0 and 1 gives what `forward` gives.

    Args:
        entries: of the tokenizer's codebook.
        dim: values of an entry.
        width: channels of the condition.

    Attributes:
        acts: where the result is used: in the latent that is decoded to an image alone, or also in the inputs of the
            transformer that predicts the tokens. Which tokens are targets never depends on it.
        placed: in training the condition has the learnt embeddings of the places in it.
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
            codes: their entries (B, n, dim) in the tokenizer's codebook.
            condition: (B, width), one for all tokens and scales of an image.
        """

    @abstractmethod
    def soft(self, probabilities: Tensor, codes: Tensor, condition: Tensor) -> Tensor:
        """Return the mean (B, n, dim) of the codes to use, over distributions of tokens.

        Args:
            probabilities: (B, n, entries); straight-through ones too.
            codes: mean entries (B, n, dim) of the tokenizer's codebook, `probabilities @ embedding.weight`.
            condition: (B, width).
        """


class ConditionAdaptiveCodebook(Codebook):
    """Adds to each entry a low-rank term that follows a condition (Real-IISR eq. 2).

    e'(id) = e(id) + tanh(gate) (U[id] * h) V^T with h = MLP(condition): layer norm without affine, SiLU, linear to 32,
    SiLU, linear to the rank. U and V start as in the released code (normal, 0.02, truncated).

    Args:
        entries: of the tokenizer's codebook.
        dim: values of an entry.
        width: channels of the condition.
        rank: of the term.
        gate: its value at the start. In the released code 0, where the term and, but for the gate's own, all of its
            gradients vanish; at its learning rate the gate can then hardly open.
        acts: where the result is used. The paper puts it in the place of the static look-up, "decode_and_embedding";
            the released code decodes with it only, "decode".
        placed: in training, and there alone, the condition has the learnt embeddings of the places in it (released).

    Raises:
        InputError: a size is less than 1, or `acts` is none of the two.
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
        if acts not in ("decode", "decode_and_embedding"):
            raise InputError(f'ConditionAdaptiveCodebook acts "{acts}": give "decode" or "decode_and_embedding"')
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
        """Return the mean (B, n, dim) of the adapted codes over distributions (B, n, entries) of tokens."""
        return self._adapted(codes, probabilities.to(self.U.dtype) @ self.U, condition)

    def released_names(self) -> dict[str, str]:
        """Return the names here to those in the published layout of Real-IISR."""
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
    """The tokenizer's entries as they are (Real-IISR Fig. 7, without the condition-adaptive codebook).

    Args:
        entries: of the tokenizer's codebook.
        dim: values of an entry.
        width: channels of the condition.
    """

    def forward(self, ids: Tensor, codes: Tensor, condition: Tensor) -> Tensor:
        """Return the codes (B, n, dim) as they are."""
        return codes

    def soft(self, probabilities: Tensor, codes: Tensor, condition: Tensor) -> Tensor:
        """Return the mean codes (B, n, dim) as they are."""
        return codes
