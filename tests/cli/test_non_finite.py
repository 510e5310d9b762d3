"""A training whose loss or gradient is NaN or infinite stops, or skips the batch, and can be started on again."""

import itertools
from pathlib import Path

import pytest
import stand_in
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from test_runs import runs, same, weights
from torch import Tensor

from lit_thermal.batch import Batch
from lit_thermal.callbacks import EMA, NonFiniteGuard
from lit_thermal.errors import InputError

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


class Hurt(torch.autograd.Function):
    """The same values, whose gradient is NaN."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return torch.full_like(gradient, float("nan"))


class Bad(stand_in.StandIn):
    """Fails at some batches.

    Args:
        nan: batches of which one of two loss terms is NaN.
        hurt: batches of which the gradient of the first convolution is NaN.
        options: those of `StandIn`.
    """

    def __init__(self, nan: list[int] | None = None, hurt: list[int] | None = None, **options) -> None:
        super().__init__(**options)
        self.nan, self.hurt, self.done = nan or [], hurt or [], 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        number, self.done = self.trainer.fit_loop.total_batch_idx, self.done + 1
        features = self.mixers[0](batch["lr"])
        if number in self.hurt:
            features = Hurt.apply(features)
        image = torch.nn.functional.pixel_shuffle(self.mixers[1:](features), self.scale)
        loss = (image - batch["hr"]).square().mean()
        other = image.mean() * (float("nan") if number in self.nan else 1.0)
        self.log("train/good", loss)
        self.log("train/other", other)
        total = loss + 0.1 * other
        self.log("train/loss", total)
        return total


def fit(model: LightningModule, folder: Path, guard: NonFiniteGuard, *callbacks, **options) -> Trainer:
    torch.manual_seed(0)
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[guard, *callbacks],
        **QUIET | {"max_steps": 6, "num_sanity_val_steps": 0, "limit_val_batches": 0} | options,
    )
    trainer.fit(model, stand_in.StandInData())
    return trainer


def bad(**options) -> Bad:
    torch.manual_seed(1)
    return Bad(**options)


def test_a_loss_of_nan_stops_and_is_reported(tmp_path):
    with pytest.raises(
        InputError, match=r"in step 3 the loss is NaN \(first in the term other\) on blob\d, blob\d: "
    ) as caught:
        fit(bad(nan=[3]), tmp_path, NonFiniteGuard())
    path = tmp_path / "non_finite_step3.ckpt"
    assert str(path) in str(caught.value) and "action: skip" in str(caught.value)
    kept = torch.load(path, weights_only=True)
    record = kept["non_finite"]
    assert record["batches"][0]["hr"].shape == (2, 1, 16, 16) and record["names"] == record["batches"][0]["name"]
    assert record["terms"][0]["good"] > 0 and record["step"] == kept["global_step"] == 3
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


def test_a_gradient_of_nan_names_the_first_parameter_of_the_backward_pass(tmp_path):
    with pytest.raises(InputError, match=r"in step 2 the gradient of mixers.0.bias and of 1 more .* is NaN, not the l"):
        fit(bad(hurt=[2]), tmp_path, NonFiniteGuard())


@pytest.mark.parametrize("accumulated", [1, 2])
def test_weights_and_optimizer_are_those_before_the_batch(tmp_path, accumulated):
    options = {"accumulate_grad_batches": accumulated}
    with pytest.raises(InputError, match="in step 2 "):
        fit(bad(nan=[2 * accumulated]), tmp_path, NonFiniteGuard(), EMA(), **options)
    before = bad()
    fit(before, tmp_path, NonFiniteGuard(), max_steps=2, **options)
    kept = torch.load(tmp_path / "non_finite_step2.ckpt", weights_only=True)
    assert same(kept["current_model_state"], before.state_dict())
    # the checkpoint goes on with the very batch
    on, whole = bad(), bad()
    trainer = Trainer(
        accelerator="cpu", callbacks=[NonFiniteGuard()], max_steps=6, limit_val_batches=0, **options, **QUIET
    )
    trainer.fit(on, stand_in.StandInData(), ckpt_path=tmp_path / "non_finite_step2.ckpt")
    assert on.done == 4 * accumulated and trainer.fit_loop.total_batch_idx == 6 * accumulated - 1
    assert fit(whole, tmp_path, NonFiniteGuard(), **options).global_step == trainer.global_step == 6


def test_a_skipped_batch_leaves_no_trace(tmp_path, caplog):
    guard, model, seen = NonFiniteGuard(action="skip"), bad(nan=[1], hurt=[4]), []
    model.on_before_zero_grad = lambda _: seen.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    fit(model, tmp_path, guard)
    assert guard.skipped == [1, 4] and not list(tmp_path.iterdir())
    changed = [not torch.equal(a, b) for a, b in itertools.pairwise(seen)]
    assert changed == [True, False, True, True, False], "weights stay in the skipped steps alone"
    assert "in step 1 the loss is NaN" in caplog.text and "skipped 2 batches" in caplog.text


def test_too_many_in_a_row_stop(tmp_path):
    with pytest.raises(InputError, match=r"in step 2 the loss is NaN .*, as in the 2 steps before: lower"):
        fit(bad(nan=[0, 1, 2, 3]), tmp_path, NonFiniteGuard(action="skip", limit=2, every_n_steps=1), max_steps=8)


@pytest.mark.parametrize("kind", ["nan", "hurt"])
def test_flags_read_every_few_steps_keep_the_weights_finite_and_tell_the_step(tmp_path, kind):
    with pytest.raises(InputError, match=r"in step 1 the .* is NaN"):
        fit(bad(**{kind: [1, 3]}), tmp_path, NonFiniteGuard(every_n_steps=4))
    kept = torch.load(tmp_path / "non_finite_step1.ckpt", weights_only=True)
    assert kept["global_step"] == 3, "the step at which the flag was read"
    assert all(value.isfinite().all() for value in kept["state_dict"].values())
    guard, model = NonFiniteGuard(action="skip", every_n_steps=4), bad(**{kind: [1, 3]})
    fit(model, tmp_path / "skip", guard)
    assert guard.skipped == [1, 3] and all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("every", [1, 3])
def test_good_training_is_the_same_to_the_bit(tmp_path, every):
    plain, guarded = bad(), bad()
    torch.manual_seed(0)
    Trainer(accelerator="cpu", max_steps=6, limit_val_batches=0, gradient_clip_val=0.1, **QUIET).fit(
        plain, stand_in.StandInData()
    )
    fit(guarded, tmp_path, NonFiniteGuard(every_n_steps=every), gradient_clip_val=0.1)
    assert same(plain.state_dict(), guarded.state_dict())


def scaled(**options) -> dict:
    return {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", **options))]}


def test_the_scaler_of_half_precision_may_leave_out_updates(tmp_path):
    guard = NonFiniteGuard()
    fit(bad(hurt=[1, 2]), tmp_path, guard, **scaled())
    assert not guard.skipped
    with pytest.raises(InputError, match=r"in step 5 the gradient of .*, as in the 3 steps before"):
        fit(bad(hurt=[*range(2, 9)]), tmp_path, NonFiniteGuard(limit=3), max_steps=9, **scaled())
    with pytest.raises(InputError, match="in step 2 the loss is NaN"):
        fit(bad(nan=[2]), tmp_path, NonFiniteGuard(), **scaled())


def test_numbers_that_cannot_be(tmp_path):
    for options in ({"action": "warn"}, {"limit": 0}, {"every_n_steps": -1}):
        with pytest.raises(InputError, match="NonFiniteGuard"):
            NonFiniteGuard(**options)


def test_a_ruinous_learning_rate_stops_the_run_and_leaves_what_fit_takes(run, folder):
    stopped = run("fit", "-c", "toy.yaml", "--model.optimizer.lr=1e12", "--trainer.max_epochs=3")
    errors = [line for line in stopped.err.splitlines() if line.startswith("error: ")]
    assert stopped.code == 2 and len(errors) == 1 and "Traceback" not in stopped.err
    assert "(first in the term l2) on blob" in errors[0]
    (only,) = runs(folder)
    (kept,) = only.glob("non_finite_step*.ckpt")
    on = run("fit", "-c", "toy.yaml", f"--ckpt_path={kept}", "--model.optimizer.lr=1e12", "--experiment=on")
    assert on.code == 2 and errors[0].split(" on blob")[0] in on.err


def test_a_stopped_run_starts_on_again_from_its_dump(run, folder):
    words = ["fit", "-c", "toy.yaml", "--model=Bad", "--trainer.max_epochs=2", f"--allow={__name__}"]
    assert run(*words, "--model.nan=[5]").code == 2
    (only,) = runs(folder)
    assert not same(weights(only), torch.load(only / "non_finite_step5.ckpt", weights_only=True)["state_dict"])
    dump = f"={only / 'non_finite_step5.ckpt'}"
    assert run(*words, "--model.nan=[]", "--ckpt_path" + dump, "--experiment=on").code == 0
    (on,) = runs(folder, "on")
    assert torch.load(on / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 8
    assert run(*words, "--model.nan=[]", "--from" + dump, "--experiment=anew").code == 0
    skipped = run(*words, "--model.nan=[5]", "--trainer.callbacks+=NonFiniteGuard", "--trainer.callbacks.action=skip")
    assert (
        skipped.code == 0 and "skipped 1 batches whose loss or gradient was not finite, in the steps 5" in skipped.err
    )
    table = (runs(folder)[-1] / "csv/version_0/metrics.csv").read_text()
    assert "skipped_batches" in table.splitlines()[0]


@pytest.mark.parametrize(("rate", "said"), [("1e38", "without overflow): lower"), ("1e25", "weights are not finite e")])
def test_a_learning_rate_beyond_all_numbers_is_reported_too(run, folder, rate, said):
    stopped = run("fit", "-c", "toy.yaml", f"--model.optimizer.lr={rate}")
    assert stopped.code == 2 and said in stopped.err.splitlines()[-1] and "Traceback" not in stopped.err


def test_a_validation_of_nan_makes_no_best_checkpoint(run, folder, monkeypatch):
    assert run("fit", "-c", "toy.yaml", "--trainer.max_epochs=1").code == 0
    (first,) = runs(folder)
    best, last = weights(first, "best"), weights(first)
    monkeypatch.setattr(stand_in.StandIn, "restore", lambda self, batch: batch["hr"] * float("nan"))
    stopped = run("fit", "-c", "toy.yaml", "--ckpt_path=last", "--trainer.max_epochs=3")
    assert stopped.code == 2 and "measures a PSNR of" in stopped.err.splitlines()[-1]
    assert same(weights(first, "best"), best) and same(weights(first), last)
    fresh = run("fit", "-c", "toy.yaml", "--experiment=fresh")
    assert fresh.code == 2 and not list(folder.glob("runs/fresh/*/checkpoints/*.ckpt"))
