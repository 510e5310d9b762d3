"""CoReFusion's network and module: every sample by itself, whatever cameras, encoders, fusions and sizes there are."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_thermal.blocks.fusion import Fusion, GatedFusion, MaxFusion
from lit_thermal.blocks.image_encoder import ImageEncoder, TimmEncoder
from lit_thermal.blocks.projection_head import MLPProjection
from lit_thermal.errors import InputError
from lit_thermal.methods.corefusion.module import CoReFusion
from lit_thermal.methods.corefusion.network import CoReFusionNetwork

TINY = partial(TimmEncoder, "test_resnet")
FUSIONS = sorted(Fusion.__subclasses__(), key=lambda kind: kind.__name__)
COMPLETE, THERMAL_ONLY, GUIDE_ONLY = (True, True), (False, True), (True, False)


def network(guide=TINY, thermal=TINY, fusion=MaxFusion, **arguments):
    """A small network whose batch norms have seen something, and whose zero weights are none any more."""
    torch.manual_seed(0)
    arguments = {"decoder_channels": (24, 16, 16, 8, 8)} | arguments
    built = CoReFusionNetwork(guide, thermal, fusion, MLPProjection, **arguments)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, GatedFusion):
            nn.init.normal_(module.gate.weight, std=0.1)
    return built.eval()


def inputs(kinds, height=64, width=64, fill=torch.nan):
    """Images and flags of samples; what a sample lacks is filled."""
    guide, thermal = torch.rand(len(kinds), 3, height, width), torch.rand(len(kinds), 1, height, width)
    has_guide, has_thermal = (torch.tensor(flags) for flags in zip(*kinds, strict=True))
    guide[~has_guide], thermal[~has_thermal] = fill, fill
    return guide, thermal, has_guide, has_thermal


def batch(kinds, scale=8, side=8, **keys):
    """A training batch."""
    guide, _, has_guide, has_thermal = inputs(kinds, scale * side, scale * side)
    lr = torch.rand(len(kinds), 1, side, side)
    lr[~has_thermal] = torch.nan
    hr = torch.rand(len(kinds), 1, scale * side, scale * side)
    return {"lr": lr, "hr": hr, "guide": guide, "has_lr": has_thermal, "has_guide": has_guide} | keys


def method(**arguments):
    """A small CoReFusion whose logging goes nowhere."""
    torch.manual_seed(0)
    small = {"guide_encoder": TINY, "thermal_encoder": TINY, "decoder_channels": (24, 16, 16, 8, 8)}
    built = CoReFusion(**small | arguments)
    built.log = lambda *_, **__: None
    return built


def test_parameters_of_the_published_network():
    model = CoReFusion()
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in model.network.named_children()}
    assert sum(count.values()) == 46_314_321
    assert sum(count.values()) - count["guide_head"] - count["thermal_head"] == 45_721_041
    assert len(model.state_dict()) == 522


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("encoders", [("test_resnet",) * 2, ("test_convnext", "test_resnet")], ids=["same", "adapted"])
@torch.no_grad()
def test_in_a_mixed_batch_each_sample_is_as_alone(fusion, encoders):
    net = network(*(partial(TimmEncoder, name) for name in encoders), fusion)
    kinds = [THERMAL_ONLY, COMPLETE, GUIDE_ONLY, COMPLETE, THERMAL_ONLY]
    given = inputs(kinds)
    together = net(*given).image
    assert together.isfinite().all()
    for i in range(len(kinds)):
        alone = net(*(value[i : i + 1] for value in given)).image
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)
    for kind in (COMPLETE, THERMAL_ONLY, GUIDE_ONLY):  # and in a batch of its own kind
        rows = [i for i, k in enumerate(kinds) if k == kind]
        torch.testing.assert_close(together[rows], net(*(v[rows] for v in given)).image, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
@torch.no_grad()
def test_both_cameras_count_when_they_are_there(fusion):
    net = network(fusion=fusion)
    guide, thermal, *_ = inputs([COMPLETE])
    yes, no = torch.tensor([True]), torch.tensor([False])
    both, warm, seen = (net(guide, thermal, *flags).image for flags in ((yes, yes), (no, yes), (yes, no)))
    assert all((a - b).abs().max() > 1e-4 for a, b in ((both, warm), (both, seen), (warm, seen)))
    assert not torch.equal(both, net(guide.flip(-1), thermal, yes, yes).image)


@pytest.mark.parametrize("kinds", [[COMPLETE] * 2, [COMPLETE, THERMAL_ONLY], [THERMAL_ONLY] * 2, [GUIDE_ONLY] * 2])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_gradients_reach_the_encoders_whose_cameras_are_there(kinds, fusion):
    net = network(fusion=fusion).train()
    net(*inputs(kinds)).image.square().mean().backward()
    encoders = (net.guide_encoder, net.thermal_encoder)
    for encoder, there in zip(encoders, zip(*kinds, strict=True), strict=True):
        gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
        assert all(g.isfinite().all() for g in gradients)
        assert any(g.abs().max() > 0 for g in gradients) == any(there)


def test_an_encoder_deeper_than_the_other_trains_too():
    model = method(guide_encoder=partial(TimmEncoder, "test_vit2")).train()
    assert (model.network.strides, model.network.deepest) == ([16], 32)
    model.training_step(batch([COMPLETE] * 2, side=7), 0).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("size", [(40, 52), (17, 33), (5, 9), (64, 32), (1, 1)])
@torch.no_grad()
def test_sizes_are_padded_and_cropped(size):
    net = network()
    given = inputs([COMPLETE, THERMAL_ONLY, GUIDE_ONLY], *size)
    image = net(*given).image
    assert image.shape == (3, 1, *size) and image.isfinite().all()
    # by repeating the right and the bottom edge
    rows, columns = (torch.arange(-(-side // 32) * 32).clamp(max=side - 1) for side in size)
    padded = [value[..., rows, :][..., columns] for value in given[:2]]
    torch.testing.assert_close(image, net(*padded, *given[2:]).image[..., : size[0], : size[1]])


@pytest.mark.parametrize(
    ("guide", "thermal", "strides"),
    [
        ("swin_tiny_patch4_window7_224", "test_resnet", [4, 8, 16, 32]),
        ("test_vit2", "test_vit2", [16]),
        ("test_vit2", "test_resnet", [16]),
        ("test_convnext", "test_convnext", [4, 8, 16, 32]),
        ("mobilenetv3_small_050", "test_resnet", [2, 4, 8, 16, 32]),
    ],
)
def test_encoders_of_all_kinds(guide, thermal, strides):
    net = network(partial(TimmEncoder, guide), partial(TimmEncoder, thermal))
    assert net.strides == strides
    same = [net.guide_encoder.widths[s] == net.thermal_encoder.widths[s] for s in strides]
    assert [isinstance(adapter, nn.Identity) for adapter in net.adapters] == same
    image = net(*inputs([COMPLETE, THERMAL_ONLY, GUIDE_ONLY], 40, 52)).image
    assert image.shape == (3, 1, 40, 52)
    image.sum().backward()
    assert all(any(p.grad is not None for p in e.parameters()) for e in (net.guide_encoder, net.thermal_encoder))


def test_one_pixel_of_features_is_too_little_to_train_on():
    trained = network().train()
    with pytest.raises(InputError, match=r"one image for an encoder, which at 32x32 .* raise data.crop or"):
        trained(*inputs([(True, True), (False, True)], 32, 32))
    trained(*inputs([(True, True), (True, True), (False, True)], 32, 32))
    trained(*inputs([(True, True)], 32, 64))


def test_a_shallower_encoder_is_a_smaller_network():
    net = network(partial(TINY, depth=3), partial(TINY, depth=3))
    assert (net.strides, net.deepest, len(net.decoder)) == ([2, 4, 8], 8, 3)
    assert [block[0].out_channels for block in net.decoder] == [16, 8, 8]
    assert net(*inputs([COMPLETE], 8, 16)).image.shape == (1, 1, 8, 16)


@torch.no_grad()
def test_the_residual_head_starts_as_the_enlarged_input():
    net = network(head="residual")
    given = inputs([COMPLETE, THERMAL_ONLY, GUIDE_ONLY], 40, 52)
    image = net(*given).image
    torch.testing.assert_close(image[:2], 2 * given[1][:2] - 1)
    assert torch.equal(image[2], torch.zeros_like(image[2]))
    model = method(head="residual").eval()
    lr = torch.rand(1, 1, 5, 7)
    enlarged = F.interpolate(lr, (40, 56), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model.restore({"lr": lr, "guide": torch.rand(1, 3, 40, 56)}), enlarged)


@pytest.mark.parametrize(("activation", "low", "high"), [("Tanh", -1, 1), ("Sigmoid", -1, 1), ("ReLU", -1, 9)])
@torch.no_grad()
def test_activations_put_black_at_minus_one(activation, low, high):
    net = network(activation=activation)
    for value, image in ((-20.0, low), (4.0 if activation == "ReLU" else 20.0, 7 if activation == "ReLU" else high)):
        nn.init.zeros_(net.output.weight)
        nn.init.constant_(net.output.bias, value)
        torch.testing.assert_close(net(*inputs([COMPLETE])).image, torch.full((1, 1, 64, 64), float(image)))
    model = method(activation=activation).eval()
    restored = model.restore(batch([COMPLETE]))
    assert restored.min() >= 0 and restored.max() <= 1


@torch.no_grad()
def test_bfloat16_stays_close_and_keeps_the_gray_levels():
    net = network()
    given = inputs([COMPLETE, THERMAL_ONLY, GUIDE_ONLY])
    full = net(*given).image
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = net(*given).image
    assert half.dtype == torch.float32
    assert (half - full).abs().max() < 0.05
    model = method(head="residual").train()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.enable_grad():
        loss = model.training_step(batch([COMPLETE, COMPLETE, THERMAL_ONLY, GUIDE_ONLY]), 0)
        loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


class Strides(ImageEncoder):
    """Averages over cells."""

    def __init__(self, *strides: int) -> None:
        super().__init__()
        self.widths = dict.fromkeys(strides, 3)

    def forward(self, image):
        return {stride: F.avg_pool2d(image, stride) for stride in self.widths}


def test_an_encoder_of_ones_own():
    net = network(partial(Strides, 1, 4), partial(Strides, 1, 4, 8))
    assert (net.strides, net.deepest, len(net.decoder)) == ([1, 4], 8, 2)
    assert net(*inputs([COMPLETE, GUIDE_ONLY], 5, 6)).image.shape == (2, 1, 5, 6)
    assert network(partial(Strides, 1), partial(Strides, 1))(*inputs([COMPLETE], 5, 6)).image.shape == (1, 1, 5, 6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"guide": partial(Strides, 2), "thermal": partial(Strides, 4)},
            r"no stride in common: \[2\] of the guide, \[4\]",
        ),
        ({"guide": partial(TINY, depth=3), "thermal": partial(TimmEncoder, "test_vit2")}, "no stride in common"),
        ({"guide": partial(TimmEncoder, "test_resnt")}, "no backbone 'test_resnt'; near are test_resnet"),
        ({"decoder_channels": (8, 8)}, r"decoder_channels \[8, 8\] of CoReFusion must be 5 positive numbers"),
        ({"decoder_channels": (8, 8, 8, 0, 8)}, "must be 5 positive numbers"),
        ({"head": "both"}, "model.head is 'both'; must be one of direct, residual"),
        ({"activation": "tanh"}, "model.activation is 'tanh'; must be one of Tanh, ReLU, Sigmoid"),
    ],
)
def test_a_network_that_cannot_be_is_one_sentence(arguments, said):
    with pytest.raises(InputError, match=said) as caught:
        network(**arguments)
    assert "\n" not in str(caught.value)
