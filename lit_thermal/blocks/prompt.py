"""Prompts: descriptions of an image in words, as the embeddings that a latent diffusion network attends to."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from lit_thermal.blocks.image_tagger import ImageTagger
from lit_thermal.blocks.pretrained import pretrained_wanted
from lit_thermal.blocks.prompt_file import image_key, read_prompts, read_words
from lit_thermal.blocks.text_encoder import TextEncoder
from lit_thermal.errors import InputError

Guides = Tensor | Sequence[Tensor | None]
"""Visible images of a batch: (B, 3, H, W) in [0, 1], or one (3, H, W) per sample with None for absent ones."""

BASE = "remove degradation"
"""Prompt that 3M-TI uses for every image."""
SIMULATED_TAGS = (
    *("street", "park", "aerial", "road", "building", "wall", "window", "roof", "grass", "tree", "pole", "fence"),
    *("person", "car", "truck", "animal", "hot object", "night"),
)
"""All tags that the simulator gives to its scenes."""
SCENE_TAGS = (
    *SIMULATED_TAGS,
    *("bicycle", "motorcycle", "bus", "train", "boat", "airplane", "crowd", "pedestrian", "cyclist", "rider", "dog"),
    *("bird", "horse", "cow", "backpack", "umbrella", "street light", "traffic light", "traffic sign", "lane"),
    *("curb", "sidewalk", "crosswalk", "parking lot", "bridge", "tunnel", "railway", "stairs", "door", "balcony"),
    *("chimney", "house", "skyscraper", "tower", "power line", "bench", "trash can", "barrier", "container", "crane"),
    *("machine", "pipe", "electrical cabinet", "antenna", "solar panel", "bush", "flower", "forest", "field", "hill"),
    *("mountain", "rock", "sand", "snow", "water", "river", "lake", "sea", "sky", "cloud", "smoke", "fire", "fog"),
    *("rain", "shadow", "corridor", "room", "table", "chair", "computer", "cup", "kettle", "lamp", "face", "hand"),
)
"""Tags for typical subjects of thermal cameras, our choice."""


class Prompt(nn.Module, ABC):
    """Base of the family: embeddings of each image for the network's attention to text.

    Subclasses must return float32 whose shape depends only on B. The embedding of a sample must not depend on the
    other samples, and a batch without samples (B = 0) must pass.

    Args:
        dim: width of an embedding, set by the network.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @abstractmethod
    def forward(
        self,
        names: Sequence[str],
        tags: Sequence[Sequence[str]] | None,
        guide: Guides | None,
        device: torch.device | str,
    ) -> Tensor:
        """Return embeddings (B, L, dim) on a device.

        Args:
            names: names of the images.
            tags: tags of the contents of each image, if the data have them.
            guide: visible image of each sample, if there is one.
            device: device of the returned embeddings.
        """


class NoPrompt(Prompt):
    """No prompt: one token of zeros for every image, without parameters.

    Args:
        dim: width of an embedding, set by the network.
    """

    def forward(
        self,
        names: Sequence[str],
        tags: Sequence[Sequence[str]] | None,
        guide: Guides | None,
        device: torch.device | str,
    ) -> Tensor:
        """Return zeros (B, 1, dim)."""
        return torch.zeros(len(names), 1, self.dim, device=device)


class LearnedPrompt(Prompt):
    """Learned embeddings instead of a text encoder, for training from scratch.

    A few tokens are the same for every image. Each word of the vocabulary has one token, which is used if the data
    give the image this tag; otherwise a common token for "absent" takes its place, so that all shapes are constant.
    The order of tags and repeated tags do not matter. Words that are not in the vocabulary are ignored. Data without
    tags are treated as images with no tags.

    Args:
        dim: width of an embedding, set by the network.
        tokens: number of tokens that do not depend on the image.
        vocabulary: words that have a token; by default all tags of the simulator.

    Raises:
        InputError: there would be no token at all, or a word occurs twice in the vocabulary.
    """

    def __init__(self, dim: int, tokens: int = 4, vocabulary: Sequence[str] = SIMULATED_TAGS) -> None:
        super().__init__(dim)
        if tokens < 0 or tokens + len(vocabulary) < 1:
            raise InputError(
                f"LearnedPrompt's tokens is {tokens} and its vocabulary has {len(vocabulary)} words: give one"
            )
        self._index = {_normal(word): index for index, word in enumerate(vocabulary)}
        if len(self._index) < len(vocabulary):
            raise InputError("LearnedPrompt's vocabulary has a word twice: give each word once")
        self.base = nn.Parameter(torch.randn(tokens, dim))
        self.words = nn.Parameter(torch.randn(len(vocabulary), dim))
        self.absent = nn.Parameter(torch.randn(dim))

    def forward(
        self,
        names: Sequence[str],
        tags: Sequence[Sequence[str]] | None,
        guide: Guides | None,
        device: torch.device | str,
    ) -> Tensor:
        """Return embeddings (B, tokens + words of the vocabulary, dim)."""
        present = torch.zeros(len(names), len(self._index), 1, dtype=torch.bool)
        for sample, words in enumerate(tags or ()):
            for word in words:
                if _normal(word) in self._index:
                    present[sample, self._index[_normal(word)]] = True
        chosen = torch.where(present.to(self.words.device), self.words, self.absent)
        return torch.cat([self.base.expand(len(names), -1, -1), chosen], dim=1).float().to(device)


class TextPrompt(Prompt):
    """Base of prompts in words, which CLIP's frozen text encoder turns into embeddings.

    Checkpoints do not contain the encoder. Each distinct text is encoded once and kept in main memory (`TextEncoder`).

    Args:
        dim: width of an embedding, set by the network.
        base: words in the prompt of every image.
        encoder: local folder with `text_encoder/` and `tokenizer/` in the layout of diffusers, or a name on the hub.

    Raises:
        InputError: the encoder cannot be found, or its embeddings have another width than `dim`.
    """

    def __init__(self, dim: int, base: str, encoder: str) -> None:
        super().__init__(dim)
        self.base = base
        self.encoder = TextEncoder(encoder)
        if pretrained_wanted():
            self._check_width()

    @abstractmethod
    def words(self, names: Sequence[str], guide: Guides | None) -> list[list[str]]:
        """Return the tags of each image, which are added to the base."""

    def texts(self, names: Sequence[str], guide: Guides | None) -> list[str]:
        """Return the whole prompt of each image: the base and the tags, separated by commas."""
        return [", ".join([*([self.base] if self.base else []), *tags]) for tags in self.words(names, guide)]

    def forward(
        self,
        names: Sequence[str],
        tags: Sequence[Sequence[str]] | None,
        guide: Guides | None,
        device: torch.device | str,
    ) -> Tensor:
        """Return the encoder's last hidden states (B, 77, dim) of the prompts; the argument `tags` is ignored."""
        self._check_width()
        return self.encoder(self.texts(names, guide), device)

    def _check_width(self) -> None:
        if self.encoder.width != self.dim:
            raise InputError(
                f"the text encoder in {self.encoder.folder} gives embeddings of {self.encoder.width} channels and the "
                f"network takes {self.dim}: give the encoder of the network's own model by model.prompt.encoder, or "
                "take LearnedPrompt"
            )


class FixedPrompt(TextPrompt):
    """The same words for every image. The encoder's memory is freed once they are encoded.

    Args:
        dim: width of an embedding, set by the network.
        text: words of the prompt.
        encoder: local folder with `text_encoder/` and `tokenizer/` in the layout of diffusers, or a name on the hub.

    Raises:
        InputError: the encoder cannot be found, or its embeddings have another width than `dim`.
    """

    def __init__(self, dim: int, text: str = BASE, encoder: str = "stabilityai/sd-turbo") -> None:
        super().__init__(dim, text, encoder)

    def words(self, names: Sequence[str], guide: Guides | None) -> list[list[str]]:
        """Return no tags."""
        return [[] for _ in names]

    def forward(
        self,
        names: Sequence[str],
        tags: Sequence[Sequence[str]] | None,
        guide: Guides | None,
        device: torch.device | str,
    ) -> Tensor:
        """Return the encoder's last hidden states (B, 77, dim), the same for all samples."""
        embeddings = super().forward(names, tags, guide, device)
        self.encoder.release()
        return embeddings


class FilePrompts(TextPrompt):
    """Tags of each image from a text file with lines "name.png: tag, tag, ...", the format released with 3M-TI.

    Images are looked up by name without folder and without the suffix of an image file.

    Args:
        dim: width of an embedding, set by the network.
        file: path of the text file, in UTF-8.
        base: words in the prompt of every image, before its tags.
        allow_missing: use only the base for an image that is not in the file, as the released code does.
        encoder: local folder with `text_encoder/` and `tokenizer/` in the layout of diffusers, or a name on the hub.

    Raises:
        InputError: the file is absent, cannot be read or has different tags for one image; or the encoder cannot be
            found, or its embeddings have another width than `dim`.
    """

    def __init__(
        self,
        dim: int,
        file: str,
        base: str = BASE,
        allow_missing: bool = False,
        encoder: str = "stabilityai/sd-turbo",
    ) -> None:
        super().__init__(dim, base, encoder)
        self.file, self.allow_missing = file, allow_missing
        if pretrained_wanted():
            _ = self._lines

    def words(self, names: Sequence[str], guide: Guides | None) -> list[list[str]]:
        """Return the tags of each image in the file.

        Raises:
            InputError: an image is not in the file.
        """
        for name in names:
            if not self.allow_missing and image_key(name) not in self._lines:
                raise InputError(
                    f"the prompt file {self.file} has no line for the image {name!r}: add '{name}: tag, tag', or set "
                    "model.prompt.allow_missing to true, which takes the base prompt alone"
                )
        return [self._lines.get(image_key(name), []) for name in names]

    @cached_property
    def _lines(self) -> dict[str, list[str]]:
        return read_prompts(Path(self.file).expanduser())


class ZeroShotTags(TextPrompt):
    """Tags that a CLIP or SigLIP model picks from a list for the visible image, cached on disk (`ImageTagger`).

    This replaces the tagger of 3M-TI (RAM, with weights tuned to degraded images). A sample without a visible image
    gets only the base; of several views the first is tagged. Tags are cached by the content of the image: with random
    crops or displacements the content is new in every training step, so that the model is loaded and run each time.

    Args:
        dim: width of an embedding, set by the network.
        model: local folder of a CLIP or SigLIP model as saved by transformers, or its name on the Hugging Face hub.
        vocabulary: list of tags to choose from.
        vocabulary_file: text file with one tag per line, used instead of `vocabulary`.
        threshold: lowest score of a tag that is used: SigLIP's probability, or CLIP's softmax share among all tags.
        top_k: maximum number of tags of an image; the lists released with 3M-TI have 8 on average.
        cache: folder in which tags are cached.
        base: words in the prompt of every image, before its tags.
        encoder: local folder with `text_encoder/` and `tokenizer/` in the layout of diffusers, or a name on the hub.

    Raises:
        InputError: there are no tags, a number is out of range, the encoder cannot be found, or its embeddings have
            another width than `dim`.
    """

    def __init__(
        self,
        dim: int,
        model: str = "openai/clip-vit-base-patch32",
        vocabulary: Sequence[str] = SCENE_TAGS,
        vocabulary_file: str = "",
        threshold: float = 0.0,
        top_k: int = 8,
        cache: str = "~/.cache/lit_thermal/tags",
        base: str = BASE,
        encoder: str = "stabilityai/sd-turbo",
    ) -> None:
        super().__init__(dim, base, encoder)
        words = read_words(Path(vocabulary_file).expanduser()).splitlines() if vocabulary_file else vocabulary
        self.tagger = ImageTagger(model, words, threshold, top_k, cache)

    def words(self, names: Sequence[str], guide: Guides | None) -> list[list[str]]:
        """Return the tags of each visible image.

        Raises:
            InputError: an image has no pixel or not three channels, or the model cannot be found.
        """
        images = [None] * len(names) if guide is None else guide
        return [self._tags(name, image) for name, image in zip(names, images, strict=True)]

    def _tags(self, name: str, image: Tensor | None) -> list[str]:
        if image is None:
            return []
        return self.tagger(name, image[0] if image.ndim == 4 else image)


def _normal(word: str) -> str:
    return word.strip().lower()
