"""What the folder of a decoded data set says about itself, and whether it still fits its source."""

import dataclasses
import hashlib
import json
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from atrous.data.dataset import PairList, SegmentationDataset
from atrous.data.files import Pixels
from atrous.errors import DataError
from atrous.files import write_text

VERSION = 3  # of the files and of how they are read; another number decodes anew
PIXELS, MANIFEST = "pixels", "manifest.json"


class UnusableError(DataError):
    """Decoded pixels that do not stand for a data set."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The images of a decoded data set in their order.

    Attributes:
        sizes: (height, width) of each.
        offsets: first byte of each in the file of pixels; image [H, W, 3], then label [H, W].
        checksums: CRC-32 of each one's bytes.
        sources: (bytes, modification time in ns) of the source files of each; empty where it is not made of files.
    """

    sizes: Sequence[tuple[int, int]]
    offsets: Sequence[int]
    checksums: Sequence[int]
    sources: Sequence[Sequence[tuple[int, int]]]

    @property
    def bytes(self) -> int:
        """Length of the file of pixels."""
        return self.offsets[-1] + 4 * self.sizes[-1][0] * self.sizes[-1][1]

    @property
    def pixels(self) -> str:
        """Name of the file of pixels: no other manifest's, so that a replaced folder is never read with this one."""
        return f"{PIXELS}-{_digest(self._content())[:16]}"

    def write(self, folder: Path) -> None:
        """Write the manifest, with the checksum of its own content."""
        content = self._content()
        write_text(folder / MANIFEST, json.dumps({**content, "checksum": _digest(content)}) + "\n")

    def _content(self) -> dict[str, Any]:
        return {"version": VERSION, **dataclasses.asdict(self)}

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read and check a manifest.

        Raises:
            UnusableError: it is missing, damaged or of another version.
        """
        path = folder / MANIFEST
        try:
            content: dict[str, Any] = json.loads(path.read_bytes())
            stated = content.pop("checksum")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UnusableError(f"{str(path)!r} is missing or damaged") from error
        version = content.pop("version", None)
        if version != VERSION:
            raise UnusableError(f"{str(path)!r} has version {version}, this program writes {VERSION}")
        if stated != _digest({"version": version, **content}):
            raise UnusableError(f"{str(path)!r} has been changed or damaged")
        return cls(**content)


def identity(dataset: SegmentationDataset) -> str:
    """Return a data set's folder name: its classes, its images and how they are read, but not where they lie.

    Images that are not files are told apart by the pixels of the first and the last one: names alone may be those of
    another seed or size.
    """
    facts: list[object] = [
        dataclasses.asdict(dataset.spec),
        f"{type(dataset).__module__}.{type(dataset).__qualname__}",
        [
            [dataset.sample_id(i), *("/".join(PurePath(p).parts[-2:]) for p in files_of(dataset, i))]
            for i in range(len(dataset))
        ],
    ]
    if not isinstance(dataset, PairList):
        facts.append([checksum(*dataset.read(index)) for index in _ends(dataset)])
    elif dataset.reading:
        facts.append(dataset.reading)
    return f"{re.sub(r'[^a-z0-9]+', '_', dataset.spec.name.lower())}-{len(dataset)}-{_digest(facts)[:12]}"


def open_usable(folder: Path, dataset: SegmentationDataset) -> tuple[Manifest, Pixels]:
    """Open the decoded pixels in a folder, if they stand for a data set.

    Args:
        folder: the data set's folder, which may not exist.
        dataset: the source.

    Raises:
        UnusableError: says why they do not.
        DataError: the first or the last image of the source cannot be read.
    """
    manifest = Manifest.read(folder)
    pixels = map_pixels(folder, manifest)
    for index, stated in enumerate(manifest.sources):
        if sources_of(dataset, index) != [tuple(fact) for fact in stated]:
            raise UnusableError(f"a source file of {dataset.sample_id(index)!r} has changed since")
    for index in _ends(dataset):
        if checksum(*dataset.read(index)) != manifest.checksums[index]:
            raise UnusableError(f"{dataset.sample_id(index)!r} is no longer read as it was")
    return manifest, pixels


def map_pixels(folder: Path, manifest: Manifest) -> Pixels:
    """Map a manifest's file of pixels, read-only; it stays mapped where another process replaces the folder.

    Raises:
        UnusableError: it is missing or has another length.
    """
    path = folder / manifest.pixels
    try:
        pixels = np.memmap(path, np.uint8, mode="r").view(np.ndarray)
    except (OSError, ValueError) as error:  # ValueError: it is empty
        raise UnusableError(f"{str(path)!r} is missing or cannot be read") from error
    if len(pixels) != manifest.bytes:
        raise UnusableError(f"{str(path)!r} has {len(pixels)} bytes instead of {manifest.bytes}")
    return pixels


def files_of(dataset: SegmentationDataset, index: int) -> list[str]:
    """Return the files that an image and its mask are read from; none where they are not files."""
    if not isinstance(dataset, PairList):
        return []
    pair = dataset.pairs[index]
    return [path for path in (pair.image, pair.mask) if path is not None]


def sources_of(dataset: SegmentationDataset, index: int) -> list[tuple[int, int]]:
    """Return (bytes, modification time in ns) of an image's source files; (-1, -1) for one that is missing."""
    facts = []
    for path in files_of(dataset, index):
        try:
            found = os.stat(path)  # noqa: PTH116  # a Path per file costs more than the look itself
            facts.append((found.st_size, found.st_mtime_ns))
        except OSError:
            facts.append((-1, -1))
    return facts


def names_and_lengths(dataset: SegmentationDataset) -> list[list[Any]]:
    """Return each image's name and the lengths of its files in bytes: those of a copy elsewhere too."""
    return [
        [dataset.sample_id(index), *(length for length, _ in sources_of(dataset, index))]
        for index in range(len(dataset))
    ]


def checksum(image: Pixels, label: Pixels) -> int:
    """Return the CRC-32 of an image's and its label's bytes."""
    return zlib.crc32(np.ascontiguousarray(label).data, zlib.crc32(np.ascontiguousarray(image).data))


def _ends(dataset: SegmentationDataset) -> list[int]:
    return sorted({0, len(dataset) - 1})


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
