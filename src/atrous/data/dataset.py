"""What a data set is to the rest of the project, and the base of those that are lists of files."""

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np

from atrous.data.files import Pixels, check_pair, image_size, read_image, read_mask
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


class Pair(NamedTuple):
    """One image with its mask, as file names."""

    sample_id: str
    image: str
    mask: str


class PairList:
    """A data set that is a list of image files and mask files.

    Constructing it checks that every listed file exists and reads no pixels.

    Attributes:
        pairs: the files.

    Args:
        spec: the label space.
        pairs: the files.
        source: where the list comes from, for messages, such as "VOC 2012 val".
        void: values on disk, besides the spec's ignore label, that mean "ignored".
        same_size: whether all images have one size, which is then taken from the first image's header.

    Raises:
        DataError: the list is empty, or a listed image or mask does not exist.
    """

    def __init__(
        self,
        *,
        spec: DatasetSpec,
        pairs: Sequence[Pair],
        source: str,
        void: Iterable[int] = (),
        same_size: bool = False,
    ) -> None:
        if not pairs:
            raise DataError(f"{source}: the split is empty; its list names no image")
        require_files([pair.image for pair in pairs], kind="image", source=source)
        require_files([pair.mask for pair in pairs], kind="mask", source=source)
        self._spec = spec
        self.pairs = tuple(pairs)
        self._void = tuple(void)
        self._same_size = same_size
        self._to_label = np.arange(256, dtype=np.uint8)
        self._to_label[list(self._void)] = spec.ignore_label

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
        _, image_path, mask_path = self.pairs[index]
        image, mask = read_image(image_path), read_mask(mask_path)
        check_pair(image, mask, self._spec, image_path=image_path, mask_path=mask_path, void=self._void)
        return image, cv2.LUT(mask, self._to_label) if self._void else mask  # type: ignore[return-value]


def read_list(path: Path, *, source: str, advice: str = "") -> list[str]:
    """Read a split's list: one sample per line; blank lines are skipped.

    Args:
        path: the list file.
        source: which data set and split, for messages.
        advice: what to do when the list does not exist.

    Returns:
        The stripped lines.

    Raises:
        DataError: the file does not exist or names nothing.
    """
    if not path.is_file():
        raise DataError(f"{source}: expected the list {str(path)!r}; {found_in(path.parent, '*.txt')}{advice}")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{source}: the list {str(path)!r} is empty; it must name one sample per line")
    return lines


def require_files(paths: Sequence[str], *, kind: str, source: str) -> None:
    """Check that files exist, with one directory listing per folder instead of one look per file.

    Raises:
        DataError: names the first missing file, how many are missing and what its folder holds.
    """
    listings: dict[str, set[str]] = {}
    missing: list[str] = []
    for path in paths:
        folder, _, name = path.rpartition("/")
        if folder not in listings:
            listings[folder] = names_in(Path(folder))
        if name not in listings[folder]:
            missing.append(path)
    if missing:
        raise DataError(
            f"{source}: {kind} {missing[0]!r} is listed but does not exist ({len(missing)} of {len(paths)} listed "
            f"{kind}s are missing; {found_in(Path(missing[0]).parent)}); complete the folder or correct the list"
        )


def names_in(folder: Path) -> set[str]:
    """Return the names of a folder's files; none when the folder does not exist."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries}


def found_in(folder: Path, pattern: str = "*") -> str:
    """Say in a few words what a folder holds, for error messages."""
    if not folder.is_dir():
        return f"the folder {str(folder)!r} does not exist"
    names = sorted(path.name for path in folder.glob(pattern))
    if not names:
        return f"found nothing{'' if pattern == '*' else f' like {pattern}'} in {str(folder)!r}"
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return f"found {shown} in {str(folder)!r}"
