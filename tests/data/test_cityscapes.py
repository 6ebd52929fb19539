"""Cityscapes in its official layout, good and broken."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data.cityscapes import OFFICIAL_COUNTS, Cityscapes
from atrous.data.cityscapes_labels import to_label_ids
from atrous.data.dataset import SegmentationDataset, has_masks
from atrous.data.files import Pixels
from atrous.errors import ConfigError, DataError

# 40 stored values: every label id, the licence plate (-1, stored as 255) and some again.
IDS = np.array([*range(34), 255, 7, 26, 33, 0, 255], np.uint8)
# What cityscapesScripts makes of them.
TRAIN_IDS = [255] * 7 + [0, 1, 255, 255, 2, 3, 4, 255, 255, 255, 5, 255, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
TRAIN_IDS += [255, 255, 16, 17, 18, 255, 0, 13, 18, 255, 255]


def _frame(root: Path, split: str, frame: str, *, kinds: tuple[str, ...], turn: int = 0) -> Pixels:
    """Write an image and its label ids, each row of which is IDS, turned by some places."""
    city = frame.partition("_")[0]
    ids = np.tile(np.roll(IDS, turn), (20, 1))
    image = root / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png"
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(ids[:, :, None], 3, axis=2)).save(image)
    for kind in kinds:
        mask = root / kind / split / city / f"{frame}_{kind}_labelIds.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids if kind == "gtFine" else np.where(ids == 7, 0, ids).astype(np.uint8)).save(mask)
        Image.new("RGBA", (40, 20)).save(mask.with_name(f"{frame}_{kind}_color.png"))
        mask.with_name(f"{frame}_{kind}_polygons.json").write_text("{}")
    return ids


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Fine train, val and test, coarse train and train_extra, beside the other files of the official archives."""
    for turn, frame in enumerate(("aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313")):
        _frame(tmp_path, "train", frame, kinds=("gtFine", "gtCoarse"), turn=turn)
    _frame(tmp_path, "val", "lindau_000000_000019", kinds=("gtFine", "gtCoarse"))
    _frame(tmp_path, "test", "berlin_000000_000019", kinds=())
    _frame(tmp_path, "train_extra", "augsburg_000000_000000", kinds=("gtCoarse",))
    (tmp_path / "README").write_text("")
    return tmp_path


def test_label_ids_become_train_ids_with_the_licence_plate_ignored(home: Path) -> None:
    dataset = Cityscapes(root=home, split="val")
    image, label = dataset.read(0)
    assert isinstance(dataset, SegmentationDataset)
    assert dataset.sample_id(0) == "lindau_000000_000019"
    assert label.dtype == np.uint8
    assert label.tolist() == [TRAIN_IDS] * 20
    np.testing.assert_array_equal(image[:, :, 0], np.tile(IDS, (20, 1)))
    assert dataset.uniform_size == (20, 40)


def test_what_is_scored_goes_back_to_the_label_ids_exactly(home: Path) -> None:
    dataset = Cityscapes(root=home, split="train")
    for index in range(3):
        ids = np.asarray(Image.open(str(dataset.pairs[index].mask)))
        label = dataset.read(index)[1]
        back = to_label_ids(label)
        np.testing.assert_array_equal(back[label != 255], ids[label != 255])
        assert set(np.unique(ids[label == 255])) == {0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255}


def test_frames_come_in_the_order_of_cities_and_numbers(home: Path) -> None:
    dataset = Cityscapes(root=home, split="train")
    names = ["aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313"]
    assert [dataset.sample_id(index) for index in range(len(dataset))] == names
    assert len(Cityscapes(root=home, split="train", limit=2)) == 2
    assert len(Cityscapes(root=home, split="train+val")) == 4


def test_coarse_annotation_is_read_from_its_own_folder(home: Path) -> None:
    fine, coarse = (Cityscapes(root=home, split="train", annotation=each) for each in ("fine", "coarse"))
    fine_label, coarse_label = fine.read(0)[1], coarse.read(0)[1]
    road = np.tile(IDS == 7, (20, 1))
    assert (fine_label[road] == 0).all()
    assert (coarse_label[road] == 255).all()
    np.testing.assert_array_equal(fine_label[~road], coarse_label[~road])
    extra = Cityscapes(root=home, split="train_extra", annotation="coarse")
    assert extra.sample_id(0) == "augsburg_000000_000000"
    assert extra.read(0)[1].shape == (20, 40)


def test_the_test_split_has_images_and_no_truth(home: Path) -> None:
    dataset = Cityscapes(root=home, split="test")
    assert not has_masks(dataset)
    assert has_masks(Cityscapes(root=home, split="val"))
    assert (dataset.read(0)[1] == 255).all()
    assert dataset.read(0)[1].shape == (20, 40)


def test_official_numbers_are_told_and_not_enforced(home: Path) -> None:
    assert dict(OFFICIAL_COUNTS) == {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
    assert Cityscapes(root=home, split="train").official_count == 2975
    assert Cityscapes(root=home, split="train+val").official_count == 3475


def test_a_value_that_is_no_label_id_is_an_error_that_names_the_file(home: Path) -> None:
    dataset = Cityscapes(root=home, split="val")
    Image.fromarray(np.full((20, 40), 34, np.uint8)).save(str(dataset.pairs[0].mask))
    with pytest.raises(DataError, match=r"lindau.*labelIds\.png' holds label 34 in 800 pixels; .* 0\.\.33 and 255"):
        dataset.read(0)


def test_a_missing_mask_is_an_error_that_names_it(home: Path) -> None:
    mask = home / "gtFine/train/bochum/bochum_000000_000313_gtFine_labelIds.png"
    mask.unlink()
    with pytest.raises(DataError) as error:
        Cityscapes(root=home, split="train")
    assert f"Cityscapes fine train: mask {str(mask)!r} is listed but does not exist (1 of 3" in str(error.value)


def test_a_wrong_root_is_an_error_that_says_what_was_expected_and_found(home: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root='.*nowhere' does not exist; it must be .* leftImg8bit and gtFine"):
        Cityscapes(root=home / "nowhere", split="val")
    with pytest.raises(DataError, match=r"expected leftImg8bit and gtFine in data\.root=.*; found aachen, bochum in"):
        Cityscapes(root=home / "gtFine" / "train", split="val")


def test_a_root_that_holds_the_folder_cityscapes_works(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    above = tmp_path_factory.mktemp("above")
    (above / "cityscapes").symlink_to(home)
    assert len(Cityscapes(root=above, split="val")) == 1


def test_a_split_without_images_is_an_error(home: Path) -> None:
    (home / "leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png").unlink()
    with pytest.raises(DataError, match=r"Cityscapes val: expected CITY/\*_leftImg8bit\.png in '.*val'; found lindau"):
        Cityscapes(root=home, split="val")


def test_impossible_choices_are_errors_that_say_what_is_possible(home: Path) -> None:
    with pytest.raises(ConfigError, match="split='dev' is not a split of Cityscapes; choose one of train, val, test"):
        Cityscapes(root=home, split="dev")
    with pytest.raises(ConfigError, match="annotation='rough' is unknown; choose one of fine, coarse"):
        Cityscapes(root=home, split="val", annotation="rough")
    with pytest.raises(ConfigError, match="'train_extra' is annotated coarsely only; use annotation=coarse"):
        Cityscapes(root=home, split="train_extra")


def test_mixed_annotation_is_fine_where_there_is_one_and_coarse_in_train_extra(home: Path) -> None:
    dataset = Cityscapes(root=home, split="val+train_extra", annotation="mixed")
    masks = {pair.sample_id: str(pair.mask) for pair in dataset.pairs}
    assert "/gtFine/val/" in masks["lindau_000000_000019"]
    assert "/gtCoarse/train_extra/" in masks["augsburg_000000_000000"]
    with pytest.raises(ConfigError, match="use annotation=coarse or mixed"):
        Cityscapes(root=home, split="val+train_extra")
