"""From images to labels under a protocol: scales, flips, the mean of probabilities, as in the released code."""

import torch
from torch import Tensor

from atrous.evaluation.protocol import Protocol
from atrous.networks.resize import resize_bilinear
from atrous.networks.segmenter import Segmenter


def predict(model: Segmenter, images_N3HW: Tensor, protocol: Protocol) -> Tensor:
    """The most likely class of every pixel.

    Args:
        model: in evaluation mode, at the protocol's output stride.
        images_N3HW: preprocessed images, padded to what the network takes.
        protocol: scales and flip.

    Returns:
        int64 labels [N, H, W].
    """
    if protocol.is_single:
        logits_NCHW: Tensor = model(images_N3HW)
        return logits_NCHW.argmax(1)
    return mean_probabilities(model, images_N3HW, protocol).argmax(1)


def mean_probabilities(model: Segmenter, images_N3HW: Tensor, protocol: Protocol) -> Tensor:
    """Softmax probabilities at image size [N, classes, H, W], averaged over scales and flips.

    A scaled side has int((n - 1) * scale + 1) pixels, so that aligned corners stay aligned.
    """
    height, width = images_N3HW.shape[-2:]
    total, count = torch.zeros(()), 0
    for scale in protocol.scales:
        size = (int((height - 1) * scale + 1), int((width - 1) * scale + 1))
        scaled = images_N3HW if scale == 1 else resize_bilinear(images_N3HW, size, align_corners=model.align_corners)
        for mirrored in (False, True) if protocol.flip else (False,):
            logits = model.low_resolution_logits(scaled.flip(-1) if mirrored else scaled)
            logits = logits.flip(-1) if mirrored else logits
            full = resize_bilinear(logits.float(), (height, width), align_corners=model.align_corners)
            total, count = full.softmax(1) + total, count + 1
    return total / count
