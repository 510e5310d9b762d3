"""TokenizerFirst: who is in the optimizer, which steps train the tokenizer, and what a resumed training does."""

from functools import partial
from unittest.mock import Mock

import pytest
import torch
from lightning.pytorch import Trainer

from lit_thermal.blocks.condition_map_encoder import ConvStackEncoder
from lit_thermal.blocks.thermal_structure import ThermalStructuralGuidance
from lit_thermal.callbacks import TokenizerFirst
from lit_thermal.errors import InputError
from lit_thermal.methods.real_iisr.module import RealIISR
from lit_thermal.methods.theris.module import THERIS
from lit_thermal.methods.theris.network import THERISNetwork
from lit_thermal.networks.multi_scale_vqvae import MultiScaleVQVAE

ENCODER = partial(ConvStackEncoder, widths=[8, 8])
TOKENIZER = partial(MultiScaleVQVAE, 8, [1, 1, 1], 1, 4, 16, [1, 4], groups=1)


def make(**options) -> RealIISR:
    structure = partial(ThermalStructuralGuidance, encoder=ENCODER)
    options |= {"tokenizer": TOKENIZER, "depth": 2, "width": 16, "heads": 2, "overlap": 1, "drop_path": 0.0}
    return RealIISR(encoder=ENCODER, structure=structure, **options)


def gradients(model):
    return {p.requires_grad for p in model.network.tokenizer.parameters()}


def trainer(step=0):
    groups = [{"lr": 1.0}, {"lr": 1.0, "tokenizer": True}]
    return Mock(spec=Trainer, max_steps=4, global_step=step, datamodule=None, optimizers=[Mock(param_groups=groups)])


@pytest.mark.parametrize("given", [False, True])
def test_an_untrained_tokenizer_has_gradients_before_a_strategy_is_set_up(tmp_path, given):
    torch.save(TOKENIZER().released_state(), tmp_path / "a.pth")
    model = make(tokenizer_weights=str(tmp_path / "a.pth") if given else "")
    TokenizerFirst(2).setup(trainer(), model, "fit")
    assert gradients(model) == {not given}, "DDP is set up after this hook, and skips parameters without gradient"
    assert len(model.parameter_groups()) == 3


def test_a_resumed_training_has_gradients_if_it_began_with_a_tokenizer():
    model = make()
    for until in (2, 0):
        TokenizerFirst(2).on_load_checkpoint(trainer(), model, {"phases": {"until": until, "started": False}})
        assert gradients(model) == {until > 0}


def test_the_phases():
    model, callback = make(), TokenizerFirst(2, lr=0.5)
    callback.setup(trainer(), model, "fit")
    callback.on_fit_start(trainer(), model)
    for step, rate in ((0, 0.5), (1, 0.25)):
        now = trainer(step)
        model.eval()
        callback.on_train_batch_start(now, model, None, step)
        assert model.trains_tokenizer and model.network.tokenizer.training
        assert now.optimizers[0].param_groups[1]["lr"] == pytest.approx(rate)
        assert model.network.transformer.untrained()
    model.trainer = trainer(2)
    callback.on_train_batch_start(trainer(2), model, None, 2)
    assert not model.trains_tokenizer and not model.network.tokenizer.training
    assert gradients(model) == {False} and not model.network.transformer.untrained()
    saved: dict = {}
    callback.on_save_checkpoint(trainer(2), model, saved)
    assert saved["phases"]["until"] == 2


def test_a_trained_tokenizer_is_left_as_it_is():
    model, callback = make(), TokenizerFirst(2)
    model.network.tokenizer.quantize.idle.zero_()
    callback.setup(trainer(), model, "fit")
    callback.on_fit_start(trainer(), model)
    callback.on_train_batch_start(trainer(), model, None, 0)
    assert callback.until == 0 and not model.trains_tokenizer and gradients(model) == {False}


def test_a_transformer_is_started_unless_it_was_trained():
    model = make()
    model.trainer = trainer()
    model.network.tokenizer.quantize.idle.zero_()
    model.start_transformer()
    assert not model.network.transformer.untrained()
    before = [p.clone() for p in model.network.transformer.parameters()]
    model.start_transformer()
    assert all(torch.equal(a, b) for a, b in zip(before, model.network.transformer.parameters(), strict=True))


def test_mistakes_are_refused():
    with pytest.raises(InputError, match=r"TokenizerFirst\.steps is -1"):
        TokenizerFirst(-1)
    with pytest.raises(InputError, match="THERIS has none; leave the callback out"):
        TokenizerFirst(1).setup(trainer(), THERIS(network=partial(THERISNetwork, channels=8, depth=0)), "fit")
    model, callback = make(), TokenizerFirst(4)
    callback.setup(trainer(), model, "fit")
    with pytest.raises(InputError, match="nothing would be left for the transformer"):
        callback.on_fit_start(trainer(), model)
