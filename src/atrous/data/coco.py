"""MS-COCO as PASCAL VOC's 21 classes, to train on before VOC (DeepLabv3, section 4.3; DeepLabv3+, section 4.3)."""

import hashlib
import io
import json
import logging
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from atrous.data.coco_annotations import CocoImage, draw, read_annotations
from atrous.data.dataset import Pair, PairList
from atrous.data.files import Pixels, read_mask
from atrous.data.listing import check_limit, found_in, names_in, split_parts
from atrous.data.pillow import voc_picture
from atrous.data.spec import VOC_SPEC
from atrous.errors import ArgumentError, DataError
from atrous.files import at_home, write_bytes, write_json

# Folder of the images of each split; the annotations are annotations/instances_<split><year>.json.
_IMAGES = MappingProxyType(
    {
        2017: MappingProxyType({"train": "train2017", "val": "val2017"}),
        2014: MappingProxyType(
            {"train": "train2014", "val": "val2014", "minival": "val2014", "valminusminival": "val2014"}
        ),
    }
)
_FORMAT = 1  # of the masks; another number makes them anew
_REPORT_EVERY = 5000  # images

_log = logging.getLogger(__name__)


class Drawn(NamedTuple):
    """An image whose mask is drawn.

    Attributes:
        image_id: the image's number.
        file_name: within the split's folder.
        pixels: how many pixels have a class other than background.
    """

    image_id: int
    file_name: str
    pixels: int


class CocoVoc(PairList):
    """MS-COCO images with their objects of VOC's 20 classes; everything else is background.

    The papers take those images of trainval without minival in which VOC's classes cover more than 1000 pixels, about
    60K. Trainval without minival are 118,287 images: exactly train2017 (in 2014's release, train+valminusminival).
    Pixels are counted in the drawn mask; an image is kept when they are more than `min_pixels`.

    The masks are drawn once, to root/voc_masks as palette PNGs, and then read like any other. For train2017 this takes
    minutes. Where it is interrupted it goes on, and it starts anew when the annotations change.

    Args:
        root: the folder that holds annotations/instances_train2017.json and train2017/000000000009.jpg.
        split: train (118,287 images before the choice) or val (5,000); of 2014 also minival and valminusminival;
            several are joined by +.
        year: 2017 or 2014.
        limit: use only the first so many images, in the order of their numbers.
        min_pixels: an image needs more pixels of VOC's classes than this.

    Raises:
        ConfigError: the year, the split, the limit or min_pixels is impossible, or pycocotools is not installed.
        DataError: a folder, annotation file or image is missing or damaged, or masks cannot be written.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        split: str,
        year: int = 2017,
        limit: int | None = None,
        min_pixels: int = 1000,
    ) -> None:
        if year not in _IMAGES:
            raise ArgumentError(f"year={year} is not a release of MS-COCO; choose one of 2017, 2014")
        if min_pixels < 0:
            raise ArgumentError(f"min_pixels={min_pixels} must not be negative; the papers' is 1000")
        check_limit(limit)
        parts = split_parts(split, _IMAGES[year], source=f"MS-COCO {year}")
        home = _find_coco(root)
        pairs = [pair for part in parts for pair in _pairs(home, part, year, min_pixels)]
        super().__init__(spec=VOC_SPEC, pairs=pairs[:limit], source=f"MS-COCO {split} {year} ({min_pixels=})")
        self.split = split


def draw_masks(annotations: Path, folder: Path) -> list[Drawn]:
    """Draw the masks of all images that hold a class of VOC, or go on with it, and write the index last.

    Args:
        annotations: an `instances_*.json` file.
        folder: where masks and index go; it must belong to this file alone. Whole masks in it are kept.

    Returns:
        What was drawn, in the order of the images' numbers.

    Raises:
        ConfigError: pycocotools is not installed.
        DataError: the annotations cannot be used, or the folder cannot be written.
    """
    _log.info("reading %s, to draw masks of VOC's classes in %s", annotations, folder)
    images, there, drawn = read_annotations(annotations), names_in(folder), []
    try:
        for done, image in enumerate(images, start=1):
            path = folder / _mask_name(image.id)
            mask = _whole_mask(path, image) if path.name in there else None
            if mask is None:
                mask = draw(image)
                _write_mask(path, mask)
            if pixels := np.count_nonzero(mask):
                drawn.append(Drawn(image.id, image.file_name, int(pixels)))
            if done % _REPORT_EVERY == 0:
                _log.info("drew the masks of %d of %d images of %s", done, len(images), annotations.name)
        write_json(folder / "index.json", {"images": drawn})
    except OSError as error:
        raise DataError(
            f"MS-COCO: the masks cannot be written to {str(folder)!r} ({error.strerror}); they need about half a GB "
            "for train2017. Make room or make it writable and start again: it goes on where it stopped"
        ) from error
    return drawn


def _find_coco(root: str | Path) -> Path:
    root = at_home(root)
    for candidate in (root, root / "coco"):
        if (candidate / "annotations").is_dir():
            return candidate
    raise DataError(
        f"MS-COCO: expected the folder annotations (with instances_train2017.json) in data.root={str(root)!r}; "
        f"{found_in(root)}"
    )


def _pairs(home: Path, split: str, year: int, min_pixels: int) -> list[Pair]:
    annotations = home / "annotations" / f"instances_{split}{year}.json"
    if not annotations.is_file():
        raise DataError(
            f"MS-COCO {split} {year}: expected the file {str(annotations)!r}; {found_in(annotations.parent)} (unpack "
            f"annotations_trainval{year}.zip in {str(home)!r})"
        )
    masks = home / "voc_masks" / f"{annotations.stem}-{_key(annotations)}"
    images = home / _IMAGES[year][split]
    return [
        # The number alone is the name, so that an image has the same one in every year's release.
        Pair(f"{image_id:012d}", f"{images}/{file_name}", f"{masks}/{_mask_name(image_id)}")
        for image_id, file_name, pixels in _read_index(masks / "index.json") or draw_masks(annotations, masks)
        if pixels > min_pixels
    ]


def _key(annotations: Path) -> str:
    facts = annotations.stat()
    return hashlib.sha256(f"{_FORMAT} {facts.st_size} {facts.st_mtime_ns}".encode()).hexdigest()[:8]


def _read_index(path: Path) -> list[Drawn]:
    """What was drawn; nothing where the index, which is written last, is not there or damaged."""
    if not path.is_file():
        return []
    try:
        drawn = [Drawn(*entry) for entry in json.loads(path.read_bytes())["images"]]
        if {tuple(map(type, each)) for each in drawn} - {(int, str, int)}:
            raise TypeError("an image is a number, a file and its pixels")
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        _log.warning("%s is damaged (%s) and made anew", path, error)
        return []
    return drawn


def _mask_name(image_id: int) -> str:
    return f"{image_id:012d}.png"


def _whole_mask(path: Path, image: CocoImage) -> Pixels | None:
    try:
        mask = read_mask(path)
    except DataError:
        return None
    return mask if mask.shape == (image.height, image.width) else None


def _write_mask(path: Path, mask: Pixels) -> None:
    content = io.BytesIO()
    voc_picture(mask).save(content, format="PNG")
    write_bytes(path, content.getvalue())
