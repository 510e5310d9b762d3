"""Words for what a photograph shows, by a network that compares images with texts; none is trained for it."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.blocks.pretrained import fetch
from lit_thermal.errors import InputError

TEMPLATE = "a photo of {}"
"""The text that stands for a tag: these networks were trained on captions."""


class ImageTagger:
    """Picks from a list the tags that fit an image best, with a CLIP or SigLIP model of transformers.

    A tag's score is the model's own probability: SigLIP's sigmoid, which judges each tag by itself, or CLIP's softmax
    over the list, which shares 1 among all tags. Images go through the model's own preprocessing.

    Tags are kept on disk, a small JSON file for each name and content of an image under the settings that gave them;
    the model is loaded at the first image that is not there. It is no module: checkpoints do not carry it.

    Args:
        model: local folder of a CLIP or SigLIP model as transformers saves it, or its name on the Hugging Face hub.
        tags: to choose from.
        threshold: least score of a tag that is taken.
        top_k: most tags that are taken, the best first.
        cache: folder of the kept tags; `~` is the user's home.
        option: what the user sets to give the model, for the sentences.

    Raises:
        InputError: there are no tags, or a number is out of range.
    """

    def __init__(
        self,
        model: str,
        tags: Sequence[str],
        threshold: float,
        top_k: int,
        cache: str,
        option: str = "model.prompt.model",
    ) -> None:
        self.tags = [tag.strip() for tag in dict.fromkeys(tags) if tag.strip()]
        if not self.tags:
            raise InputError("ZeroShotTags has no tags to choose from: give model.prompt.vocabulary or vocabulary_file")
        if not 0 <= threshold <= 1 or top_k < 1:
            raise InputError(
                f"ZeroShotTags' threshold is {threshold} and its top_k {top_k}: give a probability, and at least 1"
            )
        self.model, self.threshold, self.top_k, self.option = model, threshold, top_k, option
        self.cache = Path(cache).expanduser()
        settings = json.dumps([model, TEMPLATE, self.tags, threshold, top_k])
        self._settings = hashlib.sha256(settings.encode()).digest()
        self._loaded: _Loaded | None = None

    def __call__(self, name: str, image: Tensor) -> list[str]:
        """Return the tags of an image (3, H, W) in [0, 1], the best first; it is rounded to 8 bits first.

        Raises:
            InputError: the image has no pixel or not three channels, the model cannot be had, or the cache folder
                cannot be written.
        """
        if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
            raise InputError(f"the guide of {name!r} is of {tuple(image.shape)} and must be (3, H, W), with pixels")
        pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8)
        kept = self.cache / f"{self._key(name, pixels.cpu())}.json"
        try:
            return [str(tag) for tag in json.loads(kept.read_text(encoding="utf-8"))["tags"]]
        except (OSError, ValueError, KeyError, TypeError):
            # absent, or cut off by a crash of another program
            tags = self._choose(pixels)
            self._keep(kept, {"name": name, "model": self.model, "tags": tags})
            return tags

    def __deepcopy__(self, memo: dict[int, Any]) -> "ImageTagger":
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Leave the model behind: another process loads it when it needs it."""
        return {**self.__dict__, "_loaded": None}

    def _key(self, name: str, pixels: Tensor) -> str:
        digest = hashlib.sha256(self._settings)
        digest.update(json.dumps([name, list(pixels.shape)]).encode())
        digest.update(pixels.contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]

    def _choose(self, pixels: Tensor) -> list[str]:
        """Tags of an image (3, H, W) of whole levels."""
        device = pixels.device
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            if self._loaded is None:
                self._loaded = _load(self.model, self.tags, self.option)
            network, processor, texts = self._loaded
            network.to(device)
            values = processor(images=[pixels.cpu()], return_tensors="pt")["pixel_values"]
            image = F.normalize(_pooled(network.get_image_features(pixel_values=values.to(device))), dim=-1)
            logits = (image.cpu() @ texts.T)[0] * network.logit_scale.exp().cpu()
            bias = getattr(network, "logit_bias", None)
            scores = logits.softmax(0) if bias is None else (logits + bias.cpu()).sigmoid()
        best = scores.topk(min(self.top_k, len(self.tags)))
        return [
            self.tags[at]
            for score, at in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            if score >= self.threshold
        ]

    def _keep(self, path: Path, record: dict[str, Any]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Written aside: another process may be reading, or writing the same.
            with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8") as f:
                json.dump(record, f)
            os.replace(f.name, path)
        except OSError as error:
            raise InputError(
                f"the tags of images cannot be kept in {path.parent} ({error}): give a folder by model.prompt.cache"
            ) from error


class _Loaded(NamedTuple):
    """A model that compares images with texts, its preprocessing, and the unit vectors (N, D) of all tags."""

    network: Any
    processor: Any
    texts: Tensor


def _load(model: str, tags: Sequence[str], option: str) -> _Loaded:
    """The model of a folder or of the hub."""
    network, missing, processor, tokenizer = _found(model, option)
    if not hasattr(network, "get_image_features") or not hasattr(network, "logit_scale") or missing:
        raise InputError(f"{model} is no CLIP or SigLIP model, or not whole: {_advice(option)}")
    network.float().eval().requires_grad_(False)
    tokens = tokenizer(
        [TEMPLATE.format(tag) for tag in tags],
        # SigLIP was trained with padding to its full length; CLIP does not look at what follows the end of a text.
        padding="max_length",
        max_length=network.config.text_config.max_position_embeddings,
        truncation=True,
        return_tensors="pt",
    )
    texts = _pooled(network.get_text_features(input_ids=tokens.input_ids))
    return _Loaded(network, processor, F.normalize(texts, dim=-1))


def _found(model: str, option: str) -> tuple[Any, set[str], Any, Any]:
    """Network, the names of weights it lacks, preprocessing and tokenizer."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _read(folder, option)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise InputError(f"there is no folder {model} with a CLIP or SigLIP model: {_advice(option)}")
    try:
        return _read(model, option)
    except InputError:
        # Not in the cache of the hub, or not all of it.
        try:
            fetch(model, "config.json", option)
        except InputError as error:
            raise InputError(
                f"there is no folder {model} here, and {model} could not be had from the Hugging Face hub: "
                f"{_advice(option)}"
            ) from error
    return _read(model, option, local=False)


def _read(source: str | Path, option: str, local: bool = True) -> tuple[Any, set[str], Any, Any]:
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    try:
        network, report = AutoModel.from_pretrained(source, local_files_only=local, output_loading_info=True)
        processor = AutoImageProcessor.from_pretrained(source, local_files_only=local)
        return network, report["missing_keys"], processor, AutoTokenizer.from_pretrained(source, local_files_only=local)
    except Exception as error:  # what transformers trips over first depends on the file
        reason = next((line for line in str(error).splitlines() if line), type(error).__name__)[:120]
        raise InputError(f"{source} cannot be read as a CLIP or SigLIP model ({reason}): {_advice(option)}") from error


def _pooled(features: Any) -> Tensor:
    """The vectors of what older and newer versions of transformers return."""
    return features if isinstance(features, Tensor) else features.pooler_output


def _advice(option: str) -> str:
    return (
        "download a model such as openai/clip-vit-base-patch32 where there is a network (`hf download "
        f"openai/clip-vit-base-patch32 --local-dir clip`), and give that folder by {option}"
    )
