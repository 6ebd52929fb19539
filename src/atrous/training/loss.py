"""Cross-entropy at label resolution over valid pixels, as the released code computes it.

Upsampling and cross-entropy are one operation whose forward pass leaves the gradient by the logits as they came, so
that the logits at label resolution (N * K * H * W numbers, several times over with PyTorch's own operations) never
exist as a whole: a CPU works through an image in bands of rows, whose gradient is taken to the low resolution while
it is still in the cache; a GPU takes a few images at a time.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from atrous.networks.resize import resize_bilinear

_GPU_BYTES = 64 << 20  # of the upsampled logits of a few images: 3 of 513x513 with 21 classes
_BAND = 32  # rows; 21 classes of 513 columns are 1.4 MB, which stays in a core's cache


def segmentation_loss(
    logits_NChw: Tensor,
    labels_NHW: Tensor,
    *,
    ignore_label: int = 255,
    upsample_logits: bool = True,
    align_corners: bool = True,
) -> Tensor:
    """Sum over valid pixels divided by their number on all ranks, 0 where there are none.

    Under DDP, which averages gradients over ranks, the value is scaled so that the average is the gradient of the
    global mean, also when ranks hold different numbers of valid pixels.

    Args:
        logits_NChw: the classifier's output, at its own resolution.
        labels_NHW: integer labels.
        ignore_label: the label that does not count.
        upsample_logits: whether logits are brought to the labels' size (DeepLabv3, Section 4.1) or labels to the
            logits' (Table 8, "no upsampling").
        align_corners: how the resize aligns its grids.

    Returns:
        A scalar in float32.
    """
    logits, labels = logits_NChw.float(), labels_NHW
    if not upsample_logits:
        labels = nearest_labels(labels_NHW, logits_NChw.shape[-2:])
    total = summed_cross_entropy(logits, labels.long(), ignore_label=ignore_label, align_corners=align_corners)
    valid = (labels != ignore_label).sum().to(total.dtype)
    world = 1
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(valid)
        world = dist.get_world_size()
    return total * world / valid.clamp(min=1)


def summed_cross_entropy(
    logits_NChw: Tensor, labels_NHW: Tensor, *, ignore_label: int = 255, align_corners: bool = True
) -> Tensor:
    """Cross-entropy of logits that are upsampled to the labels' size, summed over valid pixels.

    Args:
        logits_NChw: float32 or float64, of the labels' size or smaller.
        labels_NHW: int64.
        ignore_label: the label that does not count.
        align_corners: how the resize aligns its grids.

    Returns:
        A scalar of the logits' type, which can be differentiated once.
    """
    if logits_NChw.shape[-2:] == labels_NHW.shape[-2:]:
        return F.cross_entropy(logits_NChw, labels_NHW, ignore_index=ignore_label, reduction="sum")
    way = _BandedCrossEntropy if logits_NChw.device.type == "cpu" else ImageCrossEntropy
    total: Tensor = way.apply(logits_NChw, labels_NHW, ignore_label, align_corners)  # type: ignore[no-untyped-call]
    return total


def nearest_labels(labels_NHW: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Labels at the points of a smaller map whose corners are the image's corners."""
    rows, columns = (
        torch.linspace(0, have - 1, want, device=labels_NHW.device).round().long()
        for have, want in zip(labels_NHW.shape[-2:], size, strict=True)
    )
    return labels_NHW[:, rows][:, :, columns]


class _GradientLeft(torch.autograd.Function):
    """A sum whose forward pass has left the gradient by the logits as the only thing that is saved."""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient by the logits, which the forward pass has left."""
        (gradient_NChw,) = ctx.saved_tensors
        return gradient_NChw * output_gradient, None, None, None


class ImageCrossEntropy(_GradientLeft):
    """Bilinear upsampling and summed cross-entropy, few images at a time; the forward pass leaves the gradient.

    PyTorch's own operations, so that any device can run it; nothing in it waits for the device. An H100 works through
    one image of 513x513 faster than its host starts the next: 16 took 9.9 ms one by one, and 3.6 ms all at once.
    """

    @staticmethod
    def forward(ctx: Any, logits_NChw: Tensor, labels_NHW: Tensor, ignore_label: int, align_corners: bool) -> Tensor:
        """Return the sum; arguments as for `summed_cross_entropy`."""
        total = logits_NChw.new_zeros(())
        gradient_NChw = torch.zeros_like(logits_NChw)
        of_one = logits_NChw.element_size() * logits_NChw.shape[1] * labels_NHW.shape[1:].numel()
        few = max(1, _GPU_BYTES // max(1, of_one))
        for first in range(0, len(logits_NChw), few):
            images = slice(first, first + few)
            with torch.enable_grad():
                logits_FChw = logits_NChw[images].detach().requires_grad_(ctx.needs_input_grad[0])
                logits_FCHW = resize_bilinear(logits_FChw, labels_NHW.shape[-2:], align_corners=align_corners)
                loss = F.cross_entropy(logits_FCHW, labels_NHW[images], ignore_index=ignore_label, reduction="sum")
            total += loss.detach()
            if ctx.needs_input_grad[0]:
                (gradient_NChw[images],) = torch.autograd.grad(loss, logits_FChw)
        ctx.save_for_backward(gradient_NChw)
        return total


class _BandedCrossEntropy(_GradientLeft):
    """Bilinear upsampling and summed cross-entropy; the forward pass leaves the gradient for the backward pass.

    A bilinear resize is R @ x @ S^T with one small matrix for rows and one for columns, and R^T @ gradient @ S is its
    gradient. A band of output rows reads few input rows, and R has zeros elsewhere.
    """

    @staticmethod
    def forward(ctx: Any, logits_NChw: Tensor, labels_NHW: Tensor, ignore_label: int, align_corners: bool) -> Tensor:
        (height, width), (h, w) = labels_NHW.shape[-2:], logits_NChw.shape[-2:]
        rows_Hh = _interpolation(h, height, align_corners=align_corners, like=logits_NChw)
        columns_Ww = _interpolation(w, width, align_corners=align_corners, like=logits_NChw)
        total = logits_NChw.new_zeros(())
        gradient_NChw = torch.zeros_like(logits_NChw, memory_format=torch.contiguous_format)
        needs_gradient = ctx.needs_input_grad[0]
        with torch.autocast("cpu", enabled=False):  # the matrices of the resize are exact in float32 only
            for logits_Chw, labels_HW, gradient_Chw in zip(logits_NChw, labels_NHW, gradient_NChw, strict=True):
                wide_ChW = logits_Chw.contiguous() @ columns_Ww.T
                wide_gradient_ChW = torch.zeros_like(wide_ChW)
                for top in range(0, height, _BAND):
                    weights_rb, first = _nonzero_columns(rows_Hh[top : top + _BAND])
                    inputs = slice(first, first + weights_rb.shape[1])
                    log_p_CrW = torch.log_softmax(weights_rb @ wide_ChW[:, inputs], dim=0)
                    band_total, band_gradient = _negative_log_likelihood_(
                        log_p_CrW, labels_HW[top : top + _BAND], ignore_label
                    )
                    total += band_total
                    if needs_gradient:
                        wide_gradient_ChW[:, inputs] += weights_rb.T @ band_gradient
                torch.matmul(wide_gradient_ChW, columns_Ww, out=gradient_Chw)
        ctx.save_for_backward(gradient_NChw)
        return total


def _negative_log_likelihood_(log_p_CrW: Tensor, labels_rW: Tensor, ignore_label: int) -> tuple[Tensor, Tensor]:
    """Sum over valid pixels, and its gradient by the logits: p - 1 at the label, p elsewhere. Overwrites `log_p`."""
    valid_rW = labels_rW != ignore_label
    index_1rW = torch.where(valid_rW, labels_rW, 0)[None]
    weight_1rW = valid_rW.to(log_p_CrW.dtype)[None]
    total = -(log_p_CrW.gather(0, index_1rW) * weight_1rW).sum()
    gradient_CrW = log_p_CrW.exp_().mul_(weight_1rW)
    gradient_CrW.scatter_add_(0, index_1rW, -weight_1rW)
    return total, gradient_CrW


def _interpolation(have: int, want: int, *, align_corners: bool, like: Tensor) -> Tensor:
    """The matrix [want, have] of a linear resize: what `resize_bilinear` makes of the unit vectors."""
    units_1hh1 = torch.eye(have, dtype=like.dtype, device=like.device)[None, :, :, None]
    columns_1hH1 = resize_bilinear(units_1hh1, (want, 1), align_corners=align_corners)
    return columns_1hH1[0, :, :, 0].T.contiguous()


def _nonzero_columns(weights_rh: Tensor) -> tuple[Tensor, int]:
    """The part of a band's matrix that is not zero, and where it begins."""
    used = weights_rh.any(dim=0).nonzero()
    first, last = int(used[0]), int(used[-1])
    return weights_rh[:, first : last + 1], first
