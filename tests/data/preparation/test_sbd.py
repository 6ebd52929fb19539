"""The augmented VOC set: the rule of its list, and SBD's labels as masks that VOC2012 reads."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from atrous.data.files import Pixels
from atrous.data.preparation import sbd as sbd_module
from atrous.data.preparation.sbd import augmented_ids, convert_sbd, is_converted, read_sbd_label
from atrous.data.voc import VOC2012
from atrous.errors import DataError
from atrous.files import NoSpaceError

Scene = Callable[[int, int, int], tuple[Pixels, Pixels]]


def _save_label(path: Path, label: Pixels) -> None:
    """As SBD stores it: a struct GTcls with the fields Boundaries, Segmentation and CategoriesPresent."""
    fields = {"Boundaries": np.zeros((3, 1)), "Segmentation": label, "CategoriesPresent": np.unique(label)}
    savemat(path, {"GTcls": fields}, do_compression=True)


def _make_sbd(root: Path, labels: Mapping[str, Pixels], *, val: Sequence[str] = ()) -> Path:
    (root / "cls").mkdir(parents=True)
    for name, label in labels.items():
        _save_label(root / "cls" / f"{name}.mat", label)
    (root / "train.txt").write_text("".join(f"{name}\n" for name in labels if name not in val))
    (root / "val.txt").write_text("".join(f"{name}\n" for name in val))
    return root


@pytest.fixture
def labels(scene: Scene) -> dict[str, Pixels]:
    return {name: scene(30 + place, 40, 56)[1] % 21 for place, name in enumerate("avst")}


@pytest.fixture
def sbd(tmp_path: Path, voc_home: Path, scene: Scene, labels: dict[str, Pixels]) -> Path:
    for place, name in enumerate("st"):
        Image.fromarray(scene(30 + place, 40, 56)[0]).save(voc_home / "JPEGImages" / f"{name}.jpg")
    return _make_sbd(tmp_path / "SBD", labels, val=("t",))


def test_the_list_is_sbd_and_train_without_val() -> None:
    assert augmented_ids(sbd=["s", "v", "a"], voc_train=["a", "b"], voc_val=["v", "w"]) == ["a", "b", "s"]


def test_converted_masks_are_read_back_as_the_labels_and_official_ones_stay(
    voc_home: Path, sbd: Path, labels: dict[str, Pixels], scene: Scene
) -> None:
    tracked: list[str] = []

    def track(names: Sequence[str]) -> Iterable[str]:
        tracked.extend(names)
        return names

    assert convert_sbd(sbd, voc_home, expected=7, track=track) == 7
    assert is_converted(voc_home)
    dataset = VOC2012(root=voc_home, split="train_aug")
    assert [dataset.sample_id(index) for index in range(len(dataset))] == ["a", "b", "c", "d", "e", "s", "t"]
    np.testing.assert_array_equal(dataset.read(5)[1], labels["s"])
    np.testing.assert_array_equal(dataset.read(6)[1], labels["t"])
    np.testing.assert_array_equal(dataset.read(0)[1], scene(0, 40, 56)[1])  # VOC's own mask of a
    assert tracked == ["s", "t"]


def test_lists_that_give_another_number_are_refused_before_anything_is_written(voc_home: Path, sbd: Path) -> None:
    with pytest.raises(DataError, match="give 7 augmented training images; the published set has 10582"):
        convert_sbd(sbd, voc_home)
    assert not (voc_home / "SegmentationClassAug").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(b"hello" * 100),
        lambda path: savemat(path, {"other": 1}),
        lambda path: path.unlink(),
    ],
    ids=["empty", "cut early", "cut late", "no MAT file", "other content", "missing"],
)
def test_a_damaged_label_is_named_and_leaves_no_half_made_set(
    voc_home: Path, sbd: Path, damage: Callable[[Path], object]
) -> None:
    damage(sbd / "cls" / "t.mat")
    with pytest.raises(DataError, match=r"SBD label '.*t\.mat' cannot be read"):
        convert_sbd(sbd, voc_home, expected=None)
    assert not is_converted(voc_home)
    assert not [path for path in voc_home.iterdir() if "SegmentationClassAug" in path.name]


@pytest.mark.parametrize(
    "value",
    [
        *("text", np.zeros((0, 0)), np.zeros((2, 3, 4), np.uint8), {"a": 1}),
        *(np.full((2, 2), each) for each in (300, -1.0, 3.5, np.nan, np.inf)),
    ],
)
def test_what_is_no_map_of_labels_is_refused_by_its_file(tmp_path: Path, value: object) -> None:
    savemat(tmp_path / "a.mat", {"GTcls": {"Segmentation": value}}, do_compression=True)
    with pytest.raises(DataError, match=r"a\.mat' cannot be read \(TypeError: its Segmentation is no map of labels"):
        read_sbd_label(tmp_path / "a.mat")


def test_a_label_of_another_size_or_with_an_illegal_value_is_named(voc_home: Path, sbd: Path, tmp_path: Path) -> None:
    _save_label(sbd / "cls" / "t.mat", np.zeros((5, 6), np.uint8))
    with pytest.raises(DataError, match=r"t\.mat has \(5, 6\) rows and columns, its image \(40, 56\)"):
        convert_sbd(sbd, voc_home, expected=None)
    _save_label(tmp_path / "x.mat", np.full((5, 6), 21, np.uint8))
    with pytest.raises(DataError, match=r"x\.mat' holds label 21 in 30 pixels"):
        read_sbd_label(tmp_path / "x.mat")


def test_a_full_disk_leaves_no_half_made_set(voc_home: Path, sbd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Image.Image, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match="No space left on device"):
        convert_sbd(sbd, voc_home, expected=None)
    assert not [path for path in voc_home.iterdir() if "SegmentationClassAug" in path.name]


def test_where_only_the_list_could_not_be_written_the_next_call_writes_it_and_converts_nothing(
    voc_home: Path, sbd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise NoSpaceError(f"no space left in {path.parent}")

    with monkeypatch.context() as patch:
        patch.setattr(sbd_module, "write_text", full)
        with pytest.raises(NoSpaceError):
            convert_sbd(sbd, voc_home, expected=None)
    assert not is_converted(voc_home)
    with monkeypatch.context() as patch:
        patch.setattr(sbd_module, "read_sbd_label", lambda path: pytest.fail(f"{path} is converted again"))
        convert_sbd(sbd, voc_home, expected=None)
    assert is_converted(voc_home)
    assert VOC2012(root=voc_home, split="train_aug").read(0)[1].shape == (40, 56)


def test_a_folder_that_lacks_masks_is_not_taken_for_the_converted_set(voc_home: Path, sbd: Path) -> None:
    convert_sbd(sbd, voc_home, expected=None)
    (voc_home / "SegmentationClassAug/s.png").unlink()
    with pytest.raises(
        DataError, match=r"exists already and lacks 1 of \d masks \(s\.png is the first\); move it away"
    ):
        convert_sbd(sbd, voc_home, expected=None)


def test_an_image_that_voc_lacks_is_named(voc_home: Path, sbd: Path) -> None:
    (voc_home / "JPEGImages/s.jpg").unlink()
    with pytest.raises(DataError, match=r"image '.*s\.jpg' is listed but does not exist"):
        convert_sbd(sbd, voc_home, expected=None)
