"""Reading images and masks from disk: fast where the file is ordinary, and an error that names it where it is not.

OpenCV is the faster JPEG decoder, but it fills truncated JPEGs with grey and expands palette PNGs to colours, so both
cases are recognised from the bytes before it is trusted. Ordinary PNGs are left to a decoder faster than libpng.
"""

import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from atrous.data.jpeg import JPEG_END, JPEG_START, check_can_hold
from atrous.data.pillow import DAMAGED, FORMATS, check_whole, no_image, too_deep
from atrous.data.png import (
    GREY,
    PALETTE,
    PNG_END,
    PNG_START,
    RGB,
    PngHeader,
    decode_plain,
    inflate,
    png_header,
)
from atrous.errors import DataError

Pixels = NDArray[np.uint8]

IMAGE_ENDS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")  # of the names of files that are images
# Of the names of images that are not looked for in a folder; most of them are not read.
OTHER_IMAGE_ENDS = (
    *(".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpf", ".jxl", ".jfif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".dng", ".psd", ".exr", ".hdr"),
)

_COLOURS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH  # otherwise 16 bits would be cut to 8 without a word


def read_image(path: str | Path, *, upright: bool = False) -> Pixels:
    """Read an image, a JPEG or another of `IMAGE_ENDS`, as RGB.

    Gray becomes three equal channels, CMYK and palettes become RGB, and alpha is dropped.

    Args:
        path: the image file.
        upright: whether an image is turned as its EXIF orientation says, such as a phone's photo. Not for data sets,
            whose masks are drawn on the stored pixels. A TIFF is turned in any case, as every decoder does.

    Returns:
        uint8 array [H, W, 3], RGB.

    Raises:
        DataError: the file is missing, truncated, corrupt or not an image, or has more than 8 bits per channel.
    """
    data = _read_bytes(path, kind="image")
    if not (upright and b"eXIf" in data) and (plain := decode_plain(data, channels=3)) is not None:
        return plain
    if not _looks_whole(data) and (pixels := check_whole(data, path)) is not None:
        return pixels
    check_can_hold(data, path)
    flags = _COLOURS if upright else _COLOURS | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # its header claims more pixels than OpenCV, or this machine, takes
        image = None
    if image is None:
        raise DataError(f"image {str(path)!r} cannot be decoded ({len(data)} bytes); expected a JPEG or PNG file")
    if image.dtype != np.uint8:
        raise too_deep(path)
    return np.asarray(image, np.uint8)


def read_mask(path: str | Path, *, colours: bool = False) -> Pixels:
    """Read a mask as label indices.

    Args:
        path: an 8-bit palette or grayscale PNG file.
        colours: whether an 8-bit RGB PNG is read too, as colours.

    Returns:
        uint8 array [H, W] of the stored indices, or [H, W, 3] of colours.

    Raises:
        DataError: the file is missing, truncated or corrupt, or holds colours, alpha or 16 bits instead of indices.
    """
    data = _read_bytes(path, kind="mask")
    header = png_header(data, path)
    _check_mask_header(header, path, colours=colours)
    try:
        if (plain := decode_plain(data, channels=1)) is not None:
            return plain[:, :, 0]
        if header.bit_depth == 8 and not header.interlace and header.colour_type == PALETTE:
            rows = inflate(data, header)
            if not rows[:, 0].any():  # filter type 0 in every row: the bytes are the indices
                return np.ascontiguousarray(rows[:, 1:])
        with Image.open(io.BytesIO(data), formats=("PNG",)) as mask:
            return np.array(mask, dtype=np.uint8)
    except (*DAMAGED, zlib.error, struct.error) as error:
        raise DataError(f"mask {str(path)!r} is truncated or corrupt ({error}); copy it again") from error


def check_sizes(image: Pixels, mask: Pixels, *, image_path: str, mask_path: str) -> None:
    """Check that a mask has the size of its image.

    Args:
        image: [H, W, 3].
        mask: [H, W].
        image_path: the image's file, for the message.
        mask_path: the mask's file, for the message.

    Raises:
        DataError: the sizes differ.
    """
    if image.shape[:2] == mask.shape:
        return
    (rows, columns), (mask_rows, mask_columns) = image.shape[:2], mask.shape
    turned = (
        "; if the mask was drawn on the image as its EXIF rotation shows it, rotate the image's pixels themselves"
        if (mask_rows, mask_columns) == (columns, rows)
        else ""
    )
    raise DataError(
        f"mask {mask_path!r} is {mask_columns}x{mask_rows} (width x height), but its image {image_path!r} is "
        f"{columns}x{rows}; they must have the same size{turned}"
    )


def check_labels(mask: Pixels, *, num_classes: int, ignored: Iterable[int], name: str, path: str) -> None:
    """Check that a mask holds nothing but classes and ignored values.

    Args:
        mask: uint8 [H, W], as stored on disk.
        num_classes: the values 0 to num_classes - 1 are classes.
        ignored: further values that are allowed.
        name: the data set, for the message.
        path: the mask's file, for the message.

    Raises:
        DataError: a value is neither a class nor ignored.
    """
    allowed = sorted(set(ignored))
    illegal = sorted(set(range(num_classes, 256)) - set(allowed))
    if not illegal or not cv2.countNonZero(cv2.inRange(mask, illegal[0], illegal[-1])):
        return  # the ordinary case, at a fifth of the cost of looking at each value
    wrong = mask[np.isin(mask, illegal)]
    if wrong.size:
        values = np.unique(wrong).tolist()
        listed = ", ".join(str(value) for value in values[:8]) + (", ..." if len(values) > 8 else "")
        raise DataError(
            f"mask {path!r} holds label {listed} in {wrong.size} pixels; allowed in {name!r} "
            f"are 0..{num_classes - 1} and {', '.join(map(str, allowed))} (ignored)"
        )


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) from an image's header, without decoding pixels.

    Raises:
        DataError: the file is missing or not an image.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.height, image.width
    except UnidentifiedImageError as error:
        raise no_image(path) from error
    except DAMAGED as error:
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
    return (data.startswith(JPEG_START) and data.endswith(JPEG_END)) or (
        data.startswith(PNG_START) and data.endswith(PNG_END)
    )


def _check_mask_header(header: PngHeader, path: str | Path, *, colours: bool) -> None:
    indices = header.colour_type == PALETTE or (header.colour_type == GREY and header.bit_depth == 8)
    if not indices and not (colours and header.colour_type == RGB and header.bit_depth == 8):
        expected = (
            "palette, grayscale or RGB PNG" if colours else "palette or grayscale PNG whose pixels are label indices"
        )
        advice = "drop alpha and save with 8 bits" if colours else "convert colours to indices first"
        raise DataError(f"mask {str(path)!r} is a {header.kind} PNG; expected an 8-bit {expected} ({advice})")
