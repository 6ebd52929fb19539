"""Files that Pillow opens: as pictures only, and with an error that names the file where one is damaged.

And the masks that it writes, in VOC's palette.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from atrous.data.jpeg import JPEG_START
from atrous.data.png import PNG_START
from atrous.data.spec import voc_colour
from atrous.errors import DataError

# What is decoded in this process. Pillow would hand an EPS file, whatever its name, to Ghostscript, which runs it.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
# What Pillow raises for damaged files; the last for more pixels than it takes, whether they are there or not.
DAMAGED = (OSError, ValueError, SyntaxError, OverflowError, Image.DecompressionBombError)

_STARTS = (JPEG_START, PNG_START)  # of which something is missing where Pillow does not know them
_DEEP_MODES = ("I", "F")  # Pillow's 16 and 32 bits per pixel, I;16 among them


def check_whole(data: bytes, path: str | Path) -> NDArray[np.uint8] | None:
    """Decode strictly: unlike OpenCV, Pillow refuses what is cut off, but accepts bytes after the end marker.

    Args:
        data: the file's content.
        path: the file, for messages.

    Returns:
        The pixels, RGB, of a TIFF with alpha, by which OpenCV would multiply its colours, or in CIELAB, whose white it
        takes for another one; of others None.

    Raises:
        DataError: the content is truncated, corrupt or no image, or has more than 8 bits per channel.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            mode = image.mode
            is_misread = image.format == "TIFF" and (image.has_transparency_data or mode == "LAB")
            pixels = np.asarray(image.convert("RGB")) if is_misread else None
            deepest = max(image.tag_v2.get(BITSPERSAMPLE, (8,))) if isinstance(image, TiffImageFile) else 8
    except Image.DecompressionBombError as error:
        raise DataError(
            f"image {str(path)!r} claims more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, which are read of "
            "a whole JPEG or PNG file only: save it as a PNG, or cut it into parts; if it has fewer, it is corrupt"
        ) from error
    except UnidentifiedImageError as error:
        if data.startswith(_STARTS):
            raise _damaged(data, path) from error
        raise no_image(path) from error
    except DAMAGED as error:
        raise _damaged(data, path) from error
    if is_deep(mode) or deepest > 8:  # of several channels Pillow would take the upper 8 bits
        raise too_deep(path)
    return pixels


def no_image(path: str | Path) -> DataError:
    """The error of a file that is something else."""
    return DataError(
        f"image {str(path)!r} is not an image that can be read: {', '.join(FORMATS)}; convert it to one of them"
    )


def _damaged(data: bytes, path: str | Path) -> DataError:
    return DataError(f"image {str(path)!r} is truncated or corrupt ({len(data)} bytes, no end marker); copy it again")


def is_deep(mode: str) -> bool:
    """Tell whether Pillow's name of a kind of pixels means 16 or 32 bits, which it would cut off at 255."""
    return mode.startswith(_DEEP_MODES)


def too_deep(path: str | Path) -> DataError:
    """The error of an image file whose range is unknown."""
    return DataError(
        f"image {str(path)!r} has more than 8 bits per channel; map the range that matters to 0..255 and save it with 8"
    )


def voc_picture(labels: NDArray[np.integer[Any]]) -> Image.Image:
    """Return labels [H, W] of 0..255 as a picture in VOC's palette, whose indices are the labels."""
    picture = Image.fromarray(np.asarray(labels, np.uint8))
    picture.putpalette([channel for label in range(256) for channel in voc_colour(label)])
    return picture
