"""Prompts: what a latent diffusion network is told of an image in words, as the embeddings that it attends to."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from lit_thermal.blocks.image_tagger import ImageTagger
from lit_thermal.blocks.pretrained import pretrained_wanted
from lit_thermal.blocks.prompt_file import image_key, read_prompts, read_text
from lit_thermal.blocks.text_encoder import TextEncoder
from lit_thermal.errors import InputError

Guides = Tensor | Sequence[Tensor | None]
"""Visible images of a batch, (B, 3, H, W) in [0, 1], or one (3, H, W) for each sample with None where it is absent."""

BASE = "remove degradation"
"""The prompt that 3M-TI has for every image."""
SIMULATED_TAGS = (
    *("street", "park", "aerial", "road", "building", "wall", "window", "roof", "grass", "tree", "pole", "fence"),
    *("person", "car", "truck", "animal", "hot object", "night"),
)
"""All words that the simulator has for its scenes."""
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
"""Words for what thermal cameras are pointed at, our choice."""


class Prompt(nn.Module, ABC):
    """Base of the family: what the network's attention to text gets for each image.

    What must hold: the shape depends on B alone; each sample has its own embedding, whatever the others are; float32;
    no sample at all (B = 0) passes.

    Args:
        dim: width of an embedding, which the network asks for.
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
            names: of the images.
            tags: words for what each image shows, where the data know them.
            guide: visible image of each sample, where there is one.
            device: to put the embeddings on.
        """


class NoPrompt(Prompt):
    """One token of zeros for every image: without a prompt. Nothing is learned.

    Args:
        dim: width of an embedding, which the network asks for.
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

    A few tokens are the same for every image. Each word of the vocabulary has one token, which is there where the data
    give the image this tag; in its place is one common token for "absent" otherwise, so that all shapes are constant.
    Attention does not know the order of tokens, and so the order of tags does not matter, nor a tag given twice. Words
    that are not in the vocabulary are ignored; data without tags are as images with none.

    Args:
        dim: width of an embedding, which the network asks for.
        tokens: number of tokens that do not depend on the image.
        vocabulary: words that have a token, by default all of the simulator's.

    Raises:
        InputError: there would be no token at all, or a word stands twice in the vocabulary.
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
    """Base of the members that have words: CLIP's text encoder, frozen, turns them into embeddings.

    Checkpoints do not carry the encoder. Each distinct text is encoded once and kept in main memory (`TextEncoder`).

    Args:
        dim: width of an embedding, which the network asks for.
        base: words that every image has.
        encoder: local folder with `text_encoder/` and `tokenizer/` in the layout of diffusers, or a name on the hub.

    Raises:
        InputError: the encoder cannot be had, or its embeddings have another width than `dim`.
    """

    def __init__(self, dim: int, base: str, encoder: str) -> None:
        super().__init__(dim)
        self.base = base
        self.encoder = TextEncoder(encoder)
        if pretrained_wanted():
            self._check_width()

    @abstractmethod
    def words(self, names: Sequence[str], guide: Guides | None) -> list[list[str]]:
        """Return the tags of each image that are added to the base."""

    def texts(self, names: Sequence[str], guide: Guides | None) -> list[str]:
        """Return the whole prompt of each image: the base and the tags, with commas between."""
        return [", ".join([*([self.base] if self.base else []), *tags]) for tags in self.words(names, guide)]

    def forward(
        self,
        names: Sequence[str],
        tags: Sequence[Sequence[str]] | None,
        guide: Guides | None,
        device: torch.device | str,
    ) -> Tensor:
        """Return the encoder's last hidden states (B, 77, dim) of the prompts; tags of the data are not looked at."""
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
        dim: width of an embedding, which the network asks for.
        text: the words.
        encoder: local folder with `text_encoder/` and `tokenizer/` in the layout of diffusers, or a name on the hub.

    Raises:
        InputError: the encoder cannot be had, or its embeddings have another width than `dim`.
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
    """Tags of each image out of a text file, as 3M-TI is released with: a line is "name.png: tag, tag, ...".

    Images are looked up by name without folder and without the suffix of an image file.

    Args:
        dim: width of an embedding, which the network asks for.
        file: the text file, in UTF-8.
        base: words that every image has before its tags.
        allow_missing: give an image that is not in the file the base alone, as the released code does.
        encoder: local folder with `text_encoder/` and `tokenizer/` in the layout of diffusers, or a name on the hub.

    Raises:
        InputError: the file is absent, cannot be read or has two lines for one image; or the encoder cannot be had, or
            its embeddings have another width than `dim`.
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
    """Tags that a CLIP or SigLIP model picks from a list for the visible image, kept on disk (`ImageTagger`).

    It stands in for the tagger of 3M-TI (RAM, with weights that were tuned to degraded images). A sample without a
    visible image has the base alone; of several views the first is looked at. Each content of an image is tagged by
    itself: with random crops or displacements every training step has new ones, and loads and asks the model.

    Args:
        dim: width of an embedding, which the network asks for.
        model: local folder of a CLIP or SigLIP model as transformers saves it, or its name on the Hugging Face hub.
        vocabulary: tags to choose from.
        vocabulary_file: text file with one tag a line, instead of `vocabulary`.
        threshold: least score of a tag that is taken: SigLIP's probability, or CLIP's share among all tags.
        top_k: most tags that are taken; the lists released with 3M-TI have 8 on average.
        cache: folder of the kept tags.
        base: words that every image has before its tags.
        encoder: local folder with `text_encoder/` and `tokenizer/` in the layout of diffusers, or a name on the hub.

    Raises:
        InputError: there are no tags, a number is out of range, the encoder cannot be had, or its embeddings have
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
        words = read_text(Path(vocabulary_file).expanduser()).splitlines() if vocabulary_file else vocabulary
        self.tagger = ImageTagger(model, words, threshold, top_k, cache)

    def words(self, names: Sequence[str], guide: Guides | None) -> list[list[str]]:
        """Return the tags of each visible image.

        Raises:
            InputError: an image has no pixel or not three channels, or the model cannot be had.
        """
        images = [None] * len(names) if guide is None else guide
        return [self._tags(name, image) for name, image in zip(names, images, strict=True)]

    def _tags(self, name: str, image: Tensor | None) -> list[str]:
        if image is None:
            return []
        return self.tagger(name, image[0] if image.ndim == 4 else image)


def _normal(word: str) -> str:
    return word.strip().lower()
