"""Reading images and masks from disk: fast where the file is ordinary, and an error that names it where it is not.

OpenCV is the faster decoder, but it fills truncated JPEGs with grey and expands palette PNGs to colours, so both cases
are recognised from the bytes before it is trusted.
"""

import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.data.spec import DatasetSpec
from atrous.errors import DataError

Pixels = NDArray[np.uint8]

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_COLOUR_TYPES = {_GREY: "grayscale", _RGB: "RGB", _PALETTE: "palette", _GREY_ALPHA: "gray + alpha", _RGBA: "RGBA"}


class PngHeader(NamedTuple):
    """The fields of a PNG's IHDR chunk that decide how it is read."""

    width: int
    height: int
    bit_depth: int
    colour_type: int
    compression: int
    filtering: int
    interlace: int


def read_image(path: str | Path) -> Pixels:
    """Read a JPEG or PNG image as RGB.

    Args:
        path: the image file. An EXIF rotation is not applied: masks are drawn on the stored pixels.

    Returns:
        uint8 array [H, W, 3], RGB.

    Raises:
        DataError: the file is missing, truncated, corrupt or not an image.
    """
    data = _read_bytes(path, kind="image")
    if not _looks_whole(data):
        _check_with_pillow(data, path)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise DataError(f"image {str(path)!r} cannot be decoded ({len(data)} bytes); expected a JPEG or PNG file")
    return np.asarray(image, np.uint8)


def read_mask(path: str | Path) -> Pixels:
    """Read a mask as label indices, never as colours.

    Args:
        path: an 8-bit palette or grayscale PNG file.

    Returns:
        uint8 array [H, W] of the stored indices.

    Raises:
        DataError: the file is missing, truncated or corrupt, or holds colours, alpha or 16 bits instead of indices.
    """
    data = _read_bytes(path, kind="mask")
    header = _png_header(data, path)
    _check_mask_header(header, path)
    try:
        if header.bit_depth == 8 and not header.interlace:
            rows = _inflate(data, header)
            if not rows[:, 0].any():  # filter type 0 in every row: the bytes are the indices
                return np.ascontiguousarray(rows[:, 1:])
        with Image.open(io.BytesIO(data)) as mask:
            return np.array(mask, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, zlib.error, struct.error) as error:
        raise DataError(f"mask {str(path)!r} is truncated or corrupt ({error}); copy it again") from error


def check_pair(
    image: Pixels, mask: Pixels, spec: DatasetSpec, *, image_path: str, mask_path: str, void: Iterable[int] = ()
) -> None:
    """Check that a mask belongs to its image and to the classes of the data set.

    Args:
        image: [H, W, 3].
        mask: uint8 [H, W], as stored on disk.
        spec: the label space.
        image_path: the image's file, for the message.
        mask_path: the mask's file, for the message.
        void: further values on disk that mean "ignored" besides the spec's ignore label.

    Raises:
        DataError: sizes differ, or a value is neither a class nor ignored.
    """
    if image.shape[:2] != mask.shape:
        (rows, columns), (mask_rows, mask_columns) = image.shape[:2], mask.shape
        raise DataError(
            f"mask {mask_path!r} is {mask_columns}x{mask_rows} (width x height), but its image {image_path!r} is "
            f"{columns}x{rows}; they must have the same size"
        )
    ignored = sorted({spec.ignore_label, *void})
    illegal = sorted(set(range(spec.num_classes, 256)) - set(ignored))
    if not illegal or not cv2.countNonZero(cv2.inRange(mask, illegal[0], illegal[-1])):
        return  # the ordinary case, at a fifth of the cost of looking at each value
    wrong = mask[np.isin(mask, illegal)]
    if wrong.size:
        values = np.unique(wrong).tolist()
        listed = ", ".join(str(value) for value in values[:8]) + (", ..." if len(values) > 8 else "")
        raise DataError(
            f"mask {mask_path!r} holds label {listed} in {wrong.size} pixels; allowed in {spec.name!r} "
            f"are 0..{spec.num_classes - 1} and {', '.join(map(str, ignored))} (ignored)"
        )


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) from an image's header, without decoding pixels.

    Raises:
        DataError: the file is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError as error:
        raise DataError(f"image {str(path)!r} cannot be read ({error})") from error


def _read_bytes(path: str | Path, *, kind: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # a Path costs more than opening the file
            data = file.read()
    except OSError as error:
        raise DataError(f"{kind} {str(path)!r} cannot be read ({error.strerror})") from error
    if not data:
        raise DataError(f"{kind} {str(path)!r} is empty (0 bytes); copy it again")
    return data


def _looks_whole(data: bytes) -> bool:
    """Tell whether a JPEG or PNG ends with its end marker; anything else is left to the slower check."""
    return (data.startswith(_JPEG_START) and data.endswith(_JPEG_END)) or (
        data.startswith(_PNG_START) and data.endswith(_PNG_END)
    )


def _check_with_pillow(data: bytes, path: str | Path) -> None:
    """Decode strictly: unlike OpenCV, Pillow refuses what is cut off, but accepts bytes after the end marker."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"image {str(path)!r} is truncated or corrupt ({len(data)} bytes, no end marker); copy it again"
        ) from error


def _png_header(data: bytes, path: str | Path) -> PngHeader:
    if not data.startswith(_PNG_START):
        raise DataError(f"mask {str(path)!r} is not a PNG file; expected an 8-bit palette or grayscale PNG of labels")
    if len(data) < 29 or data[12:16] != b"IHDR":
        raise DataError(f"mask {str(path)!r} is truncated or corrupt ({len(data)} bytes); copy it again")
    return PngHeader(*struct.unpack(">IIBBBBB", data[16:29]))


def _check_mask_header(header: PngHeader, path: str | Path) -> None:
    indices = header.colour_type == _PALETTE or (header.colour_type == _GREY and header.bit_depth == 8)
    if not indices:
        found = f"{header.bit_depth}-bit {_COLOUR_TYPES.get(header.colour_type, 'unknown')}"
        raise DataError(
            f"mask {str(path)!r} is a {found} PNG; expected an 8-bit palette or grayscale PNG whose pixels are label "
            "indices (convert colours to indices first)"
        )


def _inflate(data: bytes, header: PngHeader) -> Pixels:
    """Return the PNG's rows [H, 1 + W]: each row's filter type, then its bytes. zlib checks the content's sum."""
    position, chunks = len(_PNG_START), []
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        if data[position + 4 : position + 8] == b"IDAT":
            chunks.append(data[position + 8 : position + 8 + length])
        position += 12 + length
    content = zlib.decompress(b"".join(chunks))
    return np.frombuffer(content, np.uint8).reshape(header.height, header.width + 1)
