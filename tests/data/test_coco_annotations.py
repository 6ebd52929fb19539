"""MS-COCO's annotations as VOC labels; the objects are boxes of pixels, so that every mask is known in closed form."""

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atrous.data.coco_annotations import CocoImage, CocoObject, draw, read_annotations
from atrous.data.files import Pixels
from atrous.data.spec import VOC_CLASSES
from atrous.errors import ConfigError, DataError

needs_pycocotools = pytest.mark.skipif(
    importlib.util.find_spec("pycocotools") is None, reason="pycocotools is absent: pip install it"
)

# The official numbers of VOC's classes in MS-COCO, in VOC's order (as in torchvision's reference), and two others.
NUMBERS = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
NAMES = (
    "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog",
    "horse", "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv",
)  # fmt: skip
CATEGORIES = [{"id": i, "name": name} for i, name in [*zip(NUMBERS, NAMES, strict=True), (8, "truck"), (25, "giraffe")]]

Box = tuple[int, int, int, int]  # top, left, bottom, right
HEIGHT, WIDTH = 40, 50


def _pixels(box: Box) -> Pixels:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[box[0] : box[2], box[1] : box[3]] = 1
    return mask


def _polygon(box: Box) -> list[float]:
    top, left, bottom, right = box
    return [left, top, right, top, right, bottom, left, bottom]


def _counts(mask: Pixels) -> list[int]:
    """Run lengths down the columns, zeros first: MS-COCO's uncompressed code."""
    runs = [(value, len(list(group))) for value, group in itertools.groupby(mask.T.ravel().tolist())]
    lengths = [length for _, length in runs]
    return lengths if runs[0][0] == 0 else [0, *lengths]


def _run_lengths(box: Box) -> dict[str, Any]:
    return {"size": [HEIGHT, WIDTH], "counts": _counts(_pixels(box))}


def _drawn(*objects: tuple[int, Any, bool]) -> Pixels:
    items = tuple(CocoObject(number, *each) for number, each in enumerate(objects, start=100))
    return draw(CocoImage(1, "a.jpg", HEIGHT, WIDTH, items))


@needs_pycocotools
@pytest.mark.parametrize("box", [(3, 5, 20, 30), (0, 0, 40, 50), (0, 0, 1, 1), (39, 49, 40, 50)])
def test_polygons_and_run_lengths_give_exactly_the_same_pixels(box: Box) -> None:
    expected = _pixels(box) * 7
    np.testing.assert_array_equal(_drawn((7, [_polygon(box)], False)), expected)
    np.testing.assert_array_equal(_drawn((7, _run_lengths(box), True)), expected)


@needs_pycocotools
def test_compressed_run_lengths_are_read_too() -> None:
    mask = (np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.4).astype(np.uint8)
    coco = pytest.importorskip("pycocotools.mask")
    code = coco.encode(np.asfortranarray(mask))
    code["counts"] = code["counts"].decode()
    np.testing.assert_array_equal(_drawn((3, code, False)), mask * 3)
    uncompressed = {"size": [HEIGHT, WIDTH], "counts": _counts(mask)}
    np.testing.assert_array_equal(_drawn((3, uncompressed, True)), mask * 3)


@needs_pycocotools
@pytest.mark.parametrize("share", [0.0, 0.002, 0.4, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_every_compressed_code_is_unpacked_to_the_pixels_that_were_packed(share: float, seed: int) -> None:
    mask = (np.random.default_rng(seed).random((HEIGHT, WIDTH)) < share).astype(np.uint8)
    code = pytest.importorskip("pycocotools.mask").encode(np.asfortranarray(mask))
    np.testing.assert_array_equal(_drawn((3, code, False)), mask * 3)


@needs_pycocotools
def test_a_polygon_may_reach_out_of_the_image() -> None:
    np.testing.assert_array_equal(_drawn((7, [_polygon((-20, -3, 20, 99))], False)), _pixels((0, 0, 20, 50)) * 7)


@needs_pycocotools
def test_an_object_of_several_polygons_is_their_union() -> None:
    parts: tuple[Box, Box] = ((2, 2, 10, 10), (20, 30, 30, 40))
    mask = _drawn((15, [_polygon(part) for part in parts], False))
    np.testing.assert_array_equal(mask, 15 * (_pixels(parts[0]) | _pixels(parts[1])))


@needs_pycocotools
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_smaller_objects_lie_over_larger_ones_in_any_order_of_the_file(order: tuple[int, int]) -> None:
    large, small = (11, [_polygon((5, 5, 35, 45))], False), (5, [_polygon((10, 10, 15, 20))], False)
    mask = _drawn(*((large, small)[place] for place in order))
    expected = 11 * _pixels((5, 5, 35, 45))
    expected[10:15, 10:20] = 5
    np.testing.assert_array_equal(mask, expected)


@needs_pycocotools
def test_crowds_have_their_class_and_lie_under_every_object() -> None:
    crowd, person = (15, _run_lengths((10, 10, 14, 14)), True), (2, [_polygon((5, 5, 30, 40))], False)
    assert 15 not in _drawn(person, crowd)  # smaller, and yet beneath
    np.testing.assert_array_equal(_drawn(crowd), 15 * _pixels((10, 10, 14, 14)))


@needs_pycocotools
@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2, 3, 4]], "a polygon needs at least three points"),
        ([], "a polygon needs at least three points"),
        ({"size": [50, 40], "counts": [2000]}, r"its size is \[50, 40\], but the image is \[40, 50\]"),
        ({"counts": [2000]}, "'size'"),
        ({"size": [40, 50], "counts": [1000, 999]}, "its run lengths are of 1999 pixels, but the image has 2000"),
        ({"size": [40, 50], "counts": [1000, 1001]}, "its run lengths are of 2001 pixels, but the image has 2000"),
        ({"size": [40, 50], "counts": []}, "its run lengths are of 0 pixels"),
        ({"size": [40, 50], "counts": [2010, -10]}, "its run lengths are no whole numbers"),
        ({"size": [40, 50], "counts": [1000, 1000.0]}, "its run lengths are no whole numbers"),
        ({"size": [40, 50], "counts": {"1": 2}}, "its run lengths are no whole numbers"),
        ({"size": [40, 50], "counts": "X`n0X`n0"}, r"its run lengths are of \d+ pixels, but"),
        ({"size": [40, 50], "counts": "11"}, "its run lengths are of 2 pixels, but the image has 2000"),
        ({"size": [40, 50], "counts": "1X"}, "its run lengths are cut off"),
        ({"size": [40, 50], "counts": "1 1"}, "its run lengths hold the character ' '"),
        ({"size": [40, 50], "counts": "1\u20ac"}, "'ascii' codec"),
        ([[1, 2, 1e8, 4, 5, 6]], "a polygon has a point at 100000000.0, far outside the image"),
        ([[1, 2, 3, 4, 5, -51]], "a polygon has a point at -51, far outside the image"),
        ([[1, 2, 3, 4, float("nan"), 6]], "a polygon has a point at nan"),
        ([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, float("inf")]], "a polygon has a point at inf"),
        ([[1, 2, 3, 4, 5, 10**400]], "int too large"),
        ([["1", 2, 3, 4, 5, 6]], "must be real number"),
    ],
)
def test_a_shape_that_cannot_be_drawn_is_an_error_that_names_the_annotation(segmentation: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"annotation 100 of image 'a\.jpg' cannot be drawn: {message}"):
        _drawn((1, segmentation, False))


def test_without_pycocotools_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(ConfigError, match=r"drawn with pycocotools.*run: pip install 'atrous\[coco\]'"):
        _drawn((1, [_polygon((1, 1, 5, 5))], False))


def _write(path: Path, categories: list[dict[str, Any]]) -> Path:
    numbers = [*NUMBERS, 8]
    annotations = [
        {"id": 500 + i, "image_id": 9, "category_id": number, "segmentation": [[i]], "iscrowd": int(i == 3)}
        for i, number in enumerate(numbers)
    ]
    annotations.append({"id": 600, "image_id": 4, "category_id": 25, "segmentation": [[0]], "iscrowd": 0})
    annotations.append({"id": 601, "image_id": 2, "category_id": 1, "segmentation": [[0]], "iscrowd": 0})
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 4, "width": 6} for i in (9, 4, 2, 1)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_categories_become_vocs_labels_by_name_and_others_are_left_out(tmp_path: Path) -> None:
    images = read_annotations(_write(tmp_path / "instances.json", CATEGORIES))
    assert [image.id for image in images] == [2, 9]  # 4 holds only a giraffe, 1 nothing
    assert [item.label for item in images[1].objects] == list(range(1, 21))
    assert [item.is_crowd for item in images[1].objects] == [i == 3 for i in range(20)]
    assert images[0] == CocoImage(2, "2.jpg", 4, 6, (CocoObject(601, VOC_CLASSES.index("person"), [[0]], False),))


def test_a_file_without_a_category_of_voc_is_an_error(tmp_path: Path) -> None:
    path = _write(tmp_path / "instances.json", [each for each in CATEGORIES if each["name"] != "couch"])
    with pytest.raises(DataError, match=r"instances\.json' has no category 'couch'; expected the 80 categories"):
        read_annotations(path)


@pytest.mark.parametrize("size", [(1 << 13, (1 << 13) + 1), (1 << 17, 1), (0, 5), (5.0, 5)])
def test_an_image_of_impossible_size_is_an_error_before_memory_is_taken(
    tmp_path: Path, size: tuple[float, float]
) -> None:
    path = _write(tmp_path / "instances.json", CATEGORIES)
    content = json.loads(path.read_text())
    content["images"][0].update(height=size[0], width=size[1])
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"instances\.json' .*image 9 of {size[0]} x {size[1]} pixels"):
        read_annotations(path)


@pytest.mark.parametrize("content", ['{"images": [', "[]", '{"images": []}', "{}"])
def test_a_cut_or_foreign_file_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "instances.json").write_text(content)
    with pytest.raises(DataError, match=r"instances\.json' is not a whole file of MS-COCO instance annotations"):
        read_annotations(tmp_path / "instances.json")
