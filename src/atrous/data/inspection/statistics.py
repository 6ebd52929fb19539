"""How often each class appears and with which others: what one decides bootstrapping on (DeepLabv3, section 4.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.data.inspection.reading import Counts, Reading


@dataclass(frozen=True)
class SplitStatistics:
    """The labels of a split.

    Attributes:
        listed: images in the list.
        readable: positions in the list of the N images that can be used.
        counts: their pixels per class, the ignored ones last, int64 [N, C + 1].
    """

    listed: int
    readable: tuple[int, ...]
    counts: Counts

    @property
    def pixels(self) -> int:
        """Pixels of all readable images."""
        return int(self.counts.sum())

    @property
    def ignored_share(self) -> float:
        """Share of pixels that are neither trained on nor scored, 0 to 1."""
        return float(self.counts[:, -1].sum() / max(1, self.pixels))

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which image shows which class, bool [N, C]."""
        return self.counts[:, :-1] > 0

    @property
    def images_of(self) -> Counts:
        """Images that show each class, int64 [C]."""
        return np.asarray(self.present.sum(0), np.int64)

    @property
    def pixel_share_of(self) -> NDArray[np.float64]:
        """Share of each class among the labelled pixels, float64 [C]."""
        return _shares(self.counts[:, :-1].sum(0))

    @property
    def typical_area_of(self) -> NDArray[np.float64]:
        """Median share of a class in the labelled pixels of the images that show it, float64 [C]; 0 if none does."""
        shares = self.counts[:, :-1] / np.maximum(1, self.counts[:, :-1].sum(1, keepdims=True))
        present = self.present
        return np.array([np.median(shares[has, c]) if has.any() else 0.0 for c, has in enumerate(present.T)])

    @property
    def together(self) -> Counts:
        """Images that show both classes, int64 [C, C]; the diagonal is `images_of`."""
        present = self.present.astype(np.int64)
        return np.asarray(present.T @ present, np.int64)

    def repeated_images(self, labels: Sequence[int], *, factor: int) -> int:
        """Number of images in an epoch when those that show any of the classes are seen `factor` times.

        Args:
            labels: the hard classes.
            factor: how often an image with one of them is seen, at least 1.
        """
        hard = int(self.present[:, list(labels)].any(1).sum())
        return len(self.counts) + (factor - 1) * hard


def summarise(readings: Sequence[Reading], places: Sequence[int], *, num_classes: int) -> SplitStatistics:
    """Collect a split's readings; pairs that cannot be used count as listed only."""
    rows = {position: counts for position, place in enumerate(places) if (counts := readings[place].counts) is not None}
    counts = np.stack([*rows.values()]) if rows else np.zeros((0, num_classes + 1), np.int64)
    return SplitStatistics(len(places), tuple(rows), counts)


def as_plain(statistics: SplitStatistics, classes: Sequence[str]) -> dict[str, Any]:
    """Return the statistics as plain values for statistics.json."""
    together, areas = statistics.together, statistics.typical_area_of
    return {
        "images": statistics.listed,
        "readable": len(statistics.counts),
        "pixels": statistics.pixels,
        "ignored_share": round(statistics.ignored_share, 6),
        "classes": {
            name: {
                "images": int(statistics.images_of[label]),
                "pixels": int(statistics.counts[:, label].sum()),
                "pixel_share": round(float(statistics.pixel_share_of[label]), 6),
                "typical_area": round(float(areas[label]), 6),
                "images_with": {
                    other: int(together[label, place])
                    for place, other in enumerate(classes)
                    if place != label and together[label, place]
                },
            }
            for label, name in enumerate(classes)
        },
    }


def _shares(pixels: Counts) -> NDArray[np.float64]:
    return np.asarray(pixels / max(1, int(pixels.sum())), np.float64)
