"""Bootstrapping: images of hard classes are seen more often."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from atrous.data.augmentation import CropConfig
from atrous.data.dataset import SegmentationDataset
from atrous.data.files import Pixels
from atrous.data.repeated import Repeated
from atrous.data.samples import TrainSamples
from atrous.data.shapes import Shapes
from atrous.data.voc import VOC2012
from atrous.errors import ConfigError, DataError

# Labels of the five training images a to e: chair is 9, sofa 18.
LABELS = {"a": (0, 9), "b": (0, 15), "c": (18, 9), "d": (0, 255), "e": (18, 3)}


@pytest.fixture
def dataset(voc_home: Path, save_mask: Callable[[Path, Pixels], None]) -> VOC2012:
    """Five images, three of which hold a chair or a sofa."""
    for name, (most, few) in LABELS.items():
        mask = np.full((40, 56), most, np.uint8)
        mask[0, 0] = few  # a single pixel is enough
        save_mask(voc_home / "SegmentationClass" / f"{name}.png", mask)
    return VOC2012(root=voc_home, split="train")


@pytest.mark.parametrize(
    ("classes", "factor", "expected"),
    [
        (["chair"], 2, ["a", "b", "c", "d", "e", "a#2", "c#2"]),
        (["sofa", "chair"], 3, ["a", "b", "c", "d", "e", "a#2", "c#2", "e#2", "a#3", "c#3", "e#3"]),
        (["chair"], 1, ["a", "b", "c", "d", "e"]),
    ],
)
def test_images_of_hard_classes_appear_so_often_under_names_of_their_own(
    dataset: VOC2012, tmp_path: Path, classes: list[str], factor: int, expected: list[str]
) -> None:
    repeated = Repeated(dataset=dataset, classes=classes, factor=factor, cache=tmp_path / "cache")
    names = [repeated.sample_id(index) for index in range(len(repeated))]
    assert names == expected
    assert len(set(names)) == len(names)
    for index, name in enumerate(names):
        original = list(LABELS).index(name[0])
        np.testing.assert_array_equal(repeated.read(index)[0], dataset.read(original)[0])
        np.testing.assert_array_equal(repeated.read(index)[1], dataset.read(original)[1])


def test_it_is_a_data_set_like_any_other(dataset: VOC2012, tmp_path: Path) -> None:
    repeated = Repeated(dataset=dataset, classes=["chair"], cache=tmp_path / "cache")
    assert isinstance(repeated, SegmentationDataset)
    assert repeated.spec is dataset.spec
    assert repeated.uniform_size is None
    assert repeated.hard == [0, 2]


def test_each_appearance_is_cut_differently(dataset: VOC2012, tmp_path: Path) -> None:
    repeated = Repeated(dataset=dataset, classes=["chair"], cache=tmp_path / "cache")
    samples = TrainSamples(dataset=repeated, augmentation=CropConfig(crop_size=(33, 33)), seed=0)
    first, again = samples[0, 0], samples[0, 5]  # a and a#2
    assert repeated.sample_id(5) == "a#2"
    assert not (first["image"] == again["image"]).all()


def test_data_sets_without_files_can_be_repeated_too() -> None:
    dataset = Shapes(split="train", size=33, length=12)
    repeated = Repeated(dataset=dataset, classes=["ring"], factor=2)
    ring = dataset.spec.classes.index("ring")
    assert repeated.hard == [index for index in range(12) if (dataset.read(index)[1] == ring).any()]
    assert len(repeated) == 12 + len(repeated.hard)


def test_wrong_values_are_errors_that_say_what_would_be_right(dataset: VOC2012, tmp_path: Path, voc_home: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.bootstrap: class 'table' is unknown; 'voc2012' has .*diningtable"):
        Repeated(dataset=dataset, classes=["chair", "table"], cache=tmp_path / "cache")
    with pytest.raises(ConfigError, match=r"classes=\[\] names no class"):
        Repeated(dataset=dataset, classes=[], cache=tmp_path / "cache")
    with pytest.raises(ConfigError, match="factor=0 must be at least 1"):
        Repeated(dataset=dataset, classes=["chair"], factor=0, cache=tmp_path / "cache")
    with pytest.raises(DataError, match="none of the 5 images of 'voc2012' holds cow, dog"):
        Repeated(dataset=dataset, classes=["cow", "dog"], cache=tmp_path / "cache")
    (voc_home / "ImageSets/Segmentation/test.txt").write_text("a\n")
    with pytest.raises(DataError, match="'voc2012' has no masks here"):
        Repeated(dataset=VOC2012(root=voc_home, split="test"), classes=["chair"], cache=tmp_path / "cache")


def test_the_papers_hard_classes_are_found_in_real_images(real_data: Path, tmp_path: Path) -> None:
    dataset = VOC2012(root=real_data, split="train")
    hard = ["bicycle", "chair", "diningtable", "pottedplant", "sofa"]
    repeated = Repeated(dataset=dataset, classes=hard, cache=tmp_path)
    labels = [dataset.spec.classes.index(name) for name in hard]
    expected = [index for index in range(len(dataset)) if np.isin(labels, dataset.read(index)[1]).any()]
    assert repeated.hard == expected
    assert 0 < len(expected) < len(dataset)
