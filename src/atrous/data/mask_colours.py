"""Masks of colours, and which of the masks of one channel are meant as colours.

A mask of one channel holds label indices unless what it shows says otherwise: a tool that saves an RGB mask as a
palette PNG numbers the colours as they come, and binary masks hold 0 and 255.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.data.class_list import ClassList
from atrous.data.files import Pixels
from atrous.data.png import read_palette
from atrous.errors import DataError

_GREYS = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)


class ColourTable:
    """From colours to labels: a byte for each of the 2^24 colours, which is faster than a search.

    Args:
        classes: a class list with colours.
    """

    def __init__(self, classes: ClassList) -> None:
        self._spec = spec = classes.spec
        self._unknown = next(value for value in range(spec.num_classes, 256) if value != spec.ignore_label)
        self._labels = np.full(1 << 24, self._unknown, np.uint8)
        for (red, green, blue), label in classes.label_of.items():
            self._labels[red | green << 8 | blue << 16] = label

    def labels(self, mask: Pixels, *, path: str) -> Pixels:
        """Turn an RGB mask [H, W, 3] into labels [H, W].

        Raises:
            DataError: a pixel has a colour that the class list does not name.
        """
        labels: Pixels = self._labels[_codes(mask)]
        wrong = labels == self._unknown
        if wrong.any():
            row, column = (int(place[0]) for place in np.nonzero(wrong))
            raise DataError(
                f"mask {path!r} holds the colour {mask[row, column].tolist()} in row {row}, column {column} "
                f"({np.count_nonzero(wrong)} pixels have no class's colour); add it to the class list of "
                f"{self._spec.name!r} (as ignore_colour, if it means nothing) or correct the mask"
            )
        return labels

    def by_colour(self, mask: Pixels, *, path: str) -> Pixels | None:
        """Turn a mask [H, W] of palette or gray values into labels where what it shows is meant, and not the values.

        That needs every value that occurs to show a colour of the class list, and one to show another label's than
        its own. Where all values are indices as well, a palette is still believed if one of them is no class, or if
        the palette is the class list's: it has the colours of all classes, or they are most of its own. Of gray, the
        palette that nobody chose, both are asked.

        Returns:
            The labels; None where the values are the labels.

        Raises:
            DataError: it cannot be told; the message names the values and both readings.
        """
        palette = read_palette(path)
        shown = _GREYS if palette is None else palette
        values, meant = np.arange(256), np.full(256, self._unknown, np.uint8)
        meant[: len(shown)] = self._labels[_codes(shown[None])[0]]
        differs = (meant != self._unknown) & (meant != values)
        if not differs.any():
            return None  # the ordinary case: nothing has to be counted
        occurs = cv2.calcHist([mask], [0], None, [256], [0, 256])[:, 0] > 0
        if not (occurs & differs).any():
            return None
        outside = values >= self._spec.num_classes
        is_index = not (occurs & outside & (values != self._spec.ignore_label)).any()
        has_all, has_most = self._share(shown)
        unknown = occurs & (meant == self._unknown)
        if unknown.any():
            told, colours = is_index and not has_most, False
        else:
            signs = int((occurs & differs & outside).any()) + int(has_all or has_most)
            told = not is_index or palette is not None or signs != 1
            colours = not is_index or signs > 0
        if not told:
            doubtful = [np.flatnonzero(occurs & of)[:1] for of in (differs, unknown)]
            raise self._undecided(path, shown, meant, np.concatenate(doubtful).tolist())
        return cv2.LUT(mask, meant) if colours else None  # type: ignore[return-value]

    def _share(self, palette: Pixels) -> tuple[bool, bool]:
        """Whether a palette has the colours of all classes, and whether classes' are most of its colours."""
        found = self._labels[np.unique(_codes(palette[None]))]
        known = found[found != self._unknown]
        return set(range(self._spec.num_classes)) <= set(known.tolist()), 2 * len(known) > len(found)

    def _undecided(self, path: str, shown: Pixels, meant: Pixels, values: list[int]) -> DataError:
        readings = [
            f"value {value} shows {shown[value].tolist() if value < len(shown) else 'nothing'}, the colour of "
            f"{self._name(int(meant[value]))}, and is as an index {self._name(value)}"
            for value in values
        ]
        return DataError(
            f"mask {path!r} may hold colours or indices of {self._spec.name!r}: {'; '.join(readings)}. Save colours as "
            "an RGB PNG; for indices, take the colours out of the class list or save them with another palette"
        )

    def _name(self, label: int) -> str:
        if label == self._spec.ignore_label:
            return "ignored"
        return f"class {self._spec.classes[label]!r}" if label < self._spec.num_classes else "no class"


def _codes(colours: Pixels) -> NDArray[np.integer[Any]]:
    """A number for each colour of [H, W, 3]."""
    return np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2RGBA)).view("<u4")[:, :, 0] & 0xFFFFFF
