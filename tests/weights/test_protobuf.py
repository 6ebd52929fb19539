"""The wire format against the examples of its documentation; damaged messages are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrous.errors import CheckpointError
from atrous.weights.protobuf import read_fields, read_varint


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (b"\x08\x96\x01", [(1, 150)]),  # the documentation's Test1
        (b"\x12\x07testing", [(2, b"testing")]),  # Test2
        (b"\x1a\x03\x08\x96\x01", [(3, b"\x08\x96\x01")]),  # Test3: a message within
        (b"\x35\x01\x00\x00\x80", [(6, 0x80000001)]),
        (b"\x09" + bytes(7) + b"\x01", [(1, 1 << 56)]),
        (b"\x08" + b"\xff" * 9 + b"\x01", [(1, 2**64 - 1)]),
        (b"", []),
    ],
)
def test_fields_are_read_in_order(message: bytes, fields: list[tuple[int, object]]) -> None:
    assert list(read_fields(message)) == fields


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\x08", "middle of a number"),
        (b"\x08\x96", "middle of a number"),
        (b"\x08" + b"\xff" * 11, "more than 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "more than 64 bits"),
        (b"\x12\x07test", "middle of a field"),
        (b"\x35\x01\x00", "middle of a field"),
        (b"\x0b", "does not exist"),
    ],
)
def test_a_damaged_message_is_refused(message: bytes, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        list(read_fields(message))


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_a_number_ends_where_the_next_begins(value: int, rest: bytes) -> None:
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    written = bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])
    assert read_varint(written + rest, 0) == (value, len(written))
