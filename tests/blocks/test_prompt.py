import inspect
import json
import shutil

import pytest
import torch
from tiny_text import LENGTH, write_encoder, write_tagger
from torch.nn import functional as F

from lit_thermal.blocks.image_tagger import TEMPLATE, ImageTagger
from lit_thermal.blocks.pretrained import without_pretrained
from lit_thermal.blocks.prompt import (
    SCENE_TAGS,
    SIMULATED_TAGS,
    FilePrompts,
    FixedPrompt,
    LearnedPrompt,
    NoPrompt,
    Prompt,
    TextPrompt,
    ZeroShotTags,
)
from lit_thermal.blocks.prompt_file import image_key, read_prompts
from lit_thermal.data.simulator.scene import SCENARIOS, make_scene
from lit_thermal.errors import InputError

DIM = 32
TAGS = ["tree", "car", "person", "night", "road"]
NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    return str(write_encoder(tmp_path_factory.mktemp("sd"), DIM))


@pytest.fixture(scope="module")
def taggers(tmp_path_factory):
    return {kind: write_tagger(tmp_path_factory.mktemp(kind), kind) for kind in ("clip", "siglip")}


@pytest.fixture
def prompt_file(tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_text("a.png: tree, car\n\nb.JPG:person ,, hot object,\nc: \n", encoding="utf-8")
    return path


@pytest.fixture
def build(sd, taggers, prompt_file, tmp_path):
    """Each member by name, at DIM."""
    return {
        "NoPrompt": lambda: NoPrompt(DIM),
        "LearnedPrompt": lambda: LearnedPrompt(DIM, vocabulary=TAGS),
        "FixedPrompt": lambda: FixedPrompt(DIM, encoder=sd),
        "FilePrompts": lambda: FilePrompts(DIM, str(prompt_file), encoder=sd),
        "ZeroShotTags": lambda: ZeroShotTags(
            DIM, str(taggers["clip"]), TAGS, top_k=2, cache=str(tmp_path / "tags"), encoder=sd
        ),
    }


def members(base: type[Prompt] = Prompt) -> list[str]:
    found = [name for child in base.__subclasses__() for name in members(child)]
    return found if inspect.isabstract(base) else [*found, base.__name__]


def guides(batch: int = 3, size: tuple[int, int] = (19, 23)) -> torch.Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def given(prompt: Prompt, samples: list[int]) -> torch.Tensor:
    """Embeddings of some of three samples that differ in all that a prompt may look at."""
    tags, images = [["tree"], ["car", "road"], []], guides()
    return prompt([NAMES[n] for n in samples], [tags[n] for n in samples], images[samples], "cpu")


@pytest.mark.parametrize("member", members())
def test_shape_depends_on_the_batch_alone(member, build):
    prompt = build[member]()
    whole = given(prompt, [0, 1, 2])
    assert whole.shape[0] == 3 and whole.shape[2] == DIM == prompt.dim and whole.dtype == torch.float32
    for n in range(3):
        assert torch.allclose(given(prompt, [n])[0], whole[n], atol=1e-6)
    assert torch.allclose(given(prompt, [2, 0]), whole[[2, 0]], atol=1e-6)
    assert given(prompt, []).shape == (0, *whole.shape[1:])


@pytest.mark.parametrize("member", members())
def test_works_without_tags_and_guides(member, build):
    prompt = build[member]()
    assert prompt(NAMES, None, None, "cpu").shape == given(prompt, [0, 1, 2]).shape
    assert torch.equal(prompt(NAMES, None, None, "cpu"), prompt(NAMES, None, [None] * 3, "cpu"))


@pytest.mark.parametrize("member", members())
def test_state_dict_round_trip(member, build):
    torch.manual_seed(0)
    prompt, other = build[member](), build[member]()
    other.load_state_dict(prompt.state_dict(), strict=True)
    assert torch.equal(given(prompt, [0, 1, 2]), given(other, [0, 1, 2]))
    if member != "LearnedPrompt":
        assert not prompt.state_dict() and not list(prompt.parameters())


@pytest.mark.parametrize("member", members())
def test_precision_of_the_model_does_not_reach_frozen_encoders(member, build):
    prompt = build[member]()
    before = given(prompt, [0, 1, 2])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(given(prompt, [0, 1, 2]), before)
    after = given(prompt.bfloat16(), [0, 1, 2])
    assert after.dtype == torch.float32
    assert torch.equal(after, before) or member == "LearnedPrompt"


def test_no_prompt_is_zeros():
    assert torch.equal(NoPrompt(5)(NAMES, None, None, "cpu"), torch.zeros(3, 1, 5))


# learned


def test_learned_tokens_by_a_loop():
    prompt = LearnedPrompt(DIM, tokens=2, vocabulary=TAGS)
    tags = [["car", "tree"], [], ["unknown", " Night ", "night"]]
    out = prompt(NAMES, tags, None, "cpu")
    assert out.shape == (3, 2 + len(TAGS), DIM)
    for sample, words in enumerate(tags):
        known = {word.strip().lower() for word in words}
        expected = [*prompt.base, *(prompt.words[i] if t in known else prompt.absent for i, t in enumerate(TAGS))]
        assert torch.equal(out[sample], torch.stack(expected))


def test_learned_prompt_ignores_order_and_unknown_words():
    prompt = LearnedPrompt(DIM, vocabulary=TAGS)
    one = prompt(["a"], [["car", "tree"]], None, "cpu")
    assert torch.equal(one, prompt(["b"], [["tree", "zebra", "car", "car"]], None, "cpu"))
    assert not torch.equal(one, prompt(["a"], [["tree"]], None, "cpu"))
    assert torch.equal(prompt(["a"], None, None, "cpu"), prompt(["a"], [[]], None, "cpu"))


def test_gradients_of_the_learned_prompt():
    prompt = LearnedPrompt(DIM, vocabulary=TAGS)
    prompt(NAMES, [["car"], [], ["car", "tree"]], None, "cpu").sum().backward()
    assert torch.equal(prompt.base.grad, torch.full_like(prompt.base, 3))
    assert prompt.words.grad[:, 0].tolist() == [1, 2, 0, 0, 0]
    assert prompt.absent.grad[0] == 3 * len(TAGS) - 3
    prompt.zero_grad(set_to_none=True)
    prompt(NAMES, None, None, "cpu").sum().backward()
    assert all(p.grad is not None for p in prompt.parameters()), "unused words stay in the graph"


def test_bad_learned_prompts():
    with pytest.raises(InputError, match="tokens is 0 and its vocabulary has 0 words"):
        LearnedPrompt(DIM, tokens=0, vocabulary=())
    with pytest.raises(InputError, match="a word twice"):
        LearnedPrompt(DIM, vocabulary=["car", "Car"])
    assert LearnedPrompt(DIM, tokens=0, vocabulary=["car"])(NAMES, None, None, "cpu").shape == (3, 1, DIM)


def test_the_vocabulary_is_the_simulators():
    drawn = {
        tag for kind in SCENARIOS for n in range(15) for tag in make_scene(0, n, size=32, frames=1, scenario=kind).tags
    }
    assert drawn == set(SIMULATED_TAGS)
    assert len(set(SCENE_TAGS)) == len(SCENE_TAGS)


# words


def test_fixed_words_are_the_same_for_all(build, sd):
    prompt = build["FixedPrompt"]()
    out = given(prompt, [0, 1, 2])
    assert out.shape == (3, LENGTH, DIM)
    assert torch.equal(out[0], out[1]) and torch.equal(out[0], out[2])
    assert prompt.encoder._loaded is None, "freed"
    other = FixedPrompt(DIM, "sharpen", encoder=sd)
    assert other.texts(["a"], None) == ["sharpen"]
    assert not torch.equal(given(other, [0])[0], out[0])


def test_width_of_another_network(sd):
    with pytest.raises(InputError, match="embeddings of 32 channels and the network takes 64") as caught:
        FixedPrompt(64, encoder=sd)
    assert "model.prompt.encoder" in str(caught.value)
    with without_pretrained():
        prompt = FixedPrompt(64, encoder=sd)
    with pytest.raises(InputError, match="embeddings of 32 channels"):
        prompt(["a"], None, None, "cpu")


# files


def test_texts_of_a_file(build):
    prompt = build["FilePrompts"]()
    base = "remove degradation"
    assert prompt.texts(NAMES, None) == [f"{base}, tree, car", f"{base}, person, hot object", base]
    assert prompt.texts(["a.png", "test/b", "b.tiff"], None) == [
        f"{base}, tree, car",
        f"{base}, person, hot object",
        f"{base}, person, hot object",
    ]


def test_an_image_that_is_not_in_the_file(build, prompt_file, sd):
    with pytest.raises(InputError, match=r"prompt.txt has no line for the image 'zebra'.*model.prompt.allow_missing"):
        build["FilePrompts"]()(["a", "zebra"], None, None, "cpu")
    lenient = FilePrompts(DIM, str(prompt_file), base="x", allow_missing=True, encoder=sd)
    assert lenient.texts(["a", "zebra"], None) == ["x, tree, car", "x"]
    assert FilePrompts(DIM, str(prompt_file), base="", encoder=sd).texts(["a", "c"], None) == ["tree, car", ""]


def test_a_file_is_read_late_where_a_checkpoint_follows(sd, tmp_path):
    with pytest.raises(InputError, match=r"absent.txt does not exist"):
        FilePrompts(DIM, str(tmp_path / "absent.txt"), encoder=sd)
    with without_pretrained():
        prompt = FilePrompts(DIM, str(tmp_path / "absent.txt"), encoder=sd)
    with pytest.raises(InputError, match="does not exist"):
        prompt(["a"], None, None, "cpu")


def test_bad_files(tmp_path):
    path = tmp_path / "prompt.txt"
    for text, words in {
        b"a.png: tree\nno colon here\n": "line 2 of the prompt file .*'no colon here'",
        b": tree\n": "line 1",
        b"a.png: tree\na.png: car\n": "line 2 .*'a.png' other tags",
        b"a.png: tr\xff\xfe": "is not in UTF-8",
    }.items():
        path.write_bytes(text)
        with pytest.raises(InputError, match=words):
            read_prompts(path)
    path.write_bytes(b"\xef\xbb\xbfa.png: tree\r\na.png: tree\r\n")
    assert read_prompts(path) == {"a": ["tree"]}


@pytest.mark.parametrize(
    ("name", "key"),
    [("x.png", "x"), ("f/x.JPEG", "x"), ("frame.01", "frame.01"), ("frame.01.png", "frame.01"), (" x ", "x")],
)
def test_image_key(name, key):
    assert image_key(name) == key


# zero-shot


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_tags_are_those_of_the_whole_model(kind, taggers, tmp_path):
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    folder = taggers[kind]
    model = AutoModel.from_pretrained(folder)
    tokens = AutoTokenizer.from_pretrained(folder)(
        [TEMPLATE.format(tag) for tag in TAGS], padding="max_length", max_length=LENGTH, return_tensors="pt"
    )
    image = guides(1)[0]
    levels = (image * 255).round().to(torch.uint8)
    pixels = AutoImageProcessor.from_pretrained(folder)([levels], return_tensors="pt").pixel_values
    with torch.no_grad():
        logits = model(input_ids=tokens.input_ids, pixel_values=pixels).logits_per_image[0]
    scores = logits.softmax(0) if kind == "clip" else logits.sigmoid()
    order = scores.argsort(descending=True).tolist()

    def tagger(threshold: float, top_k: int) -> list[str]:
        return ImageTagger(str(folder), TAGS, threshold, top_k, str(tmp_path))("x", image)

    assert tagger(0.0, 3) == [TAGS[n] for n in order[:3]]
    assert tagger(0.0, 99) == [TAGS[n] for n in order]
    between = float(scores[order[:2]].mean())
    assert tagger(between, 3) == [TAGS[order[0]]]
    assert tagger(1.0, 3) == []


def test_tags_are_kept_by_name_and_content(taggers, tmp_path, monkeypatch):
    asked: list[int] = []
    whole = (guides(1)[0] * 255).round() / 255
    choose = ImageTagger._choose

    def count(self, pixels):
        asked.append(1)
        return choose(self, pixels)

    monkeypatch.setattr(ImageTagger, "_choose", count)

    def tags(name="x", image=whole, model=taggers["clip"], vocabulary=TAGS):
        return ImageTagger(str(model), vocabulary, 0.0, 2, str(tmp_path / "kept"))(name, image)

    first = tags()
    assert tags() == first and len(asked) == 1
    assert tags(image=whole + 0.2 / 255) == first and len(asked) == 1, "the same in 8 bits"
    for changed in (
        {"name": "y"},
        {"image": 1 - whole},
        {"image": whole.mT},
        {"vocabulary": TAGS[:-1]},
        {"model": taggers["siglip"]},
    ):
        before = len(asked)
        tags(**changed)
        assert len(asked) == before + 1
    files = list((tmp_path / "kept").iterdir())
    assert len(files) == len(asked) and all(file.suffix == ".json" for file in files)
    assert {"name": "x", "model": str(taggers["clip"]), "tags": first} in [json.loads(f.read_text()) for f in files]
    for file in files:
        file.write_text('{"name": "x", "ta')
    assert tags() == first, "a broken file is written anew"
    assert tags() == first


def test_kept_tags_need_no_model(taggers, tmp_path):
    folder = shutil.copytree(taggers["clip"], tmp_path / "clip")
    image = guides(1)[0]
    first = ImageTagger(str(folder), TAGS, 0.0, 2, str(tmp_path / "kept"))("x", image)
    shutil.rmtree(folder)
    tagger = ImageTagger(str(folder), TAGS, 0.0, 2, str(tmp_path / "kept"))
    assert tagger("x", image) == first
    with pytest.raises(InputError, match=r"no folder .*clip with a CLIP or SigLIP model: .*model.prompt.model"):
        tagger("y", image)


def test_samples_without_a_guide_have_the_base_alone(build):
    prompt = build["ZeroShotTags"]()
    image = guides(1)[0]
    texts = prompt.texts(["a", "b", "c"], [image, None, image.expand(2, -1, -1, -1)])
    assert texts[1] == "remove degradation"
    assert [text.count(",") for text in texts] == [2, 0, 2]


def test_vocabulary_of_a_file(taggers, tmp_path, sd):
    path = tmp_path / "tags.txt"
    path.write_text("zebra\n\n lion \nzebra\n")
    prompt = ZeroShotTags(DIM, str(taggers["clip"]), vocabulary_file=str(path), cache=str(tmp_path), encoder=sd)
    assert sorted(prompt.words(["a"], guides(1))[0]) == ["lion", "zebra"]


def test_bad_taggers(taggers, tmp_path, monkeypatch, sd):
    folder, cache = str(taggers["clip"]), str(tmp_path / "kept")
    with pytest.raises(InputError, match="no tags to choose from"):
        ImageTagger(folder, [" "], 0.0, 1, cache)
    with pytest.raises(InputError, match="threshold is 2"):
        ImageTagger(folder, TAGS, 2.0, 1, cache)
    with pytest.raises(InputError, match="top_k 0"):
        ImageTagger(folder, TAGS, 0.0, 0, cache)
    with pytest.raises(InputError, match=r"guide of 'x' is of \(3, 0, 4\)"):
        ImageTagger(folder, TAGS, 0.0, 1, cache)("x", torch.zeros(3, 0, 4))
    with pytest.raises(InputError, match=r"not a complete CLIP or SigLIP model|cannot be read"):
        ImageTagger(sd + "/text_encoder", TAGS, 0.0, 1, cache)("x", guides(1)[0])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match=r"owner/model could not be fetched.*hf download.*model.prompt.model"
    ) as caught:
        ImageTagger("owner/model", TAGS, 0.0, 1, cache)("x", guides(1)[0])
    assert "\n" not in str(caught.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be kept in .*model.prompt.cache"):
        ImageTagger(folder, TAGS, 0.0, 1, str(tmp_path / "file"))("x", guides(1)[0])


def test_unit_vectors_of_the_tags(taggers, tmp_path):
    tagger = ImageTagger(str(taggers["clip"]), TAGS, 0.0, 1, str(tmp_path))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        tagger("x", guides(1)[0])
    texts = tagger._loaded.texts
    assert texts.dtype == torch.float32 and torch.allclose(texts, F.normalize(texts, dim=-1), atol=1e-6)
    assert not texts.is_inference()


def test_all_members_with_words_hold_their_encoder_apart(build):
    for make in build.values():
        prompt = make()
        assert not list(prompt.children())
        assert not isinstance(prompt, TextPrompt) or prompt.encoder.width == DIM
