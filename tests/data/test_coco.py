"""MS-COCO as VOC-21: which images are kept, that masks are made once, and what an interruption leaves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atrous.data import coco
from atrous.data.coco import CocoVoc
from atrous.data.coco_annotations import draw as draw_mask
from atrous.data.dataset import SegmentationDataset
from atrous.data.files import Pixels
from atrous.data.spec import VOC_SPEC
from atrous.errors import ConfigError, DataError

pytest.importorskip("pycocotools.mask", reason="pycocotools is absent: pip install pycocotools")

NAMES = (
    "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog",
    "horse", "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv", "giraffe",
)  # fmt: skip
HEIGHT, WIDTH = 60, 80
PERSON, DOG, TV, GIRAFFE = 15, 12, 20, 21


def _object(image: int, label: int, box: tuple[int, int, int, int], *, crowd: bool = False) -> dict[str, Any]:
    """An object that is a box (top, left, bottom, right): a polygon, or run lengths where it is a crowd."""
    top, left, bottom, right = box
    shape: Any = [[left, top, right, top, right, bottom, left, bottom]]
    if crowd:
        column, rest = bottom - top, HEIGHT - (bottom - top)
        counts = [left * HEIGHT + top, *([column, rest] * (right - left))]
        shape = {"size": [HEIGHT, WIDTH], "counts": [*counts[:-1], HEIGHT * WIDTH - sum(counts[:-1])]}
    return {"image_id": image, "category_id": label, "segmentation": shape, "iscrowd": int(crowd)}


OBJECTS = [
    _object(9, PERSON, (0, 0, 40, 30)),  # 1200 pixels
    _object(9, DOG, (10, 10, 20, 20)),  # within them
    _object(25, TV, (0, 0, 25, 40)),  # exactly 1000: not more
    _object(30, PERSON, (5, 5, 45, 31), crowd=True),  # 1040
    _object(30, GIRAFFE, (0, 40, 60, 80)),
    _object(34, GIRAFFE, (0, 0, 60, 80)),  # no class of VOC
    _object(36, DOG, (0, 0, 4, 4)),
]


def _write_tree(
    home: Path, folder: str = "train2017", split: str = "train2017", prefix: str = "", first: int = 0
) -> Path:
    objects = [{**each, "image_id": first + each["image_id"]} for each in OBJECTS]
    numbers = sorted({each["image_id"] for each in objects})
    images = [
        {"id": i, "file_name": f"{prefix}{i:012d}.jpg", "height": HEIGHT, "width": WIDTH} for i in reversed(numbers)
    ]
    content = {
        "images": images,
        "annotations": [{"id": 700 + i, **each} for i, each in enumerate(objects)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES, start=1)],
    }
    (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "annotations").mkdir(exist_ok=True)
    (home / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    for image in images:  # gray, as some of MS-COCO's are
        Image.new("L", (WIDTH, HEIGHT), 128).save(home / folder / str(image["file_name"]))
    return home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An official tree of 2017 with five images."""
    return _write_tree(tmp_path)


def _ids(dataset: SegmentationDataset) -> list[str]:
    return [dataset.sample_id(index) for index in range(len(dataset))]


def _masks(home: Path) -> list[Path]:
    return sorted(home.glob("voc_masks/*/*.png"))


def test_images_with_more_than_1000_pixels_of_voc_are_kept(home: Path) -> None:
    assert _ids(CocoVoc(root=home, split="train")) == ["000000000009", "000000000030"]
    assert _ids(CocoVoc(root=home, split="train", min_pixels=999)) == ["000000000009", "000000000025", "000000000030"]
    assert len(CocoVoc(root=home, split="train", min_pixels=0)) == 4  # the giraffe alone is background
    assert _ids(CocoVoc(root=home, split="train", limit=1)) == ["000000000009"]


def test_masks_are_exact_and_the_images_become_rgb(home: Path) -> None:
    dataset = CocoVoc(root=home, split="train")
    assert dataset.spec is VOC_SPEC
    image, label = dataset.read(0)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:40, :30], expected[10:20, 10:20] = PERSON, DOG
    np.testing.assert_array_equal(label, expected)
    assert image.shape == (HEIGHT, WIDTH, 3)
    crowd = np.zeros((HEIGHT, WIDTH), np.uint8)
    crowd[5:45, 5:31] = PERSON
    np.testing.assert_array_equal(dataset.read(1)[1], crowd)


def test_masks_are_made_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CocoVoc(root=home, split="train")

    def refuse(path: Path) -> Any:
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(coco, "read_annotations", refuse)
    assert len(CocoVoc(root=home, split="train", min_pixels=0)) == 4


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 9999, b'{"images": [[9]]}', b'{"images": [["9", "a", 2]]}'])
def test_an_index_that_is_damaged_is_made_anew(
    home: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = CocoVoc(root=home, split="train", min_pixels=0).pairs
    (index,) = home.glob("voc_masks/*/index.json")
    sound = index.read_bytes()
    index.write_bytes(content)
    monkeypatch.setattr(coco, "draw", None)  # the masks are whole
    assert CocoVoc(root=home, split="train", min_pixels=0).pairs == pairs
    assert index.read_bytes() == sound
    assert f"{index} is damaged" in caplog.text


def test_an_interrupted_making_goes_on_and_mends_what_was_cut(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counting(stop_after: int) -> Callable[[Any], Pixels]:
        def draw(image: Any) -> Pixels:
            if len(calls) == stop_after:
                raise KeyboardInterrupt
            calls.append(image.id)
            return draw_mask(image)

        return draw

    monkeypatch.setattr(coco, "draw", counting(2))
    with pytest.raises(KeyboardInterrupt):
        CocoVoc(root=home, split="train")
    first, second = _masks(home)
    assert not list(home.glob("voc_masks/*/index.json"))
    second.write_bytes(second.read_bytes()[:-30])
    calls.clear()
    monkeypatch.setattr(coco, "draw", counting(99))
    dataset = CocoVoc(root=home, split="train", min_pixels=0)
    assert calls == [25, 30, 36]  # 9 was whole, 25 was cut
    assert first.exists()
    shutil.rmtree(home / "voc_masks")
    whole = CocoVoc(root=home, split="train", min_pixels=0)
    for index in range(len(whole)):
        np.testing.assert_array_equal(dataset.read(index)[1], whole.read(index)[1])


def test_changed_annotations_give_new_masks(home: Path) -> None:
    CocoVoc(root=home, split="train")
    path = home / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] == 30]
    path.write_text(json.dumps(content))
    assert _ids(CocoVoc(root=home, split="train", min_pixels=0)) == ["000000000030"]


def test_the_release_of_2014_has_its_own_names_and_the_same_ids(tmp_path: Path) -> None:
    _write_tree(tmp_path, "train2014", "train2014", "COCO_train2014_")
    _write_tree(tmp_path, "val2014", "valminusminival2014", "COCO_val2014_", first=100)
    dataset = CocoVoc(root=tmp_path, split="train+valminusminival", year=2014)
    assert _ids(dataset) == ["000000000009", "000000000030", "000000000109", "000000000130"]
    assert dataset.pairs[0].image.endswith("train2014/COCO_train2014_000000000009.jpg")
    assert dataset.pairs[2].image.endswith("val2014/COCO_val2014_000000000109.jpg")
    assert dataset.read(3)[1].max() == PERSON


def test_a_disk_that_is_full_is_an_error_and_leaves_no_index(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match=r"cannot be written to '.*voc_masks.*' \(no space left in .*\); .* goes on"):
        CocoVoc(root=home, split="train")
    assert not [path for path in home.glob("voc_masks/**/*") if path.is_file()]


def test_wrong_choices_and_missing_files_are_errors_that_say_what_would_be_right(home: Path) -> None:
    with pytest.raises(ConfigError, match="year=2015 is not a release of MS-COCO; choose one of 2017, 2014"):
        CocoVoc(root=home, split="train", year=2015)
    with pytest.raises(ConfigError, match="split='minival' is not a split of MS-COCO 2017; choose one of train, val"):
        CocoVoc(root=home, split="minival")
    with pytest.raises(ConfigError, match="min_pixels=-1 must not be negative"):
        CocoVoc(root=home, split="train", min_pixels=-1)
    with pytest.raises(DataError, match=r"expected the file '.*instances_val2017\.json'; found instances_train2017"):
        CocoVoc(root=home, split="val")
    with pytest.raises(DataError, match=r"expected the folder annotations .* in data\.root='.*train2017'; found 0000"):
        CocoVoc(root=home / "train2017", split="train")
    (home / "train2017" / "000000000030.jpg").unlink()
    with pytest.raises(DataError, match=r"image '.*000000000030\.jpg' is listed but does not exist \(1 of 2"):
        CocoVoc(root=home, split="train")
