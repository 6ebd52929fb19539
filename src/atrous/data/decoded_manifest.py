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

VERSION = 1  # of the files; another number decodes anew
PIXELS, MANIFEST = "pixels", "manifest.json"

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The images of a decoded data set in their order.

    Attributes:
        sizes: (height, width) of each.
        offsets: first byte of each in the file of pixels; image [H, W, 3], then label [H, W].
        checksums: CRC-32 of each one's bytes.
        sources: (bytes, modification time in ns) of the source files of each; empty where it is not made of files.
    """

    sizes: Sequence[Size]
    offsets: Sequence[int]
    checksums: Sequence[int]
    sources: Sequence[Sequence[tuple[int, int]]]

    @property
    def bytes(self) -> int:
        """Length of the file of pixels."""
        return self.offsets[-1] + 4 * self.sizes[-1][0] * self.sizes[-1][1]

    def write(self, folder: Path) -> None:
        """Write the manifest, with the checksum of its own content."""
        content = {"version": VERSION, **dataclasses.asdict(self)}
        write_text(folder / MANIFEST, json.dumps({**content, "checksum": _digest(content)}) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read and check a manifest.

        Raises:
            DataError: it is missing, damaged or of another version.
        """
        path = folder / MANIFEST
        try:
            content: dict[str, Any] = json.loads(path.read_bytes())
            stated = content.pop("checksum")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{str(path)!r} is missing or damaged") from error
        version = content.pop("version", None)
        if version != VERSION:
            raise DataError(f"{str(path)!r} has version {version}, this program writes {VERSION}")
        if stated != _digest({"version": version, **content}):
            raise DataError(f"{str(path)!r} has been changed or damaged")
        return cls(**content)


def identity(dataset: SegmentationDataset) -> str:
    """Return a data set's folder name: its classes, its images and the kind of its source, but not where they lie."""
    facts = [
        dataclasses.asdict(dataset.spec),
        f"{type(dataset).__module__}.{type(dataset).__qualname__}",
        [
            [dataset.sample_id(i), *("/".join(PurePath(p).parts[-2:]) for p in files_of(dataset, i))]
            for i in range(len(dataset))
        ],
    ]
    return f"{re.sub(r'[^a-z0-9]+', '_', dataset.spec.name.lower())}-{len(dataset)}-{_digest(facts)[:12]}"


def why_unusable(folder: Path, dataset: SegmentationDataset) -> str | None:
    """Say why the decoded pixels in a folder do not stand for a data set; None when they do.

    Args:
        folder: the data set's folder, which may not exist.
        dataset: the source.

    Raises:
        DataError: the first or the last image of the source cannot be read.
    """
    try:
        manifest = Manifest.read(folder)
        length = (folder / PIXELS).stat().st_size
    except DataError as error:
        return str(error)
    except OSError:
        return f"{str(folder / PIXELS)!r} is missing"
    if length != manifest.bytes:
        return f"{str(folder / PIXELS)!r} has {length} bytes instead of {manifest.bytes}"
    for index, stated in enumerate(manifest.sources):
        if sources_of(dataset, index) != [tuple(fact) for fact in stated]:
            return f"a source file of {dataset.sample_id(index)!r} has changed since"
    for index in sorted({0, len(dataset) - 1}):
        if checksum(*dataset.read(index)) != manifest.checksums[index]:
            return f"{dataset.sample_id(index)!r} is no longer read as it was"
    return None


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


def checksum(image: Pixels, label: Pixels) -> int:
    """Return the CRC-32 of an image's and its label's bytes."""
    return zlib.crc32(np.ascontiguousarray(label).data, zlib.crc32(np.ascontiguousarray(image).data))


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
