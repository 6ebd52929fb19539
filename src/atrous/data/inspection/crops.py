"""The training crops that a run with a given seed sees in an epoch, for people to look at."""

import numpy as np

from atrous.data.augmentation import draw, generator_of
from atrous.data.inspection.sheet import Figure
from atrous.data.samples import TrainSamples
from atrous.data.sampling import epoch_order


def training_crops(samples: TrainSamples, *, epoch: int, count: int) -> list[Figure]:
    """Return the first crops of an epoch, in the order in which a run on one device sees them.

    Args:
        samples: the crops of a run.
        epoch: which pass over the images, from 0.
        count: how many crops; at most one per image.

    Returns:
        Crops whose captions name the image, the scale and the flip.
    """
    order = epoch_order(seed=samples.seed, epoch=epoch, length=len(samples))
    return [_crop(samples, epoch, index) for index in order[:count]]


def _crop(samples: TrainSamples, epoch: int, index: int) -> Figure:
    sample = samples[epoch, index]
    height, width = samples.dataset.read(index)[1].shape
    window = draw(generator_of(samples.seed, epoch, index), height, width, samples.augmentation)
    rows, columns = window.extent
    whole = (rows, columns) == window.size
    parts = [
        samples.dataset.sample_id(index),
        f"x{window.scaled[1] / width:.2f}",
        *(["flipped"] if window.flip else []),
        *([] if whole else [f"padded from {columns}x{rows}"]),
    ]
    image = np.ascontiguousarray(sample["image"].permute(1, 2, 0).numpy())
    return Figure(caption=" · ".join(parts), image=image, label=sample["label"].numpy())
