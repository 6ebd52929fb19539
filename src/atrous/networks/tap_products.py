"""A dense convolution's weight gradient as a matrix product for each tap: outer products over the pixels it sees."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def far(x_NHWC: Tensor, gradient_NHWO: Tensor, by_weight_kkOI: Tensor, *, padding: int, rate: int, stride: int) -> None:
    """Crop both maps to where a tap sees the other: few pixels are left, or one in stride * stride, and are copied.

    Args:
        x_NHWC: The map that was convolved.
        gradient_NHWO: By the output.
        by_weight_kkOI: Is written to; zero where no tap lies inside.
        padding: Zeros on each side of the map.
        rate: The atrous rate.
        stride: The stride.
    """
    size, _, out_channels, channels = by_weight_kkOI.shape
    for row in range(size):
        rows, seen_rows = inside(gradient_NHWO.shape[1], x_NHWC.shape[1], row * rate - padding, stride)
        for column in range(size):
            columns, seen_columns = inside(gradient_NHWO.shape[2], x_NHWC.shape[2], column * rate - padding, stride)
            at_output = gradient_NHWO[:, rows, columns].reshape(-1, out_channels)
            seen = x_NHWC[:, seen_rows, seen_columns].reshape(-1, channels)
            _outer_products(at_output, seen, by_weight_kkOI[row, column])


def near(x_NHWC: Tensor, gradient_NHWO: Tensor, by_weight_kkOI: Tensor) -> None:
    """Pad both maps once; in their rows of pixels a tap is then a shift, and nothing is copied for it.

    A shift that leaves a row of pixels, or an image, meets the zeros of the padding.

    Args:
        x_NHWC: The map that was convolved at rate 1 and stride 1, padded to the same size.
        gradient_NHWO: By the output.
        by_weight_kkOI: Is written to.
    """
    size = by_weight_kkOI.shape[0]
    reach = size // 2
    width = x_NHWC.shape[2] + 2 * reach
    x_PC, gradient_PO = (
        F.pad(map_NHWC, (0, 0, reach, reach, reach, reach)).flatten(end_dim=2) for map_NHWC in (x_NHWC, gradient_NHWO)
    )
    furthest = reach * (width + 1)
    pixels = slice(furthest, len(x_PC) - furthest)
    for row in range(size):
        for column in range(size):
            shift = (row - reach) * width + column - reach
            seen_PC = x_PC[pixels.start + shift : pixels.stop + shift]
            _outer_products(gradient_PO[pixels], seen_PC, by_weight_kkOI[row, column])


def _outer_products(gradient_PO: Tensor, x_PC: Tensor, sum_OC: Tensor) -> None:
    """Write the sum of the pixels' outer products.

    In float32 a product with more rows than columns is the faster one; in bfloat16 it gains less than its copy takes.
    """
    if gradient_PO.shape[1] >= x_PC.shape[1] or x_PC.dtype == torch.bfloat16:
        torch.mm(gradient_PO.T, x_PC, out=sum_OC)
    else:
        sum_OC.copy_(torch.mm(x_PC.T, gradient_PO).T)


def inside(out_length: int, length: int, offset: int, stride: int = 1) -> tuple[slice, slice]:
    """Where a tap lies inside of the map along one axis; both slices are empty where it does nowhere.

    Args:
        out_length: Outputs along the axis.
        length: Inputs along the axis.
        offset: Of the tap from `output * stride`.
        stride: The stride.

    Returns:
        The outputs, and the inputs that they see.
    """
    first = max(0, -(offset // stride))  # the smallest with first * stride + offset >= 0
    last = max(first, min(out_length, (length - 1 - offset) // stride + 1))
    start = max(0, first * stride + offset)
    return slice(first, last), slice(start, max(start, last * stride + offset), stride)
