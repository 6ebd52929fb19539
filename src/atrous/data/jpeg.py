"""JPEG files from the inside: the size that the header says, and whether the content can be as much."""

import struct
from pathlib import Path

from atrous.errors import DataError

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"

_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive, all with Huffman codes
_SCAN = 0xDA
_MOST = 512  # pixels of a byte: a block of 8x8 has at least one code, of at least one bit


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return (height, width) as a JPEG's header says; None for other files, and for kinds that hardly exist."""
    if not data.startswith(JPEG_START):
        return None
    position = len(JPEG_START)
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return height, width
        if marker == _SCAN:
            return None
        # Any number of 0xFF may stand before a marker; every other segment has its length.
        position += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", data, position + 2)[0]
    return None


def check_can_hold(data: bytes, path: str | Path) -> None:
    """Check that a JPEG has the bytes that its pixels take at the very least; a decoder would paint the others grey.

    Args:
        data: the file's content; of another kind of file, nothing is checked.
        path: the file, for messages.

    Raises:
        DataError: it has fewer.
    """
    size = jpeg_size(data)
    if size is not None and size[0] * size[1] > _MOST * len(data):
        raise DataError(
            f"image {str(path)!r} is truncated or corrupt ({len(data)} bytes cannot hold its {size[1]}x{size[0]} "
            "pixels, width x height); copy it again"
        )
