"""PNG files from the inside: what the pixels are, palette indices without colours, and the ordinary kinds at speed."""

import os
import struct
import zlib
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import kornia_rs.io
import numpy as np
from numpy.typing import NDArray

from atrous.errors import DataError

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_COLOUR_TYPES = {GREY: "grayscale", RGB: "RGB", PALETTE: "palette", GREY_ALPHA: "gray + alpha", RGBA: "RGBA"}
# By channels: the decoder's name, and the header's bytes from bit depth to interlacing (8 bits, not interlaced).
_PLAIN = MappingProxyType({3: ("rgb", b"\x08\x02\0\0\0"), 1: ("mono", b"\x08\0\0\0\0")})
_MOST = 1032  # times that deflate can shrink its input


class PngHeader(NamedTuple):
    """The fields of a PNG's IHDR chunk that decide how it is read."""

    width: int
    height: int
    bit_depth: int
    colour_type: int
    compression: int
    filtering: int
    interlace: int

    @property
    def kind(self) -> str:
        """What the pixels are, in words, such as "8-bit palette"."""
        return f"{self.bit_depth}-bit {_COLOUR_TYPES.get(self.colour_type, 'unknown')}"


def png_header(data: bytes, path: str | Path) -> PngHeader:
    """Read the header of a mask's bytes.

    Args:
        data: the file's content.
        path: the file, for messages.

    Raises:
        DataError: the file is not a PNG or ends within its header.
    """
    if not data.startswith(PNG_START):
        raise DataError(f"mask {str(path)!r} is not a PNG file; expected an 8-bit palette or grayscale PNG of labels")
    if len(data) < 29 or data[12:16] != b"IHDR":
        raise DataError(f"mask {str(path)!r} is truncated or corrupt ({len(data)} bytes); copy it again")
    return PngHeader(*struct.unpack(">IIBBBBB", data[16:29]))


def png_size(data: bytes) -> tuple[int, int] | None:
    """Return (height, width) as a PNG's header says; None for other files."""
    if not data.startswith(PNG_START) or data[12:16] != b"IHDR" or len(data) < 24:
        return None
    width, height = struct.unpack(">II", data[16:24])
    return height, width


def read_palette(path: str) -> NDArray[np.uint8] | None:
    """Read the colours of a palette PNG, uint8 [colours, 3], without its pixels; None where it has no palette.

    Args:
        path: a file that has been decoded, so that its chunks are whole.
    """
    with open(path, "rb") as file:  # noqa: PTH123  # a Path costs more than opening the file
        if file.read(len(PNG_START) + 25)[25:26] != bytes([PALETTE]):
            return None
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"PLTE":
                return np.frombuffer(file.read(length), np.uint8).reshape(-1, 3)
            file.seek(length + 4, os.SEEK_CUR)
    return None


def decode_plain(data: bytes, *, channels: int, rows: int | None = None) -> NDArray[np.uint8] | None:
    """Decode an ordinary PNG more than twice as fast as libpng.

    Args:
        data: the file's content.
        channels: 3 for RGB, 1 for gray.
        rows: decode only so many from the top, at their share of the cost; the bytes of the others are not looked at.

    Returns:
        uint8 array [H, W, channels], of `rows` rows where fewer are asked for. None where the file is of another kind
        or damaged, which a slower reader can tell apart.
    """
    mode, header = _PLAIN[channels]
    size = png_size(data)
    if size is None or data[24:29] != header or not data.endswith(PNG_END):
        return None
    height, width = size
    if data[29:33] != zlib.crc32(data[12:29]).to_bytes(4, "big") or height * width * channels > _MOST * len(data):
        return None  # memory is taken for what the header says, so it must be true
    if rows is not None and rows < height:
        height, data = rows, _with_height(data, rows)
    try:
        pixels = kornia_rs.io.decode_image_png_u8(data, (height, width), mode)
    except Exception:  # it raises nothing more specific
        return None
    return np.asarray(pixels, np.uint8).reshape(height, width, channels)


def read_top(path: str, *, rows: int, size: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Read the first rows of a PNG image as RGB, at their share of the cost.

    Args:
        path: the image file.
        rows: how many.
        size: (height, width) that the image must have.

    Returns:
        uint8 array [rows, W, 3]; None where the file is no ordinary PNG of that size, or is missing or damaged.
    """
    if not path.endswith(".png"):
        return None
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # a Path costs more than opening the file
            data = file.read()
    except OSError:
        return None
    return decode_plain(data, channels=3, rows=rows) if png_size(data) == size else None


def _with_height(data: bytes, rows: int) -> bytes:
    """Let the header speak of fewer rows than there are, so that a decoder stops after them."""
    header = b"".join((data[12:20], rows.to_bytes(4, "big"), data[24:29]))
    return b"".join((data[:12], header, zlib.crc32(header).to_bytes(4, "big"), memoryview(data)[33:]))


def inflate(data: bytes, header: PngHeader) -> NDArray[np.uint8]:
    """Return the rows [H, 1 + W] of an 8-bit PNG of one channel: each row's filter type, then its bytes.

    Raises:
        ValueError: the content has another length than the header says.
        zlib.error: the content is damaged; zlib checks its sum.
        struct.error: a chunk is cut off.
    """
    position, chunks = len(PNG_START), []
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        if kind == b"IEND":
            break  # what follows is not the picture's
        if kind == b"IDAT":
            chunks.append(data[position + 8 : position + 8 + length])
        position += 12 + length
    stream, length = zlib.decompressobj(), header.height * (header.width + 1)
    content = stream.decompress(b"".join(chunks), length + 1)  # no more memory than the header says
    if len(content) != length or not stream.eof:
        raise ValueError(f"its content is not the {length} bytes that {header.height} x {header.width} pixels take")
    return np.frombuffer(content, np.uint8).reshape(header.height, header.width + 1)
