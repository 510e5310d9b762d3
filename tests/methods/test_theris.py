import types
from functools import partial

import pytest
import torch
from torch import nn

from lit_thermal.batch import output_times
from lit_thermal.blocks.scan_order import Hilbert, SpatialFirst, TemporalFirst
from lit_thermal.blocks.spectral_mask import NoSpectralMask, SpectralMask
from lit_thermal.blocks.state_space import CarryingStateSpace, NoState
from lit_thermal.blocks.temporal_interpolation import LinearInterpolation, TemporalInterpolation
from lit_thermal.blocks.thermal_prompt import ContentPrompt, NoThermalPrompt
from lit_thermal.errors import InputError
from lit_thermal.losses.heat_equation import HeatLoss
from lit_thermal.methods.theris.module import THERIS, temporal_scale
from lit_thermal.methods.theris.network import THERISNetwork

TINY = partial(
    THERISNetwork,
    channels=16,
    depth=1,
    encoder_blocks=1,
    decoder_blocks=1,
    embedding=16,
    state=8,
    expansion=1,
    shared_directions=True,
    decoder_width=16,
)


def model(seed=0, sizes=None, skip="all", checkpoint_blocks=False, **options) -> THERIS:
    torch.manual_seed(seed)
    return THERIS(network=partial(TINY, skip=skip, checkpoint_blocks=checkpoint_blocks, **(sizes or {})), **options)


def trained(**options) -> THERIS:
    """A model whose output really differs from its base."""
    made = model(**options)
    nn.init.normal_(made.network.decoder.to_image.weight, std=0.1)
    return made.eval()


def batch(clips=2, frames=4, scale=2, size=(6, 7), seed=0):
    g = torch.Generator().manual_seed(seed)
    times = output_times(frames, scale).float()
    return {
        "lr": torch.rand(clips, frames, 1, *size, generator=g),
        "hr": torch.rand(clips, len(times), 1, 4 * size[0], 4 * size[1], generator=g),
        "lr_time": torch.arange(frames).float().expand(clips, -1),
        "hr_time": times.expand(clips, -1),
        "name": [f"clip{i}" for i in range(clips)],
    }


def test_an_untrained_model_returns_its_base_exactly():
    made, given = model(), batch()
    lr, restored = given["lr"], made.restore(given)
    blended = torch.stack(
        [lr[:, i // 2] if i % 2 == 0 else (lr[:, i // 2] + lr[:, i // 2 + 1]) / 2 for i in range(7)], 1
    )
    base = nn.functional.interpolate(blended.flatten(0, 1), scale_factor=4, mode="bilinear")
    assert torch.allclose(restored, base.unflatten(0, (2, 7)), atol=1e-6)
    assert restored.shape == given["hr"].shape


def test_skip_choices():
    given = batch()
    every, observed, none = (model(skip=s).restore(given) for s in ("all", "observed", "none"))
    assert torch.equal(observed[:, ::2], every[:, ::2]) and (observed[:, 1::2] == 0).all()
    assert (none == 0).all()


def test_restoring_never_reads_the_target():
    made, given = trained(), batch()
    expected = made.restore(given)
    given["hr"] = torch.full_like(given["hr"], float("nan"))
    assert torch.equal(made.restore(given), expected)


def test_clips_of_a_batch_do_not_mix():
    made, given = trained(), batch(clips=3)
    together = made.restore(given)
    for i in range(3):
        alone = made.restore({k: v[i : i + 1] for k, v in given.items()})
        assert torch.allclose(alone, together[i : i + 1], atol=1e-5)


@pytest.mark.parametrize("frames", [3, 4, 6])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_any_number_of_frames_and_temporal_scale(frames, scale):
    given = batch(clips=1, frames=frames, scale=scale, size=(5, 4))
    assert trained().restore(given).shape == (1, scale * (frames - 1) + 1, 1, 20, 16)


def test_any_real_time():
    given = batch(clips=1)
    given["hr_time"] = torch.tensor([[0.123, 1.9]])
    assert torch.isfinite(trained().restore(given)).all()
    given["hr_time"] = torch.tensor([[0.0, 3.2]])
    with pytest.raises(InputError, match=r"must lie in \[0, 3\]"):
        trained().restore(given)


def test_two_frames_are_refused():
    with pytest.raises(InputError, match="at least 3 input frames"):
        trained().restore(batch(frames=2))


def test_differing_times_are_refused():
    given = batch()
    given["hr_time"] = given["hr_time"].clone()
    given["hr_time"][1, 1] = 0.6
    with pytest.raises(InputError, match="differ in hr_time"):
        trained().restore(given)


def test_input_frames_that_are_not_evenly_spaced_are_refused():
    given = batch()
    given["lr_time"] = torch.tensor([0.0, 1, 3, 4]).expand(2, -1)
    with pytest.raises(InputError, match=r"lr_time is \[0.0, 1.0, 3.0, 4.0\]"):
        trained().restore(given)


def test_a_missing_key_is_named():
    given = batch()
    del given["hr_time"]
    with pytest.raises(InputError, match="THERIS needs 'hr_time'"):
        trained().restore(given)


def test_scale_must_be_a_power_of_two():
    with pytest.raises(InputError, match="powers of two"):
        model(scale=3)


@pytest.mark.parametrize(
    "network, millions", [(TINY, 0.0439), (THERISNetwork, 2.79), (partial(THERISNetwork, channels=96), 5.67)]
)
def test_parameter_counts(network, millions):
    with torch.device("meta"):
        made = THERIS(network=network)
    assert sum(p.numel() for p in made.network.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)


BLOCKS = [
    *[{"interpolation": member} for member in TemporalInterpolation.__subclasses__()],
    *[{"mask": member} for member in SpectralMask.__subclasses__()],
    {"prompt": NoThermalPrompt},
    {"prompt": ContentPrompt},
    {"mixer": CarryingStateSpace},
    {"mixer": CarryingStateSpace, "prompt": ContentPrompt},
    {"mixer": NoState},
    {"scans": []},
    {"scans": [Hilbert]},
    {"scans": [TemporalFirst, SpatialFirst]},
    {"sizes": {"depth": 0}},
    {"sizes": {"depth": 2, "channels": 8}},
    {"checkpoint_blocks": True},
]


@pytest.mark.parametrize("options", BLOCKS, ids=str)
def test_every_swap_trains(options, monkeypatch):
    made = model(**options)
    monkeypatch.setattr(THERIS, "_heat_weight_now", lambda self: 0.1)
    monkeypatch.setattr(made, "log", lambda *a, **k: None)
    nn.init.normal_(made.network.decoder.to_image.weight, std=0.1)
    made.training_step(batch(), 0).backward()
    assert all(torch.isfinite(p.grad).all() for p in made.parameters() if p.grad is not None)
    assert made.network.encoder[0].weight.grad.abs().sum() > 0


def test_recomputing_blocks_changes_nothing(monkeypatch):
    grads = []
    for checkpoint in (False, True):
        made = model(checkpoint_blocks=checkpoint, heat_weight=0)
        monkeypatch.setattr(made, "log", lambda *a, **k: None)
        nn.init.constant_(made.network.decoder.to_image.weight, 0.1)
        made.training_step(batch(), 0).backward()
        grads.append(made.network.encoder[0].weight.grad)
    assert torch.allclose(*grads, atol=1e-7)


def test_parameter_groups():
    made = model(optimizer=lambda groups: torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1))
    optimizer = made.configure_optimizers()
    names = {id(p): n for n, p in made.named_parameters()}
    by_decay = {g["weight_decay"]: {names[id(p)] for p in g["params"]} for g in optimizer.param_groups[:2]}
    assert all(n.endswith(("log_decay", "skip")) for n in by_decay[0.0]) and len(by_decay[0.0]) == 6
    assert optimizer.param_groups[2]["lr"] == pytest.approx(1e-4)
    covered = sum(len(g["params"]) for g in optimizer.param_groups)
    assert covered == len(list(made.parameters()))


def test_heat_weight_zero_leaves_the_loss_out(monkeypatch):
    made = model(heat_weight=0)
    logged = {}
    monkeypatch.setattr(made, "log", lambda name, value, **k: logged.update({name: value}))
    made.training_step(batch(), 0).backward()
    assert set(logged) == {"train/pixel"} and made.heat_loss.raw_diffusivity.grad is None


@pytest.mark.parametrize("loss", HeatLoss.__subclasses__())
def test_the_heat_weight_as_a_share_of_the_pixel_losses_gradient(loss, monkeypatch):
    made = trained(heat_loss=loss, heat_weighting="gradient_ratio", heat_weight=0.3)
    logged, outputs, forward = {}, [], made.network.forward
    monkeypatch.setattr(THERIS, "_heat_weight_now", lambda self: 0.3)
    monkeypatch.setattr(made, "log", lambda name, value, **k: logged.update({name: value}))
    monkeypatch.setattr(made.network, "forward", lambda *given: outputs.append(forward(*given)) or outputs[0])
    total, given = made.training_step(batch(), 0), batch()
    (output,) = outputs
    weight, pixel = logged["train/heat_weight"], made.pixel_loss(output, given["hr"])
    heat = made.heat_loss(output, given["hr"], 2)
    torch.testing.assert_close(total, pixel + weight * heat)
    norms = [torch.autograd.grad(each, output, retain_graph=True)[0].norm() for each in (pixel, weight * heat)]
    torch.testing.assert_close(norms[1], 0.3 * norms[0])
    total.backward()
    with pytest.raises(InputError, match=r"model.heat_weighting is 'half'; must be one of constant, gradient_ratio"):
        model(heat_weighting="half")


def test_several_temporal_scales_take_their_frames(monkeypatch):
    made = model(temporal_scales=(2, 4), heat_weight=0)
    monkeypatch.setattr(made, "log", lambda *a, **k: None)
    seen = []
    forward = made.network.forward
    monkeypatch.setattr(made.network, "forward", lambda lr, tau, s: seen.append((len(tau), s)) or forward(lr, tau, s))
    for _ in range(12):
        made.training_step(batch(clips=1, scale=4, size=(3, 3)), 0)
    assert set(seen) == {(7, 2), (13, 4)}
    with pytest.raises(InputError, match="least common multiple"):
        for _ in range(12):
            made.training_step(batch(clips=1, scale=2, size=(3, 3)), 0)


def test_temporal_scale_is_read_from_the_times():
    assert temporal_scale(torch.arange(7) / 2, 9) == 2
    assert temporal_scale(torch.arange(25) / 8, 9) == 8
    assert temporal_scale(torch.tensor([0.5]), 9) == 9
    assert temporal_scale(torch.tensor([1.0, 1.0]), 9) == 9
    assert temporal_scale(torch.tensor([1.0, 0.5, 1.0]), 9) == 2


@pytest.mark.parametrize("stage, given", [("fit", 2), ("fit", 8), ("test", 8), ("validate", 3), ("predict", 6)])
def test_data_at_another_temporal_scale_is_refused(stage, given):
    made = model(temporal_scales=(2, 4))
    made._trainer = types.SimpleNamespace(limit_val_batches=1.0, datamodule=types.SimpleNamespace(temporal_scale=given))
    with pytest.raises(InputError, match=f"for temporal scale 2 and 4 and the data has {given}"):
        made.setup(stage)


def test_data_of_another_scale_is_refused():
    made = model()
    made._trainer = types.SimpleNamespace(
        limit_val_batches=1.0, datamodule=types.SimpleNamespace(scale=2, temporal_scale=2)
    )
    with pytest.raises(InputError, match=r"model.scale is 4 and data.scale is 2"):
        made.setup("fit")


@pytest.mark.parametrize("stage, given", [("fit", 4), ("test", 2), ("test", 4), ("fit", None)])
def test_data_at_the_temporal_scale_of_the_model_is_taken(stage, given):
    made = model(temporal_scales=(2, 4))
    made._trainer = types.SimpleNamespace(
        limit_val_batches=1.0, datamodule=given and types.SimpleNamespace(temporal_scale=given)
    )
    assert made.setup(stage) is None


@pytest.mark.parametrize("steps, weights", [(100, [0.05, 0.1, 0.1]), (float("inf"), [0.1, 0.1, 0.1])])
def test_the_heat_weight_rises_and_is_there_in_a_training_of_unknown_length(steps, weights):
    made = model(heat_weight=0.1, heat_ramp=0.02)
    found = []
    for step in range(3):
        made._trainer = types.SimpleNamespace(estimated_stepping_batches=steps, global_step=step)
        found.append(made._heat_weight_now())
    assert found == pytest.approx(weights)


def test_half_precision_is_safe():
    made, given = trained(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        half = made.restore(given)
    assert (half.float() - made.restore(given)).abs().max() < 0.05


def test_autocast_leaves_the_base_exact():
    made, given = model(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        half = made.restore(given)
    assert torch.equal(half, made.restore(given)), "rounding the input to 8 bits would cap what 16-bit frames can reach"


@pytest.mark.parametrize("member", SpectralMask.__subclasses__())
@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 0.05), (torch.float64, 1e-4)])
def test_weights_of_any_precision(member, dtype, tolerance, monkeypatch):
    """As `precision: bf16-true` or sharding with mixed precision makes them: no autocast is there to convert."""
    made, given = trained(mask=member, heat_weight=0), batch()
    expected = made.restore(given)
    made.to(dtype)
    converted = {k: v.to(dtype) if isinstance(v, torch.Tensor) else v for k, v in given.items()}
    restored = made.restore(converted)
    assert restored.dtype == dtype and (restored.float() - expected).abs().max() < tolerance
    monkeypatch.setattr(made, "log", lambda *a, **k: None)
    made.training_step(converted, 0).backward()
    assert all(torch.isfinite(p.grad).all() for p in made.network.parameters())


@pytest.mark.parametrize("order", ["without scan", "all"])
def test_overfits_one_clip(order, monkeypatch):
    """A warm blob that moves over a textured ground: the loss falls five times."""
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    ground = 0.3 + 0.1 * torch.sin(x) * torch.sin(1.3 * y)
    hr = torch.stack([ground + 0.4 * torch.exp(-((x - 8 - 2 * t) ** 2 + (y - 16) ** 2) / 18) for t in range(7)])
    hr = hr[None, :, None]
    lr = nn.functional.interpolate(hr[0, ::2], scale_factor=0.25, mode="bicubic", antialias=True)[None]
    given = {"lr": lr, "hr": hr, "hr_time": output_times(4, 2).float()[None], "name": ["blob"]}
    made = model(scans=[] if order == "without scan" else [SpatialFirst, TemporalFirst, Hilbert], heat_weight=0)
    monkeypatch.setattr(made, "log", lambda *a, **k: None)
    optimizer = torch.optim.Adam(made.parameters(), 4e-3)
    losses = []
    while len(losses) < 400 and (not losses or losses[-1] > losses[0] / 5):
        loss = made.training_step(given, 0)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] <= losses[0] / 5


def test_blend_of_the_base_is_exact_between_frames():
    blend = LinearInterpolation(1, 4)
    assert blend.weights(torch.tensor([1.5], dtype=torch.float64), 4, torch.zeros(1, 4)).flatten().tolist() == [
        0,
        0.5,
        0.5,
        0,
    ]


def test_no_spectral_mask_has_no_parameters():
    assert not [n for n, _ in model(mask=NoSpectralMask).named_parameters() if ".mask." in n]


@pytest.mark.parametrize("decoder", ["stages", "shuffle"])
@pytest.mark.parametrize("interpolation", TemporalInterpolation.__subclasses__())
def test_frames_of_any_number_of_channels(decoder, interpolation):
    """Batches are thermal, with one channel; the network takes any number by one argument."""
    network = TINY(interpolation=interpolation, decoder=decoder, image_channels=3)
    nn.init.normal_(network.decoder.to_image.weight, std=0.1)
    restored = network(torch.rand(1, 4, 3, 6, 7), torch.tensor([0.0, 0.5, 3.0]), 2)
    assert restored.shape == (1, 3, 3, 24, 28) and restored.isfinite().all()
