"""VOC 2012 in its official layout, good and broken."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data.dataset import SegmentationDataset, has_masks
from atrous.data.files import Pixels
from atrous.data.voc import VOC2012
from atrous.errors import ConfigError, DataError

MakeVoc = Callable[..., Path]
SaveMask = Callable[[Path, Pixels], None]
Scene = Callable[[int, int, int], tuple[Pixels, Pixels]]


@pytest.mark.parametrize("below", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_root_may_be_any_folder_of_the_official_layout(voc_home: Path, below: str) -> None:
    dataset = VOC2012(root=voc_home.parents[1] / below, split="val")
    assert len(dataset) == 3
    assert dataset.sample_id(1) == "w"
    assert dataset.uniform_size is None
    assert isinstance(dataset, SegmentationDataset)


def test_reading_gives_the_image_and_its_labels_with_255_ignored(scene: Scene, voc_home: Path) -> None:
    image, label = VOC2012(root=voc_home, split="train").read(2)
    expected_image, expected_label = scene(2, 40, 56)
    assert np.abs(image.astype(int) - expected_image).mean() < 3
    np.testing.assert_array_equal(label, expected_label)
    assert (label[:2] == 255).all()


def test_constructing_reads_no_pixels(voc_home: Path) -> None:
    (voc_home / "JPEGImages" / "v.jpg").write_bytes(b"")
    assert len(VOC2012(root=voc_home, split="val")) == 3


def test_train_aug_takes_augmented_masks_and_falls_back_to_official_ones(
    save_mask: SaveMask, scene: Scene, voc_home: Path
) -> None:
    (voc_home / "ImageSets/Segmentation/train_aug.txt").write_text("a\nb\n")
    augmented = voc_home / "SegmentationClassAug"
    augmented.mkdir()
    save_mask(augmented / "a.png", np.full((40, 56), 7, np.uint8))
    dataset = VOC2012(root=voc_home, split="train_aug")
    assert (dataset.read(0)[1] == 7).all()
    np.testing.assert_array_equal(dataset.read(1)[1], scene(1, 40, 56)[1])


def test_a_missing_root_is_an_error_that_says_what_root_must_be(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        VOC2012(root=tmp_path / "nowhere", split="val")
    assert f"data.root={str(tmp_path / 'nowhere')!r} does not exist" in str(error.value)
    assert "it must be the folder that holds VOCdevkit/VOC2012" in str(error.value)


def test_a_root_of_another_layout_is_an_error_that_says_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError) as error:
        VOC2012(root=tmp_path, split="val")
    assert "expected VOCdevkit/VOC2012/ImageSets/Segmentation below" in str(error.value)
    assert f"found images in {str(tmp_path)!r}" in str(error.value)


def test_an_unknown_split_is_an_error_that_lists_the_splits(voc_home: Path) -> None:
    with pytest.raises(
        ConfigError, match="split='trainaug' is not a split of VOC 2012; choose one of train, train_aug"
    ):
        VOC2012(root=voc_home, split="trainaug")


def test_a_missing_list_is_an_error_that_names_it_and_those_found(voc_home: Path) -> None:
    with pytest.raises(DataError, match=r"expected the list '.*trainval\.txt'; found train\.txt, val\.txt in"):
        VOC2012(root=voc_home, split="trainval")


def test_a_missing_augmented_set_is_an_error_that_says_how_to_get_it(voc_home: Path) -> None:
    with pytest.raises(
        DataError, match=r"expected the list .*train_aug\.txt.*converted from SBD .* or use split=train"
    ):
        VOC2012(root=voc_home, split="train_aug")
    (voc_home / "ImageSets/Segmentation/train_aug.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"expected the folder '.*SegmentationClassAug'.*converted from SBD"):
        VOC2012(root=voc_home, split="train_aug")


def test_an_empty_split_is_an_error(voc_home: Path) -> None:
    (voc_home / "ImageSets/Segmentation/val.txt").write_text("\n \n")
    with pytest.raises(
        DataError, match=r"VOC 2012 val: the list '.*val\.txt' is empty; it must name one sample per line"
    ):
        VOC2012(root=voc_home, split="val")


@pytest.mark.parametrize(
    ("kind", "file"), [("mask", "SegmentationClass/w.png"), ("image", "JPEGImages/w.jpg")], ids=["mask", "image"]
)
def test_an_image_without_mask_or_a_mask_without_image_is_an_error_that_names_it(
    voc_home: Path, kind: str, file: str
) -> None:
    (voc_home / file).unlink()
    with pytest.raises(DataError) as error:
        VOC2012(root=voc_home, split="val")
    assert f"VOC 2012 val: {kind} {str(voc_home / file)!r} is listed but does not exist" in str(error.value)
    assert f"1 of 3 listed {kind}s are missing" in str(error.value)


def test_a_missing_image_folder_is_an_error_that_names_it(voc_home: Path) -> None:
    shutil.rmtree(voc_home / "JPEGImages")
    with pytest.raises(DataError, match=r"3 of 3 listed images are missing; the folder '.*JPEGImages' does not exist"):
        VOC2012(root=voc_home, split="val")


def test_bad_pixels_are_errors_that_name_the_file(save_mask: SaveMask, voc_home: Path) -> None:
    dataset = VOC2012(root=voc_home, split="val")
    masks = voc_home / "SegmentationClass"
    save_mask(masks / "v.png", np.full((40, 56), 37, np.uint8))
    save_mask(masks / "w.png", np.zeros((41, 56), np.uint8))
    Image.new("RGB", (56, 40)).save(masks / "x.png")
    with pytest.raises(DataError, match=r"v\.png' holds label 37 in 2240 pixels; allowed in 'voc2012' are 0\.\.20"):
        dataset.read(0)
    with pytest.raises(DataError, match=r"w\.png' is 56x41 .* its image '.*w\.jpg' is 56x40"):
        dataset.read(1)
    with pytest.raises(DataError, match=r"x\.png' is a 8-bit RGB PNG; expected an 8-bit palette"):
        dataset.read(2)


def test_the_real_lists_have_their_counts(real_data: Path) -> None:
    counts = {split: len(VOC2012(root=real_data, split=split)) for split in ("train", "train_aug", "val", "trainval")}
    assert counts == {"train": 246, "train_aug": 405, "val": 241, "trainval": 487}


def test_every_real_validation_pair_reads_as_pillow_reads_it(real_data: Path) -> None:
    dataset = VOC2012(root=real_data, split="val")
    assert len(dataset) == 241
    for index in range(0, len(dataset), 4):
        image, label = dataset.read(index)
        _, image_path, mask_path = dataset.pairs[index]
        np.testing.assert_array_equal(label, np.asarray(Image.open(str(mask_path))))
        assert np.abs(image.astype(int) - np.asarray(Image.open(image_path))).max() <= 4


def test_a_tree_with_spaces_in_its_path_works(tmp_path: Path, make_voc: MakeVoc) -> None:
    make_voc(tmp_path / "my data")
    assert VOC2012(root=tmp_path / "my data", split="val").read(0)[0].shape == (40, 56, 3)


def test_a_limit_keeps_the_first_images_of_the_list(tmp_path: Path, make_voc: Callable[..., Path]) -> None:
    dataset = VOC2012(root=make_voc(tmp_path), split="train", limit=2)
    assert [dataset.sample_id(index) for index in range(len(dataset))] == ["a", "b"]


def test_the_test_split_has_images_and_no_truth(voc_home: Path) -> None:
    (voc_home / "ImageSets/Segmentation/test.txt").write_text("v\nw\n")
    shutil.rmtree(voc_home / "SegmentationClass")
    dataset = VOC2012(root=voc_home, split="test")
    image, label = dataset.read(1)
    assert not has_masks(dataset)
    assert image.shape == (40, 56, 3)
    assert label.shape == (40, 56)
    assert (label == 255).all()


def test_splits_joined_by_plus_hold_each_image_once(voc_home: Path) -> None:
    (voc_home / "ImageSets/Segmentation/trainval.txt").write_text("a\nv\n")
    dataset = VOC2012(root=voc_home, split="train+trainval")
    assert [dataset.sample_id(index) for index in range(len(dataset))] == ["a", "b", "c", "d", "e", "v"]
    assert has_masks(dataset)


def test_a_missing_test_list_is_an_error_that_says_where_it_comes_from(voc_home: Path) -> None:
    with pytest.raises(DataError, match=r"expected the list '.*test\.txt'; .*a download of their own \(VOC2012test"):
        VOC2012(root=voc_home, split="test")


def test_the_official_number_of_images_is_told_and_not_enforced(voc_home: Path) -> None:
    dataset = VOC2012(root=voc_home, split="val")
    assert (len(dataset), dataset.official_count) == (3, 1449)
