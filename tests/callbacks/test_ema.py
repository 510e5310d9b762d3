"""EMA: what is validated and saved is the average, and a killed run resumes as if nothing had happened."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lit_thermal.callbacks import EMA
from lit_thermal.errors import InputError

DECAY = 0.9


class Net(LightningModule):
    """A linear model with an index buffer; it notes what weights each stage sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.register_buffer("order", torch.arange(7, dtype=torch.int64))
        self.register_buffer("level", torch.zeros(1))
        self.trained: list[Tensor] = []
        self.validated: list[Tensor] = []
        self.tested: list[Tensor] = []

    def weights(self) -> Tensor:
        return self.layer.weight.detach().clone()

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        self.level += 1
        return (self.layer(batch[0]) - batch[1]).square().mean()

    def on_train_batch_end(self, *args: object) -> None:
        self.trained.append(self.weights())

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.validated.append(self.weights())
        self.log("val/loss", (self.layer(batch[0]) - batch[1]).square().mean())

    def test_step(self, batch: list[Tensor], index: int) -> None:
        self.tested.append(self.weights())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.05)


class Kill(Callback):
    """Stops the process, as it were, in the middle of an epoch or of a validation."""

    def __init__(self, epoch: int, where: str) -> None:
        self.epoch, self.where = epoch, where

    def on_train_batch_end(self, trainer: Trainer, *args: object) -> None:
        if self.where == "train" and trainer.current_epoch == self.epoch:
            raise RuntimeError("killed")

    def on_validation_batch_end(self, trainer: Trainer, *args: object) -> None:
        if self.where == "validation" and trainer.current_epoch == self.epoch:
            raise RuntimeError("killed")


def loader() -> DataLoader:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(24, 3, generator=generator)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=6)


def trainer(
    folder: Path, epochs: int, *callbacks: Callback, ema: bool = True, save_on_exception: bool = False
) -> Trainer:
    save = ModelCheckpoint(
        dirpath=folder / "checkpoints",
        filename="best",
        monitor="val/loss",
        save_last=True,
        save_on_exception=save_on_exception,
    )
    return Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        callbacks=[*([EMA(DECAY)] if ema else []), save, *callbacks],
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def new() -> Net:
    torch.manual_seed(0)
    return Net()


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def assert_same(found: dict, expected: dict) -> None:
    """The averages, the weights being trained, the counter and the optimizer, bit for bit."""
    assert found["global_step"] == expected["global_step"]
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert found[part].keys() == expected[part].keys()
        for name, value in expected[part].items():
            assert torch.equal(found[part][name], value), (part, name)
    for index, state in expected["optimizer_states"][0]["state"].items():
        for name, value in state.items():
            assert torch.equal(found["optimizer_states"][0]["state"][index][name], value), name


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Net, Trainer, Path]:
    folder = tmp_path_factory.mktemp("unbroken")
    net, run = new(), trainer(folder, 4)
    run.fit(net, loader(), loader())
    return net, run, folder


def test_average_is_the_recursion_with_warm_up(unbroken: tuple[Net, Trainer, Path]) -> None:
    net, _, folder = unbroken
    expected = net.trained[0].double()
    for n, weights in enumerate(net.trained[1:], start=1):
        decay = min(DECAY, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weights.double()
    saved = load(folder / "checkpoints" / "last.ckpt")
    torch.testing.assert_close(saved["state_dict"]["layer.weight"].double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(saved["current_model_state"]["layer.weight"], net.trained[-1], rtol=0, atol=0)
    # After training the model itself is the average.
    torch.testing.assert_close(net.weights().double(), expected, rtol=1e-6, atol=1e-6)


def test_validation_sees_the_average_and_the_best_checkpoint_stores_what_was_validated(
    unbroken: tuple[Net, Trainer, Path],
) -> None:
    net, run, _ = unbroken
    batches = len(loader())
    epochs = net.validated[2:][batches - 1 :: batches]  # the sanity check has two batches
    assert not any(torch.equal(a, b) for a, b in zip(epochs, net.trained[batches - 1 :: batches], strict=True))
    best = load(Path(run.checkpoint_callback.best_model_path))
    assert torch.equal(best["state_dict"]["layer.weight"], epochs[best["epoch"]])


def test_whole_number_buffers_are_copied_and_float_buffers_averaged(unbroken: tuple[Net, Trainer, Path]) -> None:
    saved = load(unbroken[2] / "checkpoints" / "last.ckpt")
    assert torch.equal(saved["state_dict"]["order"], torch.arange(7))
    assert 0 < saved["state_dict"]["level"].item() < saved["current_model_state"]["level"].item()


def test_killed_and_resumed_equals_unbroken(unbroken: tuple[Net, Trainer, Path], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        trainer(tmp_path, 4, Kill(2, "train")).fit(new(), loader(), loader())
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert load(last)["global_step"] == 2 * len(loader())
    trainer(tmp_path, 4).fit(Net(), loader(), loader(), ckpt_path=last)
    assert_same(load(last), load(unbroken[2] / "checkpoints" / "last.ckpt"))


def test_checkpoint_saved_during_validation_has_both_sets_in_their_place(
    unbroken: tuple[Net, Trainer, Path], tmp_path: Path
) -> None:
    run = trainer(tmp_path, 4, Kill(3, "validation"), save_on_exception=True)
    with pytest.raises(RuntimeError, match="killed"):
        run.fit(new(), loader(), loader())
    assert_same(load(tmp_path / "checkpoints" / "last.ckpt"), load(unbroken[2] / "checkpoints" / "last.ckpt"))


def test_a_finished_run_can_be_continued(unbroken: tuple[Net, Trainer, Path], tmp_path: Path) -> None:
    trainer(tmp_path, 2).fit(new(), loader(), loader())
    last = tmp_path / "checkpoints" / "last.ckpt"
    trainer(tmp_path, 4).fit(Net(), loader(), loader(), ckpt_path=last)
    assert_same(load(last), load(unbroken[2] / "checkpoints" / "last.ckpt"))


def test_test_after_fit_measures_the_saved_average(unbroken: tuple[Net, Trainer, Path]) -> None:
    net, run, folder = unbroken
    best = Path(run.checkpoint_callback.best_model_path)
    run.test(net, loader(), ckpt_path=best, verbose=False)
    average = load(best)["state_dict"]["layer.weight"]
    assert torch.equal(net.tested[-1], average)
    net.validated.clear()
    run.validate(net, loader(), ckpt_path=best, verbose=False)
    assert torch.equal(net.validated[-1], average)
    assert torch.equal(net.weights(), average)
    # A new process, with and without the callback, finds the averages too.
    for ema in (True, False):
        other = Net()
        trainer(folder, 1, ema=ema).test(other, loader(), ckpt_path=best, verbose=False)
        assert torch.equal(other.tested[-1], average)


def test_a_run_without_average_can_be_continued_with_one(tmp_path: Path) -> None:
    trainer(tmp_path, 1, ema=False).fit(new(), loader(), loader())
    last = tmp_path / "checkpoints" / "last.ckpt"
    start = load(last)["state_dict"]["layer.weight"]
    net = Net()
    trainer(tmp_path, 2).fit(net, loader(), loader(), ckpt_path=last)
    assert not torch.equal(net.trained[0], start)
    assert (net.trained[0] - start).abs().max() < 0.06  # one step of Adam


def test_weights_only_checkpoints_are_refused(tmp_path: Path) -> None:
    save = ModelCheckpoint(dirpath=tmp_path, save_weights_only=True)
    run = Trainer(max_epochs=1, callbacks=[EMA(), save], logger=False, accelerator="cpu")
    with pytest.raises(InputError, match="save_weights_only"):
        run.fit(new(), loader())


def test_decay_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"not 1\.0"):
        EMA(1.0)


def test_weights_of_half_precision_are_averaged_in_single(tmp_path: Path) -> None:
    net = new()
    Trainer(
        max_epochs=2,
        callbacks=[EMA(DECAY)],
        logger=False,
        accelerator="cpu",
        precision="bf16-true",
        default_root_dir=tmp_path,
        enable_progress_bar=False,
    ).fit(net, loader())
    assert net.weights().isfinite().all()
