"""Processing of large images in overlapping tiles that are blended."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return the first pixels of evenly spread tiles along an axis; neighbouring tiles share at least `overlap` pixels.

    Raises:
        ValueError: the overlap is negative or not smaller than the tile.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap {overlap} must be at least 0 and below the tile's {tile} pixels")
    if length <= tile:
        return [0]
    count = -(-(length - overlap) // (tile - overlap))
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


def blend_weights(starts: Sequence[int], length: int, tile: int, overlap: int) -> Tensor:
    """Return float64 weights (tiles, tile) of tiles along one axis; over all tiles they sum to 1 at each pixel.

    Across the overlap a weight is 0 in the first quarter, rises linearly in the middle half and is 1 in the last
    quarter. Results near the cut of a tile, which lack context, are therefore not used, and the tiled result equals
    that of the whole image for any function whose receptive field reaches no farther than a quarter of the overlap.
    """
    rise = torch.ones(tile, dtype=torch.float64)
    across = (torch.arange(overlap, dtype=torch.float64) + 0.5) / max(overlap, 1)
    rise[:overlap] = (2 * across - 0.5).clamp(0, 1)[:tile]
    fall = rise.flip(0)
    # The borders of the image are not cuts, so the first tile does not rise and the last does not fall.
    weights = torch.ones(len(starts), tile, dtype=torch.float64)
    weights[1:] *= rise
    weights[:-1] *= fall
    total = torch.zeros(length, dtype=torch.float64)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + tile] += weight
    return torch.stack([w / total[start : start + tile] for start, w in zip(starts, weights, strict=True)])


def tiled(function: Callable[[Tensor], Tensor], x: Tensor, *, tile: int, overlap: int, scale: int) -> Tensor:
    """Apply an enlarging function to overlapping tiles of (..., h, w) and blend them into one image.

    Only one tile's result and the whole result are in memory at a time. An image that fits into one tile is not cut.

    Args:
        function: function that maps (..., th, tw) to (..., scale * th, scale * tw); the leading axes may change.
        x: image or clip (..., h, w) of any size, including odd sizes.
        tile: side of a tile in pixels of `x`.
        overlap: minimum number of pixels of `x` that neighbouring tiles share.
        scale: factor by which the function enlarges.

    Returns:
        (..., scale * h, scale * w), of the dtype and device of the function's results.

    Raises:
        ValueError: the overlap is negative or not smaller than the tile, or the function does not enlarge by `scale`.
    """
    height, width = x.shape[-2:]
    rows, columns = tile_starts(height, tile, overlap), tile_starts(width, tile, overlap)
    if len(rows) == len(columns) == 1:
        return function(x)
    row_weights, column_weights = (
        blend_weights([scale * s for s in starts], scale * length, scale * min(tile, length), scale * overlap)
        for starts, length in ((rows, height), (columns, width))
    )
    result: Tensor | None = None
    for top, row_weight in zip(rows, row_weights, strict=True):
        for left, column_weight in zip(columns, column_weights, strict=True):
            part = function(x[..., top : top + tile, left : left + tile])
            weight = (row_weight[:, None] * column_weight).to(part)
            if part.shape[-2:] != weight.shape:
                raise ValueError(f"a tile gave {tuple(part.shape[-2:])} where {tuple(weight.shape)} was expected")
            if result is None:
                result = part.new_zeros(*part.shape[:-2], scale * height, scale * width)
            y, x0 = scale * top, scale * left
            result[..., y : y + len(row_weight), x0 : x0 + len(column_weight)] += part * weight
    assert result is not None
    return result
