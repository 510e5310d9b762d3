import pytest
import torch
from torch.nn import functional as F

from lit_thermal.blocks.scan_order import ScanOrder, SpatialFirst, TemporalFirst
from lit_thermal.blocks.state_space import CarryingStateSpace, NoState, StateSpace
from lit_thermal.blocks.thermal_prompt import ContentPrompt, NoThermalPrompt, ReadoutPrompt, ThermalPrompt, summary
from lit_thermal.blocks.token_mixer import TokenMixer
from lit_thermal.errors import InputError

ORDERS = [*[member() for member in ScanOrder.__subclasses__()], TemporalFirst("per_pixel")]


MIXERS = [StateSpace, CarryingStateSpace, NoState]


def block(order, prompt=ThermalPrompt, seed=0, mixer=StateSpace, **options):
    torch.manual_seed(seed)
    made = mixer(4, 6, order, prompt, state=3, **options).double()
    for p in made.prompt.parameters() if hasattr(made, "prompt") else ():
        torch.nn.init.normal_(p, std=0.5)
    return made


def slow(layer: StateSpace, x: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
    """The sub-block of the specification, one token, channel group and direction at a time."""
    batch, frames, height, width, _ = x.shape
    content, gate = (x @ layer.project_in.weight.T).chunk(2, dim=-1)
    images = content.reshape(batch * frames, height, width, -1).permute(0, 3, 1, 2)
    images = F.silu(F.conv2d(images, layer.convolution.weight, layer.convolution.bias, padding=1, groups=layer.inner))
    tokens = images.permute(0, 2, 3, 1).reshape(batch, -1, layer.inner)
    prompt = layer.prompt(embedded, tokens).expand(batch, -1, -1, -1)
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
                    if isinstance(layer, CarryingStateSpace):
                        into, out = (v / (v.square().mean() + 1e-5).sqrt() for v in (into, out))
                    out = out + prompt[b, direction, :, index // (height * width)]
                    delta = F.softplus(layer.to_step[k] @ step + layer.step_bias[k])
                    a = -torch.exp(layer.log_decay[k])
                    h = torch.exp(delta[:, None] * a) * h + (delta * u)[:, None] * into
                    total[b, index] += h @ out + layer.skip[k] * u
    mixed = F.layer_norm(total, (layer.inner,), layer.norm.weight, layer.norm.bias)
    return (mixed.reshape(gate.shape) * F.silu(gate)) @ layer.project_out.weight.T


@pytest.mark.parametrize("mixer, prompt", [(StateSpace, ThermalPrompt), (CarryingStateSpace, ContentPrompt)])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("order", ORDERS, ids=lambda o: f"{type(o).__name__}-{getattr(o, 'mode', '')}")
def test_equals_the_written_out_layer(order, shared, mixer, prompt):
    layer = block(order, prompt, mixer=mixer, shared=shared)
    torch.nn.init.normal_(layer.to_scan)
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


@pytest.mark.parametrize("member", ReadoutPrompt.__subclasses__())
def test_a_fresh_prompt_is_zero_and_learns(member):
    prompt = member(6, 2, 3, 8)
    value = prompt(torch.randn(5, 6), torch.randn(4, 5 * 3, 4))
    assert value.shape in [(1, 2, 3, 5), (4, 2, 3, 5)] and (value == 0).all()
    if member is NoThermalPrompt:
        return
    value.sum().backward()
    assert prompt.adapter[-1].weight.grad.abs().sum() > 0


def test_only_the_content_prompt_reads_the_content():
    torch.manual_seed(0)
    embedded, one, other = torch.randn(5, 6), torch.randn(4, 5 * 3, 4), torch.randn(4, 5 * 3, 4)
    thermal, content = ThermalPrompt(6, 2, 3, 8), ContentPrompt(6, 2, 3, 8)
    for prompt in (thermal, content):
        torch.nn.init.normal_(prompt.adapter[-1].weight)
    assert torch.equal(thermal(embedded, one), thermal(embedded, other))
    changed = other.clone()
    changed[1, 2 * 3] += 1  # a pixel of the third frame
    difference = (content(embedded, other) - content(embedded, changed)).abs().amax(dim=(1, 2)) > 0
    assert difference.nonzero().tolist() == [[1, 2]], "the prompt of that frame of that clip alone"


def test_summary_is_mean_and_deviation_of_each_frame():
    tokens = torch.randn(2, 3 * 20, 4, dtype=torch.float64)
    frames = tokens.reshape(2, 3, 20, 4)
    found = summary(tokens, 3)
    assert found.shape == (2, 3, 8)
    torch.testing.assert_close(found[..., :4], frames.mean(2))
    torch.testing.assert_close(found[..., 4:], frames.std(2, unbiased=False), atol=1e-5, rtol=1e-5)
    flat = torch.ones(1, 6, 2, requires_grad=True)
    summary(flat, 2).sum().backward()
    assert torch.isfinite(flat.grad).all()


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


def test_the_tests_know_all_mixers():
    found = {m for base in TokenMixer.__subclasses__() for m in (base, *base.__subclasses__())}
    assert found == set(MIXERS)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("prompt", ReadoutPrompt.__subclasses__())
@pytest.mark.parametrize("order", ORDERS, ids=lambda o: f"{type(o).__name__}-{getattr(o, 'mode', '')}")
def test_every_member_backward_half_precision_and_state_dict(order, prompt, mixer):
    torch.manual_seed(0)
    layer = mixer(8, 6, order, prompt, state=4)
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
    copy = mixer(8, 6, order, prompt, state=4)
    copy.load_state_dict(layer.state_dict())
    assert torch.equal(copy(x, embedded), y)


def test_initial_step_sizes_and_decays():
    layer = StateSpace(16, 6, SpatialFirst(), state=5)
    step = F.softplus(layer.step_bias)
    assert step.min() >= 1e-4 and step.max() <= 0.1001
    assert torch.allclose(layer.log_decay.exp(), torch.arange(1.0, 6.0).expand(2, 32, 5))


def test_the_order_of_the_parameters_is_that_of_old_checkpoints():
    """The states of an optimizer are stored in the order of the parameters."""
    names = [name for name, _ in StateSpace(4, 6, SpatialFirst()).named_parameters()]
    modules = ["prompt.adapter.0", "prompt.adapter.2", "project_in", "convolution", "norm", "project_out"]
    assert names[:5] == ["to_scan", "to_step", "step_bias", "log_decay", "skip"]
    assert list(dict.fromkeys(name.rsplit(".", 1)[0] for name in names[5:])) == modules


def share_of_the_state(layer):
    """Size of what the state adds before the norm, relative to the tokens that a skip of one adds twice."""
    x, embedded = torch.randn(1, 5, 8, 8, layer.project_in.in_features), torch.randn(5, 6)
    found = {}
    mix = layer.mix

    def record(tokens, *rest):
        found["tokens"] = tokens
        found["mixed"] = mix(tokens, *rest)
        return found["mixed"]

    layer.mix = record
    layer(x, embedded)
    carried = found["mixed"] - layer.skip.sum(0) * found["tokens"] * (2 / len(layer.skip))
    return float((carried.std() / found["mixed"].std()).detach())


def test_the_state_is_all_of_the_output_at_the_start():
    torch.manual_seed(0)
    assert share_of_the_state(StateSpace(16, 6, TemporalFirst())) < 0.05
    layer = CarryingStateSpace(16, 6, TemporalFirst())
    assert (layer.skip == 0).all() and share_of_the_state(layer) == 1


def test_a_fresh_carrying_scan_averages_still_frames():
    """Of tokens that are alike up to noise, the state is a mean: its noise is far below that of the tokens."""
    torch.manual_seed(0)
    layer = CarryingStateSpace(16, 6, TemporalFirst("per_pixel"), state=8)
    still = torch.randn(1, 1, 36, 32).expand(1, 16, 36, 32)
    path, places = layer.order.indices(16, 6, 6, torch.device("cpu"))

    def mixed(tokens):
        made = layer.mix(tokens.reshape(1, -1, 32), torch.zeros(16, 6), path, places)
        return (made / made.std()).reshape(1, 16, 36, 32)

    noise = 0.2 * torch.randn(still.shape)
    error = (mixed(still + noise) - mixed(still)).std()
    assert error < 0.6 * 0.2, "frames of the same size would have 0.2"


def test_without_state_no_token_depends_on_another_beyond_the_convolution():
    layer = block(SpatialFirst(), mixer=NoState)
    x, embedded = torch.randn(1, 3, 5, 5, 4, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    changed = x.clone()
    changed[:, 1, 2, 2] += 1
    moved = (layer(x, embedded) - layer(changed, embedded)).abs().amax(dim=(0, 4)) > 0
    assert moved[1, 1:4, 1:4].all() and moved.sum() == 9


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
