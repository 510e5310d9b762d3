"""The protocols of single papers against torchmetrics itself, and what they do with odd images."""

import math
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, distributed, multiprocessing
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from lit_thermal.errors import InputError
from lit_thermal.evaluation.baselines import image_baselines
from lit_thermal.evaluation.protocols import (
    BT601Y,
    CoReFusionNotebook,
    CoReFusionTrainer,
    DifIISRPaper,
    EvaluationProtocol,
    Gray8,
    ProtocolScores,
    PyiqaY,
    RealIISRPaper,
    RestoredImage,
    ThreeMTIPaper,
    protocols_by_name,
)
from lit_thermal.metrics import psnr, quantize

PBVS = Path(__file__).parents[2].parent / "shared" / "data" / "pbvs" / "val"
BOTH = (CoReFusionTrainer, CoReFusionNotebook)


def images(count: int, seed: int = 0, size: tuple[int, int] = (24, 30)) -> tuple[Tensor, Tensor]:
    """Smooth targets of different ranges, and noisy versions of them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 4, 5, generator=generator) * torch.linspace(0.4, 0.9, count).view(-1, 1, 1, 1) + 0.05
    target = torch.nn.functional.interpolate(coarse, size, mode="bilinear")
    return (target + 0.05 * torch.randn(target.shape, generator=generator)).clamp(0, 1), target


def measured(protocol: EvaluationProtocol, restored: Tensor, target: Tensor) -> dict[str, float]:
    protocol.update(restored, target)
    return protocol.compute()


def by_torchmetrics(restored: Tensor, target: Tensor) -> dict[str, float]:
    """Ranges where none is given as torchmetrics documents them; SSIM inside the border that it mirrors."""
    span = float(max(restored.max() - restored.min(), target.max() - target.min()))
    peak = float(target.max().clamp(min=0) - target.min().clamp(max=0))
    same, values = structural_similarity_index_measure(restored, target, return_full_image=True, reduction="none")
    given = structural_similarity_index_measure(restored, target, data_range=span, reduction="none")
    torch.testing.assert_close(same, given)
    return {
        "psnr": float(peak_signal_noise_ratio(restored, target, data_range=peak)),
        "ssim": float(values[..., 5:-5, 5:-5].mean()),
    }


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def test_trainer_pools_batches_of_eight_in_the_range_of_tanh():
    restored, target = images(19)
    expected = mean(
        [by_torchmetrics(2 * r - 1, 2 * t - 1) for r, t in zip(restored.split(8), target.split(8), strict=True)]
    )
    assert measured(CoReFusionTrainer(), restored, target) == pytest.approx(expected, abs=2e-4)


def test_notebook_truncates_each_image():
    restored, target = images(5)
    counts = [((255 * r).int().float(), (255 * t).int().float()) for r, t in zip(restored, target, strict=True)]
    expected = mean([by_torchmetrics(r[None], t[None]) for r, t in counts])
    assert measured(CoReFusionNotebook(), restored, target) == pytest.approx(expected, abs=2e-4)
    almost, white = torch.full((1, 1, 12, 12), 0.9999), torch.ones(1, 1, 12, 12)
    assert measured(CoReFusionNotebook(), almost, white)["psnr"] == pytest.approx(20 * math.log10(255), abs=1e-4)


def test_counts_of_8_bit_files_survive_truncation():
    counts = torch.arange(256.0).view(1, 1, 16, 16)
    assert torch.equal((255 * (counts / 255)).trunc(), counts)


@pytest.mark.parametrize("protocol", BOTH)
def test_how_images_arrive_does_not_matter(protocol):
    restored, target = images(11)
    whole, single = measured(protocol(), restored, target), protocol()
    for r, t in zip(restored.split(1), target.split(1), strict=True):
        single.update(r, t)
        single.compute()
    assert single.compute() == pytest.approx(whole, abs=1e-6)


def test_a_batch_ends_where_the_size_changes():
    small, large = images(3), images(2, seed=1, size=(40, 20))
    protocol = CoReFusionTrainer()
    for pair in (small, large, small):
        protocol.update(*pair)
    parts = [measured(CoReFusionTrainer(), *pair) for pair in (small, large, small)]
    assert protocol.compute() == pytest.approx(mean(parts), abs=1e-6)


@pytest.mark.parametrize("protocol", BOTH)
def test_black_and_perfect_images_have_finite_values(protocol):
    restored, black = images(1)[0], torch.zeros(1, 1, 24, 30)
    assert measured(protocol(), black, black) == {"psnr": 100.0, "ssim": 1.0}
    assert measured(protocol(), restored, restored)["psnr"] == 100.0
    assert all(map(math.isfinite, measured(protocol(), restored, black).values()))


@pytest.mark.parametrize("protocol", BOTH)
def test_nan_stays_visible_and_nothing_is_nan(protocol):
    _, target = images(2)
    assert all(map(math.isnan, measured(protocol(), torch.full_like(target, torch.nan), target).values()))
    assert all(map(math.isnan, protocol().compute().values()))


def listed(first: int, last: int) -> list[RestoredImage]:
    restored, target = images(11)
    return [
        RestoredImage(f"{i:03d}", target[i], {"Ours": restored[i]} | ({"bilinear": target[i] * 0.9} if i % 3 else {}))
        for i in range(first, last)
    ]


def test_an_image_counts_once_and_only_where_it_was_restored():
    scores = ProtocolScores(BOTH)
    for _ in range(2):
        scores.add("a", listed(0, 11), torch.device("cpu"))
    scores.add("b", listed(0, 1), torch.device("cpu"))
    restored, target = images(11)
    found = scores.summary()
    kept = [i for i in range(11) if i % 3]
    for protocol in BOTH:
        expected = measured(protocol(), restored, target)
        assert found["a"]["Ours"][protocol.name] == pytest.approx(expected, abs=1e-6)
        expected = measured(protocol(), target[kept] * 0.9, target[kept])
        assert found["a"]["bilinear"][protocol.name] == pytest.approx(expected, abs=1e-6)
    assert list(found["b"]) == ["Ours"]
    assert scores.summary() is found
    assert set(scores.texts) == {"trainer", "notebook"}


def test_without_protocols_nothing_is_kept():
    scores = ProtocolScores()
    scores.add("a", listed(0, 2), torch.device("cpu"))
    assert scores.summary() == {} and scores.texts == {}


def _rank(rank: int, port: int, folder: str) -> None:
    """One of two processes, which gets every second image; the first image fills up the last step."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    everything = listed(0, 11)
    dealt = [*everything, everything[0]][rank::2]
    scores = ProtocolScores(BOTH)
    for step in range(0, 6, 2):
        scores.add("a", dealt[step : step + 2], torch.device("cpu"))
    torch.save(scores.summary(), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_processes_pool_the_batches_that_one_process_pools(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # forked, since a spawned process takes seconds to import what this one has
    multiprocessing.start_processes(_rank, args=(port, str(tmp_path)), nprocs=2, start_method="fork")
    single = ProtocolScores(BOTH)
    single.add("a", listed(0, 11), torch.device("cpu"))
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == single.summary()


@pytest.mark.skipif(not PBVS.is_dir(), reason="shared/data/pbvs is not there")
def test_baselines_rank_on_the_challenge_as_by_the_reference():
    """The reference's order over all 30 validation images, of which these are five."""

    def read(folder: str) -> Tensor:
        found = (np.array(Image.open(path)) for path in sorted((PBVS / folder).iterdir())[::2])
        return torch.stack([torch.from_numpy(x if x.ndim == 2 else x[..., 0]).float() / 255 for x in found])[:, None]

    target = read("gt")
    found = {}
    names = ("bilinear", "bicubic (a=-0.75)", "nearest")
    for name, restored in ((name, image_baselines(read("lr_x8"), 8)[name]) for name in names):
        found[name] = {p.name: measured(p(), quantize(restored, 255), target) for p in BOTH}
        # The targets reach 255, so that the notebook's range is that of the standard protocol.
        standard = float(psnr(quantize(restored, 255), target).mean())
        assert found[name]["notebook"]["psnr"] == pytest.approx(standard, abs=1e-3)
    for protocol in ("trainer", "notebook"):
        for metric in ("psnr", "ssim"):
            values = [found[name][protocol][metric] for name in names]
            assert values == sorted(values, reverse=True)
    for rows in found.values():
        assert rows["trainer"]["psnr"] < rows["notebook"]["psnr"] and rows["trainer"]["ssim"] < rows["notebook"]["ssim"]


def test_gray_in_8_bit_is_our_own_and_the_luma_of_bt601_lies_above_it():
    restored, target = images(3)
    gray = measured(Gray8(), restored, target)
    rounded = quantize(restored, 255), quantize(target, 255)
    assert gray["psnr"] == pytest.approx(float(psnr(*rounded).mean()), abs=1e-4)
    luma = measured(BT601Y(), restored, target)
    assert luma["psnr"] - gray["psnr"] == pytest.approx(20 * math.log10(255 / 219), abs=1e-4)
    assert luma["ssim"] > gray["ssim"]
    ssims = []
    for r, t in zip(*rounded, strict=True):
        pair = ((16 + 219 * r[None]) / 255, (16 + 219 * t[None]) / 255)
        _, values = structural_similarity_index_measure(*pair, data_range=1.0, return_full_image=True)
        ssims.append(float(values[..., 5:-5, 5:-5].mean()))
    assert luma["ssim"] == pytest.approx(np.mean(ssims), abs=1e-5)


def test_pyiqa_measures_the_luma_of_files_in_float64():
    restored, target = images(2)
    found = measured(PyiqaY(), restored, target)
    levels = [np.round(255 * x[:, 0].numpy().astype(np.float64)) for x in (restored.clamp(0, 1), target)]
    luma = [(65.481 + 128.553 + 24.966) * x / 255 + 16 for x in levels]
    decibels = [10 * np.log10(1 / (np.mean((a / 255 - b / 255) ** 2) + 1e-8)) for a, b in zip(*luma, strict=True)]
    assert found["psnr"] == pytest.approx(np.mean(decibels), abs=1e-6)
    taps = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum() ** 2
    ssims = []
    for a, b in zip(*(x.round() for x in luma), strict=True):
        values = []
        for i in range(a.shape[0] - 10):
            for j in range(a.shape[1] - 10):
                x, y = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
                mx, my = (window * x).sum(), (window * y).sum()
                spread = (window * x * x).sum() - mx**2 + (window * y * y).sum() - my**2
                contrast = (2 * ((window * x * y).sum() - mx * my) + 58.5225) / (spread + 58.5225)
                values.append((2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025) * max(contrast, 0))
        ssims.append(np.mean(values))
    assert found["ssim"] == pytest.approx(np.mean(ssims), abs=1e-9)
    for paper in (ThreeMTIPaper, DifIISRPaper, RealIISRPaper):
        assert measured(paper(), restored, target) == found


def test_a_perfect_gray_image_stays_finite():
    target = images(1)[1]
    assert measured(BT601Y(), target, target) == {"psnr": 100.0, "ssim": pytest.approx(1)}
    assert measured(PyiqaY(), target, target) == {"psnr": pytest.approx(80), "ssim": pytest.approx(1)}


def test_protocols_have_names():
    assert protocols_by_name(["y_bt601", "notebook", "Gray8"]) == [BT601Y, CoReFusionNotebook, Gray8]
    with pytest.raises(
        InputError, match="there is no protocol 'y_bt709'; it must be one of trainer, notebook, gray8, y_bt601"
    ):
        protocols_by_name(["y_bt709"])
