"""MS-COCO's instance annotations as PASCAL VOC's 21 classes: which objects count, and how they are drawn."""

import importlib
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from atrous.data.files import Pixels
from atrous.data.spec import VOC_CLASSES
from atrous.errors import ConfigError, DataError

# The names of VOC's classes that MS-COCO spells otherwise.
COCO_NAMES = MappingProxyType(
    {
        "aeroplane": "airplane",
        "diningtable": "dining table",
        "motorbike": "motorcycle",
        "pottedplant": "potted plant",
        "sofa": "couch",
        "tvmonitor": "tv",
    }
)


_LONGEST_SIDE, _MOST_PIXELS = 1 << 16, 1 << 26  # MS-COCO's images have 640 along a side


class CocoObject(NamedTuple):
    """One annotated object of a VOC class.

    Attributes:
        id: the annotation's number.
        label: 1..20.
        segmentation: polygons, or a run-length code as a mapping, as the file holds it.
        is_crowd: whether it is a region of many objects.
    """

    id: int
    label: int
    segmentation: Any
    is_crowd: bool


class CocoImage(NamedTuple):
    """An image that holds a VOC class.

    Attributes:
        id: the image's number, the same in every year's release.
        file_name: within the split's folder.
        height: pixels.
        width: pixels.
        objects: those of VOC's classes.
    """

    id: int
    file_name: str
    height: int
    width: int
    objects: tuple[CocoObject, ...]


def read_annotations(path: Path) -> list[CocoImage]:
    """Read the images of an `instances_*.json` file that hold a class of VOC, in the order of their numbers.

    Args:
        path: the file. That of train2017 takes about 3 GB of memory while it is read.

    Raises:
        DataError: the file is no such file, or lacks a category.
    """
    try:
        content = json.loads(path.read_bytes())
        label_of = _labels(content["categories"], path)
        objects: dict[int, list[CocoObject]] = defaultdict(list)
        for entry in content["annotations"]:
            if (label := label_of.get(entry["category_id"])) is not None:
                item = CocoObject(_value(entry, "id", int), label, entry["segmentation"], bool(entry.get("iscrowd", 0)))
                objects[entry["image_id"]].append(item)
        images = [
            CocoImage(
                _value(entry, "id", int), _value(entry, "file_name", str), *_size(entry), tuple(objects[entry["id"]])
            )
            for entry in content["images"]
            if entry["id"] in objects
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{str(path)!r} is not a whole file of MS-COCO instance annotations ({type(error).__name__}: {error}); "
            "unpack annotations_trainval*.zip again"
        ) from error
    return sorted(images, key=lambda image: image.id)


def draw(image: CocoImage) -> Pixels:
    """Draw an image's objects as labels.

    Larger objects are drawn first, so that what lies in front of them, or is a part of them, stays visible. Crowd
    regions have their class, as in torchvision's reference, and are drawn before all objects. What has no VOC class is
    background. (That reference ignores the pixels that two objects share; here the smaller one takes them.)

    Returns:
        uint8 [H, W]: 0 (background) to 20.

    Raises:
        ConfigError: pycocotools is not installed.
        DataError: a segmentation cannot be drawn; names the annotation.
    """
    coco = _pycocotools()
    codes = [(item, _run_lengths(item, image, coco)) for item in image.objects]
    mask = np.zeros((image.height, image.width), np.uint8)
    for item, code in sorted(codes, key=lambda pair: (not pair[0].is_crowd, -int(coco.area(pair[1])), pair[0].id)):
        mask[coco.decode(code) > 0] = item.label
    return mask


def _labels(categories: Sequence[Mapping[str, Any]], path: Path) -> dict[int, int]:
    """Find the label of each category number that is a VOC class."""
    number_of = {entry["name"]: entry["id"] for entry in categories}
    names = [COCO_NAMES.get(name, name) for name in VOC_CLASSES]
    missing = [name for name in names[1:] if name not in number_of]
    if missing:
        raise DataError(
            f"{str(path)!r} has no category {missing[0]!r}; expected the 80 categories of MS-COCO instances"
        )
    return {number_of[name]: label for label, name in enumerate(names) if label}


def _value(entry: Mapping[str, Any], key: str, kind: type) -> Any:
    """A value of an entry: by their numbers images and what is drawn on them are sorted."""
    if type(entry[key]) is not kind:
        raise TypeError(f"the {key} {entry[key]!r} is no {kind.__name__}")
    return entry[key]


def _size(entry: Mapping[str, Any]) -> tuple[int, int]:
    """The height and the width of an image, as memory will be taken for them."""
    height, width = entry["height"], entry["width"]
    whole = type(height) is type(width) is int
    if not (whole and 0 < height <= _LONGEST_SIDE and 0 < width <= _LONGEST_SIDE and height * width <= _MOST_PIXELS):
        raise ValueError(f"image {entry['id']} of {height} x {width} pixels (height, width)")
    return height, width


def _run_lengths(item: CocoObject, image: CocoImage, coco: Any) -> Any:
    shape, height, width = item.segmentation, image.height, image.width
    try:
        if isinstance(shape, Mapping):
            if list(shape["size"]) != [height, width]:
                raise ValueError(f"its size is {shape['size']}, but the image is {[height, width]} (height, width)")
            counts = _counts(shape["counts"], height * width)
            return coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        if not shape or min(map(len, shape)) < 6:  # pycocotools would take four numbers for a box
            raise ValueError("a polygon needs at least three points")
        _check_points(shape, max(height, width))
        return coco.merge(coco.frPyObjects(shape, height, width))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(
            f"MS-COCO annotation {item.id} of image {image.file_name!r} cannot be drawn: {error}; unpack the "
            "annotations again"
        ) from error


def _counts(code: Any, pixels: int) -> list[int]:
    """The run lengths of a code; pycocotools would fill what they leave out with whatever lies in the memory."""
    counts = _unpacked(code) if isinstance(code, str | bytes) else code
    if not isinstance(counts, list) or any(type(count) is not int or count < 0 for count in counts):
        raise ValueError("its run lengths are no whole numbers")
    if sum(counts) != pixels:
        raise ValueError(f"its run lengths are of {sum(counts)} pixels, but the image has {pixels}")
    return counts


def _unpacked(code: str | bytes) -> list[int]:
    """Unpack MS-COCO's compressed run lengths: 5 bits a character, least first, as differences to the last but one."""
    counts: list[int] = []
    value = shift = 0
    for character in code.encode("ascii") if isinstance(code, str) else code:
        bits = character - 48
        if not 0 <= bits < 64:
            raise ValueError(f"its run lengths hold the character {chr(character)!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("its run lengths are cut off")
    return counts


def _check_points(polygons: Sequence[Sequence[float]], side: int) -> None:
    """Allow points outside the image, but not so far that pycocotools, which traces every edge, ends the process."""
    for value in itertools.chain.from_iterable(polygons):
        if not math.isfinite(value) or not -side <= value <= 2 * side:
            raise ValueError(f"a polygon has a point at {value}, far outside the image")


def _pycocotools() -> Any:
    try:
        return importlib.import_module("pycocotools.mask")
    except ImportError as error:
        raise ConfigError(
            f"data: the masks of MS-COCO are drawn with pycocotools, which cannot be imported ({error}); "
            "run: pip install 'atrous[coco]'"
        ) from error
