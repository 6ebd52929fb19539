"""A data set whose decoded pixels lie in one memory-mapped file, so that a crop reads only its window of the source."""

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

from atrous.cache import locked
from atrous.data.dataset import SegmentationDataset, has_masks
from atrous.data.decoded_build import build
from atrous.data.decoded_manifest import Manifest, UnusableError, identity, map_pixels, open_usable
from atrous.data.files import Pixels
from atrous.data.spec import DatasetSpec
from atrous.errors import DataError
from atrous.files import at_home

_log = logging.getLogger(__name__)


class Decoded:
    """Any data set, decoded once to a folder and read from there: the same pixels, to the byte.

    The folder may be shared by data sets and by processes: each data set has its own sub-folder, and of several
    processes one decodes while the others wait. What is there is checked when it is opened: the version, the classes,
    the images' names, size and time of every source file, the files' lengths, and the first and the last image against
    the source. Where something has changed, it is decoded again.

    Attributes:
        source: what is decoded.
        folder: the data set's sub-folder.

    Args:
        dataset: what is decoded.
        folder: where the decoded pixels go; 4 bytes per source pixel. A fast local disk or memory.
        num_workers: processes that decode; by default one per core that this one may use.

    Raises:
        DataError: a source file cannot be used, or the disk has no room.
    """

    def __init__(self, dataset: SegmentationDataset, *, folder: str | Path, num_workers: int | None = None) -> None:
        self.source = dataset
        parent = at_home(folder)
        self.folder = parent / identity(dataset)
        try:
            self._manifest, self._pixels = open_usable(self.folder, dataset)
        except UnusableError:
            with locked(parent / f".{self.folder.name}", key="data.cache", error=DataError):
                self._manifest, self._pixels = self._made(num_workers)

    @property
    def spec(self) -> DatasetSpec:
        """The label space."""
        return self.source.spec

    @property
    def has_masks(self) -> bool:
        """Whether the source has masks."""
        return has_masks(self.source)

    @property
    def uniform_size(self) -> tuple[int, int] | None:
        """(height, width) when every image has the same size, else None."""
        return self.source.uniform_size

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    def sample_id(self, index: int) -> str:
        """Name of an image, unique within the data set."""
        return self.source.sample_id(index)

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Return read-only views of the decoded image [H, W, 3] and label [H, W]; nothing is read before it is used."""
        (height, width), start = self._manifest.sizes[index], self._manifest.offsets[index]
        middle, end = start + 3 * height * width, start + 4 * height * width
        return self._pixels[start:middle].reshape(height, width, 3), self._pixels[middle:end].reshape(height, width)

    @cached_property
    def _pixels(self) -> Pixels:
        """The mapping; made here only where the data set was pickled, for a spawned worker."""
        try:
            return map_pixels(self.folder, self._manifest)
        except UnusableError as error:
            raise DataError(
                f"the decoded pixels of {self.spec.name!r} were replaced or removed while they were in use: {error}; "
                "start again, and give runs whose source files differ folders of their own as data.cache"
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapping out: pickled with the data set it would be copied to each spawned worker."""
        return {key: value for key, value in self.__dict__.items() if key != "_pixels"}

    def _made(self, num_workers: int | None) -> tuple[Manifest, Pixels]:
        """Decode, unless another process has done so meanwhile; the caller holds the lock."""
        try:
            return open_usable(self.folder, self.source)
        except UnusableError as reason:
            if self.folder.exists():
                _log.warning("decoding %r again: %s", self.spec.name, reason)
        manifest = build(self.source, self.folder, num_workers=num_workers)
        return manifest, map_pixels(self.folder, manifest)
