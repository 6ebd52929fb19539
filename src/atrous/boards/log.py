"""The file in which W&B's client keeps a run: records in LevelDB's log format, after a header of its own.

A block is 32 KiB; a chunk in it is CRC-32 (4 bytes, little endian, over kind and content), length (2), kind (1: whole
record, 2: first part, 3: middle, 4: last part) and content. The first block begins with `:W&B`, a magic number and a
version. https://github.com/google/leveldb/blob/main/doc/log_format.md
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from atrous.errors import StoreError

_BLOCK, _HEADER = 32768, struct.Struct("<IHB")
_BEGINNING = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_records(path: Path) -> Iterator[bytes]:
    """Every record of a `run-ID.wandb` file, as serialised `wandb_internal.Record`s.

    A file that was cut off, as by a full disk or a killed process, ends with its last whole record.

    Raises:
        StoreError: it is another kind of file, or damaged in its middle.
    """
    for record, _ in _ended_records(path):
        yield record


def whole_size(path: Path) -> int:
    """The bytes of a file up to the end of its last whole record; 0 where it has none.

    Raises:
        StoreError: it is another kind of file, or damaged in its middle.
    """
    return max((end for _, end in _ended_records(path)), default=0)


def _ended_records(path: Path) -> Iterator[tuple[bytes, int]]:
    content = path.read_bytes()
    if _BEGINNING.startswith(content):  # cut off before its first record
        return
    if not content.startswith(_BEGINNING):
        raise StoreError(f"{path}: not a file of W&B's client (it begins with {content[:7]!r}, not {_BEGINNING!r})")
    position, parts = len(_BEGINNING), b""
    while position + _HEADER.size <= len(content):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER.size:
            position += left
            continue
        checksum, length, kind = _HEADER.unpack_from(content, position)
        body = content[position + _HEADER.size : position + _HEADER.size + length]
        if len(body) < length or not kind:
            return
        if zlib.crc32(bytes([kind]) + body) != checksum or kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST):
            raise StoreError(f"{path}: damaged at byte {position}")
        position += _HEADER.size + length
        parts = body if kind in (_WHOLE, _FIRST) else parts + body
        if kind in (_WHOLE, _LAST):
            yield parts, position
