"""CamVid as prepared for SegNet."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data.camvid import CamVid
from atrous.errors import ConfigError, DataError


@pytest.fixture
def camvid_root(tmp_path: Path) -> Path:
    for folder in ("val", "valannot"):
        (tmp_path / folder).mkdir()
    mask = np.arange(12, dtype=np.uint8).repeat(4).reshape(6, 8)
    Image.new("RGB", (8, 6), (10, 20, 30)).save(tmp_path / "val" / "f1.jpg")
    Image.fromarray(mask).save(tmp_path / "valannot" / "f1.png")
    (tmp_path / "val.txt").write_text("val/f1.jpg valannot/f1.png\n")
    return tmp_path


def test_unlabelled_pixels_become_the_ignore_label(camvid_root: Path) -> None:
    dataset = CamVid(root=camvid_root, split="val")
    image, label = dataset.read(0)
    assert image.shape == (6, 8, 3)
    assert sorted(np.unique(label)) == [*range(11), 255]
    assert dataset.sample_id(0) == "f1"
    assert dataset.uniform_size == (6, 8)


def test_a_value_beyond_unlabelled_is_an_error(camvid_root: Path) -> None:
    Image.fromarray(np.full((6, 8), 12, np.uint8)).save(camvid_root / "valannot" / "f1.png")
    with pytest.raises(DataError, match=r"f1\.png' holds label 12 in 48 pixels; .* 0\.\.10 and 11, 255 \(ignored\)"):
        CamVid(root=camvid_root, split="val").read(0)


def test_a_missing_root_list_or_split_is_an_error_that_says_what_was_expected(camvid_root: Path) -> None:
    with pytest.raises(
        DataError, match=r"CamVid: data\.root='.*nowhere' does not exist; .* holds train\.txt, val\.txt"
    ):
        CamVid(root=camvid_root / "nowhere", split="val")
    with pytest.raises(DataError, match=r"CamVid test: expected the list '.*test\.txt'; found val\.txt in"):
        CamVid(root=camvid_root, split="test")
    with pytest.raises(ConfigError, match="split='dev' is not a split of CamVid; choose one of train, val, test"):
        CamVid(root=camvid_root, split="dev")


def test_a_list_line_that_is_no_pair_is_an_error(camvid_root: Path) -> None:
    (camvid_root / "val.txt").write_text("val/f1.jpg\n")
    with pytest.raises(DataError, match=r"CamVid val: the list holds 'val/f1\.jpg'; expected `image mask`"):
        CamVid(root=camvid_root, split="val")


def test_the_real_frames_have_their_counts_and_one_size(real_data: Path) -> None:
    root = real_data / "camvid"
    counts = {split: len(CamVid(root=root, split=split)) for split in ("train", "val", "test")}
    assert counts == {"train": 367, "val": 101, "test": 233}
    dataset = CamVid(root=real_data, split="val")  # the folder above works too
    assert dataset.uniform_size == (360, 480) == dataset.read(0)[1].shape


def test_splits_may_be_joined_by_plus(camvid_root: Path) -> None:
    Image.new("RGB", (8, 6)).save(camvid_root / "val" / "f2.jpg")
    (camvid_root / "train.txt").write_text("val/f2.jpg valannot/f1.png\n")
    dataset = CamVid(root=camvid_root, split="train+val")
    assert [dataset.sample_id(index) for index in range(len(dataset))] == ["f2", "f1"]
    assert CamVid(root=camvid_root, split="train").official_count == 367


def test_an_image_that_is_listed_twice_is_an_error_that_names_it(camvid_root: Path) -> None:
    line = "val/f1.jpg valannot/f1.png\n"
    (camvid_root / "val.txt").write_text(2 * line)
    with pytest.raises(DataError, match=r"CamVid val: 'f1' is listed 2 times; list an image once, .* data\.bootstrap"):
        CamVid(root=camvid_root, split="val")
    assert len(CamVid.unverified(root=camvid_root, split="val")) == 2, "a check names them all"
    assert len(CamVid(root=camvid_root, split="val", limit=1)) == 1
    (camvid_root / "train.txt").write_text(line.replace("val/", "train/"))
    with pytest.raises(
        DataError, match=r"train\+val: 'f1' is the name of several images \(.*train/f1\.jpg and .*val/f1"
    ):
        CamVid(root=camvid_root, split="train+val", limit=2)
