"""A run of THERIS that was stopped and resumed ends with the weights of one that was not."""

import pytest
import torch

SMALL = [
    "--data.samples_per_epoch=32",
    "--data.train_clips=4",
    "--data.val_clips=1",
    "--data.size=64",
    "--data.crop=8",
    "--trainer.enable_progress_bar=false",
    "--model.lr_scheduler.T_max=8",
    "--trainer.callbacks=[EMA]",
]


@pytest.mark.parametrize(("workers", "validation"), [(1, 1.0), (0, 3)])
def test_theris_resumes_to_the_same_weights(workers, validation, run, folder):
    common = [
        "fit",
        "-c",
        "theris",
        *SMALL,
        f"--data.num_workers={workers}",
        f"--trainer.val_check_interval={validation}",
    ]
    assert run(*common, "--experiment=whole", "--trainer.max_steps=8").code == 0
    assert run(*common, "--experiment=parts", "--trainer.max_steps=6").code == 0
    resumed = run(*common, "--experiment=parts", "--trainer.max_steps=8", "--ckpt_path=last")
    assert resumed.code == 0, resumed.err
    (whole,), (parts,) = (list(folder.glob(f"runs/{name}/*/checkpoints/last.ckpt")) for name in ("whole", "parts"))
    expected, found = (torch.load(path, weights_only=True) for path in (whole, parts))
    for key in ("state_dict", "current_model_state"):  # the averages and the trained weights
        assert all(torch.equal(found[key][name], value) for name, value in expected[key].items()), key
