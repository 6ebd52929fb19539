"""PASCAL VOC 2012 in its official layout, with the 10,582 augmented training images of SBD (DeepLabv3, section 4)."""

from pathlib import Path
from types import MappingProxyType

from atrous.data.dataset import Pair, PairList
from atrous.data.listing import check_limit, existing_root, found_in, names_in, read_list, split_parts
from atrous.data.spec import VOC_SPEC
from atrous.errors import DataError

OFFICIAL_COUNTS = MappingProxyType({"train": 1464, "train_aug": 10582, "val": 1449, "trainval": 2913, "test": 1456})

_TRAINVAL_ADVICE = ". Unpack VOCtrainval_11-May-2012.tar again"
_AUG_ADVICE = (
    ". The augmented set is not part of VOC: put train_aug.txt (10,582 ids) into ImageSets/Segmentation and the masks "
    "converted from SBD (Hariharan et al., 2011) into SegmentationClassAug beside SegmentationClass, or use split=train"
)
_ADVICE = MappingProxyType(
    {
        "train": _TRAINVAL_ADVICE,
        "val": _TRAINVAL_ADVICE,
        "trainval": _TRAINVAL_ADVICE,
        "train_aug": _AUG_ADVICE,
        "test": ". The test images are a download of their own (VOC2012test.tar, from the evaluation server)",
    }
)


class VOC2012(PairList):
    """PASCAL VOC 2012 segmentation: 20 objects and background.

    Args:
        root: the folder that holds VOCdevkit, or VOCdevkit, or VOC2012 itself.
        split: train (1464 images), val (1449), trainval (2913), train_aug (10582; its masks are read from
            SegmentationClassAug, and from SegmentationClass for ids that are missing there) or test (1456, without
            masks: every pixel is ignored), or several joined by +, such as train_aug+val (12031).
        limit: use only the first so many images of the list, for a check that a network can learn them by heart.

    Raises:
        ConfigError: the split is unknown, or the limit impossible.
        DataError: a folder, list, image or mask is missing, or the list is empty.
    """

    def __init__(self, *, root: str | Path, split: str, limit: int | None = None) -> None:
        check_limit(limit)
        parts = split_parts(split, OFFICIAL_COUNTS, source="VOC 2012")
        home = find_voc(root)
        pairs = {pair.sample_id: pair for part in parts for pair in _pairs(home, part)}
        super().__init__(
            spec=VOC_SPEC,
            pairs=list(pairs.values())[:limit],
            source=f"VOC 2012 {split}",
            official_count=OFFICIAL_COUNTS.get(split),
        )
        self.split = split


def find_voc(root: str | Path) -> Path:
    """Return the VOC2012 folder (the one that holds ImageSets) at or below `root`.

    Raises:
        DataError: no such folder; says what was expected and what was found.
    """
    holds = "VOCdevkit/VOC2012 (unpack VOCtrainval_11-May-2012.tar there)"
    root = existing_root(root, source="VOC 2012", holds=holds)
    for candidate in (root / "VOCdevkit" / "VOC2012", root / "VOC2012", root):
        if (candidate / "ImageSets" / "Segmentation").is_dir():
            return candidate
    raise DataError(
        f"VOC 2012: expected VOCdevkit/VOC2012/ImageSets/Segmentation below data.root={str(root)!r}; {found_in(root)}"
    )


def _pairs(home: Path, split: str) -> list[Pair]:
    names = read_list(
        home / "ImageSets" / "Segmentation" / f"{split}.txt", source=f"VOC 2012 {split}", advice=_ADVICE.get(split, "")
    )
    images, official = home / "JPEGImages", home / "SegmentationClass"
    if split == "test":
        return [Pair(name, f"{images}/{name}.jpg", None) for name in names]
    folder_of = _mask_folders(home, names) if split == "train_aug" else dict.fromkeys(names, str(official))
    return [Pair(name, f"{images}/{name}.jpg", f"{folder_of[name]}/{name}.png") for name in names]


def _mask_folders(home: Path, names: list[str]) -> dict[str, str]:
    augmented = home / "SegmentationClassAug"
    if not augmented.is_dir():
        raise DataError(f"VOC 2012 train_aug: expected the folder {str(augmented)!r}; {found_in(home)}{_AUG_ADVICE}")
    available = names_in(augmented)
    official = home / "SegmentationClass"
    official_names = names_in(official)
    return {
        name: str(official if f"{name}.png" not in available and f"{name}.png" in official_names else augmented)
        for name in names
    }
