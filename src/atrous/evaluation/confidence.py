"""How sure a score is: the bootstrap over images (Efron, 1979), as if the data set had been drawn again."""

from typing import Any

import numpy as np

from atrous.evaluation.records import ImageRecords
from atrous.evaluation.scores import Floats, iou_of, mean_of_defined, ratio

REPLICATES, LEVEL = 1000, 0.95


def confidence_intervals(
    records: ImageRecords, *, replicates: int = REPLICATES, seed: int = 0
) -> dict[str, Any] | None:
    """Percentile intervals of the scores when the images are drawn anew with replacement.

    They say how much the choice of the images matters; another seed of the training is not in them.

    Args:
        records: the images' own confusion matrices.
        replicates: data sets that are drawn.
        seed: of the draws; the same seed gives the same intervals.

    Returns:
        level, replicates, and [low, high] (0 to 1) of miou and pixel_accuracy, and of iou by label (None for a class
        that is in fewer than one of twenty replicates); None for fewer than two images.
    """
    if len(records) < 2:
        return None
    iou, accuracy = _replicates(records, _draws(len(records), replicates, seed))
    return {
        "level": LEVEL,
        "replicates": replicates,
        "miou": _interval(mean_of_defined(iou)),
        "pixel_accuracy": _interval(accuracy),
        "iou": [_interval(column) for column in iou.T],
    }


def difference_interval(first: ImageRecords, second: ImageRecords) -> list[float] | None:
    """Interval [low, high] of the mIoU of `second` minus that of `first`, both on the same draws of the same images."""
    if len(first) < 2:
        return None
    draws = _draws(len(first), REPLICATES, seed=0)
    before, after = (mean_of_defined(_replicates(records, draws)[0]) for records in (first, second))
    return _interval(after - before)


def _draws(number: int, replicates: int, seed: int) -> Floats:
    """How often each image is in each replicate [replicates, number]."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.multinomial(number, np.full(number, 1 / number), replicates).astype(np.float64)


def _replicates(records: ImageRecords, draws: Floats) -> tuple[Floats, Floats]:
    """IoU [replicates, classes] and pixel accuracy [replicates]; sums of pixels below 2**53 are exact as floats."""
    matched, truth, predicted = (draws @ counts.astype(np.float64) for counts in records.totals())
    return iou_of(matched, truth, predicted), ratio(matched.sum(1), truth.sum(1))


def _interval(values: Floats) -> list[float] | None:
    """The middle share LEVEL of the values; None where fewer than one of twenty is defined."""
    finite = values[np.isfinite(values)]
    if len(finite) < len(values) / 20:
        return None
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]
