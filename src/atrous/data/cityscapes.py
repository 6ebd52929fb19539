"""Cityscapes in its official layout, finely or coarsely annotated (DeepLabv3, appendix; DeepLabv3+, Table 7)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import MappingProxyType

import cv2

from atrous.data.cityscapes_labels import CITYSCAPES_SPEC, LABELS, LICENCE_PLATE, train_id_table
from atrous.data.dataset import Pair, PairList
from atrous.data.files import Pixels, check_labels, read_mask
from atrous.data.listing import check_limit, existing_root, found_in, names_in, split_parts
from atrous.errors import ArgumentError, DataError

OFFICIAL_COUNTS = MappingProxyType({"train": 2975, "val": 500, "test": 1525, "train_extra": 19998})
ANNOTATIONS = MappingProxyType({"fine": ("gtFine",), "coarse": ("gtCoarse",), "mixed": ("gtFine", "gtCoarse")})

_IMAGE_END = "_leftImg8bit.png"


class Cityscapes(PairList):
    """Cityscapes, 19 classes; the `labelIds` files are mapped to the classes while they are read.

    Args:
        root: the folder that holds leftImg8bit and gtFine (or gtCoarse), as in
            leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png and
            gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png.
        split: train (2975 images), val (500), train_extra (19998, coarse only) or test (1525, without masks: every
            pixel is ignored), or several joined by +, such as train+val.
        annotation: fine, coarse, or mixed: fine where there is one, coarse in train_extra.
        limit: use only the first so many images, in the order of cities and frames.

    Raises:
        ConfigError: the split or the annotation is unknown, the limit impossible, or train_extra is asked for with
            fine annotation.
        DataError: a folder, image or mask is missing, or the split holds no image.
    """

    def __init__(self, *, root: str | Path, split: str, annotation: str = "fine", limit: int | None = None) -> None:
        check_limit(limit)
        parts = split_parts(split, OFFICIAL_COUNTS, source="Cityscapes")
        if annotation not in ANNOTATIONS:
            raise ArgumentError(f"annotation={annotation!r} is unknown; choose one of {', '.join(ANNOTATIONS)}")
        if annotation == "fine" and "train_extra" in parts:
            raise ArgumentError(f"split={split!r} is annotated coarsely only; use annotation=coarse or mixed")
        folders = {part: _annotation_of(part, ANNOTATIONS[annotation]) for part in parts if part != "test"}
        home = find_cityscapes(root, sorted(set(folders.values())))
        super().__init__(
            spec=CITYSCAPES_SPEC,
            pairs=[pair for part in parts for pair in _pairs(home, part, folders.get(part))][:limit],
            source=f"Cityscapes {annotation} {split}",
            same_size=True,
            official_count=sum(OFFICIAL_COUNTS[part] for part in parts),
        )
        self.split, self.annotation = split, annotation
        self._train_ids = train_id_table()

    def _decode(self, mask_path: str) -> Pixels:
        ids = read_mask(mask_path)
        check_labels(
            ids,
            num_classes=max(label.id for label in LABELS) + 1,
            ignored=(LICENCE_PLATE,),
            name="Cityscapes labelIds",
            path=mask_path,
        )
        return cv2.LUT(ids, self._train_ids)  # type: ignore[return-value]


def _annotation_of(part: str, folders: Sequence[str]) -> str:
    """The folder of a part's masks; train_extra has coarse ones only."""
    return folders[-1] if part == "train_extra" else folders[0]


def find_cityscapes(root: str | Path, annotations: Sequence[str]) -> Path:
    """Return the folder, `root` or `root`/cityscapes, that holds leftImg8bit and the annotations' folders.

    Args:
        root: where to look.
        annotations: of gtFine and gtCoarse, those that are read.

    Raises:
        DataError: no such folder; says what was expected and what was found.
    """
    root = existing_root(root, source="Cityscapes", holds="leftImg8bit and gtFine or gtCoarse")
    needed = ["leftImg8bit", *annotations]
    for candidate in (root, root / "cityscapes"):
        if all((candidate / name).is_dir() for name in needed):
            return candidate
    raise DataError(
        f"Cityscapes: expected {' and '.join(needed)} in data.root={str(root)!r}; {found_in(root)} (unpack "
        f"{' and '.join(f'{name}_*.zip' for name in needed)} there)"
    )


def _pairs(home: Path, split: str, annotation: str | None) -> Iterable[Pair]:
    images = home / "leftImg8bit" / split
    frames = [
        (city, name.removesuffix(_IMAGE_END))
        for city in sorted(names_in(images))
        for name in sorted(names_in(images / city))
        if name.endswith(_IMAGE_END)
    ]
    if not frames:
        raise DataError(f"Cityscapes {split}: expected CITY/*{_IMAGE_END} in {str(images)!r}; {found_in(images)}")
    for city, frame in frames:
        mask = None if annotation is None else f"{home}/{annotation}/{split}/{city}/{frame}_{annotation}_labelIds.png"
        yield Pair(frame, f"{images}/{city}/{frame}{_IMAGE_END}", mask)
