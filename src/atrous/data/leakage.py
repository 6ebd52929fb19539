"""Silent mistakes of a split, refused before pixels are read: images trained on and scored, masks that are absent."""

from atrous.data.dataset import SegmentationDataset, has_masks
from atrous.errors import DataError


def shared_samples(train: SegmentationDataset, val: SegmentationDataset) -> list[str]:
    """Find the images that are both trained on and evaluated on.

    The same image has the same name in every split, annotation and release of a data set, so names tell. In a folder of
    your own a name is what its list says, or SPLIT/NAME where folders tell the splits apart. An image that training
    repeats is found by its first appearance.

    Args:
        train: training images.
        val: images of the evaluation.

    Returns:
        Names of the shared images in the order of `val`; empty when nothing leaks.
    """
    trained = {train.sample_id(index) for index in range(len(train))}
    return [name for name in (val.sample_id(index) for index in range(len(val))) if name in trained]


def refuse_shared_samples(train: SegmentationDataset, val: SegmentationDataset) -> None:
    """Raise unless training and evaluation have no image in common.

    Raises:
        DataError: Names the first shared images and the key that allows them.
    """
    shared = shared_samples(train, val)
    if shared:
        listed = ", ".join(shared[:5]) + (f" and {len(shared) - 5} more" if len(shared) > 5 else "")
        raise DataError(
            f"data.train and data.val share {len(shared)} images ({listed}): scores on val would be those of images "
            "learnt by heart; change a split, or say data.allow_shared_samples=true if that is wanted"
        )


def require_masks(dataset: SegmentationDataset, *, key: str) -> None:
    """Raise unless a data set has masks to learn from or to score on.

    Raises:
        DataError: Names the key of the split.
    """
    if not has_masks(dataset):
        raise DataError(f"{key} has no masks (a test set?), so nothing can be learnt or scored; choose another split")
