"""The label table of Cityscapes: what the 8-bit `labelIds` files hold, and the 19 classes that are trained and scored.

Names, numbers and colours are those of cityscapesScripts (`helpers/labels.py`), and a test compares them.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atrous.data.spec import Colour, DatasetSpec
from atrous.errors import DataError

IGNORED = 255
LICENCE_PLATE = 255  # its id is -1, which a byte holds as 255


class CityscapesLabel(NamedTuple):
    """One row of the table.

    Attributes:
        name: of the class.
        id: value in `labelIds` files, and what the test server wants; -1 is stored as 255.
        train_id: 0..18 for the classes that are scored; 255 (or -1) is ignored.
        colour: RGB, 0..255 each.
    """

    name: str
    id: int
    train_id: int
    colour: Colour


LABELS = (
    CityscapesLabel("unlabeled", 0, 255, (0, 0, 0)),
    CityscapesLabel("ego vehicle", 1, 255, (0, 0, 0)),
    CityscapesLabel("rectification border", 2, 255, (0, 0, 0)),
    CityscapesLabel("out of roi", 3, 255, (0, 0, 0)),
    CityscapesLabel("static", 4, 255, (0, 0, 0)),
    CityscapesLabel("dynamic", 5, 255, (111, 74, 0)),
    CityscapesLabel("ground", 6, 255, (81, 0, 81)),
    CityscapesLabel("road", 7, 0, (128, 64, 128)),
    CityscapesLabel("sidewalk", 8, 1, (244, 35, 232)),
    CityscapesLabel("parking", 9, 255, (250, 170, 160)),
    CityscapesLabel("rail track", 10, 255, (230, 150, 140)),
    CityscapesLabel("building", 11, 2, (70, 70, 70)),
    CityscapesLabel("wall", 12, 3, (102, 102, 156)),
    CityscapesLabel("fence", 13, 4, (190, 153, 153)),
    CityscapesLabel("guard rail", 14, 255, (180, 165, 180)),
    CityscapesLabel("bridge", 15, 255, (150, 100, 100)),
    CityscapesLabel("tunnel", 16, 255, (150, 120, 90)),
    CityscapesLabel("pole", 17, 5, (153, 153, 153)),
    CityscapesLabel("polegroup", 18, 255, (153, 153, 153)),
    CityscapesLabel("traffic light", 19, 6, (250, 170, 30)),
    CityscapesLabel("traffic sign", 20, 7, (220, 220, 0)),
    CityscapesLabel("vegetation", 21, 8, (107, 142, 35)),
    CityscapesLabel("terrain", 22, 9, (152, 251, 152)),
    CityscapesLabel("sky", 23, 10, (70, 130, 180)),
    CityscapesLabel("person", 24, 11, (220, 20, 60)),
    CityscapesLabel("rider", 25, 12, (255, 0, 0)),
    CityscapesLabel("car", 26, 13, (0, 0, 142)),
    CityscapesLabel("truck", 27, 14, (0, 0, 70)),
    CityscapesLabel("bus", 28, 15, (0, 60, 100)),
    CityscapesLabel("caravan", 29, 255, (0, 0, 90)),
    CityscapesLabel("trailer", 30, 255, (0, 0, 110)),
    CityscapesLabel("train", 31, 16, (0, 80, 100)),
    CityscapesLabel("motorcycle", 32, 17, (0, 0, 230)),
    CityscapesLabel("bicycle", 33, 18, (119, 11, 32)),
    CityscapesLabel("license plate", -1, -1, (0, 0, 142)),
)

_SCORED = tuple(label for label in LABELS if 0 <= label.train_id < IGNORED)  # in the order of their train ids

CITYSCAPES_SPEC = DatasetSpec(
    name="cityscapes",
    classes=tuple(label.name for label in _SCORED),
    palette=tuple(label.colour for label in _SCORED),
    ignore_label=IGNORED,
)


def train_id_table() -> NDArray[np.uint8]:
    """Return the label of each of the 256 values of a `labelIds` file: 0..18, or 255 (ignored)."""
    table = np.full(256, IGNORED, np.uint8)
    for label in _SCORED:
        table[label.id] = label.train_id
    return table


def to_label_ids(labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Turn labels (train ids) back into label ids, as the test server wants them.

    Args:
        labels: integers of any shape: 0..18, or 255, which becomes 0 (unlabeled).

    Returns:
        uint8, same shape.

    Raises:
        DataError: a label is neither a class nor ignored.
    """
    known = np.isin(labels, [*range(len(_SCORED)), IGNORED])
    if not known.all():
        values = ", ".join(map(str, np.unique(np.asarray(labels)[~known]).tolist()[:8]))
        raise DataError(
            f"label {values} has no label id in Cityscapes; allowed are 0..{len(_SCORED) - 1} and {IGNORED} (ignored)"
        )
    table = np.zeros(256, np.uint8)
    table[: len(_SCORED)] = [label.id for label in _SCORED]
    return table[np.asarray(labels, np.uint8)]
