"""What is wrong with the lists of a data set."""

from collections.abc import Callable
from pathlib import Path

import pytest

from atrous.data.inspection.splits import Split, holds_by_definition, list_problems
from atrous.data.leakage import refuse_shared_samples
from atrous.data.voc import VOC2012
from atrous.errors import DataError

MakeVoc = Callable[..., Path]


def _splits(root: Path, *names: str, used: int = 2) -> list[Split]:
    """Splits, the first two of which are trained and evaluated on."""
    return [
        Split(name=name, dataset=VOC2012.unverified(root=root, split=name), used=place < used)
        for place, name in enumerate(names)
    ]


def test_disjoint_lists_have_no_problem(voc_home: Path) -> None:
    assert list(list_problems(_splits(voc_home, "train", "val"))) == []


def test_every_id_that_is_trained_and_evaluated_on_is_named_once_with_its_splits(
    tmp_path: Path, make_voc: MakeVoc
) -> None:
    home = make_voc(tmp_path, train=("a", "b", "v", "w"), val=("v", "w", "x"))
    (home / "ImageSets/Segmentation/train_aug.txt").write_text("a\nb\nw\n")
    (home / "SegmentationClassAug").mkdir()
    problems = list(list_problems(_splits(home, "train_aug", "val", "train")))
    assert [problem.split(";")[0] for problem in problems] == [
        "'w' is both in train_aug and in val and in train",
        "'v' is both in val and in train",
    ]


def test_splits_that_are_made_of_others_may_share_images_with_them(voc_home: Path) -> None:
    (voc_home / "ImageSets/Segmentation/trainval.txt").write_text("a\nv\n")
    assert list(list_problems(_splits(voc_home, "train", "val", "trainval", "train+val"))) == []
    assert holds_by_definition("trainval", "val")
    assert holds_by_definition("val", "train+val")
    assert not holds_by_definition("train_aug", "val")
    assert not holds_by_definition("trainval", "test")


@pytest.mark.parametrize(("train", "val"), [("train_aug", "train"), ("trainval", "val"), ("train", "train")])
def test_the_two_splits_that_are_used_share_nothing_whatever_their_names(voc_home: Path, train: str, val: str) -> None:
    (voc_home / "ImageSets/Segmentation/trainval.txt").write_text("a\nv\n")
    (voc_home / "ImageSets/Segmentation/train_aug.txt").write_text("a\nb\n")
    (voc_home / "SegmentationClassAug").mkdir()
    used = _splits(voc_home, train, val)
    (problem,) = list_problems(used)
    with pytest.raises(DataError) as refused:
        refuse_shared_samples(*(split.dataset for split in used if split.dataset is not None))
    assert problem == str(refused.value)
    assert list(list_problems(used, allow_shared=True)) == []
    assert list(list_problems(_splits(voc_home, train, val, used=0))) == []


def test_an_id_that_is_listed_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("i/a.jpg m/a.png\ni/b.jpg m/b.png\ni/a.jpg m/a.png\n")
    from atrous.data.camvid import CamVid

    splits = [Split(name="val", dataset=CamVid.unverified(root=tmp_path, split="val"))]
    assert list(list_problems(splits)) == ["'a' is listed 2 times in val; list it once"]


def test_a_split_that_cannot_be_listed_is_a_problem_only_where_it_is_used() -> None:
    used = Split(name="train_aug", problem="no list", used=True)
    other = Split(name="test", problem="no test list")
    assert list(list_problems([used, other])) == ["no list"]
    assert used.ids == []
