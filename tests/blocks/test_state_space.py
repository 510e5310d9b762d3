import pytest
import torch
from torch.nn import functional as F

from lit_thermal.blocks.scan_order import ScanOrder, SpatialFirst, TemporalFirst
from lit_thermal.blocks.state_space import StateSpace
from lit_thermal.blocks.thermal_prompt import NoThermalPrompt, ReadoutPrompt, ThermalPrompt
from lit_thermal.errors import InputError

ORDERS = [*[member() for member in ScanOrder.__subclasses__()], TemporalFirst("per_pixel")]


def block(order, prompt=ThermalPrompt, seed=0, **options):
    torch.manual_seed(seed)
    made = StateSpace(4, 6, order, prompt, state=3, **options).double()
    for p in made.prompt.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return made


def slow(layer: StateSpace, x: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
    """The sub-block of the specification, one token, channel group and direction at a time."""
    batch, frames, height, width, _ = x.shape
    content, gate = (x @ layer.project_in.weight.T).chunk(2, dim=-1)
    images = content.reshape(batch * frames, height, width, -1).permute(0, 3, 1, 2)
    images = F.silu(F.conv2d(images, layer.convolution.weight, layer.convolution.bias, padding=1, groups=layer.inner))
    tokens = images.permute(0, 2, 3, 1).reshape(batch, -1, layer.inner)
    prompt = layer.prompt(embedded)
    total = torch.zeros_like(tokens)
    for chain in layer.order.path(frames, height, width):
        for direction in range(2):
            k = direction if len(layer.to_scan) == 2 else 0
            order = chain.flip(0) if direction else chain
            for b in range(batch):
                h = torch.zeros(layer.inner, layer.state, dtype=x.dtype)
                for index in order.tolist():
                    u = tokens[b, index]
                    raw = layer.to_scan[k] @ u
                    step, into, out = raw.split([layer.rank, layer.state, layer.state])
                    out = out + prompt[direction, :, index // (height * width)]
                    delta = F.softplus(layer.to_step[k] @ step + layer.step_bias[k])
                    a = -torch.exp(layer.log_decay[k])
                    h = torch.exp(delta[:, None] * a) * h + (delta * u)[:, None] * into
                    total[b, index] += h @ out + layer.skip[k] * u
    mixed = F.layer_norm(total, (layer.inner,), layer.norm.weight, layer.norm.bias)
    return (mixed.reshape(gate.shape) * F.silu(gate)) @ layer.project_out.weight.T


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("order", ORDERS, ids=lambda o: f"{type(o).__name__}-{getattr(o, 'mode', '')}")
def test_equals_the_written_out_layer(order, shared):
    layer = block(order, shared=shared)
    x, embedded = torch.randn(2, 3, 2, 3, 4, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(layer(x, embedded), slow(layer, x, embedded), atol=1e-10)


@pytest.mark.parametrize("order", ORDERS, ids=lambda o: type(o).__name__)
def test_a_zero_prompt_is_plain_mamba(order):
    prompted, plain = block(order), block(order, NoThermalPrompt)
    for p in prompted.prompt.adapter[-1].parameters():
        torch.nn.init.zeros_(p)
    plain.load_state_dict({k: v for k, v in prompted.state_dict().items() if not k.startswith("prompt.")})
    x, embedded = torch.randn(1, 3, 3, 2, 4, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    assert torch.equal(prompted(x, embedded), plain(x, embedded))


def test_a_fresh_prompt_is_zero_and_learns():
    prompt = ThermalPrompt(6, 2, 3)
    value = prompt(torch.randn(5, 6))
    assert value.shape == (2, 3, 5) and (value == 0).all()
    value.sum().backward()
    assert prompt.adapter[-1].weight.grad.abs().sum() > 0


def test_the_prompt_changes_with_time_only_the_frames_it_is_given_to():
    layer = block(TemporalFirst("per_pixel"))
    x, embedded = torch.randn(1, 3, 2, 2, 4, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    other = embedded.clone()
    other[1] += 1
    difference = (layer(x, embedded) - layer(x, other)).abs().amax(dim=(0, 2, 3, 4))
    assert difference[1] > 1e-4 and difference[0] == 0 and difference[2] == 0, "the state must not depend on it"


def test_per_pixel_chains_do_not_leak():
    layer = block(TemporalFirst("per_pixel"))
    torch.nn.init.zeros_(layer.convolution.weight)
    with torch.no_grad():
        layer.convolution.weight[:, :, 1, 1] = 1
    x, embedded = torch.randn(1, 3, 4, 4, 4, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    changed = x.clone()
    changed[:, 1, 2, 2] += 1
    moved = (layer(x, embedded) - layer(changed, embedded)).abs().amax(dim=(0, 1, 4)) > 0
    assert moved.nonzero().tolist() == [[2, 2]]


@pytest.mark.parametrize("prompt", ReadoutPrompt.__subclasses__())
@pytest.mark.parametrize("order", ORDERS, ids=lambda o: f"{type(o).__name__}-{getattr(o, 'mode', '')}")
def test_every_member_backward_half_precision_and_state_dict(order, prompt):
    torch.manual_seed(0)
    layer = StateSpace(8, 6, order, prompt, state=4)
    x = torch.randn(2, 3, 5, 3, 8, requires_grad=True)
    embedded = torch.randn(3, 6)
    y = layer(x, embedded)
    assert y.shape == x.shape
    y.square().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x, embedded)
    assert (half.float() - y).abs().max() < 0.05 * max(1.0, float(y.detach().abs().max()))
    copy = StateSpace(8, 6, order, prompt, state=4)
    copy.load_state_dict(layer.state_dict())
    assert torch.equal(copy(x, embedded), y)


def test_initial_step_sizes_and_decays():
    layer = StateSpace(16, 6, SpatialFirst(), state=5)
    step = F.softplus(layer.step_bias)
    assert step.min() >= 1e-4 and step.max() <= 0.1001
    assert torch.allclose(layer.log_decay.exp(), torch.arange(1.0, 6.0).expand(2, 32, 5))


def test_frames_and_times_must_match():
    with pytest.raises(InputError, match="3 frames came with 2 embedded times"):
        block(SpatialFirst())(torch.zeros(1, 3, 2, 2, 4, dtype=torch.float64), torch.zeros(2, 6, dtype=torch.float64))


@pytest.mark.parametrize("order", ORDERS, ids=lambda o: f"{type(o).__name__}-{getattr(o, 'mode', '')}")
def test_trains_after_a_first_look_in_inference_mode_or_in_export(order):
    """What is cached for a size must not keep the mode of the first call: validation may come before training."""
    layer = StateSpace(4, 6, order, state=3)
    with torch.inference_mode():
        layer(torch.randn(1, 3, 6, 5, 4), torch.randn(3, 6))
    layer(torch.randn(1, 3, 6, 5, 4), torch.randn(3, 6)).sum().backward()
    x, embedded = torch.randn(1, 2, 3, 5, 4), torch.randn(2, 6)
    program = torch.export.export(layer, (x, embedded))
    torch.testing.assert_close(layer(x, embedded), program.module()(x, embedded))
