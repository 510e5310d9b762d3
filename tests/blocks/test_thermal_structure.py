import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from lit_thermal.blocks.condition_map_encoder import ConvStackEncoder, DINOv3Encoder
from lit_thermal.blocks.thermal_structure import (
    NoStructure,
    Structure,
    ThermalStructuralGuidance,
    edge_map,
    heat_map,
)
from lit_thermal.errors import InputError

MEMBERS = Structure.__subclasses__()
WIDTH, HEADS = 16, 2
ENCODER = partial(ConvStackEncoder, widths=(4, 6))
RELEASED = {"fusion": "released", "joins": "append", "norm": "batch"}


def made(member: type[Structure] = ThermalStructuralGuidance, seed: int = 0, **options) -> Structure:
    torch.manual_seed(seed)
    if member is ThermalStructuralGuidance:
        options = {"encoder": ENCODER} | options
    return member(WIDTH, HEADS, **options)


def inputs(batch: int = 2, size: tuple[int, int] = (8, 12)) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, and tokens on a grid four times coarser."""
    generator = torch.Generator().manual_seed(1)
    lr = 2 * torch.rand(batch, 3, *size, generator=generator) - 1
    return lr, torch.randn(batch, WIDTH, size[0] // 4, size[1] // 4, generator=generator)


def test_the_heat_map_pixel_by_pixel():
    lr = inputs()[0].double()
    given = heat_map(lr)
    assert given.shape == (2, 1, 8, 12) and given.min() > 0 and given.max() < 1
    for image, heat in zip(lr, given, strict=True):
        g = [sum(c) / 3 for c in zip(*(channel.flatten().tolist() for channel in image), strict=True)]
        mean = sum(g) / 96
        deviation = math.sqrt(sum((v - mean) ** 2 for v in g) / 95)
        expected = [1 / (1 + math.exp(-3 * (v - mean) / (deviation + 1e-5))) for v in g]
        assert heat.flatten().tolist() == pytest.approx(expected, abs=1e-12)


def test_the_heat_map_forgets_brightness_and_contrast_and_keeps_the_order():
    lr = inputs()[0].double()
    torch.testing.assert_close(heat_map(0.4 * lr - 0.3), heat_map(lr), rtol=0, atol=1e-3)
    grey, heat = lr.mean(1).flatten(1), heat_map(lr).flatten(1)
    assert torch.equal(grey.argsort(), heat.argsort())
    assert torch.equal(heat_map(torch.full((1, 3, 4, 4), 0.25)), torch.full((1, 1, 4, 4), 0.5))


def test_the_edge_map_pixel_by_pixel():
    lr = inputs()[0].double()
    given = edge_map(lr)
    assert given.shape == lr.shape
    for b, c, y, x in [(0, 0, 0, 0), (0, 1, 3, 5), (1, 2, 7, 11), (1, 0, 0, 6), (0, 2, 4, 0)]:

        def at(dy, dx, image=lr[b, c], y=y, x=x):
            inside = 0 <= y + dy < 8 and 0 <= x + dx < 12
            return float(image[y + dy, x + dx]) if inside else 0.0

        gx = sum(weight * (at(dy, -1) - at(dy, 1)) for dy, weight in ((-1, 1), (0, 2), (1, 1)))
        gy = sum(weight * (at(-1, dx) - at(1, dx)) for dx, weight in ((-1, 1), (0, 2), (1, 1)))
        assert float(given[b, c, y, x]) == pytest.approx(math.sqrt(gx * gx + gy * gy), abs=1e-12)


def test_edges_of_a_ramp_and_of_the_border():
    ramp = (torch.arange(8.0) / 8).expand(1, 3, 6, 8)
    assert torch.allclose(edge_map(ramp)[..., 1:-1, 1:-1], torch.tensor(1.0))
    flat = edge_map(torch.full((1, 3, 6, 6), -1.0))
    assert not flat[..., 1:-1, 1:-1].any() and (flat[..., 0, 1:-1] == 4).all()


@pytest.mark.parametrize("function", [heat_map, edge_map])
def test_gradients_are_bounded_where_the_image_is_flat(function):
    flat = torch.full((1, 3, 6, 6), 0.5, requires_grad=True)
    function(flat).sum().backward()
    assert flat.grad.isfinite().all()
    almost = (0.5 + 1e-6 * inputs()[0]).requires_grad_()
    edge_map(almost).sum().backward()
    assert almost.grad.isfinite().all() and almost.grad.abs().max() < 20
    assert torch.autograd.gradcheck(function, inputs(1, (4, 4))[0].double().requires_grad_())


@pytest.mark.parametrize("function", [heat_map, edge_map])
def test_maps_are_computed_in_float32(function):
    lr = inputs()[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(function(lr), function(lr.float()))
        assert function(lr.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("options", [{}, {"joins": "append"}, RELEASED], ids=lambda o: "-".join(o.values()) or "paper")
@pytest.mark.parametrize("member", MEMBERS)
def test_maps_forward_and_backward(member, options):
    structure = made(member, **(options if member is ThermalStructuralGuidance else {}))
    for size in ((8, 12), (16, 8)):
        lr, tokens = (x.requires_grad_() for x in inputs(size=size))
        maps = structure(lr, tokens)
        assert len(maps) == structure.maps and all(m.shape == tokens.shape and m.isfinite().all() for m in maps)
        structure.zero_grad()
        torch.stack(maps).square().sum().backward()
        assert tokens.grad.abs().sum() > 0
        for name, parameter in structure.named_parameters():
            # the bias of keys changes no softmax; what only shifts a channel, no batch norm
            if name != "attention.key.bias":
                assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name
        assert member is NoStructure or lr.grad.abs().sum() > 0


@pytest.mark.parametrize("member", MEMBERS)
def test_images_by_themselves_whatever_the_precision_around(member):
    structure, (lr, tokens) = made(member), inputs(batch=3)
    whole = torch.stack(structure(lr, tokens))
    alone = torch.stack(structure(lr[1:2], tokens[1:2]))
    torch.testing.assert_close(alone, whole[:, 1:2], rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(torch.stack(structure(lr, tokens)), whole)
        rough = torch.stack(structure(lr.bfloat16(), tokens.bfloat16()))
    assert (rough - whole).abs().max() < 0.03 * whole.abs().max()


@pytest.mark.parametrize("member", MEMBERS)
def test_state_dict_round_trip(member):
    structure, other, given = made(member), made(member, seed=1), inputs()
    other.load_state_dict(structure.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(structure(*given), other(*given), strict=True))


def reference(structure, lr, tokens, factor: float, batch_norm: bool) -> torch.Tensor:
    """The attention's result, head by head and from the specification, by the published names."""
    names = structure.released_names()
    w = {names[name]: value for name, value in structure.state_dict().items()}

    def encode(name, x):
        x = F.silu(F.conv2d(x, w[f"{name}.conv_in.weight"], w[f"{name}.conv_in.bias"], padding=1))
        for index in range(4):
            weight, bias = w[f"{name}.blocks.{index}.weight"], w[f"{name}.blocks.{index}.bias"]
            x = F.silu(F.conv2d(x, weight, bias, padding=1, stride=1 + index % 2))
        return F.conv2d(x, w[f"{name}.conv_out.weight"], w[f"{name}.conv_out.bias"], padding=1)

    def norm(name, x):
        weight, bias = (w[f"{name}.{part}"].view(-1, 1, 1) for part in ("weight", "bias"))
        if batch_norm:
            mean, variance = (w[f"{name}.running_{part}"].view(-1, 1, 1) for part in ("mean", "var"))
        else:
            mean, variance = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def attend(name, x, first):
        conv, second, last = (f"{name}.{first + step}" for step in (0, 3, 4))
        x = norm(f"{name}.{first + 1}", F.conv2d(x, w[f"{conv}.weight"], w[f"{conv}.bias"])).relu()
        return norm(last, F.conv2d(x, w[f"{second}.weight"], w[f"{second}.bias"]))

    heat, edge = encode("heatmap_embedding", heat_map(lr)), encode("edge_embedding", edge_map(lr))
    both = heat + edge
    logits = attend("fusion_block.local_att", both, 0)
    logits = logits + attend("fusion_block.global_att", both.mean((2, 3), keepdim=True), 1)
    share = 1 / (1 + torch.exp(-logits))
    fused = factor * heat * share + factor * edge * (1 - share)

    def project(name, x):
        return x @ w[f"cross_attention.{name}_proj.weight"].T + w[f"cross_attention.{name}_proj.bias"]

    x, memory = tokens.flatten(2).mT, fused.flatten(2).mT
    q, k, v = project("q", x), project("k", memory), project("v", memory)
    dim, parts = WIDTH // HEADS, []
    for head in range(HEADS):
        part = slice(head * dim, (head + 1) * dim)
        scores = (q[..., part] @ k[..., part].mT / math.sqrt(dim)).exp()
        parts.append(scores / scores.sum(-1, keepdim=True) @ v[..., part])
    return project("out", torch.cat(parts, -1)).mT.reshape(tokens.shape)


@pytest.mark.parametrize("fusion", ["paper", "released"])
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_the_formulas_step_by_step(fusion, norm):
    lr, tokens = (x.double() for x in inputs())
    options = {"fusion": fusion, "norm": norm}
    structure = made(**options, joins="append").double()
    with torch.no_grad():
        structure(lr, tokens)  # running statistics of their own
        for parameter in structure.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    structure.eval()
    expected = reference(structure, lr, tokens, 2 if fusion == "released" else 1, norm == "batch")
    kept, guided = structure(lr, tokens)
    assert torch.equal(kept, tokens)
    torch.testing.assert_close(guided, expected, rtol=0, atol=1e-10)
    added = made(**options).double().eval()
    added.load_state_dict(structure.state_dict())
    (one,) = added(lr, tokens)
    torch.testing.assert_close(one, tokens + expected, rtol=0, atol=1e-10)
    assert (expected - expected.mean((2, 3), keepdim=True)).abs().max() > 1e-3, "the attention looks at all alike"


def test_heat_and_edges_both_matter():
    structure, (lr, tokens) = made().eval(), inputs()
    (before,) = structure(lr, tokens)
    for encoder in (structure.heat_encoder, structure.edge_encoder):
        bias = encoder.conv_out.bias.data
        bias.normal_(generator=torch.Generator().manual_seed(3))
        assert (structure(lr, tokens)[0] - before).abs().max() > 1e-3
        bias.zero_()


def test_no_structure_is_the_tokens():
    lr, tokens = inputs()
    structure = made(NoStructure)
    assert structure.maps == 1 and structure(lr, tokens)[0] is tokens and not structure.state_dict()


def test_the_paper_s_encoder_fits_in():
    encoder = partial(DINOv3Encoder, name="test_vit2")
    structure, (lr, _) = made(encoder=encoder), inputs(size=(32, 48))
    tokens = torch.randn(2, WIDTH, 2, 3)
    assert structure(lr, tokens)[0].shape == tokens.shape


def test_the_published_size():
    with torch.device("meta"):
        structure = ThermalStructuralGuidance(1536, 24, **RELEASED)
    names = structure.released_names()
    shapes = {names[name]: tuple(value.shape) for name, value in structure.state_dict().items()}
    expected = {f"cross_attention.{part}_proj.weight": (1536, 1536) for part in ("q", "k", "v", "out")}
    expected |= {f"cross_attention.{part}_proj.bias": (1536,) for part in ("q", "k", "v", "out")}
    for branch, first in (("local_att", 0), ("global_att", 1)):
        for (out, into), conv in (((384, 1536), first), ((1536, 384), first + 3)):
            name = f"fusion_block.{branch}"
            expected |= {f"{name}.{conv}.weight": (out, into, 1, 1), f"{name}.{conv}.bias": (out,)}
            for part in ("weight", "bias", "running_mean", "running_var"):
                expected[f"{name}.{conv + 1}.{part}"] = (out,)
            expected[f"{name}.{conv + 1}.num_batches_tracked"] = ()
    encoders = {name: shape for name, shape in shapes.items() if name.startswith(("heatmap_", "edge_embedding."))}
    assert {name: shape for name, shape in shapes.items() if name not in encoders} == expected
    assert len(encoders) == 40 and encoders["heatmap_embedding.conv_in.weight"] == (32, 1, 3, 3)
    assert encoders["edge_embedding.conv_in.weight"] == (32, 3, 3, 3)
    parts = {"attention": 9.44, "gate": 2.37, "heat_encoder": 32.93, "edge_encoder": 32.93}
    for name, millions in parts.items():
        count = sum(p.numel() for p in structure.get_submodule(name).parameters())
        assert round(count / 1e6, 2) == millions, name


def test_batch_norms_say_that_one_image_is_too_few():
    structure, (lr, tokens) = made(norm="batch"), inputs(batch=1)
    with pytest.raises(InputError, match=r'batch norms of ThermalStructuralGuidance\(norm="batch"\)'):
        structure(lr, tokens)
    assert structure.eval()(lr, tokens)[0].isfinite().all()
    assert made()(lr, tokens)[0].isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"fusion": "sum"}, "fusion of ThermalStructuralGuidance is 'sum'; must be one of paper, released"),
        ({"joins": "none"}, "joins of .* is 'none'; must be one of add, append"),
        ({"norm": "group"}, "norm of .* is 'group'; must be one of layer, batch"),
        ({"reduction": 12}, "reduction 12 .* leaves less than two of 16 channels"),
        ({"reduction": 0}, "reduction 0"),
    ],
)
def test_options_that_do_not_fit(wrong, said):
    with pytest.raises(InputError, match=said) as caught:
        made(**wrong)
    assert "\n" not in str(caught.value)


def test_heads_and_encoders_that_do_not_fit():
    with pytest.raises(InputError, match=r"width 16 and heads 3 .* give a multiple of the heads"):
        ThermalStructuralGuidance(16, 3)
    lr, tokens = inputs(size=(16, 16))
    coarse = made(encoder=partial(ConvStackEncoder, widths=(4, 4, 4)))
    with pytest.raises(InputError, match=r"makes maps of shape \(16, 2, 2\) where the tokens are \(16, 4, 4\)"):
        coarse(lr, tokens)
