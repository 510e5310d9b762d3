"""Zero-shot tags for the contents of a photograph, from a network that compares images with texts."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.blocks.pretrained import local_folder, model_folder
from lit_thermal.errors import InputError
from lit_thermal.files import write_json
from lit_thermal.plain_files import read_json
from lit_thermal.shapes import check

TEMPLATE = "a photo of {}"
"""Text that represents a tag, because these networks were trained on captions."""


class ImageTagger:
    """Picks the tags from a list that fit an image best, with a CLIP or SigLIP model from transformers.

    The score of a tag is the model's own probability: SigLIP's sigmoid, which is independent for each tag, or CLIP's
    softmax over the list, which sums to 1. Images go through the model's own preprocessing.

    Tags are cached on disk in a small JSON file for each name and content of an image and the settings; the model is
    loaded for the first image that is not in the cache. The tagger is not a module, so that checkpoints do not contain
    the model.

    Args:
        model: local folder of a CLIP or SigLIP model as saved by transformers, or its name on the Hugging Face hub.
        tags: list of tags to choose from.
        threshold: lowest score of a tag that is used, from 0 to 1.
        top_k: maximum number of tags, the best first.
        cache: folder in which tags are cached; `~` is the user's home.
        option: name of the option by which the user sets the model, used in error messages.

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
            InputError: the image has no pixel or not three channels, the model cannot be found, or the cache folder
                cannot be written.
        """
        if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
            raise InputError(f"the guide of {name!r} is of {tuple(image.shape)} and must be (3, H, W), with pixels")
        pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8)
        kept = self.cache / f"{self._key(name, pixels.cpu())}.json"
        try:
            record = check(read_json(kept, "kept tags"), {"tags": [str]}, f"{kept}", "remove it")
            return list(record["tags"])
        except InputError:
            # absent, or cut off by a crash of another program
            tags = self._choose(pixels)
            self._keep(kept, {"name": name, "model": self.model, "tags": tags})
            return tags

    def __deepcopy__(self, memo: dict[int, Any]) -> "ImageTagger":
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the model, which is loaded again in another process when needed."""
        return {**self.__dict__, "_loaded": None}

    def _key(self, name: str, pixels: Tensor) -> str:
        digest = hashlib.sha256(self._settings)
        digest.update(json.dumps([name, list(pixels.shape)]).encode())
        digest.update(pixels.contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]

    def _choose(self, pixels: Tensor) -> list[str]:
        """Return the tags of an image (3, H, W) of 8-bit levels."""
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
            write_json(path, record)  # whole: another process may be reading, or writing the same
        except InputError as error:
            raise InputError(
                f"the tags of images cannot be kept in {path.parent} ({error}): give a folder by model.prompt.cache"
            ) from error


class _Loaded(NamedTuple):
    """A model that compares images with texts, its preprocessing, and the unit vectors (N, D) of all tags."""

    network: Any
    processor: Any
    texts: Tensor


def _load(model: str, tags: Sequence[str], option: str) -> _Loaded:
    """Load the model from a folder or the hub."""
    network, missing, processor, tokenizer = _found(model, option)
    if not hasattr(network, "get_image_features") or not hasattr(network, "logit_scale") or missing:
        raise InputError(f"{model} is not a complete CLIP or SigLIP model: {_advice(option)}")
    network.float().eval().requires_grad_(False)
    tokens = tokenizer(
        [TEMPLATE.format(tag) for tag in tags],
        # SigLIP was trained with padding to its full length; CLIP ignores tokens after the end of a text.
        padding="max_length",
        max_length=network.config.text_config.max_position_embeddings,
        truncation=True,
        return_tensors="pt",
    )
    texts = _pooled(network.get_text_features(input_ids=tokens.input_ids))
    return _Loaded(network, processor, F.normalize(texts, dim=-1))


def _found(model: str, option: str) -> tuple[Any, set[str], Any, Any]:
    """Return the network, the names of its missing weights, the preprocessing and the tokenizer."""
    what, advice = "a CLIP or SigLIP model", _advice(option)
    folder = local_folder(model, what, advice)
    if folder is not None:
        return _read(folder, option)
    try:
        return _read(model, option)
    except InputError:
        # The model is not in the cache of the hub, or not completely.
        model_folder(model, ("config.json",), what, option, advice)
    return _read(model, option, local=False)


def _read(source: str | Path, option: str, local: bool = True) -> tuple[Any, set[str], Any, Any]:
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    try:
        network, report = AutoModel.from_pretrained(source, local_files_only=local, output_loading_info=True)
        processor = AutoImageProcessor.from_pretrained(source, local_files_only=local)
        return network, report["missing_keys"], processor, AutoTokenizer.from_pretrained(source, local_files_only=local)
    except Exception as error:  # the kind of exception depends on the file
        reason = next((line for line in str(error).splitlines() if line), type(error).__name__)[:120]
        raise InputError(f"{source} cannot be read as a CLIP or SigLIP model ({reason}): {_advice(option)}") from error


def _pooled(features: Any) -> Tensor:
    """Return the feature vectors from the results of older and newer versions of transformers."""
    return features if isinstance(features, Tensor) else features.pooler_output


def _advice(option: str) -> str:
    return (
        "download a model such as openai/clip-vit-base-patch32 where there is a network (`hf download "
        f"openai/clip-vit-base-patch32 --local-dir clip`), and give that folder by {option}"
    )
