"""PlainCNN: a correction of the bicubic enlargement, for images, guided images and clips."""

import pytest
import torch

from lit_thermal.blocks.temporal_interpolation import blend
from lit_thermal.errors import InputError
from lit_thermal.methods.plain_cnn.module import PlainCNN
from lit_thermal.methods.plain_cnn.video import PlainVideoCNN
from lit_thermal.ops.resize import resize

GENERATOR = torch.Generator().manual_seed(0)


def image(scale=4, count=2):
    return {
        "lr": torch.rand(count, 1, 9, 11, generator=GENERATOR),
        "guide": torch.rand(count, 3, 9 * scale, 11 * scale, generator=GENERATOR),
        "hr": torch.rand(count, 1, 9 * scale, 11 * scale, generator=GENERATOR),
    }


def clip(frames=4):
    lr = torch.rand(2, frames, 1, 9, 11, generator=GENERATOR)
    return {"lr": lr, "hr_time": (torch.arange(2 * frames - 1) / 2).expand(2, -1)}


def trained(model):
    """The model with a last convolution that is not zero."""
    torch.manual_seed(0)
    torch.nn.init.normal_(model.network.tail.weight, std=0.1)
    return model.eval()


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("guided", [False, True])
def test_untrained_it_is_bicubic(scale, guided):
    batch = image(scale)
    expected = resize(batch["lr"], (9 * scale, 11 * scale), a=-0.5).clamp(0, 1)
    assert torch.equal(PlainCNN(scale, guided).restore(batch), expected)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_untrained_video_is_bicubic_of_a_blend(scale):
    batch = clip()
    expected = resize(blend(batch["lr"], batch["hr_time"][0]), (9 * scale, 11 * scale), a=-0.5).clamp(0, 1)
    assert torch.equal(PlainVideoCNN(scale).restore(batch), expected)


def test_the_guide_matters_where_it_is_there_alone():
    model, batch = trained(PlainCNN(4, guided=True, width=8, blocks=1)), image()
    other = batch | {"guide": 1 - batch["guide"]}
    assert not torch.allclose(model.restore(batch), model.restore(other), atol=1e-4)
    absent = {"has_guide": torch.tensor([False, False])}
    assert torch.equal(model.restore(batch | absent), model.restore(other | absent))
    without = {key: value for key, value in batch.items() if key != "guide"}
    assert torch.allclose(model.restore(without), model.restore(batch | absent), atol=1e-6)


def test_a_missing_thermal_image_is_not_read():
    model, batch = trained(PlainCNN(4, guided=True, width=8, blocks=1)), image()
    absent = {"has_lr": torch.tensor([True, False])}
    changed = batch | {"lr": torch.stack([batch["lr"][0], torch.full_like(batch["lr"][1], torch.nan)])}
    one, two = model.restore(batch | absent), model.restore(changed | absent)
    assert torch.equal(one, two) and one.isfinite().all()
    assert not torch.equal(model.restore(batch)[1], one[1])


def test_frames_are_restored_from_the_four_around_them():
    model, batch = trained(PlainVideoCNN(4, width=8, blocks=1)), clip(frames=7)
    changed = {**batch, "lr": batch["lr"].clone()}
    changed["lr"][:, 6] += 0.3
    same = (model.restore(batch) - model.restore(changed)).abs().amax(dim=(0, 2, 3, 4)) < 1e-6
    assert same.tolist() == [time < 4.0 for time in batch["hr_time"][0].tolist()]


def test_training_lowers_the_loss():
    for model, batch in ((PlainCNN(4, guided=True, width=8, blocks=2), image()), (PlainVideoCNN(4, width=8), clip())):
        model.log = lambda *_, **__: None
        batch.setdefault("hr", torch.rand(2, 7, 1, 36, 44, generator=GENERATOR))
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        losses = []
        for _ in range(20):
            loss = model.training_step(batch, 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.95 * losses[0]


def test_what_it_cannot_restore_is_told():
    with pytest.raises(InputError, match="take PlainVideoCNN for video"):
        PlainCNN().restore(clip())
    with pytest.raises(InputError, match="one guide per sample"):
        PlainCNN(4, guided=True).restore(image() | {"guide": torch.rand(2, 2, 3, 36, 44)})
    with pytest.raises(InputError, match="differ in hr_time"):
        times = torch.tensor([[0.0, 0.5], [0.0, 1.0]])
        PlainVideoCNN().restore(clip() | {"hr_time": times})
    with pytest.raises(InputError, match="at least 1"):
        PlainCNN(blocks=0)
