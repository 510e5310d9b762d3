"""First stages: shapes and gradients, what is frozen, and files of weights that fit or do not."""

import copy

import pytest
import torch
from test_vq_autoencoder import SMALL, random_weights

from lit_thermal.blocks.pretrained import without_pretrained
from lit_thermal.errors import InputError
from lit_thermal.networks.first_stage import FirstStage, PixelSpace, VQFirstStage

LEVELS = {**SMALL, "latent_channels": 3}
STAGES = {
    "pixels": PixelSpace,
    "squares": lambda: PixelSpace(4),
    "vq": lambda: VQFirstStage(**LEVELS),
}


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return random_weights(**LEVELS)


@pytest.fixture
def file(weights: dict[str, torch.Tensor], tmp_path):
    torch.save(weights, tmp_path / "vq.pth")
    return str(tmp_path / "vq.pth")


@pytest.mark.parametrize("name", STAGES)
def test_shapes_gradients_and_each_image_by_itself(name):
    torch.manual_seed(0)
    stage: FirstStage = STAGES[name]()
    image = torch.rand(2, 1, 24, 16) * 2 - 1
    z = stage.encode(image)
    assert z.shape == (2, stage.channels, 24 // stage.factor, 16 // stage.factor)
    z = z.clone().requires_grad_()
    decoded = stage.decode(z)
    assert decoded.shape == image.shape
    decoded.square().sum().backward()
    assert z.grad.isfinite().all() and z.grad.abs().sum() > 0
    for i in range(2):
        torch.testing.assert_close(stage.encode(image[i : i + 1]), z[i : i + 1].detach(), rtol=0, atol=1e-5)
        torch.testing.assert_close(stage.decode(z[i : i + 1]), decoded[i : i + 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", STAGES)
def test_float32_under_autocast_and_of_half_inputs(name):
    torch.manual_seed(0)
    stage = STAGES[name]()
    image = torch.rand(1, 1, 16, 16) * 2 - 1
    z = stage.encode(image)
    with torch.autocast("cpu", torch.bfloat16):
        low = stage.encode(image), stage.decode(z), stage.encode(image.bfloat16()), stage.decode(z.bfloat16())
    assert {x.dtype for x in low} == {torch.float32}
    for kept, full in zip(low, (z, stage.decode(z)) * 2, strict=True):
        assert (kept - full).std() <= 0.05 * full.std()


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
def test_pixels_come_back_exactly(unshuffle):
    stage = PixelSpace(unshuffle)
    image = torch.rand(1, 1, 8, 12)
    assert (stage.factor, stage.channels, stage.bounded) == (unshuffle, unshuffle**2, True)
    assert torch.equal(stage.decode(stage.encode(image)), image)
    assert not list(stage.parameters())
    # channel i is the pixel i of each square, row by row
    if unshuffle == 2:
        assert torch.equal(stage.encode(image)[:, 1], image[:, 0, 0::2, 1::2])


@pytest.mark.parametrize("name", ["squares", "vq"])
@pytest.mark.parametrize("size", [(18, 16), (16, 15)])
def test_sides_that_are_no_multiples(name, size):
    height, width = size
    with pytest.raises(InputError, match=f"{height}x{width} pixels has no latent: .* multiples of 4"):
        STAGES[name]().encode(torch.zeros(1, 1, *size))


def test_pixels_of_less_than_one():
    with pytest.raises(InputError, match="unshuffle 0 of PixelSpace"):
        PixelSpace(0)


def test_three_equal_channels_in_and_the_mean_of_three_out(file):
    stage = VQFirstStage(file, **LEVELS)
    image = torch.rand(1, 1, 16, 16)
    z = stage.encode(image)
    assert (stage.factor, stage.channels, stage.bounded) == (4, 3, False)
    assert torch.equal(z, stage.autoencoder.encode(image.repeat(1, 3, 1, 1)))
    colours = stage.autoencoder.decode(z)
    assert colours.std(1).min() > 0
    torch.testing.assert_close(stage.decode(z)[:, 0], (colours[:, 0] + colours[:, 1] + colours[:, 2]) / 3)


def test_it_is_never_trained(file):
    around = torch.nn.Sequential(VQFirstStage(file, **LEVELS), torch.nn.Linear(1, 1)).train()
    assert around[1].training and not any(module.training for module in around[0].modules())
    assert not any(p.requires_grad for p in around[0].parameters())
    stage = copy.deepcopy(around[0])
    z = stage.encode(torch.rand(1, 1, 8, 8))
    assert not z.requires_grad
    stage.decode(z.requires_grad_()).sum().backward()
    assert all(p.grad is None for p in stage.parameters())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "iters_start": 7},
        lambda s: {"state_dict": {f"module.{n}": v for n, v in s.items()}},
        lambda s: {f"module._orig_mod.{n}": v for n, v in s.items()},
        lambda s: {f"_orig_mod.module.{n}": v for n, v in s.items()},
        lambda s: {n.replace("encoder.", "encoder._orig_mod."): v for n, v in s.items()},
    ],
)
def test_files_as_others_wrap_them(wrap, weights, tmp_path):
    torch.save(wrap(weights), tmp_path / "vq.pth")
    stage = VQFirstStage(str(tmp_path / "vq.pth"), **LEVELS)
    for name, value in stage.autoencoder.released_state().items():
        assert torch.equal(value, weights[name])


def test_a_checkpoint_brings_the_weights_instead(tmp_path):
    with without_pretrained():
        VQFirstStage(str(tmp_path / "none.pth"), **LEVELS)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"autoencoder_vq_f4\.pth and give its path by model\.first_stage\.weights"):
        VQFirstStage(str(tmp_path / "none.pth"), **LEVELS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda s: s | {"quantize.embedding.weight": torch.zeros(16, 3)},
            r"quantize\.embedding\.weight is \(16, 3\) there and \(24, 3\) here",
        ),
        (lambda s: s | {"quant_conv.weight": torch.zeros(3, 3)}, r"is \(3, 3\) there and \(3, 3, 1, 1\) here"),
        (lambda s: s | {"loss.logvar": torch.zeros(1)}, r"loss\.logvar is \(1,\) there and absent here"),
        (
            lambda s: {n: v for n, v in s.items() if n != "encoder.conv_in.bias"},
            r"encoder\.conv_in\.bias is absent there and \(32,\) here",
        ),
        (lambda s: {"w": torch.zeros(1)}, "quantize.embedding.weight is absent there"),
        (lambda s: {0: torch.zeros(1)}, "quantize.embedding.weight is absent there"),
    ],
)
def test_another_autoencoder_is_one_sentence(change, said, weights, tmp_path):
    torch.save(change(weights), tmp_path / "vq.pth")
    with pytest.raises(InputError, match=said) as caught:
        VQFirstStage(str(tmp_path / "vq.pth"), **LEVELS)
    assert "\n" not in str(caught.value) and "model.first_stage.weights" in str(caught.value)


def test_state_dict_round_trip(file, weights):
    stage, other = VQFirstStage(file, **LEVELS), VQFirstStage(**LEVELS)
    other.load_state_dict(stage.state_dict())
    z = torch.randn(1, 3, 4, 4)
    assert torch.equal(other.decode(z), stage.decode(z))
