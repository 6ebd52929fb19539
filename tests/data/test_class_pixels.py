"""Counting classes per image: exact, once, and again when a mask changes."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data.class_pixels import class_pixels
from atrous.data.decoded import Decoded
from atrous.data.shapes import Shapes
from atrous.data.voc import VOC2012
from atrous.errors import DataError


def _files(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


def test_counts_are_those_of_numpy(voc_home: Path, tmp_path: Path) -> None:
    dataset = VOC2012(root=voc_home, split="train")
    counts = class_pixels(dataset, cache=tmp_path / "cache")
    assert counts.shape == (5, 21)
    for index in range(5):
        label = np.asarray(Image.open(str(dataset.pairs[index].mask)))
        assert counts[index].tolist() == [int((label == value).sum()) for value in range(21)]


def test_masks_are_read_once(voc_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = VOC2012(root=voc_home, split="train")
    counts = class_pixels(dataset, cache=tmp_path / "cache")

    def refuse(self: VOC2012, index: int) -> None:
        raise AssertionError(f"mask {index} is read again")

    monkeypatch.setattr(VOC2012, "read_label", refuse)
    np.testing.assert_array_equal(class_pixels(dataset, cache=tmp_path / "cache"), counts)


def test_decoded_pixels_are_counted_once_too(voc_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = VOC2012(root=voc_home, split="train")
    decoded = Decoded(dataset, folder=tmp_path / "pixels", num_workers=0)
    counts = class_pixels(decoded, cache=tmp_path / "cache")

    def refuse(self: Decoded, index: int) -> None:
        raise AssertionError(f"image {index} is read again")

    monkeypatch.setattr(Decoded, "read", refuse)
    np.testing.assert_array_equal(class_pixels(decoded, cache=tmp_path / "cache"), counts)
    np.testing.assert_array_equal(class_pixels(dataset, cache=tmp_path / "other"), counts)


def test_a_changed_mask_is_counted_anew(voc_home: Path, tmp_path: Path) -> None:
    dataset = VOC2012(root=voc_home, split="train")
    class_pixels(dataset, cache=tmp_path / "cache")
    path = Path(str(dataset.pairs[2].mask))
    state = path.stat()
    Image.fromarray(np.full((40, 56), 9, np.uint8)).save(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert class_pixels(dataset, cache=tmp_path / "cache")[2].tolist() == [0] * 9 + [2240] + [0] * 11


def test_a_mask_that_has_gone_is_an_error_that_names_it(voc_home: Path, tmp_path: Path) -> None:
    dataset = VOC2012(root=voc_home, split="val")
    (voc_home / "SegmentationClass" / "w.png").unlink()
    with pytest.raises(DataError, match=r"mask '.*w\.png' cannot be read"):
        class_pixels(dataset, cache=tmp_path / "cache")


def test_a_damaged_cache_is_counted_anew(voc_home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = VOC2012(root=voc_home, split="val")
    counts = class_pixels(dataset, cache=tmp_path / "cache")
    (file,) = _files(tmp_path / "cache")
    file.write_bytes(file.read_bytes()[:70])
    np.testing.assert_array_equal(class_pixels(dataset, cache=tmp_path / "cache"), counts)
    assert "is damaged" in caplog.text
    np.testing.assert_array_equal(np.load(file)["counts"], counts)


def test_a_cache_that_cannot_be_written_is_a_warning(
    voc_home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where a folder is wanted")
    assert class_pixels(VOC2012(root=voc_home, split="val"), cache=tmp_path / "cache").shape == (3, 21)
    assert "cannot be written" in caplog.text


def test_the_default_is_the_users_cache_folder(voc_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "mine"))
    class_pixels(VOC2012(root=voc_home, split="val"))
    assert [file.parent for file in _files(tmp_path / "mine")] == [tmp_path / "mine" / "class_pixels"]


def test_a_data_set_without_files_is_counted_each_time(tmp_path: Path) -> None:
    dataset = Shapes(split="val", size=33, length=3)
    counts = class_pixels(dataset, cache=tmp_path)
    for index in range(3):
        values, times = np.unique(dataset.read(index)[1], return_counts=True)
        assert {value: count for value, count in enumerate(counts[index].tolist()) if count} == dict(
            zip(values.tolist(), times.tolist(), strict=True)
        )
    assert _files(tmp_path) == []


def test_a_bad_mask_is_an_error_that_names_it(voc_home: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 56), 99, np.uint8)).save(voc_home / "SegmentationClass" / "w.png")
    with pytest.raises(DataError, match=r"w\.png' holds label 99"):
        class_pixels(VOC2012(root=voc_home, split="val"), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
