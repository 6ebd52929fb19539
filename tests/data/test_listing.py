"""Split names."""

from pathlib import Path

import pytest

from atrous.data.listing import read_list, split_parts
from atrous.errors import ConfigError, DataError


def test_a_split_may_join_several_by_plus() -> None:
    assert split_parts("train", ("train", "val"), source="X") == ["train"]
    assert split_parts("val+train", ("train", "val"), source="X") == ["val", "train"]


@pytest.mark.parametrize("split", ["", "dev", "train+", "train+dev", "train+train"])
def test_unknown_and_repeated_parts_are_errors_that_list_the_splits(split: str) -> None:
    with pytest.raises(ConfigError) as error:
        split_parts(split, ("train", "val"), source="X")
    assert f"split={split!r} is not a split of X; choose one of train, val, or several" in str(error.value)


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(b"a\n\xb2\n")
    with pytest.raises(DataError, match=r"VOC: the list .*train\.txt.* is damaged: not UTF-8"):
        read_list(tmp_path / "train.txt", source="VOC")
