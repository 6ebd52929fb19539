"""LevelDB's table, the format of a checkpoint's .index: sorted keys and values in blocks with checksums.

    data blocks ... | metaindex block | index block | footer (48 bytes)

A block is entries, then an array of restarts, then five bytes: how it is compressed, and a masked CRC-32C. An entry is
three numbers (bytes shared with the key before, further bytes of the key, bytes of the value), key, value. The
index block's values say where the data blocks are. Source: doc/table_format.md of google/leveldb.
"""

from collections.abc import Iterator
from itertools import pairwise

from atrous.errors import CheckpointError
from atrous.weights.crc32c import masked_crc32c
from atrous.weights.protobuf import read_varint

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
_TRAILER = 5
_COMPRESSIONS = ("none", "snappy", "zlib", "bzip2", "lz4", "lz4hc", "xpress", "zstd")


def read_table(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the keys and values of a table, in its order, after checking every block's checksum.

    Args:
        data: The whole file.

    Raises:
        CheckpointError: The file is no table, is cut off or damaged, or is compressed; the message names no file.
    """
    if len(data) < _FOOTER or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise CheckpointError("it does not end as a TensorFlow V2 index does: cut off, or a file of another kind")
    _, _, position = _read_handle(data[-_FOOTER:], 0)  # the metaindex, which TensorFlow leaves empty
    start, size, _ = _read_handle(data[-_FOOTER:], position)
    entries: list[tuple[bytes, bytes]] = []
    end = 0
    for _, handle in _read_entries(_read_block(data, start, size, what="the index block")):
        start, size, _ = _read_handle(handle, 0)
        if start < end:  # a small file could otherwise name one block a million times
            raise CheckpointError("its blocks overlap")
        end = start + size
        entries += _read_entries(_read_block(data, start, size, what=f"the block at byte {start}"))
    if any(before >= after for (before, _), (after, _) in pairwise(entries)):
        raise CheckpointError("its keys are not in order")
    return entries


def _read_handle(data: bytes, position: int) -> tuple[int, int, int]:
    """Return where a block starts, its size, and the position after both numbers."""
    start, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return start, size, position


def _read_block(data: bytes, start: int, size: int, *, what: str) -> bytes:
    end = start + size
    if end + _TRAILER > len(data) - _FOOTER:
        raise CheckpointError(f"{what} should end at byte {end + _TRAILER}, but the file has {len(data)}")
    checksum = int.from_bytes(data[end + 1 : end + _TRAILER], "little")
    found = masked_crc32c(data[start : end + 1])
    if found != checksum:
        raise CheckpointError(f"{what} is damaged: its CRC-32C is {found:#010x}, expected {checksum:#010x}")
    if data[end]:
        known = data[end] < len(_COMPRESSIONS)
        name = _COMPRESSIONS[data[end]] if known else f"kind {data[end]}"
        raise CheckpointError(
            f"{what} is compressed ({name}); only tables as TensorFlow writes them, without, are read"
        )
    return data[start:end]


def _read_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise CheckpointError("a block is too small for its array of restarts")
    position, key = 0, b""
    while position < end:
        shared, position = read_varint(block, position)
        added, position = read_varint(block, position)
        length, position = read_varint(block, position)
        if shared > len(key) or position + added + length > end:
            raise CheckpointError("an entry of a block is longer than its block")
        key = key[:shared] + block[position : position + added]
        position += added
        yield key, block[position : position + length]
        position += length
