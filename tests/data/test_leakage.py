"""Images that are both trained on and evaluated on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from atrous.data.leakage import shared_samples
from atrous.data.repeated import Repeated
from atrous.data.shapes import Shapes
from atrous.data.voc import VOC2012

MakeVoc = Callable[..., Path]


def test_splits_that_share_nothing_have_no_shared_samples(voc_home: Path) -> None:
    train, val = (VOC2012(root=voc_home, split=split) for split in ("train", "val"))
    assert shared_samples(train, val) == []
    assert shared_samples(Shapes(split="train", length=5), Shapes(split="val", length=5)) == []


def test_shared_images_are_named_in_the_order_of_the_evaluation(tmp_path: Path, make_voc: MakeVoc) -> None:
    home = make_voc(tmp_path, train=["a", "x", "b", "v"], val=["v", "w", "x"])
    train, val = (VOC2012(root=home, split=split) for split in ("train", "val"))
    assert shared_samples(train, val) == ["v", "x"]


def test_a_copy_of_the_data_elsewhere_is_recognised(tmp_path: Path, make_voc: MakeVoc) -> None:
    one, other = (make_voc(tmp_path / name, train=["a", "b"], val=["b"]) for name in ("one", "other"))
    assert shared_samples(VOC2012(root=one, split="train"), VOC2012(root=other, split="val")) == ["b"]


def test_repeated_images_are_recognised(voc_home: Path, tmp_path: Path) -> None:
    train = VOC2012(root=voc_home, split="train")
    name = train.spec.classes[int(train.read(0)[1][5, 5])]
    repeated = Repeated(dataset=train, classes=[name], cache=tmp_path / "cache")
    assert len(repeated) > len(train)
    assert shared_samples(repeated, train) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("train", "val", "shared"), [("train", "val", 0), ("train_aug", "val", 0), ("trainval", "val", 241)]
)
def test_the_real_lists_share_what_they_should(real_data: Path, train: str, val: str, shared: int) -> None:
    found = shared_samples(VOC2012(root=real_data, split=train), VOC2012(root=real_data, split=val))
    assert len(found) == shared
