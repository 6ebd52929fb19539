"""Your own data, in both layouts, with masks of indices and of colours."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data.class_pixels import class_pixels
from atrous.data.dataset import SegmentationDataset
from atrous.data.decoded import Decoded
from atrous.data.files import Pixels
from atrous.data.folder import Folder
from atrous.data.repeated import Repeated
from atrous.errors import ArgumentError, DataError

SaveMask = Callable[[Path, Pixels], None]
CLASSES = ["road", "tree", "sky"]
COLOURS = ((128, 64, 128), (0, 128, 0), (70, 130, 180))
COLOURED = {
    "classes": [{"name": name, "colour": list(colour)} for name, colour in zip(CLASSES, COLOURS, strict=True)],
    "ignore_colour": [0, 0, 0],
}


def _label(index: int) -> Pixels:
    label = np.random.default_rng(index).integers(0, 3, (12, 16), dtype=np.uint8)
    label[0] = 255
    return label


def _colours(label: Pixels) -> Pixels:
    palette = np.zeros((256, 3), np.uint8)
    palette[:3] = COLOURS
    return palette[label]


def _write(root: Path, name: str, index: int, *, suffix: str = ".jpg", colours: bool = False) -> None:
    image, mask = root / "images" / f"{name}{suffix}", root / "masks" / f"{name}.png"
    for file in (image, mask):
        file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), (10 * index, 20, 30)).save(image)
    label = _label(index)
    Image.fromarray(_colours(label) if colours else label).save(mask)


def _ids(dataset: SegmentationDataset) -> list[str]:
    return [dataset.sample_id(index) for index in range(len(dataset))]


@pytest.fixture
def by_folder(tmp_path: Path) -> Path:
    """images/train, images/val and their masks."""
    for index, name in enumerate(("train/b", "train/a", "val/a")):
        _write(tmp_path, name, index, suffix=".JPG" if index else ".png")
    (tmp_path / "images" / "train" / "._a.jpg").write_bytes(b"what macOS leaves")
    (tmp_path / "images" / "train" / "notes.txt").write_text("")
    return tmp_path


@pytest.fixture
def by_list(tmp_path: Path) -> Path:
    """splits/train.txt and splits/val.txt over one folder."""
    for index, name in enumerate(("one", "two", "south/three", "v1.5")):
        _write(tmp_path, name, index)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train.txt").write_text("two\nsouth/three.jpg\n\n")
    (tmp_path / "splits" / "val.txt").write_text("one\nv1.5\n")
    return tmp_path


def test_folders_may_tell_the_splits_apart(by_folder: Path) -> None:
    train = Folder(root=by_folder, split="train", classes=CLASSES)
    val = Folder(root=by_folder, split="val", classes=CLASSES)
    assert isinstance(train, SegmentationDataset)
    assert _ids(train) == ["train/a", "train/b"]
    assert _ids(val) == ["val/a"]  # another image than train/a, though it has its name
    np.testing.assert_array_equal(train.read(0)[1], _label(1))
    np.testing.assert_array_equal(train.read(1)[0][0, 0], [0, 20, 30])
    np.testing.assert_array_equal(val.read(0)[1], _label(2))
    assert _ids(Folder(root=by_folder, split="train+val", classes=CLASSES)) == ["train/a", "train/b", "val/a"]


def test_lists_may_tell_the_splits_apart(by_list: Path) -> None:
    train = Folder(root=by_list, split="train", classes=CLASSES)
    assert _ids(train) == ["two", "south/three"]
    np.testing.assert_array_equal(train.read(1)[1], _label(2))
    assert _ids(Folder(root=by_list, split="val", classes=CLASSES, limit=1)) == ["one"]
    assert _ids(Folder(root=by_list, split="val", classes=CLASSES)) == ["one", "v1.5"]


@pytest.mark.parametrize("kind", ["palette", "grayscale"])
def test_masks_of_indices_are_read_as_they_are(by_folder: Path, save_mask: SaveMask, kind: str) -> None:
    if kind == "palette":
        save_mask(by_folder / "masks/val/a.png", _label(7))
    else:
        Image.fromarray(_label(7)).save(by_folder / "masks/val/a.png")
    np.testing.assert_array_equal(Folder(root=by_folder, split="val", classes=COLOURED).read(0)[1], _label(7))


def test_masks_of_colours_become_labels_and_the_ignored_colour_is_ignored(tmp_path: Path) -> None:
    _write(tmp_path, "val/a", 5, colours=True)
    label = Folder(root=tmp_path, split="val", classes=COLOURED).read(0)[1]
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, _label(5))


def test_as_many_classes_as_bytes_allow_have_colours(tmp_path: Path) -> None:
    values = np.arange(254, dtype=np.uint8)
    colours = np.stack([values, 255 - values, values // 3], axis=1)
    (tmp_path / "images" / "val").mkdir(parents=True)
    (tmp_path / "masks" / "val").mkdir(parents=True)
    Image.new("RGB", (254, 2)).save(tmp_path / "images" / "val" / "a.png")
    Image.fromarray(np.stack([colours, colours[::-1]])).save(tmp_path / "masks" / "val" / "a.png")
    classes = [{"name": f"class {index}", "colour": colour} for index, colour in enumerate(colours.tolist())]
    label = Folder(root=tmp_path, split="val", classes=classes).read(0)[1]
    np.testing.assert_array_equal(label, [values, values[::-1]])


def test_an_unknown_colour_is_an_error_that_names_file_colour_and_place(tmp_path: Path) -> None:
    _write(tmp_path, "val/a", 5, colours=True)
    mask = np.asarray(Image.open(tmp_path / "masks/val/a.png")).copy()
    mask[3, 4], mask[9] = (1, 128, 0), (255, 255, 255)
    Image.fromarray(mask).save(tmp_path / "masks/val/a.png")
    expected = r"a\.png' holds the colour \[1, 128, 0\] in row 3, column 4 \(17 pixels have no class's colour\); add it"
    with pytest.raises(DataError, match=expected):
        Folder(root=tmp_path, split="val", classes=COLOURED).read(0)


def test_colours_without_a_colour_list_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    _write(tmp_path, "val/a", 5, colours=True)
    with pytest.raises(
        DataError, match=r"a\.png' is an RGB PNG, but the classes of 'folder' have no colours; give every"
    ):
        Folder(root=tmp_path, split="val", classes=CLASSES).read(0)


@pytest.mark.parametrize(
    ("mode", "found"), [("RGBA", "8-bit RGBA"), ("LA", r"8-bit gray \+ alpha"), ("I;16", "16-bit")]
)
def test_a_mask_with_alpha_or_16_bits_is_an_error(by_folder: Path, mode: str, found: str) -> None:
    Image.new(mode, (16, 12)).save(by_folder / "masks/val/a.png")
    with pytest.raises(
        DataError, match=rf"a\.png' is a {found}.* PNG; expected an 8-bit palette, grayscale or RGB PNG"
    ):
        Folder(root=by_folder, split="val", classes=COLOURED).read(0)


def test_an_index_of_no_class_is_an_error(by_folder: Path) -> None:
    Image.fromarray(np.full((12, 16), 3, np.uint8)).save(by_folder / "masks/val/a.png")
    with pytest.raises(DataError, match=r"a\.png' holds label 3 in 192 pixels; allowed in 'folder' are 0\.\.2 and 255"):
        Folder(root=by_folder, split="val", classes=CLASSES).read(0)


def test_a_missing_mask_or_image_is_an_error_that_names_it(by_list: Path) -> None:
    (by_list / "masks" / "two.png").unlink()
    with pytest.raises(DataError, match=r"folder train: mask '.*masks/two\.png' is listed but does not exist \(1 of 2"):
        Folder(root=by_list, split="train", classes=CLASSES)
    (by_list / "images" / "one.jpg").unlink()
    with pytest.raises(DataError, match=r"folder val: image '.*images/one\.jpg' is listed but does not exist \(1 of 2"):
        Folder(root=by_list, split="val", classes=CLASSES)


def test_a_missing_mask_of_a_split_without_a_list_is_not_called_listed(by_folder: Path) -> None:
    (by_folder / "masks/val/a.png").unlink()
    with pytest.raises(DataError) as error:
        Folder(root=by_folder, split="val", classes=CLASSES)
    assert re.search(r"val: mask '.*masks/val/a\.png' does not exist \(1 of 1 masks are missing; ", str(error.value))
    assert str(error.value).endswith("); add it, or move its image elsewhere")


def test_two_images_of_one_name_are_an_error(by_list: Path) -> None:
    Image.new("RGB", (16, 12)).save(by_list / "images" / "two.png")
    with pytest.raises(
        DataError, match=r"image 'two' is ambiguous: there are two\.jpg and two\.png in '.*images/?'; keep"
    ):
        Folder(root=by_list, split="train", classes=CLASSES)


@pytest.mark.parametrize("suffix", [".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".WEBP"])
def test_images_of_every_type_that_can_be_read_belong_to_a_split(by_folder: Path, suffix: str) -> None:
    _write(by_folder, "val/c", 4, suffix=suffix)
    dataset = Folder(root=by_folder, split="val", classes=CLASSES)
    assert _ids(dataset) == ["val/a", "val/c"]
    assert np.abs(dataset.read(1)[0].astype(int) - (40, 20, 30)).max() <= 3
    np.testing.assert_array_equal(dataset.read(1)[1], _label(4))
    (by_folder / "splits").mkdir()
    (by_folder / "splits" / "some.txt").write_text(f"val/c{suffix}\n")
    assert _ids(Folder(root=by_folder, split="some", classes=CLASSES)) == ["val/c"]


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        ("val/c.gif", "val/d.png", r"'c\.gif' in '.*images/val' is an image that is not read \(1 in all\); convert it"),
        (
            "val/c.xyz",
            "val/c.png",
            r"mask 'c\.png' in '.*masks/val' has no image \(1 such masks\); add 'c' with one of",
        ),
        (
            "val/c/d.jpg",
            "val/c/d.png",
            r"the folder 'c' in '.*images/val' is not looked into; .* in val\.txt in a folder",
        ),
    ],
)
def test_what_would_be_left_out_of_a_split_is_an_error(by_folder: Path, image: str, mask: str, message: str) -> None:
    for path in (by_folder / "images" / image, by_folder / "masks" / mask):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for construct in (Folder, Folder.unverified):
        with pytest.raises(DataError, match=rf"your data, val: {message}"):
            construct(root=by_folder, split="val", classes=CLASSES)
    assert len(Folder(root=by_folder, split="train", classes=CLASSES)) == 2


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_folder_with_images_on_one_side_alone_is_an_error_too(by_folder: Path, kind: str) -> None:
    (by_folder / kind / "val" / "extra").mkdir()
    assert len(Folder(root=by_folder, split="val", classes=CLASSES)) > 0
    (by_folder / kind / "val" / "extra" / "b.png").touch()
    with pytest.raises(DataError, match=r"your data, val: the folder 'extra' in .* is not looked into"):
        Folder(root=by_folder, split="val", classes=CLASSES)


def test_a_split_that_holds_an_image_twice_is_an_error(by_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"split='val\+val' names 'val' twice; join splits that differ"):
        Folder(root=by_folder, split="val+val", classes=CLASSES)
    (by_folder / "splits").mkdir()
    (by_folder / "splits" / "train.txt").write_text("val/a\ntrain/b\nval/a.JPG\n")
    with pytest.raises(DataError, match=r"folder train: 'val/a' is listed 2 times"):
        Folder(root=by_folder, split="train", classes=CLASSES)
    (by_folder / "splits" / "train.txt").write_text("val/a\ntrain/b\n")
    train = Folder(root=by_folder, split="train", classes=CLASSES)
    assert len(Repeated(dataset=train, classes=["sky"], factor=3, cache=tmp_path / "cache")) == 6


def test_lists_leave_out_what_they_do_not_name(by_list: Path) -> None:
    (by_list / "images" / "three.gif").touch()
    (by_list / "masks" / "three.png").touch()
    assert _ids(Folder(root=by_list, split="val", classes=CLASSES)) == ["one", "v1.5"]


def test_a_wrong_root_or_split_is_an_error_that_says_what_was_expected_and_found(by_folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"data\.root='.*nowhere' does not exist; it must be the folder that holds images"
    ):
        Folder(root=by_folder / "nowhere", split="val", classes=CLASSES)
    with pytest.raises(DataError, match=r"expected the folder images in data\.root='.*masks'; found train, val in"):
        Folder(root=by_folder / "masks", split="val", classes=CLASSES)
    with pytest.raises(
        DataError, match=r"expected the list '.*splits/test\.txt' or the folder '.*images/test'; found t"
    ):
        Folder(root=by_folder, split="test", classes=CLASSES)
    (by_folder / "images" / "test").mkdir()
    with pytest.raises(
        DataError, match=r"your data, test: expected images \(\.jpg, \.jpeg, \.png, .*\); found nothing"
    ):
        Folder(root=by_folder, split="test", classes=CLASSES)


def test_what_was_read_by_other_colours_is_not_taken_for_these(tmp_path: Path) -> None:
    """VOC's colours are also those of a list without any, whose spec is the same."""
    plain = np.array([[0, 1, 1], [1, 1, 1]], np.uint8)  # of the first and the last image: both lists read it alike
    (tmp_path / "images" / "val").mkdir(parents=True)
    (tmp_path / "masks" / "val").mkdir(parents=True)
    for name in "abc":
        Image.new("RGB", (3, 2)).save(tmp_path / "images" / "val" / f"{name}.jpg")
        Image.fromarray(plain).save(tmp_path / "masks" / "val" / f"{name}.png")
    shown = Image.fromarray(1 - plain, "P")
    shown.putpalette([128, 0, 0, 0, 0, 0])  # its values stand for the other class
    shown.save(tmp_path / "masks" / "val" / "b.png")
    coloured = [{"name": "a", "colour": [0, 0, 0]}, {"name": "b", "colour": [128, 0, 0]}]
    for classes, label in ((["a", "b"], 1 - plain), (coloured, plain)):
        source = Folder(root=tmp_path, split="val", classes=classes)
        decoded = Decoded(source, folder=tmp_path / "decoded", num_workers=0)
        np.testing.assert_array_equal(decoded.read(1)[1], label)
        for dataset in (source, decoded):
            counts = class_pixels(dataset, cache=tmp_path / "cache")
            assert counts.tolist()[1] == np.bincount(label.ravel()).tolist()
