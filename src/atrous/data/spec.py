"""What a data set's labels mean: class names, colours and the ignore label. Imports neither torch nor numpy."""

from dataclasses import dataclass

from atrous.errors import DataError

Colour = tuple[int, int, int]
MAX_CLASSES = 254  # labels are bytes: one is the ignore label, and one marks an illegal value


@dataclass(frozen=True)
class DatasetSpec:
    """The label space of a data set; the one owner of the ignore label and of the padding of labels.

    Attributes:
        name: short name, as it appears in messages and results.
        classes: class names; the position of a name is its label.
        palette: one RGB colour (0..255 each) per class.
        ignore_label: label of pixels that are neither trained on nor scored, and of padding.
        void_marks_outlines: whether ignored pixels are drawn around every object, as in PASCAL VOC.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    ignore_label: int = 255
    void_marks_outlines: bool = False

    def __post_init__(self) -> None:
        """Check the label space.

        Raises:
            DataError: classes are empty, repeated or too many, or the palette has another length.
        """
        if not 2 <= len(self.classes) <= MAX_CLASSES:
            raise DataError(f"data set {self.name!r}: {len(self.classes)} classes; expected 2 to {MAX_CLASSES}")
        if len(set(self.classes)) != len(self.classes):
            repeated = sorted({name for name in self.classes if self.classes.count(name) > 1})
            raise DataError(f"data set {self.name!r}: class names must differ, but {repeated} appear more than once")
        if len(self.palette) != len(self.classes):
            raise DataError(
                f"data set {self.name!r}: {len(self.palette)} colours for {len(self.classes)} classes; give one each"
            )
        if not len(self.classes) <= self.ignore_label <= 255:
            raise DataError(
                f"data set {self.name!r}: ignore_label={self.ignore_label} must lie between the number of classes "
                f"({len(self.classes)}) and 255"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes, without the ignore label."""
        return len(self.classes)


def voc_colour(label: int) -> Colour:
    """Return the colour of a label in PASCAL VOC's palette: bits 0, 1, 2 of each octal digit feed R, G, B from the top.

    Args:
        label: 0..255; 255 gives the cream of VOC's void pixels.

    Returns:
        RGB, 0..255 each (VOCdevkit, `VOClabelcolormap.m`).
    """
    red = green = blue = 0
    for digit in range(8):
        bits = label >> (3 * digit)
        red |= (bits & 1) << (7 - digit)
        green |= (bits >> 1 & 1) << (7 - digit)
        blue |= (bits >> 2 & 1) << (7 - digit)
    return red, green, blue


VOC_CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

VOC_SPEC = DatasetSpec(
    name="voc2012",
    classes=VOC_CLASSES,
    palette=tuple(voc_colour(i) for i in range(21)),
    void_marks_outlines=True,
)

CAMVID_COLOURS: dict[str, Colour] = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign_symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}

CAMVID_SPEC = DatasetSpec(
    name="camvid", classes=tuple(CAMVID_COLOURS), palette=tuple(CAMVID_COLOURS.values()), ignore_label=255
)
