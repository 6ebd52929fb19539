"""CRC-32C against published values, polynomial division by hand, and another library where it is installed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrous.weights.crc32c import crc32c, masked_crc32c


def by_definition(data: bytes) -> int:
    """Divide bit by bit, as RFC 3720 defines it."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"123456789", 0xE3069283),
        (b"", 0),
        # RFC 3720, appendix B.4, read as little-endian numbers
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_published_values(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


@given(st.binary(max_size=300))
def test_any_bytes_equal_the_division_bit_by_bit(data: bytes) -> None:
    assert crc32c(data) == by_definition(data)


@pytest.mark.parametrize("size", [4 * 2**14 - 4, 4 * 2**14 - 3, 4 * 2**14, 4 * 2**14 + 1, 3 * 4 * 2**14 + 5])
def test_sizes_around_the_number_of_lanes_equal_the_division(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    assert crc32c(data) == by_definition(data.tobytes())


def test_the_mask_is_leveldbs() -> None:
    # util/crc32c_test.cc of LevelDB: a masked value differs, and the mask is undone by its inverse
    value = crc32c(b"foo")
    rotated = (masked_crc32c(b"foo") - 0xA282EAD8) & 0xFFFFFFFF
    assert masked_crc32c(b"foo") != value
    assert (rotated >> 17 | rotated << 15) & 0xFFFFFFFF == value


def test_large_arrays_equal_another_library() -> None:
    google = pytest.importorskip("google_crc32c", reason="pip install google-crc32c compares with it")
    data = np.random.default_rng(0).integers(0, 256, 5_000_003, dtype=np.uint8)
    assert crc32c(data) == google.value(data.tobytes())
