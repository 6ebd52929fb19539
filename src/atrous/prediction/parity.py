"""Whether two networks compute the same: logits of real pixels at several sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from atrous.data.files import Pixels
from atrous.data.preprocessing import Preprocessing
from atrous.data.window import CropWindow, window_image
from atrous.errors import CheckpointError

TOLERANCE = 1e-4  # of the largest logit
_SIZES = ((1, 1.0, 1.0), (2, 0.75, 1.25), (3, 0.6, 0.4))  # images, and factors on the sides


def check_parity(
    eager: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], samples: Sequence[Tensor], *, what: str
) -> float:
    """Compare logits.

    Args:
        eager: the network.
        other: what should compute the same.
        samples: normalised images [N, 3, H, W].
        what: the name of the other one, for messages.

    Returns:
        The largest difference of a logit, as a share of the sample's largest logit.

    Raises:
        CheckpointError: it is above 1e-4, or the network's logits are no finite numbers.
    """
    worst = 0.0
    with torch.inference_mode():
        for images in samples:
            expected = eager(images)
            size = "x".join(map(str, images.shape[-2:]))
            largest = float(expected.abs().max())
            if not isfinite(largest):
                raise CheckpointError(
                    f"{what}: the network's own logits of {len(images)} images of {size} hold NaN or infinity; nothing "
                    "was written"
                )
            difference = float((other(images) - expected).abs().max()) / (largest or 1.0)
            if not difference <= TOLERANCE:  # also where it is not a number
                raise CheckpointError(
                    f"{what} computes something else than the network: logits of {len(images)} images of {size} differ "
                    f"by {difference:.1e} of the largest, more than {TOLERANCE:.0e}; nothing was written"
                )
            worst = max(worst, difference)
    return worst


def samples_of(image: Pixels, preprocessing: Preprocessing, *, side: int, smallest: int) -> list[Tensor]:
    """Return an image scaled to three sizes, one, two and three at a time, none of them a multiple of a stride.

    Args:
        image: uint8 RGB [H, W, 3].
        preprocessing: of the network.
        side: of the first size.
        smallest: the smallest side that the network takes.
    """
    samples = []
    for number, tall, wide in _SIZES:
        height, width = max(smallest, round(side * tall)), max(smallest, round(side * wide))
        window = CropWindow(scaled=(height, width), top=0, left=0, size=(height, width), flip=False)
        pixels = window_image(image, window, fill=0)
        batch = np.stack([np.roll(pixels, 7 * shift, axis=1) for shift in range(number)])
        x_N3HW = torch.from_numpy(batch).permute(0, 3, 1, 2)
        samples.append(preprocessing.normalise(x_N3HW, torch.tensor([(height, width)] * number)).contiguous())
    return samples
