"""What a prediction is: labels at the image's own size, and what can be made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from atrous.data.files import Pixels
from atrous.data.inspection.overlay import overlay
from atrous.data.spec import Colour, DatasetSpec
from atrous.errors import ConfigError
from atrous.evaluation.bands import Passes


@dataclass(frozen=True)
class Prediction:
    """What was predicted of one image.

    Attributes:
        image: uint8 RGB [H, W, 3].
        labels: uint8 [H, W], the most likely class of every pixel.
        spec: class names and palette.
        passes: what probabilities are made of, at the classifier's size; None where the image went in tiles.
    """

    image: Pixels
    labels: Pixels
    spec: DatasetSpec
    passes: Passes | None = field(default=None, repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a name's position is its label."""
        return self.spec.classes

    @property
    def palette(self) -> tuple[Colour, ...]:
        """An RGB colour for each class."""
        return self.spec.palette

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Probabilities [H, W, classes], 4 * classes bytes per pixel; made anew each time.

        Raises:
            ConfigError: the image went in tiles.
        """
        return np.concatenate(list(self.probability_bands()))

    def probability_bands(self) -> Iterator[NDArray[np.float32]]:
        """Yield probabilities [rows, W, classes] from top to bottom, so that few are held at a time.

        Raises:
            ConfigError: the image went in tiles.
        """
        if self.passes is None:
            raise ConfigError("probabilities are not kept of images in tiles; use a protocol for whole images")
        height, width = self.labels.shape
        for rows in self.passes.bands(height):
            band_1CRW = self.passes.probabilities(rows)[..., :width]
            yield band_1CRW[0].permute(1, 2, 0).cpu().numpy()

    def overlay(self) -> Pixels:
        """Return the image under its labels in the palette's colours, uint8 RGB [H, W, 3]; background stays clear."""
        return overlay(self.image, self.labels, self.spec)

    def shares(self) -> dict[str, float]:
        """Return the share of the pixels of every class that occurs, the largest first."""
        counts = np.bincount(self.labels.reshape(-1), minlength=len(self.classes))
        order = sorted(np.flatnonzero(counts), key=lambda label: -counts[label])
        return {self.classes[label]: float(counts[label] / self.labels.size) for label in order}
