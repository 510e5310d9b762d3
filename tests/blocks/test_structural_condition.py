from functools import partial

import pytest
import torch
from torch import nn

from lit_thermal.blocks.condition_map_encoder import ConvStackEncoder
from lit_thermal.blocks.diffusion_condition import RawLR
from lit_thermal.blocks.structural_condition import StructuralCondition
from lit_thermal.blocks.thermal_structure import NoStructure, ThermalStructuralGuidance
from lit_thermal.errors import InputError

ENCODER = partial(ConvStackEncoder, widths=(4, 6, 8, 8))
GUIDANCE = partial(ThermalStructuralGuidance, encoder=ENCODER)


def made(structure=GUIDANCE, **options) -> StructuralCondition:
    torch.manual_seed(0)
    return StructuralCondition(
        **{"channels": 5, "width": 8, "heads": 2, "encoder": ENCODER} | options, structure=structure
    )


def inputs(batch: int = 2, size: tuple[int, int] = (12, 16)) -> torch.Tensor:
    return 2 * torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(1)) - 1


def test_pixels_first_and_guided_maps_after():
    condition, lr = made(), inputs()
    result = condition(lr, (12, 16))
    assert condition.channels == 8 and result.shape == (2, 8, 12, 16)
    assert torch.equal(result[:, :3], RawLR()(lr, (12, 16)))
    assert result[:, 3:].std() > 0.01


@pytest.mark.parametrize("structure", [GUIDANCE, partial(GUIDANCE, joins="append"), NoStructure])
def test_every_structure_goes(structure):
    condition = made(structure)
    assert condition(inputs(), (12, 16)).shape == (2, 8, 12, 16)


@pytest.mark.parametrize(
    ("size", "stride", "seen"),
    [((12, 16), 4, (48, 64)), ((12, 16), 2, (96, 128)), ((13, 5), 4, (64, 32)), ((1, 1), 4, (32, 32))],
)
def test_the_image_is_enlarged_to_the_grid_of_the_tokens(size, stride, seen):
    condition = made(stride=stride)
    shapes = []
    condition.encoder.register_forward_pre_hook(lambda _, given: shapes.append(given[0]))
    condition(inputs(), size)
    assert shapes[0].shape == (2, 3, *seen) and shapes[0].abs().max() <= 1


def test_maps_lie_where_the_image_does():
    """What is hot in one corner changes the maps there; identity in place of encoder and guidance."""

    class Pool(nn.Module):
        factor = 16

        def __init__(self, channels: int, width: int) -> None:
            super().__init__()

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return nn.functional.avg_pool2d(image[:, :1], 16)

    condition = made(NoStructure, encoder=Pool, width=1, channels=1)
    nn.init.ones_(condition.mix.weight), nn.init.zeros_(condition.mix.bias)
    lr = torch.full((1, 1, 16, 24), -1.0)
    lr[..., :8, 12:] = 1
    guided = condition(lr, (16, 24))[:, 3:]
    assert guided[0, 0, 2, 20] > 0.9 and guided[0, 0, 12, 4] < -0.9
    assert (guided - lr).abs().mean() < 0.2


def test_it_learns_what_pixels_alone_do_not_hold():
    """Every weight but those of keys' bias has a gradient at once."""
    condition = made()
    condition(inputs(), (12, 16))[:, 3:].square().sum().backward()
    for name, parameter in condition.named_parameters():
        if not name.endswith("key.bias"):
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"stride": 0}])
def test_numbers_that_are_not_positive(wrong):
    with pytest.raises(InputError, match=f"StructuralCondition's {next(iter(wrong))} is 0"):
        made(**wrong)


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(InputError, match="width 8 and heads 3"):
        made(heads=3)
