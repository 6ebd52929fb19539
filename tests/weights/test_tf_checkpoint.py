"""Checkpoints that TensorFlow wrote: every value as TensorFlow reads it, every damage a CheckpointError."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atrous.errors import CheckpointError
from atrous.weights.sstable import read_table
from atrous.weights.tf_checkpoint import open_checkpoint, read_checkpoint

TableWriter = Callable[..., bytes]
FOLDER = Path(__file__).parents[1] / "oracles" / "tensorflow" / "checkpoint"
FILES = sorted(path.name for path in FOLDER.glob("*.*") if path.suffix != ".npz")


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """The prefix of a copy of the fixture `official`."""
    for path in FOLDER.glob("official.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "official"


@pytest.mark.parametrize("name", ["official", "sharded", "object_graph"])
def test_every_value_is_what_tensorflow_reads(name: str) -> None:
    checkpoint, expected = read_checkpoint(FOLDER / name), np.load(FOLDER / f"{name}.npz")
    assert set(checkpoint) == set(expected.files)
    assert len(checkpoint) == len(expected.files)
    for variable, value in expected.items():
        np.testing.assert_array_equal(checkpoint[variable], value, strict=True)


def test_the_list_of_variables_costs_no_reading(official: Path) -> None:
    data = Path(f"{official}.data-00000-of-00001")
    data.write_bytes(bytes(data.stat().st_size))
    listed = {v.name: (v.shape, v.dtype) for v in read_checkpoint(official).variables}
    expected = np.load(FOLDER / "official.npz")
    assert listed == {name: (value.shape, value.dtype.name) for name, value in expected.items()}
    assert list(listed) == sorted(listed)


def test_arrays_are_the_callers_own() -> None:
    checkpoint = read_checkpoint(FOLDER / "official")
    biases = checkpoint["logits/semantic/biases"]
    biases += 1
    assert not np.array_equal(checkpoint["logits/semantic/biases"], biases)


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001"])
def test_any_of_the_files_names_the_checkpoint(ending: str) -> None:
    assert read_checkpoint(f"{FOLDER / 'official'}{ending}").prefix == FOLDER / "official"


def test_an_unknown_variable_is_a_key_error() -> None:
    checkpoint = read_checkpoint(FOLDER / "official")
    assert "aspp0/weights" not in checkpoint
    with pytest.raises(KeyError):
        checkpoint["aspp0/weights"]


def test_what_numpy_cannot_hold_is_refused_when_it_is_asked_for_and_strings_are_left_out() -> None:
    checkpoint = read_checkpoint(FOLDER / "unreadable")
    assert set(checkpoint) == {"sliced", "brain_float", "plain"}
    assert checkpoint["plain"].tolist() == [1.0, 2.0]
    with pytest.raises(CheckpointError, match=r"sliced is stored in slices"):
        checkpoint["sliced"]
    with pytest.raises(CheckpointError, match=r"brain_float is of TensorFlow's type 14 \(bfloat16\)"):
        checkpoint["brain_float"]


def test_missing_files_are_named(official: Path) -> None:
    with pytest.raises(CheckpointError, match=r"typo.index is not there; .* there are official.index"):
        read_checkpoint(official.with_name("typo"))
    Path(f"{official}.data-00000-of-00001").unlink()
    with pytest.raises(CheckpointError, match=r"official.data-00000-of-00001 is not there; .* it holds xception_65/"):
        read_checkpoint(official)


def test_one_missing_shard_of_two_is_named(tmp_path: Path) -> None:
    for path in FOLDER.glob("sharded.*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "sharded.data-00001-of-00002").unlink()
    with pytest.raises(CheckpointError, match=r"sharded.data-00001-of-00002 is not there"):
        read_checkpoint(tmp_path / "sharded")


def test_a_file_of_another_kind_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "frozen.pb").write_bytes(b"graph")
    with pytest.raises(CheckpointError, match=r"frozen.pb alone is no V2 checkpoint"):
        read_checkpoint(tmp_path / "frozen.pb")
    (tmp_path / "text.index").write_text("no table " * 20)
    with pytest.raises(CheckpointError, match=r"text.index cannot be read: it does not end as"):
        read_checkpoint(tmp_path / "text")
    for nowhere in ("/", "."):
        with pytest.raises(CheckpointError, match=r"is not there"):
            read_checkpoint(nowhere)


def test_cut_off_data_is_found_before_anything_is_read(official: Path) -> None:
    data = Path(f"{official}.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(
        CheckpointError, match=r"has 839 bytes, but xception_65/.* ends at byte 840: the file is cut off"
    ):
        read_checkpoint(official)


def test_a_flipped_bit_of_a_value_names_its_variable(official: Path) -> None:
    data = Path(f"{official}.data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[10] ^= 1  # behind the eight bytes of global_step
    data.write_bytes(content)
    checkpoint = read_checkpoint(official)
    assert checkpoint["global_step"] == 2
    with pytest.raises(
        CheckpointError, match=r"values of logits/semantic/biases are damaged \(CRC-32C 0x\w+, expected"
    ):
        checkpoint["logits/semantic/biases"]


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_damage_to_a_file_is_a_crash_or_a_wrong_value(tmp_path: Path, data: st.DataObject) -> None:
    for name in FILES:
        shutil.copy(FOLDER / name, tmp_path)
    name = data.draw(st.sampled_from(FILES))
    content = bytearray((tmp_path / name).read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    for _ in range(data.draw(st.integers(0, 4)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / name).write_bytes(content)
    prefix = name.split(".")[0]
    expected = np.load(FOLDER / f"{prefix}.npz")
    for variable in expected.files:
        try:
            value = read_checkpoint(tmp_path / prefix)[variable]
        except CheckpointError:
            continue
        np.testing.assert_array_equal(value, expected[variable], strict=True)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_entries_that_lie_with_right_checksums_are_refused_too(
    tmp_path: Path, write_table: TableWriter, data: st.DataObject
) -> None:
    shutil.copy(FOLDER / "official.data-00000-of-00001", tmp_path)
    entries = [(key, bytearray(value)) for key, value in read_table((FOLDER / "official.index").read_bytes())]
    for _ in range(data.draw(st.integers(1, 4))):
        _, entry = entries[data.draw(st.integers(0, len(entries) - 1))]
        entry[data.draw(st.integers(0, len(entry) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "official.index").write_bytes(write_table([(key, bytes(value)) for key, value in entries]))
    try:
        checkpoint = read_checkpoint(tmp_path / "official")
    except CheckpointError:
        return
    for variable in checkpoint.variables:
        try:
            value = checkpoint[variable.name]
        except CheckpointError:
            continue
        assert (value.dtype.name, value.shape) == (variable.dtype, variable.shape)


HEADER = b"\x08\x01"  # one data file


@pytest.mark.parametrize(
    ("header", "entry", "reason"),
    [
        (HEADER + b"\x10\x01", b"", "big-endian"),
        (HEADER + b"\x1a\x02\x10\x09", b"", "needs a reader of format 9"),
        (b"\x0a\x00", b"", "field 1 of an entry should be a number"),
        (HEADER, b"\x08\x01\x10\x05", "field 2 of an entry should be a message"),
        (HEADER, b"\x08\x01\x12\x04\x12\x02\x08\x03\x28\x0d", r"v has 13 bytes, but 12 by its shape \(3,\) of float32"),
        (HEADER, b"\x08\x01\x18\x01\x28\x04", "v lies in data file 1, but there are only 1"),
        (HEADER, b"\x08\x01\x12\x0d\x12\x0b\x08" + b"\xff" * 9 + b"\x01", "impossible shape"),
        (HEADER, b"\x08\x01\x12\xa4\x01" + b"\x12\x02\x08\x01" * 41 + b"\x28\x04", "impossible shape"),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(
    tmp_path: Path, write_table: TableWriter, header: bytes, entry: bytes, reason: str
) -> None:
    (tmp_path / "x.index").write_bytes(write_table([(b"", header), (b"v", entry)]))
    with pytest.raises(CheckpointError, match=rf"x.index cannot be read: .*{reason}"):
        read_checkpoint(tmp_path / "x")


def test_tables_of_other_programs_are_refused(tmp_path: Path, write_table: TableWriter) -> None:
    for entries, reason in (
        ([(b"a", b"")], "no header"),
        ([], "no header"),
        ([(b"", HEADER), (b"\xff", b"")], "UTF-8"),
    ):
        (tmp_path / "x.index").write_bytes(write_table(entries))
        with pytest.raises(CheckpointError, match=reason):
            read_checkpoint(tmp_path / "x")


def test_a_folder_with_one_checkpoint_is_enough(official: Path) -> None:
    assert open_checkpoint(official.parent).prefix == official
    assert open_checkpoint(official).prefix == official
    with pytest.raises(CheckpointError, match=r"holds 4 checkpoints \(object_graph, official, sharded, unreadable\)"):
        open_checkpoint(FOLDER)
    Path(f"{official}.index").unlink()
    with pytest.raises(CheckpointError, match="holds no V2 checkpoint"):
        open_checkpoint(official.parent)
