"""CamVid street scenes as prepared for SegNet: 701 frames of 480x360, 11 classes."""

from pathlib import Path
from types import MappingProxyType

from atrous.data.dataset import Pair, PairList
from atrous.data.listing import check_limit, existing_root, found_in, read_list, split_parts
from atrous.data.spec import CAMVID_SPEC
from atrous.errors import DataError

OFFICIAL_COUNTS = MappingProxyType({"train": 367, "val": 101, "test": 233})
UNLABELLED = 11  # the value that SegNet's masks give to pixels of no class


class CamVid(PairList):
    """CamVid, 11 classes; label 11 on disk is unlabelled and becomes the ignore label.

    Args:
        root: the folder that holds train.txt, val.txt and test.txt, whose lines are `image mask`, relative to it.
        split: train (367 images), val (101) or test (233), or several joined by +, such as train+val.
        limit: use only the first so many images of the list, for a check that a network can learn them by heart.

    Raises:
        ConfigError: the split is unknown, or the limit impossible.
        DataError: a folder, list, image or mask is missing, or a line of the list is not a pair.
    """

    def __init__(self, *, root: str | Path, split: str, limit: int | None = None) -> None:
        check_limit(limit)
        parts = split_parts(split, OFFICIAL_COUNTS, source="CamVid")
        root = existing_root(root, source="CamVid", holds="train.txt, val.txt and test.txt")
        if (root / "camvid").is_dir() and not (root / f"{parts[0]}.txt").is_file():
            root /= "camvid"
        super().__init__(
            spec=CAMVID_SPEC,
            pairs=[pair for part in parts for pair in _pairs(root, part)][:limit],
            source=f"CamVid {split}",
            void=(UNLABELLED,),
            same_size=True,
            official_count=OFFICIAL_COUNTS.get(split),
        )
        self.split = split


def _pairs(root: Path, split: str) -> list[Pair]:
    source = f"CamVid {split}"
    return [_pair(root, line, source=source) for line in read_list(root / f"{split}.txt", source=source)]


def _pair(root: Path, line: str, *, source: str) -> Pair:
    fields = line.split()
    if len(fields) != 2:
        raise DataError(
            f"{source}: the list holds {line!r}; expected `image mask`, both relative to {str(root)!r} "
            f"({found_in(root)})"
        )
    image, mask = fields
    return Pair(Path(image).stem, str(root / image), str(root / mask))
