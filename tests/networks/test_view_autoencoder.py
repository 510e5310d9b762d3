import functools

import pytest
import torch
from torch import nn

from lit_thermal.blocks.cross_modal_attention import Views
from lit_thermal.blocks.skip_connection import NoSkip, ZeroSkip
from lit_thermal.errors import InputError
from lit_thermal.networks.latent_diffusion import SmallLatentDiffusion
from lit_thermal.networks.view_autoencoder import ViewAutoencoder


def build(skip=ZeroSkip, latent="mean", scale: float = 0.5, widths=(8, 16, 16), seed: int = 0) -> ViewAutoencoder:
    """An autoencoder whose skips are not those of their start."""
    torch.manual_seed(seed)
    _, vae = SmallLatentDiffusion(vae_widths=widths, scale=scale, layers=1).build()
    network = ViewAutoencoder(vae, skip, latent).eval()
    for p in network.skip.parameters():
        nn.init.normal_(p, std=0.2)
    return network


def images(samples: int = 2, views: int = 2, size: tuple[int, int] = (8, 12)) -> torch.Tensor:
    return torch.rand(samples * views, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("views", [1, 2, 3])
def test_without_skips_it_is_the_autoencoder_of_diffusers(views):
    network, x, state = build(NoSkip), images(views=views), Views(views)
    with torch.no_grad():
        latent, taps = network.encode(x, state)
        expected = network.vae.encode(x).latent_dist.mean
        assert torch.equal(latent, expected * 0.5)
        assert latent.shape == (2 * views, 4, 2, 3)
        decoded = network.vae.decode(expected).sample
        assert torch.equal(network.decode(latent, taps, state), decoded)
        alone = network.decode(latent, taps, state, thermal_only=True)
        assert torch.allclose(alone, decoded[::views], atol=1e-6)


def test_sample_of_the_posterior():
    network, x, state = build(latent="sample"), images(), Views(2)
    posterior = network.vae.encode(x).latent_dist
    noise = torch.randn(4, 4, 2, 3)
    latent, _ = network.encode(x, state, lambda like: noise.to(like))
    assert torch.allclose(latent, 0.5 * (posterior.mean + posterior.std * noise), atol=1e-6)
    torch.manual_seed(3)
    assert not torch.equal(network.encode(x, state)[0], network.encode(x, state)[0])


def test_taps_are_the_inputs_of_the_blocks_of_the_thermal_view():
    network, x = build(), images()
    seen: list[torch.Tensor] = []
    for block in network.vae.encoder.down_blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    _, taps = network.encode(x, Views(2))
    assert [tuple(tap.shape) for tap in taps] == [(2, 8, 8, 12), (2, 8, 4, 6), (2, 16, 2, 3)]
    assert all(torch.equal(tap, inputs[::2]) for tap, inputs in zip(taps, seen, strict=True))


def test_skips_reach_the_thermal_view_only():
    network, x, state = build(), images(views=3), Views(3)
    with torch.no_grad():
        latent, taps = network.encode(x, state)
        out = network.decode(latent, taps, state)
        plain = network.vae.decode(latent / 0.5).sample
        assert torch.allclose(out.unflatten(0, (2, 3))[:, 1:], plain.unflatten(0, (2, 3))[:, 1:], atol=1e-6)
        assert (out[::3] - plain[::3]).abs().max() > 1e-3
        for level in range(3):
            changed = [tap + 1 if at == 2 - level else tap for at, tap in enumerate(taps)]
            other = network.decode(latent, changed, state)
            assert not torch.equal(other[::3], out[::3]), "each level counts"
            assert torch.allclose(other.unflatten(0, (2, 3))[:, 1:], out.unflatten(0, (2, 3))[:, 1:], atol=1e-6)
        alone = network.decode(latent, taps, state, thermal_only=True)
        assert torch.allclose(alone, out[::3], atol=1e-6)


def test_skips_are_added_before_each_block():
    """The same by hooks on the layers of diffusers."""
    network, x, state = build(), images(views=1), Views(1)
    with torch.no_grad():
        latent, taps = network.encode(x, state)
        expected = network.decode(latent, taps, state)
        convs = list(network.skip.children())
        for block, conv, tap in zip(network.vae.decoder.up_blocks, convs, reversed(taps), strict=True):
            added = conv(tap)
            block.register_forward_pre_hook(lambda _, inputs, added=added: (inputs[0] + added, *inputs[1:]))
        assert torch.allclose(network.vae.decode(latent / 0.5).sample, expected, atol=1e-5)


def test_a_skip_that_starts_at_zero_changes_nothing():
    torch.manual_seed(0)
    _, vae = SmallLatentDiffusion().build()
    x, state = images(), Views(2)
    with torch.no_grad():
        outputs = []
        for skip in (NoSkip, ZeroSkip, functools.partial(ZeroSkip, init=1e-5)):
            network = ViewAutoencoder(vae, skip)
            outputs.append(network.decode(*network.encode(x, state), state))
    assert torch.allclose(outputs[1], outputs[0], atol=1e-6)
    assert torch.allclose(outputs[2], outputs[0], atol=1e-3) and not torch.equal(outputs[2], outputs[0])


def test_absent_views_do_not_leak():
    network, state = build(), Views()
    present = torch.tensor([[True, False], [True, True]])
    state.set(2, present)
    results = []
    for filling in (0.0, torch.nan):
        x = images()
        x.unflatten(0, (2, 2))[~present] = filling
        network.zero_grad()
        latent, taps = network.encode(x, state)
        out = network.decode(latent, taps, state)
        assert out.isfinite().all()
        out[present.flatten()].square().sum().backward()
        gradients = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
        results.append((out.detach(), torch.cat(gradients)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert results[0][1].isfinite().all()


def test_every_parameter_has_a_gradient():
    network, state = build(latent="sample"), Views(2)
    latent, taps = network.encode(images(), state)
    network.decode(latent, taps, state).square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # the bias of keys shifts all scores of a query alike
    assert all(name.endswith("to_k.bias") for name in silent), silent


def test_checkpointing_of_diffusers_is_kept():
    network, state, x = build(), Views(2), images()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            network.vae.enable_gradient_checkpointing()
        network.zero_grad()
        latent, taps = network.encode(x, state)
        calls: list[object] = []
        handle = network.vae.decoder.up_blocks[0].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        network.decode(latent, taps, state).square().sum().backward()
        handle.remove()
        assert len(calls) == 1 + checkpointing, "run again in the backward pass"
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 10), (6, 8)])
def test_sides_that_have_no_latent(size):
    with pytest.raises(InputError, match=rf"{size[0]}x{size[1]} pixels has no latent.*multiples of 4"):
        build().encode(images(size=size), Views(2))


def test_half_precision_is_close():
    network, x, state = build(), images(), Views(2)
    with torch.no_grad():
        exact = network.decode(*network.encode(x, state), state)
        with torch.autocast("cpu", torch.bfloat16):
            latent, taps = network.encode(x, state)
            rough = network.decode(latent, taps, state)
        assert latent.dtype == rough.dtype == torch.float32
        assert (rough - exact).abs().max() < 0.05 * exact.abs().max()
        network.bfloat16()
        half = network.decode(*network.encode(x.bfloat16(), state), state)
        assert half.dtype == torch.bfloat16
        assert (half - exact).abs().max() < 0.1 * exact.abs().max()


def test_one_level_and_no_convolutions_at_the_latent():
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, use_quant_conv=False, use_post_quant_conv=False)
    network, x = ViewAutoencoder(vae, NoSkip).eval(), images(views=1, size=(5, 7))
    with torch.no_grad():
        latent, taps = network.encode(x, Views(1))
        assert latent.shape == (2, 4, 5, 7) and len(taps) == 1
        expected = vae.decode(vae.encode(x).latent_dist.mean).sample
        assert torch.allclose(network.decode(latent, taps, Views(1)), expected, atol=1e-6)


def test_state_dict_round_trip():
    one, other, x, state = build(), build(seed=1), images(), Views(2)
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        assert torch.equal(*(n.decode(*n.encode(x, state), state) for n in (one, other)))
    assert {name.split(".")[0] for name in one.state_dict()} == {"vae", "skip"}
