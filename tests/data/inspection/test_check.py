"""Reading everything: each problem by its file's name, and class statistics against brute force."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from atrous.data.files import Pixels
from atrous.data.inspection.check import CheckResult, conclude
from atrous.data.inspection.reading import Readings
from atrous.data.inspection.splits import Split
from atrous.data.inspection.statistics import as_plain
from atrous.data.shapes import Shapes
from atrous.data.voc import VOC2012

SaveMask = Callable[[Path, Pixels], None]
Scene = Callable[[int, int, int], tuple[Pixels, Pixels]]


def _check(root: Path, *names: str, num_workers: int = 0) -> CheckResult:
    splits = [
        Split(name=name, dataset=VOC2012.unverified(root=root, split=name), used=place < 2)
        for place, name in enumerate(names)
    ]
    pairs = Readings(splits)
    return conclude(splits, pairs, list(pairs.all(num_workers=num_workers)))


def test_a_good_data_set_has_no_problem_and_its_official_counts_are_told(voc_home: Path) -> None:
    result = _check(voc_home, "train", "val")
    assert result.problems == ()
    assert "a part of the official images: train 5 of 1464, val 3 of 1449" in result.notes[0]


def test_five_kinds_of_damage_are_five_problems_by_file_name(save_mask: SaveMask, voc_home: Path) -> None:
    images, masks = voc_home / "JPEGImages", voc_home / "SegmentationClass"
    jpeg = (images / "a.jpg").read_bytes()
    (images / "a.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    save_mask(masks / "b.png", np.zeros((41, 56), np.uint8))
    save_mask(masks / "v.png", np.full((40, 56), 37, np.uint8))
    (masks / "w.png").unlink()
    lists = voc_home / "ImageSets/Segmentation"
    (lists / "train.txt").write_text((lists / "train.txt").read_text() + "x\n")
    (lists / "trainval.txt").write_text("a\nb\nc\nd\ne\nv\nw\nx\n")
    problems = _check(voc_home, "train", "val", "trainval").problems
    expected = [
        ("'x'", "both in train and in val"),
        ("a.jpg", "truncated or corrupt"),
        ("b.png", "is 56x41"),
        ("v.png", "label 37 in 2240 pixels"),
        ("w.png", "No such file"),
    ]
    assert len(problems) == len(expected)
    for name, words in expected:
        assert [problem for problem in problems if name in problem and words in problem], name


def test_a_bad_image_does_not_hide_its_bad_mask(voc_home: Path) -> None:
    (voc_home / "JPEGImages/v.jpg").write_bytes(b"")
    (voc_home / "SegmentationClass/v.png").write_bytes(b"")
    problems = _check(voc_home, "val").problems
    assert sorted(problem.split(" is empty")[0].rpartition("/")[2] for problem in problems) == ["v.jpg'", "v.png'"]


def test_every_missing_mask_is_named_not_only_the_first(voc_home: Path) -> None:
    shutil.rmtree(voc_home / "SegmentationClass")
    problems = _check(voc_home, "train", "val").problems
    assert len(problems) == 8
    assert all("No such file" in problem for problem in problems)


def test_what_splits_share_is_read_once_and_counted_in_each(voc_home: Path) -> None:
    (voc_home / "ImageSets/Segmentation/trainval.txt").write_text("a\nv\n")
    splits = [
        Split(name=name, dataset=VOC2012.unverified(root=voc_home, split=name)) for name in ("train", "val", "trainval")
    ]
    pairs = Readings(splits)
    assert (len(pairs), pairs.images, pairs.places[2]) == (8, 8, [0, 5])


def test_statistics_equal_those_counted_pixel_by_pixel(scene: Scene, voc_home: Path) -> None:
    labels = [scene(index, 40, 56)[1] for index in range(5)]
    statistics = _check(voc_home, "train").statistics["train"]
    everything = np.stack(labels)
    for label in range(21):
        shown = [(image == label).any() for image in labels]
        assert statistics.images_of[label] == sum(shown)
        labelled = everything[everything != 255]
        assert statistics.pixel_share_of[label] == pytest.approx((labelled == label).mean())
        areas = [(image[image != 255] == label).mean() for image, has in zip(labels, shown, strict=True) if has]
        assert statistics.typical_area_of[label] == pytest.approx(np.median(areas) if areas else 0)
        for other in range(21):
            both = sum((image == label).any() and (image == other).any() for image in labels)
            assert statistics.together[label, other] == both
    assert statistics.ignored_share == pytest.approx((everything == 255).mean())
    hard = [3, 7]
    with_hard = sum(np.isin(image, hard).any() for image in labels)
    assert statistics.repeated_images(hard, factor=3) == 5 + 2 * with_hard


def test_unreadable_pairs_are_listed_but_not_counted(voc_home: Path) -> None:
    (voc_home / "JPEGImages/v.jpg").unlink()
    statistics = _check(voc_home, "val").statistics["val"]
    assert (statistics.listed, statistics.readable) == (3, (1, 2))
    assert as_plain(statistics, tuple("abcdefghijklmnopqrstu"))["readable"] == 2


def test_a_split_without_truth_is_all_ignored_and_misses_no_class(voc_home: Path) -> None:
    (voc_home / "ImageSets/Segmentation/test.txt").write_text("v\n")
    result = _check(voc_home, "test")
    assert result.problems == ()
    assert result.statistics["test"].ignored_share == 1
    assert not any("shows" in note for note in result.notes)


def test_classes_that_no_image_shows_are_noted(voc_home: Path, save_mask: SaveMask) -> None:
    for name in ("v", "w", "x"):
        save_mask(voc_home / f"SegmentationClass/{name}.png", np.arange(20, dtype=np.uint8).repeat(112).reshape(40, 56))
    assert "no image of val shows tvmonitor" in _check(voc_home, "val").notes


def test_processes_give_the_same_readings_in_the_same_order(voc_home: Path) -> None:
    alone, shared = _check(voc_home, "train", "val"), _check(voc_home, "train", "val", num_workers=2)
    for name in ("train", "val"):
        np.testing.assert_array_equal(alone.statistics[name].counts, shared.statistics[name].counts)


def test_data_sets_that_are_no_files_are_checked_too() -> None:
    splits = [Split(name="val", dataset=Shapes(split="val", size=33, length=4), used=True)]
    pairs = Readings(splits)
    result = conclude(splits, pairs, list(pairs.all(num_workers=0)))
    assert result.problems == ()
    assert result.statistics["val"].pixels == 4 * 33 * 33
