"""Weights in CoReFusion's released layout give, in our network, what a plain forward pass over them gives.

Layout and forward pass are written from the published facts, with torch.nn.functional alone: loading proves names, this
proves numbers.
"""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.methods.corefusion.module import CoReFusion
from lit_thermal.weights import load_model, save_model
from lit_thermal.weights.convert.corefusion import convert

LEVELS = {1: (3, 64), 2: (4, 128), 3: (6, 256), 4: (3, 512)}
"""Layer of a ResNet-34 to its number of blocks and its width."""
DECODER = [(768, 256), (384, 128), (192, 64), (128, 32), (32, 16)]
"""Channels in and out of each block."""
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def table() -> dict[str, tuple[int, ...]]:
    """Return name and shape of the 522 entries."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name, width):
        shapes.update({f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{name}.num_batches_tracked"] = ()

    for encoder in ("encoder", "encoder2"):
        shapes[f"{encoder}.conv1.weight"] = (64, 3, 7, 7)
        norm(f"{encoder}.bn1", 64)
        before = 64
        for layer, (blocks, width) in LEVELS.items():
            for block in range(blocks):
                at = f"{encoder}.layer{layer}.{block}"
                for number, channels in ((1, before), (2, width)):
                    shapes[f"{at}.conv{number}.weight"] = (width, channels, 3, 3)
                    norm(f"{at}.bn{number}", width)
                if before != width:
                    shapes[f"{at}.downsample.0.weight"] = (width, before, 1, 1)
                    norm(f"{at}.downsample.1", width)
                before = width
    for block, (before, width) in enumerate(DECODER):
        for number, channels in ((1, before), (2, width)):
            shapes[f"decoder.blocks.{block}.conv{number}.0.weight"] = (width, channels, 3, 3)
            norm(f"decoder.blocks.{block}.conv{number}.1", width)
    shapes |= {"segmentation_head.0.weight": (1, 16, 3, 3), "segmentation_head.0.bias": (1,)}
    for head in ("contrastive_head1", "contrastive_head2"):
        for linear, batch_norm, width in ((2, 3, 512), (5, 6, 64)):
            shapes |= {f"{head}.{linear}.weight": (width, 512), f"{head}.{linear}.bias": (width,)}
            norm(f"{head}.{batch_norm}", width)
    return shapes


def random_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Return values that keep features of about one size through all layers."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in table().items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(3000)
        elif name.endswith("running_var"):
            state[name] = 0.5 + torch.rand(shape, generator=generator)
        elif len(shape) > 1:
            # a third, where what is computed is added to what there is
            gain = 0.3 if name.endswith("conv2.weight") or name.startswith("segmentation") else 1.0
            state[name] = gain * noise * (2 / noise[0].numel()) ** 0.5
        else:
            state[name] = 0.1 * noise + (name.endswith("weight") and not name.startswith("segmentation"))
    return state


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return random_weights()


@pytest.fixture(scope="module")
def model(weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> CoReFusion:
    """Those weights after conversion, written and read."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(weights, folder / "reference.pth")
    save_model(convert(folder / "reference.pth", "nearest"), folder / "ours.ckpt")
    assert sorted(p.name for p in folder.iterdir()) == ["ours.ckpt", "reference.pth"]
    loaded = load_model(folder / "ours.ckpt")
    assert isinstance(loaded, CoReFusion)
    return loaded


class Plain:
    """The published network in eval mode over a plain state dict."""

    def __init__(self, weights):
        self.w = weights

    def norm(self, x, at):
        w = self.w
        return F.batch_norm(
            x, *(w[f"{at}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")), eps=1e-5
        )

    def pyramid(self, image, encoder):
        """Five levels of a ResNet-34; image is (B, 3, H, W) in [0, 1]."""
        x = F.conv2d((image - MEAN) / STD, self.w[f"{encoder}.conv1.weight"], stride=2, padding=3)
        levels = [F.relu(self.norm(x, f"{encoder}.bn1"))]
        x = F.max_pool2d(levels[0], 3, stride=2, padding=1)
        for layer, (blocks, _) in LEVELS.items():
            for block in range(blocks):
                at = f"{encoder}.layer{layer}.{block}"
                stride = 2 if block == 0 and layer > 1 else 1
                y = F.conv2d(x, self.w[f"{at}.conv1.weight"], stride=stride, padding=1)
                y = F.conv2d(F.relu(self.norm(y, f"{at}.bn1")), self.w[f"{at}.conv2.weight"], padding=1)
                if f"{at}.downsample.0.weight" in self.w:
                    x = F.conv2d(x, self.w[f"{at}.downsample.0.weight"], stride=stride)
                    x = self.norm(x, f"{at}.downsample.1")
                x = F.relu(self.norm(y, f"{at}.bn2") + x)
            levels.append(x)
        return levels

    def decode(self, levels):
        """Image (B, 1, H, W) in [-1, 1] of five levels."""
        *skips, x = levels
        for block in range(5):
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            if skips:
                x = torch.cat([x, skips.pop()], 1)
            for number in (1, 2):
                at = f"decoder.blocks.{block}.conv{number}"
                x = F.relu(self.norm(F.conv2d(x, self.w[f"{at}.0.weight"], padding=1), f"{at}.1"))
        return F.conv2d(x, self.w["segmentation_head.0.weight"], self.w["segmentation_head.0.bias"], padding=1).tanh()

    def embed(self, deepest, head):
        x = F.linear(deepest.mean((2, 3)), self.w[f"{head}.2.weight"], self.w[f"{head}.2.bias"])
        x = F.linear(F.relu(self.norm(x, f"{head}.3")), self.w[f"{head}.5.weight"], self.w[f"{head}.5.bias"])
        return self.norm(x, f"{head}.6")


def test_the_table_has_the_published_counts():
    shapes = table()
    parameters = {n: torch.Size(s).numel() for n, s in shapes.items() if "running" not in n and "tracked" not in n}
    assert (len(shapes), sum(parameters.values())) == (522, 46_314_321)
    for prefix, entries, count in (
        ("encoder.", 216, 21_284_672),
        ("encoder2.", 216, 21_284_672),
        ("decoder.", 60, 3_151_552),
        ("segmentation_head.", 2, 145),
        ("contrastive_head1.", 14, 296_640),
        ("contrastive_head2.", 14, 296_640),
    ):
        assert sum(n.startswith(prefix) for n in shapes) == entries
        assert sum(c for n, c in parameters.items() if n.startswith(prefix)) == count


@torch.no_grad()
def test_each_sample_is_what_a_plain_forward_pass_gives(model, weights):
    """Complete, thermal only, visible only, in one batch and alone, at 64x96."""
    guide, lr = torch.rand(3, 3, 64, 96), torch.rand(3, 1, 8, 12)
    thermal = lr.repeat_interleave(8, 2).repeat_interleave(8, 3).expand(-1, 3, -1, -1)
    plain = Plain(weights)
    seen, warm = plain.pyramid(guide, "encoder"), plain.pyramid(thermal, "encoder2")
    fused = [torch.maximum(a, b) for a, b in zip(seen, warm, strict=True)]
    flags = {"has_guide": torch.tensor([True, False, True]), "has_lr": torch.tensor([True, True, False])}
    expected = torch.cat([plain.decode([level[i : i + 1] for level in p]) for i, p in enumerate((fused, warm, seen))])
    # the numbers say something: no flat image, not saturated, and the three ways differ
    assert expected.std(dim=(1, 2, 3)).min() > 0.05 and expected.abs().mean() < 0.9
    assert (plain.decode(fused)[1:] - expected[1:]).abs().mean() > 0.02

    absent = {"guide": guide.clone(), "lr": lr.clone()}
    absent["guide"][1], absent["lr"][2] = torch.nan, torch.nan
    restored = model.restore(absent | flags)
    torch.testing.assert_close(restored, (expected + 1) / 2, rtol=0, atol=1e-5)
    everything = model.restore({"guide": guide, "lr": lr})
    torch.testing.assert_close(everything, (plain.decode(fused) + 1) / 2, rtol=0, atol=1e-5)


@torch.no_grad()
def test_embeddings_are_what_a_plain_forward_pass_gives(model, weights):
    guide, thermal = torch.rand(2, 3, 64, 96), torch.rand(2, 1, 64, 96).expand(-1, 3, -1, -1)
    plain, network = Plain(weights), model.network
    for image, name, encoder, head in (
        (guide, "1", network.guide_encoder, network.guide_head),
        (thermal, "2", network.thermal_encoder, network.thermal_head),
    ):
        deepest = plain.pyramid(image, "encoder" if name == "1" else "encoder2")[-1]
        expected = plain.embed(deepest, f"contrastive_head{name}")
        assert expected.std() > 0.1
        torch.testing.assert_close(head(encoder(image)[32]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
def test_the_checkpoint_says_how_the_input_is_enlarged(upsampling, weights, tmp_path):
    torch.save(weights, tmp_path / "reference.pth")
    converted = convert(tmp_path / "reference.pth", upsampling)
    assert converted.upsampling == upsampling and not converted.training
    assert converted.config["init_args"]["upsampling"] == upsampling


def without(name):
    return lambda state: {n: v for n, v in state.items() if n != name}


def changed(**entries):
    return lambda state: state | {n.replace("__", "."): v for n, v in entries.items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("encoder2.bn1.bias"), r"of its 521 entries 1 missing \(first: encoder2\.bn1\.bias\); give"),
        (changed(extra=torch.zeros(1)), r"of its 523 entries 1 unexpected \(first: extra\); give"),
        (
            changed(encoder__conv1__weight=torch.zeros(64, 1, 7, 7)),
            r"1 of other shape \(first: encoder\.conv1\.weight, \(64, 1, 7, 7\) there and \(64, 3, 7, 7\) here\)",
        ),
        (lambda s: {f"module.{n}": v for n, v in s.items()}, r"522 missing .*, 522 unexpected \(first: module\.enc"),
        (
            lambda s: {"state_dict": s, "epoch": 3},
            r"no plain state dict \(names to tensors\) but 'state_dict', 'epoch'",
        ),
        (lambda s: {"state_dict": s, "lit_thermal": {}}, "is already a checkpoint of lit_thermal"),
        (lambda s: list(s.values()), "no plain state dict"),
        (lambda s: {}, "no plain state dict"),
        (lambda s: torch.nn.Linear(1, 1), "more than tensors and plain values.*save only its state dict"),
    ],
)
def test_another_layout_is_one_sentence(change, said, tmp_path):
    state = {name: torch.zeros(()).expand(shape) for name, shape in table().items()}  # little to write
    torch.save(change(state), tmp_path / "reference.pth")
    with pytest.raises(InputError, match=said) as caught:
        convert(tmp_path / "reference.pth", "nearest")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_damaged_or_missing_file_is_one_sentence(tmp_path):
    path = tmp_path / "reference.pth"
    with pytest.raises(InputError, match=r"reference\.pth is not a file"):
        convert(path, "nearest")
    with pytest.raises(InputError, match="is not a file"):
        convert(tmp_path, "nearest")
    torch.save({"w": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="truncated or has another format"):
        convert(path, "nearest")


def test_code_in_a_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"encoder.conv1.weight": Evil()}, tmp_path / "reference.pth")
    with pytest.raises(InputError, match="more than tensors and plain values"):
        convert(tmp_path / "reference.pth", "nearest")
    assert not (tmp_path / "touched").exists()


def test_what_cannot_be_written_leaves_nothing(model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(InputError, match=r"ours\.ckpt cannot be written \(No space left on device\)"):
        save_model(model, tmp_path / "ours.ckpt")
    assert list(tmp_path.iterdir()) == []
