"""Archives for the test servers: the layout, the values, and what is refused before anything is left behind."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data import Shapes
from atrous.data.dataset import Pair, PairList
from atrous.data.spec import VOC_SPEC, DatasetSpec
from atrous.errors import DataError
from atrous.evaluation.servers import SERVER_NAMES
from atrous.evaluation.submission import SERVERS, check_submission, write_submission

from ..conftest import archived_pictures


def _labels(seed: int, classes: int, shape: tuple[int, int] = (12, 17)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, shape)


def test_voc_results_are_indexed_pngs_in_the_layout_of_the_development_kit(tmp_path: Path) -> None:
    ids = ["2008_000006", "2011_003276"]
    predictions = [(name, (12, 17), _labels(seed, 21)) for seed, name in enumerate(ids)]
    assert write_submission(tmp_path / "voc.zip", predictions, server=SERVERS["voc"], ids=ids) == 2
    with zipfile.ZipFile(tmp_path / "voc.zip") as archive:
        folder = "results/VOC2012/Segmentation/comp6_test_cls"
        assert archive.namelist() == [f"{folder}/{name}.png" for name in ids]
        archive.extractall(tmp_path)
    with Image.open(tmp_path / folder / "2008_000006.png") as picture:
        assert picture.mode == "P"
        assert picture.size == (17, 12)
        np.testing.assert_array_equal(np.asarray(picture), predictions[0][2])
        palette = picture.getpalette()
        assert palette is not None
        assert palette[3 * 15 : 3 * 16] == [192, 128, 128]  # a person is pink in VOC


def test_cityscapes_results_hold_label_ids_under_names_that_its_evaluator_finds(tmp_path: Path) -> None:
    labels = _labels(0, 19)
    name = "berlin_000123_000019"
    write_submission(tmp_path / "c.zip", [(name, (12, 17), labels)], server=SERVERS["cityscapes"], ids=[name])
    found = archived_pictures(tmp_path / "c.zip")
    assert list(found) == ["berlin_000123_000019_pred.png"]
    ids = np.array([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33])
    np.testing.assert_array_equal(found["berlin_000123_000019_pred.png"], ids[labels])


@pytest.mark.parametrize(
    ("predictions", "words"),
    [
        ([("2008_000006", (12, 17), _labels(0, 21, (11, 17)))], r"'2008_000006' is \(11, 17\), its image \(12, 17\)"),
        ([("2008_000006", (12, 17), np.full((12, 17), 255))], r"holds 255\.\.255; the classes of voc2012 are 0\.\.20"),
        ([("2008_000006", (12, 17), _labels(0, 21))], r"1 images have no prediction, the first is '2009_000001'"),
        ([("2008_000006", (12, 17), _labels(0, 21))] * 2, r"'2008_000006' is not in the split, or was predicted twice"),
        ([("2010_000001", (12, 17), _labels(0, 21))], r"'2010_000001' is not in the split"),
    ],
)
def test_what_the_server_would_refuse_leaves_nothing_behind(
    tmp_path: Path, predictions: list[tuple[str, tuple[int, int], np.ndarray]], words: str
) -> None:
    ids = ["2008_000006", "2009_000001"]
    with pytest.raises(DataError, match=words):
        write_submission(tmp_path / "voc.zip", predictions, server=SERVERS["voc"], ids=ids)
    assert list(tmp_path.iterdir()) == []


class _Listed(PairList):
    _verified = False

    def __init__(self, names: list[str], *, spec: DatasetSpec = VOC_SPEC, split: str = "test") -> None:
        super().__init__(
            spec=spec, pairs=[Pair(name, f"{name}.jpg", None) for name in names], source="a list", official_count=1456
        )
        self.split = split


def test_an_incomplete_test_split_is_refused_and_a_rehearsal_on_val_is_not() -> None:
    with pytest.raises(DataError, match=r"voc2012 test has 1456 images, but 1 are here"):
        check_submission(_Listed(["2008_000006"]), SERVERS["voc"])
    check_submission(_Listed(["2008_000006"], split="val"), SERVERS["voc"])


@pytest.mark.parametrize(
    ("names", "words"),
    [(["holiday"], "'holiday' is not a name of voc2012"), (["2008_000006"] * 2, "1 images are listed twice")],
)
def test_names_that_the_server_does_not_know_are_refused(names: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        check_submission(_Listed(names, split="val"), SERVERS["voc"])


def test_other_classes_are_refused() -> None:
    with pytest.raises(DataError, match="takes its 21 classes, but the data set is 'shapes' with 11"):
        check_submission(Shapes(split="val", length=1), SERVERS["voc"])


def test_every_server_has_its_name_where_configs_are_checked() -> None:
    assert tuple(SERVERS) == SERVER_NAMES


def test_plain_archives_take_any_data_set(tmp_path: Path) -> None:
    dataset = Shapes(split="test", length=2, size=33)
    ids = [dataset.sample_id(index) for index in range(2)]
    check_submission(dataset, SERVERS["plain"])
    found = {name: _labels(seed, 11, (33, 33)) for seed, name in enumerate(ids)}
    predictions = [(name, (33, 33), labels) for name, labels in found.items()]
    write_submission(tmp_path / "plain.zip", predictions, server=SERVERS["plain"], ids=ids)
    read = archived_pictures(tmp_path / "plain.zip")
    assert sorted(read) == sorted(f"{name}.png" for name in ids)
    assert all((read[f"{name}.png"] == labels).all() for name, labels in found.items())
