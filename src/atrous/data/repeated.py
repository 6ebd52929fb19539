"""Bootstrapping on hard images: those that hold hard classes are seen more often (DeepLabv3, section 4.3)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atrous.data.class_pixels import class_pixels
from atrous.data.dataset import SegmentationDataset, has_masks
from atrous.data.files import Pixels
from atrous.data.spec import DatasetSpec
from atrous.errors import ConfigError, DataError


class Repeated:
    """A data set in which the images of some classes appear several times.

    The first images are those of the data set, in its order; then follow the hard ones again, once per further
    repeat. Each appearance is an image of its own to the augmentation. The paper repeats bicycle, chair, table, potted
    plant and sofa: bicycle, chair, diningtable, pottedplant and sofa as VOC names them.

    Attributes:
        dataset: the images, each once.
        hard: positions in `dataset` of those that are repeated.

    Args:
        dataset: any data set with masks; they are read once to find the classes, see `class_pixels`.
        classes: names of the hard classes.
        factor: how often an image appears that holds any of them.
        cache: folder of the class counts; by default in the user's cache folder.

    Raises:
        ConfigError: a class does not exist, none is named, or the factor is less than 1.
        DataError: there are no masks, or no image holds any of the classes.
    """

    def __init__(
        self, *, dataset: SegmentationDataset, classes: Sequence[str], factor: int = 2, cache: Path | None = None
    ) -> None:
        name, known = dataset.spec.name, dataset.spec.classes
        unknown = [each for each in classes if each not in known]
        if unknown or not classes:
            given = f"class {unknown[0]!r} is unknown" if unknown else "classes=[] names no class"
            raise ConfigError(f"data.bootstrap: {given}; {name!r} has {', '.join(known)}")
        if factor < 1:
            raise ConfigError(f"data.bootstrap: factor={factor} must be at least 1 (1 repeats nothing)")
        if not has_masks(dataset):
            raise DataError(f"data.bootstrap: {name!r} has no masks here, so no image can be found by its classes")
        pixels = class_pixels(dataset, cache=cache)[:, [known.index(each) for each in classes]]
        self.dataset = dataset
        self.hard: list[int] = np.flatnonzero(pixels.any(axis=1)).tolist()
        if not self.hard:
            raise DataError(f"data.bootstrap: none of the {len(dataset)} images of {name!r} holds {', '.join(classes)}")
        self._sources = [*range(len(dataset)), *(self.hard * (factor - 1))]

    @property
    def spec(self) -> DatasetSpec:
        """The label space."""
        return self.dataset.spec

    @property
    def uniform_size(self) -> tuple[int, int] | None:
        """(height, width) when every image has the same size, else None."""
        return self.dataset.uniform_size

    def __len__(self) -> int:
        """Number of appearances."""
        return len(self._sources)

    def sample_id(self, index: int) -> str:
        """Name of an appearance: the image's, with #2, #3 and so on from the second one on."""
        name = self.dataset.sample_id(self._sources[index])
        again = index - len(self.dataset)
        return name if again < 0 else f"{name}#{again // len(self.hard) + 2}"

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Return image uint8 RGB [H, W, 3] and label uint8 [H, W].

        Raises:
            DataError: a file cannot be used; the message names it.
        """
        return self.dataset.read(self._sources[index])
