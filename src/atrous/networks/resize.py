"""The one bilinear resize of the project: image pooling, decoder, logits and multi-scale inference all call it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from atrous.networks.recomputation import recomputed


def resize_bilinear(x_NCHW: Tensor, size: Sequence[int], *, align_corners: bool = True) -> Tensor:
    """Resize maps to `size` by bilinear interpolation.

    Args:
        x_NCHW: Maps [N, C, h, w].
        size: The wanted (H, W).
        align_corners: True as in the official code: the corners of both grids coincide, which fits maps of
            k * output_stride + 1 pixels. False is torchvision's way.

    Returns:
        Maps [N, C, H, W].
    """
    height, width = size
    if not torch.compiler.is_compiling():  # an exported graph is for every size: it cannot ask for one
        if x_NCHW.shape[-2:] == (height, width):
            return x_NCHW
        if x_NCHW.shape[-2:] == (1, 1):  # interpolating one value repeats it: a view, without a copy
            return recomputed(lambda x_NCHW: x_NCHW.expand(-1, -1, height, width), x_NCHW)

    def resize(x_NCHW: Tensor) -> Tensor:
        return F.interpolate(x_NCHW, size=(height, width), mode="bilinear", align_corners=align_corners)

    return recomputed(resize, x_NCHW)
