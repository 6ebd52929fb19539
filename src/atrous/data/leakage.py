"""Mistakes of a split, refused before pixels are read: images trained on and scored, masks that are absent, too few."""

from atrous.data.dataset import SegmentationDataset, has_masks
from atrous.errors import ConfigError, DataError


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


def require_image_per_rank(images: int, *, ranks: int) -> None:
    """Refuse a validation in which a rank has nothing to do, which Lightning does not take.

    Args:
        images: validation images.
        ranks: trainer.nodes x trainer.devices.

    Raises:
        ConfigError: there are fewer images than ranks.
    """
    if images < ranks:
        raise ConfigError(
            f"trainer.devices: {ranks} devices in all share the images of data.val, of which there are {images}: at "
            f"most {images} devices, or more images, would be right (or trainer.val_every above recipe.max_steps, "
            "which validates at the end alone)"
        )
