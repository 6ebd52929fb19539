"""Where kernels of this package stand for PyTorch's on a CPU, and what is left to PyTorch all the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

_level_of_transforms = getattr(torch._C._functorch, "maybe_current_level", lambda: None)


def is_ours_on_cpu(x_NCHW: Tensor) -> bool:
    """Whether a map lies on a CPU and what reads it is not being compiled, exported, traced or transformed.

    A trace (torch.jit) would keep this map's number of images and its sizes, which are tensors there.
    """
    return x_NCHW.device.type == "cpu" and not is_recorded() and not is_transformed()


def is_recorded() -> bool:
    """Whether torch.compile, torch.export or a trace (torch.jit) takes down what is computed."""
    return torch.compiler.is_compiling() or bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def is_transformed() -> bool:
    """Whether torch.func transforms what is computed, or derivatives go forward: PyTorch has rules for its own."""
    return _level_of_transforms() is not None or getattr(forward_ad, "_current_level", -1) >= 0


def dtype_on_cpu(x_NCHW: Tensor) -> torch.dtype | None:
    """In which dtype PyTorch's own convolution would compute; None where the map `is_ours_on_cpu` not."""
    if not is_ours_on_cpu(x_NCHW):
        return None
    is_cast = torch.is_autocast_enabled("cpu") and x_NCHW.dtype != torch.float64
    return torch.get_autocast_dtype("cpu") if is_cast else x_NCHW.dtype


def computes_in_float32_on_cpu(x_NCHW: Tensor) -> bool:
    """Whether PyTorch's own convolution would, and it is not being compiled, exported, traced or transformed."""
    return dtype_on_cpu(x_NCHW) == x_NCHW.dtype == torch.float32


class Geometry(NamedTuple):
    """Of a convolution, by rows and columns."""

    padding: Sequence[int]
    dilation: Sequence[int]
    stride: Sequence[int] = (1, 1)
    groups: int = 1


def pytorchs_gradients(
    wanted: Sequence[bool], x_NCHW: Tensor, weight: Tensor, gradient_NCHW: Tensor, geometry: Geometry
) -> tuple[Tensor | None, Tensor | None]:
    """Return a convolution's gradients by map and kernel, which can be differentiated again, as `create_graph` asks.

    Args:
        wanted: Whether the one by the map is, and the one by the kernel; the other is None.
        x_NCHW: The map.
        weight: The kernel.
        gradient_NCHW: By the convolution's output.
        geometry: Of the convolution.
    """
    by_input, by_weight, _ = torch.ops.aten.convolution_backward(
        *(gradient_NCHW, x_NCHW, weight, None),
        *(geometry.stride, geometry.padding, geometry.dilation, False, [0, 0], geometry.groups),
        [*wanted, False],
    )
    return by_input, by_weight
