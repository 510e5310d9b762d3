"""Tiny CLIP and SigLIP models with random weights, written as transformers and diffusers lay them out."""

import json
from pathlib import Path

import torch

LENGTH = 24
LETTERS = [chr(code) for code in range(33, 127)]
VOCABULARY = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
"""A letter within a word and one that ends a word are two tokens; there are no merges."""
START, END, PAD = VOCABULARY.index("<|startoftext|>"), VOCABULARY.index("<|endoftext|>"), VOCABULARY.index("!")


def ids(text: str, length: int = LENGTH) -> list[int]:
    """What the tokenizer must give: letters between start and end, cut or padded to the length."""
    spaced = text.replace(",", " ,").split()
    letters = [VOCABULARY.index(c if i < len(word) - 1 else f"{c}</w>") for word in spaced for i, c in enumerate(word)]
    tokens = [START, *letters[: length - 2], END]
    return tokens + [PAD] * (length - len(tokens))


def write_tokenizer(folder: Path, pad: str = "!") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": pad,
    }
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(VOCABULARY)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def text_config(width: int) -> dict[str, int]:
    return {
        "vocab_size": len(VOCABULARY),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": LENGTH,
        "bos_token_id": START,
        "eos_token_id": END,
        "pad_token_id": PAD,
    }


def write_encoder(folder: Path, width: int = 32, half: bool = False) -> Path:
    """A folder with text_encoder/ and tokenizer/, as a latent diffusion model has them."""
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    model = CLIPTextModel(CLIPTextConfig(**text_config(width)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    (model.half() if half else model).save_pretrained(folder / "text_encoder")
    write_tokenizer(folder / "tokenizer")
    return folder


def write_tagger(folder: Path, kind: str = "clip") -> Path:
    """A model that compares images with texts, with its preprocessing and tokenizer."""
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
    )

    torch.manual_seed(0)
    vision = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    if kind == "clip":
        config = CLIPConfig(text_config=text_config(32), vision_config=vision, projection_dim=8)
        model, processor = CLIPModel(config), CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16)
    else:
        config = SiglipConfig(text_config=text_config(32), vision_config=vision)
        model, processor = SiglipModel(config), SiglipImageProcessor(size={"height": 16, "width": 16})
    for name, parameter in model.named_parameters():
        if "logit" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_tokenizer(folder, pad="<|endoftext|>")
    return folder
