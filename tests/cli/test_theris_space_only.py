"""THERIS that enlarges in space only: each input frame is restored and none is added."""

import json

import numpy as np
import pytest
from PIL import Image
from written_runs import runs

SMALL = [
    "--data.temporal_scale=1",
    "--model.temporal_scales=[1]",
    "--data.frames=4",
    "--data.size=64",
    "--data.crop=8",
    "--data.train_clips=2",
    "--data.val_clips=1",
    "--data.test_clips=1",
    "--data.test_scenarios=[standard]",
    "--data.samples_per_epoch=16",
    "--data.num_workers=0",
    "--trainer.callbacks=[]",
    "--trainer.enable_progress_bar=false",
]


@pytest.mark.parametrize(
    "interpolation", ["MotionAlignedInterpolation", "LocalAttentionInterpolation", "ThermalDiffusionInterpolation"]
)
def test_it_trains_tests_and_restores(interpolation, run, folder):
    words = ["-c", "theris", *SMALL, f"--model.interpolation={interpolation}"]
    trained = run("fit", *words, "--trainer.max_steps=2")
    assert trained.code == 0, trained.err
    (fit,) = runs(folder, "theris")
    checkpoint = str(fit / "checkpoints" / "last.ckpt")
    tested = run("test", *words, "--ckpt_path", checkpoint)
    assert tested.code == 0, tested.err
    (test,) = runs(folder, "theris", "test")
    record = json.loads((test / "metrics.json").read_text())
    assert "interpolated" not in json.dumps(record["results"])

    clip = folder / "clip"
    clip.mkdir()
    for index in range(5):
        frame = np.random.default_rng(index).integers(0, 255, (9, 12), dtype=np.uint8)
        Image.fromarray(frame).save(clip / f"{index:03d}.png")
    restored = run("upscale", "clip", "-o", "large", "--model", checkpoint, "--temporal_scale", "1")
    assert restored.code == 0, restored.err
    frames = sorted((folder / "large").glob("*.png"))
    assert len(frames) == 5 and Image.open(frames[0]).size == (48, 36)
