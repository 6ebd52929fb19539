"""Lists, manifests, counts and annotations whose files were damaged: read, made anew, or refused with our own error."""

import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from atrous.data.class_list import ClassList
from atrous.data.class_pixels import class_pixels
from atrous.data.coco_annotations import draw, read_annotations
from atrous.data.decoded import Decoded
from atrous.data.decoded_manifest import MANIFEST, Manifest
from atrous.data.listing import read_list
from atrous.data.spec import VOC_CLASSES
from atrous.data.voc import VOC2012
from atrous.errors import DataError

from ..conftest import ReadDamaged

MakeVoc = Callable[..., Path]
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    1 << 40,
    0.5,
    "",
    "x",
    "\0",
    [],
    [[]],
    [[1, 2, 3, 4, 5, "x"]],
    {},
    {"a": 1},
)


@given(st.data())
def test_a_damaged_manifest_is_never_taken_for_a_sound_one(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    sound = Manifest(sizes=[(3, 4)], offsets=[0], checksums=[7], sources=[[(5, 6)]])
    sound.write(folder)
    content = (folder / MANIFEST).read_bytes()

    def read(damaged: bytes) -> Manifest:
        (folder / MANIFEST).write_bytes(damaged)
        return Manifest.read(folder)

    manifest = read_damaged(data, content, read)
    if manifest is not None:
        assert (manifest.bytes, list(manifest.checksums)) == (sound.bytes, sound.checksums)


@given(st.data())
def test_a_damaged_cache_is_decoded_again_with_the_same_pixels(
    tmp_path_factory: pytest.TempPathFactory, make_voc: MakeVoc, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "voc"
    if not folder.exists():
        make_voc(folder, train=("a",), size=(6, 7))
    source = VOC2012(root=folder, split="train")
    cache = Decoded(source, folder=folder / "cache", num_workers=0).folder
    # A byte that flips within the pixels is left to `verify`: whoever trains does not read all of them twice.
    pixels = Manifest.read(cache).pixels
    name = data.draw(st.sampled_from([MANIFEST, pixels]))
    content = (cache / name).read_bytes()

    def read(damaged: bytes) -> Decoded:
        (cache / name).write_bytes(damaged)
        return Decoded(source, folder=folder / "cache", num_workers=0)

    decoded = read_damaged(data, content, read)
    if name == pixels and (cache / name).read_bytes() != content and len((cache / name).read_bytes()) == len(content):
        (cache / name).write_bytes(content)
        return
    for mine, theirs in zip(decoded.read(0), source.read(0), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@given(st.data())
def test_damaged_counts_are_counted_again(
    tmp_path_factory: pytest.TempPathFactory, make_voc: MakeVoc, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "counted"
    if not folder.exists():
        make_voc(folder, train=("a",), size=(6, 7))
    source = VOC2012(root=folder, split="train")
    expected = np.bincount(source.read(0)[1].ravel(), minlength=256)[None, :21]
    class_pixels(source, cache=folder / "counts")
    (path,) = (folder / "counts").rglob("*.npz")
    stream = io.BytesIO()
    np.savez(stream, counts=expected.astype(np.int64))

    def read(damaged: bytes) -> Any:
        path.write_bytes(damaged)
        return class_pixels(source, cache=folder / "counts")

    np.testing.assert_array_equal(read_damaged(data, stream.getvalue(), read), expected)


def coco_file() -> dict[str, Any]:
    names = [*VOC_CLASSES[1:], "airplane", "dining table", "motorcycle", "potted plant", "couch", "tv"]
    shapes: list[Any] = [
        [[1, 1, 8, 1, 8, 7]],
        {"size": [9, 11], "counts": [40, 20, 39]},
        {"size": [9, 11], "counts": "m0450000000i0"},
    ]
    return {
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "images": [{"id": 1, "file_name": "a.jpg", "height": 9, "width": 11}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 7 + i, "iscrowd": i % 2, "segmentation": shape}
            for i, shape in enumerate(shapes)
        ],
    }


@given(st.data())
def test_damaged_annotations_of_coco_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "instances.json"

    def read(damaged: bytes) -> Any:
        path.write_bytes(damaged)
        return [draw(image) for image in read_annotations(path)]

    masks = read_damaged(data, json.dumps(coco_file()).encode(), read)
    assert masks is None or all(mask.max() <= 20 for mask in masks)


@given(st.data())
def test_odd_values_in_annotations_of_coco_are_drawn_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path, content = tmp_path_factory.getbasetemp() / "odd_instances.json", coco_file()
    content["images"] += [{**content["images"][0], "id": 2}]
    for _ in range(data.draw(st.integers(1, 2))):
        entry = data.draw(st.sampled_from([*content["images"], *content["annotations"]]))
        entry[data.draw(st.sampled_from(list(entry)))] = data.draw(st.sampled_from(ODD_VALUES))
    path.write_text(json.dumps(content))
    with suppress(DataError):
        for image in read_annotations(path):
            draw(image)


def test_the_annotations_that_are_damaged_here_are_sound(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text(json.dumps(coco_file()))
    (image,) = read_annotations(tmp_path / "instances.json")
    assert np.unique(draw(image)).tolist() == [0, 8, 9, 10]


@pytest.mark.parametrize(
    ("what", "key", "value"), [("images", "id", "1"), ("images", "file_name", 7), ("annotations", "id", "9")]
)
def test_what_annotations_of_coco_are_sorted_and_read_by_is_looked_at(
    tmp_path: Path, what: str, key: str, value: Any
) -> None:
    content = coco_file()
    content[what].append({**content[what][0], key: value})
    content["annotations"].append({**content["annotations"][0], "image_id": "1"})
    (tmp_path / "instances.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"instances\.json"):
        read_annotations(tmp_path / "instances.json")


def test_an_image_that_is_named_twice_is_drawn_as_often(tmp_path: Path) -> None:
    content = coco_file()
    content["images"] *= 2
    (tmp_path / "instances.json").write_text(json.dumps(content))
    first, second = map(draw, read_annotations(tmp_path / "instances.json"))
    np.testing.assert_array_equal(first, second)


@given(st.data())
def test_a_damaged_class_list_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "classes.yaml"
    content = {"classes": ["road", {"name": "tree", "colour": [0, 128, 0]}], "ignore_label": 255}

    def read(damaged: bytes) -> Any:
        path.write_bytes(damaged)
        return ClassList(path, root=path.parent).spec

    spec = read_damaged(data, yaml.safe_dump(content).encode(), read)
    assert spec is None or all(isinstance(name, str) for name in spec.classes)


@given(st.data())
def test_a_damaged_list_of_names_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "train.txt"

    def read(damaged: bytes) -> Any:
        path.write_bytes(damaged)
        return read_list(path, source="VOC 2012 train")

    names = read_damaged(data, b"2007_000032\n2007_000039\n", read)
    assert names is None or all(name and name == name.strip() for name in names)


@pytest.mark.parametrize(("key", "value"), [("height", -1), ("height", 1 << 40), ("width", "x"), ("width", None)])
def test_an_image_of_an_impossible_size_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    content = coco_file()
    content["images"][0][key] = value
    (tmp_path / "instances.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"instances\.json"):
        draw(read_annotations(tmp_path / "instances.json")[0])
