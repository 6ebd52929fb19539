"""Images larger than memory: overlapping tiles whose probabilities fade into each other; never used in a paper's table.

Only one band of tiles is held at a time, so probabilities take memory with the width of the image, not with its area;
its labels take a byte per pixel.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Probabilities = Callable[[slice, slice], Tensor]


def tile_starts(length: int, *, tile: int, overlap: int) -> list[int]:
    """First pixel of every tile along one side; the last tile ends with the image.

    Args:
        length: of the side.
        tile: length of a tile.
        overlap: pixels that neighbours share at least.
    """
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]


def fade(length: int, *, overlap: int) -> Tensor:
    """Weight of a tile's pixels along one side [length]: 1 inside, falling linearly over the overlap, never 0."""
    place = torch.arange(length, dtype=torch.float32)
    return torch.minimum(place + 1, length - place).clamp(max=overlap + 1) / (overlap + 1)


def tiled_labels(probabilities: Probabilities, size: tuple[int, int], *, tile: Sequence[int], overlap: int) -> Tensor:
    """The most likely class of every pixel of a large image.

    Args:
        probabilities: gives the probabilities [N, classes, h, w] of a window (rows, columns).
        size: (height, width) of the image.
        tile: (height, width) of a window; smaller where the image is.
        overlap: pixels that neighbouring windows share at least.

    Returns:
        uint8 labels [N, height, width].
    """
    height, width = size
    tops = tile_starts(height, tile=tile[0], overlap=overlap)
    lefts = tile_starts(width, tile=tile[1], overlap=overlap)
    rows_of_tile, finished = min(tile[0], height), []
    band: Tensor | None = None  # weighted sums of rows top to top + rows_of_tile
    for place, top in enumerate(tops):
        for left in lefts:
            columns = slice(left, min(left + tile[1], width))
            part = probabilities(slice(top, top + rows_of_tile), columns)
            if band is None:
                band = part.new_zeros((*part.shape[:2], rows_of_tile, width))
            band[..., columns] += part * _window(part, overlap)
        assert band is not None
        done = (tops[place + 1] if place + 1 < len(tops) else height) - top
        # The weights of a pixel are the same for all classes: their sum cannot change which one is largest.
        finished.append(band[:, :, :done].argmax(1).to(torch.uint8))
        band = torch.cat([band[:, :, done:], torch.zeros_like(band[:, :, :done])], 2)
    return torch.cat(finished, 1)


def _window(part: Tensor, overlap: int) -> Tensor:
    rows, columns = (fade(length, overlap=overlap).to(part.device) for length in part.shape[-2:])
    return rows[:, None] * columns
