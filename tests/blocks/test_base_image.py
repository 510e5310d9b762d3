"""Base images: what a missing guide leaves, and that absent content is not read."""

import pytest
import torch

from lit_thermal.blocks.base_image import BaseImage, EnlargedInput, GuidedFilterImage
from lit_thermal.errors import InputError


@pytest.mark.parametrize("member", BaseImage.__subclasses__())
def test_samples_without_a_camera_keep_the_enlarged_input(member):
    enlarged, lr, guide = torch.rand(3, 1, 16, 24), torch.rand(3, 1, 4, 6), torch.rand(3, 3, 16, 24)
    guide[1], lr[2] = float("nan"), float("nan")
    complete = torch.tensor([True, False, False])
    result = member()(enlarged, lr, guide, complete)
    assert torch.equal(result[1:], enlarged[1:]) and result.isfinite().all()
    assert torch.equal(result[0], enlarged[0]) == (member is EnlargedInput)
    assert torch.equal(member()(enlarged, lr, guide, ~complete & False), enlarged)
    alone = member()(enlarged[:1], lr[:1], guide[:1], complete[:1])
    torch.testing.assert_close(alone, result[:1])


def test_bad_constants_are_named():
    with pytest.raises(InputError, match="radius 0"):
        GuidedFilterImage(radius=0)
