"""Labels over images: colours of the palette with sharp outlines; the ignored is hatched, background stays clear."""

from collections.abc import Sequence

import cv2
import numpy as np

from atrous.data.dataset import SegmentationDataset
from atrous.data.files import Pixels
from atrous.data.inspection.reading import Counts
from atrous.data.spec import DatasetSpec

_IGNORED = (240, 240, 235)  # VOC's cream, a little lighter
_OPACITY = 0.6
_BAND = 64  # rows
_HATCH = 12  # pixels between the lines


def paint(label: Pixels, spec: DatasetSpec) -> Pixels:
    """Return the label [H, W] in the palette's colours, RGB [H, W, 3]; ignored pixels are nearly white."""
    table = np.full((256, 3), _IGNORED, np.uint8)
    table[: spec.num_classes] = spec.palette
    return table[label]


def overlay(image: Pixels, label: Pixels, spec: DatasetSpec) -> Pixels:
    """Return the image [H, W, 3] under its label [H, W].

    A class named "background" is left clear, so that the objects stand out.
    """
    colours = paint(label, spec)
    opacity = np.full(256, _OPACITY, np.float32)
    if "background" in spec.classes:
        opacity[spec.classes.index("background")] = 0
    alpha = opacity[label]
    ignored = label >= spec.num_classes
    rows, columns = np.indices(label.shape, dtype=np.int32)
    alpha[ignored & ((rows + columns) % _HATCH >= _HATCH // 3)] = 0.25
    alpha[_edges(label) & (alpha > 0) & ~ignored] = 1
    result: Pixels = np.empty_like(image)
    for top in range(0, len(image), _BAND):  # floats of a whole photo would be gigabytes
        band = slice(top, top + _BAND)
        mixed = image[band] + (colours[band].astype(np.float32) - image[band]) * alpha[band, :, None]
        result[band] = np.rint(mixed)
    return result


def fit(image: Pixels, *, width: int, height: int) -> Pixels:
    """Scale an image [H, W, 3] down or up to fit into a box, keeping its proportions."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def choose_samples(counts: Counts, number: int) -> list[int]:
    """Choose images that together show as many classes as possible; the rest is spread over the list.

    Args:
        counts: pixels per image and class, int64 [N, C].
        number: how many images, at most N are chosen.

    Returns:
        Positions in the list, increasing.
    """
    present = counts > 0
    chosen: list[int] = []
    while len(chosen) < min(number, len(counts)):
        missing = ~present[chosen].any(0)
        gains = (present & missing).sum(1)
        if not gains.any():
            break
        chosen.append(int(gains.argmax()))
    spread = (int(place) for place in np.linspace(0, len(counts) - 1, 4 * number))
    for place in [*spread, *range(len(counts))]:
        if len(chosen) >= min(number, len(counts)):
            break
        if place not in chosen:
            chosen.append(place)
    return sorted(chosen)


def read_samples(dataset: SegmentationDataset, indices: Sequence[int]) -> list[tuple[str, Pixels, Pixels]]:
    """Read (id, image, label) of some images."""
    return [(dataset.sample_id(index), *dataset.read(index)) for index in indices]


def _edges(label: Pixels) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    """Mark both sides of every border between two labels."""
    kernel = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.dilate(label, kernel) != cv2.erode(label, kernel))
