"""LevelDB's tables: blocks, shared keys, checksums; damage of any kind is a CheckpointError."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrous.errors import CheckpointError
from atrous.weights.sstable import read_table

TableWriter = Callable[..., bytes]
OFFICIAL = Path(__file__).parents[1] / "oracles" / "tensorflow" / "checkpoint" / "official.index"


@given(
    st.dictionaries(st.text("ab/", max_size=12).map(str.encode), st.binary(max_size=20), max_size=40),
    st.integers(1, 9),
    st.integers(1, 5),
)
def test_any_blocks_and_restarts_are_read_back(
    write_table: TableWriter, content: dict[bytes, bytes], per_block: int, restart_every: int
) -> None:
    entries = sorted(content.items())
    assert read_table(write_table(entries, per_block=per_block, restart_every=restart_every)) == entries


@pytest.mark.parametrize("size", [0, 1, 47, 48, 300])
def test_a_cut_off_table_is_refused(size: int) -> None:
    with pytest.raises(CheckpointError, match="does not end as a TensorFlow V2 index does"):
        read_table(OFFICIAL.read_bytes()[:size])


def test_every_byte_before_the_footer_is_guarded() -> None:
    whole = OFFICIAL.read_bytes()
    unguarded = []
    for position in range(len(whole) - 48):
        changed = bytearray(whole)
        changed[position] ^= 0x10
        try:
            read_table(bytes(changed))
        except CheckpointError:
            continue
        unguarded.append(position)
    # The metaindex block (8 bytes, 5 of trailer) is empty, and nothing is read of it.
    assert len(unguarded) == 13
    assert unguarded == list(range(unguarded[0], unguarded[0] + 13))


def test_a_damaged_block_names_both_checksums() -> None:
    whole = bytearray(OFFICIAL.read_bytes())
    whole[20] ^= 1
    with pytest.raises(CheckpointError, match=r"block at byte 0 is damaged: its CRC-32C is 0x\w{8}, expected 0x\w{8}"):
        read_table(bytes(whole))


@pytest.mark.parametrize(("compression", "name"), [(1, "snappy"), (7, "zstd"), (99, "kind 99")])
def test_compressed_blocks_are_named(write_table: TableWriter, compression: int, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"compressed \({name}\)"):
        read_table(write_table([(b"a", b"1")], compression=compression))


def test_keys_out_of_order_are_refused(write_table: TableWriter) -> None:
    for keys in ((b"b", b"a"), (b"a", b"a")):
        with pytest.raises(CheckpointError, match="not in order"):
            read_table(write_table([(key, b"") for key in keys]))


@pytest.mark.parametrize(
    "damage",
    [
        lambda block: b"\x01" + block[1:],  # shares a byte with no key before it
        lambda block: block[:1] + b"\x7f" + block[2:],  # a key of 127 bytes
        lambda block: block[:2] + b"\x7f" + block[3:],  # a value of 127 bytes
        lambda block: block[:-4] + b"\xff\0\0\0",  # 255 restarts
        lambda block: b"",
    ],
)
def test_an_entry_that_leaves_its_block_is_refused(write_table: TableWriter, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(CheckpointError, match=r"longer than its block|too small for its array"):
        read_table(write_table([(b"key", b"value")], damage=damage))


def test_blocks_that_overlap_are_refused(write_table: TableWriter) -> None:
    def twice(index: bytes) -> bytes:
        """Send b to the block of a: entries are nothing shared, one byte of key, two of value, key, value."""
        assert (index[3:4], index[9:10]) == (b"a", b"b")
        return index[:10] + index[4:6] + index[12:]

    with pytest.raises(CheckpointError, match="overlap"):
        read_table(write_table([(b"a", b""), (b"b", b"")], per_block=1, damage_index=twice))


@given(st.data())
def test_damage_that_checksums_do_not_see_is_refused_or_harmless(write_table: TableWriter, data: st.DataObject) -> None:
    def damage(block: bytes) -> bytes:
        changed = bytearray(block)
        for _ in range(data.draw(st.integers(1, 3))):
            changed[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
        return bytes(changed)

    where = data.draw(st.sampled_from(["damage", "damage_index"]))
    table = write_table([(b"aa", b"1"), (b"ab", b"22"), (b"b", b"")], per_block=2, **{where: damage})
    try:
        entries = read_table(table)
    except CheckpointError:
        return
    assert all(isinstance(part, bytes) for entry in entries for part in entry)
