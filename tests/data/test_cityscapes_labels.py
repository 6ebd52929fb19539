"""The label table of Cityscapes, against cityscapesScripts where it is installed."""

import numpy as np
import pytest

from atrous.data.cityscapes_labels import CITYSCAPES_SPEC, LABELS, to_label_ids, train_id_table
from atrous.errors import DataError


def test_names_ids_and_colours_are_those_of_cityscapesscripts() -> None:
    official = pytest.importorskip(
        "cityscapesscripts.helpers.labels", reason="cityscapesScripts is absent: pip install cityscapesscripts"
    )
    ours = [label._asdict() for label in LABELS]
    theirs = [
        {"name": label.name, "id": label.id, "train_id": label.trainId, "colour": label.color}
        for label in official.labels
    ]
    assert ours == theirs


def test_every_stored_value_gets_the_train_id_of_cityscapesscripts() -> None:
    official = pytest.importorskip("cityscapesscripts.helpers.labels", reason="cityscapesScripts is absent")
    table = train_id_table()
    for label in official.labels:
        assert table[label.id % 256] == label.trainId % 256, label.name  # -1 is stored as 255 and ignored as 255
    assert (np.delete(table, [label.id % 256 for label in official.labels]) == 255).all()


def test_the_nineteen_classes_stand_in_the_order_of_the_benchmark() -> None:
    assert CITYSCAPES_SPEC.num_classes == 19
    assert CITYSCAPES_SPEC.classes[:3] == ("road", "sidewalk", "building")
    assert CITYSCAPES_SPEC.classes[-2:] == ("motorcycle", "bicycle")
    assert CITYSCAPES_SPEC.palette[13] == (0, 0, 142)
    assert CITYSCAPES_SPEC.ignore_label == 255


def test_labels_go_back_to_exactly_the_ids_that_they_came_from() -> None:
    scored = np.array([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33], np.uint8)
    ids = np.random.default_rng(0).choice(scored, (50, 60))
    np.testing.assert_array_equal(to_label_ids(train_id_table()[ids]), ids)
    labels = np.array([*range(19), 255])
    np.testing.assert_array_equal(train_id_table()[to_label_ids(labels)], labels)


def test_ignored_pixels_become_unlabeled() -> None:
    assert to_label_ids(np.array([[255, 0]], np.int64)).tolist() == [[0, 7]]
    assert to_label_ids(np.array([[255, 0]], np.int64)).dtype == np.uint8


@pytest.mark.parametrize("value", [19, 254, -1, 256])
def test_a_label_of_no_class_is_an_error(value: int) -> None:
    with pytest.raises(DataError, match=rf"label {value} has no label id in Cityscapes; allowed are 0\.\.18 and 255"):
        to_label_ids(np.array([0, value, 255]))
