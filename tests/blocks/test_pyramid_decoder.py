"""Decoders and the encoder without normalisation: shapes, gradients, and mistakes."""

import pytest
import torch

from lit_thermal.blocks.image_encoder import UnshuffleEncoder
from lit_thermal.blocks.pyramid_decoder import PyramidDecoder, ShuffleDecoder, UNetDecoder
from lit_thermal.errors import InputError

WIDTHS = {4: 6, 8: 10}


@pytest.mark.parametrize("member", PyramidDecoder.__subclasses__())
def test_every_level_reaches_the_result(member):
    decoder = member(WIDTHS, [9, 8, 7])
    levels = {s: torch.rand(2, c, 32 // s, 48 // s, requires_grad=True) for s, c in WIDTHS.items()}
    result = decoder.forward(levels)
    assert result.shape == (2, decoder.width, 32 // decoder.stride, 48 // decoder.stride)
    result.square().sum().backward()
    assert all(level.grad.abs().max() > 0 for level in levels.values())


def test_strides_of_the_results():
    assert UNetDecoder(WIDTHS, [9, 8, 7]).stride == 1 and ShuffleDecoder(WIDTHS, [9, 7]).stride == 4


@pytest.mark.parametrize("member", PyramidDecoder.__subclasses__())
def test_too_few_channels_are_refused(member):
    with pytest.raises(InputError, match="decoder_channels"):
        member(WIDTHS, [8])


def test_unshuffle_encoder_loses_no_pixel_and_has_its_strides():
    encoder = UnshuffleEncoder(4, (48, 8), 1)
    image = torch.rand(2, 3, 16, 24)
    pyramid = encoder(image)
    assert {stride: tuple(f.shape) for stride, f in pyramid.items()} == {4: (2, 48, 4, 6), 8: (2, 8, 2, 3)}
    assert torch.linalg.matrix_rank(encoder.head.weight.flatten(1)) == 48
    with pytest.raises(InputError, match="power of two"):
        UnshuffleEncoder(3)
