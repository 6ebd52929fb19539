"""From images to labels under a protocol: scales, flips, the mean of probabilities, as in the released code."""

from __future__ import annotations

import torch
from torch import Tensor

from atrous.evaluation.bands import Passes
from atrous.evaluation.protocol import Protocol
from atrous.networks.resize import resize_bilinear
from atrous.networks.segmenter import Segmenter

_MIRRORED_TOGETHER = 1 << 19  # pixels of a batch up to which an image and its mirror image share a pass


def predict(model: Segmenter, images_N3HW: Tensor, protocol: Protocol) -> Tensor:
    """The most likely class of every pixel.

    Args:
        model: in evaluation mode, at the protocol's output stride.
        images_N3HW: preprocessed images, padded to what the network takes.
        protocol: scales and flip.

    Returns:
        int64 labels [N, H, W].
    """
    passes = run_passes(model, images_N3HW, protocol)
    return torch.cat([passes.labels(rows) for rows in passes.bands()], 1)


def mean_probabilities(model: Segmenter, images_N3HW: Tensor, protocol: Protocol) -> Tensor:
    """Softmax probabilities at image size [N, classes, H, W], averaged over scales and flips.

    They take 4 * classes bytes per pixel; `predict` and `Passes` never hold more than a band of them.

    Args:
        model: as for `predict`.
        images_N3HW: as for `predict`.
        protocol: as for `predict`.
    """
    passes = run_passes(model, images_N3HW, protocol)
    n, classes = passes.logits[0].shape[:2]
    result = torch.empty((n, classes, *passes.size), device=images_N3HW.device)
    for rows in passes.bands():
        result[:, :, rows] = passes.probabilities(rows)
    return result


def run_passes(model: Segmenter, images_N3HW: Tensor, protocol: Protocol) -> Passes:
    """Run the network at every scale, on the images and on their mirror images.

    A scaled side has int((n - 1) * scale + 1) pixels, so that aligned corners stay aligned.

    Args:
        model: as for `predict`.
        images_N3HW: as for `predict`.
        protocol: as for `predict`.

    Returns:
        The logits of every pass, which are small beside the images' full-size probabilities.
    """
    height, width = images_N3HW.shape[-2:]
    logits: list[Tensor] = []
    for scale in protocol.scales:
        size = (int((height - 1) * scale + 1), int((width - 1) * scale + 1))
        scaled = images_N3HW if scale == 1 else resize_bilinear(images_N3HW, size, align_corners=model.align_corners)
        logits += _both(model, scaled) if protocol.flip else [_logits(model, scaled)]
    return Passes(logits, (height, width), model.align_corners)


def _both(model: Segmenter, scaled: Tensor) -> list[Tensor]:
    """Logits of images and of their mirror images; of small ones in one pass, of large ones in half the memory."""
    if scaled[:, 0].numel() <= _MIRRORED_TOGETHER:
        straight, mirrored = _logits(model, torch.cat([scaled, scaled.flip(-1)])).chunk(2)
    else:
        straight, mirrored = _logits(model, scaled), _logits(model, scaled.flip(-1))
    return [straight, mirrored.flip(-1)]


def _logits(model: Segmenter, images: Tensor) -> Tensor:
    return model.low_resolution_logits(images).float().contiguous()
