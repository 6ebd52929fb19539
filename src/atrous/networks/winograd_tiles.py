"""Tiles of a map for Winograd's F(4x4, 3x3), and what it makes of them and of a kernel: `atrous.networks.winograd`.

The matrices A, B and G are those of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks"
(arXiv:1509.09308), section 4.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

TILE = 4  # outputs of a tile along an axis
_SEEN = TILE + 2  # the inputs that they see
VALUES = _SEEN * _SEEN
_KERNEL_ROWS = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)


@dataclass(frozen=True)
class Piece:
    """Rows of tiles of the pixels that are `rate` apart from pixel (`row`, `column`)."""

    rate: int
    row: int
    column: int
    first: int  # row of tiles
    down: int  # rows of tiles
    across: int  # tiles in a row
    place: slice  # among the tiles of its group

    def outputs(self, map_NHWC: Tensor) -> Tensor:
        """The outputs of its tiles that lie inside of the map, a view of it."""
        rows_NHWC = self._pixels(map_NHWC)
        return rows_NHWC[:, self.first * TILE : (self.first + self.down) * TILE]

    def inputs(self, map_NHWC: Tensor) -> Tensor:
        """What its tiles see, [N, 4 * down + 2, 4 * across + 2, C]: zero outside of the map."""
        pixels_NHWC = self._pixels(map_NHWC)
        height, width = pixels_NHWC.shape[1:3]
        top, bottom = self.first * TILE - 1, (self.first + self.down) * TILE + 1
        beyond = (0, 0, 1, self.across * TILE + 1 - width, max(0, -top), max(0, bottom - height))
        return F.pad(pixels_NHWC[:, max(top, 0) : bottom], beyond)

    def cut(self, tiles: Tensor) -> Tensor:
        """Its place in [4, 4, tiles, C] as a map that is cut into tiles, [N, down, 4, across, 4, C]."""
        its = tiles[:, :, self.place].view(TILE, TILE, -1, self.down, self.across, tiles.shape[-1])
        return its.permute(2, 3, 0, 4, 1, 5)

    def _pixels(self, map_NHWC: Tensor) -> Tensor:
        return map_NHWC[:, self.row :: self.rate, self.column :: self.rate]


def pieces_of(shape_NHWC: Sequence[int], rate: int, *, most: int) -> Iterator[list[Piece]]:
    """Every tile of a map once, in groups of at most `most` tiles, or of one row of them where that is more."""
    images, height, width, _ = shape_NHWC
    group: list[Piece] = []
    used = 0
    rows, columns = tiles_along(height, rate), tiles_along(width, rate)
    for (row, down), (column, across) in product(enumerate(rows), enumerate(columns)):
        first = 0
        while first < down:
            fitting = (most - used) // (images * across)
            if fitting < 1 and group:
                yield group
                group, used = [], 0
                continue
            taken = min(down - first, max(1, fitting))
            place = slice(used, used + images * taken * across)
            group.append(Piece(rate, row, column, first, taken, across, place))
            first, used = first + taken, place.stop
    yield group


def tiles_along(length: int, rate: int) -> list[int]:
    """Tiles along an axis of the pixels that are `rate` apart, for the first pixel of each such map."""
    return [-(-len(range(first, length, rate)) // TILE) for first in range(min(rate, length))]


def values_of_inputs(x_NHWC: Tensor, pieces: list[Piece]) -> Tensor:
    """B^T d B: the values [36, tiles, C] of what tiles see."""
    images, channels = x_NHWC.shape[0], x_NHWC.shape[-1]
    values_VPC = x_NHWC.new_empty(VALUES, pieces[-1].place.stop, channels)
    for piece in pieces:
        seen_NHWC = piece.inputs(x_NHWC)
        rows = seen_NHWC.new_empty(_SEEN, images, piece.down, seen_NHWC.shape[2], channels)
        _seen_along([seen_NHWC[:, i : i + TILE * piece.down - 3 : TILE] for i in range(_SEEN)], rows)
        values = values_VPC[:, piece.place].view(_SEEN, _SEEN, images, piece.down, piece.across, channels)
        columns = [rows[:, :, :, i : i + TILE * piece.across - 3 : TILE] for i in range(_SEEN)]
        _seen_along(columns, values.transpose(0, 1))
    return values_VPC


def values_of_gradients(gradient_NHWO: Tensor, pieces: list[Piece]) -> Tensor:
    """A g A^T: the values [36, tiles, O] of the gradients of tiles; the transpose of `write_outputs`."""
    channels = gradient_NHWO.shape[-1]
    tiles = gradient_NHWO.new_empty(TILE, TILE, pieces[-1].place.stop, channels)
    for piece in pieces:
        inside_NHWO, cut = piece.outputs(gradient_NHWO), piece.cut(tiles)
        below, right = piece.down * TILE - inside_NHWO.shape[1], piece.across * TILE - inside_NHWO.shape[2]
        cut.copy_(F.pad(inside_NHWO, (0, 0, 0, right, 0, below)).view(cut.shape))
    rows = tiles.new_empty(_SEEN, *tiles.shape[1:])
    _outputs_transposed(tiles.unbind(), rows)
    values = tiles.new_empty(_SEEN, _SEEN, *tiles.shape[2:])
    _outputs_transposed(rows.unbind(1), values.transpose(0, 1))
    return values.view(VALUES, -1, channels)


def write_outputs(values_VPO: Tensor, y_NHWO: Tensor, pieces: list[Piece]) -> None:
    """A^T m A: write the outputs of tiles with these values to a map."""
    values = values_VPO.view(_SEEN, _SEEN, *values_VPO.shape[1:])
    rows = values.new_empty(TILE, *values.shape[1:])
    _outputs_along(values.unbind(), rows)
    tiles = values.new_empty(TILE, TILE, *values.shape[2:])
    _outputs_along(rows.unbind(1), tiles.transpose(0, 1))
    for piece in pieces:
        inside_NHWO, cut = piece.outputs(y_NHWO), piece.cut(tiles)
        whole_NHWO = cut.reshape(cut.shape[0], piece.down * TILE, piece.across * TILE, cut.shape[-1])
        inside_NHWO.copy_(whole_NHWO[:, : inside_NHWO.shape[1], : inside_NHWO.shape[2]])


def _seen_along(seen: Sequence[Tensor], values: Tensor) -> None:
    """Along one axis, six inputs to six values: B^T."""
    d0, d1, d2, d3, d4, d5 = seen
    v0, v1, v2, v3, v4, v5 = values
    odd = torch.sub(d3, d1, alpha=4, out=v5)
    torch.sub(d4, d2, alpha=4, out=v1)
    torch.sub(v1, odd, out=v2)
    v1.add_(odd)
    odd = torch.sub(d3, d1, out=v5)
    torch.sub(d4, d2, out=v3)
    torch.sub(v3, odd, alpha=2, out=v4)
    v3.add_(odd, alpha=2)
    torch.sub(d4, d2, alpha=5, out=v0).add_(d0, alpha=4)
    torch.sub(d5, d3, alpha=5, out=v5).add_(d1, alpha=4)


def _outputs_along(values: Sequence[Tensor], outputs: Tensor) -> None:
    """Along one axis, six values to four outputs: A^T."""
    v0, v1, v2, v3, v4, v5 = values
    y0, y1, y2, y3 = outputs
    near, near_difference, far, far_difference = v1 + v2, v1 - v2, v3 + v4, v3 - v4
    torch.add(near, far, out=y0).add_(v0)
    torch.add(near_difference, far_difference, alpha=2, out=y1)
    torch.add(near, far, alpha=4, out=y2)
    torch.add(near_difference, far_difference, alpha=8, out=y3).add_(v5)


def _outputs_transposed(gradients: Sequence[Tensor], values: Tensor) -> None:
    """The transpose of `_outputs_along`."""
    g0, g1, g2, g3 = gradients
    v0, v1, v2, v3, v4, v5 = values
    v0.copy_(g0)
    odd = torch.add(g1, g3, out=v5)
    torch.add(g0, g2, out=v1)
    torch.sub(v1, odd, out=v2)
    v1.add_(odd)
    odd = torch.add(g1, g3, alpha=4, out=v5).mul_(2)
    torch.add(g0, g2, alpha=4, out=v3)
    torch.sub(v3, odd, out=v4)
    v3.add_(odd)
    v5.copy_(g3)


def values_of_kernel(weight_OIkk: Tensor, *, flipped: bool = False) -> Tensor:
    """G w G^T: the values [36, O, I] of a kernel, or of one that is turned by 180 degrees."""
    weight_OKI = weight_OIkk.permute(0, 2, 3, 1).flatten(1, 2)
    matrix_VK = _kernel_matrix(weight_OIkk)
    if flipped:
        matrix_VK = matrix_VK.flip(1)
    return torch.matmul(matrix_VK, weight_OKI).transpose(0, 1)


def gradient_of_kernel(values_VOI: Tensor) -> Tensor:
    """The gradient [3, 3, O, I] of the kernel whose values have this gradient."""
    by_weight_KP = torch.mm(_kernel_matrix(values_VOI).T, values_VOI.flatten(start_dim=1))
    return by_weight_KP.view(3, 3, *values_VOI.shape[1:])


def _kernel_matrix(like: Tensor) -> Tensor:
    """[36, 9]: G for both axes, in the dtype of another tensor and beside it."""
    along = like.new_tensor(_KERNEL_ROWS)
    return torch.kron(along, along)
