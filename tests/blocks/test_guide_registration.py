"""Registration of guides: every member of the family, and how far off it is on simulated scenes."""

import numpy as np
import pytest
import torch

from lit_thermal.blocks.registration import (
    AffineRegistration,
    DisplacementRegistration,
    NoRegistration,
    Registration,
    SimilarityRegistration,
)
from lit_thermal.data.datamodules.simulated_pairs import RenderedPairs
from lit_thermal.data.degradations.misalignment import Combined, Misalignment, Shift
from lit_thermal.errors import InputError
from lit_thermal.ops.guide_registration import find_warp, warp_each
from lit_thermal.ops.resize import resize
from lit_thermal.ops.warp import warp

MEMBERS = [NoRegistration, DisplacementRegistration, SimilarityRegistration, AffineRegistration]
SCENES, SIZE = 16, 192


@pytest.fixture(scope="module")
def scenes() -> tuple[torch.Tensor, torch.Tensor]:
    """Thermal inputs (N, 1, 24, 24) and aligned guides (N, 3, 192, 192)."""
    pairs = RenderedPairs("val", SCENES, size=SIZE, scenario="standard", guide_shift=0.0, guided=True, seed=3)
    samples = [pairs[index] for index in range(SCENES)]
    hr = torch.stack([torch.from_numpy(s.hr.astype(np.float32) / 65535)[None] for s in samples])
    return resize(hr, (24, 24)), torch.stack([torch.from_numpy(s.guide.astype(np.float32) / 255) for s in samples])


def misaligned(guides: torch.Tensor, kind: Misalignment) -> tuple[torch.Tensor, torch.Tensor]:
    """Misaligned guides, and the matrices that map aligned to misaligned positions."""
    size = (guides.shape[-2], guides.shape[-1])
    matrices = [torch.from_numpy(kind.matrix(size, np.random.default_rng(i))) for i in range(len(guides))]
    return torch.stack([kind(g, np.random.default_rng(i)) for i, g in enumerate(guides)]), torch.stack(matrices)


def errors(found: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Mean distance (N,) in pixels between found and true places over the middle of the image."""
    axis = torch.linspace(-0.4, 0.4, 5, dtype=torch.float64) * SIZE
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], -1).view(-1, 3)
    places = [points @ matrix.double().mT for matrix in (found, true)]
    one, other = (place[..., :2] / place[..., 2:] for place in places)
    return (one - other).norm(dim=-1).mean(1)


def test_the_family_is_complete():
    known: set[type] = set()
    pending = [Registration]
    while pending:
        below = pending.pop().__subclasses__()
        known |= set(below)
        pending += below
    assert known == set(MEMBERS)


@pytest.mark.parametrize("fill", ["black", "reflect"])
def test_displacements_of_12_pixels_are_found_to_about_one(scenes, fill):
    thermal, guides = scenes
    moved, true = misaligned(guides, Shift(12 / SIZE, fill=fill))
    found = errors(find_warp(thermal, moved, 2).matrix, true)
    assert found.median() < 1.0 and found.quantile(0.75) < 1.5, found


def test_a_similarity_finds_most_of_a_warp(scenes):
    thermal, guides = scenes
    moved, true = misaligned(guides, Combined(2, 12 / SIZE, 0.9, 1.1, 4.0, 0.04))
    before = errors(torch.eye(3).expand(SCENES, 3, 3), true).median()
    similarity = errors(find_warp(thermal, moved, 4).matrix, true).median()
    displacement = errors(find_warp(thermal, moved, 2).matrix, true).median()
    assert similarity < 2.2 and similarity < displacement < before


def test_aligned_guides_stay_nearly_where_they_are(scenes):
    thermal, guides = scenes
    same = torch.eye(3).expand(SCENES, 3, 3)
    assert errors(find_warp(thermal, guides, 2).matrix, same).median() < 0.8
    assert errors(find_warp(thermal, guides, 4).matrix, same).median() < 1.2


def test_guides_of_other_scenes_are_rejected(scenes):
    thermal, guides = scenes
    registration = SimilarityRegistration(reject=-0.42)
    assert registration(thermal, guides).matches.float().mean() > 0.85
    assert registration(thermal, guides.roll(SCENES // 2, 0)).matches.float().mean() < 0.2


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("sides", [(24, 24), (9, 14)])
def test_members_keep_the_contract(member, sides, scenes):
    thermal, guides = (x[:3, :, : s * sides[0], : s * sides[1]] for x, s in zip(scenes, (1, 8), strict=True))
    registration = member()
    found = registration(thermal, guides)
    assert found.guide.shape == guides.shape and found.guide.dtype == guides.dtype and found.guide.isfinite().all()
    assert found.moved.shape == found.unexplained.shape == found.matches.shape == (3,)
    assert found.matches.all() and (found.unexplained <= 0).all()
    alone = registration(thermal[1:2], guides[1:2])
    torch.testing.assert_close(alone.guide[0], found.guide[1], atol=1e-4, rtol=0)
    half = registration(thermal.bfloat16(), guides.bfloat16())
    assert half.guide.dtype == torch.bfloat16 and half.guide.isfinite().all()


@pytest.mark.parametrize("member", MEMBERS)
def test_a_guide_of_zeros_is_no_trouble(member, scenes):
    thermal, guides = scenes[0][:1], torch.zeros_like(scenes[1][:1])
    found = member()(thermal, guides)
    assert not found.guide.any() and not found.unexplained.any() and found.moved.isfinite().all()


def test_batched_warps_are_the_warps_of_each_image():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 12, 17, generator=generator)
    matrices = torch.eye(3) + 0.03 * torch.randn(2, 3, 3, generator=generator)
    matrices[:, 2] = torch.tensor([1e-3, -2e-3, 1.0])
    centre = torch.tensor([[1, 0, 8.0], [0, 1, 5.5], [0, 0, 1]], dtype=torch.float64)
    result = warp_each(x, matrices)
    for image, matrix, got in zip(x, matrices, result, strict=True):
        pulled = centre @ matrix.double() @ torch.linalg.inv(centre)
        expected = warp(image, torch.linalg.inv(pulled))
        torch.testing.assert_close(got[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2], atol=1e-4, rtol=0)


@pytest.mark.parametrize("given", [{"reach": 0.0}, {"reach": 17.0}, {"noise": 0.0}, {"reject": 0.1}])
def test_numbers_out_of_range(given):
    with pytest.raises(InputError, match="SimilarityRegistration: reach"):
        SimilarityRegistration(**given)


def test_images_that_are_too_small():
    with pytest.raises(InputError, match="4x9 pixels is too small"):
        DisplacementRegistration()(torch.rand(1, 1, 4, 9), torch.rand(1, 3, 32, 72))
    with pytest.raises(ValueError, match="2, 4 or 6 freedoms"):
        find_warp(torch.rand(1, 1, 9, 9), torch.rand(1, 3, 72, 72), 3)
