"""Per-image counts: they sum to the data set's, survive the disk, and put images in order."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as sklearn_matrix
from sklearn.metrics import jaccard_score

from atrous.errors import StoreError
from atrous.evaluation.records import ImageRecord, ImageRecords

from ..conftest import ReadDamaged


def _images(number: int = 5, classes: int = 4) -> tuple[list[ImageRecord], list[tuple[np.ndarray, np.ndarray]]]:
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, classes, 300), rng.integers(0, classes, 300)) for _ in range(number)]
    images = [
        ImageRecord(index=i, sample_id=f"image{i}", matrix=sklearn_matrix(*pair, labels=range(classes)))
        for i, pair in enumerate(pairs)
    ]
    return images, pairs


def test_the_matrix_of_the_data_set_is_that_of_all_pixels_together() -> None:
    images, pairs = _images()
    records = ImageRecords.collect(images, num_classes=4)
    truth, labels = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    np.testing.assert_array_equal(records.matrix, sklearn_matrix(truth, labels, labels=range(4)))
    assert records.matrix.dtype == np.int64


def test_scores_of_single_images_equal_scikit_learns() -> None:
    images, pairs = _images()
    records = ImageRecords.collect(images, num_classes=4)
    for place, (truth, labels) in enumerate(pairs):
        assert records.mean_iou[place] == pytest.approx(jaccard_score(truth, labels, average="macro"))
        assert records.error_share[place] == pytest.approx((truth != labels).mean())


def test_only_classes_of_the_images_own_truth_count_for_it() -> None:
    matrix = np.array([[8, 2, 0], [0, 0, 0], [0, 0, 0]])
    records = ImageRecords.collect([ImageRecord(index=0, sample_id="a", matrix=matrix)], num_classes=3)
    np.testing.assert_array_equal(records.iou, [[0.8, np.nan, np.nan]])
    assert records.mean_iou[0] == 0.8


def test_an_image_holds_what_is_not_0_of_its_matrix_alone() -> None:
    matrix = np.zeros((500, 500), np.int64)
    matrix[3, 400] = 7
    image = ImageRecord(index=0, sample_id="a", matrix=matrix)
    assert (image.cells.tolist(), image.counts.tolist()) == ([3 * 500 + 400], [7])
    assert not any(value is matrix or np.shares_memory(value, matrix) for value in (image.cells, image.counts))
    assert not hasattr(image, "matrix")


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    images, _ = _images()
    scored = [
        ImageRecord(index=image.index, sample_id=image.sample_id, matrix=np.eye(4, dtype=np.int64), boundary=np.ones(4))
        for image in images
    ]
    for chosen in (images, scored):
        before = ImageRecords.collect(chosen, num_classes=4)
        before.save(tmp_path / "deep" / "images.npz")
        after = ImageRecords.load(tmp_path / "deep" / "images.npz")
        assert after.ids == before.ids
        for name in ("indices", "starts", "cells", "counts"):
            np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        assert (after.boundary is None) == (before.boundary is None)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["images.npz"]


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "images.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=r"images\.npz: not the records .* overwrite=true"):
        ImageRecords.load(path)


@given(st.data())
def test_damaged_records_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "images.npz"
    ImageRecords.collect(_images()[0], num_classes=4).save(path.with_name("sound.npz"))

    def read(damaged: bytes) -> ImageRecords:
        path.write_bytes(damaged)
        return ImageRecords.load(path)

    records = read_damaged(data, path.with_name("sound.npz").read_bytes(), read)
    assert records is None or records.matrix.shape == (4, 4)
