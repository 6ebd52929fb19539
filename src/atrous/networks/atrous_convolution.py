"""Dense convolution of training on a CPU, faster than oneDNN's: by Winograd's values, or a matrix product per tap.

`atrous.networks.winograd` serves 3x3 kernels with many channels. Elsewhere oneDNN is slow with the weight gradient in
float32 on maps that are channels last. At a high rate most taps fall outside of the map: at rate 18 on 33x33, 60% of
the products are with padding, which it computes all the same. With a 3x3 kernel at rate 1 it reaches 10 to 20 GFLOP/s
on two cores with AVX2, with a stride 20 to 40, with 1x1 about 100, and matrix products 120 to 150.

In bfloat16 oneDNN is slow with weight gradients alone (two images, two cores with AVX-512's bfloat16). At rates at
which a fifth of the taps and more fall outside, 6, 12, 18, 24 and 36 on 33x33, it takes 54, 47, 109, 106 and 94 ms from
2048 channels to 256, a matrix product per tap 49, 37, 28, 20 and 8; with 1x1 and half a million weights or more it
takes a tenth to a third less.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.networks import tap_products, winograd
from atrous.networks.dear_outputs import computed_once
from atrous.networks.own_kernels import Geometry, computes_in_float32_on_cpu, dtype_on_cpu, pytorchs_gradients

_MOST_TAPS = 0.8  # inside of the map, of all, where a product per tap pays in bfloat16
_FEW_CHANNELS, _MANY_PIXELS = 32, 1 << 14  # so few pay in maps so large, as in Xception's stem


def pays(conv: nn.Conv2d, x_NCHW: Tensor) -> bool:
    """Whether `atrous_conv2d` is faster: in training, in float32 or bfloat16 on a CPU, where oneDNN is slow."""
    size, rate, stride = conv.kernel_size[0], conv.dilation[0], conv.stride[0]
    return (
        conv.training
        and (conv.kernel_size, conv.dilation, conv.stride) == ((size, size), (rate, rate), (stride, stride))
        and isinstance(conv.padding, tuple)
        and len(set(conv.padding)) == 1
        and conv.padding_mode == "zeros"
        and conv.groups == 1
        and conv.bias is None
        and conv.weight.requires_grad
        and torch.is_grad_enabled()
        and x_NCHW.numel() > 0  # no images are no tiles
        and (
            (computes_in_float32_on_cpu(x_NCHW) and _is_slow_in_onednn(conv, x_NCHW))
            or (dtype_on_cpu(x_NCHW) == torch.bfloat16 and (_sees_little(conv, x_NCHW) or _is_a_product(conv, x_NCHW)))
        )
    )


def _sees_little(conv: nn.Conv2d, x_NCHW: Tensor) -> bool:
    """Whether a 3x3 kernel of many channels has a rate at which a fifth of its taps lies outside, as in ASPP."""
    rate = conv.dilation[0]
    shares = [(size + 2 * max(0, size - rate)) / (3 * size) for size in x_NCHW.shape[2:]]
    return (
        (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (1, 1), (rate, rate))
        and rate > 1
        and min(conv.weight.shape[:2]) >= 256
        and shares[0] * shares[1] <= _MOST_TAPS
        and x_NCHW.is_contiguous(memory_format=torch.channels_last)
    )


def _is_a_product(conv: nn.Conv2d, x_NCHW: Tensor) -> bool:
    """Whether it is a 1x1 convolution of so many weights that their gradient is faster as a product."""
    pixels, channels = x_NCHW.shape[-2] * x_NCHW.shape[-1], conv.weight.shape[:2]
    return (
        (conv.kernel_size, conv.stride, conv.padding) == ((1, 1), (1, 1), (0, 0))
        and max(channels) >= 1024
        and channels.numel() >= (1 << 19 if pixels <= 2048 else 1 << 20)
        and x_NCHW.is_contiguous(memory_format=torch.channels_last)
    )


def _is_slow_in_onednn(conv: nn.Conv2d, x_NCHW: Tensor) -> bool:
    """Whether its weight gradient takes longer than the matrix products of its taps: measured with 3 to 2048 channels.

    The slowest for few channels and small maps, where the calls take longer than what they compute, are left to it.
    """
    size, strided, channels = conv.kernel_size[0], conv.stride[0] > 1, min(conv.weight.shape[:2])
    pixels = x_NCHW.shape[-2] * x_NCHW.shape[-1]
    large = pixels >= 1024
    if size == 1 and not strided:
        return large and channels >= 128 and x_NCHW.is_contiguous(memory_format=torch.channels_last)
    if size == 3 and not strided and conv.dilation[0] == 1 and _FEW_CHANNELS <= channels < 64:
        return pixels >= _MANY_PIXELS and x_NCHW.is_contiguous(memory_format=torch.channels_last)
    return (large and channels >= 64) or (conv.dilation[0] > 1 and not strided)


def atrous_conv2d(x_NCHW: Tensor, weight_OIkk: Tensor, *, padding: int, rate: int = 1, stride: int = 1) -> Tensor:
    """Convolve as `torch.nn.functional.conv2d`; a second derivative is PyTorch's.

    Args:
        x_NCHW: A map [N, I, H, W].
        weight_OIkk: A square kernel, [O, I, k, k].
        padding: Zeros on each side of the map.
        rate: The atrous rate.
        stride: The stride.

    Returns:
        A map [N, O, H', W'], in the dtype that PyTorch's convolution returns (autocast counts).
    """
    if (dtype := dtype_on_cpu(x_NCHW)) is not None:
        x_NCHW, weight_OIkk = x_NCHW.to(dtype), weight_OIkk.to(dtype)
    y_NOHW: Tensor = _AtrousConv2d.apply(  # type: ignore[no-untyped-call]
        x_NCHW, weight_OIkk, {"padding": padding, "dilation": rate, "stride": stride}
    )
    return y_NOHW


class _AtrousConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, weight_OIkk: Tensor, geometry: dict[str, int]) -> Tensor:
        ctx.save_for_backward(x_NCHW, weight_OIkk)
        ctx.geometry = geometry
        return computed_once(weight_OIkk, partial(_convolve, x_NCHW, weight_OIkk, geometry))

    @staticmethod
    def backward(ctx: Any, gradient_NOHW: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_NCHW, weight_OIkk = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradients = pytorchs_gradients(
                ctx.needs_input_grad[:2], x_NCHW, weight_OIkk, gradient_NOHW, _by_axis(**ctx.geometry)
            )
            return *gradients, None
        by_input = by_weight = None
        if ctx.needs_input_grad[0]:
            by_input = _input_gradient(x_NCHW, weight_OIkk, gradient_NOHW, ctx.geometry)
        if ctx.needs_input_grad[1]:
            by_weight = _weight_gradient(x_NCHW, weight_OIkk, gradient_NOHW, **ctx.geometry)
        return by_input, by_weight, None


def _convolve(x_NCHW: Tensor, weight_OIkk: Tensor, geometry: dict[str, Any]) -> Tensor:
    if _suits_winograd(x_NCHW, weight_OIkk, **geometry):
        y_NHWO = winograd.convolve(x_NCHW.permute(0, 2, 3, 1), weight_OIkk, rate=geometry["dilation"])
        return y_NHWO.permute(0, 3, 1, 2)
    y_NOHW: Tensor = F.conv2d(x_NCHW, weight_OIkk, **geometry)
    return y_NOHW


def _suits_winograd(
    x_NCHW: Tensor, weight_OIkk: Tensor, *, padding: int, dilation: int, stride: int, channels: int = 128
) -> bool:
    """Whether it is faster than oneDNN, with at least `channels` in and out: measured on two cores with AVX2."""
    return (
        weight_OIkk.shape[-1] == 3
        and x_NCHW.dtype != torch.bfloat16  # in which its values would be rounded twice
        and stride == 1
        and x_NCHW.is_contiguous(memory_format=torch.channels_last)
        and padding == dilation
        and min(weight_OIkk.shape[:2]) >= channels
        and winograd.suits(*x_NCHW.shape[-2:], rate=dilation)
    )


def _input_gradient(x_NCHW: Tensor, weight_OIkk: Tensor, gradient_NOHW: Tensor, geometry: dict[str, int]) -> Tensor:
    if _suits_winograd(x_NCHW, weight_OIkk, **geometry):
        gradient_NHWO = gradient_NOHW.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        by_input_NHWC = winograd.convolve(gradient_NHWO, weight_OIkk, rate=geometry["dilation"], transposed=True)
        return by_input_NHWC.permute(0, 3, 1, 2)
    # Not torch.nn.grad.conv2d_input: it makes a map in place of x, which oneDNN then copies to channels last.
    by_input_NCHW, _ = pytorchs_gradients((True, False), x_NCHW, weight_OIkk, gradient_NOHW, _by_axis(**geometry))
    assert by_input_NCHW is not None
    return by_input_NCHW


def _by_axis(*, padding: int, dilation: int, stride: int) -> Geometry:
    return Geometry((padding, padding), (dilation, dilation), (stride, stride))


def _weight_gradient(
    x_NCHW: Tensor, weight_OIkk: Tensor, gradient_NOHW: Tensor, *, padding: int, dilation: int, stride: int
) -> Tensor:
    """The gradient [O, I, k, k]: by Winograd's values, or as outer products over the pixels that a tap sees.

    It lies in memory as the kernel, so that nobody has to copy it: autograd would, where it becomes the parameter's.
    """
    size = weight_OIkk.shape[-1]
    x_NHWC, gradient_NHWO = x_NCHW.permute(0, 2, 3, 1), gradient_NOHW.permute(0, 2, 3, 1)
    channels = 64 if dilation > 1 else _FEW_CHANNELS
    by_weight_OIkk = torch.empty_like(weight_OIkk, dtype=x_NCHW.dtype)
    if not by_weight_OIkk.is_contiguous(memory_format=torch.channels_last):  # each tap by itself, for matrix products
        by_weight_OIkk = x_NCHW.new_empty(size, size, *weight_OIkk.shape[:2]).permute(2, 3, 0, 1)
    by_weight_kkOI = by_weight_OIkk.permute(2, 3, 0, 1)
    if _suits_winograd(x_NCHW, weight_OIkk, padding=padding, dilation=dilation, stride=stride, channels=channels):
        gradient_NHWO = gradient_NOHW.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        winograd.weight_gradient(x_NHWC, gradient_NHWO, by_weight_kkOI, rate=dilation)
    elif stride == dilation == 1 and size > 1 and padding == size // 2:
        tap_products.near(x_NHWC, gradient_NHWO, by_weight_kkOI)
    else:
        tap_products.far(x_NHWC, gradient_NHWO, by_weight_kkOI, padding=padding, rate=dilation, stride=stride)
    return by_weight_OIkk
