"""The frozen text encoder of a latent diffusion model, which turns words into the embeddings its UNet attends to."""

import re
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_thermal.blocks.pretrained import model_folder, pretrained_wanted
from lit_thermal.errors import InputError
from lit_thermal.plain_files import read_json
from lit_thermal.shapes import COUNT, check

REQUIRED = ("text_encoder/config.json", "tokenizer/vocab.json", "tokenizer/merges.txt")
"""Required files of the folder; the weights are not listed because they may have several names."""
FETCHED = (
    *("tokenizer/tokenizer_config.json", "tokenizer/special_tokens_map.json"),
    "text_encoder/model.safetensors",
)
"""Files that are downloaded from the hub in addition."""

_SIZES = {"hidden_size": COUNT, "max_position_embeddings": COUNT}
_CACHED_BYTES = 1 << 32
"""Size of the embedding cache: 13,600 texts of Stable Diffusion 2.1, more than 3M-TI's data have. The least recently
used embedding is evicted first."""
_TEXTS_AT_ONCE = 32


class TextEncoder:
    """CLIP's text encoder and tokenizer from a folder in the layout of diffusers, frozen and in float32.

    The encoder is not a module, so that checkpoints, optimizers, precision settings and copies of a model do not affect
    it. Each distinct text is encoded once, on the device that is requested first, and its embedding is kept in main
    memory. The encoder stays on that device until `release`.

    The folder is looked up, or downloaded from the hub, at once, so that missing files are reported before training
    begins. Inside `without_pretrained()` this happens at the first use.

    Args:
        folder: local folder with `text_encoder/` and `tokenizer/`, or a name on the Hugging Face hub.
        option: name of the option by which the user sets the folder, used in error messages.

    Raises:
        InputError: the folder or one of its files is absent and cannot be fetched, or holds another kind of encoder.
    """

    def __init__(self, folder: str = "stabilityai/sd-turbo", option: str = "model.prompt.encoder") -> None:
        self.folder, self.option = folder, option
        self._cache: OrderedDict[str, Tensor] = OrderedDict()
        self._loaded: tuple[Any, Any] | None = None
        if pretrained_wanted():
            _ = self._sizes

    @property
    def width(self) -> int:
        """Number of channels of an embedding."""
        return self._sizes[0]

    @property
    def length(self) -> int:
        """Number of tokens of each text, 77 for CLIP; longer texts are cut and shorter ones padded."""
        return self._sizes[1]

    def __call__(self, texts: Sequence[str], device: torch.device | str) -> Tensor:
        """Return the last hidden states (B, length, width) of B texts, in float32 on a device.

        Raises:
            InputError: the encoder cannot be found or is not a CLIP text encoder.
        """
        found = {text: self._cache[text] for text in dict.fromkeys(texts) if text in self._cache}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        for start in range(0, len(new), _TEXTS_AT_ONCE):
            part = new[start : start + _TEXTS_AT_ONCE]
            found.update(zip(part, self._encode(part, device), strict=True))
        for text, embedding in found.items():
            self._cache[text] = embedding
            self._cache.move_to_end(text)
        while len(self._cache) * 4 * self.length * self.width > _CACHED_BYTES:
            self._cache.popitem(last=False)
        if not texts:
            return torch.zeros(0, self.length, self.width, device=device)
        return torch.stack([found[text] for text in texts]).to(device)

    def release(self) -> None:
        """Free the encoder's memory; cached embeddings stay, and a new text loads the encoder again."""
        self._loaded = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "TextEncoder":
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without weights and embeddings, which are loaded again in another process."""
        return {"folder": self.folder, "option": self.option, "_cache": OrderedDict(), "_loaded": None}

    def _encode(self, texts: list[str], device: torch.device | str) -> list[Tensor]:
        """Return the embeddings (length, width) of texts as separate tensors on the CPU."""
        # Tensors created in inference mode could not be used in a later training step.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(torch.device(device).type, enabled=False):
            encoder, tokenizer = self._loaded or self._load()
            tokens = tokenizer(
                texts, padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
            ).input_ids
            hidden = encoder.to(device)(tokens.to(device)).last_hidden_state.cpu()
            return [state.clone() for state in hidden]

    def _load(self) -> tuple[Any, Any]:
        """Load the encoder and the tokenizer."""
        from transformers import CLIPTextModel, CLIPTokenizer

        read: Any = CLIPTextModel
        try:
            encoder, report = read.from_pretrained(
                self._root / "text_encoder", local_files_only=True, output_loading_info=True
            )
            tokenizer = CLIPTokenizer.from_pretrained(self._root / "tokenizer", local_files_only=True)
        except Exception as error:  # the kind of exception depends on the file
            reason = next((line for line in str(error).splitlines() if line), type(error).__name__)[:120]
            raise InputError(
                f"{self._root} does not hold a text encoder of CLIP ({reason}): {self._advice()}"
            ) from error
        if report["missing_keys"]:  # transformers leaves them random and only logs that
            raise InputError(
                f"{self._root / 'text_encoder'} has no weights for {min(report['missing_keys'])}: {self._advice()}"
            )
        self._loaded = encoder.float().eval().requires_grad_(False), tokenizer
        return self._loaded

    @cached_property
    def _root(self) -> Path:
        """Local folder with the files, which are downloaded from the hub if `folder` is a name there."""
        return model_folder(self.folder, REQUIRED, "a text encoder", self.option, self._advice(), also_fetched=FETCHED)

    @cached_property
    def _sizes(self) -> tuple[int, int]:
        path = self._root / "text_encoder" / "config.json"
        try:
            config = check(read_json(path, "a configuration"), _SIZES, f"{path}", self._advice())
            return int(config["hidden_size"]), int(config["max_position_embeddings"])
        except InputError as error:
            raise InputError(f"{path} does not say the sizes of a text encoder of CLIP: {self._advice()}") from error

    def _advice(self) -> str:
        hub = self.folder if re.fullmatch(r"[\w-]+/[\w.-]+", self.folder) else "stabilityai/sd-turbo"
        return (
            f"download text_encoder/ and tokenizer/ of {hub} where there is a network (`hf download {hub} --include "
            f"'t*/*' --exclude '*.fp16.*' --local-dir sd-turbo`), and give that folder by {self.option}"
        )
