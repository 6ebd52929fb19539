"""What a data set is to the rest of the project, and the base of those that are lists of files."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np

from atrous.data.files import Pixels, check_labels, check_sizes, image_size, read_image, read_mask
from atrous.data.listing import refuse_repeated, require_files
from atrous.data.png import read_top
from atrous.data.spec import DatasetSpec
from atrous.errors import DataError


@runtime_checkable
class SegmentationDataset(Protocol):
    """Images with a label per pixel.

    Attributes:
        spec: the label space.
        uniform_size: (height, width) when every image has the same size, else None.
    """

    @property
    def spec(self) -> DatasetSpec:
        """The label space."""

    @property
    def uniform_size(self) -> tuple[int, int] | None:
        """(height, width) when every image has the same size, else None."""

    def __len__(self) -> int:
        """Number of images."""

    def sample_id(self, index: int) -> str:
        """Name of an image, unique within the data set."""

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Return image uint8 RGB [H, W, 3] and label uint8 [H, W] with the spec's ignore label.

        Raises:
            DataError: a file cannot be used; the message names it.
        """


def has_masks(dataset: SegmentationDataset) -> bool:
    """Tell whether a data set has a truth to train on or to score against; test sets have none.

    A data set says so by an attribute `has_masks`; one without it has masks.
    """
    return bool(getattr(dataset, "has_masks", True))


class Pair(NamedTuple):
    """One image with its mask, as file names; the mask is None where there is none to have (test sets)."""

    sample_id: str
    image: str
    mask: str | None


class PairList:
    """A data set that is a list of image files and mask files.

    Constructing it checks that every image is listed once and every file exists, and reads no pixels; `unverified`
    leaves these checks out.

    Attributes:
        pairs: the files.
        has_masks: whether every image has a mask; without one, every pixel has the ignore label.
        official_count: images of the whole split as published, or None; fewer or more is no error.
        reading: how masks become labels where the label space leaves that open: what was read otherwise is not kept.

    Args:
        spec: the label space.
        pairs: the files.
        source: where the list comes from, for messages, such as "VOC 2012 val".
        void: values on disk, besides the spec's ignore label, that mean "ignored".
        same_size: whether all images have one size, which is then taken from the first image's header.
        official_count: see above.
        listed: whether a list names the files, or they are what a folder holds; for messages.

    Raises:
        DataError: the list is empty, names an image twice, or a listed image or mask does not exist.
    """

    _verified = True
    reading = ""

    def __init__(
        self,
        *,
        spec: DatasetSpec,
        pairs: Sequence[Pair],
        source: str,
        void: Iterable[int] = (),
        same_size: bool = False,
        official_count: int | None = None,
        listed: bool = True,
    ) -> None:
        if not pairs:
            raise DataError(f"{source}: the split is empty; its list names no image")
        if self._verified:
            refuse_repeated([pair.sample_id for pair in pairs], [pair.image for pair in pairs], source=source)
            masks = [pair.mask for pair in pairs if pair.mask is not None]
            require_files([pair.image for pair in pairs], kind="image", source=source, listed=listed)
            require_files(masks, kind="mask", source=source, listed=listed)
        self._spec = spec
        self.pairs = tuple(pairs)
        self.has_masks = all(pair.mask is not None for pair in pairs)
        self.official_count = official_count
        self._ignored = sorted({spec.ignore_label, *void})
        self._same_size = same_size
        self._to_label = np.arange(256, dtype=np.uint8)
        self._to_label[self._ignored] = spec.ignore_label

    @classmethod
    def unverified(cls, **arguments: Any) -> "PairList":
        """Construct from the lists alone, so that a check can name every missing file and not only the first.

        Args:
            **arguments: of the constructor.
        """
        dataset = cls.__new__(cls)
        dataset._verified = False
        dataset.__init__(**arguments)  # type: ignore[misc]  # the same class's, as a call would do
        return dataset

    @property
    def spec(self) -> DatasetSpec:
        """The label space."""
        return self._spec

    @cached_property
    def uniform_size(self) -> tuple[int, int] | None:
        """(height, width) of every image, or None when they differ."""
        return image_size(self.pairs[0].image) if self._same_size else None

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def sample_id(self, index: int) -> str:
        """Name of an image, unique within the data set."""
        return self.pairs[index].sample_id

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Read and check one pair.

        Args:
            index: position in the list.

        Returns:
            Image uint8 RGB [H, W, 3] and label uint8 [H, W], where ignored pixels have the spec's ignore label.

        Raises:
            DataError: a file is truncated or corrupt, sizes differ, or a label is illegal; the message names the file.
        """
        pair = self.pairs[index]
        image, label = read_image(pair.image), self.read_label(index)
        check_sizes(image, label, image_path=pair.image, mask_path=pair.mask or pair.image)
        return image, label

    def read_top(self, index: int, label: Pixels, *, rows: int) -> Pixels:
        """Read the image of a label that `read_label` gave, or its top where that is cheaper.

        Returns:
            Image uint8 RGB of at least `rows` rows.

        Raises:
            DataError: as `read`.
        """
        _, image_path, mask_path = self.pairs[index]
        if (top := read_top(image_path, rows=rows, size=label.shape)) is not None:
            return top
        image = read_image(image_path)
        check_sizes(image, label, image_path=image_path, mask_path=mask_path or image_path)
        return image

    def read_label(self, index: int) -> Pixels:
        """Read and check one mask alone.

        Args:
            index: position in the list.

        Returns:
            Label uint8 [H, W], as `read` gives it.

        Raises:
            DataError: as `read`.
        """
        _, image_path, mask_path = self.pairs[index]
        if mask_path is None:
            return np.full(image_size(image_path), self._spec.ignore_label, np.uint8)
        return self._decode(mask_path)

    def _decode(self, mask_path: str) -> Pixels:
        """Turn a mask file into labels; the part in which data sets differ."""
        mask, spec = read_mask(mask_path), self._spec
        check_labels(mask, num_classes=spec.num_classes, ignored=self._ignored, name=spec.name, path=mask_path)
        return mask if len(self._ignored) == 1 else cv2.LUT(mask, self._to_label)  # type: ignore[return-value]
