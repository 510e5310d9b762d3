"""No step waits for the device: on tensors without values, only the reading of the flags fails."""

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from lit_thermal.callbacks import NonFiniteGuard


@pytest.mark.parametrize("scaler", [None, object()])
def test_nothing_is_read_from_the_device_but_the_flags_of_every_tenth_step(scaler):
    with FakeTensorMode():
        model = torch.nn.Sequential(torch.nn.Linear(3, 4, device="cuda"), torch.nn.Linear(4, 1, device="cuda"))
        model.device = torch.device("cuda")
        optimizer = torch.optim.Adam(model.parameters())
        plugin = SimpleNamespace(scaler=scaler)
        trainer = SimpleNamespace(global_step=0, world_size=1, precision_plugin=plugin, callback_metrics={})
        guard = NonFiniteGuard()
        guard.on_train_start(trainer, model)

        def step() -> None:
            guard.on_train_batch_start(trainer, model, {"name": ["a"]}, trainer.global_step)
            loss = model(torch.ones(2, 3, device="cuda")).mean()
            trainer.callback_metrics = {"train/loss": loss}
            guard.on_before_backward(trainer, model, loss)
            for parameter in model.parameters():  # a backward pass would ask for a real device
                parameter.grad = torch.ones_like(parameter)
            guard.on_before_optimizer_step(trainer, model, optimizer)
            trainer.global_step += 1

        for _ in range(9):
            step()
        with pytest.raises(DataDependentOutputException):
            step()
