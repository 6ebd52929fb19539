"""3x3 convolution with a quarter of the multiplications: Winograd's F(4x4, 3x3), for training in float32 on a CPU.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv:1509.09308), section 4. A map is cut into
tiles of 4x4 outputs; each tile and the kernel are taken to 6x6 values, in which convolving is multiplying. At rate r
the pixels that are r apart form r * r maps of their own, on each of which the convolution has rate 1.

The sums are rounded in other places than those of oneDNN's direct convolution: the result is off by about 2e-6 of its
root mean square in place of 1e-6.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from atrous.networks.winograd_tiles import (
    VALUES,
    Piece,
    gradient_of_kernel,
    pieces_of,
    tiles_along,
    values_of_gradients,
    values_of_inputs,
    values_of_kernel,
    write_outputs,
)

# What is computed at a time: small enough to stay in a cache, and for the allocator to use its place again.
_VALUES_AT_A_TIME = 3 << 20
_CHANNELS_AT_A_TIME = 256


def suits(height: int, width: int, *, rate: int) -> bool:
    """Whether few of a map's tiles lie outside of it, as they do at a high rate, and there are enough for a product.

    Args:
        height: Of the map.
        width: Of the map.
        rate: The atrous rate.
    """
    tiles = sum(tiles_along(height, rate)) * sum(tiles_along(width, rate))
    return tiles >= 64 and tiles * VALUES <= height * width * 9 / 2


def convolve(x_NHWC: Tensor, weight_OIkk: Tensor, *, rate: int, transposed: bool = False) -> Tensor:
    """Convolve with a 3x3 kernel, the map padded by `rate`.

    Args:
        x_NHWC: A map [N, H, W, I]; with `transposed` [N, H, W, O].
        weight_OIkk: The kernel [O, I, 3, 3].
        rate: The atrous rate.
        transposed: Take a gradient by the result to one by the input.

    Returns:
        A map [N, H, W, O]; with `transposed` [N, H, W, I].
    """
    outs, ins = (_blocks(channels) for channels in weight_OIkk.shape[:2])
    groups = _groups(x_NHWC.shape, rate, channels=weight_OIkk.shape[1 if transposed else 0])

    def values_of(seen: int, made: int) -> Tensor:
        if transposed:
            return values_of_kernel(weight_OIkk[outs[seen], ins[made]], flipped=True)
        return values_of_kernel(weight_OIkk[outs[made], ins[seen]]).transpose(1, 2)

    kernel = cache(values_of) if len(groups) > 1 else values_of
    seen_blocks, made_blocks = (outs, ins) if transposed else (ins, outs)
    y_NHWO = x_NHWC.new_empty(*x_NHWC.shape[:3], made_blocks[-1].stop)
    for pieces in groups:
        products: dict[int, Tensor] = {}
        for seen, channels in enumerate(seen_blocks):
            seen_VPI = values_of_inputs(x_NHWC[..., channels], pieces)
            for made in range(len(made_blocks)):
                if made in products:
                    products[made].baddbmm_(seen_VPI, kernel(seen, made))
                else:
                    products[made] = torch.bmm(seen_VPI, kernel(seen, made))
        for made, channels in enumerate(made_blocks):
            write_outputs(products[made], y_NHWO[..., channels], pieces)
    return y_NHWO


def weight_gradient(x_NHWC: Tensor, gradient_NHWO: Tensor, by_weight_kkOI: Tensor, *, rate: int) -> None:
    """The gradient by the kernel of `convolve`.

    Args:
        x_NHWC: Its map.
        gradient_NHWO: The gradient by its result.
        by_weight_kkOI: Is written to, [3, 3, O, I].
        rate: Its rate.
    """
    channels_out, channels_in = by_weight_kkOI.shape[2:]
    groups = _groups(x_NHWC.shape, rate, channels=channels_out)
    sums: dict[tuple[int, int], Tensor] = {}
    for pieces in groups:
        of_gradients = [values_of_gradients(gradient_NHWO[..., outs], pieces) for outs in _blocks(channels_out)]
        for ins in _blocks(channels_in):
            seen_VPI = values_of_inputs(x_NHWC[..., ins], pieces)
            for outs, gradient_VPO in zip(_blocks(channels_out), of_gradients, strict=True):
                place = outs.start, ins.start
                if place in sums:
                    sums[place].baddbmm_(gradient_VPO.transpose(1, 2), seen_VPI)
                else:
                    sums[place] = torch.bmm(gradient_VPO.transpose(1, 2), seen_VPI)
                if pieces is groups[-1]:
                    by_weight_kkOI[:, :, outs, ins] = gradient_of_kernel(sums.pop(place))


def _groups(shape_NHWC: Sequence[int], rate: int, *, channels: int) -> list[list[Piece]]:
    """Every tile of a map once, as many at a time as `_VALUES_AT_A_TIME` allows."""
    return list(pieces_of(shape_NHWC, rate, most=_VALUES_AT_A_TIME // (VALUES * channels)))


def _blocks(channels: int) -> list[slice]:
    starts = range(0, channels, _CHANNELS_AT_A_TIME)
    return [slice(start, min(start + _CHANNELS_AT_A_TIME, channels)) for start in starts]
