"""Batch norm of a training on a CPU together with the ReLU behind it: `fused_batch_norm.cpp`, compiled once.

PyTorch passes over a map for its mean, for its variance, for the result and for ReLU, each time through memory, and
once more for ReLU's gradient. Here two passes make the result and two the gradient.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from atrous.compiling import loaded
from atrous.networks.atrous_convolution import computes_in_float32_on_cpu

_SOURCE = Path(__file__).with_suffix(".cpp")
_FLAGS = ("-O3", "-fopenmp")


class _Kernels:
    """What this process has loaded, and whether trainings take it."""

    def __init__(self) -> None:
        self.library: ctypes.CDLL | None = None
        self.in_use = False


_kernels = _Kernels()


def use(enabled: bool = True, *, cache: str | Path | None = None) -> bool:
    """Have trainings of this process take these kernels from now on, or no longer.

    Args:
        enabled: Whether they are taken.
        cache: Folder for the compiled file; None for $ATROUS_CACHE or ~/.cache/atrous.

    Returns:
        Whether they are; PyTorch's are where there is no C++ compiler with OpenMP, which is logged.
    """
    if enabled and _kernels.library is None:
        # A cache may be shared by machines: the code is for what PyTorch, too, takes this processor for.
        wide = ("-mavx2", "-mfma") if torch.backends.cpu.get_cpu_capability().startswith("AVX") else ()
        instead = "trainer.cpu_kernels: PyTorch's own"
        _kernels.library = loaded(_SOURCE, flags=(*_FLAGS, *wide), made_with=(), wanted_by=instead, cache=cache)
    _kernels.in_use = enabled and _kernels.library is not None
    return _kernels.in_use


def suits(norm: nn.BatchNorm2d, x_NCHW: Tensor) -> bool:
    """Whether `batch_norm` computes what `norm` would: in training, in float32 on a CPU, channels last."""
    return (
        _kernels.in_use
        and computes_in_float32_on_cpu(x_NCHW)
        and type(x_NCHW) is Tensor  # none without data
        and type(norm) is nn.BatchNorm2d
        and norm.training
        and norm.momentum is not None
        and norm.affine
        and norm.track_running_stats
        and norm.weight.dtype == torch.float32
        and x_NCHW.numel() > x_NCHW.shape[1] > 0  # else PyTorch says what is wrong
        and x_NCHW.shape[1] == norm.num_features
        and x_NCHW.is_contiguous(memory_format=torch.channels_last)
    )


def batch_norm(norm: nn.BatchNorm2d, x_NCHW: Tensor, *, relu: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise by the statistics of the batch, which the running ones follow; differentiable once.

    Args:
        norm: A batch norm that `suits`.
        x_NCHW: A map, channels last.
        relu: Whether ReLU follows.

    Returns:
        The map, and the scale and shift of every channel that make it again with `scaled`.
    """
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    mean, inverse_deviation, scale, shift = (torch.empty_like(norm.weight) for _ in range(4))
    running = norm.running_mean, norm.running_var
    _call(
        "statistics",
        *(x_NCHW, *_shape(x_NCHW), norm.weight, norm.bias, float(norm.eps), float(norm.momentum or 0.0), *running),
        *(mean, inverse_deviation, scale, shift),
    )
    batch = _Batch(mean, inverse_deviation, scale, shift, relu)
    y_NCHW: Tensor = _BatchNorm.apply(x_NCHW, norm.weight, norm.bias, batch)  # type: ignore[no-untyped-call]
    return y_NCHW, scale, shift


def scaled(x_NCHW: Tensor, scale: Tensor, shift: Tensor, *, relu: bool) -> Tensor:
    """Return x * scale + shift, with ReLU behind it if wanted: the bits of `batch_norm`."""
    y_NCHW = torch.empty_like(x_NCHW)
    _call("apply", x_NCHW, *_shape(x_NCHW), scale, shift, relu, y_NCHW)
    return y_NCHW


class _Batch(NamedTuple):
    """What a batch says of every channel, [C] each, and whether ReLU follows."""

    mean: Tensor
    inverse_deviation: Tensor
    scale: Tensor
    shift: Tensor
    relu: bool


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, weight: Tensor, bias: Tensor, batch: _Batch) -> Tensor:
        ctx.save_for_backward(x_NCHW)
        ctx.batch = batch
        return scaled(x_NCHW, batch.scale, batch.shift, relu=batch.relu)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (x_NCHW,) = ctx.saved_tensors
        gradient_NCHW = gradient_NCHW.contiguous(memory_format=torch.channels_last)
        mean = ctx.batch.mean
        by_x, by_weight, by_bias = torch.empty_like(x_NCHW), torch.empty_like(mean), torch.empty_like(mean)
        _call("backward", gradient_NCHW, x_NCHW, *_shape(x_NCHW), *ctx.batch, by_x, by_weight, by_bias)
        return by_x, by_weight, by_bias, None


def _shape(x_NCHW: Tensor) -> tuple[int, int]:
    """Pixels and channels of the map as a matrix."""
    return x_NCHW.numel() // x_NCHW.shape[1], x_NCHW.shape[1]


def _call(name: str, *arguments: Any) -> None:
    getattr(_kernels.library, f"atrous_batch_norm_{name}")(*map(_as_c, arguments))


def _as_c(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, bool):
        return ctypes.c_bool(argument)
    return ctypes.c_double(argument) if isinstance(argument, float) else ctypes.c_int64(argument)
