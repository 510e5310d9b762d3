"""Pictures of the chain: which images, into which files, and what a method must have."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from lit_thermal.batch import Batch, Radiometry, collate
from lit_thermal.callbacks import ChainPictures
from lit_thermal.callbacks.file_name import file_name
from lit_thermal.errors import InputError
from lit_thermal.evaluation.baselines import reference_baseline
from lit_thermal.generative.chain import ChainStep

NOISY = file_name("no/isy")


class Method(LightningModule):
    """Goes from noise to the target, farther with guidance; notes whose chains are drawn."""

    scale = 4

    def __init__(self, steps: int = 15, known: bool = True) -> None:
        super().__init__()
        self.steps, self.known = steps, known
        self.chains: list[tuple[list[str], bool]] = []

    def restore(self, batch: Batch) -> Tensor:
        return 0.3 * reference_baseline(batch, 4) + 0.7 * batch["hr"]

    def chain(self, batch: Batch, guided: bool) -> list[ChainStep]:
        assert not torch.is_grad_enabled() and len(batch["lr"]) == len(batch["radiometry"])
        self.chains.append((batch["name"], guided))
        hr, start = batch["hr"], reference_baseline(batch, 4)
        noise = torch.randn(hr.shape, generator=torch.Generator().manual_seed(0))
        steps = []
        for i in range(self.steps):
            done = (i + 1) / self.steps * (0.9 if guided else 0.7)
            image = (start + done * (hr - start) + 0.2 * (1 - done) * noise).clamp(0, 1)
            loss = (image - hr).square().mean(dim=(1, 2, 3))
            steps.append(ChainStep(self.steps - 1 - i, image, loss if self.known else loss * math.nan))
        return steps

    def test_step(self, batch: Batch, index: int, dataloader_idx: int = 0) -> None: ...


class Data(LightningDataModule):
    test_names = ("clean", "no/isy")

    def __init__(self, names: tuple[str, ...], size: tuple[int, int] = (48, 64)) -> None:
        super().__init__()
        self.samples = [sample(name, seed, size) for seed, name in enumerate(names)]

    def test_dataloader(self) -> list[DataLoader[Any]]:
        return [DataLoader(self.samples, batch_size=2, collate_fn=collate)] * 2  # type: ignore[arg-type]


def sample(name: str, seed: int, size: tuple[int, int]) -> dict[str, Any]:
    coarse = torch.rand(1, 1, 9, 12, generator=torch.Generator().manual_seed(seed))
    hr = torch.nn.functional.interpolate(coarse, size, mode="bicubic")[0].clamp(0, 1)
    lr = torch.nn.functional.avg_pool2d(hr, 4)
    return {"name": name, "hr": hr, "lr": lr, "radiometry": Radiometry()}


def draw(folder: Path, data: LightningDataModule, model: LightningModule, *callbacks: Callback) -> list[str]:
    trainer = Trainer(
        default_root_dir=folder,
        logger=False,
        callbacks=list(callbacks),
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.test(model, data, verbose=False)
    return sorted(p.relative_to(folder / "chains").as_posix() for p in folder.rglob("chains/*/*"))


def test_the_first_images_of_each_set_are_drawn(tmp_path: Path) -> None:
    model = Method()
    found = draw(tmp_path, Data(("a", "b$c: $d", "e", "f")), model, ChainPictures(images=3))
    assert found == [f"{d}/{n}.png" for d in ("clean", NOISY) for n in ("a", file_name("b$c: $d"), "e")]
    # Each is drawn with and without guidance, no other image at all.
    once = [(names, guided) for names in (["a", "b$c: $d"], ["e"]) for guided in (False, True)]
    assert model.chains == once * 2
    picture = np.asarray(Image.open(tmp_path / "chains" / "clean" / "a.png"))
    assert picture.shape[1] > 1500 and picture.std() > 20


@pytest.mark.parametrize(
    ("steps", "size"), [(1, (16, 24)), pytest.param(8, (300, 260), marks=pytest.mark.slow), (50, (12, 300))]
)
def test_any_length_and_size_can_be_drawn(tmp_path: Path, steps: int, size: tuple[int, int]) -> None:
    assert draw(tmp_path, Data(("a",), size), Method(steps), ChainPictures()) == ["clean/a.png", f"{NOISY}/a.png"]


def test_a_loss_that_nobody_knows_does_not_stop_a_run(tmp_path: Path) -> None:
    assert len(draw(tmp_path, Data(("a",)), Method(known=False), ChainPictures(images=1))) == 2


def test_a_chain_that_cannot_be_made_does_not_stop_a_run(tmp_path: Path) -> None:
    class Lacking(Method):
        def chain(self, batch: Batch, guided: bool) -> list[ChainStep]:
            super().chain(batch, guided)
            raise InputError("the weights of a guidance term are not on this machine")

    model = Lacking()
    with pytest.warns(UserWarning, match="no chain is drawn: the weights of a guidance term") as caught:
        assert draw(tmp_path, Data(("a", "b", "c")), model, ChainPictures(images=3)) == []
    assert len([w for w in caught if "no chain" in str(w.message)]) == len(model.chains) == 1, (
        "once, not for each image"
    )


def test_a_flat_image_does_not_stop_a_run(tmp_path: Path) -> None:
    data = Data(("a",))
    data.samples[0] |= {"hr": torch.full((1, 16, 16), 0.5), "lr": torch.full((1, 4, 4), 0.5)}
    assert len(draw(tmp_path, data, Method(), ChainPictures(images=1))) == 2


def test_a_method_without_a_chain_is_one_sentence(tmp_path: Path) -> None:
    class Plain(LightningModule):
        def test_step(self, batch: Batch, index: int, dataloader_idx: int = 0) -> None: ...

    with pytest.raises(InputError, match="the chain of a diffusion method and Plain has none; leave the callback out"):
        draw(tmp_path, Data(("a",)), Plain(), ChainPictures())


def test_no_image_is_one_sentence() -> None:
    with pytest.raises(InputError, match="not 0; leave the callback out"):
        ChainPictures(images=0)
