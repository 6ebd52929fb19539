"""A crop window and what it shows: the geometry of "scale the image, flip it, pad it at the bottom and right, crop".

Only the part of the source that the window shows is scaled, and the result goes straight to its place as bytes.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from atrous.data.files import Pixels

_PHASE = 1 / 64  # source pixels by which a crop may be displaced against a crop of the whole scaled image

Span = tuple[slice, float, int]  # source pixels, the factor to scale them by, scaled pixels to drop at their start


class CropWindow(NamedTuple):
    """One draw: which part of the scaled image is seen. The offset counts in the flipped, scaled image.

    Attributes:
        scaled: (height, width) of the whole image after scaling.
        top: first row of the crop in the scaled image.
        left: first column of the crop in the scaled and flipped image.
        size: (height, width) of the crop, padding included.
        flip: whether left and right are exchanged.
    """

    scaled: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]
    flip: bool

    @property
    def extent(self) -> tuple[int, int]:
        """(height, width) of the crop's part that shows the image; the rest, at the bottom and right, is padding."""
        return min(self.size[0], self.scaled[0]), min(self.size[1], self.scaled[1])


class Crop(NamedTuple):
    """A training crop.

    Attributes:
        image: uint8 RGB [H, W, 3], 0 outside the extent.
        label: uint8 [H, W], the ignore label outside the extent.
        extent: (height, width) of the real content, at the top left.
    """

    image: Pixels
    label: Pixels
    extent: tuple[int, int]


def apply(
    image: Pixels,
    label: Pixels,
    window: CropWindow,
    *,
    ignore_label: int = 255,
    into: tuple[Pixels, Pixels] | None = None,
) -> Crop:
    """Cut a window out of an image and its label.

    Args:
        image: uint8 [H, W, 3], or its first `rows_shown` rows.
        label: uint8 [H, W].
        window: the draw.
        ignore_label: label of the padding.
        into: arrays to write the crop's image and label to, such as a batch's memory; new ones by default.

    Returns:
        The crop; bilinear image, nearest label (pixel centres aligned in both).
    """
    image_into, label_into = into if into is not None else (None, None)
    return Crop(
        image=window_image(image, window, fill=0, into=image_into, source_height=label.shape[0]),
        label=window_label(label, window, fill=ignore_label, into=label_into),
        extent=window.extent,
    )


def rows_shown(window: CropWindow, height: int, width: int) -> int:
    """Return how many rows from the top of a source of the given size are needed for a window's image."""
    return _spans(window, height, width)[0][0].stop  # type: ignore[no-any-return]  # slices have no types


def window_image(
    image: Pixels,
    window: CropWindow,
    *,
    fill: float | tuple[float, ...],
    into: Pixels | None = None,
    source_height: int | None = None,
) -> Pixels:
    """Scale bilinearly the part of an image [H, W, 3] that a window shows; pad with `fill`.

    `source_height` is H where the image is only the source's top.
    """
    height, width = window.extent
    spans = _spans(window, source_height or image.shape[0], image.shape[1])
    (rows, row_factor, skip_rows), (columns, column_factor, skip_columns) = spans
    scaled = image[rows, columns]
    if (row_factor, column_factor) != (1.0, 1.0):
        scaled = np.asarray(
            cv2.resize(scaled, None, fx=column_factor, fy=row_factor, interpolation=cv2.INTER_LINEAR), np.uint8
        )
    content = scaled[skip_rows : skip_rows + height, skip_columns : skip_columns + width]
    crop = np.empty((*window.size, *image.shape[2:]), np.uint8) if into is None else into
    if window.flip:
        cv2.flip(content, 1, dst=crop[:height, :width])
    else:
        crop[:height, :width] = content
    return _pad(crop, window, fill)


def window_label(label: Pixels, window: CropWindow, *, fill: float, into: Pixels | None = None) -> Pixels:
    """Take, for every pixel of the window, the label [H, W] of the nearest source pixel; pad with `fill`."""
    height, width = window.extent
    rows = _nearest(label.shape[0], window.scaled[0], window.top, height)
    columns = _nearest(label.shape[1], window.scaled[1], _source_left(window), width)
    part = label[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    across = (columns - columns[0])[:: -1 if window.flip else 1]
    # Two row selections with a transpose between them are ten times faster than one selection by columns.
    crop = np.empty(window.size, np.uint8) if into is None else into
    crop[:height, :width] = cv2.transpose(cv2.transpose(part)[across])[rows - rows[0]]
    return _pad(crop, window, fill)


def _spans(window: CropWindow, source_height: int, source_width: int) -> tuple[Span, Span]:
    """Find the source's rows and columns behind a window."""
    (height, width), left = window.extent, _source_left(window)
    spans = (
        _source_span(source_height, window.scaled[0], window.top, height),
        _source_span(source_width, window.scaled[1], left, width),
    )
    if all(round((pixels.stop - pixels.start) * factor) == pixels.stop - pixels.start for pixels, factor, _ in spans):
        # OpenCV would copy a part that does not change its size by scaling; the whole image does, or has factor 1.
        return _whole(source_height, window.scaled[0], window.top), _whole(source_width, window.scaled[1], left)
    return spans


def _source_left(window: CropWindow) -> int:
    """Return the window's first column in the scaled image before the flip."""
    return window.scaled[1] - window.extent[1] - window.left if window.flip else window.left


def _source_span(source: int, scaled: int, start: int, length: int) -> Span:
    """Find the source pixels behind scaled pixels [start, start + length) of one axis.

    Scaling a part alone gives the pixels of the scaled whole only if the part begins where a scaled and a source pixel
    begin together, so it starts at the last such place before the window (the edge of the image is always one).

    Returns:
        The source pixels, the factor to scale them by, and how many scaled pixels to drop at their start.
    """
    ratio = source / scaled
    latest = max(0, start - math.ceil(0.5 / ratio))  # the first scaled pixels of a part miss their left neighbour
    positions = np.arange(latest + 1) * ratio
    first = int(np.flatnonzero(np.abs(positions - np.rint(positions)) <= _PHASE)[-1])
    begin = round(first * ratio)
    end = min(source, math.ceil(begin + (start - first + length) * ratio) + 2)
    return slice(begin, end), scaled / source, start - first


def _whole(source: int, scaled: int, start: int) -> Span:
    return slice(0, source), scaled / source, start


def _nearest(source: int, scaled: int, start: int, length: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    centres = np.arange(2 * start + 1, 2 * (start + length) + 1, 2, dtype=np.int64)
    return centres * source // (2 * scaled)


def _pad(crop: Pixels, window: CropWindow, fill: float | tuple[float, ...]) -> Pixels:
    height, width = window.extent
    crop[height:] = fill
    crop[:height, width:] = fill
    return crop
